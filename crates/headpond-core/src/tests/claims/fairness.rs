//! What a noisy application does to the others: two runs of a small simulation, with it and without it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::{ms, plain, secs};
use crate::tests::steps::Dice;
use crate::{Acquired, Action, ConnId, Pool, PoolSettings, Request, Tick};

const POOL: u32 = 20;
const QUIET: u32 = 99;
const NOISY: u32 = QUIET;
/// Leases that a connection can serve in a second.
const LEASES: f64 = 100.0;

/// What happens next, the earliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asks(u32),
    Ends(ConnId),
}

/// The time until something happens that happens `rate` times a second at random.
fn until(dice: &mut Dice, rate: f64) -> Duration {
    let unit = (f64::from(dice.size(u32::MAX)) + 1.0) / f64::from(u32::MAX);
    Duration::from_secs_f64(-unit.ln() / rate)
}

struct Simulation {
    pool: Pool,
    out: Vec<Action>,
    events: BinaryHeap<Reverse<(Tick, Event)>>,
    /// One for each application, so that what it asks for does not depend on the others.
    dice: Vec<Dice>,
    holds: Dice,
    /// Of the quiet ones.
    waits: Vec<Duration>,
}

impl Simulation {
    /// Requests per second: of each quiet application, and of the noisy one.
    fn run(seed: u64, quiet: f64, noisy: f64) -> Self {
        let settings =
            PoolSettings { initial_size: POOL, acquire_timeout: ms(0), max_waiters: u32::MAX, ..plain(POOL) };
        let mut all = Self {
            pool: Pool::new(settings, seed),
            out: Vec::new(),
            events: BinaryHeap::new(),
            dice: (0..=QUIET).map(|application| Dice(seed + u64::from(application))).collect(),
            holds: Dice(seed),
            waits: Vec::new(),
        };
        all.pool.start(Tick(0), &mut all.out);
        all.follow(Tick(0));
        let rate = |application| if application == NOISY { noisy } else { quiet };
        for application in (0..=QUIET).filter(|application| rate(*application) > 0.0) {
            all.later(Tick(0), application, rate(application));
        }
        let end = Tick(0).plus(secs(30));
        while let Some(Reverse((now, event))) = all.events.pop().filter(|Reverse((at, _))| *at < end) {
            match event {
                Event::Asks(application) => {
                    all.asks(now, application);
                    all.later(now, application, rate(application));
                }
                Event::Ends(conn) => all.pool.release(now, conn, &mut all.out),
            }
            all.follow(now);
        }
        all
    }

    fn later(&mut self, now: Tick, application: u32, rate: f64) {
        let at = now.plus(until(&mut self.dice[application as usize], rate));
        self.events.push(Reverse((at, Event::Asks(application))));
    }

    fn asks(&mut self, now: Tick, application: u32) {
        let request = Request { application, ..Request::of(u64::from(application)) };
        if let Acquired::Granted(conn) = self.pool.acquire(now, request, &mut self.out) {
            self.served(now, application, conn, 0);
        }
    }

    fn follow(&mut self, now: Tick) {
        let mut done = 0;
        while let Some(action) = self.out.get(done).copied() {
            done += 1;
            match action {
                Action::Open(conn) => self.pool.opened(now, conn, &mut self.out),
                Action::Grant { holder, conn, waited } => {
                    self.served(now, u32::try_from(holder).expect("an application"), conn, waited);
                }
                other => panic!("{other:?}"),
            }
        }
        self.out.clear();
    }

    fn served(&mut self, now: Tick, application: u32, conn: ConnId, waited: u64) {
        if application != NOISY {
            self.waits.push(Duration::from_nanos(waited));
        }
        let end = now.plus(until(&mut self.holds, LEASES));
        self.events.push(Reverse((end, Event::Ends(conn))));
    }

    /// The wait that one in 100 quiet requests exceeds.
    fn p99(mut self) -> Duration {
        self.waits.sort_unstable();
        self.waits[self.waits.len() * 99 / 100]
    }
}

/// The p99 of the quiet applications' waits when they ask for such a part of all that the pool can do: by themselves,
/// and beside one that asks for as much as 50 of them.
fn p99s(seed: u64, load: f64) -> [Duration; 2] {
    let rate = load * LEASES * f64::from(POOL) / f64::from(QUIET);
    [0.0, 50.0].map(|times| Simulation::run(seed, rate, rate * times).p99())
}

#[test]
pub(crate) fn beside_a_noisy_application_the_others_wait_at_most_twice_as_long() {
    for seed in 1..=3 {
        let [quiet, beside] = p99s(seed, 0.9);
        assert!(beside <= quiet * 2, "{beside:?} instead of {quiet:?}");
    }
}

#[test]
fn where_hardly_anybody_waits_a_noisy_application_adds_less_than_a_lease() {
    // Twice nothing cannot be kept: all connections are busy now, and one must come free first.
    for seed in 1..=3 {
        let [quiet, beside] = p99s(seed, 0.5);
        assert!(quiet < ms(1) && beside < Duration::from_secs_f64(1.0 / LEASES), "{beside:?} for {quiet:?}");
    }
}
