//! An open load through a pool: requests come at random, whatever the state of things.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headpond::{Connector, Pool, State};
use headpond_measure::machine::{Cpu, family};
use headpond_measure::{Script, Target};
use headpond_sizing::forecast::{Point, Spike, Trouble};
use headpond_sizing::passive::Counters;
use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::go_first;
use crate::workloads::{Bench, Workload};

/// More foreign work than this makes a run one of something else.
pub(crate) const CLEAN: f64 = 0.02;

/// How long the last requests may take.
const LAST: Duration = Duration::from_secs(20);

/// One attempt to get something done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Since the load began, in seconds: when the first attempt was due, when this one ended.
    pub(crate) born: f64,
    pub(crate) ended: f64,
    pub(crate) wait: f64,
    /// It was served in time.
    pub(crate) served: bool,
}

/// What a load saw.
pub(crate) struct Seen {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) foreign: f64,
    /// Later than planned, in seconds: 99 % of the requests were no later.
    pub(crate) lag_p99: f64,
}

impl Seen {
    /// Connections in use on average, the first twentieth left out as in a forecast.
    pub(crate) fn in_use(&self, point: Point) -> f64 {
        let from = 0.05 * point.seconds;
        let within = |one: &Attempt| one.ended.min(point.seconds) - (one.born + one.wait).max(from);
        self.attempts.iter().map(|one| within(one).max(0.0)).sum::<f64>() / (point.seconds - from)
    }
}

/// A load.
pub(crate) struct Open<T: Target, C: Connector<Connection = T::Connection>> {
    pool: Pool<C>,
    script: Arc<Script>,
    point: Point,
    trouble: Option<Trouble>,
    spike: Option<Spike>,
    parent: u32,
    seed: u64,
    target: PhantomData<T>,
}

/// A pool that is full from the start, and stays so.
async fn full_pool<C: Connector + Clone>(connector: &C, size: u32) -> Pool<C> {
    let builder = Pool::builder(connector.clone()).max_size(size).max_idle(size).initial_size(size);
    let builder = builder.min_size(size).acquire_timeout(Duration::ZERO).max_waiters(1_000_000_u32);
    let pool = builder.check(false).max_lifetime(Duration::ZERO).build();
    while pool.stats().count(State::Idle) < size {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pool
}

impl<T: Target, C: Connector<Connection = T::Connection>> Open<T, C> {
    /// A load on a pool of its own, which is full.
    pub(crate) async fn new(
        bench: &Bench<T, C>,
        workload: &Workload,
        point: Point,
        trouble: Option<Trouble>,
        seed: u64,
    ) -> Self
    where
        C: Clone,
    {
        let pool = full_pool(&bench.connector, point.connections).await;
        let script = Arc::new(workload.script.clone());
        let parent = bench.parent;
        Self { pool, script, point, trouble, spike: None, parent, seed, target: PhantomData }
    }

    /// With a spike.
    pub(crate) fn spiked(self, spike: Spike) -> Self {
        Self { spike: Some(spike), ..self }
    }

    /// Runs it to its end: what clients saw, and what a pool counts of it.
    pub(crate) async fn run(self) -> (Seen, [Counters; 2]) {
        let pool = self.pool.clone();
        let connections = self.point.connections;
        let seen = self.load().await;
        pool.close().await;
        let looks = counters(&seen.attempts, connections);
        (seen, looks)
    }

    async fn load(self) -> Seen {
        let before = Cpu::now(&family(self.parent));
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let begins = Instant::now() + Duration::from_millis(50);
        if let Some(trouble) = self.trouble {
            let parent = self.parent;
            std::thread::spawn(move || stand_still(parent, begins, trouble));
        }
        let (ended, all) = tokio::sync::mpsc::channel::<()>(1);
        let runtime = tokio::runtime::Handle::current();
        let shared = Arc::new((self.pool, self.script, self.trouble));
        let (point, seed, kept) = (self.point, self.seed, Arc::clone(&attempts));
        let spike = self.spike;
        // The runtime's own clock has steps of a millisecond.
        let dispatcher = std::thread::spawn(move || {
            go_first();
            let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
            let (mut due, mut lags) = (0.0, Vec::new());
            let mut number = seed << 32;
            loop {
                let higher = spike.filter(|spike| (spike.at..spike.at + spike.lasts).contains(&due));
                let rate = point.rate * higher.map_or(1.0, |spike| spike.factor);
                due += -(1.0 - chance.random::<f64>()).ln() / rate;
                if due > point.seconds {
                    return lags;
                }
                let at = begins + Duration::from_secs_f64(due);
                if let Some(left) = at.checked_duration_since(Instant::now()) {
                    std::thread::sleep(left);
                }
                lags.push(at.elapsed().as_secs_f64());
                number += 1;
                let (shared, kept, ended) = (Arc::clone(&shared), Arc::clone(&kept), ended.clone());
                runtime.spawn(async move {
                    let chance = Xoshiro256PlusPlus::seed_from_u64(number);
                    client::<T, C>(&shared.0, &shared.1, shared.2, (begins, at), &kept, chance).await;
                    drop(ended);
                });
            }
        });
        let mut lags = tokio::task::spawn_blocking(|| dispatcher.join().unwrap()).await.unwrap();
        let now = Cpu::now(&family(self.parent));
        let mut all = all;
        let _ = tokio::time::timeout(LAST, all.recv()).await;
        lags.sort_by(f64::total_cmp);
        let shares = now.zip(before).map(|(now, before)| now.since(&before));
        let attempts = attempts.lock().unwrap().clone();
        Seen {
            attempts,
            foreign: shares.map_or(1.0, |shares| shares.foreign),
            lag_p99: lags.get(lags.len() * 99 / 100).copied().unwrap_or(0.0),
        }
    }
}

/// What a pool would count that knows each lease to the moment. The library's is up to 5 ms behind with connections that
/// go from hand to hand within a thread.
fn counters(attempts: &[Attempt], connections: u32) -> [Counters; 2] {
    let begins = attempts.iter().map(|one| (one.born + one.wait, 1));
    let mut steps: Vec<(f64, i64)> = begins.chain(attempts.iter().map(|one| (one.ended, -1))).collect();
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut in_use_for = vec![0.0; connections as usize + 1];
    let (mut in_use, mut since) = (0_i64, 0.0);
    for (at, step) in steps {
        let level = usize::try_from(in_use).unwrap_or(0).min(connections as usize);
        in_use_for[level] += at - since;
        (in_use, since) = (in_use + step, at);
    }
    let number = attempts.len() as u64;
    let hold_time = attempts.iter().map(|one| one.ended - one.born - one.wait).sum();
    let counted = Counters { in_use_for, acquires: number, holds: number, hold_time, ..Counters::default() };
    [Counters::default(), Counters { max_size: connections, ..counted }]
}

/// One request, from its first attempt to its end.
async fn client<T: Target, C: Connector<Connection = T::Connection>>(
    pool: &Pool<C>,
    script: &Arc<Script>,
    trouble: Option<Trouble>,
    (begins, due): (Instant, Instant),
    kept: &Mutex<Vec<Attempt>>,
    mut chance: Xoshiro256PlusPlus,
) {
    let since = |moment: Instant| moment.duration_since(begins).as_secs_f64();
    let retries = trouble.map_or(0, |trouble| trouble.retries);
    let mut asked = due;
    for attempt in 0..=retries {
        let patience =
            trouble.map_or(Duration::from_secs(3600), |trouble| Duration::from_secs_f64(trouble.timeout));
        let until = asked + patience;
        // A pool that is told the deadline refuses what would miss it, and nothing outlasts its cause: here it is not.
        let lease = tokio::time::timeout_at(until.into(), pool.acquire()).await;
        let wait = asked.elapsed().as_secs_f64();
        let mut served = false;
        if let Ok(Ok(mut lease)) = lease {
            let (script, mut own) = (Arc::clone(script), Xoshiro256PlusPlus::seed_from_u64(chance.random()));
            // What a client gave up runs on.
            let runs = tokio::spawn(async move {
                let transaction = script.draw(&mut own).clone();
                T::run(&mut lease, &transaction, &mut own).await.is_ok_and(|done| done.is_ok())
            });
            served = matches!(tokio::time::timeout_at(until.into(), runs).await, Ok(Ok(true)));
        }
        let now = Instant::now();
        kept.lock().unwrap().push(Attempt { born: since(due), ended: since(now), wait, served });
        if served || attempt == retries {
            return;
        }
        let backoff = trouble.map_or(0.0, |trouble| trouble.backoff) * f64::from(1_u32 << attempt.min(20));
        tokio::time::sleep(Duration::from_secs_f64(backoff * chance.random_range(0.5..1.0))).await;
        asked = Instant::now();
    }
}

/// Stops every process of the server, and lets them go on.
fn stand_still(parent: u32, begins: Instant, trouble: Trouble) {
    use rustix::process::{Pid, Signal, kill_process};
    let tell = |signal| {
        for pid in family(parent).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // One that has ended meanwhile stands still anyway.
            let _ = kill_process(pid, signal);
        }
    };
    let until = |seconds: f64| {
        let at = begins + Duration::from_secs_f64(seconds);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
    };
    until(trouble.at);
    tell(Signal::STOP);
    until(trouble.at + trouble.stall);
    tell(Signal::CONT);
}
