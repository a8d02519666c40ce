//! Every way to ask for a password, on both legs, with every secret that the users file may hold.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use headpond_embedded::{Auth, Options, Postgres};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::postgres;
use crate::pond::{Pond, SESSION, code, connect, run, until, value};
use crate::raw::{Raw, VERSION_3_0, message, packet, tags};

const SECRET: &str = r#"it's "hers""#;

/// What alice's password becomes when it is stored for md5, and for SCRAM.
struct Stored {
    md5: String,
    scram: String,
}

/// A server that asks for passwords by one method: `postgres` with "top", `alice` with [`SECRET`], stored as
/// `encryption` says.
struct Asking {
    server: Postgres,
    stored: Stored,
}

impl Asking {
    fn start(auth: Auth, encryption: &str) -> Self {
        let settings = vec![("password_encryption".to_owned(), encryption.to_owned())];
        let server = postgres(Options { auth, settings, ..Options::default() });
        let password = SECRET.replace('\'', "''");
        let stored = |encryption: &str| {
            format!(
                "SET password_encryption = '{encryption}'; ALTER ROLE alice PASSWORD '{password}'; \
                 SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'"
            )
        };
        let as_postgres = |query: &str| {
            let mut psql = psql(&server, server.port(), "postgres", "top");
            let output = psql.args(["-q", "-c", query, "postgres"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        as_postgres("CREATE ROLE alice LOGIN");
        let others = if encryption == "md5" { ["scram-sha-256", "md5"] } else { ["md5", "scram-sha-256"] };
        let [other, own] = others.map(|encryption| as_postgres(&stored(encryption)));
        let (md5, scram) = if encryption == "md5" { (own, other) } else { (other, own) };
        Self { server, stored: Stored { md5, scram } }
    }

    /// Before it, with a users file of one line; the folder must outlive it.
    fn pond(&self, method: &str, secret: &str) -> (Pond, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let secret = secret.replace('"', "\"\"");
        fs::write(folder.path().join("users"), format!("\"alice\" \"{secret}\"")).unwrap();
        let (host, port) = (self.server.host(), self.server.port());
        let text = format!(
            "auth_type = \"{method}\"\nauth_file = \"users\"\nadmin_users = [\"alice\"]
             [data_source.\"*\"]\nhost = \"{host}\"\nport = {port}"
        );
        (Pond::within(folder.path(), SESSION, "alice", &text), folder)
    }
}

fn psql(server: &Postgres, port: u16, user: &str, password: &str) -> Command {
    let mut psql = server.installation().command("psql");
    psql.args(["-X", "-At", "-w", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", user]);
    psql.env("PGPASSWORD", password);
    psql
}

fn by_password() -> &'static Asking {
    static SERVER: OnceLock<Asking> = OnceLock::new();
    SERVER.get_or_init(|| Asking::start(Auth::Password { password: "top".to_owned() }, "scram-sha-256"))
}

fn by_md5() -> &'static Asking {
    static SERVER: OnceLock<Asking> = OnceLock::new();
    SERVER.get_or_init(|| Asking::start(Auth::Md5 { password: "top".to_owned() }, "md5"))
}

fn by_scram() -> &'static Asking {
    static SERVER: OnceLock<Asking> = OnceLock::new();
    SERVER.get_or_init(|| Asking::start(Auth::ScramSha256 { password: "top".to_owned() }, "scram-sha-256"))
}

/// What psql says to `SELECT current_user` through a pond, or why it cannot.
fn asks_who_it_is(asking: &Asking, pond: &Pond, password: &str) -> Result<String, String> {
    let mut psql = psql(&asking.server, pond.address().port(), "alice", password);
    let output = psql.args(["-c", "SELECT current_user", "postgres"]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Every method of clients and every secret, before one server: who gets in, and who gets through.
fn matrix(asking: &Asking, gets_through: impl Fn(&str, &str) -> bool) {
    run(async {
        let Stored { md5, scram } = &asking.stored;
        for method in ["password", "md5", "scram-sha-256"] {
            for (kind, secret) in [("plain", SECRET), ("md5", md5), ("scram", scram)] {
                let (pond, _folder) = asking.pond(method, secret);
                let case = format!("clients by {method}, secret {kind}");
                let wrong = asks_who_it_is(asking, &pond, "hers").unwrap_err();
                assert!(
                    wrong.contains("password authentication failed for user \"alice\""),
                    "{case}: {wrong}"
                );
                let answer = asks_who_it_is(asking, &pond, SECRET);
                let refused = "password authentication failed";
                let gets_in = !(method == "scram-sha-256" && kind == "md5");
                match answer {
                    Ok(name) => assert!(name == "alice" && gets_in && gets_through(method, kind), "{case}"),
                    Err(why) if !gets_in => assert!(why.contains(refused), "{case}: {why}"),
                    Err(why) => {
                        assert!(!gets_through(method, kind), "{case}: {why}");
                        assert!(why.contains("is known"), "{case}: {why}");
                    }
                }
                if gets_in {
                    let console = connect(pond.login().password(SECRET).dbname("headpond")).await;
                    console.simple_query("SHOW POOLS").await.unwrap();
                }
            }
        }
    });
}

#[test]
fn a_server_that_asks_in_clear_gets_what_the_file_or_the_client_gave() {
    matrix(by_password(), |method, kind| kind == "plain" || method == "password");
}

#[test]
fn a_server_that_asks_for_md5_gets_it_from_a_password_or_an_md5_secret() {
    matrix(by_md5(), |method, kind| kind != "scram" || method == "password");
}

#[test]
fn a_server_that_asks_for_scram_gets_it_from_a_password_or_learned_keys() {
    matrix(by_scram(), |method, kind| kind == "plain" || kind == "scram" || method == "password");
}

#[test]
fn an_unknown_user_hears_what_a_known_one_with_a_wrong_password_hears() {
    run(async {
        let Stored { md5, scram } = &by_md5().stored;
        for method in ["password", "md5", "scram-sha-256"] {
            for secret in [SECRET, md5, scram] {
                let (pond, _folder) = by_md5().pond(method, secret);
                let mut refusals = Vec::new();
                for user in ["alice", "mallory"] {
                    let outcome = pond.login().user(user).password("wrong").connect(NoTls).await.map(drop);
                    let error = outcome.unwrap_err();
                    let error = error.as_db_error().unwrap();
                    assert_eq!(error.code(), &SqlState::INVALID_PASSWORD, "{method}");
                    refusals.push(error.message().replace(user, "X"));
                }
                assert_eq!(refusals[0], refusals[1], "{method}");
            }
        }
    });
}

#[test]
fn a_pool_without_credentials_says_so_and_serves_everybody_once_a_client_brought_them() {
    run(async {
        // Bob comes in by himself, but his connections are alice's, of whom only a stored secret is known.
        let asking = by_scram();
        let folder = tempfile::tempdir().unwrap();
        let users = format!("\"alice\" \"{}\"\n\"bob\" \"bobs\"", asking.stored.scram);
        fs::write(folder.path().join("users"), users).unwrap();
        let (host, port) = (asking.server.host(), asking.server.port());
        let text = format!(
            "auth_type = \"scram-sha-256\"\nauth_file = \"users\"
             [data_source.\"*\"]\nhost = \"{host}\"\nport = {port}\nuser = \"alice\""
        );
        let pond = Pond::within(folder.path(), SESSION, "bob", &text);
        let awaits = async || pond.snapshot().await.pools[0].awaiting_credentials;
        let outcome = pond.login().password("bobs").connect(NoTls).await.map(drop);
        assert_eq!(code(outcome), SqlState::INVALID_PASSWORD);
        assert!(awaits().await);
        for (user, password) in [("alice", SECRET), ("bob", "bobs")] {
            let client = connect(pond.login().user(user).password(password)).await;
            assert_eq!(value(&client, "SELECT current_user").await, "alice");
            until("credentials", async || !awaits().await).await;
        }
    });
}

#[test]
fn a_query_may_follow_a_password_in_one_flight() {
    let asking = by_scram();
    run(async {
        // Against a SCRAM secret the password is derived elsewhere, while the query lies here.
        for secret in [SECRET, &asking.stored.scram] {
            let (pond, _folder) = asking.pond("password", secret);
            for _ in 0..2 {
                let mut raw = Raw::connect(pond.address());
                let startup = packet(VERSION_3_0, b"user\0alice\0database\0postgres\0\0");
                let password = message(b'p', &[SECRET.as_bytes(), b"\0"].concat());
                raw.send(&[startup, password, message(b'Q', b"SELECT 1\0")].concat());
                raw.until_ready();
                assert_eq!(tags(&raw.until_ready()), "TDCZ");
            }
        }
    });
}
