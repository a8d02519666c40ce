//! What nobody gets without a right to it.

use std::fs;
use std::path::Path;

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::database;
use crate::pond::{MODES, Pond, SESSION, code, connect, run, until, value};
use crate::raw::{Raw, VERSION_3_0, message, packet};

/// CVE-2025-46801: a pooler gave out what another client had opened, whatever the password.
#[test]
fn a_wrong_password_never_reaches_a_warm_connection() {
    run(async {
        for way in MODES {
            let user = database().user().await;
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("users"), format!("\"{user}\" \"right\"")).unwrap();
            for method in ["password", "md5", "scram-sha-256"] {
                let (host, port) = (database().server.host(), database().server.port());
                let text = format!(
                    "auth_type = \"{method}\"\nauth_file = \"users\"\n[data_source.postgres]\nhost = \"{host}\"\n\
                     port = {port}\nmin_idle = 3"
                );
                let pond = Pond::within(folder.path(), way, &user, &text);
                let warm = connect(pond.login().password("right")).await;
                assert_eq!(value(&warm, "SELECT 1").await, "1");
                for wrong in ["wrong", "Right", "right ", "r"] {
                    let outcome = pond.login().password(wrong).connect(NoTls).await.map(drop);
                    assert_eq!(code(outcome), SqlState::INVALID_PASSWORD, "{way:?} {method} {wrong}");
                }
                let queries: u64 = pond.snapshot().await.pools.iter().map(|row| row.traffic.queries).sum();
                assert_eq!(queries, 1, "{way:?} {method}");
            }
        }
    });
}

/// Nothing that comes before the proof is done is carried out when it fails, or when it never comes.
#[test]
fn a_query_sent_before_the_proof_is_never_executed() {
    run(async {
        let user = database().user().await;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users"), format!("\"{user}\" \"right\"")).unwrap();
        let (host, port) = (database().server.host(), database().server.port());
        for method in ["password", "md5", "scram-sha-256"] {
            let text = format!(
                "auth_type = \"{method}\"\nauth_file = \"users\"\n[data_source.\"*\"]\nhost = \"{host}\"\nport = {port}"
            );
            let pond = Pond::within(folder.path(), SESSION, &user, &text);
            let login = packet(VERSION_3_0, format!("user\0{user}\0database\0postgres\0\0").as_bytes());
            let query = message(b'Q', b"CREATE TABLE never ()\0");
            let wrong = message(b'p', b"wrong\0");
            for flight in [[&login[..], &query].concat(), [&login[..], &wrong, &query].concat()] {
                let mut raw = Raw::connect(pond.address());
                raw.send(&flight);
                let answers = raw.until_end();
                assert_eq!(answers.last().map(|answer| answer.tag), Some(b'E'), "{method}");
                assert!(answers.iter().all(|answer| !b"ZCT".contains(&answer.tag)), "{method}");
            }
            let snapshot = pond.snapshot().await;
            assert!(snapshot.pools.iter().all(|row| row.traffic.queries == 0), "{method}");
        }
    });
}

/// Connections that say nothing fill the process, and those who do say who they are come in all the same.
#[test]
fn who_only_connects_keeps_nobody_out() {
    run(async {
        for settings in ["max_clients = 20", "max_startups = 10", "max_startups_per_address = 10"] {
            let pond = Pond::new(SESSION, settings, "").await;
            let silent: Vec<_> = (0..40).map(|_| Raw::connect(pond.address())).collect();
            // A second later they are slow.
            let enters = async || pond.login().connect(NoTls).await.is_ok();
            until("somebody comes in", enters).await;
            for _ in 0..15 {
                let client = pond.client().await;
                assert_eq!(value(&client, "SELECT 1").await, "1", "{settings}");
            }
            drop(silent);
        }
    });
}

/// The page on security names its tests; each of them exists.
#[test]
fn every_test_that_the_security_page_names_exists() {
    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = String::new();
    sources(crates, &mut all);
    let page = fs::read_to_string(crates.parent().unwrap().join("docs/security.md")).unwrap();
    let names = page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 3);
    let names: Vec<_> = names.filter(|name| !name.contains(['/', ' '])).collect();
    assert!(names.len() > 20);
    for name in names {
        assert!(all.contains(&format!("fn {name}(")), "{name}");
    }
}
