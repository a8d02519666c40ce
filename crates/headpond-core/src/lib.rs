//! What a connection pool decides, as one deterministic machine.
//!
//! Calls come in with an explicit [`Tick`], [`Action`]s go out. The machine does no I/O, reads no clock,
//! spawns nothing, draws randomness only from the seed it is given, and has never heard of a database.
//!
//! ```
//! use headpond_core::{Acquired, Action, Pool, PoolSettings, Request, Tick};
//!
//! let settings = PoolSettings { max_size: 1, check: false, ..PoolSettings::on_demand() };
//! let mut pool = Pool::new(settings, 7);
//! let mut actions = Vec::new();
//!
//! // Nothing is open yet: the first request waits, and the pool asks for a connection.
//! assert!(matches!(pool.acquire(Tick(0), Request::of(42), &mut actions), Acquired::Queued(_)));
//! let Some(Action::Open(conn)) = actions.pop() else { panic!("a login was expected") };
//!
//! // The login succeeded: the oldest waiter gets it.
//! pool.opened(Tick(1_000), conn, &mut actions);
//! assert_eq!(actions.pop(), Some(Action::Grant { holder: 42, conn, waited: 1_000 }));
//! ```

/// Whether a fault is planted here, for the test suite to find: outside the tests, never.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        crate::tests::bugs::is_planted(crate::tests::bugs::Bug::$bug)
    };
}
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

mod action;
mod alarms;
mod checks;
mod commands;
mod figures;
mod growth;
mod ids;
mod lending;
mod logins;
mod marks;
mod pool;
mod settings;
mod slots;
mod states;
mod tester;
mod tick;
mod upkeep;
mod waiters;

#[cfg(test)]
mod tests;

pub use action::{Acquired, Action, FailureClass, Refusal, Request};
pub use alarms::Alarm;
pub use figures::{Counts, PoolFigures};
pub use ids::{ConnId, WaiterId};
pub use lending::Usage;
pub use marks::{Marks, Windows};
pub use pool::Pool;
pub use settings::PoolSettings;
pub use states::{CloseReason, State};
pub use tick::Tick;

/// Two connections that hear within this time that the server goes speak for all of them.
pub const FAREWELLS_TOGETHER: std::time::Duration = std::time::Duration::from_millis(100);
