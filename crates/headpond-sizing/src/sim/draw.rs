//! Random numbers, each application with streams of its own: what one size of the pool changes does not change what
//! is asked of another.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Gamma, LogNormal, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::scenario::Amount;

/// Nanoseconds of a second.
pub(super) const SECOND: f64 = 1e9;

/// One stream of random numbers.
#[derive(Debug)]
pub(crate) struct Stream(Xoshiro256PlusPlus);

impl Stream {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        Exp1.sample(&mut self.0)
    }

    /// Normal, with mean 0 and deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// Between 0 and 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// How many requests come at once: geometric, so that counts have this variance over their mean.
    pub(super) fn group(&mut self, dispersion: f64) -> u32 {
        let stay = (dispersion - 1.0) / (dispersion + 1.0);
        let mut size = 1;
        while dispersion > 1.0 && self.unit() < stay {
            size += 1;
        }
        size
    }

    pub(super) fn time(&mut self, draw: &Draw) -> f64 {
        match draw {
            Draw::Constant(time) => *time,
            Draw::Exponential(mean) => mean * self.exponential(),
            Draw::Gamma(gamma) => gamma.sample(&mut self.0),
            Draw::LogNormal(normal) => normal.sample(&mut self.0),
        }
    }
}

/// The distribution of an [`Amount`], in nanoseconds: gamma below random, log-normal (a long tail) above it.
pub(super) enum Draw {
    Constant(f64),
    Exponential(f64),
    Gamma(Gamma<f64>),
    LogNormal(LogNormal<f64>),
}

impl Draw {
    pub(super) fn of(amount: Amount) -> Self {
        let mean = amount.mean * SECOND;
        if mean <= 0.0 || amount.cv2 <= 0.0 {
            return Self::Constant(mean.max(0.0));
        }
        if amount.cv2 == 1.0 {
            return Self::Exponential(mean);
        }
        let long_tail = || LogNormal::from_mean_cv(mean, amount.cv2.sqrt()).map(Self::LogNormal).ok();
        let even = || Gamma::new(1.0 / amount.cv2, mean * amount.cv2).map(Self::Gamma).ok();
        let draw = if amount.cv2 > 1.0 { long_tail() } else { even() };
        draw.unwrap_or(Self::Constant(mean))
    }
}
