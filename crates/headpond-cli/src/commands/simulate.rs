//! `headpond simulate FILE`.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use headpond_sizing::scenario::Scenario;
use headpond_sizing::sim::{Report, simulate as run};

/// What to simulate, and how to tell of it.
#[derive(clap::Args)]
pub(crate) struct Simulation {
    /// The scenario: TOML, see docs/sizing.md
    file: PathBuf,
    /// Draw other random numbers than the file says
    #[arg(long)]
    seed: Option<u64>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Runs a scenario in virtual time and tells what came of it.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn simulate(simulation: &Simulation) -> Result<(), String> {
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", simulation.file.display());
    let text = fs::read_to_string(&simulation.file).map_err(|error| about(&error))?;
    let scenario = Scenario::from_toml(&text).map_err(|error| about(&error))?;
    let seed = simulation.seed.unwrap_or(scenario.seed);
    let begun = Instant::now();
    let outcome = run(&scenario, seed);
    let took = begun.elapsed();
    let report = Report::new(&scenario, seed, &outcome);
    if simulation.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        println!("{json}");
    } else {
        print!("{report}");
    }
    let rate = report.pool_events as f64 / took.as_secs_f64();
    eprintln!("{} pool events in {took:.2?}: {rate:.0}/s", report.pool_events);
    Ok(())
}
