//! What womodo promises of its pool: the sizes, eviction, and a test on borrow that cannot empty the pool.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use headpond_core::{Alarm, CloseReason, PoolFigures, State};
use headpond_embedded::{Options, StopMode};

use crate::database::{database, direct, postgres};
use crate::named::{closed, holders, named, named_before, until_shown};
use crate::pond::{MODES, PID, Pond, TRANSACTION, run, until, value};

/// Ends all server connections of a user.
async fn end_connections_of(user: &str) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
    direct(&database().server).await.execute(end, &[&user]).await.unwrap();
}

#[test]
fn the_defaults_are_womodos_and_are_shown() {
    run(async {
        for pool in ["", "max_size = 100\nmax_idle = 80\nmin_idle = 10\nidle_timeout = \"5m\""] {
            let pond = named(TRANSACTION, "", pool).await;
            let settings = pond.until_idle(10).await.settings;
            assert_eq!((settings.max_size, settings.max_idle, settings.min_idle), (100, 80, 10));
            assert_eq!(settings.idle_timeout.as_secs(), 300);
            until_shown(&pond, "SHOW POOLS", ["idle", "max_size"], &[["10", "100"]]).await;
        }
    });
}

#[test]
fn min_idle_connections_are_opened_at_the_start_and_kept() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 3\nmax_size = 6").await;
            pond.until_connections(|count| count == 3).await;
            let one = holders(&pond, 1).await;
            pond.until_pool("another one", |pool| pool.count(State::Idle) == 3 && pool.open() == 4).await;
            drop(one);
            pond.until_idle(4).await;
            end_connections_of(&pond.user).await;
            let lost =
                |pool: &_| closed(pool, CloseReason::ServerLost) + closed(pool, CloseReason::MassDeath);
            pond.until_pool("lost", |pool| lost(pool) == 4).await;
            pond.until_idle(3).await;
        }
    });
}

#[test]
fn it_grows_under_load_and_at_the_maximum_callers_wait_and_nobody_is_refused() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 1\nmax_size = 5").await;
            pond.until_idle(1).await;
            let load = holders(&pond, 5).await;
            pond.until_connections(|count| count == 5).await;
            let callers = join_all((0..20).map(async |_| value(&pond.client().await, "SELECT 1").await));
            let release = async {
                pond.until_waiting(20).await;
                pond.until_connections(|count| count == 5).await;
                for client in load {
                    client.batch_execute("COMMIT").await.unwrap();
                }
            };
            assert_eq!(tokio::join!(callers, release).0, ["1"; 20], "{way:?}");
            let pool = pond.until_pool("all served", |pool| pool.counts.waits_granted >= 20).await;
            assert_eq!(
                (pool.counts.refused, pool.counts.waits_failed, pool.counts.waits_timed_out),
                (0, 0, 0)
            );
            assert_eq!((pool.marks.start.open, pool.marks.start.in_use), (5, 5), "{way:?}");
        }
    });
}

#[test]
fn a_released_connection_above_max_idle_is_closed_at_once() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 1\nmax_idle = 2\nmax_size = 5").await;
            drop(holders(&pond, 5).await);
            let pool = pond.until_idle(2).await;
            assert_eq!(closed(&pool, CloseReason::MaxIdle), 3, "{way:?}");
        }
    });
}

#[test]
fn unused_connections_are_evicted_and_those_missing_are_refilled() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 2\nmax_size = 5\nidle_timeout = \"100ms\"").await;
            for round in 1..=2 {
                drop(holders(&pond, 5).await);
                let pool = pond.until_idle(2).await;
                assert_eq!(closed(&pool, CloseReason::IdleTimeout), 3 * round, "{way:?}");
            }
            end_connections_of(&pond.user).await;
            pond.until_pool("refilled", |pool| pool.counts.opened >= 10).await;
            pond.until_idle(2).await;
        }
    });
}

#[test]
fn a_restart_of_the_server_is_seen_by_nobody_who_borrows_after_it() {
    run(async {
        let mut server = postgres(Options::default());
        for way in MODES {
            for mode in [StopMode::Fast, StopMode::Immediate] {
                let pool = "min_idle = 2\nmax_size = 3\ntrust_window = \"0s\"";
                let pond = named_before(&server, way, "postgres", "", pool);
                let clients = pond.clients(4).await;
                for client in pond.clients(4).await {
                    value(&client, "SELECT 1").await;
                }
                let before = pond.until_pool("used", |pool| pool.counts.acquires >= 4).await.counts;
                server.stop(mode).unwrap();
                // Half of them ask while it is down, and wait.
                let asking = join_all(clients[..2].iter().map(|client| value(client, "SELECT 1")));
                let start = async {
                    pond.until_waiting(2).await;
                    server.start_again().unwrap();
                };
                assert_eq!(tokio::join!(asking, start).0, ["1"; 2], "{way:?} {mode:?}");
                // The others ask after it, and so do newcomers.
                for client in clients.into_iter().chain(pond.clients(4).await) {
                    assert_eq!(value(&client, "SELECT 2").await, "2", "{way:?} {mode:?}");
                }
                let asked = |pool: &PoolFigures| pool.counts.acquires >= before.acquires + 8;
                let after = pond.until_pool("asked", asked).await;
                assert!(after.counts.opened > before.opened && after.counts.waits_failed == 0);
                pond.assert_in_step().await;
            }
        }
    });
}

#[test]
fn a_wrong_check_query_raises_an_alarm_and_the_connections_stay_pooled() {
    run(async {
        for way in MODES {
            let settings = "check_query = \"SELECT broken\"";
            let pool = "min_idle = 0\nmax_size = 4\ntrust_window = \"0s\"\ncheck_interval = \"10ms\"";
            let pond = named(way, settings, pool).await;
            borrow(&pond, 300).await;
            let pool = pond.until_pool("borrowed", |pool| pool.counts.acquires >= 300).await;
            assert!(pool.counts.opened <= 5, "{} opened, {way:?}", pool.counts.opened);
            assert!(pool.is_raised(Alarm::CheckSuspect) && closed(&pool, CloseReason::CheckFailed) == 0);
            until_shown(&pond, "SHOW ALARMS", ["user", "alarm"], &[[&pond.user, "check_suspect"]]).await;
        }
    });
}

#[test]
fn a_check_query_that_goes_wrong_later_closes_nothing_but_what_it_takes_to_see_it() {
    run(async {
        for way in MODES {
            let user = database().user().await;
            let direct = direct(&database().server).await;
            direct.batch_execute(&format!("CREATE TABLE checked_{user} ()")).await.unwrap();
            let settings = format!("check_query = \"SELECT FROM checked_{user}\"");
            let pool = "min_idle = 0\nmax_size = 4\ntrust_window = \"0s\"";
            let pond = named_before(&database().server, way, &user, &settings, pool);
            borrow(&pond, 50).await;
            let good = pond.until_pool("borrowed", |pool| pool.counts.acquires >= 50).await;
            assert!(!good.is_raised(Alarm::CheckSuspect), "{way:?}");
            direct.batch_execute(&format!("DROP TABLE checked_{user}")).await.unwrap();
            // A connection that comes back while somebody waits is handed on untested.
            until("noticed", async || {
                borrow(&pond, 1).await;
                pond.snapshot().await.pools.iter().any(|row| row.pool.is_raised(Alarm::CheckSuspect))
            })
            .await;
            borrow(&pond, 300).await;
            let bad = pond.until_pool("borrowed", |pool| pool.counts.acquires >= 350).await;
            assert!(bad.is_raised(Alarm::CheckSuspect) && bad.counts.opened <= 6, "{way:?}: {bad:?}");
        }
    });
}

#[test]
fn a_right_check_query_raises_nothing() {
    run(async {
        for way in MODES {
            let pond = named(way, "check_query = \"SELECT 1\"", "max_size = 2\ntrust_window = \"0s\"").await;
            let pids = borrow(&pond, 50).await;
            let pool = pond.until_pool("borrowed", |pool| pool.counts.acquires >= 50).await;
            assert_eq!((pool.alarms, pool.counts.opened), ([false; Alarm::ALL.len()], 2), "{way:?}");
            assert!(pids <= 2, "{pids}");
        }
    });
}

/// Borrows a connection so many times, one after the other; returns how many different ones there were.
async fn borrow(pond: &Pond, count: usize) -> usize {
    let mut pids = BTreeSet::new();
    for _ in 0..count {
        pids.insert(value(&pond.client().await, PID).await);
    }
    pids.len()
}
