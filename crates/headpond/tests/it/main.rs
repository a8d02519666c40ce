//! What the pool promises, in virtual time, on a server that does as it is told.

mod cancel;
mod faults;
mod leases;
mod server;
mod waiting;
