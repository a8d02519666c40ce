//! How large a connection pool should be, and why.
//!
//! Formulas say it at once, within the limits of their assumptions; the simulator runs the pool's own policy
//! ([`headpond_core`]) in virtual time against a model of a database, and says what they cannot: tails, storms,
//! retries, recovery. Nothing here does I/O or reads a clock, and randomness comes from a seed: the same input has
//! the same answer.
//!
//! Times are seconds, rates are per second, shares lie between 0 and 1.

pub mod advice;
pub mod budgets;
pub mod climb;
pub mod curve;
pub mod forecast;
pub mod measured;
pub mod passive;
pub mod queues;
pub mod scenario;
pub mod sim;
pub mod time;
