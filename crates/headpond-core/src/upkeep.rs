//! What time does to a pool: time-outs, shrinking, lifetimes, tests in the background.

use crate::action::{Action, Refusal};
use crate::{CloseReason, Pool, State, Tick};

impl Pool {
    /// When [`Pool::on_timer`] is due next; it may find nothing to do then.
    #[must_use]
    pub fn next_deadline(&self, now: Tick) -> Tick {
        self.waiters
            .first_deadline()
            .min(self.idle_deadline())
            .min(self.shrink_deadline())
            .min(self.lifetime_deadline())
            .min(self.check_deadline())
            .min(self.leak_deadline())
            .min(self.login_deadline())
            .min(self.alarms.deadline())
            .min(if self.lacks_place_for_fresh() { now } else { Tick::NEVER })
            .max(now)
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Tick, out: &mut Vec<Action>) {
        while let Some(left) = self.waiters.pop_overdue(now) {
            self.counts.waits_timed_out += 1;
            let waited = self.wait_ended(now, left.since);
            out.push(Action::Refuse { holder: left.holder, why: Refusal::TimedOut, waited });
        }
        while self.idle_deadline() <= now {
            let Some((conn, _)) = self.slots.oldest_idle() else { break };
            self.begin_close(now, conn, CloseReason::IdleTimeout, out);
        }
        if self.shrink_deadline() <= now {
            self.shrink(now, out);
        }
        if self.slots.first_expiry() <= now {
            self.slots.retire_expired(now);
        }
        if self.check_deadline() <= now {
            self.check_stale(now, out);
        }
        while self.leak_deadline() <= now {
            let oldest = self.slots.oldest_unreported_lease();
            let is_due = |since: Tick| since.plus(self.settings.leak_after) <= now;
            let Some((conn, since)) = oldest.filter(|(_, since)| is_due(*since)) else { break };
            self.slots.report(conn);
            self.counts.leaks += 1;
            out.push(Action::Leak { conn, since, ended: false });
            if self.settings.leak_reclaim && !planted!(ReclaimUntold) {
                out.push(Action::Reclaim(conn));
            }
        }
        if self.alarms.is_due(now) {
            self.judge_rates(now, out);
        }
        self.logins.on_timer(now, &self.settings);
        self.judge_ceiling(out);
        self.advance(now, out);
    }

    /// Idle connections that are too old go once their replacement is there, or if none is needed or possible.
    pub(crate) fn close_retired(&mut self, now: Tick, out: &mut Vec<Action>) {
        while self.may_close_retired()
            && let Some(conn) = self.slots.oldest_retiring()
        {
            self.begin_close(now, conn, CloseReason::MaxLifetime, out);
        }
    }

    fn may_close_retired(&self) -> bool {
        if self.slots.retiring() == 0 {
            return false;
        }
        let replaced = self.demand() <= self.serving() || planted!(ClosedBeforeReplaced);
        let coming = self.slots.count(State::Opening) + self.slots.count(State::Closing);
        replaced || coming == 0 && self.room() == 0
    }

    /// Half (rounded up) of the connections that were never needed in the interval are closed, the floors respected.
    fn shrink(&mut self, now: Tick, out: &mut Vec<Action>) {
        let unneeded = self.unneeded_min;
        let half = if planted!(ShrinksAll) { unneeded } else { unneeded.div_ceil(2) };
        for _ in 0..half {
            let Some((conn, _)) = self.slots.oldest_idle().filter(|_| self.may_shrink()) else { break };
            self.begin_close(now, conn, CloseReason::Shrink, out);
        }
        self.begin_interval(now);
    }

    pub(crate) fn begin_interval(&mut self, now: Tick) {
        self.unneeded_min = self.unneeded();
        self.shrink_at = now.plus(self.settings.shrink_interval);
    }

    /// Idle connections, and those that are tested though nobody waits for them.
    pub(crate) fn unneeded(&self) -> u32 {
        (self.slots.count(State::Idle) + self.slots.count(State::Checking)).saturating_sub(self.waiters.len())
    }

    fn idle_deadline(&self) -> Tick {
        match self.slots.oldest_idle() {
            Some((_, since)) if !self.settings.idle_timeout.is_zero() && self.may_shrink() => {
                since.plus(self.settings.idle_timeout)
            }
            _ => Tick::NEVER,
        }
    }

    fn shrink_deadline(&self) -> Tick {
        let never = self.settings.shrink_interval.is_zero() || self.slots.count(State::Idle) == 0;
        if never { Tick::NEVER } else { self.shrink_at }
    }

    fn lifetime_deadline(&self) -> Tick {
        if self.may_close_retired() { Tick(0) } else { self.slots.first_expiry() }
    }

    fn login_deadline(&self) -> Tick {
        let ceiling = self.logins.ceiling();
        let raise = if ceiling < self.settings.max_size { self.logins.ceiling_ends() } else { Tick::NEVER };
        if self.needed() == 0 {
            return raise;
        }
        raise.min(self.logins.next(&self.settings, self.slots.count(State::Opening)))
    }

    fn leak_deadline(&self) -> Tick {
        if self.settings.leak_after.is_zero() {
            return Tick::NEVER;
        }
        self.slots.first_lease().plus(self.settings.leak_after)
    }

    /// Whether an idle connection may be closed for want of use.
    pub(crate) fn may_shrink(&self) -> bool {
        self.slots.established() > self.settings.min_size
            && (self.slots.count(State::Idle) > self.settings.min_idle || planted!(HeadroomTimesOut))
    }
}
