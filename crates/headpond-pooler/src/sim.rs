//! The whole pooler in virtual time: clients, networks and servers drawn from one seed, faults included.
//!
//! `HEADPOND_SEED=n` runs one schedule, `HEADPOND_SEEDS=n` that many, both together that many from there on; a
//! failure names its seeds.

pub(crate) mod bugs;
mod cells;
mod claims;
mod client;
pub(crate) mod dice;
pub(crate) mod direct;
pub(crate) mod marked;
mod net;
mod peer;
mod schedule;
mod script;
mod server;
mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use self::cells::Cells;

/// Schedules of an ordinary run.
const SEEDS: u64 = 1_000;

/// Schedules after which a long run says how far it is.
const PROGRESS: u64 = 10_000;

/// Failures after which a run gives up.
const FAILURES: usize = 20;

#[test]
fn every_client_gets_its_own_answers_and_nothing_else() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, count) = match (number("HEADPOND_SEED"), number("HEADPOND_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    let begun = Instant::now();
    let mut coverage = BTreeMap::<&str, u64>::new();
    let mut cells = Cells::new();
    let (mut exchanges, mut at_once, mut failed) = (0, 0, Vec::new());
    for seed in first..first + count {
        match std::panic::catch_unwind(|| schedule::run(seed)) {
            Ok(seen) => {
                seen.coverage
                    .into_iter()
                    .for_each(|(what, times)| *coverage.entry(what).or_default() += times);
                seen.cells.into_iter().for_each(|(cell, times)| *cells.entry(cell).or_default() += times);
                exchanges += seen.exchanges;
                at_once += u64::from(seen.serving >= 2);
            }
            Err(_) => {
                eprintln!("HEADPOND_SEED={seed} cargo test -p headpond-pooler sim::every_client");
                failed.push(seed);
            }
        }
        assert!(failed.len() < FAILURES, "violations: {failed:?}");
        let done = seed - first + 1;
        if done.is_multiple_of(PROGRESS) {
            eprintln!("{done} of {count} schedules");
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} schedules, {rate:.0} per second, {exchanges} exchanges: {coverage:?}");
    if std::env::var_os("HEADPOND_CELLS").is_some() {
        cells.iter().for_each(|((session, server, event), times)| {
            println!("cell {times} | {session} | {server} | {event}");
        });
    }
    if std::env::var_os("UPDATE_CELLS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sim/cells.txt");
        std::fs::write(path, cells::table(&cells, count)).expect("a table that can be written");
    }
    assert_eq!(failed, [], "violations");
    if count >= SEEDS {
        assert!(exchanges >= 50 * count, "{exchanges} exchanges");
        assert!(at_once >= count * 7 / 10, "two servers at once in {at_once} schedules");
        assert!(coverage.contains_key("a connection is pinned"));
        let complaints = cells::complaints(&cells, count);
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
