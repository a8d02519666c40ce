//! A closed loop on some connections, or requests at random on them, and what it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headpond_sizing::climb::Look;
use rand::{RngExt as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::script::Script;
use crate::target::Target;

/// A pause in which nobody of several is served for so many times as long as usual is one of the whole server.
const PAUSE: f64 = 12.0;

/// Connections that do the same may do it in step: only what is longer than this many of their transactions is a pause.
const IN_STEP: f64 = 2.0;

/// With fewer connections a pause may be that of one transaction.
const SEVERAL: u32 = 4;

/// How a loop ends that was told to: it may finish its transaction within this time.
const GRACE: Duration = Duration::from_secs(2);

/// Feeds the moments of requests, apart from what they draw.
const MOMENTS: u64 = 0x5bd1_e995;

/// How long to look, what comes before that, and with what.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) script: Arc<Script>,
    pub(crate) warm_up: Duration,
    pub(crate) lasts: Duration,
    pub(crate) seed: u64,
    /// Told to end early.
    pub(crate) stop: Arc<AtomicBool>,
    /// Requests per second, at random, each on whichever connection is free; `None`: every connection is always in use.
    pub(crate) rate: Option<f64>,
}

/// Requests that have come and are not begun.
type Requests = Mutex<UnboundedReceiver<()>>;

/// What one connection did.
struct Loop<C> {
    /// `None`: lost.
    connection: Option<C>,
    /// Seconds since the look began: beginning and end of each transaction.
    leases: Vec<(f64, f64)>,
    errors: u64,
    error: Option<String>,
}

/// What came of a look.
pub(crate) struct Looked<C> {
    pub(crate) look: Look,
    /// Those that are left.
    pub(crate) connections: Vec<C>,
    /// Pauses of the whole server: how many, and how long altogether.
    pub(crate) pauses: Option<(u32, f64)>,
}

impl Load {
    /// Uses these connections.
    pub(crate) async fn look<T: Target>(&self, connections: Vec<T::Connection>) -> Looked<T::Connection> {
        let in_use = connections.len() as u32;
        let begins = Instant::now() + self.warm_up;
        let requests = self.rate.map(|rate| {
            let (send, requests) = unbounded_channel();
            let (load, ends) = (self.clone(), begins + self.lasts);
            // The runtime's own clock has steps of a millisecond.
            tokio::task::spawn_blocking(move || load.come(rate, ends, &send));
            Arc::new(Mutex::new(requests))
        });
        let mut tasks = JoinSet::new();
        for (number, connection) in (0..).zip(connections) {
            let chance = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ (number << 32));
            tasks.spawn(use_it::<T>(connection, self.clone(), requests.clone(), chance, begins));
        }
        let mut loops = Vec::new();
        let longest = self.warm_up + self.lasts + crate::target::LONGEST + GRACE;
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                loops.extend(ended.ok());
            }
        };
        let _ = tokio::time::timeout(longest, all).await;
        tasks.abort_all();
        let seconds = self.lasts.as_secs_f64();
        let look = summary(in_use, seconds, &loops);
        let pauses = (in_use >= SEVERAL).then(|| pauses(seconds, &loops));
        let connections = loops.into_iter().filter_map(|one| one.connection).collect();
        Looked { look, connections, pauses }
    }

    /// Requests come at random until the look is over.
    fn come(&self, rate: f64, ends: Instant, send: &UnboundedSender<()>) {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ MOMENTS);
        let mut due = Instant::now();
        while due < ends && !self.stop.load(Ordering::Relaxed) {
            due += Duration::from_secs_f64(-(1.0 - chance.random::<f64>()).ln() / rate);
            std::thread::sleep(due.min(ends).saturating_duration_since(Instant::now()));
            if send.send(()).is_err() {
                return;
            }
        }
    }
}

async fn use_it<T: Target>(
    mut connection: T::Connection,
    load: Load,
    requests: Option<Arc<Requests>>,
    mut chance: Xoshiro256PlusPlus,
    begins: Instant,
) -> Loop<T::Connection> {
    let since = |moment: Instant| match moment.checked_duration_since(begins) {
        Some(after) => after.as_secs_f64(),
        None => -(begins - moment).as_secs_f64(),
    };
    let (mut leases, mut errors, mut error) = (Vec::new(), 0, None);
    let ends = begins + load.lasts;
    let mut now = Instant::now();
    while now < ends && !load.stop.load(Ordering::Relaxed) {
        if let Some(requests) = &requests {
            if requests.lock().await.recv().await.is_none() {
                break;
            }
            now = Instant::now();
        }
        let done = T::run(&mut connection, load.script.draw(&mut chance), &mut chance).await;
        let began = std::mem::replace(&mut now, Instant::now());
        match done {
            Ok(Ok(())) => leases.push((since(began), since(now))),
            Ok(Err(said)) => (errors, error) = (errors + 1, Some(said)),
            Err(said) => {
                return Loop { connection: None, leases, errors: errors + 1, error: Some(said) };
            }
        }
    }
    Loop { connection: Some(connection), leases, errors, error }
}

fn summary<C>(in_use: u32, seconds: f64, loops: &[Loop<C>]) -> Look {
    let leases = || loops.iter().flat_map(|one| one.leases.iter());
    let ended = leases().filter(|(_, end)| (0.0..seconds).contains(end));
    let mut holds: Vec<f64> = ended.map(|(begin, end)| end - begin).collect();
    holds.sort_by(f64::total_cmp);
    let count = holds.len().max(1) as f64;
    let mean = holds.iter().sum::<f64>() / count;
    let variance = holds.iter().map(|hold| (hold - mean) * (hold - mean)).sum::<f64>() / count;
    let error = loops.iter().find_map(|one| one.error.clone());
    // A task that never came back has nothing to say for itself.
    let missing = u64::from(in_use).saturating_sub(loops.len() as u64);
    Look {
        in_use,
        seconds,
        completions: holds.len() as u64,
        errors: loops.iter().map(|one| one.errors).sum::<u64>() + missing,
        error: error.or_else(|| (missing > 0).then(|| "a statement did not end".to_owned())),
        busy: leases().map(|(begin, end)| (end.min(seconds) - begin.max(0.0)).max(0.0)).sum(),
        hold_p99: holds.get(holds.len() * 99 / 100).copied().unwrap_or(0.0),
        hold_cv2: if mean > 0.0 { variance / (mean * mean) } else { 0.0 },
        foreign_cpu: None,
    }
}

fn pauses<C>(seconds: f64, loops: &[Loop<C>]) -> (u32, f64) {
    let ends = loops.iter().flat_map(|one| one.leases.iter().map(|(_, end)| *end));
    let mut ends: Vec<f64> = ends.filter(|end| (0.0..seconds).contains(end)).collect();
    ends.sort_by(f64::total_cmp);
    let mut gaps: Vec<f64> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_by(f64::total_cmp);
    let usual = seconds / ends.len().max(1) as f64;
    let shortest = usual * PAUSE.max(IN_STEP * loops.len() as f64);
    let long = gaps.iter().rev().take_while(|gap| **gap > shortest);
    long.fold((0, 0.0), |(count, sum), gap| (count + 1, sum + gap))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looped(leases: Vec<(f64, f64)>) -> Loop<()> {
        Loop { connection: Some(()), leases, errors: 0, error: None }
    }

    #[test]
    fn what_lies_within_the_look_counts_and_what_sticks_out_counts_in_part() {
        let loops =
            [looped(vec![(-1.0, -0.5), (-0.5, 0.5), (0.5, 2.5), (2.5, 4.5)]), looped(vec![(1.0, 2.0)])];
        let look = summary(3, 4.0, &loops);
        assert_eq!((look.completions, look.errors), (3, 1));
        assert!((look.busy - (0.5 + 2.0 + 1.5 + 1.0)).abs() < 1e-9);
        assert!(look.error.unwrap().contains("did not end"));
    }

    #[test]
    fn a_pause_of_everybody_is_told_from_the_usual_gaps() {
        let ends = |number: u32| (0..100).map(move |n| f64::from(n) * 0.01 + f64::from(number) * 0.002);
        let held_up = |end: f64| if end > 0.5 { end + 0.4 } else { end };
        let loops: Vec<_> =
            (0..4).map(|n| looped(ends(n).map(|end| (0.0, held_up(end))).collect())).collect();
        let (count, long) = pauses(2.0, &loops);
        assert_eq!(count, 1);
        assert!((long - 0.4).abs() < 0.02);
        let in_step: Vec<_> = (0..24).map(|_| looped(ends(0).map(|end| (0.0, end)).collect())).collect();
        assert_eq!(pauses(2.0, &in_step), (0, 0.0));
        assert_eq!(pauses(2.0, &[looped(ends(0).map(|end| (0.0, end)).collect())]), (0, 0.0));
    }
}
