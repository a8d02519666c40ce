//! When connections are opened.

use std::time::Duration;

use crate::action::{Action, FailureClass};
use crate::alarms::Alarm;
use crate::tester::Verdict;
use crate::{CloseReason, ConnId, Pool, State, Tick};

/// A lifetime is shortened by up to this part of itself, so that connections opened together do not end together.
const LIFETIME_JITTER: f64 = 0.15;

impl Pool {
    /// A login succeeded.
    pub fn opened(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) != Some(State::Opening) {
            return;
        }
        if !self.slots.is_outdated(conn) {
            self.logins.succeeded(&self.settings);
            self.clear(Alarm::Authentication, out);
        }
        self.begin_life(now, conn);
        if self.tester.asks_opened(now, &self.settings) && self.unwanted(now, conn).is_none() {
            // The test is tried on the first connection of all, and whenever one fails it: a connection that was
            // just opened is good, so if it fails too, the test is wrong.
            self.ask(now, conn, out);
        } else {
            self.settle(now, conn, out);
        }
        self.advance(now, out);
    }

    /// A leased connection was closed and opened anew for its holder: its place in the pool stayed taken.
    pub fn reopened(&mut self, now: Tick, conn: ConnId, reason: CloseReason) {
        if self.slots.state(conn) == Some(State::InUse) {
            self.counts.closed[reason as usize] += 1;
            self.counts.opened += 1;
            self.slots.update(conn);
            self.begin_life(now, conn);
        }
    }

    /// A login failed: from now on it is closing, for the server may still be busy with it.
    pub fn open_failed(&mut self, now: Tick, conn: ConnId, class: FailureClass, out: &mut Vec<Action>) {
        if self.slots.state(conn) != Some(State::Opening) {
            return;
        }
        self.counts.logins_failed += 1;
        self.begin_close(now, conn, CloseReason::LoginFailed, out);
        if class == FailureClass::Authentication && self.slots.is_outdated(conn) {
            // It began before the credentials were changed.
            self.advance(now, out);
            return;
        }
        let jitter = self.draw();
        self.logins.failed(now, class, &self.settings, self.slots.alive(), jitter);
        match class {
            FailureClass::Authentication => self.raise(Alarm::Authentication, out),
            FailureClass::TooManyConnections => self.raise(Alarm::TooManyConnections, out),
            _ => {}
        }
        if self.tester.wants_fresh() {
            self.verdict(now, Verdict::Unknown, out);
        }
        self.advance(now, out);
    }

    /// The budget has no permit for a login that was asked for: it is as if it had not been.
    pub fn open_denied(&mut self, conn: ConnId) {
        if self.slots.state(conn) == Some(State::Opening) {
            self.counts.opened -= 1;
            self.slots.remove(conn);
            self.denied = true;
        }
    }

    /// Something of the budget was given back.
    pub fn budget_freed(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.denied = false;
        self.advance(now, out);
    }

    /// Whether a request that has to wait now would make the pool open a connection for it.
    #[must_use]
    pub fn would_open(&self) -> bool {
        self.waiters.len() < self.room() && !self.suspended && !self.draining
    }

    /// Whether an idle connection could go to a sibling without touching the floors.
    #[must_use]
    pub fn can_spare(&self) -> bool {
        self.waiters.len() == 0 && self.may_shrink()
    }

    /// Closes the idle connection unused for longest, so that a sibling can have its place.
    pub fn spare(&mut self, now: Tick, out: &mut Vec<Action>) {
        if let Some((conn, _)) = self.slots.oldest_idle() {
            self.begin_close(now, conn, CloseReason::FairShare, out);
        }
    }

    /// Opens what is needed and allowed.
    pub(crate) fn open_what_is_needed(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.warming = self.warming && self.serving() < self.settings.initial_size.min(self.effective_max());
        let needed = self.needed();
        if needed == 0 {
            return;
        }
        let allowed = self.logins.allowed(now, &self.settings, self.slots.count(State::Opening));
        for _ in 0..needed.min(allowed) {
            self.counts.opened += 1;
            self.logins.began(now);
            // Not noted for the marks before something comes of it: the budget may deny it.
            let conn = self.slots.insert(now);
            out.push(Action::Open(conn));
        }
    }

    /// How many logins to start, the pace of logins aside:
    /// min(in use + waiters + min_idle, max_size) − those that serve or soon will, within `max_size` of all states.
    /// After a failure that trying again will not mend, only for somebody who waits.
    pub(crate) fn needed(&self) -> u32 {
        let room = self.room();
        if room == 0 || self.is_content() || !self.in_service || self.draining || self.is_halted() {
            return 0;
        }
        let wants_fresh = self.tester.wants_fresh() && !planted!(FreshForgotten);
        if self.logins.is_terminal() && self.waiters.len() == 0 && !wants_fresh {
            return 0;
        }
        let opening = self.slots.count(State::Opening);
        let fresh = u32::from(wants_fresh && opening == 0);
        self.demand().saturating_sub(self.serving() + opening).max(fresh).min(room)
    }

    /// Connections that should be there: min(in use + waiters + min_idle, max_size).
    pub(crate) fn demand(&self) -> u32 {
        let wanted = self.slots.count(State::InUse) + self.waiters.len();
        let wanted = wanted.saturating_add(self.settings.min_idle);
        let wanted = if self.warming { wanted.max(self.settings.initial_size) } else { wanted };
        wanted.min(self.effective_max())
    }

    /// Connections that serve, or will as soon as they are checked or reset. Those that are too old do not count.
    pub(crate) fn serving(&self) -> u32 {
        let count = |state| self.slots.count(state);
        let resting = count(State::Idle) - self.slots.retiring();
        count(State::InUse) + resting + self.under_test() + count(State::Resetting)
    }

    /// Cheap guard of the common path: nobody waits, and the headroom is there.
    pub(crate) fn is_content(&self) -> bool {
        self.waiters.len() == 0
            && self.slots.count(State::Idle) - self.slots.retiring() >= self.settings.min_idle
            && self.tester.failed.is_empty()
            && !self.warming
    }

    /// How many more may be opened, whether needed or not.
    pub(crate) fn room(&self) -> u32 {
        let taken = if planted!(ClosingUncounted) { self.slots.alive() } else { self.slots.total() };
        if self.denied { 0 } else { self.effective_max().saturating_sub(taken) }
    }

    fn begin_life(&mut self, now: Tick, conn: ConnId) {
        self.slots.prove(now, conn);
        let expires = match self.settings.max_lifetime {
            Duration::ZERO => Tick::NEVER,
            lifetime => now.plus(lifetime.mul_f64(1.0 - LIFETIME_JITTER * self.draw())),
        };
        self.slots.expire_at(conn, expires);
    }
}
