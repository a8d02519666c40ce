//! What a pool shows of itself.

use crate::{CloseReason, PoolSettings, State};

/// Largest values since the marks were last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Connections in use at once.
    pub in_use: u32,
    /// Waiters at once.
    pub waiting: u32,
    /// Connections in any state at once.
    pub open: u32,
    /// The longest wait that ended, in nanoseconds.
    pub wait: u64,
}

/// Counters since the pool was made. `opened` − the sum of `closed` = the connections there are.
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
    /// Waits that ended at `acquire_timeout`.
    pub waits_timed_out: u64,
    /// Waits that the waiter gave up.
    pub waits_withdrawn: u64,
    /// Waits that ended because no connection can be had.
    pub waits_failed: u64,
    /// Requests refused without waiting.
    pub refused: u64,
    /// Logins that failed.
    pub logins_failed: u64,
}

/// A copy of a pool's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// The settings in force.
    pub settings: PoolSettings,
    /// Connections by [`State`] as a number.
    pub by_state: [u32; 8],
    /// Requests queued.
    pub waiting: u32,
    /// High-water marks.
    pub marks: Marks,
    /// Counters.
    pub counts: Counts,
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
}
