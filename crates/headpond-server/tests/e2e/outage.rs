//! A database that is not there, or goes away.

use headpond_embedded::{Options, StopMode};
use tokio_postgres::error::SqlState;

use crate::database::{database, direct, postgres};
use crate::pond::{MODES, PID, Pond, code, run, until, value, ways};

#[test]
fn clients_wait_for_a_database_that_is_down_at_the_start() {
    run(async {
        let mut server = postgres(Options::default());
        for way in MODES {
            server.stop(StopMode::Fast).unwrap();
            let pond = Pond::before(&server, way, "postgres", "", "");
            let start = async {
                until("waiting", async || pond.snapshot().await.clients_logging_in == 5).await;
                server.start_again().unwrap();
            };
            let clients = tokio::join!(pond.clients(5), start).0;
            for client in &clients {
                assert_eq!(value(client, "SELECT 1").await, "1", "{way:?}");
            }
        }
    });
}

#[test]
fn a_restarted_database_serves_new_queries() {
    run(async {
        let mut server = postgres(Options::default());
        for way in MODES {
            for mode in [StopMode::Fast, StopMode::Immediate] {
                let pond = Pond::before(&server, way, "postgres", "", "max_size = 3");
                let [idle, holder] = <[_; 2]>::try_from(pond.clients(2).await).unwrap();
                holder.batch_execute("BEGIN").await.unwrap();
                server.restart(mode).unwrap();
                assert!(holder.batch_execute("COMMIT").await.is_err(), "{way:?}");
                // It held nothing, and does not notice.
                assert_eq!(value(&idle, "SELECT 1").await, "1", "{way:?}");
                assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
                pond.assert_in_step().await;
            }
        }
    });
}

#[test]
fn a_server_connection_that_dies_idle_is_noticed_before_anybody_gets_it() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let direct = direct(&database().server).await;
            for _ in 0..3 {
                let client = pond.client().await;
                let pid: i32 = value(&client, PID).await.parse().unwrap();
                drop(client);
                let idle = async || {
                    pond.snapshot().await.servers.iter().any(|s| s.state == headpond_core::State::Idle)
                };
                until("idle", idle).await;
                direct.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
                until("noticed", async || pond.snapshot().await.servers.iter().all(|s| s.backend_pid != pid))
                    .await;
                assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
            }
        }
    });
}

#[test]
fn a_session_whose_server_connection_is_killed_ends_with_it_and_others_do_not() {
    run(async {
        for way in ways().filter(|way| way.mode == "session") {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let (victim, other) = (pond.client().await, pond.client().await);
            victim.batch_execute("BEGIN").await.unwrap();
            let pid: i32 = value(&victim, PID).await.parse().unwrap();
            let kill = async {
                pond.until_in("PgSleep").await;
                let direct = direct(&database().server).await;
                direct.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
            };
            let outcome = tokio::join!(victim.batch_execute("SELECT pg_sleep(100000)"), kill).0;
            assert_eq!(code(outcome), SqlState::ADMIN_SHUTDOWN, "{way:?}");
            assert_eq!(value(&other, "SELECT 1").await, "1", "{way:?}");
        }
    });
}
