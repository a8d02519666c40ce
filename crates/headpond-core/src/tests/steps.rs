//! Random steps: every call in any order, under random settings and faults, each followed by the model.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::model::{Conn, Model};
use crate::{Alarm, CloseReason, ConnId, FailureClass, PoolSettings, State, Tick};

/// So many steps a pool lives.
const LIFE: u64 = 1000;

/// Dice that fall the same way for the same seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn size(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(u64::from(end))).expect("it is below a u32")
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let place = self.below(from.len() as u64);
        from[usize::try_from(place).expect("it is below a length")]
    }

    fn millis(&mut self, from: &[u64]) -> Duration {
        Duration::from_millis(self.pick(from))
    }

    fn settings(&mut self) -> PoolSettings {
        let max_size = 1 + self.size(8);
        PoolSettings {
            max_size,
            max_idle: self.size(max_size + 1),
            min_idle: self.size(max_size / 2 + 1),
            initial_size: self.size(max_size + 1),
            min_size: self.size(max_size + 1),
            idle_timeout: self.millis(&[0, 50, 5_000]),
            shrink_interval: self.millis(&[0, 100, 200, 20_000]),
            acquire_timeout: self.millis(&[0, 100, 10_000]),
            max_waiters: self.pick(&[0, 3, 20, 10_000, 10_000, 10_000]),
            check: !self.one_in(3),
            trust_window: self.millis(&[0, 20, 1_000]),
            check_interval: self.millis(&[0, 30, 3_000]),
            max_lifetime: self.millis(&[0, 100, 10_000]),
            max_logins: 1 + self.size(4),
            login_delay: self.millis(&[0, 0, 5]),
            login_attempts: 0,
            login_retry: self.millis(&[0, 50, 1_000]),
            leak_after: self.millis(&[0, 10, 1_000]),
            leak_reclaim: self.one_in(2),
            round_robin: self.one_in(8),
            statement_cache_size: 0,
        }
    }
}

/// What the server does with logins and tests at present.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Health {
    Well,
    Fails(FailureClass),
    Hangs,
    TestBroken,
}

const CLASSES: [FailureClass; 6] = [
    FailureClass::Authentication,
    FailureClass::Refused,
    FailureClass::TooManyConnections,
    FailureClass::StartingUp,
    FailureClass::Unreachable,
    FailureClass::Other,
];

struct World {
    dice: Dice,
    model: Model,
    health: Health,
    quiet: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let begin = Tick(0).plus(dice.millis(&[0, 7_777_777]));
        let model = Model::new(dice.settings(), begin, seed);
        Self { dice, model, health: Health::Well, quiet: false }
    }

    fn live(&mut self, steps: u64) {
        if !self.dice.one_in(3) {
            self.model.start();
        }
        for step in 0..steps {
            self.step();
            if step == steps * 9 / 10 && self.dice.one_in(10) {
                self.model.drain();
            }
        }
        self.calm();
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..18 if self.quiet && !self.dice.one_in(10) => self.time_passes(),
            0..18 => self.acquire(),
            18..34 => self.end_lease(),
            34..54 => self.login_ends(),
            54..64 => self.test_ends(),
            64..70 => self.fit_again(),
            70..77 => self.with(|conn| conn.state == State::Closing, |model, _, id| model.closed(id)),
            77..79 => self.withdraw(),
            79..92 => self.time_passes(),
            92 => self.breaks(),
            93..95 => self.change_health(),
            95 => self.stray(),
            _ => self.command(),
        }
    }

    fn acquire(&mut self) {
        let application = self.dice.size(3);
        let patience = self.dice.millis(&[0, 3, 40, 4_000]);
        let deadline = self.dice.one_in(4).then(|| self.model.now.plus(patience));
        if self.dice.one_in(4) {
            self.with(|_| true, |model, _, id| model.prefers = Some(id));
        }
        self.model.acquire(application, deadline);
    }

    fn end_lease(&mut self) {
        self.with(
            |conn| conn.state == State::InUse,
            |model, dice, id| match dice.below(10) {
                _ if model.conns[&id].reclaimed && !dice.one_in(5) => model.close(id, CloseReason::Leaked),
                0 => model.retire(id, State::Resetting),
                1 => model.retire(id, State::Recovering),
                2 => model.retire(id, State::BeingCancelled),
                3 if dice.one_in(4) => model.reopened(id),
                _ => model.release(id),
            },
        );
    }

    fn login_ends(&mut self) {
        let health = self.health;
        self.with(
            |conn| conn.state == State::Opening,
            |model, dice, id| match health {
                Health::Fails(class) => model.open_failed(id, class),
                Health::Hangs if dice.one_in(20) => model.open_failed(id, FailureClass::Unreachable),
                Health::Hangs => {}
                Health::Well | Health::TestBroken => model.opened(id),
            },
        );
    }

    fn test_ends(&mut self) {
        let health = self.health;
        self.with(
            |conn| conn.state == State::Checking && !conn.judged,
            |model, dice, id| match (health, dice.below(12)) {
                (Health::TestBroken, _) | (_, 0) => model.check_failed(id),
                (_, 1) => model.close(id, CloseReason::CheckFailed),
                (_, 2) => model.close(id, CloseReason::ServerLost),
                _ => model.ready(id),
            },
        );
    }

    fn fit_again(&mut self) {
        self.with(
            |conn| matches!(conn.state, State::Resetting | State::Recovering | State::BeingCancelled),
            |model, dice, id| match dice.below(5) {
                0 => model.retire(id, State::Resetting),
                1 => model.close(id, CloseReason::RecoverTimeout),
                _ => model.ready(id),
            },
        );
    }

    fn withdraw(&mut self) {
        let waiting: Vec<_> = self.model.queues.values().flatten().map(|waiting| waiting.id).collect();
        if !waiting.is_empty() {
            let id = self.dice.pick(&waiting);
            self.model.withdraw(id);
        }
    }

    fn time_passes(&mut self) {
        let now = self.model.now;
        let next = self.model.pool.next_deadline(now);
        match self.dice.below(10) {
            // Not even the timer.
            0..3 => self.model.now = now.plus(Duration::from_micros(self.dice.below(5_000))),
            3..6 => self.model.on_timer(now.plus(Duration::from_micros(self.dice.below(20_000)))),
            6 if self.dice.one_in(10) => {
                self.model.on_timer(now.plus(Duration::from_secs(self.dice.below(9_000))))
            }
            _ if next < Tick::NEVER => self.model.on_timer(next),
            _ => {}
        }
    }

    fn breaks(&mut self) {
        self.with(
            |conn| conn.state != State::Closing,
            |model, dice, id| {
                model.close(id, dice.pick(&[CloseReason::ServerLost, CloseReason::ReplyMismatch]))
            },
        );
    }

    fn change_health(&mut self) {
        self.quiet = self.dice.one_in(3);
        self.health = match self.dice.below(8) {
            0 => Health::Hangs,
            1..3 => Health::Fails(self.dice.pick(&CLASSES)),
            3 => Health::TestBroken,
            _ => Health::Well,
        };
    }

    /// What no driver should say, and none can be trusted not to.
    fn stray(&mut self) {
        let call = self.dice.below(6);
        self.with(
            |_| true,
            |model, _, id| {
                let state = model.conns[&id].state;
                match call {
                    0 if state != State::InUse => model.release(id),
                    1 if state != State::Closing => model.closed(id),
                    2 if state != State::Opening => model.opened(id),
                    3 if state != State::Opening => model.open_failed(id, FailureClass::Other),
                    4 if state != State::Checking || model.conns[&id].judged => model.check_failed(id),
                    5 if matches!(state, State::Idle | State::Opening | State::Closing) => model.ready(id),
                    _ => {}
                }
            },
        );
    }

    fn command(&mut self) {
        match self.dice.below(40) {
            0 => self.model.suspend(),
            _ if self.model.suspended => self.model.resume(),
            1 => self.model.fence(),
            _ if self.model.fenced => self.model.unfence(),
            2..6 => {
                let settings = self.dice.settings();
                self.model.configure(settings);
            }
            6..10 => self.model.renew(),
            10..13 => self.model.server_dies(),
            13..16 => self.model.denies = true,
            16..26 => self.grant_budget(),
            26..34 => self.model.spare(),
            34..39 => {
                let (application, weight) = (self.dice.size(3), self.dice.size(5));
                self.model.set_weight(application, weight);
            }
            _ => self.model.pool.reset_marks(),
        }
    }

    fn grant_budget(&mut self) {
        self.model.denies = false;
        self.model.budget_freed();
    }

    /// Calls for a random connection of some kind, if there is one.
    fn with(&mut self, of: impl Fn(&Conn) -> bool, act: impl FnOnce(&mut Model, &mut Dice, ConnId)) {
        let ids: Vec<ConnId> =
            self.model.conns.iter().filter(|(_, conn)| of(conn)).map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            let id = self.dice.pick(&ids);
            act(&mut self.model, &mut self.dice, id);
        }
    }

    /// The server is well and leases end: everybody who waits is served, without any time passing if nothing says
    /// that logins must wait.
    fn calm(&mut self) {
        self.health = Health::Well;
        self.model.resume();
        self.model.unfence();
        self.grant_budget();
        let renewed = self.dice.one_in(2);
        if renewed {
            self.model.renew();
        }
        let patient = !renewed || !self.model.settings.login_delay.is_zero();
        for _ in 0..10_000 {
            let ids: Vec<ConnId> = self.model.conns.keys().copied().collect();
            let pending = ids.len();
            for id in ids {
                let Some(conn) = self.model.conns.get(&id).copied() else { continue };
                match conn.state {
                    State::Opening => self.model.opened(id),
                    State::Checking if conn.judged => {}
                    State::Checking | State::Resetting | State::Recovering | State::BeingCancelled => {
                        self.model.ready(id);
                    }
                    State::InUse => self.model.release(id),
                    State::Closing => self.model.closed(id),
                    State::Idle => {}
                }
            }
            let resting = self.model.count(State::Idle) as usize == self.model.conns.len();
            if self.model.waiting() == 0 && resting {
                return;
            }
            let moved = self.model.conns.values().any(|conn| conn.state != State::Idle && !conn.judged);
            if !moved && pending == self.model.conns.len() {
                let next = self.model.pool.next_deadline(self.model.now);
                assert!(next < Tick::NEVER, "somebody waits for ever");
                assert!(patient || next == self.model.now, "somebody waits without a reason");
                self.model.on_timer(next);
            }
        }
        panic!("no rest");
    }
}

/// What was reached, over all pools.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    closed: [u64; CloseReason::ALL.len()],
    alarms: [u64; Alarm::ALL.len()],
    granted: u64,
    timed_out: u64,
    withdrawn: u64,
    failed: u64,
    refused: u64,
    leaks: u64,
}

impl Reached {
    fn note(&mut self, model: &Model) {
        let counts = &model.pool.counts;
        self.closed.iter_mut().zip(counts.closed).for_each(|(all, one)| *all += one);
        self.alarms.iter_mut().zip(model.alarms_raised).for_each(|(all, one)| *all += one);
        self.granted += counts.waits_granted;
        self.timed_out += counts.waits_timed_out;
        self.withdrawn += counts.waits_withdrawn;
        self.failed += counts.waits_failed;
        self.refused += counts.refused;
        self.leaks += counts.leaks;
    }

    /// A suite that does not come by a rule proves nothing about it.
    fn suffices(&self) {
        for reason in CloseReason::ALL {
            assert!(
                self.closed[reason as usize] >= 10 || OF_DRIVERS.contains(&reason),
                "{reason:?}: {self:?}"
            );
        }
        for alarm in [Alarm::CheckSuspect, Alarm::Authentication, Alarm::TooManyConnections] {
            assert!(self.alarms[alarm as usize] >= 10, "{alarm:?}: {self:?}");
        }
        let waits = [self.granted, self.timed_out, self.withdrawn, self.failed, self.refused, self.leaks];
        assert!(waits.iter().all(|count| *count >= 100), "{self:?}");
    }
}

/// Reasons that only a driver gives, and that mean nothing to the policy.
const OF_DRIVERS: [CloseReason; 5] = [
    CloseReason::ResetFailed,
    CloseReason::ClientLost,
    CloseReason::SettingsRefused,
    CloseReason::Unclean,
    CloseReason::Dedicated,
];

/// Runs pools until so many steps are done. A failure says how to see it again.
pub(crate) fn run(first: u64, steps: u64) -> Reached {
    let mut reached = Reached::default();
    for seed in (first..).take(usize::try_from(steps.div_ceil(LIFE)).expect("few")) {
        let mut world = World::new(seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.live(LIFE))) {
            eprintln!("again: HEADPOND_SEED={seed} cargo test -p headpond-core random_steps");
            resume_unwind(panic);
        }
        reached.note(&world.model);
    }
    reached
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// `HEADPOND_STEPS` runs more, `HEADPOND_SEED` one pool only.
#[test]
fn random_steps() {
    match number("HEADPOND_SEED") {
        Some(seed) => drop(run(seed, 1)),
        None => run(1, number("HEADPOND_STEPS").unwrap_or(200_000)).suffices(),
    }
}
