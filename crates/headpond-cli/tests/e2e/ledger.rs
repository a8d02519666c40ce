//! The ledger of predictions: what the report says of it is what its rows say.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/calibration");

/// Each prediction, and what came, by calibration. What is expected of one run is said right before it, in a line of its
/// own.
fn pairs() -> BTreeMap<String, Vec<(Value, Value)>> {
    let files = fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path());
    let outcomes = files.filter(|file| file.to_str().unwrap().ends_with(".outcomes.jsonl"));
    let hashed = |line: &str| -> (String, Value) {
        let hash = Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect();
        (hash, serde_json::from_str(line).unwrap())
    };
    let all = outcomes.map(|file| {
        let said = fs::read_to_string(file.to_str().unwrap().replace(".outcomes.", ".predictions.")).unwrap();
        let (whole, of_runs): (Vec<_>, Vec<_>) =
            said.lines().map(hashed).partition(|(_, said)| said.get("prediction").is_some());
        let of_runs: BTreeMap<String, Value> = of_runs.into_iter().collect();
        let came = fs::read_to_string(&file).unwrap();
        let came: Vec<Value> = came.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let pair = |((hash, said), came): ((String, Value), Value)| {
            assert_eq!(came["prediction"], hash, "a prediction was changed afterwards");
            assert!(said["written"].as_str().unwrap() <= came["begun"].as_str().unwrap());
            for run in came["outcome"]["points"].as_array().unwrap() {
                let said = &of_runs[run["foretold"].as_str().unwrap()];
                assert_eq!(said["forecast"], run["forecast"], "a prediction was changed afterwards");
            }
            (said["prediction"].clone(), came["outcome"].clone())
        };
        let when = file.file_name().unwrap().to_str().unwrap().trim_end_matches(".outcomes.jsonl");
        (when.to_owned(), whole.into_iter().zip(came).map(pair).collect())
    });
    all.collect()
}

#[test]
fn the_score_of_the_report_is_that_of_the_rows_and_predictions_were_left_as_they_were_written() {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (mut blind, mut clean, mut inside) = (0, 0, 0);
    let (mut sizes, mut sizes_right, mut stalls, mut stalls_right) = (0, 0, 0, 0);
    let (newest, pairs) = pairs().pop_last().unwrap();
    for (one, outcome) in pairs {
        assert_eq!((&one["database"], &one["workload"]), (&outcome["database"], &outcome["workload"]));
        for came in list(&outcome["points"]) {
            blind += 1;
            let (band, wait) = (&came["forecast"]["wait_p99"], came["wait_p99"].as_f64().unwrap());
            // What the load came late by is no wait of the pool's.
            let least = wait - came["lag_p99"].as_f64().unwrap();
            let within = band["low"].as_f64() <= Some(wait) && Some(least) <= band["high"].as_f64();
            clean += u64::from(came["clean"] == true);
            inside += u64::from(came["clean"] == true && within);
        }
        if list(&one["doubts"]).is_empty() && list(&outcome["sweep_doubts"]).is_empty() {
            let (said, best) = (one["best"].as_f64().unwrap(), outcome["best"].as_f64().unwrap());
            sizes += 1;
            sizes_right += u64::from((said - best).abs() <= (0.15 * best).max(1.0));
        }
        for (trouble, came) in list(&one["troubles"]).iter().zip(&list(&outcome["never_recovered"])) {
            if came[1] == true {
                stalls += 1;
                stalls_right += u64::from((trouble[2].as_f64().unwrap() > 50.0) == (came[0] == true));
            }
        }
    }
    let score: Value = serde_json::from_str(include_str!("../../src/commands/score.json")).unwrap();
    let rows = json!({"calibration": newest, "blind": blind, "clean": clean, "inside": inside, "sizes": sizes, "sizes_right": sizes_right,
        "stalls": stalls, "stalls_right": stalls_right});
    for (key, value) in rows.as_object().unwrap() {
        assert_eq!(&score[key], value, "{key}");
    }
}
