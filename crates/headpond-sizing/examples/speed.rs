//! How many calls into the policy the simulator makes in a second of one core, with few requests waiting and with many.
//!
//! `cargo run --release -p headpond-sizing --example speed`

use std::error::Error;
use std::time::Instant;

use headpond_sizing::scenario::{Arrivals, Scenario};
use headpond_sizing::sim::simulate;

fn main() -> Result<(), Box<dyn Error>> {
    let mut scenario = Scenario::from_toml(include_str!("../scenarios/spike.toml"))?;
    scenario.duration = 1000.0;
    scenario.events.clear();
    for rate in [150.0, 600.0, 900.0, 990.0] {
        scenario.applications[0].arrivals = Arrivals::Open { rate, profile: Vec::new(), dispersion: 1.0 };
        let begun = Instant::now();
        let outcome = simulate(&scenario, 1);
        let each = begun.elapsed().as_secs_f64() / outcome.pool_events as f64;
        println!("{rate} requests/s: {} calls, {:.2} million a second", outcome.pool_events, 1e-6 / each);
    }
    Ok(())
}
