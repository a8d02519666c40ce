//! The console, as `psql` and drivers see it.

use std::fs;

use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::database::database;
use crate::named::until_shown;
use crate::pond::{MODES, Pond, SESSION, TRANSACTION, Way, code, connect, run, until, value};

/// What `SHOW` shows.
const SHOWN: &str =
    "HELP POOLS MARKS ALARMS CLOSE_REASONS HOLDERS PINS CLIENTS SERVERS SOCKETS ACTIVE_SOCKETS STATS STATS_TOTALS
    STATS_AVERAGES TOTALS DATABASES USERS LISTS CONFIG VERSION";

#[test]
fn every_command_that_shows_something_answers() {
    run(async {
        for workers in [1, 2] {
            let pond = Pond::new(Way { workers, ..SESSION }, "", "").await;
            let client = pond.client().await;
            client.batch_execute("SELECT 1").await.unwrap();
            let console = pond.console().await;
            for what in SHOWN.split_whitespace() {
                let answer = console.simple_query(&format!("SHOW {what}")).await;
                answer.unwrap_or_else(|error| panic!("SHOW {what}: {error}"));
            }
            let clients = console.simple_query("SHOW CLIENTS").await.unwrap();
            let named = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => row.get("user") == Some(&pond.user),
                _ => false,
            };
            assert!(clients.iter().any(named));
            assert!(console.simple_query("SHOW NONSENSE").await.is_err());
            assert!(console.simple_query("SHOW VERSION").await.is_ok());
        }
    });
}

#[test]
fn who_has_held_a_connection_for_longest_is_shown_first_with_what_it_does() {
    run(async {
        for workers in [1, 2] {
            let pond = Pond::new(Way { workers, ..TRANSACTION }, "", "").await;
            let [first, second] = ["first", "second"].map(|name| pond.login().application_name(name).clone());
            let (first, second) = (connect(&first).await, connect(&second).await);
            first.batch_execute("BEGIN").await.unwrap();
            second.batch_execute("BEGIN").await.unwrap();
            let columns = ["application_name", "state"];
            let in_transaction = |name| [name, "idle in transaction"];
            let both = [in_transaction("first"), in_transaction("second")];
            until_shown(&pond, "SHOW HOLDERS", columns, &both).await;
            assert!(first.batch_execute("SELECT broken").await.is_err());
            let failed = [["first", "idle in transaction (aborted)"], both[1]];
            until_shown(&pond, "SHOW HOLDERS", columns, &failed).await;
            first.batch_execute("ROLLBACK").await.unwrap();
            let sleep = second.cancel_token();
            let look = async {
                until_shown(&pond, "SHOW HOLDERS", columns, &[["second", "active"]]).await;
                pond.until_in("PgSleep").await;
                sleep.cancel_query(NoTls).await.unwrap();
            };
            let (slept, ()) = tokio::join!(second.batch_execute("SELECT pg_sleep(100000)"), look);
            assert_eq!(code(slept), SqlState::QUERY_CANCELED);
            second.batch_execute("ROLLBACK").await.unwrap();
            until_shown(&pond, "SHOW HOLDERS", columns, &[]).await;
        }
    });
}

#[test]
fn only_administrators_command_and_only_known_users_look() {
    run(async {
        let pond = Pond::new(SESSION, "stats_users = [\"watcher\"]", "").await;
        let watcher = connect(pond.login().dbname("pgbouncer").user("watcher")).await;
        watcher.simple_query("SHOW POOLS").await.unwrap();
        for command in ["PAUSE", "RESUME", "RELOAD", "SHUTDOWN"] {
            assert_eq!(
                code(watcher.simple_query(command).await),
                SqlState::INSUFFICIENT_PRIVILEGE,
                "{command}"
            );
        }
        assert!(pond.login().dbname("headpond").user("stranger").connect(NoTls).await.is_err());
    });
}

#[test]
fn a_paused_pool_serves_nobody_until_it_is_resumed() {
    run(async {
        for way in MODES.into_iter().chain([Way { workers: 2, ..TRANSACTION }]) {
            let pond = Pond::new(way, "", "").await;
            let (console, client) = (pond.console().await, pond.client().await);
            console.batch_execute("PAUSE").await.unwrap();
            let resume = async {
                pond.until_waiting(1).await;
                console.batch_execute("RESUME").await.unwrap();
            };
            assert_eq!(tokio::join!(value(&client, "SELECT 1"), resume).0, "1", "{way:?}");
        }
    });
}

#[test]
fn a_reload_takes_effect_and_a_wrong_one_does_not() {
    run(async {
        let server = &database().server;
        let user = database().user().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headpond.toml");
        let configure = |pool: &str| {
            let source = format!("host = \"{}\"\nport = {}", server.host(), server.port());
            let text = format!(
                "admin_users = [\"{user}\"]\nhttp_listen = \"\"\n[data_source.\"*\"]\n{source}\n{pool}"
            );
            fs::write(&file, format!("listen = [\"127.0.0.1:26432\"]\n{text}")).unwrap();
        };
        configure("max_size = 1");
        let pond = Pond::from_file(&file, &user);
        let console = pond.console().await;
        let [holder, waiter] = <[_; 2]>::try_from(pond.clients(2).await).unwrap();
        holder.batch_execute("BEGIN").await.unwrap();
        configure("max_size = none");
        assert!(console.batch_execute("RELOAD").await.is_err());
        let reload = async {
            pond.until_waiting(1).await;
            configure("max_size = 2");
            console.batch_execute("RELOAD").await.unwrap();
        };
        assert_eq!(tokio::join!(value(&waiter, "SELECT 1"), reload).0, "1");
    });
}

#[test]
fn what_is_set_on_the_console_holds_until_the_next_reload() {
    run(async {
        let server = &database().server;
        let user = database().user().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headpond.toml");
        let source = format!("host = \"{}\"\nport = {}\nuser = \"{user}\"", server.host(), server.port());
        let text = format!(
            "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"\"\nadmin_users = [\"{user}\"]
             [pool]\nmin_idle = 2\nmax_size = 3\n[data_source.postgres]\n{source}"
        );
        fs::write(&file, text).unwrap();
        let pond = Pond::from_file(&file, &user);
        let console = pond.console().await;
        let sizes = async |sizes: &[&str; 2]| {
            until_shown(&pond, "SHOW POOLS", ["max_size", "effective_max"], &[*sizes]).await;
        };
        pond.until_idle(2).await;
        console.batch_execute("SET max_size = 7").await.unwrap();
        sizes(&["7", "7"]).await;
        console.batch_execute("SET check_query='SELECT 1'; ").await.unwrap();
        // Both hold, and PgBouncer's names do.
        sizes(&["7", "7"]).await;
        console.batch_execute("set default_pool_size to '8'").await.unwrap();
        sizes(&["8", "8"]).await;
        for wrong in ["SET max_size = 1", "SET max_sice = 9", "SET workers = 2", "SET acquire_timeout = soon"]
        {
            assert!(console.batch_execute(wrong).await.is_err(), "{wrong}");
        }
        sizes(&["8", "8"]).await;
        let shown = pond.running.control().config();
        assert_eq!((shown.pooler.check_query.as_str(), shown.pool.max_size), ("SELECT 1", 8));
        console.batch_execute("RELOAD").await.unwrap();
        sizes(&["3", "3"]).await;
        assert_eq!(pond.running.control().config().pooler.check_query, "");
    });
}

#[test]
fn shutdown_ends_everything() {
    run(async {
        let pond = Pond::new(SESSION, "", "").await;
        let (console, client) = (pond.console().await, pond.client().await);
        client.batch_execute("BEGIN").await.unwrap();
        // It may be gone before it can answer.
        let _ = console.batch_execute("SHUTDOWN").await;
        until("gone", async || pond.login().connect(NoTls).await.is_err()).await;
        assert!(client.batch_execute("SELECT 1").await.is_err());
        pond.until_connections(|count| count == 0).await;
    });
}
