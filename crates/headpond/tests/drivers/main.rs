//! The drivers, on real servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(all(feature = "bb8", feature = "deadpool"))]
mod adapters;
#[cfg(feature = "rusqlite")]
mod examples;
#[cfg(feature = "mysql_async")]
mod mysql;
#[cfg(feature = "tokio-postgres")]
mod postgres;
#[cfg(feature = "rusqlite")]
mod sqlite;
