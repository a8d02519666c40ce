//! What WebLogic's sizes mean: initial, minimum and maximum capacity, shrinking by half, login delay, high-water mark.

use std::time::Duration;

use futures_util::future::join_all;
use headpond_core::{CloseReason, Marks, PoolFigures, State, Tick};
use headpond_embedded::{Options, StopMode};

use crate::database::postgres;
use crate::named::{closed, holders, named, named_before, until_shown};
use crate::pond::{MODES, Pond, run, until, value};

#[test]
fn initial_minimum_and_maximum_alike_make_a_stable_pool() {
    run(async {
        for way in MODES {
            // All that would close a connection is set to do it at once.
            let sizes = "initial_size = 6\nmin_size = 6\nmax_size = 6\nmin_idle = 0\nmax_idle = 0";
            let times = "idle_timeout = \"10ms\"\nshrink_interval = \"10ms\"";
            let pond = named(way, "", &format!("{sizes}\n{times}")).await;
            pond.until_idle(6).await;
            let load = (0..12).map(async |_| {
                for _ in 0..5 {
                    value(&pond.client().await, "SELECT pg_sleep(0.01)").await;
                }
            });
            join_all(load).await;
            let pool = pond.until_pool("all served", |pool| pool.counts.acquires >= 60).await;
            assert_eq!((pool.counts.opened, pool.open()), (6, 6), "{way:?}: {:?}", pool.counts);
        }
    });
}

#[test]
fn with_initial_size_0_the_server_need_not_be_there_before_it_is_used() {
    run(async {
        let mut server = postgres(Options::default());
        for way in MODES {
            server.stop(StopMode::Fast).unwrap();
            let sizes = "initial_size = 0\nmin_idle = 2\nmax_size = 4";
            let pond = named_before(&server, way, "postgres", "", sizes);
            until_shown(&pond, "SHOW POOLS", ["user", "opened"], &[["postgres", "0"]]).await;
            server.start_again().unwrap();
            assert_eq!(pond.until_idle(0).await.counts.opened, 0, "{way:?}");
            assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
            let pool = pond.until_pool("headroom", |pool| pool.count(State::Idle) >= 2).await;
            assert_eq!(pool.counts.logins_failed, 0, "{way:?}");
        }
    });
}

#[test]
fn every_interval_half_of_the_unneeded_are_closed_down_to_the_minimum() {
    run(async {
        for way in MODES {
            let sizes = "initial_size = 1\nmin_size = 1\nmin_idle = 0\nmax_idle = 16\nmax_size = 16";
            let pond = named(way, "", &format!("{sizes}\nshrink_interval = \"300ms\"")).await;
            // An interval may end while the load is being taken off, and this test may be too slow to see a step:
            // then once more.
            until("16, 8, 4, 2, 1", async || {
                let before = pond.until_idle(1).await;
                drop(holders(&pond, 16).await);
                let steps = idle_down_to_1(&pond).await;
                let after = pond.until_idle(1).await;
                let gone = |reason| closed(&after, reason) - closed(&before, reason);
                let all: u64 =
                    after.counts.closed.iter().sum::<u64>() - before.counts.closed.iter().sum::<u64>();
                assert_eq!((gone(CloseReason::Shrink), all), (15, 15), "{way:?}");
                steps == [16, 8, 4, 2, 1]
            })
            .await;
        }
    });
}

/// How many connections were idle, one number for each time that there were fewer.
async fn idle_down_to_1(pond: &Pond) -> Vec<u32> {
    let at_rest = |pool: &PoolFigures| pool.count(State::Idle) + pool.count(State::Closing) == pool.open();
    let mut steps = Vec::new();
    while steps.last() != Some(&1) {
        let pool = pond.until_pool("at rest", at_rest).await;
        steps.push(pool.count(State::Idle));
        steps.dedup();
    }
    steps
}

#[test]
fn a_login_delay_keeps_logins_apart() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "initial_size = 5\nmin_idle = 0\nlogin_delay = \"40ms\"").await;
            pond.until_idle(5).await;
            let snapshot = pond.snapshot().await;
            let mut connected: Vec<_> = snapshot.servers.iter().map(|server| server.connected).collect();
            connected.sort();
            for (earliest, connected) in (0..).map(|n| n * Duration::from_millis(40)).zip(connected) {
                assert!(connected.since(Tick(0)) >= earliest, "{way:?}: {snapshot:?}");
            }

            let pond = named(way, "", "initial_size = 5\nmin_idle = 0\nlogin_delay = \"1h\"").await;
            let client = holders(&pond, 1).await.remove(0);
            let others =
                async { join_all((0..2).map(async |_| value(&pond.client().await, "SELECT 1").await)).await };
            let release = async {
                pond.until_waiting(2).await;
                assert_eq!(pond.until_pool("waiting", |pool| pool.waiting == 2).await.counts.opened, 1);
                client.batch_execute("COMMIT").await.unwrap();
                drop(client);
            };
            assert_eq!(tokio::join!(others, release).0, ["1"; 2], "{way:?}");
        }
    });
}

#[test]
fn the_high_water_mark_is_the_most_in_use_at_once_in_each_window() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 0\nmax_size = 5").await;
            drop(holders(&pond, 4).await);
            pond.until_idle(4).await;
            pond.console().await.batch_execute("RESET MARKS").await.unwrap();
            let marks = pond.until_idle(4).await.marks;
            assert_eq!(marks.reset, Marks { in_use: 0, waiting: 0, open: 4, wait: 0 }, "{way:?}");
            let _load = holders(&pond, 2).await;
            let pool = pond.until_pool("load", |pool| pool.marks.reset.in_use == 2).await;
            let marks = pool.marks;
            assert_eq!([marks.start, marks.hour, marks.day].map(|marks| marks.in_use), [4; 3], "{way:?}");
            let rows = [["start", "4"], ["reset", "2"], ["hour", "4"], ["day", "4"]];
            until_shown(&pond, "SHOW MARKS", ["window", "in_use"], &rows).await;
        }
    });
}
