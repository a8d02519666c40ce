//! How many server connections there are, and why.

use headpond_core::CloseReason;

use crate::named::{closed, named};
use crate::pond::{PID, Pond, run, until, value, ways};

#[test]
fn min_idle_is_kept_while_others_are_in_use() {
    run(async {
        for way in ways() {
            let pond = named(way, "", "min_idle = 2\nmax_size = 4").await;
            pond.until_connections(|count| count == 2).await;
            let clients = pond.clients(3).await;
            for (client, expected) in clients.iter().zip([3, 4, 4]) {
                client.batch_execute("BEGIN").await.unwrap();
                pond.until_connections(|count| count == expected).await;
            }
        }
    });
}

#[test]
fn an_unused_connection_is_closed_after_idle_timeout() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "idle_timeout = \"50ms\"").await;
            for _ in 0..2 {
                assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
                pond.until_connections(|count| count == 0).await;
            }
        }
    });
}

#[test]
fn with_max_idle_0_whatever_nobody_waits_for_is_closed_and_counted_and_everybody_is_served() {
    run(async {
        for way in ways() {
            let pond = named(way, "", "min_idle = 0\nmax_idle = 0\nmax_size = 3").await;
            for number in 0..30 {
                let asked = value(&pond.client().await, &format!("SELECT {number}")).await;
                assert_eq!(asked, number.to_string(), "{way:?}");
            }
            let pool = pond.until_pool("all gone", |pool| pool.counts.holds >= 30 && pool.open() == 0).await;
            // One that is given back when the next client waits already goes on to it.
            assert_eq!(closed(&pool, CloseReason::MaxIdle), pool.counts.opened, "{way:?}");
        }
    });
}

#[test]
fn a_connection_past_its_lifetime_is_replaced() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1\nmax_lifetime = \"50ms\"").await;
            let first = value(&pond.client().await, PID).await;
            until("another", async || value(&pond.client().await, PID).await != first).await;
            pond.until_pool("counted", |pool| closed(pool, CloseReason::MaxLifetime) >= 1).await;
        }
    });
}

#[test]
fn connections_above_max_idle_are_closed_on_release() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 5\nmax_idle = 1").await;
            let clients = pond.clients(5).await;
            for client in &clients {
                client.batch_execute("BEGIN").await.unwrap();
            }
            pond.until_connections(|count| count == 5).await;
            drop(clients);
            pond.until_connections(|count| count == 1).await;
        }
    });
}
