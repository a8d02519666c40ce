//! Closed forms: what is waited for at a pool in steady state.
//!
//! Each function is one equation of the literature, named with its source and its assumptions. All of them speak of
//! arrivals that come at random and do not care about the state of the pool (an open system).

mod deterministic;
mod erlang;
mod load;
mod staffing;

#[cfg(test)]
mod tests;

pub use deterministic::{mdc_mean_wait, mg1_mean_wait, mgc_mean_wait};
pub use erlang::{erlang_b, erlang_c, mmc};
pub use load::{Queue, Steady};
pub use staffing::{
    connections_for_nesting, halfin_whitt, quality_for, splitting_tax, square_root_staffing, variability,
};

/// Waits at a pool in steady state: who waits, and for how long.
///
/// `P(W > t) = p_wait · e^(−t·decay)`: exact for the Markov pools of this module, the usual approximation for others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waits {
    /// Share of requests that have to wait at all.
    pub p_wait: f64,
    /// How fast longer waits become rarer, 1/s; zero if the queue grows without end.
    pub decay: f64,
}

impl Waits {
    /// Mean wait of all requests, those that did not wait included, in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.p_wait / self.decay
    }

    /// Share of requests that wait longer than `time`.
    #[must_use]
    pub fn later_than(&self, time: f64) -> f64 {
        self.p_wait * libm::exp(-self.decay * time)
    }

    /// The wait that the share `quantile` of all requests does not exceed.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        let late = 1.0 - quantile;
        if late >= self.p_wait { 0.0 } else { libm::log(self.p_wait / late) / self.decay }
    }

    /// The same pool with arrivals and holds that vary otherwise than at random: `z` as in [`variability`].
    /// Kingman 1961, Allen and Cunneen 1978: the time scale of waits is multiplied by `z`; an approximation.
    #[must_use]
    pub fn with_variability(self, z: f64) -> Self {
        Self { decay: self.decay / z, ..self }
    }
}
