//! Clients that leave without a word: what they began is ended, and their connection serves another.

use headpond_core::State;
use headpond_pooler::figures::ServerRow;

use crate::pond::{PID, Pond, run, until, value, ways};
use crate::raw::{message, tags};

#[test]
fn the_query_of_a_killed_client_is_cancelled_and_its_connection_reused() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let client = pond.client().await;
            let pid = value(&client, PID).await;
            drop(client);
            let mut raw = pond.raw();
            raw.send_query("SELECT pg_sleep(100000)");
            pond.until_in("PgSleep").await;
            drop(raw);
            assert_eq!(value(&pond.client().await, PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn the_transaction_of_a_killed_client_is_rolled_back_before_reuse() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let table = format!("left_{}", pond.user);
            let mut raw = pond.raw();
            raw.query(&format!("CREATE TABLE {table} ()"));
            raw.query("BEGIN");
            raw.query(&format!("INSERT INTO {table} DEFAULT VALUES"));
            drop(raw);
            let client = pond.client().await;
            assert_eq!(value(&client, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            assert_eq!(value(&client, "SELECT now() = statement_timestamp()").await, "t", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_client_may_leave_anywhere_in_the_protocol() {
    // What was sent before it left, by what it was in the middle of.
    let flights: [&[Vec<u8>]; 7] = [
        &[b"Q\0\0\0\x20SELECT".to_vec()],
        &[message(b'P', b"\0SELECT 1\0\0\0")],
        &[message(b'P', b"\0SELECT 1\0\0\0"), message(b'H', b"")],
        &[message(b'Q', b"BEGIN\0"), message(b'P', b"\0SELECT 1/0\0\0\0"), message(b'B', &[0; 8])],
        &[message(b'Q', b"COPY pg_am TO STDOUT\0"), message(b'Q', b"SELECT 1\0")],
        &[message(b'Q', b"CREATE TEMP TABLE t (n int); COPY t FROM STDIN\0"), message(b'd', b"1\n")],
        &[message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)\0"), message(b'X', b"")],
    ];
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 2").await;
            for flight in flights {
                let mut raw = pond.raw();
                raw.send(&flight.concat());
                drop(raw);
                assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_client_that_leaves_the_queue_is_not_served() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let table = format!("queued_{}", pond.user);
            let holder = pond.client().await;
            holder.batch_execute(&format!("CREATE TABLE {table} (); BEGIN")).await.unwrap();
            let mut raw = pond.raw();
            raw.send_query(&format!("INSERT INTO {table} DEFAULT VALUES"));
            pond.until_waiting(1).await;
            drop(raw);
            pond.until_waiting(0).await;
            holder.batch_execute("COMMIT").await.unwrap();
            assert_eq!(value(&holder, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
        }
    });
}

#[test]
fn a_client_that_reads_nothing_holds_up_only_itself() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let mut raw = pond.raw();
            raw.send_query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)");
            pond.until_in("ClientWrite").await;
            assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
            assert_eq!(raw.until_ready().len(), 103, "{way:?}");
        }
    });
}

#[test]
fn a_client_that_only_closes_its_own_direction_gets_its_answers() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 4").await;
            let table = format!("half_{}", pond.user);
            // Whoever hangs up in the queue gives up its place: so many are idle that nobody queues.
            let clients = pond.clients(3).await;
            for client in &clients {
                client.batch_execute("BEGIN").await.unwrap();
            }
            clients[0].batch_execute(&format!("CREATE TABLE {table} (); COMMIT; BEGIN")).await.unwrap();
            drop(clients);
            let idle = |servers: &[ServerRow]| servers.iter().filter(|s| s.state == State::Idle).count();
            until("idle", async || idle(&pond.snapshot().await.servers) == 3).await;
            let query = |text: &str| message(b'Q', &[text.as_bytes(), b"\0"].concat());
            let slow = "SELECT pg_sleep(0.2)";
            let insert = format!("BEGIN; INSERT INTO {table} DEFAULT VALUES");
            let parse = message(b'P', b"\0SELECT pg_sleep(0.2)\0\0\0");
            let batch = [parse, message(b'B', &[0; 8]), message(b'E', &[0; 5]), message(b'S', b"")].concat();
            let flights: [(Vec<u8>, &str); 5] = [
                (query("SELECT 1"), "TDCZ"),
                (query(slow), "TDCZ"),
                ([query(slow), query("SELECT 1"), query(slow)].concat(), "TDCZTDCZTDCZ"),
                (batch, "12DCZ"),
                // What it leaves open is rolled back; what is not whole is nothing.
                ([query(&insert), query(slow), b"Q\0\0\0\x20SELECT".to_vec()].concat(), "CCZTDCZ"),
            ];
            for (flight, expected) in flights {
                let mut raw = pond.raw();
                raw.send(&flight);
                raw.hang_up();
                let answer = tags(&raw.until_end()).replace('S', "");
                assert_eq!(answer, expected, "{way:?}");
            }
            let client = pond.client().await;
            assert_eq!(value(&client, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}
