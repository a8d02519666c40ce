//! `headpond size` with a database to measure: order and counts, never speeds.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headpond_embedded::{Options, Postgres};
use headpond_sizing::measured::Measured;

use crate::program::{Program, run};

fn size(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headpond"));
    command.arg("size").args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn url(server: &Postgres) -> String {
    format!("postgres://{}@{}:{}/postgres", server.user(), server.host(), server.port())
}

fn measured(output: &Output, file: &std::path::Path) -> Measured {
    assert!(output.status.code() != Some(1), "{}", text(&output.stderr));
    Measured::from_toml(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn a_database_is_measured_within_its_guards_and_the_same_is_said_of_what_was_saved() {
    let server = Postgres::start(Options { max_connections: 20, ..Options::default() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("measured.toml");
    let (url, path) = (url(&server), file.to_str().unwrap());
    let short = ["--seconds", "0.1", "--rounds", "2", "--rate", "10", "--no-trials"];
    let load = ["--url", &url, "--save", path, "--levels", "1,2,4,8,12,16"];
    let output = size(&[&load[..], &short].concat()).output().unwrap();
    let found = measured(&output, &file);
    // 3 of 20 are for superusers: half of 17 are 8.
    let levels: Vec<u32> = found.levels.iter().map(|level| level.in_use).collect();
    assert!(levels.iter().eq([1, 2, 4, 8].iter().take(levels.len())) && levels.len() >= 3, "{levels:?}");
    let order: Vec<u32> = found.windows.iter().filter_map(|window| window.in_use).collect();
    assert_eq!((&order[..levels.len()], order.len()), (&levels[..], 2 * levels.len()));
    let completions = |n: u32| found.levels.iter().find(|level| level.in_use == n).unwrap().completions;
    let windows = |n: u32| found.windows.iter().filter(move |window| window.in_use == Some(n));
    assert_eq!(completions(2), windows(2).map(|window| window.holds).sum::<u64>());
    assert_eq!(found.facts.max_connections, Some(20));
    assert!(found.facts.login.unwrap() > 0.0 && found.facts.memory.is_some_and(|mib| mib > 0.1));
    assert!(found.facts.audit.iter().any(|said| said.contains("levels above 8")));
    let tried: Vec<f64> = found.facts.open.iter().map(|open| open.rate).collect();
    let peak = found.levels.iter().map(|level| level.rate()).fold(0.0, f64::max);
    assert!(!tried.is_empty() && tried.iter().all(|rate| (1.0..peak).contains(rate)), "{tried:?}, {peak}");
    let again = size(&["--measured", path, "--rate", "10", "--no-trials"]).output().unwrap();
    assert_eq!(text(&again.stdout), text(&output.stdout));
    let page =
        size(&["--measured", path, "--rate", "10", "--no-trials", "--output", "html"]).output().unwrap();
    let page = text(&page.stdout);
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.matches("<svg").count() == 2 && page.contains("knee: ")
    );
    // One file: nothing is fetched.
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
}

#[test]
fn statements_that_write_are_refused_by_the_session_unless_they_are_meant() {
    let server = Postgres::start(Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let statements = folder.path().join("statements.sql");
    std::fs::write(&statements, "BEGIN; CREATE TABLE y (); ROLLBACK").unwrap();
    let url = url(&server);
    let load = ["--url", &url, "--statements", statements.to_str().unwrap(), "--levels", "1", "--rate", "1"];
    let short = ["--seconds", "0.1", "--rounds", "1", "--no-trials"];
    let refused = size(&[&load[..], &short].concat()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("read-only transaction"), "{}", text(&refused.stderr));
    let meant = size(&[&load[..], &short, &["--writes"]].concat()).output().unwrap();
    assert!(meant.status.code() != Some(1), "{}", text(&meant.stderr));
}

#[test]
fn an_experiment_that_is_interrupted_ends_at_once_and_leaves_no_connection() {
    let server = Postgres::start(Options::default()).unwrap();
    let url = url(&server);
    run(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let sessions = async || -> i64 {
            let all = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headpond size'";
            client.query_one(all, &[]).await.unwrap().get(0)
        };
        let mut command = size(&["--url", &url, "--seconds", "3000", "--rate", "1", "--no-trials"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let selects = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headpond size'
            AND query = 'SELECT 1'";
        while client.query_one(selects, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("stopped before anything was measured"));
        while sessions().await > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn counters_of_a_pooler_that_runs_tell_the_curve_and_the_load() {
    let server = Postgres::start(Options::default()).unwrap();
    run(async {
        let program = Program::serve(&server, "http_listen = \"127.0.0.1:0\"", "max_size = 3").await;
        let page = program.until_logged("page: http://", 1).await.remove(0);
        let url = page.split_whitespace().last().unwrap().trim_end_matches('/').to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for _ in 0..4 {
            let (client, stop) = (program.client("load").await.unwrap(), Arc::clone(&stop));
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.simple_query("SELECT count(*) FROM generate_series(1, 3000)").await.unwrap();
                }
            }));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("measured.toml");
        let mut command = size(&["--from", &url, "--for", "2s", "--no-trials", "--save"]);
        command.arg(&file);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        let found = measured(&output, &file);
        assert_eq!(found.levels.last().unwrap().in_use, 3, "{:?}", found.levels);
        assert_eq!(found.windows.len(), 25);
        assert!(found.facts.about.unwrap().contains("postgres of postgres"));
        let answered = found.windows.iter().map(|window| window.holds).sum::<u64>() as f64;
        assert!(found.facts.rate.unwrap() > 0.0 && answered > 100.0);
    });
}
