//! Connectors for drivers, each behind the feature of its driver's name, and for the managers of other pools.

#[cfg(feature = "bb8")]
mod bb8;
#[cfg(feature = "deadpool")]
mod deadpool;
#[cfg(feature = "mysql_async")]
mod mysql;
#[cfg(feature = "tokio-postgres")]
mod postgres;
#[cfg(feature = "rusqlite")]
mod sqlite;

#[cfg(feature = "bb8")]
pub use bb8::{FromBb8, Shown};
#[cfg(feature = "deadpool")]
pub use deadpool::FromDeadpool;
#[cfg(feature = "mysql_async")]
pub use mysql::Mysql;
#[cfg(feature = "tokio-postgres")]
pub use postgres::Postgres;
#[cfg(feature = "rusqlite")]
pub use sqlite::{Sqlite, SqliteError};

/// When a session is made like new.
#[cfg(any(feature = "mysql_async", feature = "tokio-postgres", feature = "deadpool"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetWhen {
    /// After each lease, on a task of the pool: a round trip, which nobody waits for while other connections are idle.
    Always,
    /// When its holder says so ([`Lease::taint`](crate::Lease::taint)).
    Tainted,
}
