//! Time for the machine: nanoseconds since the pool was made.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headpond_core::Tick;
use tokio::time::Instant;

/// How old the round number may become before the next look at the clock replaces it.
const ROUND: Duration = Duration::from_millis(1);

/// The pool's clock. Reading it costs as much as a lease, so leases from a shelf are dated by its last round number.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    coarse: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), coarse: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Tick {
        self.tick(Instant::now())
    }

    /// The last round number: while anything lies on a shelf, no older than the last upkeep.
    #[inline]
    pub(crate) fn coarse(&self) -> Tick {
        Tick(self.coarse.load(Ordering::Relaxed))
    }

    /// Sets the round number, if it has become too old.
    #[inline]
    pub(crate) fn refresh(&self, now: Tick) {
        if now.since(self.coarse()) >= ROUND {
            self.coarse.store(now.0, Ordering::Relaxed);
        }
    }

    /// What the machine calls that moment.
    pub(crate) fn tick(&self, at: Instant) -> Tick {
        Tick(0).plus(at.saturating_duration_since(self.start))
    }

    /// The moment of a tick; `None` if it never comes.
    pub(crate) fn instant(&self, tick: Tick) -> Option<Instant> {
        if tick == Tick::NEVER { None } else { self.start.checked_add(tick.since(Tick(0))) }
    }
}
