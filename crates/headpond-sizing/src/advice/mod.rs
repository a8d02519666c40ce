//! How large a pool should be, without a database to measure: a question, and its answer.
//!
//! What is not known is an interval, and every size of the answer has one: that of the sizes that two hundred draws of
//! the unknown lead to. Each size says what binds it.

mod known;
mod sizes;
mod text;
mod trials;

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::budgets::{Claim, divide};
use crate::measured::Measured;
use crate::scenario::Objective;
use crate::sim::Stream;
use known::{Known, straight};
use sizes::Sizes;

/// Draws behind an interval.
const DRAWS: usize = 200;

/// A value that is not known for sure: 90 % of the belief in it lies between the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounded {
    /// The best guess.
    pub value: f64,
    /// 5 % believe in less.
    pub low: f64,
    /// 5 % believe in more.
    pub high: f64,
}

impl Bounded {
    /// Known.
    #[must_use]
    pub fn exactly(value: f64) -> Self {
        Self { value, low: value, high: value }
    }

    /// Between two bounds, most likely in the geometric middle.
    #[must_use]
    pub fn between(low: f64, high: f64) -> Self {
        Self { value: (low * high).sqrt(), low, high }
    }

    /// Known but for a factor.
    #[must_use]
    pub fn within(value: f64, factor: f64) -> Self {
        Self { value, low: value / factor, high: value * factor }
    }

    /// A draw: log-normal on either side.
    fn draw(&self, chance: &mut Stream) -> f64 {
        let normal = chance.normal();
        let bound = if normal < 0.0 { self.value / self.low } else { self.high / self.value };
        self.value * (normal / 1.645 * bound.ln()).exp()
    }
}

/// What the sizes are for.
#[derive(Clone, Debug)]
pub struct Question {
    /// Requests for a connection per second, at the peak.
    pub rate: Bounded,
    /// How long a connection is held when the database is idle otherwise, in seconds.
    pub hold: Bounded,
    /// Which share of that the database works; the rest is network and the application's own time.
    pub work_share: Bounded,
    /// Variance of holds over the square of their mean; 1 is exponential.
    pub hold_cv2: f64,
    /// Cores of a database node; `None`: unknown, and the knee with it, unless it was measured.
    pub cores: Option<f64>,
    /// What was measured of a node, in place of `hold`, `work_share` and what follows from `cores`.
    pub measured: Option<Measured>,
    /// Batch jobs that hold a connection each, and for how long, in seconds.
    pub batch: (u32, f64),
    /// The load to be ready for, as a multiple of the peak.
    pub growth: f64,
    /// What is asked of waits.
    pub objective: Objective,
    /// How many applications use the database.
    pub applications: u32,
    /// Applications whose connections are to be budgeted, with their shares of the load.
    pub shares: Vec<(String, f64)>,
    /// Application servers with a pool each; 1: a central pooler.
    pub servers: u32,
    /// Database nodes that share the load; with more than one, the others must bear the loss of one.
    pub nodes: u32,
    /// How much more than its share a node may get because sessions stick to nodes, as a share of it.
    pub affinity: f64,
    /// Connections that a node has for these pools.
    pub limit: Option<u32>,
    /// Work of a login in seconds of one core.
    pub login_work: f64,
    /// What a login takes besides.
    pub login_latency: f64,
    /// How long application servers may take to start, in seconds.
    pub boot: f64,
    /// The load of quiet hours as a share of the peak.
    pub quiet: f64,
    /// A client gives up after so long, in seconds.
    pub deadline: f64,
    /// MiB of one connection on the server.
    pub memory: f64,
    /// Price of one connection, in whatever unit.
    pub cost: Option<f64>,
    /// Feeds all randomness.
    pub seed: u64,
}

impl Question {
    /// `rate` requests per second of which nothing else is known: they hold a connection for 3 to 30 ms, for half of which
    /// the database works, and all other values are those of the documentation.
    #[must_use]
    pub fn about(rate: f64) -> Self {
        Self {
            rate: Bounded::within(rate, 1.2),
            hold: Bounded::between(0.003, 0.030),
            work_share: Bounded { value: 0.5, low: 0.2, high: 0.9 },
            hold_cv2: 2.0,
            cores: None,
            measured: None,
            batch: (0, 0.0),
            growth: 1.2,
            objective: Objective::USUAL,
            applications: 1,
            shares: Vec::new(),
            servers: 1,
            nodes: 1,
            affinity: 0.0,
            limit: None,
            login_work: 0.0022,
            login_latency: 0.002,
            boot: 10.0,
            quiet: 0.1,
            deadline: 1.0,
            memory: 5.0,
            cost: None,
            seed: 1,
        }
    }
}

/// One size of the answer.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// The setting it is for.
    pub setting: &'static str,
    /// What it is, in words.
    pub what: &'static str,
    /// Connections, waiters, or seconds.
    pub value: f64,
    /// A 90 % interval.
    pub low: f64,
    /// Its other end.
    pub high: f64,
    /// In seconds, rather than a number.
    pub is_time: bool,
    /// What binds it.
    pub because: String,
}

/// No size meets the objective; what is missing.
#[derive(Clone, Debug, Serialize)]
pub struct Shortfall {
    /// What binds.
    pub because: String,
    /// Requests per second that a node would have to deliver beyond what it does; zero if its connections bind.
    pub missing_rate: f64,
    /// In cores of a node.
    pub missing_cores: f64,
    /// Connections that are missing on a node; zero if its speed binds.
    pub missing_connections: u32,
}

/// What one pool size costs and gives.
#[derive(Clone, Debug, Serialize)]
pub struct Price {
    /// Connections of a node.
    pub connections: u32,
    /// Share of requests that wait longer than the objective's wait.
    pub late: f64,
    /// 99 % wait no longer, in seconds; `None`: the queue grows without end.
    pub wait_p99: Option<f64>,
    /// The same as simulated: the middle and the ends of a 90 % band; only next to the recommendation.
    pub simulated: Option<[f64; 3]>,
    /// MiB of all nodes.
    pub memory: f64,
    /// In the unit it was given in, of all nodes.
    pub cost: Option<f64>,
    /// What there is to say.
    pub verdict: &'static str,
}

/// What happens at the recommended size if …
#[derive(Clone, Debug, Serialize)]
pub struct WhatIf {
    /// In words.
    pub what: String,
    /// 99 % wait no longer, in seconds.
    pub wait_p99: f64,
    /// Requests that failed for good, in percent.
    pub failed_percent: f64,
    /// The most logins in a second.
    pub logins: u32,
    /// Seconds until waits are as asked for again; `None`: never.
    pub recovers_in: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Why none of this is to be trusted: what was measured was disturbed.
    pub doubts: Vec<String>,
    /// What is wrong with what was measured, or with the pool as it runs.
    pub audit: Vec<String>,
    /// What was assumed, in words.
    pub assumed: Vec<String>,
    /// Leases at once at the peak, on average, of a node.
    pub in_use: f64,
    /// The sizes, of a pool on one node.
    pub sizes: Vec<Size>,
    /// If no size meets the objective.
    pub shortfall: Option<Shortfall>,
    /// Connections of each application that was named.
    pub budgets: Vec<(String, u32)>,
    /// Sizes beside the recommended one.
    pub prices: Vec<Price>,
    /// What may happen.
    pub what_ifs: Vec<WhatIf>,
    /// What else should be known.
    pub notes: Vec<String>,
}

/// Answers a question; with `trials`, by simulation too, which takes some seconds.
#[must_use]
pub fn advise(question: &Question, trials: bool) -> Answer {
    let known = Known::guess(question);
    let sizes = Sizes::of(question, &known);
    let mut chance = Stream::new(question.seed, 0);
    let drawn: Vec<Sizes> =
        (0..DRAWS).map(|_| Sizes::of(question, &Known::draw(question, &mut chance))).collect();
    let mut prices = sizes.prices(question, &known);
    let mut what_ifs = Vec::new();
    let mut notes = sizes.notes(question, &known, &drawn);
    if trials && sizes.shortfall.is_none() {
        trials::simulate_prices(question, &known, &sizes, &mut prices);
        what_ifs = trials::what_ifs(question, &known, &sizes);
        notes.extend(trials::caveat(question, &sizes, &prices));
    }
    Answer {
        doubts: question.measured.as_ref().map(Measured::doubts).unwrap_or_default(),
        audit: question.measured.as_ref().map(|measured| measured.facts.audit.clone()).unwrap_or_default(),
        assumed: known.words(question),
        in_use: sizes.in_use,
        sizes: sizes.rows(question, &drawn),
        shortfall: sizes.shortfall.clone(),
        budgets: budgets(question, &known, &sizes),
        prices,
        what_ifs,
        notes,
    }
}

/// Divides the pool among the applications that were named.
fn budgets(question: &Question, known: &Known, sizes: &Sizes) -> Vec<(String, u32)> {
    let all: f64 = question.shares.iter().map(|(_, share)| share).sum();
    let claim = |(_, share): &(String, f64)| {
        let arrivals = known.arrivals * share / all.max(1e-9);
        let late = |c: u32| {
            straight(sizes.mean_hold).waits(c, arrivals, known.z).later_than(question.objective.wait)
        };
        Claim { weight: *share, floor: 1, late: (0..=sizes.max).map(late).collect() }
    };
    let claims: Vec<Claim> = question.shares.iter().map(claim).collect();
    let shares = divide(sizes.max.saturating_sub(known.batch), &claims).unwrap_or_default();
    question.shares.iter().map(|(name, _)| name.clone()).zip(shares).collect()
}
