//! The policy against a simple model of it, driven by random calls, and its promises one by one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{
    Acquired, Action, CloseReason, ConnId, FailureClass, Pool, PoolSettings, Refusal, State, Tick, WaiterId,
};

const MS: u64 = 1_000_000;

/// A pool, its clock, and what it asked for since it was last asked.
struct Bench {
    pool: Pool,
    now: Tick,
    out: Vec<Action>,
}

impl Bench {
    fn new(settings: PoolSettings) -> Self {
        Self { pool: Pool::new(settings, 7), now: Tick(MS), out: Vec::new() }
    }

    fn acquire(&mut self, holder: u64) -> Acquired {
        self.pool.acquire(self.now, holder, &mut self.out)
    }

    fn granted(&mut self, holder: u64) -> ConnId {
        match self.acquire(holder) {
            Acquired::Granted(conn) => conn,
            other => panic!("{holder} got {other:?}"),
        }
    }

    /// Opens what the pool asks for, until it asks for nothing more.
    fn open_all(&mut self) -> Vec<ConnId> {
        let mut opened = Vec::new();
        while let Some(place) = self.out.iter().position(|action| matches!(action, Action::Open(_))) {
            let Action::Open(conn) = self.out.remove(place) else { continue };
            self.pool.opened(self.now, conn, &mut self.out);
            opened.push(conn);
        }
        opened
    }

    fn release(&mut self, conn: ConnId) {
        self.pool.release(self.now, conn, &mut self.out);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now = Tick(self.now.0 + milliseconds * MS);
        self.pool.on_timer(self.now, &mut self.out);
    }

    fn taken(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }
}

fn fixed(size: u32) -> PoolSettings {
    PoolSettings { max_size: size, max_logins: size, ..PoolSettings::on_demand() }
}

#[test]
fn released_connection_goes_to_the_oldest_waiter() {
    let mut bench = Bench::new(fixed(1));
    bench.acquire(1);
    let conn = bench.open_all()[0];
    bench.taken();
    bench.acquire(2);
    bench.acquire(3);
    bench.now = Tick(5 * MS);
    bench.release(conn);
    assert_eq!(bench.taken(), [Action::Grant { holder: 2, conn, waited: 4 * MS }]);
    assert!(matches!(bench.acquire(4), Acquired::Queued(_)), "a newcomer does not overtake");
    bench.release(conn);
    assert!(matches!(bench.taken()[..], [Action::Grant { holder: 3, .. }]));
}

#[test]
fn idle_connections_are_reused_newest_first() {
    let mut bench = Bench::new(fixed(2));
    bench.acquire(1);
    bench.acquire(2);
    let conns = bench.open_all();
    bench.release(conns[1]);
    bench.release(conns[0]);
    assert_eq!(bench.granted(3), conns[0]);
    assert_eq!(bench.granted(4), conns[1]);
}

#[test]
fn idle_above_max_idle_is_closed_on_release_but_never_below_min_size() {
    for (min_size, closes) in [(0, true), (1, true), (2, false)] {
        let mut bench = Bench::new(PoolSettings { max_idle: 1, min_size, ..fixed(2) });
        bench.acquire(1);
        bench.acquire(2);
        let conns = bench.open_all();
        bench.taken();
        bench.release(conns[0]);
        assert_eq!(bench.taken(), []);
        bench.release(conns[1]);
        let close = Action::Close(conns[1], CloseReason::MaxIdle);
        assert_eq!(bench.taken(), if closes { vec![close] } else { vec![] }, "min_size {min_size}");
    }
}

#[test]
fn headroom_is_refilled() {
    let mut bench = Bench::new(PoolSettings { min_idle: 2, ..fixed(4) });
    bench.acquire(1);
    assert_eq!(bench.open_all().len(), 3, "one in use and two in reserve");
    bench.granted(2);
    assert_eq!(bench.open_all().len(), 1);
    bench.granted(3);
    assert_eq!(bench.open_all().len(), 0, "max_size is reached");
}

#[test]
fn nothing_is_opened_before_the_first_request_with_initial_size_0() {
    let mut bench = Bench::new(PoolSettings { min_idle: 2, ..fixed(4) });
    bench.pool.start(bench.now, &mut bench.out);
    bench.pass(10_000);
    assert_eq!(bench.taken(), []);
    assert_eq!(bench.pool.next_deadline(), Tick::NEVER);
}

#[test]
fn closing_connections_count_until_the_server_has_let_them_go() {
    let mut bench = Bench::new(fixed(1));
    bench.acquire(1);
    let conn = bench.open_all()[0];
    bench.taken();
    bench.acquire(2);
    bench.pool.close(bench.now, conn, CloseReason::ServerLost, &mut bench.out);
    assert_eq!(bench.taken(), [Action::Close(conn, CloseReason::ServerLost)]);
    bench.pool.closed(bench.now, conn, &mut bench.out);
    assert!(matches!(bench.taken()[..], [Action::Open(_)]));
}

#[test]
fn waiter_times_out_with_its_deadline() {
    let mut bench = Bench::new(PoolSettings { acquire_timeout: Duration::from_millis(30), ..fixed(1) });
    bench.acquire(1);
    bench.open_all();
    bench.taken();
    bench.acquire(2);
    let deadline = bench.pool.next_deadline();
    assert_eq!(deadline, Tick(31 * MS));
    bench.pass(29);
    assert_eq!(bench.taken(), []);
    bench.pass(1);
    assert_eq!(bench.taken(), [Action::Refuse { holder: 2, why: Refusal::TimedOut }]);
    assert_eq!(bench.pool.figures().counts.waits_timed_out, 1);
}

#[test]
fn first_login_failure_then_one_probe() {
    let mut bench = Bench::new(fixed(3));
    for holder in 1..=3 {
        bench.acquire(holder);
    }
    let logins = bench.taken();
    assert_eq!(logins.len(), 3);
    for login in logins {
        let Action::Open(conn) = login else { panic!("{login:?}") };
        bench.pool.open_failed(bench.now, conn, FailureClass::Unreachable, &mut bench.out);
        bench.pool.closed(bench.now, conn, &mut bench.out);
    }
    assert!(!bench.taken().iter().any(|action| matches!(action, Action::Open(_))), "a pause comes first");
    bench.pass(1_000);
    assert!(matches!(bench.out[..], [Action::Open(_)]), "one login probes");
    assert_eq!(bench.open_all().len(), 3, "the others follow when it succeeds");
}

#[test]
fn waiters_fail_early_when_no_login_can_succeed() {
    let mut bench = Bench::new(fixed(2));
    bench.acquire(1);
    let [Action::Open(conn)] = bench.taken()[..] else { panic!("one login") };
    bench.pool.open_failed(bench.now, conn, FailureClass::Authentication, &mut bench.out);
    let refusal = Refusal::Database(FailureClass::Authentication);
    assert!(bench.taken().contains(&Action::Refuse { holder: 1, why: refusal }));
    bench.pool.closed(bench.now, conn, &mut bench.out);
    assert_eq!(bench.pool.next_deadline(), Tick::NEVER, "nobody waits: nothing is tried");
}

#[test]
fn untrusted_idle_connection_is_checked_before_it_is_handed_out() {
    let mut bench = Bench::new(fixed(1));
    bench.pool.trust_for(Duration::from_millis(20));
    bench.acquire(1);
    let conn = bench.open_all()[0];
    bench.release(conn);
    bench.pass(21);
    bench.taken();
    assert!(matches!(bench.acquire(2), Acquired::Queued(_)));
    assert_eq!(bench.taken(), [Action::Check(conn)]);
    bench.pool.ready(bench.now, conn, &mut bench.out);
    assert_eq!(bench.taken(), [Action::Grant { holder: 2, conn, waited: 0 }]);
}

#[test]
fn another_idle_connection_is_checked_when_the_first_fails() {
    let mut bench = Bench::new(fixed(2));
    bench.pool.trust_for(Duration::ZERO);
    bench.acquire(1);
    bench.acquire(2);
    let conns = bench.open_all();
    conns.iter().for_each(|conn| bench.release(*conn));
    bench.pass(1);
    bench.taken();
    bench.acquire(3);
    assert_eq!(bench.taken(), [Action::Check(conns[1])]);
    bench.pool.close(bench.now, conns[1], CloseReason::CheckFailed, &mut bench.out);
    assert!(bench.taken().contains(&Action::Check(conns[0])));
}

#[test]
fn old_connection_is_replaced_when_it_comes_to_rest() {
    let mut bench = Bench::new(PoolSettings { max_lifetime: Duration::from_millis(100), ..fixed(1) });
    bench.acquire(1);
    let conn = bench.open_all()[0];
    bench.taken();
    bench.pass(101);
    assert_eq!(bench.taken(), [], "it is in use");
    bench.release(conn);
    assert_eq!(bench.taken(), [Action::Close(conn, CloseReason::MaxLifetime)]);
}

#[test]
fn suspended_pool_grants_nothing_until_resumed() {
    let mut bench = Bench::new(fixed(1));
    bench.acquire(1);
    let conn = bench.open_all()[0];
    bench.taken();
    bench.pool.suspend(bench.now, &mut bench.out);
    bench.release(conn);
    assert_eq!(bench.taken(), [Action::Close(conn, CloseReason::Suspended)]);
    bench.pool.closed(bench.now, conn, &mut bench.out);
    bench.acquire(2);
    assert_eq!(bench.taken(), []);
    bench.pool.resume(bench.now, &mut bench.out);
    assert_eq!(bench.open_all().len(), 1);
    assert!(matches!(bench.taken()[..], [Action::Grant { holder: 2, .. }]));
}

/// What a driver of the pool knows: enough to tell whether an answer is right.
struct Model {
    bench: Bench,
    random: u64,
    queue: VecDeque<(u64, WaiterId)>,
    /// States as the actions and calls so far imply them.
    states: BTreeMap<ConnId, State>,
    holders: u64,
    max_size_seen: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self {
            bench: Bench::new(PoolSettings::on_demand()),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            queue: VecDeque::new(),
            states: BTreeMap::new(),
            holders: 0,
            max_size_seen: 0,
        };
        let settings = model.settings();
        model.max_size_seen = settings.max_size;
        model.bench.pool = Pool::new(settings, seed);
        if model.below(2) == 0 {
            let window = Duration::from_millis(model.below(50));
            model.bench.pool.trust_for(window);
        }
        model.bench.pool.start(model.bench.now, &mut model.bench.out);
        model.obey();
        model
    }

    fn below(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn settings(&mut self) -> PoolSettings {
        let max_size = 1 + self.below(5) as u32;
        let mut upto = |most: u32| self.below(u64::from(most) + 1) as u32;
        let (min_idle, initial_size, min_size) = (upto(max_size), upto(max_size), upto(max_size));
        let (max_idle, max_waiters, max_logins) = (upto(max_size), 1 + upto(20), 1 + upto(3));
        let mut milliseconds = |most: u64| Duration::from_millis(self.below(most).saturating_sub(most / 4));
        PoolSettings {
            max_size,
            max_idle,
            min_idle,
            initial_size,
            min_size,
            idle_timeout: milliseconds(100),
            acquire_timeout: milliseconds(200),
            max_waiters,
            max_lifetime: milliseconds(1_000),
            max_logins,
            login_retry: Duration::from_millis(100),
        }
    }

    /// One random thing happens.
    fn step(&mut self) {
        let any = self.below(self.states.len() as u64 + 1) as usize;
        let conn = self.states.iter().nth(any).map(|(conn, state)| (*conn, *state));
        let now = self.bench.now;
        let Bench { pool, out, .. } = &mut self.bench;
        match (self.random >> 20) % 40 {
            0..=11 => return self.acquire(),
            12..=14 => return self.withdraw(),
            15..=20 => return self.time_passes(),
            21 if pool.is_suspended() => pool.resume(now, out),
            21 if self.random % 8 == 0 => pool.suspend(now, out),
            22 if self.random % 8 == 0 => pool.renew(now, out),
            23 if self.random % 8 == 0 => {
                let settings = self.settings();
                self.max_size_seen = self.max_size_seen.max(settings.max_size);
                self.bench.pool.configure(now, settings, &mut self.bench.out);
            }
            _ => match conn {
                Some((conn, state)) => self.moves_on(conn, state),
                None => return,
            },
        }
        self.obey();
    }

    fn acquire(&mut self) {
        self.holders += 1;
        let (holder, waiting) = (self.holders, self.queue.len());
        match self.bench.acquire(holder) {
            Acquired::Granted(conn) => {
                assert_eq!(waiting, 0, "a newcomer overtakes");
                assert_eq!(self.states.insert(conn, State::InUse), Some(State::Idle));
            }
            Acquired::Queued(waiter) => self.queue.push_back((holder, waiter)),
            Acquired::Refused(Refusal::QueueFull) => {
                assert!(waiting >= self.bench.pool.figures().settings.max_waiters as usize);
            }
            Acquired::Refused(why) => panic!("{why:?}"),
        }
        self.obey();
    }

    fn withdraw(&mut self) {
        let place = self.below(self.queue.len() as u64 + 1) as usize;
        if let Some((_, waiter)) = self.queue.remove(place) {
            self.bench.pool.withdraw(self.bench.now, waiter);
            // A second time it means nothing.
            self.bench.pool.withdraw(self.bench.now, waiter);
        }
        self.check();
    }

    fn time_passes(&mut self) {
        let deadline = self.bench.pool.next_deadline();
        let later = Tick(self.bench.now.0 + self.below(20 * MS));
        self.bench.now = if self.random % 2 == 0 { later.min(deadline.max(self.bench.now)) } else { later };
        if self.bench.pool.next_deadline() <= self.bench.now {
            self.bench.pass(0);
            let left = self.bench.pool.next_deadline();
            assert!(
                left > self.bench.now,
                "due at {left:?}, and still due after on_timer at {:?}",
                self.bench.now
            );
        }
        self.obey();
    }

    /// A connection does what its state allows.
    fn moves_on(&mut self, conn: ConnId, state: State) {
        let now = self.bench.now;
        let choice = self.below(8);
        let classes = [FailureClass::Unreachable, FailureClass::Authentication, FailureClass::StartingUp];
        let class = classes[self.below(3) as usize];
        let Bench { pool, out, .. } = &mut self.bench;
        match (state, choice) {
            (State::Opening, 0..=1) => pool.open_failed(now, conn, class, out),
            (State::Opening, _) => pool.opened(now, conn, out),
            (State::InUse, 0) => pool.retire(now, conn, State::Resetting, out),
            (State::InUse, 1) => pool.retire(now, conn, State::Recovering, out),
            (State::InUse, 2) => pool.retire(now, conn, State::BeingCancelled, out),
            (State::InUse, 3) => pool.reopened(now, conn, CloseReason::Repurposed),
            (State::InUse, _) => pool.release(now, conn, out),
            (State::Closing, _) => pool.closed(now, conn, out),
            (_, 0) | (State::Idle, _) => pool.close(now, conn, CloseReason::ServerLost, out),
            _ => pool.ready(now, conn, out),
        }
        self.note(conn);
    }

    /// Follows the actions, and judges each.
    fn obey(&mut self) {
        for action in self.bench.taken() {
            match action {
                Action::Open(conn) => assert_eq!(self.states.insert(conn, State::Opening), None),
                Action::Check(conn) => {
                    assert_eq!(self.states.insert(conn, State::Checking), Some(State::Idle))
                }
                Action::Close(conn, _) => drop(self.states.insert(conn, State::Closing)),
                Action::Grant { holder, conn, .. } => {
                    assert_eq!(
                        self.queue.pop_front().map(|(first, _)| first),
                        Some(holder),
                        "first in, first out"
                    );
                    self.states.insert(conn, State::InUse);
                }
                Action::Refuse { holder, .. } => {
                    assert_eq!(self.queue.pop_front().map(|(first, _)| first), Some(holder));
                }
            }
        }
        self.check();
    }

    /// With a driver that does its part, everybody who waits is served or refused.
    fn comes_to_rest(&mut self) {
        self.bench.pool.resume(self.bench.now, &mut self.bench.out);
        self.obey();
        for _ in 0..200 {
            for (conn, state) in self.states.clone() {
                let Bench { pool, out, now } = &mut self.bench;
                match state {
                    State::Idle => continue,
                    State::Opening => pool.opened(*now, conn, out),
                    State::InUse => pool.release(*now, conn, out),
                    State::Closing => pool.closed(*now, conn, out),
                    _ => pool.ready(*now, conn, out),
                }
                self.note(conn);
            }
            self.obey();
            self.bench.pass(1);
            self.obey();
        }
        assert!(self.queue.is_empty(), "{:?} wait for ever beside {:?}", self.queue, self.states);
    }

    fn note(&mut self, conn: ConnId) {
        match self.bench.pool.state(conn) {
            Some(state) => drop(self.states.insert(conn, state)),
            None => drop(self.states.remove(&conn)),
        }
    }

    fn check(&self) {
        let pool = &self.bench.pool;
        let figures = pool.figures();
        let counts = &figures.counts;
        assert_eq!(figures.waiting as usize, self.queue.len());
        assert_eq!(pool.oldest_waiter(), self.queue.front().map(|(holder, _)| *holder));
        for state in State::ALL {
            let known = self.states.values().filter(|known| **known == state).count();
            assert_eq!(figures.count(state) as usize, known, "{state:?}");
        }
        assert!(self.states.iter().all(|(conn, state)| pool.state(*conn) == Some(*state)));
        assert!(figures.open() <= self.max_size_seen, "more than max_size");
        let alive = figures.open() - figures.count(State::Closing);
        assert_eq!(counts.opened - counts.closed.iter().sum::<u64>(), u64::from(alive));
        let ended =
            counts.waits_granted + counts.waits_timed_out + counts.waits_withdrawn + counts.waits_failed;
        assert_eq!(counts.waits, ended + u64::from(figures.waiting), "one outcome per wait");
        let unserved = figures.waiting > figures.count(State::Checking) && !pool.is_suspended();
        assert!(!unserved || figures.count(State::Idle) == 0, "a waiter waits beside an idle connection");
    }
}

/// Goal: the invariants hold whatever happens in whatever order. Method: 200,000 random calls over 400 pools, each
/// judged against [`Model`].
#[test]
fn invariants_hold_after_every_random_step() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match (number("HEADPOND_SEED"), number("HEADPOND_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(400),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..500).for_each(|_| model.step());
            model.comes_to_rest();
        });
        assert!(outcome.is_ok(), "HEADPOND_SEED={seed} cargo test -p headpond-core");
    }
}
