//! What keeps connections with their clients in transaction mode is seen by whoever looks, or waits.

use headpond_pooler::figures::Pins;
use tokio_postgres::error::SqlState;

use crate::named::until_shown;
use crate::pond::{Pond, TRANSACTION, Way, connect, run, until, value};
use crate::web::get;

const COLUMNS: [&str; 2] = ["application_name", "reasons"];

#[test]
fn who_keeps_a_connection_is_shown_with_the_reason_until_there_is_none() {
    let pins = [
        ("CREATE TEMP TABLE mine (n int)", "DROP TABLE mine", "temporary_objects"),
        ("SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock(42)", "advisory_locks"),
        ("LISTEN news", "UNLISTEN news", "listen"),
        ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "CLOSE mine", "held_cursors"),
        ("PREPARE mine AS SELECT 8", "DEALLOCATE mine", "sql_prepare"),
        ("SELECT setseed(0.5)", "DISCARD ALL", "seed"),
        ("SELECT set_config('work' || '_mem', '5MB', false)", "RESET ALL", "opaque"),
        ("CREATE TEMP TABLE mine (n int); LISTEN news", "DISCARD ALL", "temporary_objects, listen"),
    ];
    run(async {
        for workers in [1, 2] {
            let pond = Pond::new(Way { workers, ..TRANSACTION }, "", "").await;
            let client = connect(pond.login().application_name("reporting")).await;
            let other = connect(pond.login().application_name("other")).await;
            for (statement, frees, reasons) in pins {
                client.batch_execute(statement).await.unwrap();
                other.batch_execute("SELECT 1").await.unwrap();
                until_shown(&pond, "SHOW PINS", COLUMNS, &[["reporting", reasons]]).await;
                client.batch_execute(frees).await.unwrap();
                until_shown(&pond, "SHOW PINS", COLUMNS, &[]).await;
            }
            let snapshot = pond.snapshot().await;
            let pool = snapshot.pools.iter().find(|row| row.pinned.time > 0).unwrap();
            assert_eq!((pool.pinned.connections, pool.pinned.begun), (0, pool.pinned.ended));
            assert_eq!(pool.pinned.begun.iter().sum::<u64>(), 9);
            assert!(pool.efficiency().is_some_and(|share| share < 1.0), "{pool:?}");
        }
    });
}

#[test]
fn a_pin_ends_with_its_client_and_with_its_connection() {
    run(async {
        let pond = Pond::new(TRANSACTION, "", "").await;
        let pinned = [["reporting", "temporary_objects"]];
        for ends in ["drop", "terminate"] {
            let client = connect(pond.login().application_name("reporting")).await;
            client.batch_execute("CREATE TEMP TABLE mine (n int)").await.unwrap();
            until_shown(&pond, "SHOW PINS", COLUMNS, &pinned).await;
            if ends == "terminate" {
                client.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await.unwrap_err();
            }
            drop(client);
            until_shown(&pond, "SHOW PINS", COLUMNS, &[]).await;
        }
        let row = &pond.snapshot().await.pools[0].pinned;
        let of = |counts: &[u64]| Pins::NAMES.into_iter().zip(counts.to_vec()).collect::<Vec<_>>();
        assert_eq!(of(&row.begun), of(&row.ended));
    });
}

#[test]
fn page_and_metrics_show_what_is_pinned() {
    run(async {
        let pond = Pond::new(TRANSACTION, "", "").await;
        let client = connect(pond.login().application_name("reporting")).await;
        client.batch_execute("CREATE TEMP TABLE mine (n int)").await.unwrap();
        for (path, part) in [
            ("/", ", pinned: temporary_objects</td>"),
            ("/metrics", "reason=\"temporary_objects\"} 1.0"),
            ("/api/v1/snapshot", "\"reasons\":[\"temporary_objects\"]"),
        ] {
            until(&format!("{path} shows {part}"), async || get(&pond, path).contains(part)).await;
        }
    });
}

#[test]
fn who_waited_too_long_hears_that_the_connection_is_pinned_and_why() {
    run(async {
        let pond = Pond::new(TRANSACTION, "", "max_size = 1\nacquire_timeout = \"500ms\"").await;
        let holder = connect(pond.login().application_name("reporting")).await;
        let waiter = pond.client().await;
        holder.batch_execute("CREATE TEMP TABLE mine (n int)").await.unwrap();
        let error = waiter.batch_execute("SELECT 1").await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), SqlState::QUERY_CANCELED);
        let detail = error.detail().unwrap();
        let who = format!(" by {} (reporting)", pond.user);
        let parts = [
            &who,
            ", pinned: temporary_objects.",
            "1 of those in use are pinned to their clients, 1 for temporary_objects",
        ];
        assert!(parts.iter().all(|part| detail.contains(*part)), "{detail}");
        holder.batch_execute("DROP TABLE mine").await.unwrap();
        assert_eq!(value(&waiter, "SELECT 2").await, "2");
    });
}
