//! The ledger of predictions: what the report says of it is what its rows say.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/calibration");

/// Each prediction, and what came.
fn pairs() -> Vec<(Value, Value)> {
    let files = fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path());
    let outcomes = files.filter(|file| file.to_str().unwrap().ends_with(".outcomes.jsonl"));
    let pair = |(said, came): (&str, &str)| {
        let hash: String = Sha256::digest(said).iter().map(|byte| format!("{byte:02x}")).collect();
        let (said, came): (Value, Value) =
            (serde_json::from_str(said).unwrap(), serde_json::from_str(came).unwrap());
        assert_eq!(came["prediction"], hash, "a prediction was changed afterwards");
        assert!(said["written"].as_str().unwrap() <= came["begun"].as_str().unwrap());
        (said["prediction"].clone(), came["outcome"].clone())
    };
    let all = outcomes.flat_map(|file| {
        let said = fs::read_to_string(file.to_str().unwrap().replace(".outcomes.", ".predictions.")).unwrap();
        let came = fs::read_to_string(&file).unwrap();
        said.lines().zip(came.lines()).map(pair).collect::<Vec<_>>()
    });
    all.collect()
}

#[test]
fn the_score_of_the_report_is_that_of_the_rows_and_predictions_were_left_as_they_were_written() {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (mut blind, mut clean, mut inside) = (0, 0, 0);
    let (mut sizes, mut sizes_right, mut stalls, mut stalls_right) = (0, 0, 0, 0);
    for (one, outcome) in pairs() {
        assert_eq!((&one["database"], &one["workload"]), (&outcome["database"], &outcome["workload"]));
        for (point, came) in list(&one["points"]).iter().zip(&list(&outcome["points"])) {
            blind += 1;
            let (band, wait) = (&point[1]["wait_p99"], came["wait_p99"].as_f64());
            let within = band["low"].as_f64() <= wait && wait <= band["high"].as_f64();
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
    let rows = json!({"blind": blind, "clean": clean, "inside": inside, "sizes": sizes, "sizes_right": sizes_right,
        "stalls": stalls, "stalls_right": stalls_right});
    for (key, value) in rows.as_object().unwrap() {
        assert_eq!(&score[key], value, "{key}");
    }
}
