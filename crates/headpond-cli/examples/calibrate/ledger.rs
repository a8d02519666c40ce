//! What was predicted and what came, for everybody to read.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::predict::Predicted;
use crate::verify::Outcome;

/// The book that each calibration adds to.
const BOOK: &str = "ledger.md";

pub(crate) struct Ledger {
    folder: PathBuf,
    /// When it began: the name of its files.
    when: String,
}

impl Ledger {
    /// Writes the predictions, before anything is verified.
    pub(crate) fn begin(folder: &Path, predicted: &[Predicted]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let date = Command::new("date").args(["-u", "+%Y-%m-%d-%H%M"]).output().unwrap();
        let when = String::from_utf8(date.stdout).unwrap().trim().to_owned();
        let ledger = Self { folder: folder.to_owned(), when };
        let file = ledger.file("predictions");
        fs::write(&file, serde_json::to_string_pretty(predicted).unwrap()).unwrap();
        eprintln!("the predictions are in {}", file.display());
        ledger
    }

    fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}.json", self.when))
    }

    pub(crate) fn keep(&self, outcomes: &[Outcome]) {
        fs::write(self.file("outcomes"), serde_json::to_string_pretty(outcomes).unwrap()).unwrap();
    }

    /// Adds a chapter to the book.
    pub(crate) fn finish(&self, predicted: &[Predicted], outcomes: &[Outcome]) {
        let file = self.folder.join(BOOK);
        let before = fs::read_to_string(&file).unwrap_or_else(|_| {
            "# Predictions and what came\n\nEach chapter is one run of the example `calibrate`; the predictions were written \
             before the verifying runs. Runs in which others took more than 2 % of the machine are marked ~ and do not count.\n"
                .to_owned()
        });
        let chapter = self.chapter(predicted, outcomes);
        fs::write(&file, before + &chapter).unwrap();
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
        text += &score(predicted, outcomes);
        text += "\n| database, workload | size | rate/s | p99 wait, ms | predicted (90 %) | | p99 response, ms | predicted | formula | foreign |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        for (one, outcome) in predicted.iter().zip(outcomes) {
            for ((point, said), came) in one.points.iter().zip(&outcome.points) {
                let band = |band: headpond_sizing::forecast::Band| {
                    format!("{:.2} ({:.2} to {:.2})", 1e3 * band.middle, 1e3 * band.low, 1e3 * band.high)
                };
                let _ = writeln!(
                    text,
                    "| {} {}{} | {} | {:.0} | {:.2} | {} | {} | {:.2} | {} | {} | {:.1} % |",
                    one.database,
                    one.workload,
                    if came.clean { "" } else { " ~" },
                    point.connections,
                    point.rate,
                    1e3 * came.wait_p99,
                    band(said.wait_p99),
                    if said.wait_p99.contains(came.wait_p99) { "in" } else { "**out**" },
                    1e3 * came.response_p99,
                    band(said.response_p99),
                    said.formula_p99.map_or_else(|| "no end".to_owned(), |p99| format!("{:.2}", 1e3 * p99)),
                    100.0 * came.foreign
                );
            }
        }
        text += "\n| database, workload | recommended | best of all sizes | delivers | stalls: never recovers, predicted in % of draws |\n| --- | --- | --- | --- | --- |\n";
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
                "| {} {}{doubt} | {} ({} to {}) | {} | {:.0} % | {} |",
                one.database,
                one.workload,
                one.best,
                one.best_interval.0,
                one.best_interval.1,
                outcome.best,
                100.0 * outcome.delivers,
                troubles.join("; ")
            );
        }
        text
    }
}

/// What was aimed at, and what came; of clean runs only.
fn score(predicted: &[Predicted], outcomes: &[Outcome]) -> String {
    let pairs = || predicted.iter().zip(outcomes);
    let runs = || {
        pairs().flat_map(|(one, outcome)| {
            one.points.iter().map(|(_, said)| *said).zip(outcome.points.iter().cloned())
        })
    };
    let clean: Vec<_> = runs().filter(|(_, came)| came.clean).collect();
    let share = |good: usize, all: usize| match all {
        0 => "none".to_owned(),
        all => format!("{good} of {all} ({:.0} %)", 100.0 * good as f64 / all as f64),
    };
    let count = |good: &dyn Fn(&(headpond_sizing::forecast::Forecast, crate::verify::Came)) -> bool| {
        share(clean.iter().filter(|pair| good(pair)).count(), clean.len())
    };
    let off = |middle: f64, came: f64| (middle / came.max(1e-5) - 1.0).abs();
    let waits = || clean.iter().map(|(said, came)| off(said.wait_p99.middle, came.wait_p99)).collect();
    let responses =
        clean.iter().map(|(said, came)| off(said.response_p99.middle, came.response_p99)).collect();
    let ratios = clean.iter().map(|(said, _)| said.wait_p99.high / said.wait_p99.low.max(1e-5)).collect();
    let quiet = || pairs().filter(|(one, outcome)| one.doubts.is_empty() && outcome.sweep_doubts.is_empty());
    let near = |one: &Predicted, outcome: &Outcome| {
        f64::from(one.best.abs_diff(outcome.best)) <= (0.15 * f64::from(outcome.best)).max(1.0)
    };
    let known = quiet().filter(|(one, outcome)| near(one, outcome)).count();
    let delivers = quiet().filter(|(_, outcome)| outcome.delivers >= 0.93).count();
    let passive =
        clean.iter().flat_map(|(_, came)| came.passive.iter().map(|(_, factor)| (factor - 1.0).abs()));
    let troubles = || {
        pairs()
            .flat_map(|(one, outcome)| one.troubles.iter().zip(&outcome.never_recovered))
            .filter(|(_, came)| came.1)
    };
    let right = troubles().filter(|((_, _, percent), (never, _))| (*percent > 50.0) == *never).count();
    let rows = [
        (
            "S2 p99 wait inside its 90 % band",
            "85-97 %",
            count(&|(said, came)| said.wait_p99.contains(came.wait_p99)),
        ),
        (
            "S2 p50 wait inside (or within 0.2 ms)",
            "85-97 %",
            count(&|(said, came)| {
                said.wait_p50.contains(came.wait_p50) || (said.wait_p50.middle - came.wait_p50).abs() < 2e-4
            }),
        ),
        (
            "S2 p99 response inside",
            "85-97 %",
            count(&|(said, came)| said.response_p99.contains(came.response_p99)),
        ),
        ("S2 median ratio of the ends of the band", "at most 2.5", format!("{:.2}", quantile(ratios, 0.5))),
        ("S3 p99 wait, median error", "15 %", percent(quantile(waits(), 0.5))),
        ("S3 p99 wait, 90 % of errors below", "35 %", percent(quantile(waits(), 0.9))),
        ("S3 p99 response, median error", "10 %", percent(quantile(responses, 0.5))),
        (
            "S3 better than the formula",
            "70 %",
            count(&|(said, came)| {
                off(said.wait_p99.middle, came.wait_p99)
                    <= said.formula_p99.map_or(f64::INFINITY, |p99| off(p99, came.wait_p99))
            }),
        ),
        ("S4 recommended maximum within 15 % or 1", "95 %", share(known, quiet().count())),
        ("S4 it delivers 93 % of the most", "all", share(delivers, quiet().count())),
        ("S6 passive curve, median error", "10 %", percent(quantile(passive.collect(), 0.5))),
        ("S7 never recovers, yes or no", "all", share(right, troubles().count())),
    ];
    let mut text = format!(
        "{} of {} runs clean.\n\n| what | aim | came |\n| --- | --- | --- |\n",
        clean.len(),
        runs().count()
    );
    for (what, aim, came) in rows {
        let _ = writeln!(text, "| {what} | {aim} | {came} |");
    }
    text
}

fn percent(share: f64) -> String {
    if share.is_nan() { "none".to_owned() } else { format!("{:.0} %", 100.0 * share) }
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}
