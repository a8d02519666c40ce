//! The first bytes: encryption that is not there, versions, options, names.

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::{database, postgres};
use crate::pond::{MODES, Pond, SESSION, code, run, value, ways};
use crate::raw::{Raw, VERSION_3_0, VERSION_3_2, message, packet, tags};

const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

#[test]
fn encryption_is_declined_and_the_client_may_go_on_in_clear() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            for requests in [&[SSL][..], &[GSSENC], &[GSSENC, SSL]] {
                let mut raw = Raw::connect(pond.address());
                for request in requests {
                    raw.send_packet(*request, b"");
                    assert_eq!(raw.receive_byte(), b'N', "{way:?}");
                }
                assert_eq!(tags(&raw.log_in(&pond.user)).chars().next(), Some('R'), "{way:?}");
                assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ", "{way:?}");
            }
        }
    });
}

#[test]
fn an_unknown_minor_version_or_option_is_negotiated_once() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "").await;
            // Version, option, and the version and number of options that the answer names.
            for (version, option, answer) in [
                (VERSION_3_0, "", None),
                (VERSION_3_2, "", None),
                (0x0003_270f, "_pq_.unheard_of", Some((VERSION_3_2, 1))),
                (0x0003_270f, "", Some((VERSION_3_2, 0))),
                (VERSION_3_0, "_pq_.unheard_of", Some((VERSION_3_0, 1))),
            ] {
                let mut raw = Raw::connect(pond.address());
                let identity = [("user", &*pond.user), ("database", "postgres")];
                let option = (!option.is_empty()).then_some((option, "1"));
                raw.send_startup(version, &Vec::from_iter(identity.into_iter().chain(option)));
                let welcome = raw.until_ready();
                let answers: Vec<_> = welcome
                    .iter()
                    .filter(|message| message.tag == b'v')
                    .map(|message| {
                        let number =
                            |at: usize| u32::from_be_bytes(message.body[at..at + 4].try_into().unwrap());
                        (number(0), number(4))
                    })
                    .collect();
                assert_eq!(answers, Vec::from_iter(answer), "{version:x} {option:?}");
                assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ");
            }
        }
    });
}

#[test]
fn another_major_version_is_refused() {
    run(async {
        let pond = Pond::new(SESSION, "", "").await;
        for version in [0x0002_0000, 0x0001_0000, 0x0004_0000] {
            let mut raw = Raw::connect(pond.address());
            raw.send_startup(version, &[("user", &pond.user)]);
            let answer = raw.until_end();
            assert_eq!((tags(&answer).as_str(), &*answer[0].field('S')), ("E", "FATAL"));
        }
    });
}

#[test]
fn an_unknown_database_is_named_whether_headpond_or_the_server_knows_best() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let outcome = pond.login().dbname("nowhere").connect(NoTls).await.map(|_| ());
            assert_eq!(code(outcome), SqlState::INVALID_CATALOG_NAME, "{way:?}");
            let server = &database().server;
            let source =
                format!("[data_source.shop]\nhost = \"{}\"\nport = {}\n", server.host(), server.port());
            let named = Pond::of(way, &pond.user, &format!("{source}database = \"postgres\""));
            let outcome = named.login().connect(NoTls).await.map(|_| ());
            assert_eq!(code(outcome), SqlState::INVALID_CATALOG_NAME, "{way:?}");
            let client = crate::pond::connect(named.login().dbname("shop")).await;
            assert_eq!(value(&client, "SELECT current_database()").await, "postgres", "{way:?}");
        }
    });
}

#[test]
fn a_database_that_is_made_later_is_found_then() {
    run(async {
        let server = postgres(headpond_embedded::Options::default());
        let pond = Pond::before(&server, SESSION, "postgres", "", "");
        let outcome = pond.login().dbname("later").connect(NoTls).await.map(|_| ());
        assert_eq!(code(outcome), SqlState::INVALID_CATALOG_NAME);
        pond.client().await.batch_execute("CREATE DATABASE later").await.unwrap();
        crate::pond::until("found", async || pond.login().dbname("later").connect(NoTls).await.is_ok()).await;
    });
}

#[test]
fn a_query_may_come_in_one_flight_with_the_login() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            // The first finds a server unknown, the second one known.
            for _ in 0..2 {
                let mut raw = Raw::connect(pond.address());
                let startup = format!("user\0{}\0database\0postgres\0\0", pond.user);
                let flight =
                    [packet(SSL, b""), packet(VERSION_3_0, startup.as_bytes()), message(b'Q', b"SELECT 1\0")];
                raw.send(&flight.concat());
                assert_eq!(raw.receive_byte(), b'N');
                raw.until_ready();
                assert_eq!(tags(&raw.until_ready()), "TDCZ", "{way:?}");
            }
        }
    });
}
