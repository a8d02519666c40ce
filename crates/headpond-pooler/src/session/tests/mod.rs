//! Virtual sessions, compared with sessions that clients have of their own.
//!
//! `HEADPOND_SEED=n` runs one schedule, `HEADPOND_SEEDS=n` that many, both together that many from there on; a
//! failure names its seeds.

mod backend;
mod client;
mod model;
mod script;
mod server;
mod words;
mod world;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use self::world::World;
use crate::sim::bugs::{Bug, assert_found};

/// Schedules of an ordinary run.
const SEEDS: u64 = 1_000;

/// What is planted for this test, or found by it too.
const BUGS: [Bug; 19] = [
    Bug::ComputedNameForgotten,
    Bug::CursorsForgotten,
    Bug::DeallocationForgotten,
    Bug::ExecutedForgotten,
    Bug::IdentityKeptByResetAll,
    Bug::LayerForgotten,
    Bug::ListensForgotten,
    Bug::LocksForgotten,
    Bug::PrefixUnguarded,
    Bug::RefusedTakenForSet,
    Bug::ResetForgotten,
    Bug::RoleBeforeSettings,
    Bug::SecondSettingForgotten,
    Bug::SequencesUndiscarded,
    Bug::SettingsOfPredecessorStay,
    Bug::SettingsUnguarded,
    Bug::SettledForgotten,
    Bug::TemporaryForgotten,
    Bug::TouchedForgotten,
];

/// Failures after which a run gives up.
const FAILURES: usize = 5;

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed);
    world.run();
    world.seen
}

#[test]
fn every_client_has_a_session_of_its_own() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, count) = match (number("HEADPOND_SEED"), number("HEADPOND_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    let mut seen = BTreeMap::<&str, u64>::new();
    let mut failed = Vec::new();
    for seed in first..first + count {
        match catch_unwind(|| run(seed)) {
            Ok(one) => one.into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times),
            Err(_) => {
                eprintln!("HEADPOND_SEED={seed} cargo test -p headpond-pooler session::tests::every_client");
                failed.push(seed);
            }
        }
        assert!(failed.len() < FAILURES, "violations: {failed:?}");
    }
    println!("{count} schedules: {seen:?}");
    assert_eq!(failed, [], "violations");
}

#[test]
fn every_bug_planted_in_sessions_is_found() {
    assert_found(&BUGS, run);
}
