//! How the predictions of `headpond size` have fared.

use serde_json::Value;

/// Written by the example `calibrate`, from the newest rows of the ledger.
const SCORE: &str = include_str!("score.json");

/// In words, misses included.
pub(super) fn score() -> String {
    told(&serde_json::from_str(SCORE).unwrap_or_default())
}

fn told(score: &Value) -> String {
    let number = |key: &str| score[key].as_u64().unwrap_or(0);
    let clean = number("clean");
    if clean == 0 {
        return "how often predictions of this kind came true is not known: there is no calibration yet"
            .to_owned();
    }
    let databases: Vec<&str> =
        score["databases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "in the newest calibration ({}), of {clean} predictions of p99 waits on {}, {} ({:.0} %) came inside their 90 % band (median ratio of its ends {}); the \
         recommended maximum was the best of all sizes, within 15 % or 1, in {} of {}; whether a stall outlasts its cause was \
         right in {} of {}. All of them, and those of earlier calibrations: docs/calibration",
        score["calibration"].as_str().unwrap_or_default(),
        databases.join(" and "),
        number("inside"),
        100.0 * number("inside") as f64 / clean as f64,
        score["band_ratio"],
        number("sizes_right"),
        number("sizes"),
        number("stalls_right"),
        number("stalls"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_told_with_its_misses_and_that_there_is_none_too() {
        let score = serde_json::json!({"calibration": "2026-01-01", "databases": ["PostgreSQL 15", "MariaDB 10"], "clean": 52, "inside": 45,
            "band_ratio": 2.1, "sizes": 8, "sizes_right": 7, "stalls": 12, "stalls_right": 12});
        let said = told(&score);
        assert!(
            said.starts_with("in the newest calibration (2026-01-01), of 52 predictions of p99 waits on PostgreSQL 15 and MariaDB 10, 45 (87 %)"),
            "{said}"
        );
        assert!(said.contains("ends 2.1") && said.contains("7 of 8") && said.contains("12 of 12"), "{said}");
        assert!(told(&Value::Null).contains("no calibration yet"));
    }
}
