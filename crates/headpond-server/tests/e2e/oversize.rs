//! Messages larger than `max_message_size`: an error in its turn, and the client goes on.

use crate::pond::{Pond, run, ways};
use crate::raw::{Raw, message, tags};

const LIMIT: &str = "max_message_size = 100000";

fn large(tag: u8) -> Vec<u8> {
    message(tag, &[b' '; 300_000])
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Sends all of it and expects these answers, of which errors carry the code, and the transaction status behind them.
fn answers(raw: &mut Raw, flight: &[Vec<u8>], expected: &str, status: u8) {
    raw.send(&flight.concat());
    let answer = raw.until_ready();
    assert_eq!((tags(&answer).as_str(), answer.last().unwrap().body[0]), (expected, status));
    for error in answer.iter().filter(|message| message.tag == b'E') {
        assert_eq!(error.field('C'), "54000");
    }
}

#[test]
fn a_message_that_is_too_large_is_an_error_in_its_turn_and_its_client_goes_on() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, LIMIT, "max_size = 1").await;
            let mut raw = pond.raw();
            let parse = || message(b'P', b"\0SELECT 1\0\0\0");
            for tag in [b'Q', b'F'] {
                answers(&mut raw, &[large(tag)], "EZ", b'I');
                answers(&mut raw, &[query("SELECT 1")], "TDCZ", b'I');
            }
            for tag in [b'P', b'B', b'D', b'E', b'C'] {
                answers(&mut raw, &[large(tag), parse(), sync()], "EZ", b'I');
                answers(&mut raw, &[parse(), large(tag), large(tag), sync()], "1EZ", b'I');
                answers(&mut raw, &[query("SELECT 1")], "TDCZ", b'I');
            }
            // One that streams, but is not too large.
            let padded = format!("SELECT 1{}", " ".repeat(90_000));
            answers(&mut raw, &[query(&padded)], "TDCZ", b'I');
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_message_that_is_too_large_fails_the_transaction_it_is_in() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, LIMIT, "max_size = 1").await;
            let mut raw = pond.raw();
            for flight in [vec![large(b'Q')], vec![large(b'P'), sync()]] {
                answers(&mut raw, &[query("BEGIN; SAVEPOINT a")], "CCZ", b'T');
                answers(&mut raw, &flight, "EZ", b'E');
                answers(&mut raw, &flight, "EZ", b'E');
                answers(&mut raw, &[query("ROLLBACK TO SAVEPOINT a")], "CZ", b'T');
                answers(&mut raw, &[query("COMMIT")], "CZ", b'I');
            }
            // Answers come in the order of the requests.
            raw.send(&[query("BEGIN"), large(b'Q'), query("COMMIT"), query("SELECT 1")].concat());
            for expected in ["CZ", "EZ", "CZ", "TDCZ"] {
                assert_eq!(tags(&raw.until_ready()), expected, "{way:?}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn data_of_a_copy_that_are_too_large_in_one_message_fail_it() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, LIMIT, "max_size = 1").await;
            for waits in [false, true] {
                let mut raw = pond.raw();
                raw.send(&query("CREATE TEMP TABLE IF NOT EXISTS t (a int); COPY t FROM STDIN"));
                while waits && raw.receive().unwrap().tag != b'G' {}
                let data = message(b'd', b"1\n");
                raw.send(&[data.clone(), large(b'd'), data, message(b'c', b"")].concat());
                let answer = raw.until_ready();
                let error = answer.iter().find(|message| message.tag == b'E').unwrap();
                assert!(error.field('M').contains("max_message_size"), "{way:?}: {error:?}");
                answers(&mut raw, &[query("SELECT 1")], "TDCZ", b'I');
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_client_that_leaves_inside_a_message_that_is_too_large_costs_no_connection() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, LIMIT, "max_size = 1").await;
            let client = pond.client().await;
            let pid = crate::pond::value(&client, crate::pond::PID).await;
            drop(client);
            let mut raw = pond.raw();
            answers(&mut raw, &[query("BEGIN")], "CZ", b'T');
            raw.send(&large(b'Q')[..150_000]);
            assert_eq!(raw.receive().unwrap().field('C'), "54000", "{way:?}");
            drop(raw);
            let client = pond.client().await;
            assert_eq!(crate::pond::value(&client, crate::pond::PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}
