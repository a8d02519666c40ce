//! Passwords, on both legs: from the client to Headpond, and from Headpond to the server.

use std::fs;
use std::sync::OnceLock;

use headpond_embedded::{Auth, Options, Postgres};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::postgres;
use crate::pond::{MODES, Pond, Way, code, connect, run, value, ways};

/// A server that nobody enters without a password: `postgres` with "top", `alice` with "it's \"hers\"".
fn locked() -> &'static Postgres {
    static LOCKED: OnceLock<Postgres> = OnceLock::new();
    LOCKED.get_or_init(|| {
        postgres(Options { auth: Auth::ScramSha256 { password: "top".to_owned() }, ..Options::default() })
    })
}

const ALICES: &str = r#"it's "hers""#;

/// What the server stores of alice's password.
async fn stored_secret() -> String {
    let mut config = tokio_postgres::Config::new();
    config.host(locked().host()).port(locked().port()).user("postgres").password("top").dbname("postgres");
    let direct = connect(&config).await;
    // Tests come in any order, and at once.
    let create = format!(
        "SELECT pg_advisory_lock(1); DO $$ BEGIN IF to_regrole('alice') IS NULL THEN
            CREATE ROLE alice LOGIN PASSWORD '{}'; END IF; END $$",
        ALICES.replace('\'', "''")
    );
    direct.batch_execute(&create).await.unwrap();
    value(&direct, "SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'").await
}

/// Before the locked server, with a users file; the folder must outlive it.
fn pond(way: Way, users: &str, source: &str) -> (Pond, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), users).unwrap();
    let (host, port) = (locked().host(), locked().port());
    let text = format!(
        "auth_type = \"scram-sha-256\"\nauth_file = \"users\"
         [data_source.\"*\"]\nhost = \"{host}\"\nport = {port}\n{source}"
    );
    (Pond::within(folder.path(), way, "alice", &text), folder)
}

#[test]
fn a_password_in_clear_opens_both_legs() {
    run(async {
        stored_secret().await;
        for way in ways() {
            let (pond, _folder) = pond(way, &format!("\"alice\" \"{}\"", ALICES.replace('"', "\"\"")), "");
            let client = connect(pond.login().password(ALICES)).await;
            assert_eq!(value(&client, "SELECT current_user").await, "alice", "{way:?}");
        }
    });
}

#[test]
fn a_stored_secret_opens_both_legs_once_its_owner_came_in() {
    run(async {
        let secret = stored_secret().await;
        for way in ways() {
            let (pond, _folder) = pond(way, &format!("\"alice\" \"{secret}\""), "");
            for _ in 0..3 {
                let client = connect(pond.login().password(ALICES)).await;
                assert_eq!(value(&client, "SELECT current_user").await, "alice", "{way:?}");
            }
        }
    });
}

#[test]
fn a_wrong_password_and_an_unknown_user_hear_the_same() {
    run(async {
        let secret = stored_secret().await;
        for way in MODES {
            let (pond, _folder) = pond(way, &format!("\"alice\" \"{secret}\""), "");
            let (mut wrong, mut unknown) = (pond.login(), pond.login());
            let (wrong, unknown) = (wrong.password("hers"), unknown.user("mallory").password("hers"));
            for login in [wrong, unknown] {
                let outcome = login.connect(NoTls).await.map(|_| ());
                assert_eq!(code(outcome), SqlState::INVALID_PASSWORD, "{way:?}");
            }
            let client = connect(pond.login().password(ALICES)).await;
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
        }
    });
}

#[test]
fn a_data_source_may_bring_its_own_user_and_password() {
    run(async {
        let secret = stored_secret().await;
        for way in MODES {
            let own = "user = \"postgres\"\npassword = \"top\"";
            let (pond, _folder) = pond(way, &format!("\"alice\" \"{secret}\""), own);
            let client = connect(pond.login().password(ALICES)).await;
            assert_eq!(value(&client, "SELECT current_user").await, "postgres", "{way:?}");
        }
    });
}

#[test]
fn a_password_that_the_server_refuses_is_the_clients_error() {
    run(async {
        for way in MODES {
            let (pond, _folder) =
                pond(way, "\"alice\" \"hers\"", "user = \"postgres\"\npassword = \"bottom\"");
            let outcome = pond.login().password("hers").connect(NoTls).await.map(|_| ());
            assert_eq!(code(outcome), SqlState::INVALID_PASSWORD, "{way:?}");
        }
    });
}
