//! What the pool promises, in virtual time, on a server that does as it is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cancel;
mod coming_from;
mod faults;
mod figures;
mod leases;
mod server;
mod waiting;
