//! Queries of every kind, in every way that Headpond can work.

use futures_util::future::join_all;
use tokio_postgres::SimpleQueryMessage::{CommandComplete, Row};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use crate::pond::{MODES, PID, Pond, SESSION, code, run, value, ways};
use crate::raw::{message, tags};

#[test]
fn simple_queries_are_answered_statement_by_statement() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let answer =
                pond.client().await.simple_query("SELECT 1; SELECT 2 WHERE false; SELECT 'x'").await.unwrap();
            let rows: Vec<_> =
                answer.iter().filter_map(|m| if let Row(row) = m { row.get(0) } else { None }).collect();
            assert_eq!(rows, ["1", "x"], "{way:?}");
            assert_eq!(answer.iter().filter(|m| matches!(m, CommandComplete(_))).count(), 3, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn extended_queries_take_parameters_and_give_types() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let client = pond.client().await;
            for n in 0..100_i64 {
                let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&n, Type::INT8), (&"hey", Type::TEXT)];
                let rows = client.query_typed("SELECT $1 + 1, $2 || '!'", &parameters).await.unwrap();
                assert_eq!((rows[0].get::<_, i64>(0), rows[0].get(1)), (n + 1, "hey!"), "{way:?}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn pipelined_queries_are_answered_in_their_order_though_some_fail() {
    run(async {
        for way in ways() {
            let pond =
                Pond::new(way, "", if way.mode == "session" { "max_size = 4" } else { "max_size = 2" }).await;
            let clients = pond.clients(4).await;
            let flights = clients.iter().map(async |client| {
                let queries = (0..500_i32).map(async |n| {
                    // Every seventh divides by zero.
                    let query = format!("SELECT {n} / ({n} % 7)");
                    let answer = client.simple_query(&query).await;
                    match answer {
                        Ok(messages) => messages.iter().find_map(|m| match m {
                            Row(row) => row.get(0).map(str::to_owned),
                            _ => None,
                        }),
                        Err(error) => error.code().map(|code| code.code().to_owned()),
                    }
                });
                join_all(queries).await
            });
            let expected: Vec<_> = (0..500_i32)
                .map(|n| Some(n.checked_div(n % 7).map_or_else(|| "22012".to_owned(), |n| n.to_string())))
                .collect();
            for answers in join_all(flights).await {
                assert_eq!(answers, expected, "{way:?}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn prepared_statements_last_as_long_as_their_session() {
    run(async {
        for way in ways().filter(|way| way.mode == "session") {
            let pond = Pond::new(way, "", "max_size = 3").await;
            let clients = pond.clients(3).await;
            for (number, client) in (0_i32..).zip(&clients) {
                // The same name on each of them, s0, with another text.
                let statement = client.prepare(&format!("SELECT $1 * {number}")).await.unwrap();
                for n in 0..20_i32 {
                    let row = client.query_one(&statement, &[&n]).await.unwrap();
                    assert_eq!(row.get::<_, i32>(0), n * number, "{way:?}");
                }
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn transactions_commit_roll_back_and_keep_their_connection() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let table = format!("accounts_{}", pond.user);
            pond.client().await.batch_execute(&format!("CREATE TABLE {table} (who int)")).await.unwrap();
            // Only two of the six fit: they take turns by transaction, or in session mode by leaving.
            let work = pond.clients(6).await.into_iter().enumerate().map(async |(number, mut client)| {
                let insert = format!("INSERT INTO {table} VALUES ({number})");
                let transaction = client.transaction().await.unwrap();
                let begun = value(&transaction, PID).await;
                transaction.batch_execute(&insert).await.unwrap();
                assert_eq!(value(&transaction, PID).await, begun, "{way:?}");
                if number % 2 == 0 { transaction.commit().await } else { transaction.rollback().await }
                    .unwrap();
            });
            join_all(work).await;
            let kept = value(&pond.client().await, &format!("SELECT sum(who) FROM {table}")).await;
            assert_eq!(kept, "6", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn an_error_leaves_its_client_usable() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let client = pond.client().await;
            assert_eq!(
                code(client.simple_query("SELECT nonsense").await),
                SqlState::UNDEFINED_COLUMN,
                "{way:?}"
            );
            assert_eq!(code(client.prepare("SELEC").await), SqlState::SYNTAX_ERROR, "{way:?}");
            client.batch_execute("BEGIN").await.unwrap();
            assert_eq!(code(client.batch_execute("SELECT 1/0").await), SqlState::DIVISION_BY_ZERO, "{way:?}");
            let failed = SqlState::IN_FAILED_SQL_TRANSACTION;
            assert_eq!(code(client.batch_execute("SELECT 1").await), failed, "{way:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(value(&client, "SELECT 7").await, "7", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_value_of_50_mb_goes_both_ways() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let text = "0123456789".repeat(5_000_000);
            let parameter = (&text as _, Type::TEXT);
            let rows = pond.client().await.query_typed("SELECT $1", &[parameter]).await.unwrap();
            assert!(rows[0].get::<_, &str>(0) == text, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_function_call_is_answered() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "").await;
            let mut raw = pond.raw();
            // int4pl(40, 2), in text.
            let call =
                [&177_u32.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 2], b"40\0\0\0\x012", &[0, 0]].concat();
            raw.send(&message(b'F', &call));
            let answer = raw.until_ready();
            assert_eq!(
                (tags(&answer).as_str(), &answer[0].body[..]),
                ("VZ", &b"\0\0\0\x0242"[..]),
                "{way:?}"
            );
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn extended_messages_without_a_sync_are_answered_at_a_flush() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "").await;
            let mut raw = pond.raw();
            raw.send(&message(b'P', b"\0SELECT 1\0\0\0"));
            raw.send(&message(b'H', b""));
            assert_eq!(raw.receive().unwrap().tag, b'1', "{way:?}");
            raw.send(&message(b'B', &[0; 8]));
            raw.send(&message(b'E', &[0; 5]));
            raw.send(&message(b'S', b""));
            assert_eq!(tags(&raw.until_ready()), "2DCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn an_error_in_a_pipeline_skips_to_its_sync_and_no_further() {
    run(async {
        let pond = Pond::new(SESSION, "", "").await;
        let mut raw = pond.raw();
        let execute = |text: &str| {
            let parse = message(b'P', &[b"\0", text.as_bytes(), b"\0\0\0"].concat());
            [parse, message(b'B', &[0; 8]), message(b'E', &[0; 5])].concat()
        };
        let sync = message(b'S', b"");
        let flight = [execute("SELECT 1/0"), execute("SELECT 1"), sync.clone(), execute("SELECT 2"), sync];
        raw.send(&flight.concat());
        assert_eq!(tags(&raw.until_ready()), "1EZ");
        assert_eq!(tags(&raw.until_ready()), "12DCZ");
        pond.assert_in_step().await;
    });
}
