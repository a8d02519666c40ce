//! Which level a load experiment measures next, and when it goes no further: a machine without I/O and clock.
//!
//! The first round rises, since nobody knows yet what the database bears; it ends where a guard says so. The rounds
//! that follow measure what was reached again, each in an order of its own, so that what changes meanwhile does not
//! look like an effect of the level.

use crate::curve::{Level, MOST};
use crate::measured::Window;
use crate::sim::Stream;

/// Errors of more than this share of transactions end the climb.
const ERRORS: f64 = 0.01;

/// Throughput below this share of the best has fallen: clearly so at two levels in a row.
const FALLEN: f64 = 0.85;

/// A level varies by at least this from run to run, and is not believed to vary by more than that.
const SPREAD: (f64, f64) = (0.005, 0.2);

/// A look in which others took more than this share of the machine is one of something else: it is taken again.
const DISTURBED: f64 = 0.03;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections, in rising order.
    pub levels: Vec<u32>,
    /// How often each level is measured.
    pub rounds: u32,
    /// The climb ends where 1 % of the transactions take longer, in seconds.
    pub longest: f64,
    /// Feeds the order.
    pub seed: u64,
}

/// What was seen at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Connections that were kept in use.
    pub in_use: u32,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Transactions that ended well.
    pub completions: u64,
    /// Transactions that failed.
    pub errors: u64,
    /// What the last of them said.
    pub error: Option<String>,
    /// Seconds of transactions that lie within the look, of all connections.
    pub busy: f64,
    /// 99 % took no longer, in seconds.
    pub hold_p99: f64,
    /// Variance of how long they took over the square of the mean.
    pub hold_cv2: f64,
    /// Share of the machine that worked for others, if known.
    pub foreign_cpu: Option<f64>,
}

impl Look {
    /// Whether it is one of something else, and to be taken again.
    #[must_use]
    pub fn is_disturbed(&self) -> bool {
        self.foreign_cpu.is_some_and(|share| share > DISTURBED)
    }

    /// Transactions per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.completions as f64 / self.seconds
    }
}

/// A load experiment.
#[derive(Debug)]
pub struct Climb {
    plan: Plan,
    /// The rest of the round that is under way, the next one last.
    rest: Vec<u32>,
    round: u32,
    looks: Vec<Look>,
    /// How often a disturbed look may still be taken again: half as often as there are looks.
    again: usize,
    /// Nothing from this level on is measured any more, and why.
    ceiling: Option<(u32, String)>,
    chance: Stream,
}

impl Climb {
    /// An experiment that has not begun.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let rest = plan.levels.iter().rev().copied().collect();
        let chance = Stream::new(plan.seed, 9);
        let again = plan.levels.len() * plan.rounds as usize / 2;
        Self { plan, rest, round: 0, looks: Vec::new(), again, ceiling: None, chance }
    }

    /// The level to measure now; `None`: it is over.
    #[must_use]
    pub fn level(&self) -> Option<u32> {
        self.rest.last().copied()
    }

    /// How many looks are to come, at most, if nobody disturbs them.
    #[must_use]
    pub fn left(&self) -> usize {
        let rounds = self.plan.rounds.saturating_sub(self.round + 1) as usize;
        self.rest.len() + rounds * self.reachable().count()
    }

    /// Everything seen so far, in its order.
    #[must_use]
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    /// Why it climbed no further, if a guard stopped it.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.ceiling.as_ref().map(|(_, why)| why.as_str())
    }

    /// Takes note of what was seen at [`Climb::level`].
    pub fn saw(&mut self, look: Look) {
        if self.again > 0 && look.is_disturbed() {
            self.again -= 1;
            return;
        }
        self.rest.pop();
        if let Some(ceiling) = self.objection(&look) {
            self.ceiling = Some(ceiling);
        }
        self.looks.push(look);
        let ceiling = self.ceiling.as_ref().map_or(u32::MAX, |(level, _)| *level);
        self.rest.retain(|level| *level < ceiling);
        if self.rest.is_empty() && self.round + 1 < self.plan.rounds {
            self.round += 1;
            self.rest = self.reachable().collect();
            self.shuffle();
        }
    }

    /// From which level on nothing more is to be measured after this look.
    fn objection(&self, look: &Look) -> Option<(u32, String)> {
        let Look { in_use, errors, completions, .. } = look;
        if *errors as f64 > ERRORS * (completions + errors) as f64 {
            let said = look.error.as_deref().unwrap_or("no reason given");
            return Some((*in_use, format!("{errors} errors at {in_use} connections: {said}")));
        }
        if look.completions == 0 {
            return Some((*in_use, format!("nothing was served at {in_use} connections")));
        }
        if look.hold_p99 > self.plan.longest {
            let took = crate::time::text(look.hold_p99);
            return Some((*in_use, format!("1 % of the transactions took {took} at {in_use} connections")));
        }
        let best = self.looks.iter().map(Look::rate).fold(0.0, f64::max);
        let fallen = |look: &Look| look.rate() < FALLEN * best;
        let before = self.looks.last().filter(|_| self.round == 0);
        // What lies below stays measurable: it is slow, not harmful.
        (before.is_some_and(fallen) && fallen(look)).then(|| {
            let share = 100.0 * (1.0 - look.rate() / best);
            (in_use + 1, format!("throughput had fallen by {share:.0} % at {in_use} connections"))
        })
    }

    /// Levels below the ceiling.
    fn reachable(&self) -> impl Iterator<Item = u32> {
        let ceiling = self.ceiling.as_ref().map_or(u32::MAX, |(level, _)| *level);
        self.plan.levels.iter().copied().filter(move |level| *level < ceiling)
    }

    fn shuffle(&mut self) {
        for place in (1..self.rest.len()).rev() {
            let other = (self.chance.unit() * (place + 1) as f64) as usize;
            self.rest.swap(place, other.min(place));
        }
    }

    /// The levels that count, each with all its looks: those at which a guard objected do not.
    #[must_use]
    pub fn levels(&self) -> Vec<Level> {
        let level = |in_use: u32| {
            let looks = || self.looks.iter().filter(|look| look.in_use == in_use && look.completions > 0);
            let weighted = looks().map(|look| look.hold_p99 * look.seconds).sum::<f64>();
            let seconds = looks().map(|look| look.seconds).sum::<f64>();
            let completions = looks().map(|look| look.completions).sum();
            let hold_p99 = Some(weighted / seconds);
            (completions > 0).then_some(Level { in_use, seconds, completions, hold_p99 })
        };
        self.reachable().filter_map(level).collect()
    }

    /// The looks that count as windows.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        let window = |look: &Look| Window {
            in_use: Some(look.in_use),
            acquires: look.completions,
            holds: look.completions,
            hold_time: look.busy,
            time_in_use: f64::from(look.in_use) * look.seconds,
            foreign_cpu: look.foreign_cpu,
        };
        let counts: Vec<u32> = self.reachable().collect();
        self.looks.iter().filter(|look| counts.contains(&look.in_use)).map(window).collect()
    }

    /// What a level varies by from look to look beyond chance.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let (mut beyond, mut degrees) = (0.0, 0.0);
        // A renewal process: the number of ends varies by its mean times what the square of their lengths does.
        let cv2 = self.looks.first().map_or(1.0, |look| look.hold_cv2);
        for level in self.reachable() {
            let rates: Vec<f64> =
                self.looks.iter().filter(|look| look.in_use == level).map(Look::rate).collect();
            let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
            if rates.len() > 1 && mean > 0.0 {
                let counted = self.looks.iter().filter(|look| look.in_use == level);
                let chance = counted.map(|look| cv2 / look.completions.max(1) as f64).sum::<f64>();
                let squares = rates.iter().map(|rate| (rate / mean - 1.0).powi(2)).sum::<f64>();
                beyond += squares - chance * (rates.len() - 1) as f64 / rates.len() as f64;
                degrees += (rates.len() - 1) as f64;
            }
        }
        let variance = if degrees > 0.0 { (beyond / degrees).max(0.0) } else { 1e-4 };
        variance.sqrt().clamp(SPREAD.0, SPREAD.1)
    }
}

/// Levels that tell a curve: all up to 4, then each about 4/3 of the one before, no more than `most`.
#[must_use]
pub fn ladder(most: u32) -> Vec<u32> {
    let most = most.min(MOST);
    let doubling = (0..).map(|power| 4_u32 << power).take_while(|level| *level <= most);
    let mut levels: Vec<u32> = (1..4).chain(doubling.flat_map(|level| [level, level / 2 * 3])).collect();
    levels.retain(|level| *level <= most);
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs an experiment on a database of this rate and p99; which levels it measured.
    fn climb(rounds: u32, look: impl Fn(u32) -> Look) -> (Vec<u32>, Climb) {
        let plan = Plan { levels: ladder(64), rounds, longest: 1.0, seed: 3 };
        let mut climb = Climb::new(plan);
        let mut measured = Vec::new();
        while let Some(level) = climb.level() {
            let left = climb.left();
            measured.push(level);
            climb.saw(look(level));
            assert!(climb.left() < left);
        }
        (measured, climb)
    }

    fn at(in_use: u32, rate: f64) -> Look {
        Look {
            in_use,
            seconds: 10.0,
            completions: (10.0 * rate) as u64,
            busy: 10.0 * f64::from(in_use),
            hold_p99: f64::from(in_use) / rate,
            ..Look::default()
        }
    }

    #[test]
    fn the_first_round_rises_and_those_that_follow_have_all_levels_in_other_orders() {
        let (measured, climb) = climb(3, |n| at(n, 100.0 * f64::from(n.min(8))));
        let all = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
        assert_eq!(measured[..12], all);
        let (mut second, mut third) = (measured[12..24].to_vec(), measured[24..].to_vec());
        assert_ne!(second, all);
        assert_ne!(second, third);
        second.sort_unstable();
        third.sort_unstable();
        assert_eq!((&second[..], &third[..]), (&all[..], &all[..]));
        assert_eq!(climb.levels()[3].completions, 3 * 4000);
        assert_eq!(climb.stopped(), None);
    }

    #[test]
    fn it_climbs_no_further_once_throughput_has_fallen_at_two_levels_in_a_row() {
        let (measured, climb) = climb(2, |n| at(n, if n > 8 { 500.0 } else { 100.0 * f64::from(n) }));
        assert_eq!(measured[..8], [1, 2, 3, 4, 6, 8, 12, 16]);
        assert!(measured[8..].iter().all(|level| *level <= 16) && measured.len() == 16);
        assert!(climb.stopped().unwrap().contains("fallen by 38 % at 16"));
        assert_eq!(climb.levels().len(), 8);
    }

    #[test]
    fn a_level_with_errors_or_long_transactions_is_left_and_does_not_count() {
        let slow = |n| Look { hold_p99: if n > 6 { 1.5 } else { 0.1 }, ..at(n, 100.0) };
        let (measured, level) = climb(2, slow);
        assert_eq!((measured[5], measured.len()), (8, 11));
        assert_eq!(level.levels().last().unwrap().in_use, 6);
        assert_eq!(level.windows().len(), 10);
        let wrong = |n| Look { errors: 500 * u64::from(n == 2), error: Some("no".into()), ..at(n, 100.0) };
        let (measured, level) = climb(3, wrong);
        assert_eq!(measured, [1, 2, 1, 1]);
        assert!(level.stopped().unwrap().contains("500 errors at 2 connections: no"));
        let (measured, level) = climb(3, |n| at(n, 0.001));
        assert_eq!((measured, level.levels().len()), (vec![1], 0));
    }

    #[test]
    fn a_look_that_others_disturbed_is_taken_again_but_not_for_ever() {
        let disturbed = |n| Look { foreign_cpu: Some(0.05), ..at(n, 100.0) };
        let mut climb = Climb::new(Plan { levels: vec![1, 2, 3, 4], rounds: 2, longest: 1.0, seed: 3 });
        climb.saw(disturbed(1));
        assert_eq!((climb.level(), climb.looks().len()), (Some(1), 0));
        let mut taken = 1;
        while let Some(level) = climb.level() {
            climb.saw(disturbed(level));
            taken += 1;
        }
        assert_eq!((taken, climb.looks().len()), (12, 8));
    }

    #[test]
    fn the_spread_is_what_looks_differ_by_beyond_chance() {
        let (_, quiet) = climb(4, |n| at(n, 1000.0));
        assert!(quiet.spread() <= 0.005, "{}", quiet.spread());
        let mut climb = Climb::new(Plan { levels: vec![1, 2], rounds: 20, longest: 1.0, seed: 1 });
        let mut chance = Stream::new(1, 1);
        while let Some(level) = climb.level() {
            climb.saw(at(level, 100_000.0 * (1.0 + 0.05 * chance.normal())));
        }
        assert!((climb.spread() - 0.05).abs() < 0.015, "{}", climb.spread());
    }
}
