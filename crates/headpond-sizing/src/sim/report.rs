//! What a simulation found, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::{Figures, Outcome, Recovery};
use crate::scenario::{EventKind, Objective, Scenario};
use crate::time::text;

/// The figures of an outcome that are shown. Times are seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// With which this outcome can be had again.
    pub seed: u64,
    /// Seconds that were counted.
    pub counted: f64,
    /// What was asked of waits.
    pub objective: ObjectiveReport,
    /// Each application, and last all of them.
    pub applications: Vec<ApplicationReport>,
    /// What happened, and how long it was felt.
    pub events: Vec<EventReport>,
    /// Connections in any state, at most and on average, of all pools.
    pub open: Level,
    /// Leases.
    pub in_use: Level,
    /// The most requests waiting at once.
    pub peak_waiting: u32,
    /// Logins begun, the warm-up included.
    pub opened: u64,
    /// The most logins begun within a second.
    pub peak_opened: u32,
    /// Logins that failed.
    pub logins_failed: u64,
    /// Calls into the pools' policy.
    pub pool_events: u64,
}

/// What was asked of waits, and whether it was so.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ObjectiveReport {
    /// Seconds.
    pub wait: f64,
    /// A share.
    pub late: f64,
    /// Whether all applications together met it.
    pub met: bool,
}

/// A number over time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Level {
    /// The most.
    pub peak: u32,
    /// On average.
    pub mean: f64,
}

/// The figures of one application.
#[derive(Clone, Debug, Serialize)]
pub struct ApplicationReport {
    /// Its name.
    pub name: String,
    /// Requests served in the end, per second.
    pub served_rate: f64,
    /// Share of attempts that waited longer than the objective's, or were refused.
    pub late_share: f64,
    /// Waits: mean, and quantiles .5, .95, .99, .999.
    pub wait_mean: f64,
    /// Half waited no longer.
    pub wait_p50: f64,
    /// 95 %.
    pub wait_p95: f64,
    /// 99 %.
    pub wait_p99: f64,
    /// 99.9 %.
    pub wait_p999: f64,
    /// From the first attempt to the end: half took no longer.
    pub response_p50: f64,
    /// 99 %.
    pub response_p99: f64,
    /// Attempts refused, timed out in the pool, given up by clients, and cut off with their connection.
    pub refused: u64,
    /// At the pool's `acquire_timeout`.
    pub timed_out: u64,
    /// By their clients.
    pub gave_up: u64,
    /// With their connection.
    pub lost_connections: u64,
    /// Requests that failed for good.
    pub failed: u64,
}

/// An event of the scenario.
#[derive(Clone, Debug, Serialize)]
pub struct EventReport {
    /// What, in words.
    pub what: String,
    /// Seconds since the beginning.
    pub at: f64,
    /// Seconds from its end until waits were as asked for again; `None`: not before the end.
    pub recovers_in: Option<f64>,
}

impl Report {
    /// The figures of an outcome.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64, outcome: &Outcome) -> Self {
        let named = scenario.applications.iter().zip(&outcome.applications);
        let mut applications: Vec<ApplicationReport> =
            named.map(|(a, figures)| ApplicationReport::new(&a.name, figures, outcome.counted)).collect();
        if applications.len() > 1 {
            applications.push(ApplicationReport::new("(all)", &outcome.total, outcome.counted));
        }
        let Objective { wait, late } = scenario.objective;
        Self {
            seed,
            counted: outcome.counted,
            objective: ObjectiveReport { wait, late, met: outcome.total.late_share() <= late },
            applications,
            events: (scenario.events.iter().zip(&outcome.recoveries))
                .map(|(event, recovery)| EventReport {
                    what: words(event.kind, event.lasts),
                    at: event.at,
                    recovers_in: match recovery {
                        Recovery::After(time) => Some(*time),
                        Recovery::Never => None,
                    },
                })
                .collect(),
            open: Level { peak: outcome.peak_open, mean: outcome.mean_open },
            in_use: Level { peak: outcome.peak_in_use, mean: outcome.mean_in_use },
            peak_waiting: outcome.peak_waiting,
            opened: outcome.opened,
            peak_opened: outcome.peak_opened,
            logins_failed: outcome.logins_failed,
            pool_events: outcome.pool_events,
        }
    }
}

impl ApplicationReport {
    fn new(name: &str, figures: &Figures, counted: f64) -> Self {
        Self {
            name: name.to_owned(),
            served_rate: figures.served as f64 / counted,
            late_share: figures.late_share(),
            wait_mean: figures.mean_wait(),
            wait_p50: figures.wait(0.5),
            wait_p95: figures.wait(0.95),
            wait_p99: figures.wait(0.99),
            wait_p999: figures.wait(0.999),
            response_p50: figures.response(0.5),
            response_p99: figures.response(0.99),
            refused: figures.refused,
            timed_out: figures.timed_out,
            gave_up: figures.gave_up,
            lost_connections: figures.lost_connections,
            failed: figures.failed,
        }
    }
}

fn words(kind: EventKind, lasts: f64) -> String {
    let lasts = text(lasts);
    match kind {
        EventKind::Spike(factor) => format!("{factor} times the load for {lasts}"),
        EventKind::Stall(node) => format!("node {node} stands still for {lasts}"),
        EventKind::NodeLoss(node) => format!("node {node} is lost for {lasts}"),
        EventKind::FleetRestart => "all application servers start anew".to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, cells: [String; 8]| {
            let [a, b, c, d, e, g, h, i] = cells;
            writeln!(f, "{name:14}{a:>10}{b:>9}{c:>10}{d:>10}{e:>10}{g:>10}{h:>10}{i:>10}")
        };
        let head = ["served/s", "late", "wait", "p50", "p99", "p99.9", "resp. p99", "failed"];
        row(f, "application", head.map(str::to_owned))?;
        for a in &self.applications {
            let cells = [
                format!("{:.1}", a.served_rate),
                format!("{:.2} %", 100.0 * a.late_share),
                text(a.wait_mean),
                text(a.wait_p50),
                text(a.wait_p99),
                text(a.wait_p999),
                text(a.response_p99),
                a.failed.to_string(),
            ];
            row(f, &a.name, cells)?;
        }
        let verdict = if self.objective.met { "met" } else { "missed" };
        let (late, wait) = (100.0 * self.objective.late, text(self.objective.wait));
        writeln!(f, "\nobjective: at most {late} % wait longer than {wait}: {verdict}")?;
        writeln!(f, "connections: {} at most, {:.1} on average", self.open.peak, self.open.mean)?;
        writeln!(f, "in use:      {} at most, {:.1} on average", self.in_use.peak, self.in_use.mean)?;
        writeln!(f, "waiting:     {} at most", self.peak_waiting)?;
        let (opened, peak, failed) = (self.opened, self.peak_opened, self.logins_failed);
        writeln!(f, "logins:      {opened}, at most {peak} in a second; {failed} failed")?;
        if let Some(all) = self.applications.last() {
            writeln!(
                f,
                "attempts:    {} refused, {} timed out, {} given up by clients, {} lost their connection",
                all.refused, all.timed_out, all.gave_up, all.lost_connections
            )?;
        }
        for event in &self.events {
            let felt = match event.recovers_in {
                Some(0.0) => "not felt longer than it lasted".to_owned(),
                Some(time) => format!("felt for {} more", text(time)),
                None => "never recovered".to_owned(),
            };
            writeln!(f, "at {}: {}: {felt}", text(event.at), event.what)?;
        }
        Ok(())
    }
}
