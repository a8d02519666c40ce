//! For how long connections stay with their clients past the end of a transaction, and how much of that they idle.
//!
//! Pins change here and nowhere else, so that those that began less those that ended are those there are.

use headpond_core::Tick;

use crate::action::{Actions, ClientId, Report, ServerId};
use crate::figures::{Pinned, Traffic};
use crate::pooler::Pooler;
use crate::session::sequences::PATIENCE;
use crate::session::{Pins, Session};
use crate::text::Effects;
use crate::timers::Timer;

/// What a pool counts of pins since it was made, by reason in the order of [`Pins::NAMES`].
#[derive(Debug, Default)]
pub(crate) struct Pinnings {
    pub(crate) begun: [u64; Pins::COUNT],
    pub(crate) ended: [u64; Pins::COUNT],
    /// Nanoseconds in which connections were pinned that no longer are.
    pub(crate) time: u64,
    /// It was said that there is an opaque one.
    told: bool,
}

impl Session {
    /// These are its pins from now on.
    pub(super) fn pin(&mut self, now: Tick, pins: Pins, pool: &mut Pinnings) {
        let before = std::mem::replace(&mut self.pins, pins);
        if before == pins {
            return;
        }
        count(&mut pool.begun, pins.without(before));
        count(&mut pool.ended, before.without(pins));
        if before.is_empty() {
            (self.pinned, self.transactions) = (now, 0);
        }
        if pins.is_empty() {
            pool.time += now.0.saturating_sub(self.pinned.0);
        }
    }

    /// What pins it to its client, if anything does.
    pub(crate) fn pinned(&self) -> Option<Pinned> {
        let (since, transactions) = (self.pinned, self.transactions);
        (!self.pins.is_empty()).then_some(Pinned { pins: self.pins, since, transactions })
    }

    /// Nanoseconds in which it has waited for its client so far, outside a transaction.
    pub(crate) fn idle_for(&self, now: Tick) -> u64 {
        self.idle.map_or(0, |since| now.0.saturating_sub(since.0))
    }

    /// It waits for its client no more.
    #[inline]
    pub(crate) fn resumes(&mut self, now: Tick, traffic: &mut Traffic) {
        if self.idle.is_some() {
            traffic.idle_time += self.idle_for(now);
            self.idle = None;
        }
    }
}

impl Pooler {
    /// A connection stays with its client: if it is at rest, it waits for it from now on.
    pub(crate) fn stayed(&mut self, now: Tick, id: ServerId, client_id: ClientId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id).filter(|server| server.is_clean()) else { return };
        let (pool, session) = (server.pool, &mut server.session);
        session.idle.get_or_insert(now);
        if session.pins == Pins::SEQUENCE && !std::mem::replace(&mut session.is_watched, true) {
            self.timers.set(now.plus(PATIENCE), Timer::Sequences(id));
        }
        if !session.pins.has(Pins::OPAQUE)
            || std::mem::replace(&mut self.pools[pool as usize].pinnings.told, true)
        {
            return;
        }
        if let Some(client) = self.clients.get(client_id) {
            out.report(Report::Opaque { pool: self.pool_title(pool), client: self.describe(client) });
        }
    }

    /// A connection is no longer its client's. What pinned it is still there, and known no more.
    pub(crate) fn unpin(&mut self, now: Tick, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (entry, session) = (&mut self.pools[server.pool as usize], &mut server.session);
        session.resumes(now, &mut entry.traffic);
        if session.pins.has(Pins::LOADS) {
            session.touched |= Effects::LOADS;
        }
        if !session.pins.is_empty() {
            session.touched |= Effects::OPAQUE;
        }
        session.pin(now, Pins::NONE, &mut entry.pinnings);
    }
}

fn count(counts: &mut [u64; Pins::COUNT], pins: Pins) {
    for (count, (pin, _)) in counts.iter_mut().zip(Pins::ALL) {
        *count += u64::from(pins.has(*pin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_begun_less_those_ended_are_those_there_are_and_their_time_has_no_gap() {
        let (mut session, mut pool) = (Session::default(), Pinnings::default());
        session.pin(Tick(10), Pins::TEMP, &mut pool);
        session.transaction_over();
        session.pin(Tick(20), Pins::TEMP.with(Pins::LISTENS), &mut pool);
        session.pin(Tick(30), Pins::LISTENS, &mut pool);
        let pinned = Pinned { pins: Pins::LISTENS, since: Tick(10), transactions: 1 };
        assert_eq!((session.pinned(), pool.time), (Some(pinned), 0));
        session.pin(Tick(40), Pins::NONE, &mut pool);
        assert_eq!((session.pinned(), pool.time), (None, 30));
        session.pin(Tick(50), Pins::TEMP, &mut pool);
        session.pin(Tick(55), Pins::TEMP, &mut pool);
        let pinned = Pinned { pins: Pins::TEMP, since: Tick(50), transactions: 0 };
        assert_eq!((session.pinned(), pool.time), (Some(pinned), 30));
        let mut begun = [0; Pins::COUNT];
        (begun[0], begun[2]) = (2, 1);
        let mut ended = [0; Pins::COUNT];
        (ended[0], ended[2]) = (1, 1);
        assert_eq!((pool.begun, pool.ended), (begun, ended));
    }

    #[test]
    fn a_connection_idles_from_its_rest_to_the_next_request() {
        let (mut session, mut traffic) = (Session::default(), Traffic::default());
        session.resumes(Tick(10), &mut traffic);
        assert_eq!((session.idle_for(Tick(10)), traffic.idle_time), (0, 0));
        session.idle = Some(Tick(10));
        assert_eq!((session.idle_for(Tick(15)), traffic.idle_time), (5, 0));
        session.resumes(Tick(20), &mut traffic);
        session.resumes(Tick(30), &mut traffic);
        assert_eq!((session.idle_for(Tick(30)), traffic.idle_time), (0, 10));
    }
}
