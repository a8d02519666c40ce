//! What an operator sets on a pool.

use std::time::Duration;

/// The policy of one pool. Sizes are connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// The most connections in any state, opening and closing ones included: at least 1.
    pub max_size: u32,
    /// A released connection that would make more than this many idle is closed at once, never below `min_size`.
    pub max_idle: u32,
    /// Headroom: at least this many are kept idle while `max_size` allows.
    pub min_idle: u32,
    /// Connections opened at start.
    pub initial_size: u32,
    /// Shrinking never goes below this many.
    pub min_size: u32,
    /// An idle connection unused for this long is closed, the floors respected; zero: never.
    pub idle_timeout: Duration,
    /// Every interval, half (rounded up) of the connections that were never needed in it are closed; zero: never.
    pub shrink_interval: Duration,
    /// A waiter older than this is refused; zero: it waits for ever.
    pub acquire_timeout: Duration,
    /// The most waiters; one more is refused at once.
    pub max_waiters: u32,
    /// Whether connections are tested at all: before they are handed out, and in the background.
    pub check: bool,
    /// A connection that was proven good within this time is handed out untested.
    pub trust_window: Duration,
    /// An idle connection is tested in the background when its last proof is this old; zero: never.
    pub check_interval: Duration,
    /// A connection older than this (less up to 15 %, drawn once) is replaced when it is next idle; zero: never.
    pub max_lifetime: Duration,
    /// The most logins in flight at once: at least 1.
    pub max_logins: u32,
    /// At least this long between the beginnings of two logins.
    pub login_delay: Duration,
    /// After a failed login, the wait before the next try doubles up to this.
    pub login_retry: Duration,
    /// So many logins failed in a row, none for want of a server or of its connections, and no connection is left:
    /// those who wait are told at once; zero: only if trying again is pointless.
    pub login_attempts: u32,
    /// A lease older than this is reported, once; zero: never.
    pub leak_after: Duration,
    /// Whether a lease that is reported is also taken back.
    pub leak_reclaim: bool,
    /// The idle connection that was used longest ago is used next, rather than the one that was used last.
    pub round_robin: bool,
    /// Prepared statements kept on each connection: carried for the driver, the policy does not look at it.
    pub statement_cache_size: u32,
}

impl PoolSettings {
    /// The defaults of a pool that the configuration names.
    #[must_use]
    pub fn named() -> Self {
        Self {
            max_size: 100,
            max_idle: 80,
            min_idle: 10,
            initial_size: 10,
            min_size: 10,
            idle_timeout: Duration::from_secs(300),
            shrink_interval: Duration::from_secs(900),
            acquire_timeout: Duration::from_secs(30),
            max_waiters: 10_000,
            check: true,
            trust_window: Duration::from_secs(30),
            check_interval: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(3600),
            max_logins: 4,
            login_delay: Duration::ZERO,
            login_retry: Duration::from_secs(1),
            login_attempts: 0,
            leak_after: Duration::ZERO,
            leak_reclaim: false,
            round_robin: false,
            statement_cache_size: 200,
        }
    }

    /// The defaults of a pool made on demand (a wildcard), and of one from a `pgbouncer.ini`: no floors.
    #[must_use]
    pub fn on_demand() -> Self {
        Self { max_size: 20, max_idle: 20, min_idle: 0, initial_size: 0, min_size: 0, ..Self::named() }
    }
}
