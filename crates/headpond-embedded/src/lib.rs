//! A private PostgreSQL server that ends with its parent, and a MariaDB server for tests and measurements.
//!
//! [`Postgres::start`] makes a cluster in a temporary folder and serves it on 127.0.0.1 and on a Unix socket; dropping
//! the value, or the death of the process that owns it by any means, stops the server and removes the folder. The
//! data is worth nothing afterwards, so nothing is synced to disk.
//!
//! The crate knows no SQL and opens no database connection: readiness is read from `postmaster.pid`.

mod error;
mod installation;
mod mariadb;
mod owner;
mod port;
mod postgres;
mod watcher;

pub use error::Error;
pub use installation::Installation;
pub use mariadb::Mariadb;
pub use postgres::{Auth, Options, Postgres, StopMode};
