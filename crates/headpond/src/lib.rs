//! An async connection pool that is fair, fast, and says why.

mod acquire;
mod builder;
mod clock;
mod connector;
mod effects;
mod error;
mod inner;
mod jobs;
mod labels;
mod lease;
mod notice;
mod pool;
mod raw;
mod shelf;
mod slot;
mod state;
mod stats;
mod sync;
mod upkeep;

pub use acquire::Acquire;
pub use builder::Builder;
pub use connector::{Connect, Connector, Credentials, Reset};
pub use error::{AcquireError, Holder, LoginError, LoginFailure, PoolFull, Situation, TimedOut};
pub use lease::Lease;
pub use pool::Pool;
pub use stats::Stats;

pub use headpond_core::{Alarm, CloseReason, Counts, FailureClass, Marks, PoolFigures, PoolSettings, State, Windows};
