//! Time-outs of what clients do: the server is freed of it, and the client hears why. It stays, unless it is idle.

use tokio_postgres::error::SqlState;

use crate::database::{database, direct};
use crate::pond::{MODES, PID, Pond, code, run, until, value, ways};
use crate::raw::{Raw, VERSION_3_0, message, tags};

/// No savepoint of that name.
const NO_SAVEPOINT: SqlState = SqlState::S_E_INVALID_SPECIFICATION;

/// Whether no transaction is open on the server under this pond's user.
async fn until_rolled_back(pond: &Pond) {
    let direct = direct(&database().server).await;
    let open = "SELECT FROM pg_stat_activity WHERE usename = $1 AND xact_start IS NOT NULL";
    until("rolled back", async || direct.query(open, &[&pond.user]).await.unwrap().is_empty()).await;
}

/// A client that sends more without waiting for its login.
fn logging_in(pond: &Pond) -> Raw {
    let mut raw = Raw::connect(pond.address());
    raw.send_startup(VERSION_3_0, &[("user", &pond.user), ("database", "postgres")]);
    raw
}

#[test]
fn a_client_idle_for_longer_than_client_idle_timeout_is_told_and_closed() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "client_idle_timeout = \"100ms\"", "max_size = 1").await;
            for used in [false, true] {
                let mut raw = logging_in(&pond);
                if used {
                    raw.send_query("SELECT 1");
                }
                let told = raw.until_end().pop().unwrap();
                assert_eq!(
                    (told.field('S').as_str(), told.field('C').as_str()),
                    ("FATAL", "57P05"),
                    "{way:?}"
                );
            }
            // What is in a transaction, or runs, is not idle.
            let mut raw = logging_in(&pond);
            raw.send_query("BEGIN; SELECT pg_sleep(0.3)");
            raw.until_ready();
            raw.until_ready();
            assert_eq!(tags(&raw.query("SELECT pg_sleep(0.3); COMMIT")), "TDCCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_transaction_left_idle_is_rolled_back_and_its_client_goes_on() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "idle_transaction_timeout = \"50ms\"", "max_size = 1").await;
            let table = format!("idle_{}", pond.user);
            let client = pond.client().await;
            client.batch_execute(&format!("CREATE TABLE {table} (a int)")).await.unwrap();
            let begin = async || {
                client.batch_execute(&format!("BEGIN; INSERT INTO {table} VALUES (1)")).await.unwrap();
                until_rolled_back(&pond).await;
            };
            let pid = value(&client, PID).await;
            begin().await;
            if way.mode == "transaction" {
                // Others have the connection meanwhile.
                assert_eq!(value(&pond.client().await, PID).await, pid, "{way:?}");
            }
            // The end of the transaction must not look like a success.
            let idle = SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT;
            assert_eq!(code(client.batch_execute("COMMIT").await), idle, "{way:?}");
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
            // Anything else fails, and then as after any other error.
            begin().await;
            assert_eq!(code(client.query_typed("SELECT 1", &[]).await), idle, "{way:?}");
            let savepoint = client.batch_execute("ROLLBACK TO SAVEPOINT a").await;
            assert_eq!(code(savepoint), NO_SAVEPOINT, "{way:?}");
            let aborted = SqlState::IN_FAILED_SQL_TRANSACTION;
            assert_eq!(code(client.batch_execute("SELECT 1").await), aborted, "{way:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
            // A wish that has come true.
            begin().await;
            client.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(value(&client, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            assert_eq!(value(&client, PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_failed_transaction_left_idle_is_rolled_back_without_a_word() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "idle_transaction_timeout = \"50ms\"", "max_size = 1").await;
            let client = pond.client().await;
            assert!(client.batch_execute("BEGIN; SELECT 1/0").await.is_err());
            until_rolled_back(&pond).await;
            let aborted = SqlState::IN_FAILED_SQL_TRANSACTION;
            assert_eq!(code(client.batch_execute("SELECT 1").await), aborted, "{way:?}");
            until_rolled_back(&pond).await;
            client.batch_execute("COMMIT").await.unwrap();
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_transaction_that_lasts_too_long_is_cancelled_and_rolled_back_and_its_client_goes_on() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "transaction_timeout = \"200ms\"", "max_size = 1").await;
            let client = pond.client().await;
            let pid = value(&client, PID).await;
            let running = client.batch_execute("BEGIN; SELECT pg_sleep(100000)").await;
            assert_eq!(code(running), SqlState::QUERY_CANCELED, "{way:?}");
            until_rolled_back(&pond).await;
            let aborted = SqlState::IN_FAILED_SQL_TRANSACTION;
            assert_eq!(code(client.batch_execute("SELECT 1").await), aborted, "{way:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
            // Nothing runs in it.
            client.batch_execute("BEGIN").await.unwrap();
            until_rolled_back(&pond).await;
            let long = SqlState::from_code("25P04");
            assert_eq!(code(client.batch_execute("SELECT 1").await), long, "{way:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
            // One statement is a transaction too.
            let alone = client.batch_execute("SELECT pg_sleep(100000)").await;
            assert_eq!(code(alone), SqlState::QUERY_CANCELED, "{way:?}");
            assert_eq!(value(&client, PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_query_that_runs_too_long_is_cancelled_and_its_client_and_transaction_go_on() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "query_timeout = \"500ms\"", "max_size = 1").await;
            let client = pond.client().await;
            let pid = value(&client, PID).await;
            let outcome = client.batch_execute("SELECT pg_sleep(100000)").await;
            assert_eq!(code(outcome), SqlState::QUERY_CANCELED, "{way:?}");
            client.batch_execute("BEGIN; SAVEPOINT a").await.unwrap();
            let outcome = client.query_typed("SELECT pg_sleep(100000)", &[]).await;
            assert_eq!(code(outcome), SqlState::QUERY_CANCELED, "{way:?}");
            client.batch_execute("ROLLBACK TO SAVEPOINT a; COMMIT").await.unwrap();
            assert_eq!(value(&client, PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_copy_whose_data_do_not_come_ends_with_query_timeout() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "query_timeout = \"500ms\"", "max_size = 1").await;
            let mut raw = pond.raw();
            raw.send_query("CREATE TEMP TABLE t (a int); COPY t FROM STDIN");
            let answer = raw.until_ready();
            let error = answer.iter().find(|message| message.tag == b'E').unwrap();
            assert_eq!(error.field('C'), "57014", "{way:?}");
            raw.send(&message(b'd', b"1\n"));
            raw.send(&message(b'c', b""));
            assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn what_a_cancel_does_not_end_is_lost_after_cancel_timeout() {
    run(async {
        let times = "query_timeout = \"50ms\"\ncancel_timeout = \"50ms\"";
        for way in ways().filter(|way| way.mode == "transaction") {
            let pond = Pond::new(way, times, "max_size = 1").await;
            let mut raw = pond.raw();
            // A Sync that never comes.
            raw.send(&message(b'P', b"\0SELECT 1\0\0\0"));
            raw.send(&message(b'H', b""));
            assert_eq!(raw.receive().unwrap().tag, b'1', "{way:?}");
            // It has all answers so far: it hears of that when it goes on.
            let lost = async || pond.snapshot().await.losses.unknown == 1;
            until("the connection is lost", lost).await;
            raw.send(&message(b'S', b""));
            assert_eq!(raw.receive().unwrap().field('C'), "40003", "{way:?}");
            raw.until_ready();
            assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ", "{way:?}");
        }
    });
}
