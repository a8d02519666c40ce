//! Connections that the driver keeps at hand: it serves requests from them without asking, and tells afterwards.
//!
//! A pool behind a lock is asked by every task of a process. What it would answer is known in advance while nobody
//! waits and nothing is wanting: the connection that was just given back. So the driver may keep that one, hand it out
//! and take it back by itself, as often as it likes, until it returns it by [`Pool::recall`]: before anybody has to
//! wait, before any command, and when it has not been used for a while.

use crate::action::Action;
use crate::{ConnId, Pool, State, Tick};

/// What happened to connections that were lent since it was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were served from them.
    pub acquires: u64,
    /// Leases of theirs that ended.
    pub holds: u64,
    /// Nanoseconds of all those.
    pub hold_time: u64,
    /// How many of them were used at all: no more were in use at once.
    pub connections: u32,
}

impl Pool {
    /// The lease of `conn` ends as by [`Pool::release`], and the driver keeps the connection at hand, if `true`.
    /// Nothing has happened otherwise.
    pub fn lend(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) -> bool {
        let plain = self.slots.state(conn) == Some(State::InUse)
            && self.waiters.len() == 0
            && !self.tester.asks_next
            && self.unwanted(now, conn).is_none()
            && !self.slots.is_expired(now, conn)
            && self.is_content();
        if !plain {
            return false;
        }
        self.lease_ended(now, conn, out);
        self.slots.prove(now, conn);
        self.slots.lend(now, conn);
        self.note(now);
        true
    }

    /// A connection that was lent comes back: idle since `used`, when it was last given back; or, with `leased`, in use
    /// since then.
    pub fn recall(&mut self, now: Tick, conn: ConnId, used: Tick, leased: Option<Tick>) {
        if !self.slots.is_lent(conn) {
            return;
        }
        self.slots.prove(used.min(now), conn);
        self.slots.change(used.min(now), conn, State::Idle);
        if let Some(since) = leased {
            self.slots.change(since.min(now), conn, State::InUse);
        }
        self.note(now);
        if self.slots.is_expired(now, conn) {
            self.slots.retire_expired(now);
        }
    }

    /// Counts what happened to connections while they were lent.
    pub fn credit(&mut self, now: Tick, usage: Usage) {
        self.counts.acquires += usage.acquires;
        self.counts.holds += usage.holds;
        self.counts.hold_time += usage.hold_time;
        self.note_holds(usage.holds, usage.hold_time);
        self.note_used(now, usage.connections);
    }

    /// Whether a connection that was lent may stay so: if not, it must be recalled.
    #[must_use]
    pub fn may_stay_lent(&self, now: Tick, conn: ConnId) -> bool {
        self.waiters.len() == 0
            && self.is_content()
            && !self.slots.is_expired(now, conn)
            && self.will_close(now, conn).is_none()
    }
}
