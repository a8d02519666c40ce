//! What a pool shows of itself.

use crate::alarms::Alarm;
use crate::{CloseReason, ConnId, Pool, PoolSettings, State, Tick, Windows};

/// Counters since the pool was made. `opened` − the sum of `closed` = the connections there are, those on their
/// way out left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections begun, failed logins included.
    pub opened: u64,
    /// Connections gone or going, by [`CloseReason`] as a number.
    pub closed: [u64; CloseReason::ALL.len()],
    /// Requests for a connection.
    pub acquires: u64,
    /// Requests that had to queue.
    pub waits: u64,
    /// Waits that ended with a connection.
    pub waits_granted: u64,
    /// Waits that ended at their deadline.
    pub waits_timed_out: u64,
    /// Waits that the waiter gave up.
    pub waits_withdrawn: u64,
    /// Waits that ended because no connection can be had.
    pub waits_failed: u64,
    /// Requests refused without waiting.
    pub refused: u64,
    /// Logins that failed.
    pub logins_failed: u64,
    /// Leases that ended.
    pub holds: u64,
    /// Nanoseconds of all leases that ended.
    pub hold_time: u64,
    /// Leases that were reported as too long.
    pub leaks: u64,
}

/// A copy of a pool's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// The settings in force.
    pub settings: PoolSettings,
    /// The most connections there may be at present: `max_size`, or what the server allows if that is less.
    pub effective_max: u32,
    /// Connections by [`State`] as a number.
    pub by_state: [u32; 8],
    /// Requests queued.
    pub waiting: u32,
    /// High-water marks.
    pub marks: Windows,
    /// Nanoseconds for which so many connections were in use, by their number.
    pub levels: Vec<u64>,
    /// Counters.
    pub counts: Counts,
    /// Which alarms are raised, by [`Alarm`] as a number.
    pub alarms: [bool; Alarm::ALL.len()],
    /// Why most connections were closed, of the alarms of rates that are raised; by [`Alarm`] as a number.
    pub causes: [Option<CloseReason>; Alarm::ALL.len()],
}

impl PoolFigures {
    /// How many connections are in `state`.
    #[must_use]
    pub fn count(&self, state: State) -> u32 {
        self.by_state[state as usize]
    }

    /// Connections in any state.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.by_state.iter().sum()
    }

    /// Nanoseconds of all leases, up to now.
    #[must_use]
    pub fn time_in_use(&self) -> u64 {
        let times = (0_u64..).zip(&self.levels).map(|(connections, time)| connections.saturating_mul(*time));
        times.fold(0, u64::saturating_add)
    }

    /// The alarms that are raised, each with the reason for which most connections were closed, if it is about that.
    pub fn raised(&self) -> impl Iterator<Item = (Alarm, Option<CloseReason>)> {
        let all = Alarm::ALL.into_iter().zip(self.causes);
        all.filter(|(alarm, _)| self.is_raised(*alarm))
    }

    /// Whether an alarm is raised.
    #[must_use]
    pub fn is_raised(&self, alarm: Alarm) -> bool {
        self.alarms[alarm as usize]
    }
}

impl Pool {
    /// The state of a connection; `None` once it is gone.
    #[must_use]
    pub fn state(&self, conn: ConnId) -> Option<State> {
        self.slots.state(conn)
    }

    /// Why a connection will be closed as soon as it comes to rest, as far as is known now.
    #[must_use]
    pub fn will_close(&self, now: Tick, conn: ConnId) -> Option<CloseReason> {
        let state = self.slots.state(conn)?;
        let rules = [
            (self.draining, CloseReason::Shutdown),
            (self.suspended, CloseReason::Suspended),
            (self.fenced, CloseReason::Fenced),
            (self.slots.is_outdated(conn), self.outdated_by),
            (self.slots.is_expired(now, conn), CloseReason::MaxLifetime),
        ];
        let first = rules.into_iter().find(|(applies, _)| *applies && state != State::Closing);
        first.map(|(_, reason)| reason)
    }

    /// Connections in any state.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.slots.total()
    }

    /// Connections that are idle.
    #[must_use]
    pub fn idle(&self) -> u32 {
        self.slots.count(State::Idle)
    }

    /// Requests queued.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiters.len()
    }

    /// Whose request is the oldest in the queue.
    #[must_use]
    pub fn oldest_waiter(&self) -> Option<u64> {
        self.waiters.oldest().map(|left| left.holder)
    }

    /// Since when the oldest waiter waits.
    #[must_use]
    pub fn oldest_wait(&self) -> Option<Tick> {
        self.waiters.oldest().map(|left| left.since)
    }

    /// A number that changes when requests come, leases end, and connections come or go.
    #[must_use]
    pub fn happened(&self) -> u64 {
        let Counts { opened, acquires, holds, waits_granted, waits_timed_out, waits_withdrawn, .. } =
            self.counts;
        let waits = waits_granted + waits_timed_out + waits_withdrawn + self.counts.waits_failed;
        opened + acquires + holds + waits + self.counts.closed.iter().sum::<u64>()
    }

    /// A copy of the numbers.
    #[must_use]
    pub fn figures(&self, now: Tick) -> PoolFigures {
        PoolFigures {
            settings: self.settings.clone(),
            effective_max: self.effective_max(),
            by_state: self.slots.counts(),
            waiting: self.waiters.len(),
            marks: self.gauge.windows(now),
            levels: self.gauge.levels(now),
            counts: self.counts,
            alarms: self.alarms.raised(),
            causes: self.alarms.causes(),
        }
    }

    /// Starts the high-water marks "since the last reset" anew from the present values.
    pub fn reset_marks(&mut self) {
        self.gauge.reset();
    }
}
