//! A server connection lost under a client in transaction mode: the client stays, and hears the truth.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use headpond_embedded::{Options, Postgres, StopMode};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::database::{database, direct, postgres};
use crate::pond::{PID, Pond, TRANSACTION, code, run, until, value, ways};

/// Ends a client's server connection, which must be its own for the moment.
async fn kill(pid: i32) {
    let direct = direct(&database().server).await;
    direct.execute("SELECT pg_terminate_backend($1, 60000)", &[&pid]).await.unwrap();
}

async fn pid_of(client: &Client) -> i32 {
    value(client, PID).await.parse().unwrap()
}

#[test]
fn a_transaction_whose_server_is_lost_is_a_failed_one_and_its_client_goes_on() {
    run(async {
        for way in ways().filter(|way| way.mode == "transaction") {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let client = pond.client().await;
            client.batch_execute("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP").await.unwrap();
            kill(pid_of(&client).await).await;
            let failed = client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap_err();
            let failed = failed.as_db_error().unwrap();
            assert_eq!(failed.code(), &SqlState::T_R_SERIALIZATION_FAILURE, "{way:?}");
            assert_eq!(failed.hint(), Some("Run the transaction again."), "{way:?}");
            // As after any other error, savepoints included: a real server says so.
            let aborted = SqlState::IN_FAILED_SQL_TRANSACTION;
            assert_eq!(code(client.batch_execute("SELECT 1").await), aborted, "{way:?}");
            assert_eq!(code(client.query("SELECT 1", &[]).await), aborted, "{way:?}");
            let savepoint = client.batch_execute("ROLLBACK TO SAVEPOINT a").await;
            assert_eq!(code(savepoint), SqlState::S_E_INVALID_SPECIFICATION, "{way:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
            assert_eq!(pond.snapshot().await.losses.rolled_back, 1, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_commit_of_a_lost_transaction_is_never_a_success_and_a_rollback_needs_no_server() {
    run(async {
        let mut server = postgres(Options::default());
        for extended in [false, true] {
            let pond = Pond::before(&server, TRANSACTION, "postgres", "", "max_size = 2");
            let [committer, other] = <[_; 2]>::try_from(pond.clients(2).await).unwrap();
            let send = async |client: &Client, text: &str| match extended {
                true => client.query_typed(text, &[]).await.map(drop),
                false => client.batch_execute(text).await,
            };
            for client in [&committer, &other] {
                send(client, "BEGIN").await.unwrap();
                send(client, "SELECT 1").await.unwrap();
            }
            server.stop(StopMode::Fast).unwrap();
            let lost = async || pond.snapshot().await.losses.rolled_back == 2;
            until("both are lost", lost).await;
            assert_eq!(code(send(&committer, "COMMIT").await), SqlState::T_R_SERIALIZATION_FAILURE);
            send(&other, "ROLLBACK").await.unwrap();
            server.start_again().unwrap();
            assert_eq!(value(&committer, "SELECT 1").await, "1");
            assert_eq!(value(&other, "SELECT 1").await, "1");
        }
    });
}

#[test]
fn a_statement_whose_server_is_lost_has_an_unknown_outcome_and_its_client_goes_on() {
    run(async {
        for way in ways().filter(|way| way.mode == "transaction") {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let client = pond.client().await;
            let killed = async {
                pond.until_in("PgSleep").await;
                let direct = direct(&database().server).await;
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE usename = $1 AND wait_event = 'PgSleep'";
                direct.execute(kill, &[&pond.user]).await.unwrap();
            };
            let outcome = tokio::join!(client.batch_execute("SELECT pg_sleep(100000)"), killed).0;
            let unknown = SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN;
            assert_eq!(code(outcome), unknown, "{way:?}");
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
            assert_eq!(pond.snapshot().await.losses.unknown, 1, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

/// What clients were told of the rows that they wrote, by the row's number.
#[derive(Default)]
struct Told {
    committed: HashSet<i64>,
    rolled_back: HashSet<i64>,
}

/// Fifty clients at work, and what they count.
struct Crowd {
    done: Vec<AtomicU64>,
    enough: AtomicBool,
    numbers: AtomicU64,
    told: Mutex<Told>,
}

const CLIENTS: usize = 50;

impl Crowd {
    /// One client does its kind of work until it is enough. Whatever is lost, it is never closed.
    async fn work(&self, number: usize, client: Client) {
        while !self.enough.load(Ordering::Relaxed) {
            let outcome = match number % 5 {
                0 => client.batch_execute("SELECT 1").await,
                1 => client
                    .simple_query("SELECT repeat('x', 10000) FROM generate_series(1, 3)")
                    .await
                    .map(drop),
                2 => copy_out(&client).await,
                3 => pipeline(&client).await,
                _ => self.write(&client).await,
            };
            if let Err(error) = outcome {
                let code = error.code().unwrap_or_else(|| panic!("client {number} is closed: {error}"));
                let expected = ["40001", "40003", "25P02"].contains(&code.code());
                assert!(expected, "client {number}: {error:?}");
                client.batch_execute("ROLLBACK").await.unwrap();
            }
            self.done[number].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a row in a transaction, with a prepared statement, and notes what it was told.
    async fn write(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let row = i64::try_from(self.numbers.fetch_add(1, Ordering::Relaxed)).unwrap();
        let insert = async {
            client.batch_execute("BEGIN").await?;
            let statement = client.prepare("INSERT INTO ledger VALUES ($1)").await?;
            client.execute(&statement, &[&row]).await
        };
        if let Err(error) = insert.await {
            // Nothing could have committed it: whatever was said of a statement, it was none that ends it.
            self.told.lock().unwrap().rolled_back.insert(row);
            return Err(error);
        }
        let outcome = client.batch_execute("COMMIT").await;
        let mut told = self.told.lock().unwrap();
        match &outcome {
            Ok(()) => drop(told.committed.insert(row)),
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
                told.rolled_back.insert(row);
            }
            Err(_) => {}
        }
        outcome
    }

    /// Until each client has done so much more.
    async fn all_go_on(&self) {
        let counts = || self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = counts();
        until("all go on", async || counts().iter().zip(&before).all(|(now, before)| now - before >= 3))
            .await;
    }
}

/// In a transaction, because the driver prepares it by a name first.
async fn copy_out(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let rows = client.copy_out("COPY (SELECT * FROM generate_series(1, 500)) TO STDOUT").await?;
    rows.boxed().try_for_each(async |_| Ok(())).await?;
    client.batch_execute("COMMIT").await
}

async fn pipeline(client: &Client) -> Result<(), tokio_postgres::Error> {
    let one = || client.query_typed("SELECT 1", &[]);
    tokio::try_join!(one(), one(), one(), one()).map(drop)
}

async fn survives(server: &mut Postgres, fault: impl AsyncFnOnce(&mut Postgres, &Client)) {
    let pond = Pond::before(server, TRANSACTION, "postgres", "", "max_size = 8");
    let admin = direct(server).await;
    admin.batch_execute("CREATE TABLE IF NOT EXISTS ledger (row bigint); TRUNCATE ledger").await.unwrap();
    let crowd = Arc::new(Crowd {
        done: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
        enough: AtomicBool::new(false),
        numbers: AtomicU64::new(0),
        told: Mutex::default(),
    });
    let clients = pond.clients(CLIENTS).await;
    let work = |(number, client)| {
        let crowd = Arc::clone(&crowd);
        tokio::spawn(async move { crowd.work(number, client).await })
    };
    let tasks: Vec<_> = clients.into_iter().enumerate().map(work).collect();
    crowd.all_go_on().await;
    fault(server, &admin).await;
    crowd.all_go_on().await;
    crowd.enough.store(true, Ordering::Relaxed);
    for outcome in join_all(tasks).await {
        outcome.expect("no client is closed");
    }
    let rows = direct(server).await.query("SELECT row FROM ledger", &[]).await.unwrap();
    let rows: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let told = crowd.told.lock().unwrap();
    assert!(told.committed.is_subset(&rows) && told.rolled_back.is_disjoint(&rows));
    assert!(!told.committed.is_empty());
}

#[test]
fn fifty_clients_outlive_a_restart_of_the_server() {
    run(async {
        let mut server = postgres(Options::default());
        for mode in [StopMode::Fast, StopMode::Immediate] {
            survives(&mut server, async |server, _| server.restart(mode).unwrap()).await;
        }
    });
}

#[test]
fn fifty_clients_outlive_the_violent_death_of_one_backend_and_of_the_postmaster() {
    run(async {
        let mut server = postgres(Options::default());
        survives(&mut server, async |_, admin| {
            let busy =
                "SELECT pid FROM pg_stat_activity WHERE query LIKE '%repeat%' AND pid <> pg_backend_pid()";
            // At a given moment there may be none.
            let mut pid: Option<i32> = None;
            until("busy", async || {
                pid = admin.query(busy, &[]).await.unwrap().first().map(|row| row.get(0));
                pid.is_some()
            })
            .await;
            let pid = pid.unwrap();
            let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.unwrap().success());
        })
        .await;
        survives(&mut server, async |server, _| {
            server.kill_postmaster().unwrap();
            server.start_again().unwrap();
        })
        .await;
    });
}
