//! The `headpond` command: reads what was typed, and leaves the rest to the library crates.

mod commands;
mod limits;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A connection pool in front of PostgreSQL.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients. Without CONFIG: in front of a private PostgreSQL that it starts itself
    Serve {
        /// Headpond's TOML, or a pgbouncer.ini taken as it is
        config: Option<PathBuf>,
    },
    /// Say what is wrong with a configuration, or nothing
    Check {
        /// Headpond's TOML, or a pgbouncer.ini
        config: PathBuf,
    },
    /// More clients at once than a private PostgreSQL accepts, with and without the pool
    Demo(commands::demo::Size),
    /// Run the pool's policy in virtual time against a model of a database, applications and what happens to them
    Simulate(commands::simulate::Simulation),
    /// Say how large a pool should be, with intervals and reasons; exit code 3 if no size will do
    Size(Box<commands::size::Load>),
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Command::Serve { config } => commands::serve::serve(config.as_deref()).map(done),
        Command::Check { config } => commands::check::check(&config).map(done),
        Command::Demo(size) => commands::demo::demo(&size).map(done),
        Command::Simulate(simulation) => commands::simulate::simulate(&simulation).map(done),
        Command::Size(load) => commands::size::size(&load),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("headpond: {message}");
            ExitCode::FAILURE
        }
    }
}
