//! Which connections are tested when, and what becomes of them.

use crate::action::Action;
use crate::alarms::Alarm;
use crate::tester::Verdict;
use crate::{CloseReason, ConnId, Pool, State, Tick};

impl Pool {
    /// A connection answered the test with an error: it waits in state checking until a fresh one has been asked.
    pub fn check_failed(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) != Some(State::Checking) || self.tester.failed.contains(&conn) {
            return;
        }
        if self.tester.fresh == Some(conn) {
            self.verdict(now, Verdict::Broken, out);
            self.settle(now, conn, out);
        } else if !self.tester.is_on(&self.settings) || self.unwanted(now, conn).is_some() {
            // Nobody is judged by a test that is off or broken, and who goes anyway need not be.
            self.settle(now, conn, out);
        } else {
            self.tester.failed.push(conn);
            self.tester.tried = false;
        }
        self.advance(now, out);
    }

    /// A connection passed the test.
    pub(crate) fn check_passed(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.tester.failed.contains(&conn) {
            return;
        }
        self.slots.prove(now, conn);
        if self.tester.fresh == Some(conn) || self.tester.broken {
            self.verdict(now, Verdict::Works, out);
        }
        self.settle(now, conn, out);
        self.advance(now, out);
    }

    /// A connection that is being tested is closed; if it took too long to answer, that is a failure too.
    pub(crate) fn check_abandoned(
        &mut self,
        now: Tick,
        conn: ConnId,
        reason: CloseReason,
        out: &mut Vec<Action>,
    ) {
        if self.slots.state(conn) != Some(State::Checking) || reason != CloseReason::CheckFailed {
            return;
        }
        if self.tester.fresh == Some(conn) {
            self.verdict(now, Verdict::Broken, out);
        } else {
            self.tester.tried = false;
        }
    }

    /// A connection that comes to rest is asked about the test.
    pub(crate) fn ask(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        self.tester.asks_next = false;
        self.tester.fresh = Some(conn);
        self.begin_check(now, conn, out);
    }

    /// What a fresh connection said of the test, or that there was none.
    pub(crate) fn verdict(&mut self, now: Tick, verdict: Verdict, out: &mut Vec<Action>) {
        self.tester.fresh = None;
        let failed = std::mem::take(&mut self.tester.failed);
        match verdict {
            Verdict::Broken => {
                self.tester.found_broken(now);
                self.raise(Alarm::CheckSuspect, out);
                if !planted!(BrokenTestEvicts) {
                    failed.into_iter().for_each(|conn| self.settle(now, conn, out));
                    return;
                }
            }
            Verdict::Works => {
                self.tester.found_working();
                self.clear(Alarm::CheckSuspect, out);
            }
            Verdict::Unknown => {}
        }
        for conn in failed {
            self.begin_close(now, conn, CloseReason::CheckFailed, out);
        }
    }

    /// Idle connections go to those who wait. Of those that must be tested first as many are as there are waiters;
    /// who passes goes to whose turn it is.
    pub(crate) fn serve_waiters(&mut self, now: Tick, out: &mut Vec<Action>) {
        while !self.is_halted()
            && !planted!(WaitsBesideIdle)
            && self.under_test() < self.waiters.len()
            && let Some(conn) = self.next_idle()
        {
            if !self.is_trusted(now, conn) {
                self.begin_check(now, conn, out);
            } else if let Some(left) = self.waiters.pop() {
                self.grant(now, left, conn, out);
            }
        }
    }

    /// The connection that is to be asked about the test needs a place: if there is none, one that failed makes it.
    pub(crate) fn make_place_for_fresh(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.lacks_place_for_fresh()
            && let Some(conn) = self.tester.failed.last().copied()
        {
            self.begin_close(now, conn, CloseReason::CheckFailed, out);
        }
    }

    /// Nothing is on its way that could become the connection to be asked, and nothing can be. The budget may say so
    /// when the login was asked for already: then it is found at the next deadline, which is at once.
    pub(crate) fn lacks_place_for_fresh(&self) -> bool {
        self.tester.wants_fresh()
            && self.room() == 0
            && self.slots.count(State::Opening) + self.slots.count(State::Closing) == 0
    }

    /// Connections that are being tested; those that failed and wait for the verdict are not.
    pub(crate) fn under_test(&self) -> u32 {
        self.slots.count(State::Checking) - u32::try_from(self.tester.failed.len()).unwrap_or(0)
    }

    /// Tests the idle connections whose last proof is too old, and a test that was found broken on one of them; or if
    /// all are busy, on the first that no longer is.
    pub(crate) fn check_stale(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.tester.retest_at.is_some_and(|at| at <= now) {
            self.tester.retest(now);
            if self.tester.fresh.is_none()
                && let Some(conn) = self.slots.newest_idle()
            {
                self.ask(now, conn, out);
            }
        }
        if !self.tester.is_on(&self.settings) {
            return;
        }
        while let Some((conn, proven)) = self.slots.stalest_idle() {
            if proven.plus(self.settings.check_interval) > now {
                return;
            }
            self.begin_check(now, conn, out);
        }
    }

    pub(crate) fn check_deadline(&self) -> Tick {
        if let Some(at) = self.tester.retest_at {
            return at;
        }
        if self.settings.check_interval.is_zero() || !self.tester.is_on(&self.settings) || self.is_halted() {
            return Tick::NEVER;
        }
        match self.slots.first_proof() {
            Tick::NEVER => Tick::NEVER,
            proven => proven.plus(self.settings.check_interval),
        }
    }

    pub(crate) fn begin_check(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        self.slots.change(now, conn, State::Checking);
        self.note(now);
        out.push(Action::Check(conn));
    }
}
