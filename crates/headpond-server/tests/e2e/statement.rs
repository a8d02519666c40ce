//! Statement mode: no transaction outlives its request, and no client is closed for trying.

use tokio_postgres::error::SqlState;

use crate::pond::{PID, Pond, Way, code, run, value, ways};
use crate::raw::{message, tags};

fn modes() -> impl Iterator<Item = Way> {
    ways().filter(|way| way.mode == "transaction").map(|way| Way { mode: "statement", ..way })
}

#[test]
fn a_transaction_that_spans_requests_is_refused_and_rolled_back_in_statement_mode() {
    run(async {
        for way in modes() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let table = format!("spans_{}", pond.user);
            let (client, other) = (pond.client().await, pond.client().await);
            let pid = value(&client, PID).await;
            client.batch_execute(&format!("CREATE TABLE {table} (a int)")).await.unwrap();
            let unsupported = SqlState::FEATURE_NOT_SUPPORTED;
            let begin = format!("BEGIN; INSERT INTO {table} VALUES (1)");
            assert_eq!(code(client.batch_execute(&begin).await), unsupported, "{way:?}");
            assert_eq!(code(client.query_typed("BEGIN", &[]).await), unsupported, "{way:?}");
            // It is in no transaction, and holds nothing.
            let outside = "SELECT now() = statement_timestamp()";
            assert_eq!(value(&client, outside).await, "t", "{way:?}");
            assert_eq!(value(&other, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            // One that ends with its request is as good as any.
            client.batch_execute(&format!("{begin}; COMMIT")).await.unwrap();
            assert_eq!(value(&other, &format!("SELECT count(*) FROM {table}")).await, "1", "{way:?}");
            assert_eq!(value(&client, PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn nothing_that_was_sent_ahead_runs_in_a_transaction_that_statement_mode_refuses() {
    run(async {
        for way in modes() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let mut raw = pond.raw();
            let queries =
                ["BEGIN\0", "SELECT now() = statement_timestamp()\0", "BEGIN; SELECT 1/0\0", "SELECT 1\0"];
            let flight: Vec<u8> = queries.iter().flat_map(|text| message(b'Q', text.as_bytes())).collect();
            raw.send(&flight);
            let refused = raw.until_ready();
            assert_eq!(
                (tags(&refused).as_str(), refused[1].field('C').as_str()),
                ("CEZ", "0A000"),
                "{way:?}"
            );
            let outside = raw.until_ready();
            assert_eq!((tags(&outside).as_str(), outside[1].body.last()), ("TDCZ", Some(&b't')), "{way:?}");
            // One error is enough.
            let failed = raw.until_ready();
            assert_eq!((tags(&failed).as_str(), failed[1].field('C').as_str()), ("CEZ", "22012"), "{way:?}");
            assert_eq!(failed[2].body, b"I", "{way:?}");
            assert_eq!(tags(&raw.until_ready()), "TDCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}
