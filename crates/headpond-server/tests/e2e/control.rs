//! What the control connection finds out about a server.

use std::fs::File;

use futures_util::future::join_all;
use headpond_core::{Alarm, CloseReason};
use headpond_embedded::{Options, Postgres, StopMode};

use crate::database::{database, direct, postgres};
use crate::named::{closed, holders, named, named_before};
use crate::pond::{MODES, PID, Pond, TRANSACTION, Way, code, connect, run, until, value, ways};
use tokio_postgres::error::SqlState;

/// Waits until the control connection, logged in as this user, has asked its first question.
async fn until_asked(server: &Postgres, user: &str) {
    let query = "SELECT FROM pg_stat_activity WHERE usename = $1 AND application_name = 'headpond control'
        AND query LIKE '%pg_is_in_recovery%' AND state = 'idle'";
    let direct = direct(server).await;
    until("asked", async || direct.query(query, &[&user]).await.unwrap().len() == 1).await;
}

#[test]
fn a_backend_that_an_administrator_ends_takes_no_other_with_it() {
    run(async {
        for way in ways() {
            let pond = named(way, "", "min_idle = 4\nmax_size = 4").await;
            pond.until_idle(4).await;
            let direct = direct(&database().server).await;
            let pids = async || -> Vec<i32> {
                let query = "SELECT pid FROM pg_stat_activity WHERE usename = $1
                    AND application_name <> 'headpond control' ORDER BY backend_start, pid";
                let rows = direct.query(query, &[&pond.user]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            };
            let before = pids().await;
            direct.execute("SELECT pg_terminate_backend($1)", &[&before[1]]).await.unwrap();
            pond.until_pool("lost", |pool| closed(pool, CloseReason::ServerLost) == 1).await;
            let pool = pond.until_idle(4).await;
            assert_eq!(closed(&pool, CloseReason::MassDeath), 0, "{way:?}");
            assert_eq!(pids().await[..3], [before[0], before[2], before[3]], "{way:?}");
        }
    });
}

#[test]
fn a_server_in_use_has_one_control_connection_and_an_unused_one_none() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 0\nmax_size = 4").await;
            let direct = direct(&database().server).await;
            let controls = async || -> i64 {
                let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1
                    AND application_name = 'headpond control'";
                direct.query_one(query, &[&pond.user]).await.unwrap().get(0)
            };
            let clients = holders(&pond, 2).await;
            until("a control connection", async || controls().await == 1).await;
            drop(clients);
            pond.console().await.batch_execute("PAUSE").await.unwrap();
            until("none", async || controls().await == 0).await;
        }
    });
}

#[test]
fn a_primary_that_comes_back_as_a_standby_gets_nothing_until_it_is_promoted() {
    run(async {
        for way in MODES {
            let mut server = postgres(Options::default());
            let pond = named_before(&server, way, "postgres", "", "min_idle = 2\nmax_size = 3");
            let client = pond.client().await;
            client.batch_execute("CREATE TABLE written ()").await.unwrap();
            until_asked(&server, "postgres").await;
            server.stop(StopMode::Fast).unwrap();
            File::create(server.data_folder().join("standby.signal")).unwrap();
            server.start_again().unwrap();
            let client = pond.client().await;
            let write = "INSERT INTO written DEFAULT VALUES";
            assert_eq!(
                code(client.batch_execute(write).await),
                SqlState::READ_ONLY_SQL_TRANSACTION,
                "{way:?}"
            );
            drop(client);
            let fenced = pond.until_pool("fenced", |pool| pool.is_raised(Alarm::Fenced)).await;
            assert!(closed(&fenced, CloseReason::Fenced) > 0, "{way:?}");
            let client = pond.client().await;
            let promote = async {
                pond.until_waiting(1).await;
                assert_eq!(value(&direct(&server).await, "SELECT pg_promote()").await, "t");
            };
            let (written, ()) = tokio::join!(client.batch_execute(write), promote);
            written.unwrap();
            pond.until_pool("unfenced", |pool| !pool.is_raised(Alarm::Fenced)).await;
            assert_ne!(value(&client, PID).await, "");
        }
    });
}

#[test]
fn what_alter_role_sets_reaches_clients_though_their_connections_were_open_before() {
    run(async {
        join_all(MODES.map(async |way| {
            let pond = named(way, "", "min_idle = 2\nmax_size = 3").await;
            until_asked(&database().server, &pond.user).await;
            assert_eq!(value(&pond.client().await, "SHOW work_mem").await, "4MB", "{way:?}");
            let alter = format!("ALTER ROLE {} SET work_mem = '5MB'", pond.user);
            direct(&database().server).await.batch_execute(&alter).await.unwrap();
            until("set", async || value(&pond.client().await, "SHOW work_mem").await == "5MB").await;
            let pool = pond.until_pool("renewed", |pool| closed(pool, CloseReason::Outdated) > 0).await;
            assert_eq!(closed(&pool, CloseReason::MassDeath), 0, "{way:?}");
        }))
        .await;
    });
}

#[test]
fn workers_that_share_a_server_take_turns_in_asking_it() {
    run(async {
        let pond = Pond::new(Way { workers: 2, ..TRANSACTION }, "", "max_size = 2").await;
        // Pools are spread over the workers by the users' names: of four, some are on either.
        join_all((0..4).map(async |_| {
            let user = database().user().await;
            let client = connect(pond.login().user(&user)).await;
            let direct = direct(&database().server).await;
            let mut megabytes = 4;
            // Set anew each time: nobody can tell when the first question was asked.
            until("set", async || {
                megabytes += 1;
                let alter = format!("ALTER ROLE {user} SET work_mem = '{megabytes}MB'");
                direct.batch_execute(&alter).await.unwrap();
                value(&client, "SHOW work_mem").await != "4MB"
            })
            .await;
        }))
        .await;
    });
}
