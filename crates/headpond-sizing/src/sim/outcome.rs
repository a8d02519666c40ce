//! What is counted, and what comes of it.

use hdrhistogram::Histogram;

use super::draw::SECOND;
use super::nanoseconds;
use crate::scenario::{Objective, Scenario};

/// Recovery is judged in steps of so many nanoseconds.
const STEP: u64 = 250_000_000;

/// A step is bad if more than this share of the requests of it was late or failed, and more than a few.
const BAD_SHARE: f64 = 0.1;
const FEW: u32 = 2;

/// So many steps must be good together, five seconds, before things count as recovered.
const CALM: usize = 20;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Refused,
    TimedOut,
    GaveUp,
    Lost,
}

/// The figures of one application, or of all.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Waits that ended, however they did, in nanoseconds: zero for a request that was served at once.
    pub waits: Histogram<u64>,
    /// From a client's first attempt to its end, of those that were served in the end, in nanoseconds.
    pub responses: Histogram<u64>,
    /// Waits longer than the objective's.
    pub late: u64,
    /// Requests served in the end.
    pub served: u64,
    /// Attempts refused without waiting.
    pub refused: u64,
    /// Attempts that ended at the pool's `acquire_timeout`.
    pub timed_out: u64,
    /// Attempts that clients gave up, waiting or served.
    pub gave_up: u64,
    /// Attempts that lost their connection.
    pub lost_connections: u64,
    /// Requests that failed for good.
    pub failed: u64,
    wait_sum: f64,
}

impl Figures {
    fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are what every histogram can keep");
        Self {
            waits: histogram(),
            responses: histogram(),
            late: 0,
            served: 0,
            refused: 0,
            timed_out: 0,
            gave_up: 0,
            lost_connections: 0,
            failed: 0,
            wait_sum: 0.0,
        }
    }

    /// Mean wait in seconds.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        self.wait_sum / self.waits.len().max(1) as f64 / SECOND
    }

    /// A quantile of waits in seconds.
    #[must_use]
    pub fn wait(&self, quantile: f64) -> f64 {
        self.waits.value_at_quantile(quantile) as f64 / SECOND
    }

    /// A quantile of response times in seconds.
    #[must_use]
    pub fn response(&self, quantile: f64) -> f64 {
        self.responses.value_at_quantile(quantile) as f64 / SECOND
    }

    /// Share of requests that waited at all.
    #[must_use]
    pub fn waited_share(&self) -> f64 {
        let waits = self.waits.len();
        if waits == 0 { 0.0 } else { 1.0 - self.waits.count_at(0) as f64 / waits as f64 }
    }

    /// Share of attempts that waited too long or were refused.
    #[must_use]
    pub fn late_share(&self) -> f64 {
        let all = self.waits.len() + self.refused;
        if all == 0 { 0.0 } else { (self.late + self.refused) as f64 / all as f64 }
    }

    fn add(&mut self, other: &Self) {
        // Histograms of equal digits that grow by themselves can always be added.
        let _ = self.waits.add(&other.waits);
        let _ = self.responses.add(&other.responses);
        self.late += other.late;
        self.served += other.served;
        self.refused += other.refused;
        self.timed_out += other.timed_out;
        self.gave_up += other.gave_up;
        self.lost_connections += other.lost_connections;
        self.failed += other.failed;
        self.wait_sum += other.wait_sum;
    }
}

/// How long after the end of an event waits were as asked for again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recovery {
    /// Seconds; zero if they were all along.
    After(f64),
    /// Not before the end of the scenario, which must come five seconds later at least to tell.
    Never,
}

/// What a simulation found. Times are seconds, sums those of all pools.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By application, in the scenario's order.
    pub applications: Vec<Figures>,
    /// Of all applications.
    pub total: Figures,
    /// Time that was counted: the warm-up left out.
    pub counted: f64,
    /// The most connections open at once, in any state.
    pub peak_open: u32,
    /// The most requests waiting at once.
    pub peak_waiting: u32,
    /// The most leases at once.
    pub peak_in_use: u32,
    /// Leases on average.
    pub mean_in_use: f64,
    /// Connections on average, in any state.
    pub mean_open: f64,
    /// Logins begun, the warm-up included.
    pub opened: u64,
    /// The most logins begun within a second.
    pub peak_opened: u32,
    /// Logins that failed.
    pub logins_failed: u64,
    /// Of each event of the scenario, in its order.
    pub recoveries: Vec<Recovery>,
    /// Calls into the pools' policy.
    pub pool_events: u64,
}

#[derive(Clone, Copy, Default)]
struct Step {
    ended: u32,
    bad: u32,
    opened: u32,
    waiting: u32,
}

/// A number over time: its peak, and its mean since the warm-up.
#[derive(Default)]
struct Level {
    value: u32,
    peak: u32,
    since: u64,
    area: f64,
}

impl Level {
    fn set(&mut self, now: u64, warm: u64, value: u32) {
        self.area += f64::from(self.value) * now.saturating_sub(self.since.max(warm)) as f64;
        self.since = now;
        self.value = value;
        if now >= warm {
            self.peak = self.peak.max(value);
        }
    }
}

/// The counters of a simulation.
pub(super) struct Tally {
    applications: Vec<Figures>,
    warm: u64,
    objective: Objective,
    late_after: u64,
    in_use: Level,
    open: Level,
    waiting: Level,
    opened: u64,
    pub(super) logins_failed: u64,
    pub(super) pool_events: u64,
    steps: Vec<Step>,
}

impl Tally {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let steps = nanoseconds(scenario.duration) / STEP + 1;
        Self {
            applications: scenario.applications.iter().map(|_| Figures::new()).collect(),
            warm: nanoseconds(scenario.warm_up),
            objective: scenario.objective,
            late_after: nanoseconds(scenario.objective.wait),
            in_use: Level::default(),
            open: Level::default(),
            waiting: Level::default(),
            opened: 0,
            logins_failed: 0,
            pool_events: 0,
            steps: vec![Step::default(); steps as usize],
        }
    }

    pub(super) fn note_pool(&mut self, now: u64, before: [u32; 2], after: [u32; 2]) {
        if before[0] != after[0] {
            self.open.set(now, self.warm, self.open.value + after[0] - before[0]);
        }
        if before[1] != after[1] {
            let waiting = self.waiting.value + after[1] - before[1];
            self.waiting.set(now, self.warm, waiting);
            let step = self.step(now);
            step.waiting = step.waiting.max(waiting);
        }
    }

    pub(super) fn note_lease(&mut self, now: u64, begins: bool) {
        let value = if begins { self.in_use.value + 1 } else { self.in_use.value.saturating_sub(1) };
        self.in_use.set(now, self.warm, value);
    }

    pub(super) fn note_open(&mut self, now: u64) {
        self.opened += 1;
        self.step(now).opened += 1;
    }

    /// A wait has ended, with a connection or without. (Histograms grow: recording cannot fail.)
    pub(super) fn note_wait(&mut self, now: u64, application: u32, asked: u64, waited: u64) {
        let late = waited > self.late_after;
        let step = self.step(now);
        step.ended += 1;
        step.bad += u32::from(late);
        if asked >= self.warm {
            let figures = &mut self.applications[application as usize];
            let _ = figures.waits.record(waited);
            figures.wait_sum += waited as f64;
            figures.late += u64::from(late);
        }
    }

    pub(super) fn note_served(&mut self, now: u64, application: u32, born: u64) {
        if born >= self.warm {
            let figures = &mut self.applications[application as usize];
            figures.served += 1;
            let _ = figures.responses.record(now - born);
        }
    }

    pub(super) fn note_failure(&mut self, now: u64, application: u32, asked: u64, end: End) {
        let step = self.step(now);
        step.ended += 1;
        step.bad += 1;
        if asked >= self.warm {
            let figures = &mut self.applications[application as usize];
            match end {
                End::Refused => figures.refused += 1,
                End::TimedOut => figures.timed_out += 1,
                End::GaveUp => figures.gave_up += 1,
                End::Lost => figures.lost_connections += 1,
            }
        }
    }

    pub(super) fn note_lost(&mut self, application: u32, asked: u64) {
        if asked >= self.warm {
            self.applications[application as usize].failed += 1;
        }
    }

    pub(super) fn finish(mut self, scenario: &Scenario, end: u64) -> Outcome {
        for level in [&mut self.in_use, &mut self.open, &mut self.waiting] {
            level.set(end, self.warm, level.value);
        }
        let counted = end.saturating_sub(self.warm).max(1) as f64;
        let mut total = Figures::new();
        for figures in &self.applications {
            total.add(figures);
        }
        let in_a_second = |steps: &[Step]| steps.iter().map(|step| step.opened).sum();
        Outcome {
            total,
            counted: counted / SECOND,
            peak_open: self.open.peak,
            peak_waiting: self.waiting.peak,
            peak_in_use: self.in_use.peak,
            mean_in_use: self.in_use.area / counted,
            mean_open: self.open.area / counted,
            opened: self.opened,
            peak_opened: self.steps.chunks(4).map(in_a_second).max().unwrap_or(0),
            logins_failed: self.logins_failed,
            recoveries: (scenario.events.iter())
                .map(|event| self.recovery(nanoseconds(event.at + event.lasts)))
                .collect(),
            pool_events: self.pool_events,
            applications: self.applications,
        }
    }

    /// Until the first step since the end of the event that is good, and with it the calm that follows.
    fn recovery(&self, ends: u64) -> Recovery {
        let allowed = BAD_SHARE.max(10.0 * self.objective.late);
        let good = |steps: &[Step]| {
            let (bad, ended) = steps.iter().fold((0, 0), |sum, step| (sum.0 + step.bad, sum.1 + step.ended));
            let stuck = ended == 0 && steps.iter().any(|step| step.waiting > 0);
            !stuck && (bad <= FEW || f64::from(bad) <= allowed * f64::from(ended))
        };
        let first = ends.div_ceil(STEP);
        let mut calm = self.steps.windows(CALM).enumerate().skip(first as usize);
        match calm.find(|(_, steps)| good(&steps[..1]) && good(steps)) {
            Some((step, _)) => Recovery::After((step as u64 - first) as f64 * STEP as f64 / SECOND),
            None => Recovery::Never,
        }
    }

    fn step(&mut self, now: u64) -> &mut Step {
        let last = self.steps.len() - 1;
        &mut self.steps[((now / STEP) as usize).min(last)]
    }
}
