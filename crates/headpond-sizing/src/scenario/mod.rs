//! What is simulated: applications, their pools, the database, and what happens to them.

mod file;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use headpond_core::PoolSettings;
use serde::{Deserialize, Serialize};

/// A simulated situation. Times are seconds.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How long it lasts.
    pub duration: f64,
    /// What happens before is not counted: the pool fills up.
    pub warm_up: f64,
    /// Feeds all randomness.
    pub seed: u64,
    /// Application servers, each with a pool of its own on each node; 1: a central pooler.
    pub servers: u32,
    /// The policy of every pool.
    pub pool: PoolSettings,
    /// What the pools connect to.
    pub database: Database,
    /// Who asks for connections.
    pub applications: Vec<Application>,
    /// What happens meanwhile.
    pub events: Vec<Event>,
    /// What is asked of waits.
    pub objective: Objective,
}

/// At most the share `late` of requests waits longer than `wait`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Seconds.
    pub wait: f64,
    /// A share.
    pub late: f64,
}

impl Objective {
    /// 1 % may wait longer than 10 ms.
    pub const USUAL: Self = Self { wait: 0.010, late: 0.01 };
}

/// A database of equal nodes, each a server whose speed depends on how many statements are running on it.
#[derive(Clone, Debug)]
pub struct Database {
    /// Nodes; requests go to those that are up, in turn.
    pub nodes: u32,
    /// How statements slow each other down.
    pub speed: Speed,
    /// Work of one login on the node, in seconds of a node that does nothing else.
    pub login_work: f64,
    /// What a login takes besides: network, name look-up.
    pub login_latency: f64,
    /// A question and its answer without work: how long a check takes.
    pub round_trip: f64,
    /// A node refuses logins beyond so many connections.
    pub max_connections: Option<u32>,
    /// Pauses of a whole node that come at random: commits, checkpoints.
    pub stalls: Option<Stalls>,
}

/// The speed of a node by the number of statements that are running.
#[derive(Clone, Debug, PartialEq)]
pub enum Speed {
    /// So many run at full speed; more of them share these equally.
    Cores(f64),
    /// Measured: so many running, so many completed per second. Between the points a straight line, beyond the last
    /// as many as there.
    Curve(Vec<(u32, f64)>),
}

impl Speed {
    /// The speed of each of `running` statements, 1 when alone.
    #[must_use]
    pub fn of_each(&self, running: u32) -> f64 {
        let n = f64::from(running.max(1));
        match self {
            Self::Cores(cores) => (cores / n).min(1.0),
            Self::Curve(points) => Self::interpolated(points, n) / (n * Self::interpolated(points, 1.0)),
        }
    }

    fn interpolated(points: &[(u32, f64)], n: f64) -> f64 {
        let mut before = (0.0, 0.0);
        for (level, rate) in points.iter().map(|(level, rate)| (f64::from(*level), *rate)) {
            if n <= level {
                return before.1 + (rate - before.1) * (n - before.0) / (level - before.0);
            }
            before = (level, rate);
        }
        before.1
    }
}

/// Pauses in which a node does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stalls {
    /// 1/s, at random.
    pub rate: f64,
    /// Mean length, exponential.
    pub mean: f64,
}

/// A group of equal clients.
#[derive(Clone, Debug)]
pub struct Application {
    /// For the report.
    pub name: String,
    /// When it asks.
    pub arrivals: Arrivals,
    /// Work on the database of one lease, in seconds of a node that does nothing else.
    pub work: Amount,
    /// What the lease lasts besides, on the client's and the network's account, whatever the database does.
    pub think: Amount,
    /// Statements of one lease: work and think time are divided among them.
    pub statements: u32,
    /// A client gives up after so long, waiting or served. What it asked for runs to its end.
    pub timeout: Option<f64>,
    /// How often it tries again after it gave up, or was refused, or lost its connection.
    pub retries: u32,
    /// The pause before it does; doubled each time, and shortened by up to half at random.
    pub backoff: f64,
    /// Turns it gets at a full pool for each one of an application of weight 1.
    pub weight: u32,
}

/// When requests come.
#[derive(Clone, Debug)]
pub enum Arrivals {
    /// At random, whatever the state of things.
    Open {
        /// 1/s.
        rate: f64,
        /// From these times on the rate is multiplied by these factors (1 before the first).
        profile: Vec<(f64, f64)>,
        /// Variance over mean of counts: 1 is Poisson; more makes requests come in groups.
        dispersion: f64,
    },
    /// Each of so many clients asks again after a pause (exponential, this mean) since it was served.
    Closed {
        /// How many.
        clients: u32,
        /// Seconds.
        pause: f64,
    },
    /// Recorded: when, and how long the connection was held, in seconds.
    Trace(Arc<[(f64, f64)]>),
}

/// A random time: its mean, and the square of its coefficient of variation (0 always the same, 1 exponential).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    /// Seconds.
    pub mean: f64,
    /// Variance over the square of the mean.
    pub cv2: f64,
}

impl Application {
    /// Clients that come at random, `rate` in a second, for one statement of exponential `work` without any thinking,
    /// and wait for as long as it takes.
    #[must_use]
    pub fn plain(name: &str, rate: f64, work: f64) -> Self {
        Self {
            name: name.to_owned(),
            arrivals: Arrivals::Open { rate, profile: Vec::new(), dispersion: 1.0 },
            work: Amount::random(work),
            think: Amount::NONE,
            statements: 1,
            timeout: None,
            retries: 0,
            backoff: 0.1,
            weight: 1,
        }
    }
}

impl Database {
    /// One node with so many cores, and logins of 2.2 ms (measured; sizing is documented in `docs/sizing.md`).
    #[must_use]
    pub fn with_cores(cores: f64) -> Self {
        Self {
            nodes: 1,
            speed: Speed::Cores(cores),
            login_work: 0.0022,
            login_latency: 0.001,
            round_trip: 0.0005,
            max_connections: None,
            stalls: None,
        }
    }
}

impl Amount {
    /// No time at all.
    pub const NONE: Self = Self { mean: 0.0, cv2: 0.0 };

    /// Exponential.
    #[must_use]
    pub fn random(mean: f64) -> Self {
        Self { mean, cv2: 1.0 }
    }
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When it begins.
    pub at: f64,
    /// How long it lasts; zero of a restart.
    pub lasts: f64,
    /// What.
    pub kind: EventKind,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventKind {
    /// Open arrivals come so many times as often.
    Spike(f64),
    /// A node stands still, and goes on where it was.
    Stall(u32),
    /// A node is gone with all its connections, and comes back.
    NodeLoss(u32),
    /// All application servers start anew, with empty pools.
    FleetRestart,
}
