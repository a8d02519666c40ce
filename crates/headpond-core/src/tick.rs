//! Time as the machines see it: a number that only grows.

use std::time::Duration;

/// Nanoseconds since the driver started. Drivers make it from a monotonic clock, simulations count it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The end of time: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `after` this one; saturates at [`Tick::NEVER`].
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        let whole = after.as_secs().saturating_mul(1_000_000_000);
        Self(self.0.saturating_add(whole).saturating_add(u64::from(after.subsec_nanos())))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
