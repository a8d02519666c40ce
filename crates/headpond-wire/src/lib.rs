//! Wire protocols as a pooler needs them: frames, messages and logins, for both roles.
//!
//! Nothing here does I/O, reads a clock or draws a random number, and bytes from a peer never panic.

pub mod postgres;
