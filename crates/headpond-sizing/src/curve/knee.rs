//! The knee of a measured curve, and how sure it is.

use serde::{Deserialize, Serialize};

use super::{Curve, KNEE_SHARE, unimodal};
use crate::sim::Stream;

/// Resamples of the bootstrap.
const RESAMPLES: u64 = 200;

/// What was measured while exactly so many connections were in use: by an experiment, or by counters in production (a
/// birth-death pool's maximum-likelihood estimate of X(n) is completions over time).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Connections.
    pub in_use: u32,
    /// For how long.
    pub seconds: f64,
    /// How many leases ended.
    pub completions: u64,
    /// 99 % of the leases were no longer, in seconds; absent while not known.
    pub hold_p99: Option<f64>,
}

impl Level {
    /// Completions per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.completions as f64 / self.seconds
    }
}

/// Where more connections stop to deliver more.
#[derive(Clone, Debug, PartialEq)]
pub struct Knee {
    /// The fewest connections that deliver 95 % of the fitted curve's peak.
    pub connections: u32,
    /// A 90 % interval of that, by resamples.
    pub interval: (u32, u32),
    /// The peak was at the largest level that was measured: the knee may lie beyond it.
    pub at_least: bool,
    /// The fitted curve, unimodal, with straight lines between the levels.
    pub curve: Curve,
}

/// The knee of levels in rising order of connections, each of which delivered something; `None` without any.
///
/// `spread` is what one level varies by from run to run beyond chance (its relative standard deviation: 0.01 on a quiet
/// machine), `seed` feeds the resampling.
#[must_use]
pub fn knee(levels: &[Level], spread: f64, seed: u64) -> Option<Knee> {
    let most = levels.last()?.in_use;
    let curve = fitted(levels);
    let mut chance = Stream::new(seed, 0);
    let mut knees: Vec<u32> = (0..RESAMPLES)
        .map(|_| {
            let noisy = noisy(levels, &curve, spread, &mut chance);
            fit(levels, &noisy).reaching(KNEE_SHARE * plateau(&noisy, spread))
        })
        .collect();
    knees.sort_unstable();
    let at = |share: f64| knees[((knees.len() - 1) as f64 * share).round() as usize];
    let interval = (at(0.05), at(0.95));
    Some(Knee {
        connections: curve.knee().clamp(interval.0, interval.1),
        interval,
        at_least: curve.rate(most) >= curve.peak() && curve.rate(most - most / 4) < KNEE_SHARE * curve.peak(),
        curve,
    })
}

/// The peak of what was measured: the mean of all levels that chance may have kept from being the highest. The highest
/// alone has mostly luck to thank.
fn plateau(rates: &[f64], spread: f64) -> f64 {
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let high = || rates.iter().filter(|rate| **rate >= highest * (1.0 - 3.0 * spread));
    high().sum::<f64>() / high().count().max(1) as f64
}

/// The curve through the unimodal fit of some levels, at least one.
pub(crate) fn fitted(levels: &[Level]) -> Curve {
    fit(levels, &levels.iter().map(Level::rate).collect::<Vec<f64>>())
}

/// The same through levels that chance might have led to as well.
pub(crate) fn resampled(levels: &[Level], curve: &Curve, spread: f64, chance: &mut Stream) -> Curve {
    fit(levels, &noisy(levels, curve, spread, chance))
}

/// Rates around the fit: around what was measured, chance would be counted twice.
fn noisy(levels: &[Level], curve: &Curve, spread: f64, chance: &mut Stream) -> Vec<f64> {
    let noisy = |level: &Level| {
        let sd = (1.0 / level.completions as f64 + spread * spread).sqrt();
        curve.rate(level.in_use) * (1.0 + sd * chance.normal()).max(1e-3)
    };
    levels.iter().map(noisy).collect()
}

fn fit(levels: &[Level], rates: &[f64]) -> Curve {
    let weights: Vec<f64> =
        levels.iter().zip(rates).map(|(l, rate)| l.completions as f64 / (rate * rate)).collect();
    let fitted = unimodal(rates, &weights);
    let most = levels.last().map_or(1, |level| level.in_use);
    let mut points = levels.iter().map(|level| f64::from(level.in_use)).zip(fitted).peekable();
    let (mut before, mut curve) = ((0.0, 0.0), Vec::new());
    for n in (1..=most).map(f64::from) {
        while let Some(point) = points.next_if(|point| point.0 <= n) {
            before = point;
        }
        curve.push(match points.peek() {
            Some(after) => before.1 + (after.1 - before.1) * (n - before.0) / (after.0 - before.0),
            None => before.1,
        });
    }
    Curve::new(curve)
}
