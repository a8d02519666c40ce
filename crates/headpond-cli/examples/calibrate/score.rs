//! How the predictions fared.

use std::fmt::Write as _;

use headpond_sizing::forecast::{Band, Forecast, RESOLUTION};
use serde::Serialize;

use crate::predict::Predicted;
use crate::verify::{Came, Outcome};

/// What the load itself comes late by, mostly, in seconds.
const LATE: f64 = 2e-4;

/// What the report of `headpond size` says of the newest calibration: of clean runs only.
#[derive(Serialize)]
pub(crate) struct Summary {
    /// Which that is.
    calibration: String,
    databases: Vec<String>,
    /// Runs at blind points, those of them that nobody disturbed, and of these those with the p99 wait inside its band.
    blind: usize,
    clean: usize,
    inside: usize,
    /// Median of the ends of the bands, one over the other.
    band_ratio: f64,
    /// Sweeps over all sizes, and those whose best was the recommended maximum, within 15 % or 1.
    sizes: usize,
    sizes_right: usize,
    /// Stalls, and those of which it was foretold whether they outlast their cause.
    stalls: usize,
    stalls_right: usize,
}

pub(crate) fn summary(calibration: &str, pairs: &[(Predicted, Outcome)]) -> Summary {
    let points = || pairs.iter().flat_map(|(_, outcome)| &outcome.points);
    let clean = || points().filter(|came| came.clean).map(|came| (came.forecast.wait_p99, came));
    let ratios: Vec<f64> = clean().map(|(band, _)| ratio(band)).collect();
    let quiet =
        || pairs.iter().filter(|(one, outcome)| one.doubts.is_empty() && outcome.sweep_doubts.is_empty());
    let stalls = || {
        let all = pairs.iter().flat_map(|(one, outcome)| one.troubles.iter().zip(&outcome.never_recovered));
        all.filter(|(_, (_, clean))| *clean)
    };
    let mut databases: Vec<String> = pairs.iter().map(|(one, _)| one.version.clone()).collect();
    databases.sort();
    databases.dedup();
    Summary {
        calibration: calibration.to_owned(),
        databases,
        blind: points().count(),
        clean: clean().count(),
        inside: clean().filter(|(_, came)| came.inside()).count(),
        band_ratio: if ratios.is_empty() { 0.0 } else { (100.0 * quantile(ratios, 0.5)).round() / 100.0 },
        sizes: quiet().count(),
        sizes_right: quiet().filter(|(one, outcome)| near(one, outcome)).count(),
        stalls: stalls().count(),
        stalls_right: stalls().filter(|((_, _, percent), (never, _))| (*percent > 50.0) == *never).count(),
    }
}

/// The upper end of a band over the lower one.
fn ratio(band: Band) -> f64 {
    band.high.max(RESOLUTION) / band.low.max(RESOLUTION)
}

/// Whether the recommended maximum is the best one, within 15 % or 1.
fn near(one: &Predicted, outcome: &Outcome) -> bool {
    f64::from(one.best.abs_diff(outcome.best)) <= (0.15 * f64::from(outcome.best)).max(1.0)
}

/// What was aimed at, and what came; of clean runs only.
pub(crate) fn table(predicted: &[Predicted], outcomes: &[Outcome]) -> String {
    let pairs = || predicted.iter().zip(outcomes);
    let runs =
        || outcomes.iter().flat_map(|outcome| &outcome.points).map(|came| (came.forecast, came.clone()));
    let clean: Vec<_> = runs().filter(|(_, came)| came.clean).collect();
    let share = |good: usize, all: usize| match all {
        0 => "none".to_owned(),
        all => format!("{good} of {all} ({:.0} %)", 100.0 * good as f64 / all as f64),
    };
    let count = |good: &dyn Fn(&(Forecast, Came)) -> bool| {
        share(clean.iter().filter(|pair| good(pair)).count(), clean.len())
    };
    let off = |middle: f64, came: f64| (middle / came.max(1e-5) - 1.0).abs();
    let waits = || clean.iter().map(|(said, came)| off(said.wait_p99.middle, came.wait_p99)).collect();
    let responses =
        clean.iter().map(|(said, came)| off(said.response_p99.middle, came.response_p99)).collect();
    let ratios = clean.iter().map(|(said, _)| ratio(said.wait_p99)).collect();
    let quiet = || pairs().filter(|(one, outcome)| one.doubts.is_empty() && outcome.sweep_doubts.is_empty());
    let known = quiet().filter(|(one, outcome)| near(one, outcome)).count();
    let delivers = quiet().filter(|(_, outcome)| outcome.delivers >= 0.93).count();
    let passive =
        clean.iter().flat_map(|(_, came)| came.passive.iter().map(|(_, factor)| (factor - 1.0).abs()));
    let troubles = || {
        pairs()
            .flat_map(|(one, outcome)| one.troubles.iter().zip(&outcome.never_recovered))
            .filter(|(_, came)| came.1)
    };
    let right = troubles().filter(|((_, _, percent), (never, _))| (*percent > 50.0) == *never).count();
    let replays = clean
        .iter()
        .filter(|(_, came)| came.wait_p99 > 1e-3)
        .map(|(_, came)| off(came.replayed_p99, came.wait_p99))
        .collect();
    let spikes = || {
        let both = pairs().filter_map(|(one, outcome)| Some((one.spike.as_ref()?.2, outcome.spike?)));
        both.filter(|(_, came)| came.2)
    };
    let waits_near = spikes().filter(|(said, came)| off(said.wait_p99.middle, came.0) <= 0.3).count();
    let over_near = spikes()
        .filter(|(said, came)| {
            let missed = (said.recovers_in.middle - came.1).abs();
            missed <= 1.0 || missed <= 0.3 * came.1
        })
        .count();
    let rows = [
        ("S2 p99 wait inside its 90 % band", "85-97 %", count(&|(_, came)| came.inside())),
        (
            "S2 p50 wait inside (or within 0.2 ms)",
            "85-97 %",
            count(&|(said, came)| {
                said.wait_p50.contains(came.wait_p50) || (said.wait_p50.middle - came.wait_p50).abs() < LATE
            }),
        ),
        (
            "S2 p99 response inside",
            "85-97 %",
            count(&|(said, came)| said.response_p99.contains(came.response_p99)),
        ),
        ("S2 median ratio of the ends of the band", "at most 2.5", format!("{:.2}", quantile(ratios, 0.5))),
        ("S3 p99 wait, median error", "15 %", percent(quantile(waits(), 0.5))),
        ("S3 p99 wait, 90 % of errors below", "35 %", percent(quantile(waits(), 0.9))),
        ("S3 p99 response, median error", "10 %", percent(quantile(responses, 0.5))),
        (
            "S3 better than the formula",
            "70 %",
            count(&|(said, came)| {
                off(said.wait_p99.middle, came.wait_p99)
                    <= said.formula_p99.map_or(f64::INFINITY, |p99| off(p99, came.wait_p99))
            }),
        ),
        ("S4 recommended maximum within 15 % or 1", "95 %", share(known, quiet().count())),
        ("S4 it delivers 93 % of the most", "all", share(delivers, quiet().count())),
        ("S6 passive curve, median error", "10 %", percent(quantile(passive.collect(), 0.5))),
        (
            "S1 p99 wait replayed from requests and holds, 90 % of errors below",
            "5 %",
            percent(quantile(replays, 0.9)),
        ),
        ("S7 never recovers, yes or no", "all", share(right, troubles().count())),
        ("S7 spike: p99 wait within 30 %", "all", share(waits_near, spikes().count())),
        ("S7 spike: over within 30 % or 1 s", "all", share(over_near, spikes().count())),
    ];
    let mut text = format!(
        "{} of {} runs clean.\n\n| what | aim | came |\n| --- | --- | --- |\n",
        clean.len(),
        runs().count()
    );
    for (what, aim, came) in rows {
        let _ = writeln!(text, "| {what} | {aim} | {came} |");
    }
    text
}

fn percent(share: f64) -> String {
    if share.is_nan() { "none".to_owned() } else { format!("{:.0} %", 100.0 * share) }
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}
