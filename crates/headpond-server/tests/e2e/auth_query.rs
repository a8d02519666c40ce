//! Users that are not listed, and are looked up on the server.

use std::fs;
use std::sync::OnceLock;

use futures_util::future::join_all;
use headpond_embedded::{Auth, Options, Postgres};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::postgres;
use crate::pond::{MODES, Pond, SESSION, TRANSACTION, Way, code, connect, run, until, value};

/// A server that asks for passwords, and users of whom Headpond knows nothing.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = postgres(Options {
            auth: Auth::ScramSha256 { password: "top".to_owned() },
            ..Options::default()
        });
        let roles = "CREATE ROLE lucy LOGIN PASSWORD 'sky'; CREATE ROLE late LOGIN PASSWORD 'gone' VALID UNTIL 'yesterday'; \
            CREATE ROLE group_of_some PASSWORD 'all'; CREATE ROLE bare LOGIN; \
            SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'hash'; \
            CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC; \
            CREATE TABLE evil.pg_shadow (usename text, passwd text); \
            INSERT INTO evil.pg_shadow VALUES ('lucy', 'md5' || md5('evil' || 'lucy')); GRANT SELECT ON evil.pg_shadow TO PUBLIC";
        let mut psql = server.installation().command("psql");
        psql.args(["-X", "-q", "-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"]);
        psql.env("PGPASSWORD", "top").args(["-v", "ON_ERROR_STOP=1", "-c", roles, "postgres"]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server
    })
}

/// Before it; only the one who asks is listed. The folder must outlive it.
fn pond(way: Way, settings: &str) -> (Pond, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), "\"postgres\" \"top\"").unwrap();
    let (host, port) = (server().host(), server().port());
    let text = format!(
        "auth_file = \"users\"\nauth_user = \"postgres\"\nadmin_users = [\"postgres\"]\n{settings}
         [data_source.\"*\"]\nhost = \"{host}\"\nport = {port}"
    );
    (Pond::within(folder.path(), way, "lucy", &text), folder)
}

const SCRAM: &str = "auth_type = \"scram-sha-256\"";
const MD5: &str = "auth_type = \"md5\"";

/// Past Headpond, as the superuser.
async fn superuser() -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host(server().host()).port(server().port()).user("postgres").password("top").dbname("postgres");
    connect(&config).await
}

/// Who somebody turns out to be, or the code and words of the refusal.
async fn enters(pond: &Pond, user: &str, password: &str) -> Result<String, (SqlState, String)> {
    match pond.login().user(user).password(password).connect(NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Ok(value(&client, "SELECT session_user || ' ' || current_user").await)
        }
        Err(error) => {
            let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
            Err((error.code().clone(), error.message().to_owned()))
        }
    }
}

#[test]
fn who_is_not_listed_comes_in_with_the_secret_of_the_server_and_as_himself() {
    run(async {
        for way in MODES {
            for method in [SCRAM, MD5] {
                let (pond, _folder) = pond(way, method);
                for _ in 0..3 {
                    assert_eq!(
                        enters(&pond, "lucy", "sky").await,
                        Ok("lucy lucy".to_owned()),
                        "{way:?} {method}"
                    );
                }
                // The one who asks has lent nobody his name.
                assert_eq!(enters(&pond, "postgres", "top").await, Ok("postgres postgres".to_owned()));
                pond.assert_in_step().await;
            }
            let (pond, _folder) = pond(way, "auth_type = \"password\"");
            assert_eq!(enters(&pond, "lucy", "sky").await, Ok("lucy lucy".to_owned()), "{way:?}");
        }
    });
}

#[test]
fn a_wrong_password_an_expired_one_a_group_and_nobody_hear_the_same() {
    run(async {
        for method in [SCRAM, MD5] {
            let (pond, _folder) = pond(TRANSACTION, method);
            for (user, password) in [
                ("lucy", "sea"),
                ("late", "gone"),
                ("group_of_some", "all"),
                ("bare", ""),
                ("mallory", "sky"),
            ] {
                let words = format!("password authentication failed for user \"{user}\"");
                let refusal = enters(&pond, user, if password.is_empty() { "x" } else { password }).await;
                assert_eq!(refusal, Err((SqlState::INVALID_PASSWORD, words)), "{method} {user}");
            }
            assert_eq!(enters(&pond, "lucy", "sky").await, Ok("lucy lucy".to_owned()));
        }
    });
}

#[test]
fn whatever_the_question_answers_nobody_becomes_somebody_else() {
    run(async {
        let lucys = "(SELECT rolpassword FROM pg_authid WHERE rolname = 'lucy')";
        let failed = || {
            let words = "password authentication failed for user \"lucy\"".to_owned();
            (SqlState::INVALID_PASSWORD, words)
        };
        let not_now = || (SqlState::CANNOT_CONNECT_NOW, "users cannot be looked up at present".to_owned());
        for (query, refusal) in [
            ("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND false".to_owned(), failed()),
            (format!("SELECT 'postgres', {lucys} WHERE $1 <> ''"), failed()),
            (format!("SELECT 'lucy', {lucys} FROM generate_series(1, 2) WHERE $1 <> ''"), failed()),
            (
                format!("SELECT u, {lucys} FROM (VALUES ('lucy'), ('postgres')) AS v (u) WHERE $1 <> ''"),
                failed(),
            ),
            (format!("SELECT NULL, {lucys} WHERE $1 <> ''"), failed()),
            ("SELECT $1::text, NULL".to_owned(), failed()),
            ("SELECT $1::text".to_owned(), failed()),
            ("SELECT $1::text, 'SCRAM-SHA-256$broken'".to_owned(), failed()),
            // In clear it could not be checked by SCRAM without a derivation.
            ("SELECT $1::text, 'sky'".to_owned(), failed()),
            ("SELECT nonsense($1)".to_owned(), not_now()),
            ("SELECT 1; SELECT $1".to_owned(), not_now()),
            (format!("SELECT 'lucy', {lucys}"), not_now()),
            ("".to_owned(), not_now()),
        ] {
            let (pond, _folder) = pond(SESSION, &format!("{SCRAM}\nauth_query = \"{query}\""));
            for _ in 0..2 {
                assert_eq!(enters(&pond, "lucy", "sky").await, Err(refusal.clone()), "{query}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_question_that_never_ends_costs_its_client_no_more_than_the_login_time_out() {
    run(async {
        let query = "SELECT $1::text, pg_sleep(1000)::text";
        let settings = format!("{SCRAM}\nauth_query = \"{query}\"\nconnect_timeout = \"300ms\"");
        let (pond, _folder) = pond(SESSION, &settings);
        let refusal = enters(&pond, "lucy", "sky").await.unwrap_err();
        assert_eq!(refusal.0, SqlState::CANNOT_CONNECT_NOW);
        let gone = async || pond.snapshot().await.servers.is_empty();
        until("the connection is closed", gone).await;
    });
}

/// CVE-2025-12819: what a client says in its startup packet changed whom the question was about.
#[test]
fn what_a_client_sets_in_its_startup_packet_does_not_reach_the_question() {
    run(async {
        let query = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1";
        for way in MODES {
            let (pond, _folder) = pond(way, &format!("{MD5}\nauth_query = \"{query}\""));
            for options in ["-c search_path=evil", "-c search_path=evil,pg_catalog -c role=postgres"] {
                let outcome = pond.login().password("evil").options(options).connect(NoTls).await;
                assert_eq!(code(outcome.map(drop)), SqlState::INVALID_PASSWORD, "{way:?} {options}");
            }
            let client = connect(pond.login().password("sky").options("-c search_path=evil")).await;
            assert_eq!(value(&client, "SELECT session_user").await, "lucy", "{way:?}");
        }
    });
}

#[test]
fn a_new_password_counts_after_a_failed_login_and_after_a_reload() {
    run(async {
        let superuser = superuser().await;
        superuser.batch_execute("CREATE ROLE rota LOGIN PASSWORD 'first'").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users"), "\"postgres\" \"top\"").unwrap();
        let (host, port) = (server().host(), server().port());
        let file = folder.path().join("headpond.toml");
        let text = format!(
            "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"127.0.0.1:26480\"\n{SCRAM}\nauth_file = \"users\"\n\
             auth_user = \"postgres\"\nauth_query_age = \"1h\"\n[data_source.\"*\"]\nhost = \"{host}\"\nport = {port}"
        );
        fs::write(&file, text).unwrap();
        let pond = Pond::from_file(&file, "rota");
        assert!(enters(&pond, "rota", "first").await.is_ok());
        superuser.batch_execute("ALTER ROLE rota PASSWORD 'second'").await.unwrap();
        // What was found is still believed: the first to fail has it asked again.
        assert!(enters(&pond, "rota", "second").await.is_err());
        assert!(enters(&pond, "rota", "second").await.is_ok());
        assert!(enters(&pond, "rota", "first").await.is_err());
        superuser.batch_execute("ALTER ROLE rota PASSWORD 'third'").await.unwrap();
        pond.running.control().reload().await.unwrap();
        assert!(enters(&pond, "rota", "third").await.is_ok());
    });
}

#[test]
fn a_crowd_is_looked_up_on_two_connections_within_the_budget() {
    run(async {
        let (pond, _folder) = pond(TRANSACTION, &format!("{SCRAM}\nbudget = 4"));
        let clients = join_all((0..100).map(|_| enters(&pond, "lucy", "sky"))).await;
        assert!(clients.iter().all(|outcome| outcome.as_deref() == Ok("lucy lucy")));
        let snapshot = pond.snapshot().await;
        let asking = snapshot.pools.iter().find(|row| row.user == "postgres (auth_query)").unwrap();
        assert!(asking.pool.counts.opened <= 2, "{}", asking.pool.counts.opened);
        let open: u32 = snapshot.pools.iter().map(|row| row.pool.open()).sum();
        assert!(open <= 4, "{open}");
    });
}

#[test]
fn names_of_any_length_are_refused_or_looked_up_and_harm_nobody() {
    run(async {
        let (pond, _folder) = pond(SESSION, SCRAM);
        for length in [63, 64, 65, 128, 129, 10_000, 60_000] {
            let name = "n".repeat(length);
            let (user, database) = (pond.login().user(&name).password("x").connect(NoTls).await.map(drop), {
                pond.login().dbname(&name).password("sky").connect(NoTls).await.map(drop)
            });
            let expected =
                if length <= 128 { SqlState::INVALID_PASSWORD } else { SqlState::PROTOCOL_VIOLATION };
            // Longer packets are not read at all.
            let code_of = |outcome: Result<(), tokio_postgres::Error>| outcome.unwrap_err().code().cloned();
            assert!([Some(expected), None].contains(&code_of(user)), "{length}");
            assert!(code_of(database).is_none_or(|code| code != SqlState::SUCCESSFUL_COMPLETION), "{length}");
        }
        assert_eq!(enters(&pond, "lucy", "sky").await, Ok("lucy lucy".to_owned()));
    });
}

#[test]
fn without_the_server_nobody_is_let_in_and_nobody_hears_why() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users"), "\"postgres\" \"top\"").unwrap();
        let text = format!(
            "{SCRAM}\nauth_file = \"users\"\nauth_user = \"postgres\"\nclient_login_timeout = \"200ms\"
             [data_source.\"*\"]\nhost = \"127.0.0.1\"\nport = 1"
        );
        let pond = Pond::within(folder.path(), SESSION, "lucy", &text);
        let outcome = pond.login().password("sky").connect(NoTls).await.map(drop);
        let error = outcome.unwrap_err();
        let words = error.as_db_error().unwrap().message().to_owned();
        assert!(!words.contains("postgres") && !words.contains("127.0.0.1"), "{words}");
        assert!(
            ["users cannot be looked up at present", "the login took longer than client_login_timeout"]
                .contains(&&*words),
            "{words}"
        );
        let unknown = pond.login().user("postgres").password("bottom").connect(NoTls).await.map(drop);
        assert_eq!(code(unknown), SqlState::INVALID_PASSWORD);
    });
}
