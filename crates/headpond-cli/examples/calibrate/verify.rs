//! Whether what was predicted came.

use std::time::{Duration, Instant};

use headpond::Connector;
use headpond_measure::{Options, SAME_PACE, Target, experiment};
use headpond_sizing::curve::KNEE_SHARE;
use headpond_sizing::forecast::{Band, Forecast, Point, Spike, forecast, replayed, speed};
use headpond_sizing::measured::Open as Found;
use headpond_sizing::passive::{Counters, learn};
use serde::Serialize;

use crate::ledger::Ledger;
use crate::open::{Attempt, CLEAN, Open, Seen};
use crate::predict::{Predicted, expect, pace};
use crate::workloads::{Bench, Workload};
use crate::{Arguments, Spare, say};

/// What is left out at the beginning of a run, as a share of it: the same as in the forecast.
const WARM_UP: f64 = 0.05;

/// A run that others disturbed is done again so often, while there is time.
const AGAIN: usize = 2;

/// What came of one point.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Came {
    /// What was expected, and the SHA-256 of the line in which that was written before the run.
    pub(crate) forecast: Forecast,
    pub(crate) foretold: String,
    /// How fast the machine was before the run and after it, as a factor of what it was in the experiment.
    pub(crate) pace: (f64, f64),
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
    /// By what factor the database was faster than in the experiment, by how many connections were in use, and the p99 wait
    /// that would have been foretold with that.
    pub(crate) speed: f64,
    pub(crate) band_at_speed: Band,
    /// The p99 wait that the pool's policy has with the requests and holds as they came.
    pub(crate) replayed_p99: f64,
    /// Runs before that others disturbed: their share of the machine, and the p99 wait.
    pub(crate) disturbed: Vec<(f64, f64)>,
}

impl Came {
    /// Whether the p99 wait lies in its band, but for what the load itself came late by.
    pub(crate) fn inside(&self) -> bool {
        let band = self.forecast.wait_p99;
        band.low <= self.wait_p99 && self.wait_p99 - self.lag_p99 <= band.high
    }
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
    /// The p99 wait since a spike began, in how many seconds it was over, and whether nobody disturbed.
    pub(crate) spike: Option<(f64, f64, bool)>,
}

pub(crate) async fn verify<T, C>(
    bench: &Bench<T, C>,
    workload: &Workload,
    predicted: &Predicted,
    arguments: &Arguments,
    spare: &mut Spare,
    ledger: &Ledger,
    begun: Instant,
) -> Outcome
where
    T: Target,
    C: Connector<Connection = T::Connection> + Clone,
{
    let name = format!("{} {}", bench.name, workload.name);
    let mut points = Vec::new();
    let mut before = pace(bench, workload, predicted, arguments).await;
    for (number, point) in (0..).zip(&predicted.points) {
        let seed = arguments.seed * 1000 + number;
        let mut disturbed = Vec::new();
        let mut came = loop {
            let forecast = expect(predicted, *point, before, seed);
            let foretold = ledger.foretell_point(predicted, *point, before, forecast);
            let (seen, looks) = Open::new(bench, workload, *point, None, seed).await.run().await;
            let after = pace(bench, workload, predicted, arguments).await;
            let pace = (std::mem::replace(&mut before, after), after);
            let came = came(&seen, *point, predicted, &looks, (forecast, foretold, pace));
            if came.clean || disturbed.len() >= AGAIN || !spare.take(point.seconds) {
                break came;
            }
            disturbed.push((came.foreign, came.wait_p99));
        };
        came.disturbed = disturbed;
        let forecast = came.forecast;
        let inside = if came.inside() { "inside" } else { "MISSED" };
        say(
            begun,
            &format!(
                "{name}: {} connections, {:.0}/s: p99 wait {:.2} ms, predicted {:.2} to {:.2}: {inside}; foreign {:.1} %, pace {:.2} and {:.2}, lag {:.2} ms, speed {:.2}, replayed {:.2} ms",
                point.connections,
                point.rate,
                1e3 * came.wait_p99,
                1e3 * forecast.wait_p99.low,
                1e3 * forecast.wait_p99.high,
                100.0 * came.foreign,
                came.pace.0,
                came.pace.1,
                1e3 * came.lag_p99,
                came.speed,
                1e3 * came.replayed_p99
            ),
        );
        points.push(came);
    }
    let mut never_recovered = Vec::new();
    for (number, (point, trouble, percent)) in (0..).zip(&predicted.troubles) {
        let seed = arguments.seed * 2000 + number;
        let mut tries = 0;
        let seen = loop {
            let (seen, _) = Open::new(bench, workload, *point, Some(*trouble), seed).await.run().await;
            tries += 1;
            if seen.foreign <= CLEAN || tries > AGAIN || !spare.take(point.seconds) {
                break seen;
            }
        };
        let never = !calm_at_the_end(&seen.attempts, point.seconds, trouble.timeout);
        say(begun, &format!("{name}: {trouble:?}: never recovers: {never}, predicted in {percent:.0} %"));
        never_recovered.push((never, seen.foreign <= CLEAN));
    }
    let mut spike = None;
    if let Some((point, what, said)) = &predicted.spike {
        let mut tries = 0;
        let seen = loop {
            let load = Open::new(bench, workload, *point, None, arguments.seed * 3000).await.spiked(*what);
            let (seen, _) = load.run().await;
            tries += 1;
            if seen.foreign <= CLEAN || tries > AGAIN || !spare.take(point.seconds) {
                break seen;
            }
        };
        let (wait, after) = aftermath(&seen.attempts, *point, *what);
        say(
            begun,
            &format!("{name}: a spike: p99 wait {wait:.2} s, over in {after:.2} s, predicted {said:?}"),
        );
        spike = Some((wait, after, seen.foreign <= CLEAN));
    }
    say(begun, &format!("{name}: every size"));
    let options = Options {
        levels: Some((1..=(2 * predicted.best).min(arguments.most)).collect()),
        rounds: 3,
        look: Duration::from_secs_f64(arguments.look / 2.0),
        share: 1.0,
        longest: 2.0,
        random: false,
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
        spike,
    }
}

fn came(
    seen: &Seen,
    point: Point,
    predicted: &Predicted,
    looks: &[Counters],
    (expected, foretold, pace): (Forecast, String, (f64, f64)),
) -> Came {
    let warm_up = WARM_UP * point.seconds;
    let counted = || seen.attempts.iter().filter(|one| one.born > warm_up);
    let quantile = |share: f64, of: fn(&Attempt) -> f64| {
        let mut values: Vec<f64> = counted().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::INFINITY)
    };
    let curve = predicted.measured.curve();
    let told = learn(looks).map(|learnt| learnt.levels).unwrap_or_default();
    let enough = told.into_iter().filter(|level| level.completions >= 1000);
    let mut measured = predicted.measured.clone();
    let speed = speed(&measured, point, seen.in_use(point), 1);
    measured.facts.open = vec![Found { rate: point.rate, speed }];
    let band_at_speed = forecast(&measured, point, 1).wait_p99;
    let mut trace: Vec<(f64, f64)> =
        seen.attempts.iter().map(|one| (one.born, one.ended - one.born - one.wait)).collect();
    trace.sort_by(|a, b| a.0.total_cmp(&b.0));
    Came {
        forecast: expected,
        foretold,
        pace,
        speed,
        band_at_speed,
        replayed_p99: replayed(point, warm_up, trace),
        disturbed: Vec::new(),
        wait_p50: quantile(0.5, |one| one.wait),
        wait_p99: quantile(0.99, |one| one.wait),
        response_p99: quantile(0.99, |one| one.ended - one.born),
        requests: counted().count(),
        foreign: seen.foreign,
        clean: seen.foreign <= CLEAN && (pace.1 / pace.0 - 1.0).abs() <= SAME_PACE,
        lag_p99: seen.lag_p99,
        passive: enough.map(|level| (level.in_use, level.rate() / curve.rate(level.in_use))).collect(),
    }
}

/// The p99 wait of those who came since a spike began, and in how many seconds from its end on it was over: the same as in
/// the forecast.
fn aftermath(attempts: &[Attempt], point: Point, spike: Spike) -> (f64, f64) {
    let mut waits: Vec<f64> =
        attempts.iter().filter(|one| one.born >= spike.at).map(|one| one.wait).collect();
    waits.sort_by(f64::total_cmp);
    let ends = spike.at + spike.lasts;
    let bad = |from: f64, to: f64| {
        let got = || attempts.iter().filter(|one| (from..to).contains(&(one.born + one.wait)));
        let late = got().filter(|one| one.wait > spike.late).count();
        late > 2 && late as f64 > 0.1 * got().count() as f64
    };
    let steps = (0..).map(|step| 0.25 * f64::from(step)).take_while(|after| ends + after < point.seconds);
    let over = steps
        .into_iter()
        .find(|after| !bad(ends + after, ends + after + 0.25) && !bad(ends + after, ends + after + 5.0));
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    (p99, over.unwrap_or(point.seconds - ends))
}

/// Whether nine of ten attempts of the last five seconds were served without waiting for too long.
fn calm_at_the_end(attempts: &[Attempt], seconds: f64, timeout: f64) -> bool {
    let last = || attempts.iter().filter(|one| (seconds - 5.0..seconds).contains(&one.ended));
    let bad = last().filter(|one| !one.served || one.wait > timeout).count();
    bad as f64 <= 0.1 * last().count() as f64 && last().count() > 0
}
