//! The whole pooler in virtual time: clients, networks and servers drawn from one seed, faults included.
//!
//! `HEADPOND_SEED=n` runs one schedule, `HEADPOND_SEEDS=n` that many; a failure names its seed.

mod claims;
mod client;
mod dice;
mod marked;
mod net;
mod peer;
mod schedule;
mod script;
mod server;
mod world;

use std::collections::BTreeMap;
use std::time::Instant;

/// Schedules of an ordinary run.
const SEEDS: u64 = 1_000;

#[test]
fn every_client_gets_its_own_answers_and_nothing_else() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match (number("HEADPOND_SEED"), number("HEADPOND_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(SEEDS),
    };
    let (begun, count) = (Instant::now(), seeds.end - seeds.start);
    let mut coverage = BTreeMap::<&str, u64>::new();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| schedule::run(seed));
        let Ok(seen) = outcome else {
            panic!("HEADPOND_SEED={seed} cargo test -p headpond-pooler --test sim");
        };
        for (what, times) in seen {
            *coverage.entry(what).or_default() += times;
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} schedules, {rate:.0} per second: {coverage:?}");
}
