//! What a connection pool decides, as one deterministic machine.
//!
//! Calls come in with an explicit [`Tick`], [`Action`]s go out. The machine does no I/O, reads no clock,
//! spawns nothing, draws randomness only from the seed it is given, and has never heard of a database.
//!
//! ```
//! use headpond_core::{Acquired, Action, Pool, PoolSettings, Tick};
//!
//! let settings = PoolSettings { max_size: 1, ..PoolSettings::on_demand() };
//! let mut pool = Pool::new(settings, 7);
//! let mut actions = Vec::new();
//!
//! // Nothing is open yet: the first request waits, and the pool asks for a connection.
//! assert!(matches!(pool.acquire(Tick(0), 42, &mut actions), Acquired::Queued(_)));
//! let Some(Action::Open(conn)) = actions.pop() else { panic!("a login was expected") };
//!
//! // The login succeeded: the oldest waiter gets it.
//! pool.opened(Tick(1_000), conn, &mut actions);
//! assert_eq!(actions.pop(), Some(Action::Grant { holder: 42, conn, waited: 1_000 }));
//! ```

mod figures;
mod ids;
mod pool;
mod settings;
mod slots;
mod tick;
mod waiters;

#[cfg(test)]
mod tests;

pub use figures::{Counts, Marks, PoolFigures};
pub use ids::{ConnId, WaiterId};
pub use pool::{Acquired, Action, FailureClass, Pool, Refusal};
pub use settings::PoolSettings;
pub use slots::{CloseReason, State};
pub use tick::Tick;
