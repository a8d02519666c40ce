//! What was measured of a database, and whether it can be trusted.

use serde::{Deserialize, Serialize};

use crate::curve::{Curve, Level, fitted, knee, resampled};
use crate::scenario::Stalls;
use crate::sim::Stream;
use crate::time::text;

/// Counters that disagree by more than this are wrong.
const MISMATCH: f64 = 0.03;

/// More foreign work than this makes a measurement one of something else.
const FOREIGN: f64 = 0.02;

/// The speed that random requests find in one run differs by this from what was measured before: the deviation of its
/// logarithm (0.108 in 36 clean runs of the first calibration, without a bias).
pub(crate) const OPEN_VARIES: f64 = 0.1;

/// Fewer windows tell nothing about whether the load is the same all along.
const FEWEST_WINDOWS: usize = 20;

/// Normal quantile beyond which a drift is no chance: one clean measurement in two hundred.
const DRIFT: f64 = 2.6;

/// How fast a database is with so many connections in use, and the counters of the time in which that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What one level varies by from run to run beyond chance: its relative standard deviation.
    #[serde(default = "quiet")]
    pub spread: f64,
    /// What else was found.
    #[serde(default)]
    pub facts: Facts,
    /// In rising order of connections.
    #[serde(rename = "level")]
    pub levels: Vec<Level>,
    /// Stretches of equal length, one after the other.
    #[serde(default, rename = "window")]
    pub windows: Vec<Window>,
}

/// What was found besides the curve; what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// What was measured, in words.
    pub about: Option<String>,
    /// Why there is not all that was asked for.
    pub ended: Option<String>,
    /// Requests per second, where the load was not ours to choose.
    pub rate: Option<f64>,
    /// Variance of holds over the square of their mean, with the fewest connections in use.
    pub hold_cv2: Option<f64>,
    /// How long a login takes, in seconds.
    pub login: Option<f64>,
    /// Its work on the server, in seconds of one core.
    pub login_work: Option<f64>,
    /// MiB of the server's that one connection takes for itself.
    pub memory: Option<f64>,
    /// Connections that the server has.
    pub max_connections: Option<u32>,
    /// Share of the machine that made the load, if that was the same machine.
    pub load_cpu: Option<f64>,
    /// How random requests find the database, in rising order of their rate.
    #[serde(default)]
    pub open: Vec<Open>,
    /// Pauses in which nobody was served.
    pub stalls: Option<Stalls>,
    /// What is wrong with the pool that was watched.
    #[serde(default)]
    pub audit: Vec<String>,
}

/// How fast requests that come at random find the database. Connections that are never given back do not let it rest;
/// requests at random do, and mostly find it slower.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Requests per second.
    pub rate: f64,
    /// By what factor it is faster then than by the levels: mostly below 1.
    pub speed: f64,
}

/// Counters of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How many connections were kept in use; absent where that was not ours to choose.
    pub in_use: Option<u32>,
    /// Requests for a connection.
    pub acquires: u64,
    /// Leases that ended.
    pub holds: u64,
    /// Their length in all, in seconds.
    pub hold_time: f64,
    /// Seconds with a connection in use, times how many.
    pub time_in_use: f64,
    /// The share of the machine that worked for somebody else, if known.
    pub foreign_cpu: Option<f64>,
}

fn quiet() -> f64 {
    0.01
}

impl Measured {
    /// Reads a measurement.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let measured: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let rising = measured.levels.windows(2).all(|pair| pair[0].in_use < pair[1].in_use);
        let sound = |l: &Level| {
            l.in_use > 0
                && l.in_use <= crate::curve::MOST
                && l.seconds > 0.0
                && l.seconds.is_finite()
                && l.completions > 0
        };
        if measured.levels.is_empty() || !rising || !measured.levels.iter().all(sound) {
            return Err("level: at least one, in rising order of in_use (1 to 4096), each with seconds and completions above 0".to_owned());
        }
        let Facts { rate, hold_cv2, login, login_work, memory, stalls, open, .. } = &measured.facts;
        let pauses = [stalls.map(|stalls| stalls.rate), stalls.map(|stalls| stalls.mean)];
        let mut numbers =
            [*rate, *hold_cv2, *login, *login_work, *memory].into_iter().chain(pauses).flatten();
        if !numbers.all(|number| (0.0..1e9).contains(&number)) {
            return Err("facts: numbers are 0 to a thousand million".to_owned());
        }
        let found = |open: &Open| (0.0..1e9).contains(&open.rate) && (0.1..10.0).contains(&open.speed);
        if !open.iter().all(found) || !open.is_sorted_by(|one, next| one.rate < next.rate) {
            return Err("facts.open: in rising order of rate, speeds 0.1 to 10".to_owned());
        }
        if !(0.0..0.5).contains(&measured.spread) {
            return Err("spread: 0 to 0.5".to_owned());
        }
        Ok(measured)
    }

    /// The same as TOML, for [`Measured::from_toml`].
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Numbers, words and tables of them: there is nothing that TOML could not say.
        toml::to_string(self).unwrap_or_default()
    }

    /// The fitted curve.
    #[must_use]
    pub fn curve(&self) -> Curve {
        fitted(&self.levels)
    }

    /// The knee in words, and what was found besides.
    pub(crate) fn words(&self) -> Vec<String> {
        let Facts { about, hold_cv2, login, login_work, memory, load_cpu, stalls, open, .. } = &self.facts;
        let mut words: Vec<String> = about.iter().map(|about| format!("measured: {about}")).collect();
        words.extend(self.knee_in_words());
        let length = 1.0 / self.curve().rate(1);
        words.extend(hold_cv2.map(|cv2| {
            let (length, deviation) = (text(length), text(length * cv2.sqrt()));
            format!("measured: a connection is held for {length} by one at a time, deviation {deviation}")
        }));
        words.extend(login.map(|login| {
            let work = login_work.map(|work| format!(", {} of a core", text(work))).unwrap_or_default();
            let memory = memory.map(|mib| format!(", and the connection {mib:.1} MiB")).unwrap_or_default();
            format!("measured: a login takes {}{work}{memory}", text(login))
        }));
        words.extend(stalls.map(|stalls| {
            format!(
                "measured: {:.1} pauses a second of {}, in which nobody is served",
                stalls.rate,
                text(stalls.mean)
            )
        }));
        words.extend(open.iter().map(|Open { rate, speed }| {
            format!("measured: {rate:.0} requests/s at random find it at {speed:.2} of its speed")
        }));
        words.extend(load_cpu.map(|share| {
            format!("the load itself took {:.0} % of the machine, which the database had not", 100.0 * share)
        }));
        words
    }

    fn knee_in_words(&self) -> Option<String> {
        let knee = knee(&self.levels, self.spread, 1)?;
        let (low, high) = knee.interval;
        let beyond = if knee.at_least { "; it may lie beyond what was measured" } else { "" };
        let (connections, peak) = (knee.connections, knee.curve.peak());
        Some(format!(
            "measured: the knee is at {connections} connections ({low} to {high}), the peak {peak:.0}/s{beyond}"
        ))
    }

    /// By what factor requests that come at random at this rate find the database faster; `None`: nobody has tried.
    /// Between two rates that were tried it lies on a line; beyond them it is the last.
    #[must_use]
    pub fn speed_at(&self, rate: f64) -> Option<f64> {
        let tried = &self.facts.open;
        let above = tried.partition_point(|open| open.rate < rate);
        let (low, high) = (tried.get(above.saturating_sub(1))?, tried.get(above).or(tried.last())?);
        if high.rate <= low.rate {
            return Some(low.speed);
        }
        let share = ((rate - low.rate) / (high.rate - low.rate)).clamp(0.0, 1.0);
        Some(low.speed + share * (high.speed - low.speed))
    }

    /// The rate of random requests that takes this share of what so many connections deliver to them.
    #[must_use]
    pub fn rate_at(&self, connections: u32, share: f64) -> f64 {
        let most = share * self.curve().rate(connections);
        // Their speed depends on their rate, which depends on it.
        (0..8).fold(most, |rate, _| most * self.speed_at(rate).unwrap_or(1.0))
    }

    /// The share of the time in which nobody is served. The curve has it in it: between the pauses it is faster.
    pub(crate) fn still(&self) -> f64 {
        self.facts.stalls.map_or(0.0, |stalls| (stalls.rate * stalls.mean).clamp(0.0, 0.5))
    }

    /// A curve that chance might have led to as well.
    pub(crate) fn drawn(&self, chance: &mut Stream) -> Curve {
        let curve = resampled(&self.levels, &self.curve(), self.spread, chance);
        if self.facts.open.is_empty() { curve } else { curve.times((OPEN_VARIES * chance.normal()).exp()) }
    }

    /// Why what follows from it is not to be trusted; empty if nothing is known against it.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let windows = &self.windows;
        let mut doubts = Vec::new();
        if let Some(ended) = &self.facts.ended {
            doubts.push(format!("the measurement is not complete: {ended}"));
        }
        let sum = |of: fn(&Window) -> f64| windows.iter().map(of).sum::<f64>();
        let (held, in_use) = (sum(|w| w.hold_time), sum(|w| w.time_in_use));
        let mismatch = (held - in_use).abs() / in_use.max(held);
        if mismatch > MISMATCH && windows.iter().all(|w| w.in_use.is_some()) {
            doubts.push(format!(
                "who made the load was too slow: connections were used for {held:.1} s of {in_use:.1} s"
            ));
        } else if mismatch > MISMATCH {
            doubts.push(format!(
                "counters are broken: leases add up to {held:.1} s, connections in use to {in_use:.1} s (Little's law)"
            ));
        }
        let foreign: Vec<f64> = windows.iter().filter_map(|w| w.foreign_cpu).collect();
        let mean = foreign.iter().sum::<f64>() / foreign.len().max(1) as f64;
        if mean > FOREIGN {
            doubts.push(format!("{:.0} % of the machine worked for others; 2 % is the most", 100.0 * mean));
        }
        if drifts(&self.beside_equals(|w| w.acquires as f64)) {
            doubts.push("the load was not the same all along: take hours apart".to_owned());
        }
        if drifts(&self.beside_equals(|w| w.hold_time / w.holds.max(1) as f64)) {
            doubts.push(
                "connections were not held equally long all along: the work or the machine changed"
                    .to_owned(),
            );
        }
        doubts
    }

    /// A figure of each window, relative to its mean over windows with as many connections in use: those differ.
    fn beside_equals(&self, figure: impl Fn(&Window) -> f64) -> Vec<f64> {
        let mean = |in_use| {
            let equals = || self.windows.iter().filter(|w| w.in_use == in_use);
            equals().map(&figure).sum::<f64>() / equals().count() as f64
        };
        let relative = |window: &Window| match mean(window.in_use) {
            mean if mean > 0.0 => figure(window) / mean,
            _ => 1.0,
        };
        self.windows.iter().map(relative).collect()
    }
}

/// Whether neighbours are more alike than chance makes them: von Neumann's ratio (1941), whose distribution is normal
/// for many values, however much these vary.
fn drifts(values: &[f64]) -> bool {
    if values.len() < FEWEST_WINDOWS {
        return false;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let steps: f64 = values.windows(2).map(|pair| (pair[1] - pair[0]) * (pair[1] - pair[0])).sum();
    let deviation = (4.0 * (n - 2.0) / (n * n - 1.0)).sqrt();
    spread > 0.0 && (2.0 - steps / spread) / deviation > DRIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Application, Database, Objective, Scenario};
    use crate::sim::simulate;
    use headpond_core::PoolSettings;

    /// Windows of ten seconds of a simulated pool, at these rates and speeds.
    fn windows(seed: u64, rate: impl Fn(u32) -> f64, cores: impl Fn(u32) -> f64) -> Vec<Window> {
        let window = |number| {
            let mut scenario = Scenario {
                duration: 11.0,
                warm_up: 1.0,
                seed: 1,
                servers: 1,
                pool: PoolSettings::named(),
                database: Database::with_cores(cores(number)),
                applications: vec![Application::plain("web", rate(number), 0.01)],
                events: Vec::new(),
                objective: Objective::USUAL,
            };
            scenario.pool.max_size = 40;
            let outcome = simulate(&scenario, seed * 1000 + u64::from(number));
            let held = outcome.total.responses.mean() * 1e-9 - outcome.total.mean_wait();
            Window {
                in_use: None,
                acquires: outcome.total.waits.len(),
                holds: outcome.total.served,
                hold_time: held * outcome.total.served as f64,
                time_in_use: outcome.mean_in_use * outcome.counted,
                foreign_cpu: Some(0.005),
            }
        };
        (0..30).map(window).collect()
    }

    fn doubts(windows: Vec<Window>) -> Vec<String> {
        Measured { windows, spread: 0.01, ..Measured::default() }.doubts()
    }

    /// S12: what must not be trusted is said to be so, and what is clean is not (19 of 20 each).
    #[test]
    fn a_measurement_that_was_disturbed_is_not_trusted_and_a_clean_one_is() {
        let mut flagged = [0; 5];
        for seed in 0..20 {
            let clean = windows(seed, |_| 100.0, |_| 4.0);
            let load = windows(seed, |n| 100.0 * (1.0 + 0.3 * (f64::from(n) / 5.0).sin()), |_| 4.0);
            // Somebody takes four fifths of the machine for a while.
            let slow = windows(seed, |_| 100.0, |n| if (10..20).contains(&n) { 1.2 } else { 4.0 });
            let counters = clean.iter().map(|w| Window { hold_time: w.hold_time * 0.94, ..*w }).collect();
            let foreign = clean.iter().map(|w| Window { foreign_cpu: Some(0.2), ..*w }).collect();
            for (count, windows) in flagged.iter_mut().zip([clean, load, slow, counters, foreign]) {
                *count += u32::from(!doubts(windows).is_empty());
            }
        }
        assert!(flagged[0] <= 1, "{flagged:?}");
        assert!(flagged[1..].iter().all(|count| *count >= 19), "{flagged:?}");
    }

    #[test]
    fn random_requests_find_a_speed_between_those_that_were_tried() {
        let mut measured = Measured::default();
        assert_eq!(measured.speed_at(10.0), None);
        measured.facts.open = vec![Open { rate: 100.0, speed: 0.6 }];
        assert_eq!((measured.speed_at(10.0), measured.speed_at(200.0)), (Some(0.6), Some(0.6)));
        measured.facts.open.push(Open { rate: 300.0, speed: 0.8 });
        let found =
            [50.0, 100.0, 200.0, 300.0, 900.0].map(|rate| measured.speed_at(rate).unwrap_or_default());
        let wanted = [0.6, 0.6, 0.7, 0.8, 0.8];
        assert!(found.iter().zip(wanted).all(|(one, other)| (one - other).abs() < 1e-9), "{found:?}");
        measured.levels = vec![Level { in_use: 1, seconds: 1.0, completions: 400, hold_p99: None }];
        let rate = measured.rate_at(1, 0.7);
        assert!((rate - 280.0 * measured.speed_at(rate).unwrap()).abs() < 0.1, "{rate}");
    }

    #[test]
    fn a_measurement_without_sense_is_refused() {
        let level = |n: u32, completions: u32| {
            format!("[[level]]\nin_use = {n}\nseconds = 5\ncompletions = {completions}\n")
        };
        assert!(Measured::from_toml(&(level(1, 500) + &level(2, 900))).is_ok());
        for wrong in [
            String::new(),
            level(2, 900) + &level(1, 500),
            level(1, 0),
            level(0, 5),
            "x = 1".to_owned(),
            level(1, 5) + "[[facts.open]]\nrate = 1\nspeed = 0\n",
        ] {
            assert!(Measured::from_toml(&wrong).is_err(), "{wrong}");
        }
    }
}
