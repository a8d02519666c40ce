//! A PostgreSQL pooler as one machine without I/O.
//!
//! [`Pooler`] knows clients, server connections, the exchanges between them, and one policy machine
//! ([`headpond_core::Pool`]) for each pool. Its driver owns the sockets: it says what became readable, hands
//! over bytes, and carries out the [`Action`]s it is given. Time comes in with every call, randomness as a
//! seed, so that a whole day of clients and faulty networks repeats from one number.

/// Whether a fault is planted here, for the simulation to find: outside the tests, never.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        crate::sim::bugs::is_planted(crate::sim::bugs::Bug::$bug)
    };
}
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

mod aborted;
mod access;
mod action;
mod budget;
mod cancel;
mod client;
mod client_login;
pub mod config;
mod connections;
mod control;
mod derivations;
mod endings;
mod exchange;
mod farewell;
pub mod figures;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hangup;
mod kind;
mod lease;
mod lookup;
mod lost;
mod oversize;
mod pooler;
mod proof;
mod recover;
mod refuse;
mod replies;
mod reports;
mod requests;
mod reset;
mod server;
mod server_auth;
mod server_login;
mod session;
mod settings;
mod show;
#[cfg(test)]
mod sim;
mod startups;
mod statements;
mod table;
mod text;
mod timeouts;
mod timers;
mod tls;
mod users;
mod verdicts;

pub use action::{Action, Actions, CancelId, ClientId, Link, Report, ServerId};
pub use budget::{Budgets, Permits};
pub use pooler::Pooler;
pub use proof::{ANSWER_MAX, Learned, LearnedKeys, Outcome, Proof};
pub use table::Id;
pub use tls::{NoTls, Tls};
