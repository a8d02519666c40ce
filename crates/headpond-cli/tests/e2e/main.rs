//! Claims about the program `headpond`: what it logs, and what becomes of one process when another is killed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod files;
mod leaks;
mod ledger;
mod measures;
#[cfg(feature = "calibrate")]
mod measures_mariadb;
mod members;
mod program;
mod sizes;
