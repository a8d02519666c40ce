use std::time::Duration;

use headpond_core::PoolSettings;

use super::*;
use crate::curve::{Curve, Level};
use crate::measured::{Measured, Window};
use crate::scenario::{Amount, Application, Database, Scenario, Speed};
use crate::sim::simulate;

/// Nothing uncertain: one node, holds of 8 ms, 2 of them on a core.
fn plant(rate: f64, cores: f64) -> Question {
    Question {
        rate: Bounded::exactly(rate),
        hold: Bounded::exactly(0.008),
        work_share: Bounded::exactly(0.25),
        hold_cv2: 1.0,
        cores: Some(cores),
        growth: 1.0,
        ..Question::about(rate)
    }
}

fn value(answer: &Answer, setting: &str) -> f64 {
    answer.sizes.iter().find(|size| size.setting == setting).unwrap().value
}

/// The share of late requests that the simulator finds on a planted database, so many times as fast.
fn late(rate: f64, cores: f64, connections: u32, factor: f64) -> f64 {
    let scenario = Scenario {
        duration: 120.0,
        warm_up: 12.0,
        seed: 1,
        servers: 1,
        pool: PoolSettings {
            max_size: connections,
            max_idle: connections,
            min_idle: connections,
            initial_size: connections,
            min_size: connections,
            acquire_timeout: Duration::ZERO,
            max_waiters: u32::MAX,
            ..PoolSettings::named()
        },
        database: Database::with_cores(cores),
        applications: vec![Application {
            think: Amount::random(0.006 / factor),
            ..Application::plain("web", rate, 0.002 / factor)
        }],
        events: Vec::new(),
        objective: Objective::USUAL,
    };
    simulate(&scenario, 1).total.late_share()
}

/// The simulator agrees that the size suffices, and that two fewer do not.
#[test]
fn the_recommended_size_is_the_smallest_that_suffices() {
    for (rate, cores) in [(300.0, 4.0), (900.0, 4.0), (1500.0, 8.0)] {
        let answer = advise(&plant(rate, cores), false);
        assert!(answer.shortfall.is_none());
        let max = value(&answer, "max_size") as u32;
        assert!(late(rate, cores, max + 1, 1.0) <= 0.01, "{rate}: {max} + 1 is too small");
        assert!(late(rate, cores, max - 2, 1.0) > 0.01, "{rate}: {max} - 2 would do");
    }
}

/// S8: planted workloads that no size meets. With what is said to be missing, a little more and it is met, a little less
/// and it is not.
#[test]
fn what_no_size_meets_is_said_with_what_is_missing() {
    for (rate, cores) in [(1900.0, 4.0), (2100.0, 4.0), (3000.0, 4.0)] {
        let missing = advise(&plant(rate, cores), false).shortfall.expect("no size meets it");
        assert_eq!(missing.missing_connections, 0);
        let knee = plant_knee(cores);
        let faster = |part: f64| {
            let factor = 1.0 + part * missing.missing_cores / cores;
            late(rate, cores, knee, factor)
        };
        assert!(faster(1.1) <= 0.0125, "{rate}: {}", faster(1.1));
        assert!(faster(0.9) > 0.01, "{rate}: {}", faster(0.9));
    }
    for rate in [100.0, 800.0, 1400.0] {
        assert!(advise(&plant(rate, 4.0), false).shortfall.is_none(), "{rate}");
    }
}

fn plant_knee(cores: f64) -> u32 {
    Curve::of_leases(&Speed::Cores(cores), 0.002, 0.006, 200).knee()
}

#[test]
fn connections_that_the_server_lacks_are_said_to_be_missing() {
    let question = Question { limit: Some(5), ..plant(900.0, 4.0) };
    let missing = advise(&question, false).shortfall.expect("five are too few");
    let needed = value(&advise(&plant(900.0, 4.0), false), "max_size") as u32;
    assert_eq!(missing.missing_connections, needed - 5);
}

#[test]
fn what_is_not_known_makes_the_interval_wide_and_what_is_known_narrow() {
    let width = |question: &Question| {
        let size = advise(question, false).sizes.remove(0);
        assert!(size.low <= size.value && size.value <= size.high);
        size.high / size.low
    };
    assert!(width(&Question::about(500.0)) > 4.0);
    assert!((width(&plant(500.0, 8.0)) - 1.0).abs() < 1e-9);
}

/// Batch jobs hold connections of their own; application servers with pools of their own need more in all; the loss of
/// one of two nodes doubles what the other bears.
#[test]
fn batch_splitting_and_the_loss_of_a_node_cost_connections() {
    let max = |question: &Question| value(&advise(question, false), "max_size") as u32;
    let plain = plant(500.0, 64.0);
    assert_eq!(max(&Question { batch: (4, 1200.0), ..plain.clone() }), max(&plain) + 4);
    assert_eq!(max(&Question { nodes: 2, ..plain.clone() }), max(&plain));
    assert!(max(&Question { nodes: 3, ..plain.clone() }) < max(&plain));
    let each = advise(&Question { servers: 16, ..plain.clone() }, false);
    let each = each.sizes.iter().find(|size| size.what == "of each application server").unwrap().value;
    assert!(16.0 * each > 2.0 * f64::from(max(&plain)));
}

#[test]
fn applications_share_the_pool_by_what_they_need() {
    let shares = vec![("web".to_owned(), 0.8), ("batch".to_owned(), 0.2)];
    let answer = advise(&Question { shares, ..plant(900.0, 16.0) }, false);
    let [(_, web), (_, batch)] = answer.budgets[..] else { panic!("two budgets") };
    assert!(web > batch && batch >= 1 && f64::from(web + batch) <= value(&answer, "max_size"));
}

#[test]
fn the_same_question_has_the_same_answer_in_every_form() {
    let question = Question { cores: Some(8.0), nodes: 2, servers: 3, ..Question::about(200.0) };
    let (one, two) = (advise(&question, true), advise(&question, true));
    assert_eq!(one.to_string(), two.to_string());
    assert_eq!(one.what_ifs.len(), 4);
    let toml: toml::Table = one.to_toml().parse().unwrap();
    let pool = toml["pool"].as_table().unwrap();
    // What is pasted is for one process.
    let each = one.sizes.iter().rev().find(|size| size.setting == "max_size").unwrap().value;
    assert_eq!(pool["max_size"].as_integer().unwrap() as f64, each);
}

/// A measured curve takes the place of what is assumed, and what is wrong with it is said first.
#[test]
fn a_measured_curve_binds_and_a_disturbed_one_is_doubted() {
    let level =
        |n: u32| Level { in_use: n, seconds: 10.0, completions: 1000 * u64::from(n.min(8)), hold_p99: None };
    let window = Window {
        in_use: None,
        acquires: 500,
        holds: 500,
        hold_time: 5.0,
        time_in_use: 6.0,
        foreign_cpu: None,
    };
    let measured = Measured {
        levels: [1, 2, 4, 8, 16, 32].map(level).to_vec(),
        windows: vec![window],
        spread: 0.01,
        ..Measured::default()
    };
    let ask = |rate| {
        let measured = Some(measured.clone());
        advise(&Question { measured, ..plant(rate, 1.0) }, true)
    };
    let fits = ask(400.0);
    assert!(fits.shortfall.is_none() && value(&fits, "max_size") <= 8.0);
    assert!(fits.to_string().starts_with("NOT TRUSTWORTHY: counters are broken"));
    let missing = ask(790.0).shortfall.expect("the knee of 8 is too small");
    assert!(missing.missing_rate > 50.0);
}

/// A database that delivers 1000/s with 8 connections, and pauses for 30 ms once a second.
#[test]
fn pauses_that_no_size_hides_are_told_beside_the_recommended_size() {
    let level = |n: u32| Level { in_use: n, seconds: 60.0, completions: 7500 * u64::from(n), hold_p99: None };
    let asked = |stalls| {
        let mut measured =
            Measured { levels: (1..=8).map(level).collect(), spread: 0.01, ..Measured::default() };
        measured.facts.stalls = stalls;
        let question = Question { measured: Some(measured), growth: 1.0, ..plant(300.0, 8.0) };
        advise(&question, true).notes.into_iter().filter(|note| note.contains("no size hides")).count()
    };
    assert_eq!(asked(None), 0);
    assert_eq!(asked(Some(crate::scenario::Stalls { rate: 1.0, mean: 0.03 })), 1);
}
