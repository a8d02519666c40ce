//! The protocol's corners: whatever is sent, Headpond answers as the server itself does, byte by byte.

use std::net::SocketAddr;

use crate::database::{database, direct};
use crate::named::named;
use crate::pond::{MODES, Pond, run, until, value, ways};
use crate::raw::{Message, Raw, VERSION_3_0, message, tags};

/// Messages of the extended protocol. Names are empty for the unnamed.
pub(crate) fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

pub(crate) fn bind(portal: &str, name: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

pub(crate) fn describe(kind: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{kind}{name}\0").as_bytes())
}

pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

pub(crate) fn close(kind: char, name: &str) -> Vec<u8> {
    message(b'C', format!("{kind}{name}\0").as_bytes())
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub(crate) fn bare(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

fn data(text: &str) -> Vec<u8> {
    message(b'd', text.as_bytes())
}

/// One statement, from parse to execute.
fn whole(text: &str) -> Vec<u8> {
    [parse("", text), bind("", ""), describe('P', ""), execute("", 0)].concat()
}

/// Sends it all at once to whoever listens there, and returns what comes back up to the last ready for query.
fn answers(address: SocketAddr, user: &str, flight: &[u8], readies: usize) -> Vec<Message> {
    let mut raw = Raw::connect(address);
    raw.log_in(user);
    raw.send(flight);
    (0..readies).flat_map(|_| raw.until_ready()).collect()
}

/// Sends a flight of messages, with so many answers that end in ready for query, to the server and through Headpond in
/// every way: there is no difference. What the server answered is returned.
async fn is_answered_alike(flight: &[Vec<u8>], readies: usize) -> String {
    let mut said = String::new();
    for way in ways() {
        let pond = Pond::new(way, "", "max_size = 1").await;
        let prepare = "CREATE TABLE IF NOT EXISTS late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
            CREATE TABLE IF NOT EXISTS at_end (n int UNIQUE DEFERRABLE)";
        let lock = "SELECT pg_advisory_lock(7)";
        let owner = direct(&database().server).await;
        owner.batch_execute(lock).await.unwrap();
        owner.batch_execute(prepare).await.unwrap();
        owner.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
        let flight = [flight.concat(), query("ROLLBACK"), query("SELECT 'in step'")].concat();
        let server = ([127, 0, 0, 1], database().server.port()).into();
        let [expected, found] = [server, pond.address()]
            .map(|address| answers(address, &pond.user, &flight, readies + 2))
            .map(|messages| messages.into_iter().map(|m| (char::from(m.tag), m.body)).collect::<Vec<_>>());
        let text: String = expected.iter().map(|(tag, _)| tag).collect();
        let heard: String = found.iter().map(|(tag, _)| tag).collect();
        assert_eq!(heard, text, "{way:?}");
        assert!(found == expected, "{way:?}: {found:?} instead of {expected:?}");
        pond.assert_in_step().await;
        said = text;
    }
    let end = said.trim_end_matches("TDCZ");
    end.strip_suffix("NCZ").or(end.strip_suffix("CZ")).unwrap().to_owned()
}

#[test]
fn an_error_at_each_place_of_a_pipeline_skips_to_its_sync_and_no_further() {
    run(async {
        let good = || whole("SELECT 1");
        let bad: [(Vec<u8>, &str); 6] = [
            (parse("", "SELEC"), "E"),
            (bind("", "no such statement"), "E"),
            (describe('S', "no such statement"), "E"),
            (describe('P', "no such portal"), "E"),
            (execute("no such portal", 0), "E"),
            (whole("SELECT 1 / (n - 2) FROM generate_series(1, 3) n"), "12TDE"),
        ];
        for (bad, error) in bad {
            let flight = [good(), bad, good(), close('S', ""), bare(b'S'), good(), bare(b'S')];
            let expected = format!("12TDC{error}Z12TDCZ");
            assert_eq!(is_answered_alike(&flight, 2).await, expected);
        }
    });
}

#[test]
fn an_error_of_the_sync_itself_is_that_requests() {
    run(async {
        // The constraint is looked at when the transaction ends.
        let twice = whole("INSERT INTO late VALUES (1), (1)");
        let flight = [twice, bare(b'S'), whole("SELECT 1"), bare(b'S')];
        assert_eq!(is_answered_alike(&flight, 2).await, "12nCEZ12TDCZ");
    });
}

#[test]
fn a_portal_is_read_in_parts_between_which_others_are_read() {
    run(async {
        let rows = |count| format!("SELECT generate_series(1, {count})");
        let flight = [
            query("BEGIN"),
            [parse("", &rows(5)), bind("five", ""), execute("five", 2), bare(b'S')].concat(),
            [parse("", &rows(3)), bind("three", ""), execute("three", 1), execute("five", 2)].concat(),
            [bare(b'H'), execute("three", 0), execute("five", 0), execute("five", 0), bare(b'S')].concat(),
            [close('P', "five"), execute("five", 1), bare(b'S')].concat(),
        ];
        let expected = "CZ12DDsZ12DsDDsDDCDCCZ3EZ";
        assert_eq!(is_answered_alike(&flight, 4).await, expected);
    });
}

#[test]
fn notices_empty_queries_and_several_statements_come_as_the_server_sends_them() {
    run(async {
        let flight = [
            query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"),
            query(""),
            query("SELECT 1; SELECT 2; SELECT 1/0; SELECT 3"),
            [parse("", ""), bind("", ""), execute("", 0), bare(b'S')].concat(),
            query("SET application_name TO 'another'"),
            query("RESET application_name"),
            bare(b'S'),
        ];
        assert_eq!(is_answered_alike(&flight, 7).await, "NNCZIZTDCTDCEZ12IZCSZCSZZ");
    });
}

#[test]
fn copy_that_fails_before_within_or_after_its_data_is_answered_once() {
    run(async {
        let copy = |table| query(&format!("COPY {table} FROM STDIN"));
        let cases: [(Vec<Vec<u8>>, &str); 5] = [
            // What follows was sent ahead of an error.
            (vec![copy("nowhere"), data("1\n"), bare(b'c')], "EZ"),
            (vec![copy("late"), data("1\n"), data("x\n"), data("2\n"), bare(b'c')], "GEZ"),
            (vec![copy("at_end"), data("1\n"), data("1\n"), bare(b'c')], "GEZ"),
            (vec![copy("late"), data("1\n"), message(b'f', b"enough\0")], "GEZ"),
            (vec![query("COPY (SELECT 6 / (3 - n) FROM generate_series(1, 3) n) TO STDOUT")], "HddEZ"),
        ];
        for (flight, expected) in cases {
            assert_eq!(is_answered_alike(&flight, 1).await, expected);
        }
    });
}

#[test]
fn copy_in_the_extended_protocol_fails_to_its_sync() {
    run(async {
        let copy = |table| {
            let text = format!("COPY {table} FROM STDIN");
            [parse("", &text), bind("", ""), execute("", 0)].concat()
        };
        let (sync, end) = (|| bare(b'S'), || bare(b'c'));
        let cases: [(Vec<Vec<u8>>, &str); 5] = [
            (vec![copy("nowhere"), data("1\n"), end(), sync()], "12EZ"),
            (vec![copy("late"), data("x\n"), data("1\n"), end(), sync()], "12GEZ"),
            (vec![copy("at_end"), data("1\n1\n"), end(), sync()], "12GEZ"),
            (vec![copy("late"), message(b'f', b"enough\0"), sync()], "12GEZ"),
            (vec![query("BEGIN"), copy("late"), data("1\n"), end(), sync()], "CZ12GCZ"),
        ];
        for (flight, expected) in cases {
            let readies = expected.matches('Z').count();
            assert_eq!(is_answered_alike(&flight, readies).await, expected);
        }
    });
}

#[test]
fn a_client_that_vanishes_in_copy_leaves_nothing_behind() {
    run(async {
        let half = &data("1\n")[..6];
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let table = format!("vanished_{}", pond.user);
            pond.client().await.batch_execute(&format!("CREATE TABLE {table} (n int)")).await.unwrap();
            for sent in [&b""[..], &data("1\n"), half, &[&data("1\n"), half].concat()] {
                let mut raw = pond.raw();
                raw.send_query(&format!("COPY {table} FROM STDIN"));
                assert_eq!(raw.receive().unwrap().tag, b'G', "{way:?}");
                raw.send(sent);
                drop(raw);
                let other = pond.client().await;
                assert_eq!(value(&other, &format!("SELECT count(*) FROM {table}")).await, "0", "{way:?}");
            }
            let mut raw = pond.raw();
            raw.send_query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT");
            assert_eq!(raw.receive().unwrap().tag, b'H', "{way:?}");
            drop(raw);
            assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_listening_session_hears_what_others_notify_though_it_asks_nothing() {
    run(async {
        for way in ways().filter(|way| way.mode == "session") {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let mut listener = pond.raw();
            listener.query(&format!("LISTEN news_{}", pond.user));
            let other = pond.client().await;
            for what in ["first", "second"] {
                other.batch_execute(&format!("NOTIFY news_{}, '{what}'", pond.user)).await.unwrap();
                let heard = listener.receive().unwrap();
                assert_eq!(heard.tag, b'A', "{way:?}");
                let text = String::from_utf8_lossy(&heard.body[4..]).into_owned();
                assert_eq!(text, format!("news_{}\0{what}\0", pond.user), "{way:?}");
            }
            assert_eq!(tags(&listener.query("SELECT 1")), "TDCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn each_client_has_its_own_encoding_on_a_connection_that_they_share() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let log_in = |encoding| {
                let mut raw = Raw::connect(pond.address());
                let identity = [("user", &*pond.user), ("database", "postgres")];
                raw.send_startup(VERSION_3_0, &[&identity[..], &[("client_encoding", encoding)]].concat());
                raw.until_ready();
                raw
            };
            let mut clients = [("UTF8", &b"\xc3\xa9"[..]), ("LATIN1", b"\xe9")].map(|(e, b)| (log_in(e), b));
            for _ in 0..3 {
                for (client, bytes) in &mut clients {
                    let answer = client.query(r"SELECT U&'\00e9'");
                    let row = answer.iter().find(|message| message.tag == b'D').unwrap();
                    assert_eq!(&row.body[6..], *bytes, "{way:?}");
                }
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn messages_without_a_sync_keep_their_connection_until_it_comes() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "max_size = 1").await;
            let mut raw = pond.raw();
            raw.send(&[parse("", "SELECT 1"), bind("", ""), bare(b'H')].concat());
            for tag in [b'1', b'2'] {
                assert_eq!(raw.receive().unwrap().tag, tag, "{way:?}");
            }
            let mut other = pond.raw();
            other.send_query("SELECT 2");
            pond.until_waiting(1).await;
            raw.send(&[execute("", 0), bare(b'S')].concat());
            assert_eq!(tags(&raw.until_ready()), "DCZ", "{way:?}");
            drop(raw);
            assert_eq!(tags(&other.until_ready()), "TDCZ", "{way:?}");
            until("nobody waits", async || pond.snapshot().await.pools[0].pool.waiting == 0).await;
        }
    });
}

#[test]
fn what_a_client_leaves_without_a_sync_is_rolled_back() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let client = pond.client().await;
            client.batch_execute("CREATE TABLE IF NOT EXISTS left_open (a int)").await.unwrap();
            drop(client);
            for says_goodbye in [false, true] {
                let mut raw = pond.raw();
                let statement = whole("INSERT INTO left_open VALUES (1)");
                raw.send(&[statement, bare(b'H')].concat());
                // The last of what it asked is answered, so it has run.
                while raw.receive().unwrap().tag != b'C' {}
                if says_goodbye {
                    raw.send(&bare(b'X'));
                }
                drop(raw);
                assert_eq!(
                    value(&pond.client().await, "SELECT count(*) FROM left_open").await,
                    "0",
                    "{way:?}"
                );
            }
            // And of a COPY that it does not know to have begun.
            let mut raw = pond.raw();
            raw.send(&whole("COPY left_open FROM STDIN"));
            drop(raw);
            let client = pond.client().await;
            assert_eq!(value(&client, "SELECT count(*) FROM left_open").await, "0", "{way:?}");
            client.batch_execute("DROP TABLE left_open").await.unwrap();
            pond.assert_in_step().await;
        }
    });
}
