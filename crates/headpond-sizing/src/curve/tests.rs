use super::*;
use crate::queues::{Queue, mmc};
use crate::sim::Stream;

#[track_caller]
fn near(value: f64, expected: f64, share: f64) {
    assert!((value - expected).abs() <= share * expected.abs(), "{value} is not {expected}");
}

/// What so many levels of a true curve would measure, with chance.
fn measured(truth: impl Fn(f64) -> f64, levels: &[u32], seed: u64) -> Vec<Level> {
    let mut chance = Stream::new(seed, 5);
    let level = |n: &u32| {
        let rate = truth(f64::from(*n)) * (1.0 + 0.01 * chance.normal());
        Level { in_use: *n, seconds: 5.0, completions: (5.0 * rate) as u64, hold_p99: None }
    };
    levels.iter().map(level).collect()
}

const LADDER: [u32; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// S4 on known plants: slots, and Gunther's law with contention and with coherency.
#[test]
fn the_knee_of_a_known_curve_is_found() {
    let slots = |m: f64| move |n: f64| 1000.0 * n.min(m);
    let law = |s: f64, k: f64| move |n: f64| 1000.0 * n / (1.0 + s * (n - 1.0) + k * n * (n - 1.0));
    let check = |name: &str, truth: &dyn Fn(f64) -> f64| {
        let peak = (1..=64).map(|n| truth(f64::from(n))).fold(0.0, f64::max);
        let (mut right, mut enough) = (0, 0);
        for seed in 0..20 {
            let knee = knee(&measured(truth, &LADDER, seed), 0.01, seed).unwrap();
            let rate = truth(f64::from(knee.connections));
            let exact = (1..=64).find(|n| truth(f64::from(*n)) >= 0.95 * peak).unwrap();
            let tolerance = (0.15 * f64::from(exact)).max(1.0);
            right += u32::from(f64::from(knee.connections.abs_diff(exact)) <= tolerance);
            enough += u32::from(rate >= 0.93 * peak);
            assert!(knee.interval.0 <= knee.connections && knee.connections <= knee.interval.1, "{name}");
        }
        assert!(enough >= 19, "{name}: {enough} of 20 deliver enough");
        right
    };
    assert!(check("2 slots", &slots(2.0)) >= 19);
    assert!(check("8 slots", &slots(8.0)) >= 19);
    check("contention", &law(0.05, 0.002));
    check("coherency", &law(0.02, 0.0002));
}

#[test]
fn a_curve_that_still_rises_at_its_end_says_so() {
    let knee = knee(&measured(|n| 90.0 * n, &LADDER, 1), 0.01, 1).unwrap();
    assert!(knee.at_least && knee.connections > 48);
    assert!(super::knee(&[], 0.02, 1).is_none());
}

#[test]
fn a_unimodal_fit_leaves_what_is_unimodal_and_averages_what_is_not() {
    let rises = [1.0, 2.0, 5.0, 4.0, 3.0];
    assert_eq!(unimodal(&rises, &[1.0; 5]), rises);
    assert_eq!(unimodal(&[1.0, 3.0, 2.0, 4.0], &[1.0; 4]), [1.0, 2.5, 2.5, 4.0]);
    assert_eq!(unimodal(&[1.0, 3.0, 2.0, 9.0], &[1.0, 3.0, 1.0, 1.0]), [1.0, 2.75, 2.75, 9.0]);
    assert_eq!(unimodal(&[5.0, 1.0, 2.0], &[1.0; 3]), [5.0, 1.5, 1.5]);
}

/// With one core the closed network is solved exactly by mean value analysis (Reiser and Lavenberg 1980).
#[test]
fn leases_on_one_core_are_mean_value_analysis() {
    let (work, think) = (0.004, 0.010);
    let curve = Curve::of_leases(&Speed::Cores(1.0), work, think, 30);
    let mut queue = 0.0;
    for n in 1..=30_u32 {
        let response = work * (1.0 + queue);
        let rate = f64::from(n) / (response + think);
        queue = rate * response;
        near(curve.rate(n), rate, 1e-6);
    }
}

#[test]
fn leases_that_only_think_or_only_work_are_straight_lines() {
    let thinks = Curve::of_leases(&Speed::Cores(4.0), 0.0, 0.010, 100);
    let works = Curve::of_leases(&Speed::Cores(4.0), 0.002, 0.0, 100);
    near(thinks.rate(50), 5000.0, 1e-6);
    for (n, rate) in [(1, 500.0), (3, 1500.0), (4, 2000.0), (50, 2000.0)] {
        near(works.rate(n), rate, 1e-6);
    }
    assert_eq!(works.knee(), 4);
    // Many cores and a hundred connections: numbers that overflow if nobody looks after them.
    let large = Curve::of_leases(&Speed::Cores(64.0), 0.001, 0.050, 4000);
    near(large.rate(100), 100.0 / 0.051, 1e-3);
    near(large.peak(), 64_000.0, 1e-3);
}

#[test]
fn waits_of_a_straight_curve_are_erlang_c() {
    let curve = Curve::new((1..=20).map(|n| f64::from(n) * 100.0).collect());
    let (ours, exact) = (curve.waits(12, 1000.0, 1.0), mmc(12, 1000.0, 0.01));
    near(ours.p_wait, exact.p_wait, 1e-9);
    near(ours.decay, exact.decay, 1e-9);
    let objective = Objective { wait: 0.01, late: 0.01 };
    let c = curve.demand(1000.0, 1.0, objective).unwrap();
    let late = |c| mmc(c, 1000.0, 0.01).later_than(0.01);
    assert!(late(c) <= 0.01 && late(c - 1) > 0.01);
    let load = Queue {
        arrivals: 1000.0,
        capacity: (1..=12).map(|n| curve.rate(n)).collect(),
        room: None,
        patience: None,
    };
    near(curve.waits(12, 1000.0, 1.0).p_wait, load.waits().p_wait, 1e-9);
}

/// The worked example of the evidence: 450 checkouts a second of 10.7 ms, mostly thinking; the best size found by
/// measurement and by simulation was 7.
#[test]
fn the_worked_example_needs_seven_connections() {
    let curve = Curve::of_leases(&Speed::Cores(2.0), 0.0003, 0.0104, 64);
    let z = crate::queues::variability(1.0, 0.0);
    assert_eq!(curve.demand(450.0, z, Objective::USUAL), Some(7));
}
