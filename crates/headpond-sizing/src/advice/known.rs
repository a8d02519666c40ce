//! One set of values for everything that a question leaves open.

use super::{Bounded, Question};
use crate::curve::{Curve, MOST};
use crate::measured::Measured;
use crate::queues::variability;
use crate::scenario::Speed;
use crate::sim::Stream;
use crate::time::text;

/// The values, for the node that bears the most.
pub(super) struct Known {
    /// Requests per second at one node: growth, affinity, and the loss of another node included.
    pub(super) arrivals: f64,
    /// The same while all nodes are up.
    pub(super) usual: f64,
    pub(super) work: f64,
    pub(super) think: f64,
    pub(super) z: f64,
    /// Batch jobs on the node.
    pub(super) batch: u32,
    /// Cores that batch leaves; `None`: unknown.
    pub(super) cores: Option<f64>,
    /// Whether anything is known of how the database slows down.
    pub(super) has_knee: bool,
    /// The same for the simulator.
    pub(super) speed: Speed,
    pub(super) curve: Curve,
}

impl Known {
    pub(super) fn guess(question: &Question) -> Self {
        let Question { rate, hold, work_share, .. } = question;
        let measured = question.measured.as_ref().map(Measured::curve);
        Self::new(question, rate.value, hold.value, work_share.value, measured)
    }

    pub(super) fn draw(question: &Question, chance: &mut Stream) -> Self {
        let share = question.work_share.draw(chance).min(1.0);
        let measured = question.measured.as_ref().map(|measured| measured.drawn(chance));
        Self::new(question, question.rate.draw(chance), question.hold.draw(chance), share, measured)
    }

    fn new(question: &Question, rate: f64, hold: f64, share: f64, measured: Option<Curve>) -> Self {
        let nodes = question.nodes.max(1);
        let bearing = if nodes > 1 { nodes - 1 } else { 1 };
        let sticks = |nodes: u32| if nodes > 1 { 1.0 + question.affinity } else { 1.0 };
        let load = rate * question.growth;
        let batch = question.batch.0.div_ceil(bearing);
        let cores = question.cores.map(|cores| (cores - f64::from(batch) * share).max(0.05 * cores));
        let arrivals = load / f64::from(bearing) * sticks(bearing);
        let found = question.measured.as_ref().and_then(|measured| measured.speed_at(arrivals));
        let measured = measured.map(|curve| curve.times(found.unwrap_or(1.0)));
        let (work, think) = match &measured {
            // What slows leases down is in the curve, thinking included.
            Some(curve) => (1.0 / curve.rate(1), 0.0),
            None => (hold * share, hold * (1.0 - share)),
        };
        let has_knee = measured.is_some() || cores.is_some();
        let (speed, curve) = match (measured, cores) {
            (Some(curve), _) => (Speed::Curve(curve.points()), curve),
            (None, Some(left)) => {
                let speed = Speed::Cores(left);
                // Beyond the knee nothing is learnt.
                let most = (3.0 * left / share.max(0.01) + 16.0).min(f64::from(MOST));
                let curve = Curve::of_leases(&speed, work, think, most as u32);
                (speed, curve)
            }
            (None, None) => (Speed::Cores(1e9), straight(hold)),
        };
        Self {
            arrivals,
            usual: load / f64::from(nodes) * sticks(nodes),
            work,
            think,
            z: variability(1.0, question.hold_cv2),
            batch,
            cores,
            has_knee,
            speed,
            curve,
        }
    }

    pub(super) fn words(&self, question: &Question) -> Vec<String> {
        let time = |b: Bounded| format!("{} ({} to {})", text(b.value), text(b.low), text(b.high));
        let share = question.work_share;
        let mut words = vec![
            format!(
                "{:.0} requests/s at the peak, {:.0} to {:.0}",
                question.rate.value, question.rate.low, question.rate.high
            ),
            format!(
                "ready for {} times the peak: {:.0} requests/s at one node",
                question.growth, self.arrivals
            ),
        ];
        if question.measured.is_none() {
            let [works, least, most] = [share.value, share.low, share.high].map(|share| 100.0 * share);
            words.push(format!(
                "a connection is held for {}; the database works {works:.0} % of that ({least:.0} to {most:.0} %)",
                time(question.hold)
            ));
        }
        words.extend(match (&question.measured, question.cores) {
            (Some(measured), _) => measured.words(),
            (None, Some(cores)) => {
                vec![format!("{cores} cores in each of {} database node(s)", question.nodes)]
            }
            (None, None) => vec!["the database's cores are not known, nor is its knee: --cores".to_owned()],
        });
        if question.batch.0 > 0 {
            words.push(format!(
                "{} batch jobs hold a connection each for {}",
                question.batch.0,
                text(question.batch.1)
            ));
        }
        words
    }
}

/// The curve of holds that last as long, however many connections are in use.
pub(super) fn straight(hold: f64) -> Curve {
    Curve::new((1..=MOST).map(|n| f64::from(n) / hold).collect())
}
