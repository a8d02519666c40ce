//! The experiment, and what follows from it.

use std::time::{Duration, Instant};

use headpond::Connector;
use headpond_measure::{Options, Target, experiment};
use headpond_sizing::climb::ladder;
use headpond_sizing::curve::knee;
use headpond_sizing::forecast::{
    Aftermath, Forecast, Point, Spike, Trouble, forecast, never_recovers, spiked,
};
use headpond_sizing::measured::Measured;
use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use crate::workloads::{Bench, Workload};
use crate::{Arguments, Spare, say};

/// How long a trouble lasts, and all of one workload together.
const TROUBLE: f64 = 13.0;
pub(crate) const TROUBLES: f64 = 4.0 * (TROUBLE + 1.0);

/// Everything that is said of one workload on one server before it is looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Predicted {
    pub(crate) database: String,
    pub(crate) version: String,
    pub(crate) workload: String,
    pub(crate) measured: Measured,
    pub(crate) doubts: Vec<String>,
    /// The recommended maximum where demand does not bind: the knee, and its interval.
    pub(crate) best: u32,
    pub(crate) best_interval: (u32, u32),
    /// Where looks are to be taken. What is expected there is said right before, for a machine as fast as it is then.
    pub(crate) points: Vec<Point>,
    /// What may outlast its cause, and in how many of 100 cases it does.
    pub(crate) troubles: Vec<(Point, Trouble, f64)>,
    /// A load that is five times as high for a while, and what it leaves.
    pub(crate) spike: Option<(Point, Spike, Aftermath)>,
}

pub(crate) async fn predict<T: Target, C: Connector<Connection = T::Connection> + Clone>(
    bench: &Bench<T, C>,
    workload: &Workload,
    arguments: &Arguments,
    spare: &mut Spare,
    begun: Instant,
) -> Predicted {
    let name = format!("{} {}", bench.name, workload.name);
    let options = |levels: Vec<u32>, rounds, seed| Options {
        levels: Some(levels),
        rounds,
        look: Duration::from_secs_f64(arguments.look),
        share: 1.0,
        longest: 2.0,
        random: true,
        seed,
    };
    let wanted = options(ladder(arguments.most), arguments.rounds, arguments.seed);
    let (measured, doubts) = loop {
        say(begun, &format!("{name}: experiment"));
        let (asked, script) = (Instant::now(), Some(workload.script.clone()));
        let never = std::future::pending();
        let measured = experiment(&bench.target, script, &wanted, |_| {}, never).await.unwrap();
        let doubts = measured.doubts();
        for doubt in &doubts {
            say(begun, &format!("{name}: not to be trusted: {doubt}"));
        }
        if doubts.is_empty() || !spare.take(asked.elapsed().as_secs_f64()) {
            break (measured, doubts);
        }
    };
    let found = knee(&measured.levels, measured.spread, 1).unwrap();
    let best = found.connections;
    let (peak, open) = (found.curve.peak(), &measured.facts.open);
    say(begun, &format!("{name}: the knee is {best} of {peak:.0}/s, at random {open:?}; predictions"));
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(arguments.seed ^ u64::from(name.len() as u32));
    let sizes = [best.div_ceil(2), best, best + 1, 2 * best];
    let point = |_| {
        let connections = sizes[chance.random_range(0..sizes.len())].min(arguments.most);
        let rate = measured.rate_at(connections, chance.random_range(0.5..0.85));
        Point { connections, rate, seconds: arguments.seconds }
    };
    let points: Vec<Point> = (0..arguments.points).map(point).collect();
    let (seed, measured) = (arguments.seed, &measured);
    let troubles = if workload.troubled { troubles(measured, best) } else { Vec::new() };
    let spike = workload.troubled.then(|| spike(measured, best));
    // Nothing is measured meanwhile: all cores may work.
    let (troubles, spike) = std::thread::scope(|scope| {
        let troubles: Vec<_> = (troubles.into_iter())
            .map(|(at, trouble)| {
                scope.spawn(move || (at, trouble, never_recovers(measured, at, trouble, seed)))
            })
            .collect();
        let spike = spike.map(|(at, spike)| (at, spike, spiked(measured, at, spike, seed)));
        (troubles.into_iter().map(|trouble| trouble.join().unwrap()).collect(), spike)
    });
    Predicted {
        database: bench.name.to_owned(),
        version: bench.version.clone(),
        workload: workload.name.to_owned(),
        best,
        best_interval: found.interval,
        points,
        troubles,
        spike,
        doubts,
        measured: measured.clone(),
    }
}

/// How fast the machine is now, as a factor of what it was in the experiment: a look at the knee.
pub(crate) async fn pace<T: Target, C>(
    bench: &Bench<T, C>,
    workload: &Workload,
    predicted: &Predicted,
    arguments: &Arguments,
) -> f64 {
    let options = Options {
        levels: Some(vec![predicted.best]),
        rounds: 1,
        look: Duration::from_secs_f64(2.0 * arguments.look),
        share: 1.0,
        longest: 2.0,
        random: false,
        seed: arguments.seed,
    };
    let (script, never) = (Some(workload.script.clone()), std::future::pending());
    let look = experiment(&bench.target, script, &options, |_| {}, never).await.unwrap();
    look.levels[0].rate() / predicted.measured.curve().rate(predicted.best)
}

/// What is expected on a machine that is so fast, as well as one look can tell.
pub(crate) fn expect(predicted: &Predicted, point: Point, pace: f64, seed: u64) -> Forecast {
    let mut measured = predicted.measured.clone();
    measured.facts.open.iter_mut().for_each(|open| open.speed *= pace);
    forecast(&measured, point, seed)
}

/// A stall with patient clients, with impatient ones on a calm database, and with impatient ones on a busy one.
fn troubles(measured: &Measured, connections: u32) -> Vec<(Point, Trouble)> {
    let trouble = |retries| Trouble { timeout: 0.25, retries, backoff: 0.02, at: 3.0, stall: 1.5 };
    let at = |share| Point { connections, rate: measured.rate_at(connections, share), seconds: TROUBLE };
    vec![(at(0.7), trouble(0)), (at(0.2), trouble(2)), (at(0.75), trouble(4))]
}

/// Half as much again as the database bears, for two seconds.
fn spike(measured: &Measured, connections: u32) -> (Point, Spike) {
    let spike = Spike { factor: 5.0, at: 2.0, lasts: 2.0, late: 0.05 };
    (Point { connections, rate: measured.rate_at(connections, 0.3), seconds: TROUBLE }, spike)
}
