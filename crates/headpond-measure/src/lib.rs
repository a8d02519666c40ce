//! Measures a database, for [`headpond_sizing`]: by a guarded load experiment of our own, or by two looks at a pooler in
//! production.
//!
//! What is measured next and when to stop is decided by [`headpond_sizing::climb`], without I/O; here are sockets and
//! clocks. The same [`Target`] serves connections of a pool, so that what an experiment promised can be verified.

mod experiment;
mod load;
pub mod machine;
mod mysql;
mod postgres;
mod script;
mod target;
pub mod watch;

pub use experiment::{Options, Progress, SAME_PACE, experiment};
pub use mysql::Mysql;
pub use postgres::Postgres;
pub use script::{Script, Step};
pub use target::{Failure, Server, Target};
