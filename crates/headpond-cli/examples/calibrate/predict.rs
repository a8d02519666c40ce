//! The experiment, and what follows from it.

use std::time::{Duration, Instant};

use headpond::Connector;
use headpond_measure::{Options, Target, experiment};
use headpond_sizing::climb::ladder;
use headpond_sizing::curve::knee;
use headpond_sizing::forecast::{
    Aftermath, Forecast, Point, Spike, Trouble, forecast, never_recovers, speed, spiked,
};
use headpond_sizing::measured::Measured;
use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use crate::open::{CLEAN, Open};
use crate::workloads::{Bench, Workload};
use crate::{Arguments, Spare, say};

/// How long the open load lasts that shows what random requests find, in seconds.
pub(crate) const PRACTICE: f64 = 10.0;

/// How long a trouble lasts, and all of one workload together.
const TROUBLE: f64 = 13.0;
pub(crate) const TROUBLES: f64 = 4.0 * (TROUBLE + 1.0);

/// Everything that is said of one workload on one server before it is looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Predicted {
    pub(crate) database: String,
    pub(crate) version: String,
    pub(crate) workload: String,
    pub(crate) measured: Measured,
    pub(crate) doubts: Vec<String>,
    /// The recommended maximum where demand does not bind: the knee, and its interval.
    pub(crate) best: u32,
    pub(crate) best_interval: (u32, u32),
    pub(crate) points: Vec<(Point, Forecast)>,
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
        seed,
    };
    let wanted = options(ladder(arguments.most), arguments.rounds, arguments.seed);
    let (mut measured, doubts) = loop {
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
    say(begun, &format!("{name}: the knee is {best} of {:.0}/s; practice", found.curve.peak()));
    let practice = Point { connections: 2 * best, rate: 0.7 * found.curve.rate(best), seconds: PRACTICE };
    loop {
        let (seen, _) = Open::new(bench, workload, practice, None, arguments.seed + 5).await.run().await;
        measured.facts.open = Some(speed(&measured, practice, seen.in_use(practice), arguments.seed));
        if seen.foreign <= CLEAN || !spare.take(PRACTICE) {
            break;
        }
        say(begun, &format!("{name}: others took {:.1} %: once more", 100.0 * seen.foreign));
    }
    say(
        begun,
        &format!(
            "{name}: random requests find it at {:.2} of its speed; predictions",
            measured.facts.open.unwrap_or(1.0)
        ),
    );
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(arguments.seed ^ u64::from(name.len() as u32));
    let sizes = [best.div_ceil(2), best, best + 1, 2 * best];
    let point = |_| {
        let connections = sizes[chance.random_range(0..sizes.len())].min(arguments.most);
        let load = chance.random_range(0.5..0.85);
        let rate = load * found.curve.rate(connections);
        Point { connections, rate, seconds: arguments.seconds }
    };
    let points: Vec<Point> = (0..arguments.points).map(point).collect();
    let (seed, peak) = (arguments.seed, found.curve.rate(best));
    let troubles = if workload.troubled { troubles(peak, best) } else { Vec::new() };
    let spike = workload.troubled.then(|| spike(peak, best));
    let measured = &measured;
    // Nothing is measured meanwhile: all cores may work.
    let (points, troubles, spike) = std::thread::scope(|scope| {
        let points: Vec<_> =
            points.iter().map(|point| scope.spawn(|| (*point, forecast(measured, *point, seed)))).collect();
        let troubles: Vec<_> = (troubles.into_iter())
            .map(|(at, trouble)| {
                scope.spawn(move || (at, trouble, never_recovers(measured, at, trouble, seed)))
            })
            .collect();
        let spike = spike.map(|(at, spike)| (at, spike, spiked(measured, at, spike, seed)));
        let points = points.into_iter().map(|point| point.join().unwrap()).collect();
        (points, troubles.into_iter().map(|trouble| trouble.join().unwrap()).collect(), spike)
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

/// A stall with patient clients, with impatient ones on a calm database, and with impatient ones on a busy one.
fn troubles(peak: f64, connections: u32) -> Vec<(Point, Trouble)> {
    let trouble = |retries| Trouble { timeout: 0.25, retries, backoff: 0.02, at: 3.0, stall: 1.5 };
    let at = |share: f64| Point { connections, rate: share * peak, seconds: TROUBLE };
    vec![(at(0.7), trouble(0)), (at(0.2), trouble(2)), (at(0.75), trouble(4))]
}

/// Half as much again as the database bears, for two seconds.
fn spike(peak: f64, connections: u32) -> (Point, Spike) {
    let spike = Spike { factor: 5.0, at: 2.0, lasts: 2.0, late: 0.05 };
    (Point { connections, rate: 0.3 * peak, seconds: TROUBLE }, spike)
}
