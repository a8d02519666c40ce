//! The recommended size in the simulator: waits beside those of the formulas, and what may happen.

use std::time::Duration;

use headpond_core::PoolSettings;

use super::known::Known;
use super::sizes::Sizes;
use super::{Price, Question, WhatIf};
use crate::measured::Measured;
use crate::scenario::{Amount, Application, Arrivals, Database, Event, EventKind, Scenario, Speed};
use crate::sim::{Recovery, simulate};
use crate::time::text;

/// Runs behind a band.
const RUNS: u64 = 10;

/// Requests of a run at most, or about so.
const REQUESTS: f64 = 100_000.0;

/// Adds simulated waits to the recommended size and its neighbours.
pub(super) fn simulate_prices(question: &Question, known: &Known, sizes: &Sizes, prices: &mut [Price]) {
    for price in prices.iter_mut().filter(|price| price.connections.abs_diff(sizes.max) <= 1) {
        // One node at the load it must bear, without what happens now and then.
        let mut scenario = scenario(question, known, sizes, (REQUESTS / known.arrivals).min(60.0));
        scenario.pool.max_size = price.connections;
        scenario.pool.max_idle = price.connections;
        scenario.pool.initial_size = price.connections;
        scenario.servers = 1;
        scenario.database.nodes = 1;
        scenario.applications[0].arrivals = open(known.arrivals);
        let run = |seed| simulate(&scenario, question.seed + seed).applications[0].wait(0.99);
        let mut waits: Vec<f64> = (0..RUNS).map(run).collect();
        waits.sort_by(f64::total_cmp);
        price.simulated = Some([waits[RUNS as usize / 2], waits[0], waits[RUNS as usize - 1]]);
    }
}

/// What there is to say if the recommended size does not do in the simulator what the formulas say of it.
pub(super) fn caveat(question: &Question, sizes: &Sizes, prices: &[Price]) -> Option<String> {
    let price = prices.iter().find(|price| price.connections == sizes.max)?;
    let asked = question.objective;
    let [middle, ..] = price.simulated.filter(|[middle, ..]| asked.late <= 0.01 && *middle > asked.wait)?;
    let paused = question.measured.as_ref().is_some_and(|measured| measured.still() > 0.0);
    let why = if paused { ": with the pauses that were measured, which no size hides" } else { "" };
    let (middle, asked) = (text(middle), text(asked.wait));
    Some(format!("simulated, 1 % wait longer than {middle} at the recommended size, not {asked}{why}"))
}

/// The usual misfortunes at the recommended size, with clients who try three times again.
pub(super) fn what_ifs(question: &Question, known: &Known, sizes: &Sizes) -> Vec<WhatIf> {
    let lasts = (REQUESTS / question.rate.value).clamp(2.0, 60.0);
    let stall = lasts.min(10.0);
    let mut cases = vec![
        (format!("5 times the load for {}", text(lasts)), EventKind::Spike(5.0), lasts),
        ("all application servers start anew".to_owned(), EventKind::FleetRestart, 0.0),
        (format!("the database stands still for {}", text(stall)), EventKind::Stall(0), stall),
    ];
    if question.nodes > 1 {
        cases.push((format!("a node is lost for {}", text(lasts)), EventKind::NodeLoss(0), lasts));
    }
    let what_if = |(what, kind, lasts): (String, EventKind, f64)| {
        let mut scenario = scenario(question, known, sizes, 5.0 + lasts + (2.0 * lasts).max(20.0));
        scenario.warm_up = 3.0;
        scenario.events = vec![Event { at: 5.0, lasts, kind }];
        let outcome = simulate(&scenario, question.seed);
        let web = &outcome.applications[0];
        WhatIf {
            what,
            wait_p99: web.wait(0.99),
            failed_percent: 100.0 * web.failed as f64 / (web.failed + web.served).max(1) as f64,
            logins: outcome.peak_opened,
            recovers_in: match outcome.recoveries[0] {
                Recovery::After(time) => Some(time),
                Recovery::Never => None,
            },
        }
    };
    cases.into_iter().map(what_if).collect()
}

fn scenario(question: &Question, known: &Known, sizes: &Sizes, duration: f64) -> Scenario {
    let servers = question.servers.max(1);
    let max_size = sizes.max_each.max(1);
    // Batch is simulated: of the cores it takes its part by itself.
    let speed = match (&known.speed, question.cores) {
        (Speed::Cores(_), Some(cores)) => Speed::Cores(cores),
        (Speed::Curve(points), _) => {
            let still = question.measured.as_ref().map_or(0.0, Measured::still);
            Speed::Curve(points.iter().map(|(n, rate)| (*n, rate / (1.0 - still))).collect())
        }
        (speed, None) => speed.clone(),
    };
    // Work and thinking vary on their own: each more than their sum.
    let share = known.work / (known.work + known.think);
    let cv2 = question.hold_cv2 / (share * share + (1.0 - share) * (1.0 - share));
    let mut applications = vec![Application {
        work: Amount { mean: known.work, cv2 },
        think: Amount { mean: known.think, cv2 },
        arrivals: open(question.rate.value * question.growth),
        timeout: Some(question.deadline),
        retries: 3,
        ..Application::plain("requests", 0.0, 0.0)
    }];
    if question.batch.0 > 0 {
        applications.push(Application {
            arrivals: Arrivals::Closed { clients: question.batch.0, pause: 0.0 },
            work: Amount { mean: question.batch.1 * share, cv2: 0.0 },
            think: Amount { mean: question.batch.1 * (1.0 - share), cv2: 0.0 },
            statements: 1000,
            ..Application::plain("batch", 0.0, 0.0)
        });
    }
    Scenario {
        duration,
        warm_up: 0.1 * duration,
        seed: question.seed,
        servers,
        pool: PoolSettings {
            max_size,
            max_idle: max_size,
            min_idle: sizes.headroom.min(max_size),
            initial_size: sizes.initial.min(max_size),
            min_size: sizes.min.min(max_size),
            max_waiters: sizes.max_waiters.max(1),
            max_logins: sizes.max_logins,
            acquire_timeout: Duration::from_secs_f64(sizes.acquire_timeout),
            ..PoolSettings::named()
        },
        database: Database {
            nodes: question.nodes.max(1),
            speed,
            login_work: question.login_work,
            login_latency: question.login_latency,
            max_connections: question.limit,
            stalls: question.measured.as_ref().and_then(|measured| measured.facts.stalls),
            ..Database::with_cores(1.0)
        },
        applications,
        events: Vec::new(),
        objective: question.objective,
    }
}

fn open(rate: f64) -> Arrivals {
    Arrivals::Open { rate, profile: Vec::new(), dispersion: 1.0 }
}
