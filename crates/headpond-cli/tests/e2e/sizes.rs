//! `headpond size` and `headpond simulate`: forms and exit codes.

use std::fs;
use std::process::{Command, Output};

fn headpond(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headpond")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const LOAD: [&str; 8] =
    ["size", "--users", "800", "--requests-per-page", "3", "--batch", "4x20min", "--no-trials"];

#[test]
fn the_sizes_to_paste_are_a_configuration_that_is_accepted() {
    for more in [&[][..], &["--servers", "3", "--cores", "8", "--nodes", "2"]] {
        let output = headpond(&[&LOAD[..], more, &["--output", "toml"]].concat());
        assert_eq!(output.status.code(), Some(0));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headpond.toml");
        let rest =
            "listen = [\"127.0.0.1:0\"]\nauth_type = \"trust\"\n[data_source.a]\nhost = \"127.0.0.1\"\n";
        let (top, table) = rest.split_once("[data_source").unwrap();
        fs::write(&file, format!("{top}{}[data_source{table}", text(&output))).unwrap();
        let check = headpond(&["check", file.to_str().unwrap()]);
        assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    }
}

#[test]
fn what_no_size_meets_ends_with_three_and_what_makes_no_sense_with_two() {
    let overload = headpond(&["size", "--rate", "9000", "--hold", "8ms", "--cores", "4", "--output", "json"]);
    assert_eq!(overload.status.code(), Some(3));
    let answer: serde_json::Value = serde_json::from_str(&text(&overload)).unwrap();
    assert!(answer["shortfall"]["missing_rate"].as_f64().unwrap() > 1000.0);
    assert_eq!(headpond(&["size", "--users", "many"]).status.code(), Some(2));
    assert_eq!(headpond(&["size"]).status.code(), Some(2));
    assert_eq!(headpond(&["size", "--rate", "0"]).status.code(), Some(1));
}

#[test]
fn a_scenario_has_the_same_outcome_each_time() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../headpond-sizing/scenarios/fleet-restart.toml");
    let (one, two) = (headpond(&["simulate", file, "--json"]), headpond(&["simulate", file, "--json"]));
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(text(&one), text(&two));
    let other = headpond(&["simulate", file, "--json", "--seed", "2"]);
    assert_ne!(text(&one), text(&other));
    let missing = headpond(&["simulate", "/nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(1));
}
