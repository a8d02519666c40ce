//! Whether what was predicted came.

use std::time::{Duration, Instant};

use headpond::Connector;
use headpond_measure::{Options, Target, experiment};
use headpond_sizing::curve::KNEE_SHARE;
use headpond_sizing::passive::{Counters, learn};
use serde::Serialize;

use crate::open::{Attempt, Open, Seen};
use crate::predict::Predicted;
use crate::workloads::{Bench, Workload};
use crate::{Arguments, say};

/// More foreign work than this makes a run one of something else.
const CLEAN: f64 = 0.02;

/// What is left out at the beginning of a run, as a share of it: the same as in the forecast.
const WARM_UP: f64 = 0.05;

/// What came of one point.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Came {
    pub(crate) wait_p50: f64,
    pub(crate) wait_p99: f64,
    pub(crate) response_p99: f64,
    pub(crate) requests: usize,
    pub(crate) foreign: f64,
    pub(crate) clean: bool,
    /// Requests were sent later than planned.
    pub(crate) lag_p99: f64,
    /// Levels that the counters of the pool tell: connections, and by what factor their rate is off the experiment's.
    pub(crate) passive: Vec<(u32, f64)>,
}

/// What came of one workload on one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) database: String,
    pub(crate) workload: String,
    pub(crate) points: Vec<Came>,
    /// The fewest connections that deliver 95 % of the most, in a sweep over all sizes.
    pub(crate) best: u32,
    /// What the recommended size delivers, as a share of the most.
    pub(crate) delivers: f64,
    pub(crate) sweep: Vec<(u32, f64)>,
    pub(crate) sweep_doubts: Vec<String>,
    /// It went on to the end, and whether nobody disturbed.
    pub(crate) never_recovered: Vec<(bool, bool)>,
}

pub(crate) async fn verify<T, C>(
    bench: &Bench<T, C>,
    workload: &Workload,
    predicted: &Predicted,
    arguments: &Arguments,
    begun: Instant,
) -> Outcome
where
    T: Target,
    C: Connector<Connection = T::Connection> + Clone,
{
    let name = format!("{} {}", bench.name, workload.name);
    let mut points = Vec::new();
    for (number, (point, forecast)) in (0..).zip(&predicted.points) {
        let seed = arguments.seed * 1000 + number;
        let (seen, looks) = Open::new(bench, workload, *point, None, seed).await.run().await;
        let came = came(&seen, point.seconds, predicted, &looks);
        let inside = if forecast.wait_p99.contains(came.wait_p99) { "inside" } else { "MISSED" };
        say(
            begun,
            &format!(
                "{name}: {} connections, {:.0}/s: p99 wait {:.2} ms, predicted {:.2} to {:.2}: {inside}; foreign {:.1} %",
                point.connections,
                point.rate,
                1e3 * came.wait_p99,
                1e3 * forecast.wait_p99.low,
                1e3 * forecast.wait_p99.high,
                100.0 * came.foreign
            ),
        );
        points.push(came);
    }
    let mut never_recovered = Vec::new();
    for (number, (point, trouble, percent)) in (0..).zip(&predicted.troubles) {
        let seed = arguments.seed * 2000 + number;
        let (seen, _) = Open::new(bench, workload, *point, Some(*trouble), seed).await.run().await;
        let never = !calm_at_the_end(&seen.attempts, point.seconds, trouble.timeout);
        say(begun, &format!("{name}: {trouble:?}: never recovers: {never}, predicted in {percent:.0} %"));
        never_recovered.push((never, seen.foreign <= CLEAN));
    }
    say(begun, &format!("{name}: every size"));
    let options = Options {
        levels: Some((1..=(2 * predicted.best).min(arguments.most)).collect()),
        rounds: 2,
        look: Duration::from_secs_f64(arguments.look),
        share: 1.0,
        longest: 2.0,
        seed: arguments.seed + 77,
    };
    let never = std::future::pending();
    let script = Some(workload.script.clone());
    let sweep = experiment(&bench.target, script, &options, |_| {}, never).await.unwrap();
    let curve = sweep.curve();
    let best = curve.knee();
    say(
        begun,
        &format!("{name}: {:.0} % of the most at {best}, recommended {}", 100.0 * KNEE_SHARE, predicted.best),
    );
    Outcome {
        database: predicted.database.clone(),
        workload: predicted.workload.clone(),
        points,
        best,
        delivers: curve.rate(predicted.best) / curve.peak(),
        sweep: sweep.levels.iter().map(|level| (level.in_use, level.rate())).collect(),
        sweep_doubts: sweep.doubts(),
        never_recovered,
    }
}

fn came(seen: &Seen, seconds: f64, predicted: &Predicted, looks: &[Counters]) -> Came {
    let counted = || seen.attempts.iter().filter(|one| one.born > WARM_UP * seconds);
    let quantile = |share: f64, of: fn(&Attempt) -> f64| {
        let mut values: Vec<f64> = counted().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::INFINITY)
    };
    let curve = predicted.measured.curve();
    let told = learn(looks).map(|learnt| learnt.levels).unwrap_or_default();
    let enough = told.into_iter().filter(|level| level.completions >= 1000);
    Came {
        wait_p50: quantile(0.5, |one| one.wait),
        wait_p99: quantile(0.99, |one| one.wait),
        response_p99: quantile(0.99, |one| one.ended - one.born),
        requests: counted().count(),
        foreign: seen.foreign,
        clean: seen.foreign <= CLEAN,
        lag_p99: seen.lag_p99,
        passive: enough.map(|level| (level.in_use, level.rate() / curve.rate(level.in_use))).collect(),
    }
}

/// Whether nine of ten attempts of the last five seconds were served without waiting for too long.
fn calm_at_the_end(attempts: &[Attempt], seconds: f64, timeout: f64) -> bool {
    let last = || attempts.iter().filter(|one| (seconds - 5.0..seconds).contains(&one.ended));
    let bad = last().filter(|one| !one.served || one.wait > timeout).count();
    bad as f64 <= 0.1 * last().count() as f64 && last().count() > 0
}
