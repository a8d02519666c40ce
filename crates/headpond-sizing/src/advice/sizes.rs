//! The sizes that follow from one set of values.

use super::known::{Known, straight};
use super::{Price, Question, Shortfall, Size};
use crate::curve::{Curve, MOST};
use crate::time::text;

/// The share of a node's cores that logins may take.
const LOGIN_SHARE: f64 = 0.1;

/// A surviving node should not be used beyond this share of what it delivers at its knee.
const FAILOVER_SHARE: f64 = 0.8;

/// An idle connection is closed after so long, as long as nothing was measured: the founding documents' five minutes.
const IDLE_TIMEOUT: f64 = 300.0;

/// Normal quantile of 99 %.
const SURE: f64 = 2.326;

/// Sizes of the pool of one application server on one node, unless it says otherwise.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub(super) in_use: f64,
    pub(super) mean_hold: f64,
    pub(super) demand: Option<u32>,
    pub(super) knee: Option<u32>,
    /// Of all application servers together.
    pub(super) max: u32,
    pub(super) max_each: u32,
    pub(super) min: u32,
    pub(super) initial: u32,
    pub(super) headroom: u32,
    pub(super) max_logins: u32,
    pub(super) acquire_timeout: f64,
    pub(super) max_waiters: u32,
    pub(super) login_rate: f64,
    pub(super) shortfall: Option<Shortfall>,
    bound: Bound,
}

/// What binds the maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Demand,
    Knee,
    Limit,
}

impl Sizes {
    pub(super) fn of(question: &Question, known: &Known) -> Self {
        let Known { curve, arrivals, z, batch, .. } = known;
        let demand = curve.demand(*arrivals, *z, question.objective).map(|c| c + batch);
        let knee = known.has_knee.then(|| curve.knee() + batch);
        let caps = [(demand, Bound::Demand), (knee, Bound::Knee), (question.limit, Bound::Limit)];
        let (max, bound) = (caps.into_iter())
            .filter_map(|(cap, bound)| Some((cap?, bound)))
            .min_by_key(|(cap, _)| *cap)
            .unwrap_or((MOST, Bound::Demand));
        let serving = max.saturating_sub(*batch).max(1);
        // Little's law: what is in use at a rate that is served.
        let rate = arrivals.min(0.99 * curve.rate(serving));
        let mean_hold = hold_at(curve, rate, serving);
        let servers = question.servers.max(1);
        let each = straight(mean_hold).demand(arrivals / f64::from(servers), *z, question.objective);
        let each = each.unwrap_or(max) + batch.div_ceil(servers);
        let quiet = curve.demand(known.usual * question.quiet, *z, question.objective).unwrap_or(1);
        let login = question.login_work + question.login_latency;
        let in_use = rate * mean_hold;
        let swing = SURE * (2.0 * in_use * -libm::expm1(-login / mean_hold)).sqrt();
        let login_rate = LOGIN_SHARE * known.cores.unwrap_or(2.0) / question.login_work.max(1e-6);
        let part = |size: u32| size.div_ceil(servers);
        let max_each = if servers == 1 { max } else { each };
        let headroom = part(swing.ceil() as u32).clamp(1, max_each);
        let min = part(quiet).clamp(headroom, max_each);
        let bootable = (question.boot * login_rate) as u32 / servers;
        let hold_tail = (known.work + known.think) * (1000.0_f64).ln() * question.hold_cv2.max(1.0).sqrt();
        let acquire_timeout = (question.deadline - hold_tail).max(question.deadline / 2.0);
        Self {
            in_use,
            mean_hold,
            demand,
            knee,
            max,
            max_each,
            min,
            initial: min.min(bootable.max(headroom)),
            headroom,
            max_logins: ((login_rate * login).ceil() as u32).clamp(1, 4),
            acquire_timeout,
            max_waiters: part((acquire_timeout * curve.rate(serving)).ceil() as u32),
            login_rate,
            shortfall: shortfall(question, known, demand, knee),
            bound,
        }
    }

    /// The settings with their intervals and reasons.
    pub(super) fn rows(&self, question: &Question, drawn: &[Self]) -> Vec<Size> {
        let row = |setting, what, is_time, of: &dyn Fn(&Self) -> f64, because| {
            let mut values: Vec<f64> = drawn.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
            Size { setting, what, value: of(self), low: at(0.05), high: at(0.95), is_time, because }
        };
        let objective = question.objective;
        let asked = format!("{} % may wait longer than {}", 100.0 * objective.late, text(objective.wait));
        let beside = match (self.demand, self.knee) {
            (Some(demand), Some(knee)) => format!("demand {demand}, knee {knee}"),
            (Some(demand), None) => format!("demand {demand}, knee unknown"),
            (None, _) => "no number meets the demand".to_owned(),
        };
        let because = match self.bound {
            Bound::Demand => format!("{asked} ({beside})"),
            Bound::Knee => format!("the knee: more only queue inside the database ({beside})"),
            Bound::Limit => format!("the connections that the server leaves ({beside})"),
        };
        let login = question.login_work + question.login_latency;
        let mut rows = vec![row("max_size", "most, on one node", false, &|s| f64::from(s.max), because)];
        if question.servers > 1 {
            let because = format!(
                "{} pools cannot help each other: {} in all, {:+} against one pooler",
                question.servers,
                self.max_each * question.servers,
                i64::from(self.max_each * question.servers) - i64::from(self.max)
            );
            rows.push(row(
                "max_size",
                "of each application server",
                false,
                &|s| f64::from(s.max_each),
                because,
            ));
        }
        let quiet =
            format!("what quiet hours need, {:.0} % of the load; min_idle at least", 100.0 * question.quiet);
        let boot = format!(
            "min_size, as far as {:.0} logins/s of the fleet allow within {}",
            self.login_rate,
            text(question.boot)
        );
        let swing = format!("rise within one login, {}, in 99 of 100 cases", text(login));
        let idle = "all: what the peak needs is kept until idle_timeout".to_owned();
        let times_out =
            format!("clients give up after {}, less the longest hold of a thousand", text(question.deadline));
        let waiters = "acquire_timeout x what the database delivers (Little)".to_owned();
        let logins = format!("logins take at most {:.0} % of the cores", 100.0 * LOGIN_SHARE);
        rows.extend([
            row("min_size", "shrinking stops here", false, &|s| f64::from(s.min), quiet),
            row("initial_size", "opened at start", false, &|s| f64::from(s.initial), boot),
            row("min_idle", "headroom", false, &|s| f64::from(s.headroom), swing),
            row("max_idle", "most that are kept idle", false, &|s| f64::from(s.max_each), idle),
            row(
                "idle_timeout",
                "",
                true,
                &|_| IDLE_TIMEOUT,
                "the usual; nothing was measured that speaks for another".to_owned(),
            ),
            row("acquire_timeout", "", true, &|s| s.acquire_timeout, times_out),
            row("max_waiters", "bound of the queue", false, &|s| f64::from(s.max_waiters), waiters),
            row("max_logins", "logins at once", false, &|s| f64::from(s.max_logins), logins),
        ]);
        rows
    }

    /// The recommended size, those beside it, the knee, and the usual 100.
    pub(super) fn prices(&self, question: &Question, known: &Known) -> Vec<Price> {
        let mut sizes = vec![self.max.saturating_sub(1), self.max, self.max + 1, 2 * self.max, 100];
        sizes.extend([self.max * 3 / 4, self.knee.unwrap_or(self.max), self.demand.unwrap_or(self.max)]);
        sizes.retain(|c| *c > known.batch && question.limit.is_none_or(|limit| *c <= limit));
        sizes.sort_unstable();
        sizes.dedup();
        let nodes = f64::from(question.nodes);
        let price = |connections: u32| {
            let waits = known.curve.waits(connections - known.batch, known.arrivals, known.z);
            let late = waits.later_than(question.objective.wait);
            let meets = late <= question.objective.late;
            let beyond = self.knee.is_some_and(|knee| connections > knee);
            Price {
                connections,
                late,
                wait_p99: (waits.decay > 0.0).then(|| waits.quantile(0.99)),
                simulated: None,
                memory: f64::from(connections) * question.memory * nodes,
                cost: question.cost.map(|cost| cost * f64::from(connections) * nodes),
                verdict: match (connections == self.max && self.shortfall.is_none(), meets, beyond) {
                    (true, _, _) => "recommended",
                    (_, _, true) => "beyond the knee: waits move into the database",
                    (_, true, _) => "meets the objective too, at a higher price",
                    (_, false, _) => "misses the objective",
                },
            }
        };
        sizes.into_iter().map(price).collect()
    }

    pub(super) fn notes(&self, question: &Question, known: &Known, drawn: &[Self]) -> Vec<String> {
        let apps = question.applications;
        let rule = 2 * apps;
        let mut notes = vec![format!(
            "womodo's rule, min_idle of at least twice the applications: {rule} for {apps}; computed: {}",
            self.headroom
        )];
        if question.nodes > 1 {
            let usual = known.curve.demand(known.usual, known.z, question.objective);
            if let (Some(usual), Some(demand)) = (usual, self.demand) {
                let headroom = (demand - known.batch).saturating_sub(usual);
                notes.push(format!(
                    "headroom for the loss of a node: {headroom} connections on each that is left"
                ));
            }
            let delivers = known.curve.rate(known.curve.knee());
            if known.has_knee && known.arrivals > FAILOVER_SHARE * delivers {
                notes.push(format!(
                    "N+1 is not satisfied: after the loss of a node each other bears {:.0}/s, {:.0} % of what it delivers at its knee (80 % is advised)",
                    known.arrivals,
                    100.0 * known.arrivals / delivers
                ));
            }
        }
        let fail = drawn.iter().filter(|sizes| sizes.shortfall.is_some()).count();
        if fail > 0 && self.shortfall.is_none() {
            let percent = 100 * fail / drawn.len();
            notes.push(format!(
                "in {percent} % of the cases that the assumptions allow no size meets the objective: measure"
            ));
        }
        let (low, high) = spread(drawn);
        if f64::from(high) > 2.0 * f64::from(low.max(1)) {
            notes.push(format!("{low} to {high} is wide: a measured --hold narrows it most"));
        }
        notes
    }
}

fn spread(drawn: &[Sizes]) -> (u32, u32) {
    let mut sizes: Vec<u32> = drawn.iter().map(|sizes| sizes.max).collect();
    sizes.sort_unstable();
    (sizes[sizes.len() / 20], sizes[sizes.len() - 1 - sizes.len() / 20])
}

/// The mean time that a connection is held at a rate: the level of the curve that delivers it.
fn hold_at(curve: &Curve, rate: f64, most: u32) -> f64 {
    let n = (1..=most).find(|n| curve.rate(*n) >= rate).unwrap_or(most);
    let (before, after) = (if n > 1 { curve.rate(n - 1) } else { 0.0 }, curve.rate(n));
    let part = if after > before { ((rate - before) / (after - before)).clamp(0.0, 1.0) } else { 1.0 };
    (f64::from(n) - 1.0 + part) / rate
}

fn shortfall(
    question: &Question,
    known: &Known,
    demand: Option<u32>,
    knee: Option<u32>,
) -> Option<Shortfall> {
    let cap = knee.unwrap_or(u32::MAX);
    if demand.is_none() && !known.has_knee {
        return Some(Shortfall {
            because: format!("more than {MOST} connections would be needed on a node"),
            missing_rate: (known.arrivals - known.curve.peak()).max(0.0),
            missing_cores: 0.0,
            missing_connections: 0,
        });
    }
    if demand.is_none_or(|demand| demand > cap) {
        let knee = known.curve.knee();
        let factor = known.curve.missing(knee, known.arrivals, known.z, question.objective);
        let delivers = known.curve.rate(knee);
        return Some(Shortfall {
            because: format!(
                "the database delivers {delivers:.0}/s at its knee of {knee} connections, which is too little for {:.0}/s",
                known.arrivals
            ),
            missing_rate: (factor - 1.0) * delivers,
            missing_cores: (factor - 1.0) * known.cores.unwrap_or(0.0),
            missing_connections: 0,
        });
    }
    let (demand, limit) = (demand?, question.limit?);
    (demand > limit).then(|| Shortfall {
        because: format!("{demand} connections are needed on a node, which leaves {limit}"),
        missing_rate: 0.0,
        missing_cores: 0.0,
        missing_connections: demand - limit,
    })
}
