//! The console without workers: tables over made-up figures, and conversations over an in-memory stream.

mod conversation;
pub(crate) mod made_up;
mod rights;
mod tables;
