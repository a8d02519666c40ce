//! What is decided over the pool's head: by its operator, by the budget, and by the server.

use crate::action::{Action, Refusal};
use crate::alarms::Alarm;
use crate::{CloseReason, ConnId, Pool, PoolSettings, Tick};

impl Pool {
    /// Grants nothing until [`Pool::resume`]; idle connections are closed, others when they come to rest.
    pub fn suspend(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.suspended = true;
        self.close_idle(now, CloseReason::Suspended, out);
    }

    /// Ends a suspension.
    pub fn resume(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.suspended = false;
        self.advance(now, out);
    }

    /// Whether [`Pool::suspend`] is in force.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The server takes no writes, though it should: as [`Pool::suspend`], with an alarm, until [`Pool::unfence`].
    /// No connection of now outlives it, for where new ones lead may be elsewhere.
    pub fn fence(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.fenced = true;
        self.raise(Alarm::Fenced, out);
        self.outdate(now, CloseReason::Fenced, out);
    }

    /// The server takes writes again.
    pub fn unfence(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.fenced = false;
        self.clear(Alarm::Fenced, out);
        self.advance(now, out);
    }

    /// Whether [`Pool::fence`] is in force.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Whether nothing is granted and nothing opened.
    pub(crate) fn is_halted(&self) -> bool {
        self.suspended || self.fenced
    }

    /// Finishes what is running, takes nothing new: waiters are refused, idle connections closed.
    pub fn drain(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.draining = true;
        self.close_idle(now, CloseReason::Shutdown, out);
        self.refuse_all(now, Refusal::Draining, out);
    }

    /// New settings, from now on. The test may be another one: who failed the old one is tested again.
    pub fn configure(&mut self, now: Tick, settings: PoolSettings, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.logins.configure(now, &self.settings);
        if before.shrink_interval.is_zero() {
            self.begin_interval(now);
        }
        self.shrink_at = self.shrink_at.min(now.plus(self.settings.shrink_interval));
        let failed = std::mem::take(&mut self.tester).failed;
        self.clear(Alarm::CheckSuspect, out);
        for conn in failed {
            if self.settings.check {
                out.push(Action::Check(conn));
            } else {
                self.settle(now, conn, out);
            }
        }
        while self.slots.alive() > self.effective_max() {
            let Some((conn, _)) = self.slots.oldest_idle() else { break };
            self.begin_close(now, conn, CloseReason::Resized, out);
        }
        self.judge_ceiling(out);
        self.advance(now, out);
    }

    /// Every connection of now is replaced: idle ones at once, others when they come to rest. Logins that failed
    /// are tried anew.
    pub fn renew(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.logins.forgive();
        self.clear(Alarm::Authentication, out);
        self.judge_ceiling(out);
        self.outdate(now, CloseReason::Outdated, out);
    }

    /// There are other credentials now: a login that the server refused may work.
    pub fn credentials_changed(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.logins.is_terminal() {
            self.logins.forgive();
            self.clear(Alarm::Authentication, out);
            self.advance(now, out);
        }
    }

    /// A connection heard that the server is going down. `certain`: the whole server, not this connection only.
    /// Two that hear so within [`crate::FAREWELLS_TOGETHER`] make it certain too. What those hear that are given up
    /// already is old news.
    pub fn server_leaving(&mut self, now: Tick, conn: ConnId, certain: bool, out: &mut Vec<Action>) {
        if self.slots.state(conn).is_none() || self.slots.is_outdated(conn) {
            return;
        }
        let together = |(who, at): (ConnId, Tick)| who != conn && now.since(at) <= crate::FAREWELLS_TOGETHER;
        if certain || self.farewell.is_some_and(together) {
            self.server_gone(now, out);
        } else {
            self.farewell = Some((conn, now));
        }
    }

    /// The server is down: every connection of now is given up in one go, and none is tested.
    pub fn server_gone(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.farewell = None;
        self.outdate(now, CloseReason::MassDeath, out);
    }

    /// The alarm of a server without room ends when we may have what is set.
    pub(crate) fn judge_ceiling(&mut self, out: &mut Vec<Action>) {
        if self.logins.ceiling() >= self.settings.max_size {
            self.clear(Alarm::TooManyConnections, out);
        }
    }

    fn outdate(&mut self, now: Tick, reason: CloseReason, out: &mut Vec<Action>) {
        self.slots.outdate_all();
        self.outdated_by = reason;
        if !planted!(OutdatedIdleStay) {
            self.close_idle(now, reason, out);
        }
        self.advance(now, out);
    }

    /// Closes whoever rests: the idle ones, and those that failed a test and wait for the verdict.
    fn close_idle(&mut self, now: Tick, reason: CloseReason, out: &mut Vec<Action>) {
        while let Some(conn) = self.slots.newest_idle().or(self.tester.failed.last().copied()) {
            self.begin_close(now, conn, reason, out);
        }
    }
}
