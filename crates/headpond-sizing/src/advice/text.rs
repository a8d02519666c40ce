//! The answer for people, and as settings to paste.

use std::fmt;

use super::{Answer, Size};
use crate::time::text;

impl Answer {
    /// The sizes in the language of the configuration, for one process in front of one node.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut lines = String::from("# by headpond size\n[pool]\n");
        let mut seen = Vec::new();
        // Of two sizes of one setting the last is that of a single pool.
        for size in self.sizes.iter().rev().filter(|size| {
            let new = !seen.contains(&size.setting);
            seen.push(size.setting);
            new
        }) {
            let value = if size.is_time {
                format!("\"{:.0}ms\"", size.value * 1e3)
            } else {
                format!("{:.0}", size.value)
            };
            let line = format!("{} = {value}", size.setting);
            lines += &format!("{line:28} # {}\n", size.because);
        }
        lines
    }
}

impl Size {
    fn show(&self, value: f64) -> String {
        if self.is_time { text(value) } else { format!("{value:.0}") }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for doubt in &self.doubts {
            writeln!(f, "NOT TRUSTWORTHY: {doubt}")?;
        }
        for finding in &self.audit {
            writeln!(f, "audit: {finding}")?;
        }
        for line in &self.assumed {
            match line.strip_prefix("measured: ") {
                Some(found) => writeln!(f, "measured: {found}")?,
                None => writeln!(f, "assumed: {line}")?,
            }
        }
        writeln!(f, "in use at once on one node, on average, besides batch: {:.1}\n", self.in_use)?;
        if let Some(missing) = &self.shortfall {
            writeln!(f, "NO SIZE MEETS THIS: {}", missing.because)?;
            if missing.missing_connections > 0 {
                writeln!(f, "missing: {} connections\n", missing.missing_connections)?;
            } else {
                let cores = match missing.missing_cores {
                    cores if cores > 0.0 => format!(", or {cores:.1} cores,"),
                    _ => String::new(),
                };
                writeln!(f, "missing: {:.0}/s{cores} on each node\n", missing.missing_rate)?;
            }
        }
        writeln!(f, "{:17}{:>9}  {:18}because", "setting", "value", "90 % interval")?;
        for size in &self.sizes {
            let interval = format!("{} to {}", size.show(size.low), size.show(size.high));
            let what = if size.what.is_empty() { String::new() } else { format!("{}: ", size.what) };
            writeln!(
                f,
                "{:17}{:>9}  {interval:18}{what}{}",
                size.setting,
                size.show(size.value),
                size.because
            )?;
        }
        if !self.budgets.is_empty() {
            let budgets: Vec<String> =
                self.budgets.iter().map(|(name, size)| format!("{name} {size}")).collect();
            writeln!(f, "\nbudgets: {}", budgets.join(", "))?;
        }
        writeln!(
            f,
            "\n{:>11}{:>9}{:>12}{:>30}{:>11}{:>10}",
            "connections", "late", "p99 wait", "simulated (90 %)", "memory", "cost"
        )?;
        for price in &self.prices {
            let simulated = price
                .simulated
                .map(|[p, low, high]| format!("{} ({} to {})", text(p), text(low), text(high)));
            let cost = price.cost.map(|cost| format!("{cost:.0}"));
            writeln!(
                f,
                "{:>11}{:>9}{:>12}{:>30}{:>11}{:>10}  {}",
                price.connections,
                format!("{:.2} %", 100.0 * price.late),
                price.wait_p99.map_or_else(|| "no end".to_owned(), text),
                simulated.unwrap_or_default(),
                format!("{:.0} MiB", price.memory),
                cost.unwrap_or_default(),
                price.verdict
            )?;
        }
        if !self.what_ifs.is_empty() {
            writeln!(
                f,
                "\n{:44}{:>10}{:>9}{:>10}  recovers in",
                "what if", "p99 wait", "failed", "logins/s"
            )?;
        }
        for case in &self.what_ifs {
            let recovers = case.recovers_in.map_or_else(|| "never".to_owned(), text);
            let failed = format!("{:.1} %", case.failed_percent);
            writeln!(
                f,
                "{:44}{:>10}{failed:>9}{:>10}  {recovers}",
                case.what,
                text(case.wait_p99),
                case.logins
            )?;
        }
        writeln!(f)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
