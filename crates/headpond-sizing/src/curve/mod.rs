//! What a database delivers by how many connections are in use: the capacity curve X(n).

mod knee;
mod unimodal;

#[cfg(test)]
mod tests;

pub use knee::{Knee, Level, knee};
pub(crate) use knee::{fitted, resampled};
pub use unimodal::unimodal;

use crate::queues::Waits;
use crate::scenario::{Objective, Speed};

/// A knee is where this share of the peak is reached.
pub const KNEE_SHARE: f64 = 0.95;

/// The most connections that a curve speaks of.
pub const MOST: u32 = 4096;

/// Completions per second with 1, 2, … connections in use; beyond the last it stays level.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve(Vec<f64>);

impl Curve {
    /// A curve from its values for 1, 2, …; at least one, all above zero.
    #[must_use]
    pub fn new(rates: Vec<f64>) -> Self {
        debug_assert!(rates.iter().all(|rate| *rate > 0.0) && !rates.is_empty());
        Self(rates)
    }

    /// Leases that consist of `work` on a database of this speed and of `think` time elsewhere (seconds each): the
    /// flow-equivalent server of Chandy, Herzog and Woo 1975, from the product form of the closed network.
    #[must_use]
    pub fn of_leases(speed: &Speed, work: f64, think: f64, most: u32) -> Self {
        let services: Vec<f64> =
            (1..=most).map(|n| f64::from(n) * speed.of_each(n) / work.max(1e-12)).collect();
        let mut rates = Vec::with_capacity(services.len());
        for n in 1..=services.len() {
            // Weights of the states with m at work, m from 0 up: Z^(n−m)/(n−m)! ÷ (X(1)…X(m)), relative to the first.
            let (mut term, mut weight, mut rate) = (1.0_f64, 1.0_f64, 0.0_f64);
            for (m, service) in services[..n].iter().enumerate() {
                let thinking = (n - m) as f64;
                term *= thinking / (think.max(1e-12) * service);
                weight += term;
                rate += term * service;
                if term > 1e200 {
                    (term, weight, rate) = (term * 1e-200, weight * 1e-200, rate * 1e-200);
                }
            }
            rates.push(rate / weight);
            // Level from here on: the peak of a database that only shares.
            let last = rates.len();
            if matches!(speed, Speed::Cores(_))
                && last > 8
                && rates[last - 1] < rates[last - 2] * (1.0 + 1e-9)
            {
                break;
            }
        }
        Self(rates)
    }

    /// Completions per second with `n` in use.
    #[must_use]
    pub fn rate(&self, n: u32) -> f64 {
        let place = (n.max(1) as usize).min(self.0.len());
        self.0[place - 1]
    }

    /// The most it delivers.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// The fewest connections that deliver [`KNEE_SHARE`] of the peak: more of them only wait in the database.
    #[must_use]
    pub fn knee(&self) -> u32 {
        self.reaching(KNEE_SHARE * self.peak())
    }

    /// The fewest connections that deliver so much; all it speaks of, if none do.
    fn reaching(&self, enough: f64) -> u32 {
        self.0.iter().position(|rate| *rate >= enough).unwrap_or(self.0.len() - 1) as u32 + 1
    }

    /// Pairs of connections and completions per second, for the simulator.
    pub(crate) fn points(&self) -> Vec<(u32, f64)> {
        (1..).zip(self.0.iter().copied()).collect()
    }

    /// The same database, so many times as fast.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|rate| rate * factor).collect())
    }

    /// Waits at a pool of `connections`: a load-dependent birth-death pool, with holds and arrivals that vary by `z`
    /// ([`crate::queues::variability`]) as far as they are not shared in the database, which evens them out.
    #[must_use]
    pub fn waits(&self, connections: u32, arrivals: f64, z: f64) -> Waits {
        let mut waits = Waits { p_wait: 1.0, decay: 0.0 };
        let mut below = 0.0;
        for n in 1..=connections {
            let rate = self.rate(n);
            below = rate / arrivals * if n == 1 { 1.0 } else { 1.0 + below };
            if n == connections && rate > arrivals {
                let busy = 1.0 / (1.0 - arrivals / rate);
                waits = Waits { p_wait: busy / (below + busy), decay: (rate - arrivals) / self.varies(n, z) };
            }
        }
        waits
    }

    /// The fewest connections that meet an objective; `None` if no number up to [`MOST`] does.
    #[must_use]
    pub fn demand(&self, arrivals: f64, z: f64, objective: Objective) -> Option<u32> {
        let mut below = 0.0;
        for n in 1..=MOST {
            let rate = self.rate(n);
            below = rate / arrivals * if n == 1 { 1.0 } else { 1.0 + below };
            if rate > arrivals {
                let busy = 1.0 / (1.0 - arrivals / rate);
                let p_wait = busy / (below + busy);
                let waits = Waits { p_wait, decay: (rate - arrivals) / self.varies(n, z) };
                if waits.later_than(objective.wait) <= objective.late {
                    return Some(n);
                }
            }
        }
        None
    }

    /// How many times faster the database would have to be for `connections` to meet an objective: 1 if they do.
    #[must_use]
    pub fn missing(&self, connections: u32, arrivals: f64, z: f64, objective: Objective) -> f64 {
        let late = |factor| {
            let curve = self.times(factor);
            curve.waits(connections, arrivals, z).later_than(objective.wait)
        };
        if late(1.0) <= objective.late {
            return 1.0;
        }
        let (mut low, mut high) = (1.0, 2.0);
        while late(high) > objective.late && high < 1e9 {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if late(middle) > objective.late { low = middle } else { high = middle }
        }
        high
    }

    /// What is left of the variability of holds: all of it while more connections deliver more, none where they share.
    fn varies(&self, n: u32, z: f64) -> f64 {
        let alone = f64::from(n) * self.rate(1);
        let delay_bound = (self.rate(n) / alone).clamp(0.0, 1.0);
        1.0 + (z - 1.0) * delay_bound
    }
}
