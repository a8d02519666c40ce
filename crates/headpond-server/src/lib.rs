//! The Headpond process around the pooler machine: sockets, configuration, console, HTTP, metrics, signals.

pub mod config;
pub mod console;
pub mod control;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod logs;
pub mod metrics;
mod names;
pub mod process;
pub mod tls;
mod worker;
