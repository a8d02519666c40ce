//! Cancel: it ends the statement it was meant for, and nothing else.

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::{database, direct};
use crate::pond::{Pond, TRANSACTION, Way, code, run, value, ways};
use crate::raw::{Raw, VERSION_3_2, tags};

/// The code of a cancel request.
const CANCEL: u32 = 80_877_102;

/// Runs until it is cancelled.
const FOR_EVER: &str = "SELECT pg_sleep(100000)";

#[test]
fn a_cancel_ends_the_running_statement_and_its_client_goes_on() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let (client, other) = (pond.client().await, pond.client().await);
            let cancel = async {
                pond.until_in("PgSleep").await;
                client.cancel_token().cancel_query(NoTls).await.unwrap();
            };
            let (outcome, ()) = tokio::join!(client.batch_execute(FOR_EVER), cancel);
            assert_eq!(code(outcome), SqlState::QUERY_CANCELED, "{way:?}");
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
            assert_eq!(value(&other, "SELECT 2").await, "2", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_cancel_of_a_waiting_client_takes_it_out_of_the_queue() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let (holder, waiter) = (pond.client().await, pond.client().await);
            holder.batch_execute("BEGIN").await.unwrap();
            let cancel = async {
                pond.until_waiting(1).await;
                waiter.cancel_token().cancel_query(NoTls).await.unwrap();
            };
            let (outcome, ()) = tokio::join!(waiter.query_typed("SELECT 1", &[]), cancel);
            assert_eq!(code(outcome), SqlState::QUERY_CANCELED, "{way:?}");
            holder.batch_execute("COMMIT").await.unwrap();
            drop(holder);
            assert_eq!(value(&waiter, "SELECT 2").await, "2", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_cancel_that_comes_late_or_with_a_wrong_key_hits_nobody() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let idle = pond.client().await;
            idle.batch_execute("SELECT 1").await.unwrap();
            let late = idle.cancel_token();
            if way.mode == "session" {
                drop(idle);
            }
            let owner = direct(&database().server).await;
            owner.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
            let mut raw = pond.raw();
            raw.send_query("SELECT pg_advisory_lock_shared(1)");
            pond.until_in("advisory").await;
            late.cancel_query(NoTls).await.unwrap();
            for key in [&[0, 0, 0, 0][..], b"", &[7; 256]] {
                let mut wrong = Raw::connect(pond.address());
                wrong.send_packet(CANCEL, &[&[1, 0, 0, 1], key].concat());
                assert!(wrong.until_end().iter().all(|answer| answer.tag == b'E'), "{way:?}");
            }
            owner.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
            assert_eq!(tags(&raw.until_ready()), "TDCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_long_key_of_protocol_3_2_cancels() {
    run(async {
        for workers in [1, 2] {
            let pond = Pond::new(Way { workers, ..TRANSACTION }, "", "").await;
            let mut raw = Raw::connect(pond.address());
            raw.send_startup(VERSION_3_2, &[("user", &pond.user), ("database", "postgres")]);
            let welcome = raw.until_ready();
            let key = &welcome.iter().find(|message| message.tag == b'K').unwrap().body;
            assert!(key.len() > 8, "{} bytes", key.len());
            raw.send_query(FOR_EVER);
            pond.until_in("PgSleep").await;
            // The first four bytes of the secret alone open nothing.
            for length in [8, key.len()] {
                let mut request = Raw::connect(pond.address());
                request.send_packet(CANCEL, &key[..length]);
                assert!(request.until_end().is_empty());
            }
            let answer = raw.until_ready();
            let error = answer.iter().find(|message| message.tag == b'E').unwrap();
            assert_eq!(error.field('C'), "57014");
        }
    });
}
