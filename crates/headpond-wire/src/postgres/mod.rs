//! PostgreSQL's protocol, versions 3.0 and 3.2 (<https://www.postgresql.org/docs/current/protocol.html>).

pub mod backend;
pub mod encode;
pub mod frame;
pub mod frontend;
pub mod md5;
pub mod scram;
pub mod startup;
