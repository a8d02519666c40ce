//! Closed forms beside published tables, and beside each other where one contains the other.

use super::*;

#[track_caller]
fn near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} ± {tolerance}");
}

#[track_caller]
fn same(value: f64, expected: f64) {
    near(value, expected, 1e-9 * expected.abs().max(1.0));
}

fn poisson(mean: f64, count: u32) -> f64 {
    (1..=count).fold(libm::exp(-mean), |p, k| p * mean / f64::from(k))
}

/// The customary table of Erlang B: traffic in erlang that so many lines carry with 1 % blocked.
#[test]
fn erlang_b_agrees_with_its_table() {
    let table = [(1, 0.0101), (2, 0.1526), (3, 0.4555), (4, 0.8694), (5, 1.3608), (6, 1.9090)];
    for (lines, traffic) in table.into_iter().chain([(7, 2.5009), (8, 3.1276), (9, 3.7825), (10, 4.4612)]) {
        near(erlang_b(lines, traffic), 0.01, 5e-5);
    }
    near(erlang_b(20, 12.031), 0.01, 5e-6);
    near(erlang_b(100, 84.064), 0.01, 5e-6);
}

/// With two connections at load ρ the share that waits is 2ρ² / (1 + ρ), with one it is ρ.
#[test]
fn erlang_c_is_what_algebra_says_for_one_and_two_connections() {
    for load in [0.1, 0.5, 0.9, 0.99] {
        same(erlang_c(1, load), load);
        same(erlang_c(2, 2.0 * load), 2.0 * load * load / (1.0 + load));
    }
    same(erlang_c(3, 3.0), 1.0);
}

/// Gross and Harris, "Fundamentals of Queueing Theory", the clinic of three doctors: 6 patients an hour, 20 minutes
/// each: 8/9 of a patient wait on average, for 4/27 of an hour.
#[test]
fn mmc_agrees_with_the_clinic_of_gross_and_harris() {
    let waits = mmc(3, 6.0, 1.0 / 3.0);
    same(waits.p_wait, 4.0 / 9.0);
    same(waits.mean(), 4.0 / 27.0);
    let steady = Queue::constant(3, 6.0, 1.0 / 3.0).steady().unwrap();
    near(steady.waiting, 8.0 / 9.0, 1e-6);
    near(steady.in_use, 2.0, 1e-6);
}

/// The same book, the inspection station: 3 places, 4 more to wait, a car a minute, 6 minutes each: 3.09 cars wait,
/// 6.06 are there, and 30.3 an hour are sent away.
#[test]
fn mmck_agrees_with_the_inspection_station_of_gross_and_harris() {
    let steady = Queue { room: Some(4), ..Queue::constant(3, 1.0, 6.0) }.steady().unwrap();
    near(steady.waiting, 3.09, 0.005);
    near(steady.waiting + steady.in_use, 6.06, 0.005);
    near(60.0 * steady.refused, 30.3, 0.1);
}

/// M/M/1/K: the share refused is (1 − ρ)ρᴷ / (1 − ρᴷ⁺¹).
#[test]
fn mm1k_is_what_algebra_says() {
    for load in [0.3_f64, 0.8, 1.7] {
        let steady = Queue { room: Some(9), ..Queue::constant(1, load, 1.0) }.steady().unwrap();
        same(steady.refused, (1.0 - load) * load.powi(10) / (1.0 - load.powi(11)));
    }
}

#[test]
fn a_pool_without_room_is_erlang_b_and_one_with_plenty_erlang_c() {
    for (connections, offered) in [(1, 0.5), (4, 3.2), (30, 26.0)] {
        let none = Queue { room: Some(0), ..Queue::constant(connections, offered, 1.0) }.steady().unwrap();
        same(none.refused, erlang_b(connections, offered));
        same(none.p_wait, 0.0);
        let plenty =
            Queue { room: Some(5000), ..Queue::constant(connections, offered, 1.0) }.steady().unwrap();
        near(plenty.p_wait, erlang_c(connections, offered), 1e-9);
        near(plenty.mean_wait, mmc(connections, offered, 1.0).mean(), 1e-9);
    }
}

/// Garnett, Mandelbaum and Reiman, "Designing a Call Center with Impatient Customers", 2002, table 1: 50 agents, 48 calls a
/// minute of a minute each, patience of 2 minutes: 3.1 % give up, waits are 3.7 s on average; with patience without end
/// they are 20.8 s.
#[test]
fn erlang_a_agrees_with_the_call_centre_of_garnett_mandelbaum_and_reiman() {
    let patient = Queue::constant(50, 48.0 / 60.0, 60.0);
    near(patient.steady().unwrap().mean_wait, 20.8, 0.05);
    let steady = Queue { patience: Some(120.0), ..patient }.steady().unwrap();
    near(steady.gave_up, 0.031, 0.0005);
    near(steady.mean_wait, 3.7, 0.05);
    near(steady.in_use / 50.0, 0.93, 0.005);
}

/// When waiters give up at the rate at which they would be served, the pool is M/M/∞: its number is Poisson.
#[test]
fn erlang_a_with_patience_like_a_hold_is_poisson() {
    let (offered, connections) = (7.0, 9);
    let steady =
        Queue { patience: Some(1.0), ..Queue::constant(connections, offered, 1.0) }.steady().unwrap();
    let idle: f64 = (0..connections).map(|n| poisson(offered, n)).sum();
    near(steady.p_wait, 1.0 - idle, 1e-12);
    near(steady.in_use + steady.waiting, offered, 1e-12);
}

#[test]
fn erlang_a_without_patience_is_erlang_b() {
    let steady = Queue { patience: Some(1e-12), ..Queue::constant(6, 5.0, 1.0) }.steady().unwrap();
    near(steady.gave_up, erlang_b(6, 5.0), 1e-9);
}

/// With no patience at all it is Erlang B; with much, waits beyond it are those of Erlang C, with each third of them cut.
#[test]
fn a_pool_with_a_deadline_lies_between_erlang_b_and_erlang_c() {
    for (connections, offered) in [(1, 0.6), (7, 5.0), (7, 9.0), (7, 7.0)] {
        let queue = Queue::constant(connections, offered, 1.0);
        same(queue.timed_out(0.0), erlang_b(connections, offered));
    }
    let queue = Queue::constant(7, 5.0, 1.0);
    let (late, load) = (queue.waits().later_than(6.0), 5.0 / 7.0);
    near(queue.timed_out(6.0), late * (1.0 - load), 1e-3 * late);
    // Overloaded without end, what cannot be served times out.
    near(Queue::constant(7, 9.0, 1.0).timed_out(1e3), 2.0 / 9.0, 1e-9);
}

#[test]
fn a_load_dependent_pool_of_constant_speed_is_erlang_c() {
    for (connections, offered) in [(1, 0.7), (8, 6.1), (200, 190.0)] {
        let (load, plain) =
            (Queue::constant(connections, offered, 1.0).waits(), mmc(connections, offered, 1.0));
        same(load.p_wait, plain.p_wait);
        same(load.decay, plain.decay);
    }
}

/// A database that is as fast with one connection in use as with many is M/M/1, however many there are: the number
/// present is geometric.
#[test]
fn a_pool_of_a_database_with_one_core_is_geometric() {
    let queue = Queue { arrivals: 0.8, capacity: vec![1.0; 5], room: None, patience: None };
    same(queue.waits().p_wait, 0.8_f64.powi(5));
}

#[test]
fn mdc_with_one_connection_is_pollaczek_and_khinchine() {
    for load in [0.1, 0.5, 0.9, 0.98] {
        near(mdc_mean_wait(1, load, 1.0), mg1_mean_wait(load, 1.0, 0.0), 1e-8 * load / (1.0 - load));
        same(mgc_mean_wait(1, load, 1.0, 0.0), mg1_mean_wait(load, 1.0, 0.0));
    }
}

/// M/D/c from its embedded chain: a hold later, all who were served now are gone and who came meanwhile is there
/// (Franx 2001 uses the same). The mean number by Little's law gives the wait.
#[test]
fn mdc_is_what_its_embedded_chain_says() {
    for (connections, offered) in [(2_usize, 1.2), (2, 1.8), (5, 3.5), (10, 9.0)] {
        let size = 150;
        let arrive: Vec<f64> = (0..size).map(|n| poisson(offered, n as u32)).collect();
        let mut state = vec![0.0; size];
        state[0] = 1.0;
        for _ in 0..1000 {
            let mut left = vec![0.0; size];
            for (n, p) in state.iter().enumerate() {
                left[n.saturating_sub(connections)] += p;
            }
            for (n, p) in state.iter_mut().enumerate() {
                *p = (0..=n).map(|k| left[k] * arrive[n - k]).sum();
            }
        }
        let there: f64 = state.iter().enumerate().map(|(n, p)| n as f64 * p).sum();
        near(mdc_mean_wait(connections as u32, offered, 1.0), there / offered - 1.0, 1e-6);
    }
}

/// Cosmetatos 1975, whose approximation of M/D/c is known to be within 2 % where waits matter.
#[test]
fn mdc_agrees_with_cosmetatos() {
    for (connections, load) in [(2_u32, 0.7), (4, 0.8), (10, 0.9), (25, 0.95)] {
        let c = f64::from(connections);
        let excess = (1.0 - load) * (c - 1.0) * ((4.0 + 5.0 * c).sqrt() - 2.0) / (16.0 * load * c);
        let expected = 0.5 * (1.0 + excess) * mmc(connections, load * c, 1.0).mean();
        near(mdc_mean_wait(connections, load * c, 1.0), expected, 0.02 * expected);
    }
}

/// Halfin and Whitt: half wait at β ≈ 0.506, and the approximation comes close to Erlang C in large pools.
#[test]
fn square_root_staffing_agrees_with_erlang_c() {
    near(quality_for(0.5), 0.506, 0.001);
    for (share, beta) in [(0.2, 1.1), (0.05, 1.7), (0.01, 2.3)] {
        near(quality_for(share), beta, 0.1);
        let connections = square_root_staffing(1000.0, quality_for(share), 1.0).ceil();
        near(erlang_c(connections as u32, 1000.0), share, 0.15 * share);
    }
}

/// Four times the load in one pool needs twice the reserve, not four times.
#[test]
fn splitting_a_pool_in_four_costs_its_reserve_once_more() {
    let beta = quality_for(0.01);
    let together = square_root_staffing(16.0, beta, 1.0);
    same(4.0 * square_root_staffing(4.0, beta, 1.0) - together, splitting_tax(16.0, beta, 4));
    assert_eq!(connections_for_nesting(16, 3), 33);
    assert_eq!(connections_for_nesting(16, 1), 1);
}

#[test]
fn quantiles_and_tails_of_waits_undo_each_other() {
    let waits = mmc(4, 340.0, 0.01).with_variability(2.6);
    for quantile in [0.5, 0.9, 0.99, 0.999] {
        near(waits.later_than(waits.quantile(quantile)), 1.0 - quantile, 1e-12);
    }
    same(waits.quantile(0.1), 0.0);
}
