//! Prepared statements in transaction mode: a client keeps its own, whichever connection it gets.

use crate::pond::{Pond, SESSION, TRANSACTION, Way, run};
use crate::protocol::{bare, bind, close, describe, execute, parse, query};
use crate::raw::{Message, Raw, tags};

/// Some connections, each held by a client that gives it up for somebody else's turn.
struct Turns {
    pond: Pond,
    holders: Vec<Raw>,
}

impl Turns {
    async fn new(connections: usize, pool: &str) -> Self {
        let pond = Pond::new(TRANSACTION, "", &format!("max_size = {connections}\n{pool}")).await;
        let mut holders: Vec<_> = (0..connections).map(|_| pond.raw()).collect();
        holders.iter_mut().for_each(|holder| drop(holder.query("BEGIN")));
        Self { pond, holders }
    }

    /// The client's flight on one of the connections, and what it is answered up to ready for query.
    fn on(&mut self, connection: usize, client: &mut Raw, flight: &[Vec<u8>]) -> Vec<Message> {
        let readies = flight.iter().filter(|message| matches!(message[0], b'S' | b'Q')).count();
        self.holders[connection].query("COMMIT");
        client.send(&flight.concat());
        let answers = (0..readies).flat_map(|_| client.until_ready()).collect();
        self.holders[connection].query("BEGIN");
        answers
    }

    /// As [`Turns::on`], told in tags, in which an error is its code and a row its only value.
    fn told(&mut self, connection: usize, client: &mut Raw, flight: &[Vec<u8>]) -> String {
        told(&self.on(connection, client, flight))
    }

    /// The names and texts that a connection has prepared.
    fn prepared(&mut self, connection: usize) -> Vec<String> {
        let names = "SELECT name FROM pg_prepared_statements ORDER BY prepare_time";
        rows(&self.holders[connection].query(names))
    }
}

fn told(answers: &[Message]) -> String {
    let one = |message: &Message| match message.tag {
        b'E' => format!("({})", message.field('C')),
        b'D' => format!("({})", String::from_utf8_lossy(&message.body[6..])),
        tag => char::from(tag).to_string(),
    };
    // What settings came to belongs to no answer.
    answers.iter().filter(|message| message.tag != b'S').map(one).collect()
}

fn rows(answers: &[Message]) -> Vec<String> {
    let rows = answers.iter().filter(|message| message.tag == b'D');
    rows.map(|message| String::from_utf8_lossy(&message.body[6..]).into_owned()).collect()
}

fn sync() -> Vec<u8> {
    bare(b'S')
}

/// Binds and executes.
fn runs(name: &str) -> Vec<u8> {
    [bind("", name), execute("", 0)].concat()
}

#[test]
fn a_name_means_what_its_client_prepared_on_whatever_connection() {
    run(async {
        let mut turns = Turns::new(3, "").await;
        let (mut one, mut two) = (turns.pond.raw(), turns.pond.raw());
        assert_eq!(turns.told(0, &mut one, &[parse("s", "SELECT 1"), sync()]), "1Z");
        assert_eq!(turns.told(0, &mut two, &[parse("s", "SELECT 2"), sync()]), "1Z");
        for connection in [0, 1, 2, 1, 0] {
            assert_eq!(turns.told(connection, &mut one, &[runs("s"), sync()]), "2(1)CZ");
            assert_eq!(turns.told(connection, &mut two, &[runs("s"), runs("s"), sync()]), "2(2)C2(2)CZ");
            let described = turns.on(connection, &mut two, &[describe('S', "s"), sync()]);
            assert_eq!(tags(&described), "tTZ");
            assert_eq!(turns.prepared(connection).len(), 2);
        }
        // Equal statements are one, whatever their names.
        assert_eq!(turns.told(1, &mut one, &[parse("t", "SELECT 2"), runs("t"), sync()]), "12(2)CZ");
        assert_eq!(turns.prepared(1).len(), 2);
        let row = turns.pond.snapshot().await.pools[0].traffic;
        assert_eq!((row.client_parses, row.server_parses), (3, 6));
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn what_a_client_may_not_do_with_names_fails_as_on_the_server_itself() {
    run(async {
        let mut turns = Turns::new(2, "").await;
        let (mut client, mut other) = (turns.pond.raw(), turns.pond.raw());
        turns.on(0, &mut other, &[parse("others", "SELECT 'secret'"), sync()]);
        let [name] = &turns.prepared(0)[..] else { panic!("one statement") };
        let name = name.clone();
        assert!(name.starts_with("_headpond_"));
        for missing in ["others", &name] {
            assert_eq!(turns.told(0, &mut client, &[runs(missing), sync()]), "(26000)Z");
            assert_eq!(turns.told(0, &mut client, &[describe('S', missing), sync()]), "(26000)Z");
            assert_eq!(turns.told(0, &mut client, &[close('S', missing), sync()]), "3Z");
        }
        assert_eq!(turns.told(1, &mut other, &[runs("others"), sync()]), "2(secret)CZ");
        // A name that is taken.
        assert_eq!(turns.told(0, &mut client, &[parse("s", "SELECT 1"), sync()]), "1Z");
        let taken = [query("BEGIN"), parse("s", "SELECT 2"), runs("s"), sync(), query("ROLLBACK")];
        for connection in [0, 1] {
            let answers = turns.on(connection, &mut client, &taken);
            assert_eq!(told(&answers), "CZ(42P05)ZCZ");
            assert_eq!(answers[2].field('M'), "prepared statement \"s\" already exists");
            assert_eq!(answers[3].body, b"E");
            assert_eq!(turns.told(connection, &mut client, &[runs("s"), sync()]), "2(1)CZ");
        }
        // One that was closed is free, and gone.
        assert_eq!(turns.told(0, &mut client, &[close('S', "s"), sync()]), "3Z");
        assert_eq!(turns.told(1, &mut client, &[runs("s"), sync()]), "(26000)Z");
        let again = [parse("s", "SELECT 3"), close('S', "s"), parse("s", "SELECT 4"), runs("s"), sync()];
        assert_eq!(turns.told(1, &mut client, &again), "1312(4)CZ");
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn answers_of_ours_come_in_their_turn() {
    run(async {
        let mut turns = Turns::new(2, "").await;
        let mut client = turns.pond.raw();
        turns.on(0, &mut client, &[parse("a", "SELECT 1"), parse("b", "SELECT 2"), sync()]);
        let mixed = [
            runs("a"),
            close('S', "a"),
            runs("b"),
            parse("a", "SELECT 2"),
            runs("a"),
            sync(),
            query("SELECT 3"),
            parse("c", "SELECT 1"),
            runs("c"),
            close('S', "c"),
            close('S', "c"),
            sync(),
        ];
        for connection in [1, 0] {
            assert_eq!(turns.told(connection, &mut client, &mixed), "2(1)C32(2)C12(2)CZT(3)CZ12(1)C33Z");
            let back = [close('S', "a"), parse("a", "SELECT 1"), sync()];
            assert_eq!(turns.told(connection, &mut client, &back), "31Z");
        }
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn what_an_error_had_the_server_pass_over_has_not_happened() {
    run(async {
        let mut turns = Turns::new(2, "").await;
        let mut client = turns.pond.raw();
        let failing = || parse("", "SELECT FROM nothing_of_this_name");
        turns.on(0, &mut client, &[parse("kept", "SELECT 1"), sync()]);
        let passed_over =
            [failing(), parse("new", "SELECT 2"), close('S', "kept"), parse("kept", "SELECT 3"), sync()];
        for connection in [0, 1] {
            assert_eq!(turns.told(connection, &mut client, &passed_over), "(42P01)Z");
            assert_eq!(turns.told(connection, &mut client, &[runs("kept"), sync()]), "2(1)CZ");
            assert_eq!(turns.told(connection, &mut client, &[runs("new"), sync()]), "(26000)Z");
        }
        // The text was on its way to the server, and did not get there.
        assert_eq!(turns.told(0, &mut client, &[parse("new", "SELECT 2"), runs("new"), sync()]), "12(2)CZ");
        assert_eq!(turns.told(0, &mut client, &[parse("bad", "SELEC"), sync()]), "(42601)Z");
        assert_eq!(turns.told(0, &mut client, &[parse("bad", "SELECT 5"), runs("bad"), sync()]), "12(5)CZ");
        // What was sent behind the next Sync, before anything is known, goes by what came true.
        let ahead = [
            failing(),
            parse("x", "SELECT 6"),
            close('S', "kept"),
            sync(),
            parse("x", "SELECT 6"),
            runs("x"),
            runs("kept"),
            sync(),
            parse("y", "SELECT 6"),
            runs("y"),
            sync(),
            close('S', "x"),
            close('S', "y"),
            sync(),
        ];
        for connection in [1, 0] {
            assert_eq!(turns.told(connection, &mut client, &ahead), "(42P01)Z12(6)C2(1)CZ12(6)CZ33Z");
        }
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn a_connection_keeps_the_statements_that_were_used_last() {
    run(async {
        let mut turns = Turns::new(2, "statement_cache_size = 2").await;
        let mut client = turns.pond.raw();
        for number in 0..5 {
            let (name, text) = (format!("s{number}"), format!("SELECT {number}"));
            assert_eq!(turns.told(0, &mut client, &[parse(&name, &text), sync()]), "1Z");
            assert!(turns.prepared(0).len() <= 2);
        }
        for connection in [0, 1, 0] {
            for number in [0, 1, 2, 0, 4, 3, 3] {
                let expected = format!("2({number})CZ");
                assert_eq!(
                    turns.told(connection, &mut client, &[runs(&format!("s{number}")), sync()]),
                    expected
                );
                assert!(turns.prepared(connection).len() <= 2);
            }
        }
        let names = turns.prepared(0);
        turns.on(0, &mut client, &[runs("s3"), sync()]);
        assert_eq!(turns.prepared(0), names);
        // More of them in one flight than there is room for.
        let flight: Vec<_> = (0..5).map(|number| runs(&format!("s{number}"))).chain([sync()]).collect();
        assert_eq!(turns.told(1, &mut client, &flight), "2(0)C2(1)C2(2)C2(3)C2(4)CZ");
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn an_unnamed_statement_outlives_its_transaction_and_is_nobody_else_s() {
    run(async {
        let mut turns = Turns::new(2, "").await;
        let (mut one, mut two) = (turns.pond.raw(), turns.pond.raw());
        assert_eq!(turns.told(0, &mut two, &[runs(""), sync()]), "(26000)Z");
        assert_eq!(turns.told(0, &mut one, &[parse("", "SELECT 1"), sync()]), "1Z");
        // Of the other's the client that has none gets nothing.
        assert_eq!(turns.told(0, &mut two, &[runs(""), sync()]), "(26000)Z");
        assert_eq!(turns.told(0, &mut two, &[describe('S', ""), sync()]), "(26000)Z");
        assert_eq!(turns.told(0, &mut two, &[parse("", "SELECT 2"), sync()]), "1Z");
        for connection in [0, 1, 0] {
            assert_eq!(turns.told(connection, &mut one, &[runs(""), runs(""), sync()]), "2(1)C2(1)CZ");
            assert_eq!(turns.told(connection, &mut two, &[runs(""), sync()]), "2(2)CZ");
        }
        // A simple query destroys it, as does a Close.
        turns.on(1, &mut one, &[query("SELECT")]);
        assert_eq!(turns.told(0, &mut one, &[runs(""), sync()]), "(26000)Z");
        turns.on(1, &mut two, &[close('S', ""), sync()]);
        assert_eq!(turns.told(0, &mut two, &[runs(""), sync()]), "(26000)Z");
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn a_result_of_another_form_than_was_described_is_an_error_until_the_client_prepares_anew() {
    run(async {
        let mut turns = Turns::new(3, "").await;
        let table = format!("shapes_{}", turns.pond.user);
        let (mut client, mut other) = (turns.pond.raw(), turns.pond.raw());
        let text = format!("SELECT * FROM {table}");
        let make = format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (7)");
        turns.on(0, &mut client, &[query(&make)]);
        let prepare = [parse("s", &text), describe('S', "s"), sync()];
        assert_eq!(turns.told(0, &mut client, &prepare), "1tTZ");
        assert_eq!(turns.told(1, &mut client, &[runs("s"), sync()]), "2(7)CZ");
        turns.on(0, &mut other, &[query(&format!("ALTER TABLE {table} ADD COLUMN b int"))]);
        // Where it was parsed before the server says so, elsewhere we do.
        for connection in [2, 1, 0, 2] {
            let failed = [query("BEGIN"), runs("s"), sync(), query("ROLLBACK")];
            let answers = turns.on(connection, &mut client, &failed);
            assert_eq!(told(&answers), "CZ(0A000)ZCZ", "{connection}");
            assert_eq!(answers[2].field('M'), "cached plan must not change result type");
            assert_eq!(answers[3].body, b"E");
        }
        let again = [close('S', "s"), parse("s", &text), describe('S', "s"), sync()];
        assert_eq!(turns.told(1, &mut client, &again), "31tTZ");
        for connection in [1, 0, 2] {
            let answers = turns.on(connection, &mut client, &[runs("s"), sync()]);
            assert_eq!(tags(&answers), "2DCZ", "{connection}");
        }
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn a_statement_is_not_shared_between_settings_that_the_parser_looks_at() {
    run(async {
        let mut turns = Turns::new(1, "").await;
        let mut clients = ["SQL, DMY", "SQL, MDY"].map(|style| {
            let mut raw = Raw::connect(turns.pond.address());
            let user = turns.pond.user.clone();
            let parameters = [("user", user.as_str()), ("database", "postgres"), ("datestyle", style)];
            raw.send_startup(crate::raw::VERSION_3_0, &parameters);
            raw
        });
        turns.holders[0].query("COMMIT");
        clients.iter_mut().for_each(|client| drop(client.until_ready()));
        turns.holders[0].query("BEGIN");
        let text = "SELECT extract(month FROM date '01/02/2000')::int";
        for client in &mut clients {
            turns.on(0, client, &[parse("s", text), sync()]);
        }
        let months = clients.each_mut().map(|client| turns.told(0, client, &[runs("s"), sync()]));
        assert_eq!(months, ["2(2)CZ", "2(1)CZ"]);
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn a_name_that_is_deallocated_in_sql_is_the_client_s_own() {
    run(async {
        let mut turns = Turns::new(2, "").await;
        let (mut client, mut other) = (turns.pond.raw(), turns.pond.raw());
        for client in [&mut client, &mut other] {
            let prepare = [parse("a1", "SELECT 1"), parse("A 2", "SELECT 2"), sync()];
            assert_eq!(turns.told(0, client, &prepare), "11Z");
        }
        for (connection, text) in [(1, "DEALLOCATE a1"), (0, "deallocate prepare \"A 2\";")] {
            assert_eq!(tags(&turns.on(connection, &mut client, &[query(text)])), "CZ");
            assert_eq!(turns.told(connection, &mut client, &[query(text)]), "(26000)Z");
        }
        assert_eq!(turns.told(0, &mut client, &[runs("a1"), sync()]), "(26000)Z");
        assert_eq!(turns.told(0, &mut client, &[parse("a1", "SELECT 3"), runs("a1"), sync()]), "12(3)CZ");
        // In a transaction that failed nothing is deallocated.
        let failed = [query("BEGIN"), query("SELECT 1/0"), query("DEALLOCATE ALL"), query("ROLLBACK")];
        assert_eq!(turns.told(1, &mut client, &failed), "CZ(22012)Z(25P02)ZCZ");
        assert_eq!(turns.told(1, &mut client, &[runs("a1"), sync()]), "2(3)CZ");
        // By the extended protocol, and all at once.
        for all in ["DEALLOCATE ALL", "DISCARD ALL"] {
            turns.on(0, &mut client, &[parse("b", "SELECT 4"), sync()]);
            let deallocate = [parse("", all), runs(""), sync()];
            assert_eq!(turns.told(1, &mut client, &deallocate), "12CZ");
            for name in ["a1", "b"] {
                assert_eq!(turns.told(0, &mut client, &[runs(name), sync()]), "(26000)Z");
            }
        }
        turns.on(1, &mut client, &[parse("c", "SELECT 5"), sync()]);
        assert_eq!(turns.told(0, &mut client, &[parse("", "DEALLOCATE c"), runs(""), sync()]), "12CZ");
        assert_eq!(turns.told(0, &mut client, &[runs("c"), sync()]), "(26000)Z");
        // The other client has noticed nothing.
        for connection in [0, 1] {
            let both = [runs("a1"), runs("A 2"), sync()];
            assert_eq!(turns.told(connection, &mut other, &both), "2(1)C2(2)CZ");
        }
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn statements_are_carried_over_in_statement_mode_and_left_alone_in_session_mode() {
    run(async {
        let statement = Pond::new(Way { mode: "statement", ..TRANSACTION }, "", "max_size = 2").await;
        let session = Pond::new(SESSION, "", "max_size = 2").await;
        let names = query("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '_headpond_%'");
        for (pond, ours) in [(statement, "1"), (session, "0")] {
            let mut client = pond.raw();
            client.send(&[parse("s", "SELECT 1"), runs("s"), sync(), runs("s"), sync()].concat());
            assert_eq!(told(&client.until_ready()), "12(1)CZ");
            assert_eq!(told(&client.until_ready()), "2(1)CZ");
            client.send(&names);
            assert_eq!(rows(&client.until_ready()), [ours]);
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_statement_too_large_to_be_held_in_one_piece_is_carried_over_too() {
    run(async {
        let mut turns = Turns::new(2, "").await;
        let mut client = turns.pond.raw();
        let text = format!("SELECT length('{}')::text", "x".repeat(200_000));
        assert_eq!(turns.told(0, &mut client, &[parse("s", &text), sync()]), "1Z");
        for connection in [0, 1, 0] {
            assert_eq!(turns.told(connection, &mut client, &[runs("s"), sync()]), "2(200000)CZ");
        }
        // So is one with a large value, whose head alone is another.
        turns.on(0, &mut client, &[parse("v", "SELECT length($1)::text"), sync()]);
        let value = [&[0, 0, 0, 1][..], &200_000_u32.to_be_bytes(), &[b'x'; 200_000], &[0, 0]].concat();
        let bind = crate::raw::message(b'B', &[b"\0v\0", &value[..]].concat());
        for connection in [1, 0] {
            let flight = [bind.clone(), execute("", 0), sync()];
            assert_eq!(turns.told(connection, &mut client, &flight), "2(200000)CZ");
        }
        turns.pond.assert_in_step().await;
    });
}

#[test]
fn what_is_known_is_not_parsed_in_a_transaction_that_failed_either() {
    run(async {
        let mut turns = Turns::new(1, "").await;
        let mut client = turns.pond.raw();
        turns.on(0, &mut client, &[parse("a", "SELECT 1"), parse("end", "ROLLBACK"), sync()]);
        turns.holders[0].query("COMMIT");
        client.query("BEGIN; SELECT 1/0");
        for (flight, expected) in [
            ([parse("b", "SELECT 1"), sync()], "(25P02)Z"),
            ([runs("a"), sync()], "(25P02)Z"),
            ([parse("c", "ROLLBACK"), sync()], "1Z"),
            ([runs("c"), sync()], "2CZ"),
            ([runs("b"), sync()], "(26000)Z"),
            ([runs("a"), sync()], "2(1)CZ"),
        ] {
            client.send(&flight.concat());
            assert_eq!(told(&client.until_ready()), expected);
        }
        turns.pond.assert_in_step().await;
    });
}
