//! An async connection pool that is fair, fast, and says why.
//!
//! ```
//! # #[cfg(feature = "rusqlite")]
//! use headpond::{Pool, drivers::Sqlite};
//!
//! # #[cfg(feature = "rusqlite")]
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let folder = tempfile::tempdir()?;
//!     let pool = Pool::builder(Sqlite::open(folder.path().join("shop.db"))).max_size(8).build();
//!     pool.run_blocking(|db| db.execute_batch("CREATE TABLE fish (name TEXT)")).await??;
//!     pool.run_blocking(|db| db.execute("INSERT INTO fish VALUES (?1)", ["trout"])).await??;
//!     let count: i64 = pool
//!         .run_blocking(|db| db.query_row("SELECT count(*) FROM fish", [], |row| row.get(0)))
//!         .await??;
//!     println!("{count} fish; {} acquires", pool.stats().counts.acquires);
//!     Ok(())
//! }
//! # #[cfg(not(feature = "rusqlite"))]
//! # fn main() {}
//! ```
//!
//! # What it does
//!
//! - **First come, first served.** A connection that is given back goes straight to who waits for longest; no newcomer
//!   overtakes, nobody starves.
//! - **Nobody waits for a login of his own.** Connections are opened, tested, reset and closed by tasks of the pool. A
//!   login that hangs keeps nobody from a connection that comes back, and a request that is given up cancels nothing.
//! - **Errors say why** ([`AcquireError`]): who holds what was waited for, since when and where in the program; what the
//!   database said to the last login; that the pool is full, as a type of its own.
//! - **It opens what is needed, no more**, and no more than the server has. Logins that fail are tried again at a pace
//!   that depends on the failure: a wrong password is sent once.
//! - **The test is tested.** When connections fail it and a fresh one does too, nothing is closed, and an alarm raised.
//! - **Everything is counted** ([`Pool::stats`]), and each closed connection has one [reason](CloseReason).
//!
//! The policy is that of the pooler `headpond serve`: the same deterministic machine, [`headpond_core`].
//!
//! Who knows another pool finds its settings beside ours in [`coming_from`].
//!
//! # Cancelling
//!
//! Every future of this crate may be dropped at any time; each says what becomes of what it was about.
//!
//! # Runtimes
//!
//! Tasks run on the tokio runtime that the pool was built in, or else first used in. When that one ends, the next one
//! that uses the pool takes over. A [`Lease`] may be dropped anywhere.
//!
//! # Features
//!
//! `tokio-postgres`, `mysql_async`, `rusqlite`: connectors for these drivers; `bb8`, `deadpool`: for managers written for
//! these pools ([`drivers`]). `tracing` (on by default): what an operator should hear, as events. `metrics`: the figures
//! through that facade.

mod acquire;
mod blocking;
mod builder;
mod clock;
mod connector;
mod door;
pub mod drivers;
mod effects;
mod error;
mod inner;
mod jobs;
mod labels;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "what is told is logged"))]
mod notice;
mod pool;
mod raw;
mod shelf;
mod slot;
mod state;
mod stats;
mod sync;
mod task;
mod upkeep;

#[cfg(all(test, shuttle))]
mod schedules;

#[doc = include_str!("../docs/coming-from.md")]
pub mod coming_from {}

pub use acquire::Acquire;
pub use blocking::Ended;
pub use builder::Builder;
pub use connector::{Connect, Connector, Credentials, Reset};
pub use error::{AcquireError, Holder, LoginError, LoginFailure, PoolFull, Situation, TimedOut};
pub use lease::Lease;
pub use pool::Pool;
pub use stats::Stats;

pub use headpond_core::{
    Alarm, CloseReason, Counts, FailureClass, Marks, PoolFigures, PoolSettings, State, Windows,
};
