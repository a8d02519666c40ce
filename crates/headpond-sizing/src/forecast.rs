//! What a measured database is expected to do at one size and one rate, as bands that a verifying run can miss.

use std::time::Duration;

use headpond_core::PoolSettings;
use serde::{Deserialize, Serialize};

use crate::curve::{Curve, Level, resampled};
use crate::measured::{Measured, OPEN_VARIES};
use crate::queues::variability;
use crate::scenario::{
    Amount, Application, Arrivals, Database, Event, EventKind, Objective, Scenario, Speed,
};
use crate::sim::{Recovery, Stream, simulate};

/// Runs behind a band, each with a curve that chance might have led to as well.
const DRAWS: u64 = 60;

/// Requests of a run, at most.
const REQUESTS: f64 = 60_000.0;

/// Random requests find a database slower than a closed loop does, which never lets it fall asleep: where nobody has tried,
/// by so much, and a deviation of so much (both as logarithms; the trials that led to this found 0 to 35 %).
const OPEN: (f64, f64) = (-0.15, 0.15);

/// The rate at which a database works that has a backlog: nothing of it falls asleep.
const BACKLOG: f64 = f64::INFINITY;

/// A wait of up to so many seconds is none: whoever measures one is late by as much at times.
pub const RESOLUTION: f64 = 5e-4;

/// Speeds among which [`speed`] looks, and the runs behind each.
const SPEEDS: (f64, f64) = (0.3, 1.7);
const SPEED_RUNS: u64 = 10;

/// One situation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The pool's `max_size`.
    pub connections: u32,
    /// Requests per second, at random.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
}

/// 90 % of what chance may bring lies between its ends; in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// The lower end.
    pub low: f64,
    /// Half are below.
    pub middle: f64,
    /// The upper end.
    pub high: f64,
}

impl Band {
    /// Of some values, at least one.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Self { low: at(0.05), middle: at(0.5), high: at(0.95) }
    }

    /// The same of a wait, as well as one can be told from none.
    fn resolved(self) -> Self {
        let low = if self.low <= RESOLUTION { 0.0 } else { self.low };
        Self { low, high: self.high.max(RESOLUTION), ..self }
    }

    /// Whether a value lies in it.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Half of the requests wait no longer.
    pub wait_p50: Band,
    /// 99 % wait no longer.
    pub wait_p99: Band,
    /// 99 % are done, waiting included.
    pub response_p99: Band,
    /// The p99 wait by the formula for load-dependent pools, for comparison; absent: it grows without end.
    pub formula_p99: Option<f64>,
}

/// What is expected at a point.
#[must_use]
pub fn forecast(measured: &Measured, point: Point, seed: u64) -> Forecast {
    let mut chance = Stream::new(seed, 3);
    let runs: Vec<[f64; 3]> = (0..DRAWS)
        .map(|number| {
            let scenario = scenario(measured, point, &drawn(measured, point.rate, &mut chance));
            let outcome = simulate(&scenario, seed.wrapping_mul(1000) + number);
            let web = &outcome.applications[0];
            [web.wait(0.5), web.wait(0.99), web.response(0.99)]
        })
        .collect();
    let band = |which: usize| Band::of(runs.iter().map(|run| run[which]).collect());
    let z = variability(1.0, measured.facts.hold_cv2.unwrap_or(1.0));
    let found = measured.curve().times(measured.speed_at(point.rate).unwrap_or(1.0));
    let waits = found.waits(point.connections, point.rate, z);
    Forecast {
        wait_p50: band(0).resolved(),
        wait_p99: band(1).resolved(),
        response_p99: band(2),
        formula_p99: (waits.decay > 0.0).then(|| waits.quantile(0.99)),
    }
}

/// Clients who give up and ask again, and a database that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// A client gives up after so long, in seconds.
    pub timeout: f64,
    /// How often it asks again.
    pub retries: u32,
    /// The pause before it does, doubled each time, in seconds.
    pub backoff: f64,
    /// The database stands still from then on.
    pub at: f64,
    /// For how long.
    pub stall: f64,
}

/// In how many of 100 cases the trouble outlasts its cause to the end.
#[must_use]
pub fn never_recovers(measured: &Measured, point: Point, trouble: Trouble, seed: u64) -> f64 {
    let mut chance = Stream::new(seed, 4);
    let never = |number| {
        let mut scenario = scenario(measured, point, &drawn(measured, BACKLOG, &mut chance));
        (scenario.duration, scenario.warm_up) = (point.seconds, 0.5);
        let web = &mut scenario.applications[0];
        (web.timeout, web.retries, web.backoff) = (Some(trouble.timeout), trouble.retries, trouble.backoff);
        scenario.objective.wait = trouble.timeout;
        scenario.events = vec![Event { at: trouble.at, lasts: trouble.stall, kind: EventKind::Stall(0) }];
        simulate(&scenario, seed + number).recoveries[0] == Recovery::Never
    };
    (0..DRAWS).map(never).filter(|never| *never).count() as f64 * 100.0 / DRAWS as f64
}

/// A load that is so many times as high for a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// By what it is multiplied.
    pub factor: f64,
    /// When it begins, in seconds.
    pub at: f64,
    /// How long it lasts, in seconds.
    pub lasts: f64,
    /// Who waits longer is late, in seconds.
    pub late: f64,
}

/// What a spike leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aftermath {
    /// 99 % of those who come from its beginning on wait no longer.
    pub wait_p99: Band,
    /// Until less than a tenth are late again, from its end on; the rest of the run where that does not come.
    pub recovers_in: Band,
}

/// What is expected of a spike.
#[must_use]
pub fn spiked(measured: &Measured, point: Point, spike: Spike, seed: u64) -> Aftermath {
    let mut chance = Stream::new(seed, 5);
    let runs: Vec<(f64, f64)> = (0..DRAWS)
        .map(|number| {
            let mut scenario = scenario(measured, point, &drawn(measured, BACKLOG, &mut chance));
            (scenario.duration, scenario.warm_up) = (point.seconds, spike.at);
            scenario.objective.wait = spike.late;
            let kind = EventKind::Spike(spike.factor);
            scenario.events = vec![Event { at: spike.at, lasts: spike.lasts, kind }];
            let outcome = simulate(&scenario, seed + number);
            let recovers_in = match outcome.recoveries[0] {
                Recovery::After(seconds) => seconds,
                Recovery::Never => point.seconds - spike.at - spike.lasts,
            };
            (outcome.total.wait(0.99), recovers_in)
        })
        .collect();
    Aftermath {
        wait_p99: Band::of(runs.iter().map(|run| run.0).collect()),
        recovers_in: Band::of(runs.iter().map(|run| run.1).collect()),
    }
}

/// The p99 wait of a run, from when its requests came and how long each held its connection (seconds, in the order of
/// the former): what is left of an error of a forecast if these are known lies in the pool.
#[must_use]
pub fn replayed(point: Point, warm_up: f64, trace: Vec<(f64, f64)>) -> f64 {
    let full = Level { in_use: 1, seconds: 1.0, completions: 1, hold_p99: None };
    let measured = Measured { levels: vec![full], ..Measured::default() };
    let mut scenario = scenario(&measured, point, &measured.curve());
    (scenario.duration, scenario.warm_up) = (point.seconds, warm_up);
    scenario.applications[0].arrivals = Arrivals::Trace(trace.into());
    simulate(&scenario, 0).total.wait(0.99)
}

/// By what factor random requests found the database faster than the experiment, from how many connections they had in use
/// on average. Rates at each number in use would not tell: with few of several in use, these are the long ones.
#[must_use]
pub fn speed(measured: &Measured, point: Point, in_use: f64, seed: u64) -> f64 {
    let mean = |factor: f64| {
        let scenario = scenario(measured, point, &at_speed(measured, measured.curve(), factor));
        (0..SPEED_RUNS).map(|number| simulate(&scenario, seed + number).mean_in_use).sum::<f64>()
            / SPEED_RUNS as f64
    };
    let (mut low, mut high) = SPEEDS;
    for _ in 0..9 {
        let middle = f64::midpoint(low, high);
        if mean(middle) > in_use { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// A database that the measurement allows, as requests at this rate find it.
fn drawn(measured: &Measured, rate: f64, chance: &mut Stream) -> Curve {
    let open = measured.speed_at(rate).map_or(OPEN, |speed| (speed.ln(), OPEN_VARIES));
    // A machine that is faster or slower by then is so with any number of connections.
    let open = (open.0 + open.1.hypot(measured.spread) * chance.normal()).exp();
    let curve = resampled(&measured.levels, &measured.curve(), measured.spread / 2.0, chance);
    at_speed(measured, curve, open)
}

/// The curve between pauses, of a database that is so many times as fast.
fn at_speed(measured: &Measured, curve: Curve, factor: f64) -> Curve {
    curve.times(factor / (1.0 - measured.still()))
}

/// A pool of one size, full from the start, in front of this database.
fn scenario(measured: &Measured, point: Point, curve: &Curve) -> Scenario {
    let stalls = measured.facts.stalls;
    let size = point.connections.max(1);
    let duration = point.seconds.min(REQUESTS / point.rate.max(1e-6));
    let cv2 = measured.facts.hold_cv2.unwrap_or(1.0);
    Scenario {
        duration,
        warm_up: 0.05 * duration,
        seed: 1,
        servers: 1,
        pool: PoolSettings {
            max_size: size,
            max_idle: size,
            min_idle: 0,
            initial_size: size,
            min_size: size,
            acquire_timeout: Duration::ZERO,
            max_waiters: 1_000_000,
            max_lifetime: Duration::ZERO,
            check: false,
            ..PoolSettings::named()
        },
        database: Database { speed: Speed::Curve(curve.points()), stalls, ..Database::with_cores(1.0) },
        applications: vec![Application {
            arrivals: Arrivals::Open { rate: point.rate, profile: Vec::new(), dispersion: 1.0 },
            work: Amount { mean: 1.0 / curve.rate(1), cv2 },
            ..Application::plain("web", point.rate, 0.0)
        }],
        events: Vec::new(),
        objective: Objective::USUAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::Open;

    /// A database of 4 cores and 10 ms of work.
    fn measured() -> Measured {
        let level = |n: u32| Level {
            in_use: n,
            seconds: 20.0,
            completions: 2000 * u64::from(n.min(4)),
            hold_p99: None,
        };
        Measured { spread: 0.01, levels: [1, 2, 3, 4, 6, 8].map(level).to_vec(), ..Measured::default() }
    }

    #[test]
    fn the_band_holds_what_the_formula_says_and_widens_with_the_load() {
        let mut measured = measured();
        measured.facts.open = vec![Open { rate: 100.0, speed: 0.96 }];
        let at = |rate| forecast(&measured, Point { connections: 4, rate, seconds: 60.0 }, 1);
        let (calm, busy) = (at(200.0), at(340.0));
        for one in [calm, busy] {
            assert!(one.wait_p99.low < 1.3 * one.formula_p99.unwrap(), "{one:?}");
            assert!(one.wait_p99.high > one.formula_p99.unwrap(), "{one:?}");
            assert!(one.response_p99.middle > one.wait_p99.middle);
        }
        assert!(calm.wait_p99.high < busy.wait_p99.low);
        assert!(busy.wait_p99.high / busy.wait_p99.low > calm.wait_p99.high / calm.wait_p99.low);
    }

    /// For 2 s 500/s come and 400/s are served: 200 are left over, which 300/s of what is free then serve in 2/3 s.
    #[test]
    fn a_spike_leaves_what_the_database_could_not_serve_behind() {
        let spike = Spike { factor: 5.0, at: 3.0, lasts: 2.0, late: 0.05 };
        let point = Point { connections: 4, rate: 100.0, seconds: 15.0 };
        let mut measured = measured();
        measured.facts.open = vec![Open { rate: 100.0, speed: 1.0 }];
        let after = spiked(&measured, point, spike, 1);
        assert!((after.wait_p99.middle - 0.5).abs() < 0.15, "{after:?}");
        assert!((after.recovers_in.middle - 0.6).abs() < 0.3, "{after:?}");
        assert!(after.wait_p99.low < after.wait_p99.middle && after.recovers_in.high < 2.0);
    }

    /// Long leases make high numbers in use look slow; the mean number in use is not taken in.
    #[test]
    fn a_slower_database_is_recognised_by_how_many_connections_it_takes() {
        let mut measured = measured();
        measured.facts.hold_cv2 = Some(2.0);
        let point = Point { connections: 8, rate: 220.0, seconds: 60.0 };
        for slower in [0.75, 1.0] {
            let scenario = scenario(&measured, point, &measured.curve().times(slower));
            let seen: Vec<f64> = (0..5).map(|seed| simulate(&scenario, 900 + seed).mean_in_use).collect();
            let found = speed(&measured, point, seen.iter().sum::<f64>() / 5.0, 1);
            assert!((found / slower - 1.0).abs() < 0.03, "{slower}: {found}");
        }
    }

    /// Two at once on one connection, each for 10 ms, every 30 ms: the second waits for 10 ms.
    #[test]
    fn a_replayed_run_has_the_waits_that_its_holds_lead_to() {
        let trace = (0..100).flat_map(|n| [(0.03 * f64::from(n), 0.01); 2]).collect();
        let point = Point { connections: 1, rate: 67.0, seconds: 3.0 };
        assert!((replayed(point, 0.1, trace) - 0.01).abs() < 1e-4);
    }

    /// Three times 100/s is less than the 400/s that it delivers, three times 360/s is not.
    #[test]
    fn retries_on_a_busy_database_outlast_a_stall_and_on_a_calm_one_they_do_not() {
        let trouble = Trouble { timeout: 0.3, retries: 2, backoff: 0.02, at: 5.0, stall: 2.0 };
        let at =
            |rate| never_recovers(&measured(), Point { connections: 8, rate, seconds: 30.0 }, trouble, 1);
        assert!(at(100.0) < 5.0, "{}", at(100.0));
        assert!(at(360.0) > 95.0, "{}", at(360.0));
    }
}
