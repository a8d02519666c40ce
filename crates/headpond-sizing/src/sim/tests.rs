//! The simulator beside the formulas that are exact, and beside an independent replay of a trace.

use std::sync::Arc;
use std::time::Duration;

use headpond_core::PoolSettings;

use super::*;
use crate::queues::{Queue, mdc_mean_wait};
use crate::scenario::{Amount, Application, Arrivals, Database, Event, EventKind, Objective, Speed, Stalls};

/// A pool of one size that does nothing by itself.
fn fixed(size: u32) -> PoolSettings {
    PoolSettings {
        max_size: size,
        max_idle: size,
        min_idle: size,
        initial_size: size,
        min_size: size,
        idle_timeout: Duration::ZERO,
        shrink_interval: Duration::ZERO,
        acquire_timeout: Duration::ZERO,
        max_waiters: u32::MAX,
        check: false,
        max_lifetime: Duration::ZERO,
        ..PoolSettings::named()
    }
}

/// So many requests in a second for one second of work each, on a database that slows nobody down.
fn plain(connections: u32, rate: f64, requests: f64) -> Scenario {
    Scenario {
        duration: requests / rate,
        warm_up: 0.02 * requests / rate,
        seed: 1,
        servers: 1,
        pool: fixed(connections),
        database: Database::with_cores(1e6),
        applications: vec![Application::plain("web", rate, 1.0)],
        events: Vec::new(),
        objective: Objective { wait: 1.0, late: 0.01 },
    }
}

#[track_caller]
fn near(value: f64, expected: f64, share: f64) {
    assert!(
        (value - expected).abs() <= share * expected.abs(),
        "{value} is not {expected} ± {}",
        share * expected
    );
}

/// S1, structure: recorded arrivals and holds go through the pool's policy, and through the recursion of Kiefer and
/// Wolfowitz, which is all there is to first come, first served. Every wait must be the same.
#[test]
fn a_trace_is_replayed_with_the_waits_that_kiefer_and_wolfowitz_give() {
    for connections in [1, 2, 5, 20] {
        let mut draws = Stream::new(u64::from(connections), 77);
        let mut at = 1.0;
        let trace: Vec<(f64, f64)> = (0..20_000)
            .map(|_| {
                at += draws.exponential() * 0.001 / f64::from(connections);
                let long = if draws.unit() < 0.1 { 5.0 } else { 0.4 };
                (at, draws.exponential() * long * 0.001)
            })
            .collect();
        let mut free = vec![0_u64; connections as usize];
        let mut expected: Vec<u64> = (trace.iter())
            .map(|(at, hold)| {
                let (asked, first) = (nanoseconds(*at), free.iter_mut().min().unwrap());
                let begins = asked.max(*first);
                *first = begins + nanoseconds(*hold);
                begins - asked
            })
            .collect();
        let mut scenario = plain(connections, 1.0, at + 10.0);
        scenario.warm_up = 0.0;
        scenario.applications[0].arrivals = Arrivals::Trace(trace.into());
        let outcome = simulate(&scenario, 1);
        assert_eq!(outcome.total.served, 20_000);
        let mean = expected.iter().map(|wait| *wait as f64).sum::<f64>() / 20_000.0;
        near(outcome.total.mean_wait() * 1e9, mean, 1e-9);
        expected.sort_unstable();
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let exact = expected[(quantile * 20_000.0) as usize - 1] as f64;
            near(outcome.total.wait(quantile) * 1e9, exact, 0.002);
        }
    }
}

/// The mean of a figure over four seeds: a single run's wait is off by percents, so slowly do queues forget.
fn mean(scenario: &Scenario, figure: impl Fn(&Outcome) -> f64) -> f64 {
    (1..=4).map(|seed| figure(&simulate(scenario, seed))).sum::<f64>() / 4.0
}

#[test]
fn random_arrivals_and_holds_wait_as_in_mmc() {
    for (connections, load) in [(1, 0.6), (4, 0.7), (10, 0.7)] {
        let rate = load * f64::from(connections);
        let scenario = plain(connections, rate, 400_000.0);
        let waits = Queue::constant(connections, rate, 1.0).waits();
        near(mean(&scenario, |outcome| outcome.total.mean_wait()), waits.mean(), 0.02);
        let one = simulate(&scenario, 2);
        near(one.total.waited_share(), waits.p_wait, 0.02);
        near(one.total.late_share(), waits.later_than(1.0), 0.1);
        near(one.total.wait(0.99), waits.quantile(0.99), 0.05);
        near(one.mean_in_use, rate, 0.005);
    }
}

#[test]
fn holds_of_equal_length_wait_as_in_mdc() {
    for (connections, load) in [(1, 0.7), (6, 0.8)] {
        let rate = load * f64::from(connections);
        let mut scenario = plain(connections, rate, 200_000.0);
        scenario.applications[0].work = Amount { mean: 1.0, cv2: 0.0 };
        near(
            mean(&scenario, |outcome| outcome.total.mean_wait()),
            mdc_mean_wait(connections, rate, 1.0),
            0.02,
        );
    }
}

/// Holds are the think time here: a pool does not see the difference, and the mean of M/G/1 knows only two moments.
#[test]
fn holds_of_any_length_wait_at_one_connection_as_in_mg1() {
    for cv2 in [0.25, 4.0] {
        let mut scenario = plain(1, 0.6, 400_000.0);
        scenario.applications[0].work = Amount::NONE;
        scenario.applications[0].think = Amount { mean: 1.0, cv2 };
        let expected = crate::queues::mg1_mean_wait(0.6, 1.0, cv2);
        near(mean(&scenario, |outcome| outcome.total.mean_wait()), expected, 0.03);
    }
}

#[test]
fn a_bounded_queue_refuses_as_in_mmck() {
    let mut scenario = plain(5, 5.5, 500_000.0);
    scenario.pool.max_waiters = 8;
    let outcome = simulate(&scenario, 3);
    let steady = Queue { room: Some(8), ..Queue::constant(5, 5.5, 1.0) }.steady().unwrap();
    let asked = outcome.total.refused + outcome.total.waits.len();
    near(outcome.total.refused as f64 / asked as f64, steady.refused, 0.02);
    near(outcome.total.mean_wait(), steady.mean_wait, 0.02);
    assert_eq!(outcome.peak_waiting, 8);
}

/// The pool's own time-out, and the patience of clients who wait.
#[test]
fn waits_with_a_deadline_time_out_as_in_barrers_formula() {
    let expected = Queue::constant(5, 5.5, 1.0).timed_out(1.5);
    let mut scenario = plain(5, 5.5, 500_000.0);
    scenario.pool.acquire_timeout = Duration::from_millis(1500);
    let outcome = simulate(&scenario, 3);
    near(outcome.total.timed_out as f64 / outcome.total.waits.len() as f64, expected, 0.02);
    assert_eq!(outcome.total.timed_out, outcome.total.failed);
}

/// A database that is fastest with three statements at once, and slows down beyond.
#[test]
fn a_database_that_its_load_slows_down_is_the_birth_death_pool() {
    let points = [1.0, 1.9, 2.4, 2.3, 2.1, 2.0];
    let mut scenario = plain(6, 1.4, 400_000.0);
    scenario.database.speed = Speed::Curve((1..).zip(points).collect());
    let outcome = simulate(&scenario, 3);
    let queue = Queue { arrivals: 1.4, capacity: points.to_vec(), room: None, patience: None };
    near(outcome.total.waited_share(), queue.waits().p_wait, 0.03);
    near(mean(&scenario, |outcome| outcome.total.mean_wait()), queue.waits().mean(), 0.04);
    near(outcome.mean_in_use, queue.steady().unwrap().in_use, 0.01);
}

/// N clients who think and then ask, on c connections: the machine repairmen of Palm, whose number in the system is a
/// birth-death chain.
#[test]
fn clients_of_a_fixed_number_are_served_as_palms_machines() {
    let (clients, connections, pause) = (12_u32, 3_u32, 4.0);
    let mut scenario = plain(connections, 1.0, 150_000.0);
    scenario.applications[0].arrivals = Arrivals::Closed { clients, pause };
    let outcome = simulate(&scenario, 3);
    let mut weights = vec![1.0];
    for n in 0..clients {
        let (asks, served) = (f64::from(clients - n) / pause, f64::from((n + 1).min(connections)));
        weights.push(weights[n as usize] * asks / served);
    }
    let busy = |n: usize| f64::from((n as u32).min(connections));
    let in_use = weights.iter().enumerate().map(|(n, weight)| busy(n) * weight).sum::<f64>()
        / weights.iter().sum::<f64>();
    near(outcome.mean_in_use, in_use, 0.01);
    near(outcome.total.served as f64 / outcome.counted, in_use, 0.01);
}

/// Requests in groups: what varies is as large as was asked for.
#[test]
fn arrivals_in_groups_have_the_rate_and_the_dispersion_asked_for() {
    let mut scenario = plain(1, 10.0, 400_000.0);
    scenario.warm_up = 0.0;
    scenario.pool = fixed(1000);
    scenario.applications[0].arrivals = Arrivals::Open { rate: 10.0, profile: Vec::new(), dispersion: 3.0 };
    let outcome = simulate(&scenario, 3);
    near(outcome.total.waits.len() as f64, 400_000.0, 0.01);
    // Groups that are served at once: leases have the mean of their rate, and their peak tells of the groups.
    near(outcome.mean_in_use, 10.0, 0.02);
    assert!(outcome.peak_in_use > 35, "{}", outcome.peak_in_use);
}

#[test]
fn the_same_seed_has_the_same_outcome_and_another_has_another() {
    let scenario = storm();
    let text = |seed| format!("{:?}", simulate(&scenario, seed));
    assert_eq!(text(9), text(9));
    assert_ne!(text(9), text(10));
}

/// What was asked is served, failed, or still under way: nothing is lost, whatever happens meanwhile.
#[test]
fn every_request_of_a_storm_has_one_end() {
    let mut scenario = storm();
    scenario.warm_up = 0.0;
    for seed in 0..20 {
        // The last requests come long before the end, so that none is under way then.
        let Arrivals::Open { profile, .. } = &mut scenario.applications[0].arrivals else { unreachable!() };
        *profile = vec![(0.0, 1.0), (30.0, 0.0)];
        scenario.duration = 90.0;
        let outcome = simulate(&scenario, seed);
        let total = &outcome.total;
        let attempts =
            total.served + total.refused + total.timed_out + total.gave_up + total.lost_connections;
        let requests = total.served + total.failed;
        assert!(requests > 10_000 && attempts >= requests, "{requests} of {attempts}");
        assert!(outcome.peak_in_use <= 2 * 16);
        let first = simulate(&Scenario { events: Vec::new(), ..calm(&scenario) }, seed).total.served;
        assert_eq!(requests, first, "seed {seed}");
    }
}

/// Two nodes, two application servers, clients who try again: everything happens at once.
fn storm() -> Scenario {
    let mut scenario = plain(8, 400.0, 400.0 * 60.0);
    scenario.servers = 2;
    scenario.warm_up = 5.0;
    scenario.pool.min_idle = 2;
    scenario.pool.acquire_timeout = Duration::from_millis(700);
    scenario.database = Database { nodes: 2, ..Database::with_cores(2.0) };
    scenario.database.stalls = Some(Stalls { rate: 2.0, mean: 0.004 });
    scenario.applications[0] = Application {
        work: Amount::random(0.004),
        think: Amount { mean: 0.006, cv2: 3.0 },
        statements: 2,
        timeout: Some(1.0),
        retries: 2,
        ..Application::plain("web", 400.0, 0.0)
    };
    let event = |at, lasts, kind| Event { at, lasts, kind };
    scenario.events = vec![
        event(8.0, 4.0, EventKind::NodeLoss(1)),
        event(15.0, 0.0, EventKind::FleetRestart),
        event(20.0, 3.0, EventKind::Stall(0)),
        event(22.0, 5.0, EventKind::NodeLoss(0)),
    ];
    scenario
}

/// The same arrivals with nothing that could make one fail.
fn calm(scenario: &Scenario) -> Scenario {
    let mut calm = scenario.clone();
    calm.pool = fixed(1000);
    calm.database = Database::with_cores(1e6);
    calm.applications[0].timeout = None;
    calm
}

/// The trap of clients that try again: what they gave up runs on, so a database that could serve them, and did, never
/// catches up. A queue that is no longer than clients wait for breaks it.
#[test]
fn after_a_stall_clients_who_try_again_keep_a_long_queue_for_ever_but_not_a_short_one() {
    let mut scenario = plain(400, 700.0, 700.0 * 60.0);
    scenario.warm_up = 5.0;
    scenario.pool = fixed(400);
    scenario.database = Database::with_cores(4.0);
    scenario.applications[0] = Application {
        timeout: Some(0.3),
        retries: 3,
        backoff: 0.05,
        ..Application::plain("web", 700.0, 0.004)
    };
    scenario.objective = Objective { wait: 0.1, late: 0.01 };
    scenario.events = vec![Event { at: 20.0, lasts: 5.0, kind: EventKind::Stall(0) }];
    let long = simulate(&scenario, 3);
    assert_eq!(long.recoveries, [Recovery::Never]);
    scenario.pool = PoolSettings { max_waiters: 40, ..fixed(8) };
    let short = simulate(&scenario, 3);
    let [Recovery::After(time)] = short.recoveries[..] else { panic!("{:?}", short.recoveries) };
    assert!(time < 5.0, "{time}");
}

/// Logins are work on the same node: many at once slow the traffic, spaced ones do not.
#[test]
fn a_storm_of_logins_slows_the_traffic_and_a_pace_of_logins_prevents_it() {
    let mut scenario = plain(20, 500.0, 500.0 * 30.0);
    scenario.servers = 16;
    scenario.warm_up = 5.0;
    scenario.database = Database { login_work: 0.02, ..Database::with_cores(2.0) };
    scenario.applications[0] = Application::plain("web", 500.0, 0.002);
    scenario.events = vec![Event { at: 15.0, lasts: 0.0, kind: EventKind::FleetRestart }];
    scenario.pool.max_logins = 20;
    let storm = simulate(&scenario, 3);
    scenario.pool = PoolSettings {
        min_idle: 1,
        initial_size: 1,
        min_size: 1,
        max_logins: 1,
        login_delay: Duration::from_millis(500),
        ..fixed(20)
    };
    let paced = simulate(&scenario, 3);
    assert!(storm.peak_opened > 5 * paced.peak_opened, "{} {}", storm.peak_opened, paced.peak_opened);
    assert!(storm.total.response(0.99) > 3.0 * paced.total.response(0.99));
}

#[test]
fn a_node_that_is_lost_leaves_its_share_to_the_others() {
    let mut scenario = plain(10, 300.0, 300.0 * 40.0);
    scenario.database = Database { nodes: 2, ..Database::with_cores(2.0) };
    scenario.applications[0] = Application { retries: 1, ..Application::plain("web", 300.0, 0.005) };
    scenario.events = vec![Event { at: 10.0, lasts: 10.0, kind: EventKind::NodeLoss(0) }];
    let outcome = simulate(&scenario, 3);
    let total = &outcome.total;
    assert!(total.lost_connections > 0 && total.failed == 0, "{} {}", total.lost_connections, total.failed);
    let [Recovery::After(time)] = outcome.recoveries[..] else { panic!("{:?}", outcome.recoveries) };
    assert!(time < 1.0, "{time}");
}

/// A node takes no more than it has room for, whatever the pools would like.
#[test]
fn a_node_without_room_refuses_logins_and_the_pools_come_to_terms_with_it() {
    let mut scenario = plain(20, 300.0, 300.0 * 60.0);
    scenario.servers = 4;
    scenario.warm_up = 20.0;
    scenario.database = Database { max_connections: Some(30), ..Database::with_cores(8.0) };
    scenario.applications[0] = Application::plain("web", 300.0, 0.01);
    let outcome = simulate(&scenario, 3);
    assert!(outcome.logins_failed > 0);
    assert!(outcome.peak_in_use <= 30);
    assert_eq!(outcome.total.failed, 0);
}

/// After a night with little to do a pool is small, and by day it is large again.
#[test]
fn a_pool_shrinks_at_night() {
    let mut scenario = plain(40, 200.0, 200.0 * 7200.0);
    scenario.pool = PoolSettings { min_idle: 2, initial_size: 2, min_size: 2, ..PoolSettings::named() };
    scenario.pool.max_size = 40;
    scenario.applications[0] = Application::plain("web", 200.0, 0.05);
    scenario.warm_up = 3600.0;
    let Arrivals::Open { profile, .. } = &mut scenario.applications[0].arrivals else { unreachable!() };
    *profile = vec![(0.0, 1.0), (1800.0, 0.01)];
    let night = simulate(&scenario, 3);
    assert!(night.mean_open < 5.0, "{}", night.mean_open);
    scenario.warm_up = 600.0;
    scenario.duration = 1800.0;
    assert!(simulate(&scenario, 3).mean_open > 12.0);
    let traces: Arc<[(f64, f64)]> = Arc::from([]);
    scenario.applications[0].arrivals = Arrivals::Trace(traces);
    assert_eq!(simulate(&scenario, 3).total.served, 0);
}

/// Times near the end of what can be counted, and amounts that vary without measure: it still ends.
#[test]
fn times_without_measure_do_not_overflow() {
    let mut scenario = storm();
    let century = 3e9;
    scenario.database.stalls = Some(Stalls { rate: 1e-300, mean: century });
    scenario.applications[0].timeout = Some(century);
    scenario.applications[0].backoff = century;
    scenario.applications[0].think = Amount { mean: century, cv2: 1000.0 };
    scenario.applications.push(Application {
        arrivals: Arrivals::Closed { clients: 3, pause: century },
        ..Application::plain("closed", 0.0, century)
    });
    assert_eq!(simulate(&scenario, 1).applications[1].served, 0);
}
