//! Claims about the whole process, each tried on a real PostgreSQL through a real Headpond in this process.
//!
//! One PostgreSQL serves all tests; what a test counts there, it counts under a database user of its own.
//! Nothing here is timed: a test waits for a condition, and fails when a generous deadline passes first.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod database;
mod named;
mod pond;
mod raw;
mod secure;

mod auth_query;
mod cancel;
mod cancels;
mod catalogue;
mod checks;
mod console;
mod control;
mod copy;
mod departure;
mod follows;
mod handshake;
mod hba;
mod local;
mod login;
mod lost;
mod methods;
mod nonsense;
mod omero;
mod operator;
mod outage;
mod oversize;
mod pins;
mod prepared;
mod programs;
mod protocol;
mod queries;
mod queue;
mod replication;
mod rights;
mod secrets;
mod session;
mod shutdown;
mod sizes;
mod statement;
mod timeouts;
mod tls;
mod tls_bindings;
mod tls_servers;
mod web;
mod weblogic;
mod womodo;
