//! What time does to a pool: time-outs, shrinking, lifetimes, tests in the background.

use crate::action::{Action, Refusal};
use crate::alarms::Alarm;
use crate::{CloseReason, Pool, State, Tick};

impl Pool {
    /// When [`Pool::on_timer`] is due next; it may find nothing to do then.
    #[must_use]
    pub fn next_deadline(&self, now: Tick) -> Tick {
        let login = if self.needed() > 0 || self.logins.ceiling() < self.settings.max_size {
            self.logins.next(now)
        } else {
            Tick::NEVER
        };
        self.waiters
            .first_deadline()
            .min(self.idle_deadline())
            .min(self.shrink_deadline())
            .min(self.slots.first_expiry())
            .min(self.check_deadline())
            .min(self.leak_deadline())
            .min(login)
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Tick, out: &mut Vec<Action>) {
        while let Some(left) = self.waiters.pop_overdue(now) {
            self.counts.waits_timed_out += 1;
            self.wait_ended(now, left.since);
            out.push(Action::Refuse { holder: left.holder, why: Refusal::TimedOut });
        }
        while self.idle_deadline() <= now {
            let Some((conn, _)) = self.slots.oldest_idle() else { break };
            self.begin_close(now, conn, CloseReason::IdleTimeout, out);
        }
        if self.shrink_deadline() <= now {
            self.shrink(now, out);
        }
        if self.slots.first_expiry() <= now {
            self.retire_expired(now, out);
        }
        if self.check_deadline() <= now {
            self.check_stale(now, out);
        }
        while self.leak_deadline() <= now {
            let Some((conn, since)) = self.slots.oldest_unreported_lease() else { break };
            self.slots.report(conn);
            self.counts.leaks += 1;
            out.push(Action::Leak { conn, since, ended: false });
        }
        self.logins.on_timer(now, &self.settings);
        if self.logins.ceiling() >= self.settings.max_size {
            self.clear(Alarm::TooManyConnections, out);
        }
        self.open_what_is_needed(now, out);
    }

    /// Idle connections that are too old go once their replacement is there, or if none is needed or possible.
    pub(crate) fn retire_expired(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.slots.retire_expired(now);
        while let Some(conn) = self.slots.oldest_retiring() {
            let short = self.demand() > self.serving();
            let possible = self.slots.count(State::Opening) > 0 || self.slots.total() < self.effective_max();
            if short && possible && self.in_service {
                return;
            }
            self.begin_close(now, conn, CloseReason::MaxLifetime, out);
        }
    }

    /// Half (rounded up) of the connections that were never needed in the interval are closed.
    fn shrink(&mut self, now: Tick, out: &mut Vec<Action>) {
        let unneeded = self.idle_min.div_ceil(2);
        for _ in 0..unneeded {
            let Some((conn, _)) = self.slots.oldest_idle().filter(|_| self.may_shrink()) else { break };
            self.begin_close(now, conn, CloseReason::Shrink, out);
        }
        self.begin_interval(now);
    }

    fn begin_interval(&mut self, now: Tick) {
        self.idle_min = self.slots.count(State::Idle);
        self.shrink_at = now.plus(self.settings.shrink_interval);
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
        if self.settings.shrink_interval.is_zero() || !self.may_shrink() { Tick::NEVER } else { self.shrink_at }
    }

    fn leak_deadline(&self) -> Tick {
        if self.settings.leak_after.is_zero() {
            return Tick::NEVER;
        }
        let oldest = self.slots.oldest_unreported_lease();
        oldest.map_or(Tick::NEVER, |(_, since)| since.plus(self.settings.leak_after))
    }

    /// Whether an idle connection may be closed for want of use.
    pub(crate) fn may_shrink(&self) -> bool {
        self.slots.alive() > self.settings.min_size && self.slots.count(State::Idle) > self.settings.min_idle
    }
}
