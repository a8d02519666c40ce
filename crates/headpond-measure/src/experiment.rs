//! The guarded load experiment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headpond_sizing::climb::{Climb, Look, Plan, ladder};
use headpond_sizing::curve::knee;
use headpond_sizing::forecast::{Point, speed};
use headpond_sizing::measured::{Facts, Measured, Open};
use headpond_sizing::scenario::Stalls;

use crate::load::{Load, Looked};
use crate::machine::{self, Cpu, Shares};
use crate::script::Script;
use crate::target::{Server, Target};

/// Logins that are timed one after the other, for at most so long.
const LOGINS: (u32, Duration) = (50, Duration::from_secs(2));

/// A server takes this long to clear up after a connection.
const REAPED: Duration = Duration::from_millis(100);

/// The share of a look that comes before it, uncounted.
const WARM_UP: f64 = 0.2;

/// The most connections unless levels are given.
const USUAL_MOST: u32 = 64;

/// Requests at random are tried at these shares of the rate at the knee: what a database bears of them is mostly less.
const RANDOM: [f64; 2] = [0.3, 0.6];

/// One of these lasts as long as so many looks, the one after it included.
const RANDOM_LOOKS: u32 = 5;

/// A machine whose speeds before and after a load differ by no more than this share was equally fast all along. Looks of a
/// second or two cannot tell less.
pub const SAME_PACE: f64 = 0.1;

/// One that others disturbed, or before and after which the machine was not equally fast, is tried so often at most.
const TRIES: usize = 3;

/// Tells their draws from those of the levels.
const RANDOM_SEED: u64 = 0x5eed;

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections, in rising order; `None`: up to 64.
    pub levels: Option<Vec<u32>>,
    /// How often each is measured.
    pub rounds: u32,
    /// For how long.
    pub look: Duration,
    /// The share of the free connections that may be taken.
    pub share: f64,
    /// It goes no further where 1 % of the transactions take longer, in seconds.
    pub longest: f64,
    /// Requests at random are tried, too: they find a database slower than connections that never rest.
    pub random: bool,
    /// Feeds orders and drawn numbers.
    pub seed: u64,
}

/// How far it is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Looks that are over.
    pub done: usize,
    /// Looks that are to come, at most.
    pub left: usize,
    /// How long these take, at most.
    pub time_left: Duration,
    /// Connections that are in use now.
    pub level: u32,
    /// The last look: its connections, and transactions per second.
    pub last: Option<(u32, f64)>,
}

/// What is asked of one server during an experiment.
struct Experiment<'a, T: Target> {
    target: &'a T,
    options: &'a Options,
    server: Server,
    connections: Vec<T::Connection>,
    /// The server's own processes, and those of our connections.
    processes: Vec<u32>,
    backends: Vec<u32>,
    climb: Climb,
    load_cpu: Vec<f64>,
    /// Count, sum and time of all looks that could tell pauses.
    pauses: (u32, f64, f64),
}

/// Measures a server until all is seen or `stop` is ready; what was seen until then is told either way.
///
/// # Errors
/// The server cannot be reached, or not even one connection could be measured.
pub async fn experiment<T: Target>(
    target: &T,
    script: Option<Script>,
    options: &Options,
    mut show: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Measured, String> {
    let mut first = target.login().await?;
    let server = target.server(&mut first).await?;
    let script = match script {
        Some(script) => script,
        None => target.usual(&mut first).await,
    };
    drop(first);
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    let all = async {
        let (login, login_work) = time_logins(target, &server).await?;
        // The first connection is given back, and one stays free for it.
        let most = ((f64::from(server.free) + 1.0) * options.share) as u32;
        let wanted = options.levels.clone().unwrap_or_else(|| ladder(USUAL_MOST));
        let levels: Vec<u32> = wanted.iter().copied().filter(|level| *level <= most.max(1)).collect();
        let left_out = wanted.len() - levels.len();
        let plan =
            Plan { levels, rounds: options.rounds.max(1), longest: options.longest, seed: options.seed };
        let mut experiment = Experiment {
            target,
            options,
            processes: server.processes.clone(),
            server,
            connections: Vec::new(),
            backends: Vec::new(),
            climb: Climb::new(plan),
            load_cpu: Vec::new(),
            pauses: (0, 0.0, 0.0),
        };
        let script = Arc::new(script);
        experiment.run(&script, &stopped, &mut show).await;
        let mut measured = experiment.told(stopped.load(Ordering::Relaxed))?;
        (measured.facts.login, measured.facts.login_work) = (login, login_work);
        if options.random && !stopped.load(Ordering::Relaxed) {
            experiment.try_random(&mut measured, &script, &stopped, &mut show).await;
        }
        if left_out > 0 {
            measured.facts.audit.push(format!(
                "levels above {most} were not measured: that is the share that may be taken of the free connections"
            ));
        }
        Ok(measured)
    };
    let mut all = std::pin::pin!(all);
    tokio::select! {
        measured = &mut all => return measured,
        () = stop => told.store(true, Ordering::Relaxed),
    }
    // What is under way ends by itself.
    all.await
}

/// How long a login takes, and its work on the server, both in seconds.
async fn time_logins<T: Target>(target: &T, server: &Server) -> Result<(Option<f64>, Option<f64>), String> {
    let before = Cpu::now(&server.processes);
    let (begun, mut count) = (Instant::now(), 0_u32);
    while count < LOGINS.0 && begun.elapsed() < LOGINS.1 {
        drop(target.login().await?);
        count += 1;
    }
    let login = begun.elapsed().as_secs_f64() / f64::from(count);
    tokio::time::sleep(REAPED).await;
    let now = Cpu::now(&server.processes).zip(before).filter(|_| !server.processes.is_empty());
    let work = now.map(|(now, before)| now.server_since(&before) / f64::from(count));
    // Less than the clock of processes can tell is not known.
    Ok((Some(login), work.filter(|work| *work > 0.0 && *work < login * machine::cores())))
}

impl<T: Target> Experiment<'_, T> {
    async fn run(&mut self, script: &Arc<Script>, stop: &Arc<AtomicBool>, show: &mut impl FnMut(&Progress)) {
        let warm_up = self.options.look.mul_f64(WARM_UP);
        let mut last = None;
        while let Some(level) = self.climb.level().filter(|_| !stop.load(Ordering::Relaxed)) {
            let done = self.climb.looks().len();
            let left = self.climb.left()
                + if self.options.random { RANDOM_LOOKS as usize * RANDOM.len() } else { 0 };
            let time_left = (self.options.look + warm_up) * u32::try_from(left).unwrap_or(u32::MAX);
            show(&Progress { done, left, time_left, level, last });
            let load = Load {
                script: Arc::clone(script),
                warm_up,
                lasts: self.options.look,
                seed: self.options.seed ^ (done as u64) << 8,
                stop: Arc::clone(stop),
                rate: None,
            };
            let look = match self.open(level).await {
                Ok(()) => self.look(level, &load).await,
                Err(error) => {
                    Look { in_use: level, seconds: 1.0, errors: 1, error: Some(error), ..Look::default() }
                }
            };
            if stop.load(Ordering::Relaxed) {
                break;
            }
            last = Some((level, look.completions as f64 / look.seconds));
            self.climb.saw(look);
        }
    }

    /// How fast random requests find what was measured. The machine need not be as fast now as it was: a look at the knee
    /// before each of these loads and after it tells.
    async fn try_random(
        &mut self,
        measured: &mut Measured,
        script: &Arc<Script>,
        stop: &Arc<AtomicBool>,
        show: &mut impl FnMut(&Progress),
    ) {
        let Some(found) = knee(&measured.levels, measured.spread, self.options.seed) else { return };
        let best = found.connections.min(self.connections.len() as u32);
        let level = (2 * best).min(self.connections.len() as u32);
        let closed = Load {
            script: Arc::clone(script),
            warm_up: self.options.look.mul_f64(WARM_UP),
            lasts: self.options.look,
            seed: self.options.seed ^ RANDOM_SEED,
            stop: Arc::clone(stop),
            rate: None,
        };
        let mut before = self.look(best, &closed).await;
        for (number, share) in RANDOM.into_iter().enumerate() {
            let left = RANDOM_LOOKS as usize * (RANDOM.len() - number);
            let time_left = self.options.look * u32::try_from(left).unwrap_or(u32::MAX);
            show(&Progress { done: self.climb.looks().len(), left, time_left, level, last: None });
            for attempt in 0..TRIES {
                let load = Load {
                    lasts: self.options.look * (RANDOM_LOOKS - 1),
                    seed: closed.seed ^ ((1 + number + 8 * attempt) as u64) << 8,
                    rate: Some(share * found.curve.rate(best)),
                    ..closed.clone()
                };
                let look = self.look(level, &load).await;
                let after = self.look(best, &closed).await;
                let looks = [&before, &look, &after];
                let useless = |look: &&Look| look.completions == 0 || look.errors > 0;
                if stop.load(Ordering::Relaxed) || looks.iter().any(useless) {
                    return;
                }
                let paces = (before.rate() / found.curve.rate(best), after.rate() / found.curve.rate(best));
                before = after;
                let same = (paces.1 / paces.0 - 1.0).abs() <= SAME_PACE;
                let disturbed = look.is_disturbed() || !same;
                if disturbed && attempt + 1 < TRIES {
                    continue;
                }
                let point = Point { connections: level, rate: look.rate(), seconds: look.seconds };
                let speed = speed(measured, point, look.busy / look.seconds, self.options.seed);
                let pace = (paces.0 * paces.1).sqrt();
                // More than it bears is served no faster than what it bears.
                if measured.facts.open.last().is_none_or(|lower| lower.rate < look.rate()) {
                    let speed = (speed / pace).clamp(0.2, 5.0);
                    measured.facts.open.push(Open { rate: look.rate(), speed });
                }
                break;
            }
        }
    }

    /// Opens what is missing for a level, one after the other.
    async fn open(&mut self, level: u32) -> Result<(), String> {
        while (self.connections.len() as u32) < level {
            let mut connection = self.target.login().await.map_err(|error| format!("login: {error}"))?;
            if let Some(pid) = T::backend(&mut connection).await.filter(|_| !self.server.processes.is_empty())
            {
                self.backends.push(pid);
                self.processes.push(pid);
            }
            self.connections.push(connection);
        }
        Ok(())
    }

    async fn look(&mut self, level: u32, load: &Load) -> Look {
        let idle = self.connections.split_off(level as usize);
        let used = std::mem::replace(&mut self.connections, idle);
        let before = Cpu::now(&self.processes);
        let Looked { mut look, connections, pauses } = load.look::<T>(used).await;
        // Of a server elsewhere the share of this machine says nothing.
        let shares = Cpu::now(&self.processes).zip(before).map(|(now, before)| now.since(&before));
        if let Some(Shares { ours, foreign }) = shares.filter(|_| !self.server.processes.is_empty()) {
            look.foreign_cpu = Some(foreign);
            self.load_cpu.push(ours);
        }
        if let Some((count, sum)) = pauses {
            self.pauses.0 += count;
            self.pauses.1 += sum;
            self.pauses.2 += look.seconds;
        }
        self.connections.splice(0..0, connections);
        look
    }

    /// What was measured.
    fn told(&self, interrupted: bool) -> Result<Measured, String> {
        let levels = self.climb.levels();
        let first = self.climb.looks().first();
        if levels.is_empty() {
            let guard = self.climb.stopped().map(str::to_owned);
            return Err(guard.unwrap_or_else(|| "stopped before anything was measured".to_owned()));
        }
        let memory: Vec<f64> = self.backends.iter().filter_map(|pid| machine::private_memory(*pid)).collect();
        let (count, sum, seconds) = self.pauses;
        let stalls =
            Stalls { rate: f64::from(count) / seconds.max(1e-9), mean: sum / f64::from(count.max(1)) };
        let mut facts = Facts {
            about: Some(self.server.version.clone()),
            ended: interrupted.then(|| "it was stopped".to_owned()),
            hold_cv2: first.map(|look| look.hold_cv2),
            memory: mean(&memory),
            max_connections: Some(self.server.max_connections),
            load_cpu: mean(&self.load_cpu),
            stalls: (count > 0).then_some(stalls),
            ..Facts::default()
        };
        facts.audit.extend(self.climb.stopped().map(|why| format!("the experiment went no further: {why}")));
        Ok(Measured { spread: self.climb.spread(), facts, levels, windows: self.climb.windows() })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
