//! How many server connections there are, and why.

use crate::named::named;
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
fn a_connection_past_its_lifetime_is_replaced() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1\nmax_lifetime = \"50ms\"").await;
            let first = value(&pond.client().await, PID).await;
            until("another", async || value(&pond.client().await, PID).await != first).await;
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
