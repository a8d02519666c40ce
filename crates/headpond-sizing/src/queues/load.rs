//! A pool in front of a database whose speed depends on how many connections are in use.

use super::Waits;

/// States beyond which nothing is added up any more, should the queue have no end of its own.
const MOST_WAITERS: u32 = 1_000_000;

/// A birth-death pool (a load-dependent server: Chandy, Herzog and Woo 1975). Poisson arrivals, exponential work.
///
/// With `capacity[n − 1] = n / hold` it is M/M/c; with `room` M/M/c/K, K = connections + room; with `patience` Erlang-A
/// (Palm 1957; Garnett, Mandelbaum and Reiman 2002).
#[derive(Clone, Debug)]
pub struct Queue {
    /// 1/s.
    pub arrivals: f64,
    /// Completions per second with 1, 2, … connections in use: at least one entry; as many as there are connections.
    pub capacity: Vec<f64>,
    /// The most waiters; one more is refused. `None`: no limit.
    pub room: Option<u32>,
    /// Mean time after which a waiter gives up, exponential. `None`: never.
    pub patience: Option<f64>,
}

/// A pool in steady state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// Share of requests refused at once.
    pub refused: f64,
    /// Share of requests that give up while they wait.
    pub gave_up: f64,
    /// Share of all requests that have to wait (those that give up later included).
    pub p_wait: f64,
    /// Mean number of waiters.
    pub waiting: f64,
    /// Mean number of connections in use.
    pub in_use: f64,
    /// Mean wait of those who were not refused, in seconds, those who gave up included.
    pub mean_wait: f64,
}

impl Queue {
    /// `connections` that all serve with the mean time `hold`, however many are in use.
    #[must_use]
    pub fn constant(connections: u32, arrivals: f64, hold: f64) -> Self {
        let capacity = (1..=connections).map(|n| f64::from(n) / hold).collect();
        Self { arrivals, capacity, room: None, patience: None }
    }

    /// Waits, with no limit of waiters and patience without end: `P_wait = Σ π(n ≥ c)`, tail `e^(−(X(c) − λ)t)`.
    #[must_use]
    pub fn waits(&self) -> Waits {
        let last = self.capacity.last().copied().unwrap_or(0.0);
        if self.arrivals >= last {
            return Waits { p_wait: 1.0, decay: 0.0 };
        }
        let below = self.below();
        let all_busy = 1.0 / (1.0 - self.arrivals / last);
        Waits { p_wait: all_busy / (below.weight + all_busy), decay: last - self.arrivals }
    }

    /// The share of requests that time out when none waits longer than `patience` seconds, exactly (M/M/c+D: Barrer 1957):
    /// what `acquire_timeout` costs. Waits have the density `v(x) = v(0)·e^(−(X(c) − λ)x)` up to there, and nobody new
    /// joins beyond.
    #[must_use]
    pub fn timed_out(&self, patience: f64) -> f64 {
        let Some(last) = self.capacity.last().copied() else { return 1.0 };
        let slope = (last - self.arrivals) * patience;
        // ∫ of the density up to `patience`, relative to its value there.
        let joined = if slope.abs() < 1e-9 { patience } else { patience * libm::expm1(slope) / slope };
        1.0 / (self.below().weight * libm::exp(slope) + last * joined + 1.0)
    }

    /// Everything, with its limits; `None` if the queue would grow without end.
    #[must_use]
    pub fn steady(&self) -> Option<Steady> {
        let last = self.capacity.last().copied()?;
        if self.room.is_none() && self.patience.is_none() && self.arrivals >= last {
            return None;
        }
        let below = self.below();
        let leave = self.patience.map_or(0.0, |patience| 1.0 / patience);
        let (mut term, mut queued, mut waiting) = (1.0, 0.0, 0.0);
        let mut full = 0.0;
        for j in 1..=self.room.unwrap_or(MOST_WAITERS) {
            term *= self.arrivals / (last + f64::from(j) * leave);
            queued += term;
            waiting += f64::from(j) * term;
            if self.room.is_none() && term * f64::from(j) < 1e-16 * (1.0 + waiting) {
                break;
            }
        }
        if self.room.is_some() {
            full = term;
        }
        let total = below.weight + 1.0 + queued;
        let c = self.capacity.len() as f64;
        let waiting = waiting / total;
        let refused = full / total;
        let accepted = self.arrivals * (1.0 - refused);
        Some(Steady {
            refused,
            gave_up: leave * waiting / self.arrivals,
            p_wait: (1.0 + queued - full) / total,
            waiting,
            in_use: (below.in_use + c * (1.0 + queued)) / total,
            mean_wait: waiting / accepted,
        })
    }

    /// The states in which some connection is idle, by weight relative to the state in which all are just in use.
    fn below(&self) -> Below {
        let (mut term, mut weight, mut in_use) = (1.0, 0.0, 0.0);
        for (n, capacity) in self.capacity.iter().enumerate().rev() {
            term *= capacity / self.arrivals;
            weight += term;
            in_use += term * n as f64;
        }
        Below { weight, in_use }
    }
}

struct Below {
    weight: f64,
    in_use: f64,
}
