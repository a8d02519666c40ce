//! COPY in both directions, and COPY that goes wrong.

use std::io::Cursor;
use std::pin::pin;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_postgres::error::SqlState;

use crate::pond::{MODES, Pond, SESSION, Way, code, run, value, ways};
use crate::raw::{message, tags};

/// A block of lines.
const LINE: &str = "0123456789\t0123456789012345678901234567890123456789\n";

async fn copy_in(
    client: &tokio_postgres::Client,
    table: &str,
    data: Vec<Cursor<Vec<u8>>>,
) -> Result<u64, tokio_postgres::Error> {
    let mut sink = pin!(client.copy_in(&format!("COPY {table} FROM STDIN")).await?);
    for piece in data {
        sink.send(piece).await?;
    }
    sink.finish().await
}

async fn round_trip(way: Way, bytes: usize) {
    let pond = Pond::new(way, "", "").await;
    let (client, table) = (pond.client().await, format!("copied_{}", pond.user));
    client.batch_execute(&format!("CREATE UNLOGGED TABLE {table} (a text, b text)")).await.unwrap();
    let block = LINE.repeat(20_000).into_bytes();
    let blocks = bytes.div_ceil(block.len());
    let rows = copy_in(&client, &table, vec![Cursor::new(block.clone()); blocks]).await.unwrap();
    assert_eq!(rows, blocks as u64 * 20_000, "{way:?}");
    let mut copied = 0;
    let mut stream = pin!(client.copy_out(&format!("COPY {table} TO STDOUT")).await.unwrap());
    while let Some(piece) = stream.next().await {
        copied += piece.unwrap().len();
    }
    assert_eq!(copied, blocks * block.len(), "{way:?}");
    client.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
    pond.assert_in_step().await;
}

#[test]
fn copy_of_100_mb_goes_in_and_comes_out_whole() {
    run(round_trip(SESSION, 100 << 20));
}

#[test]
fn copy_goes_in_and_comes_out_whole_in_every_way() {
    run(async {
        for way in ways() {
            round_trip(way, 5 << 20).await;
        }
    });
}

#[test]
fn copy_that_the_server_ends_in_the_middle_is_one_error_and_the_client_goes_on() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let (client, table) = (pond.client().await, format!("numbers_{}", pond.user));
            client.batch_execute(&format!("CREATE TABLE {table} (n int)")).await.unwrap();
            let mut data = vec![Cursor::new(b"1\n2\nthree\n".to_vec())];
            data.resize(2_000, Cursor::new(b"4\n".repeat(1_000)));
            let outcome = copy_in(&client, &table, data).await;
            assert_eq!(code(outcome), SqlState::INVALID_TEXT_REPRESENTATION, "{way:?}");
            // Another client gets the connection, and nothing of the data.
            drop(client);
            let other = pond.client().await;
            assert_eq!(value(&other, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn copy_data_that_comes_after_the_servers_error_is_read_over() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let mut raw = pond.raw();
            raw.query(&format!("CREATE TABLE late_{} (n int)", pond.user));
            raw.send_query(&format!("COPY late_{} FROM STDIN", pond.user));
            assert_eq!(raw.receive().unwrap().tag, b'G', "{way:?}");
            raw.send(&message(b'd', b"x\n"));
            assert_eq!(tags(&raw.until_ready()), "EZ", "{way:?}");
            for (tag, body) in [(b'd', &b"1\n"[..]), (b'd', b"2\n"), (b'c', b"")] {
                raw.send(&message(tag, body));
            }
            assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn copy_given_up_by_the_client_is_rolled_back() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let (client, table) = (pond.client().await, format!("given_up_{}", pond.user));
            client.batch_execute(&format!("CREATE TABLE {table} (n int)")).await.unwrap();
            let mut sink = Box::pin(client.copy_in(&format!("COPY {table} FROM STDIN")).await.unwrap());
            sink.send(Cursor::new(b"1\n".to_vec())).await.unwrap();
            // Dropped unfinished: the driver sends CopyFail.
            drop(sink);
            assert_eq!(value(&client, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}
