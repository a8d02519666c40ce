//! The Headpond process around the pooler machine.

pub mod config;
