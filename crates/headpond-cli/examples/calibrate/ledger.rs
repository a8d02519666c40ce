//! What was predicted and what came, for everybody to read.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use headpond_sizing::forecast::{Band, Forecast, Point};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::predict::Predicted;
use crate::score;
use crate::verify::Outcome;

/// The book that each calibration adds to.
const BOOK: &str = "ledger.md";

/// A moment, for `date`.
const SECOND: &str = "+%Y-%m-%dT%H:%M:%SZ";

/// A line of the predictions.
#[derive(Serialize)]
struct Said {
    written: String,
    prediction: Predicted,
}

/// A line of the predictions, too: what is expected of one run.
#[derive(Serialize)]
struct SaidOfPoint<'a> {
    written: String,
    database: &'a str,
    workload: &'a str,
    point: Point,
    pace: f64,
    forecast: Forecast,
}

/// A line of the outcomes.
#[derive(Serialize)]
struct Came {
    /// SHA-256 of the line of the prediction, taken before the verifying runs began, and when that was.
    prediction: String,
    begun: String,
    outcome: Outcome,
}

pub(crate) struct Ledger {
    folder: PathBuf,
    /// When it began: the name of its files.
    when: String,
    begun: String,
    pairs: Vec<(Predicted, Outcome)>,
}

fn now(format: &str) -> String {
    let date = Command::new("date").args(["-u", format]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

impl Ledger {
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let when = now("+%Y-%m-%d-%H%M");
        Self { folder: folder.to_owned(), when, begun: String::new(), pairs: Vec::new() }
    }

    /// Writes a prediction down; the hash of its line.
    pub(crate) fn foretell(&mut self, predicted: &Predicted) -> String {
        let said = Said { written: now(SECOND), prediction: predicted.clone() };
        let line = serde_json::to_string(&said).unwrap();
        self.begun = now(SECOND);
        self.write_down(&line)
    }

    /// Writes down what is expected of one run on a machine that is so fast; the hash of its line.
    pub(crate) fn foretell_point(
        &self,
        of: &Predicted,
        point: Point,
        pace: f64,
        forecast: Forecast,
    ) -> String {
        let (database, workload) = (of.database.as_str(), of.workload.as_str());
        let said = SaidOfPoint { written: now(SECOND), database, workload, point, pace, forecast };
        self.write_down(&serde_json::to_string(&said).unwrap())
    }

    fn write_down(&self, line: &str) -> String {
        self.add("predictions", line);
        Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn keep(&mut self, predicted: Predicted, outcome: Outcome, prediction: String) {
        let came = Came { prediction, begun: self.begun.clone(), outcome: outcome.clone() };
        self.add("outcomes", &serde_json::to_string(&came).unwrap());
        self.pairs.push((predicted, outcome));
    }

    fn add(&self, what: &str, line: &str) {
        let file = self.folder.join(format!("{}.{what}.jsonl", self.when));
        let file = fs::File::options().create(true).append(true).open(file);
        writeln!(file.unwrap(), "{line}").unwrap();
    }

    /// Adds a chapter to the book, and writes its `score`, for the report.
    pub(crate) fn finish(&self, score: &Path) {
        let file = self.folder.join(BOOK);
        let before = fs::read_to_string(&file).unwrap_or_else(|_| {
            "# Predictions and what came\n\nEach chapter is one run of the example `calibrate`; the predictions were written \
             before the verifying runs. Runs in which others took more than 2 % of the machine, or before and after which it was not equally fast (within 10 %), are marked ~ and do not count.\n"
                .to_owned()
        });
        let (predicted, outcomes): (Vec<_>, Vec<_>) = self.pairs.iter().cloned().unzip();
        let chapter = self.chapter(&predicted, &outcomes);
        fs::write(&file, before + &chapter).unwrap();
        let sum = score::summary(&self.when, &self.pairs);
        fs::write(score, serde_json::to_string_pretty(&sum).unwrap() + "\n").unwrap();
        println!("{chapter}");
    }

    fn chapter(&self, predicted: &[Predicted], outcomes: &[Outcome]) -> String {
        let mut text =
            format!("\n## {}\n\n{} cores.", self.when, std::thread::available_parallelism().unwrap());
        let mut versions: Vec<&str> = predicted.iter().map(|one| one.version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        // A String takes whatever is written to it.
        let _ = writeln!(text, " {}.\n", versions.join(", "));
        text += &score::table(predicted, outcomes);
        text += "\n| database, workload | size | rate/s | p99 wait, ms | predicted (90 %) | | p99 response, ms | predicted | formula | foreign | pace |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        for (one, outcome) in predicted.iter().zip(outcomes) {
            for (point, came) in one.points.iter().zip(&outcome.points) {
                let said = came.forecast;
                let band = |band: Band| {
                    format!("{:.2} ({:.2} to {:.2})", 1e3 * band.middle, 1e3 * band.low, 1e3 * band.high)
                };
                let _ = writeln!(
                    text,
                    "| {} {}{} | {} | {:.0} | {:.2} | {} | {} | {:.2} | {} | {} | {:.1} % | {:.2}, {:.2} |",
                    one.database,
                    one.workload,
                    if came.clean { "" } else { " ~" },
                    point.connections,
                    point.rate,
                    1e3 * came.wait_p99,
                    band(said.wait_p99),
                    if came.inside() { "in" } else { "**out**" },
                    1e3 * came.response_p99,
                    band(said.response_p99),
                    said.formula_p99.map_or_else(|| "no end".to_owned(), |p99| format!("{:.2}", 1e3 * p99)),
                    100.0 * came.foreign,
                    came.pace.0,
                    came.pace.1
                );
            }
        }
        text += &misses(predicted, outcomes);
        text += "\n| database, workload | recommended | best of all sizes | delivers | stalls: never recovers, predicted in % of draws | spike x5: p99 wait, over in (predicted) |\n| --- | --- | --- | --- | --- | --- |\n";
        for (one, outcome) in predicted.iter().zip(outcomes) {
            let troubles = one.troubles.iter().zip(&outcome.never_recovered);
            let troubles: Vec<String> = troubles
                .map(|((_, _, percent), (never, clean))| {
                    let disturbed = if *clean { "" } else { " ~" };
                    format!("{} ({percent:.0} %){disturbed}", if *never { "yes" } else { "no" })
                })
                .collect();
            let doubt = if one.doubts.is_empty() && outcome.sweep_doubts.is_empty() { "" } else { " ~" };
            let _ = writeln!(
                text,
                "| {} {}{doubt} | {} ({} to {}) | {} | {:.0} % | {} | {} |",
                one.database,
                one.workload,
                one.best,
                one.best_interval.0,
                one.best_interval.1,
                outcome.best,
                100.0 * outcome.delivers,
                troubles.join("; "),
                spike(one, outcome).unwrap_or_default()
            );
        }
        text
    }
}

/// What came of a spike.
fn spike(said: &Predicted, came: &Outcome) -> Option<String> {
    let ((_, _, said), (wait, over, clean)) = (said.spike.as_ref()?, came.spike?);
    let band = |band: Band| format!("{:.2}: {:.2} to {:.2}", band.middle, band.low, band.high);
    let disturbed = if clean { "" } else { " ~" };
    Some(format!(
        "{wait:.2} s ({}), {over:.2} s ({}){disturbed}",
        band(said.wait_p99),
        band(said.recovers_in)
    ))
}

/// The clean runs outside their bands, and how far each is explained.
fn misses(predicted: &[Predicted], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (one, outcome) in predicted.iter().zip(outcomes) {
        for (point, came) in one.points.iter().zip(&outcome.points) {
            if !came.clean || came.inside() {
                continue;
            }
            let (foretold, speed) =
                (one.measured.speed_at(point.rate).unwrap_or(1.0) * came.pace.0, came.speed);
            let inside = came.band_at_speed.contains(came.wait_p99);
            let why = if inside {
                "explained by that"
            } else if came.lag_p99 > 0.3 * came.wait_p99 {
                "the load came late"
            } else {
                "that does not explain it"
            };
            let _ = writeln!(
                text,
                "- {} {}, {} connections, {:.0}/s: {:.2} ms. The database was {:.0} % {} than expected: {why}. Its requests and holds, replayed: {:.2} ms; requests sent late by {:.2} ms.",
                one.database,
                one.workload,
                point.connections,
                point.rate,
                1e3 * came.wait_p99,
                100.0 * (speed / foretold - 1.0).abs(),
                if speed < foretold { "slower" } else { "faster" },
                1e3 * came.replayed_p99,
                1e3 * came.lag_p99,
            );
        }
    }
    if text.is_empty() { text } else { format!("\nMissed:\n\n{text}") }
}
