//! Time for the machine: nanoseconds since the pool was made.

use std::cell::Cell;
use std::time::Duration;

use headpond_core::Tick;
use tokio::time::Instant;

use crate::sync::atomic::{AtomicU64, Ordering};

/// How old the round number may become before the next look at the clock replaces it.
const ROUND: Duration = Duration::from_millis(1);

/// Whoever looks at the clock no more often than so within a round gets the exact time.
const FEW: u32 = 64;
/// Of those who look more often, one in so many does.
const SHARED: u32 = 16;

thread_local! {
    /// The last round number that this thread has seen, and how often it has looked since.
    static LOOKS: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

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

    /// As [`Clock::now`], but under load only every [`SHARED`]th look is one: between them so little time passes that the
    /// last one serves.
    #[inline]
    pub(crate) fn now_under_load(&self) -> Tick {
        let round = self.coarse.load(Ordering::Relaxed);
        let (seen, looks) = LOOKS.get();
        let looks = if seen == round { looks + 1 } else { 0 };
        LOOKS.set((round, looks));
        if looks > FEW && looks % SHARED != 0 { Tick(round) } else { self.now() }
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
