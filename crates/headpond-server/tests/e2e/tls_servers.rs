//! TLS with servers, and logins that are bound to it on either leg.

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use headpond_embedded::Postgres;
use headpond_wire::postgres::scram::{Binding, ClientRole, MECHANISM, MECHANISM_PLUS};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Connection, ServerConfig, ServerConnection};
use tokio_postgres::NoTls;

use crate::database::database;
use crate::pond::{Pond, SESSION, TRANSACTION, Way, run, until, value, ways};
use crate::programs::program;
use crate::raw::{Raw, VERSION_3_0, message, tags};
use crate::secure::{Authority, as_postgres, psql, raw_in_tls, secure_postgres, set_hba};

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Whether the connection that serves is encrypted.
const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A server with a certificate for 127.0.0.1, and who issued it.
fn secured() -> &'static (Postgres, Authority) {
    static SERVER: OnceLock<(Postgres, Authority)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let authority = Authority::new();
        authority.issue("server", "server", &["127.0.0.1"], 100);
        authority.issue("pond", "localhost", &["localhost"], 100);
        (secure_postgres(&authority, &[]), authority)
    })
}

/// Before a server, with settings of the leg to it.
fn before(server: &Postgres, way: Way, leg: &str) -> Pond {
    let source = "user = \"postgres\"\npassword = \"top\"\nlogin_retry = \"50ms\"";
    Pond::before(server, way, "anybody", leg, source)
}

/// Whether the connection is encrypted, or what a client hears if there is none.
async fn outcome(pond: &Pond) -> Result<bool, String> {
    let connected = pond.login().connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| format!("{:?}", error.as_db_error()))?;
    tokio::spawn(connection);
    Ok(value(&client, ENCRYPTED).await == "t")
}

#[test]
fn each_mode_for_servers_meets_those_that_have_tls_and_those_that_have_none() {
    run(async {
        let (server, authority) = secured();
        let (stranger, other) = (Authority::new(), Authority::new());
        stranger.issue("server", "server", &["127.0.0.1"], 100);
        other.issue("server", "server", &["db.example"], 100);
        let other_server = secure_postgres(&other, &[]);
        for mode in MODES {
            // What is trusted, before which server, and in which modes that is good enough.
            for (trusted, server, good, good_encrypted) in [
                (authority, server, &MODES[..], &MODES[2..]),
                (&stranger, server, &MODES[..4], &MODES[2..4]),
                (&other, &other_server, &MODES[..5], &MODES[2..5]),
                (authority, &database().server, &MODES[..3], &[][..]),
            ] {
                let leg =
                    format!("server_tls = \"{mode}\"\nserver_tls_ca_file = \"{}\"", trusted.path("ca.crt"));
                let got = outcome(&before(server, SESSION, &leg)).await;
                let expected = good.contains(&mode).then_some(good_encrypted.contains(&mode));
                assert_eq!(got.as_ref().ok(), expected.as_ref(), "{mode}: {got:?}");
                if let Err(why) = got {
                    assert!(why.contains("TLS"), "{mode}: {why}");
                }
            }
        }
    });
}

#[test]
fn what_a_server_refuses_one_way_is_tried_the_other_way_where_both_will_do() {
    run(async {
        let authority = Authority::new();
        authority.issue("server", "server", &["127.0.0.1"], 100);
        let server = secure_postgres(&authority, &[]);
        for (hba, expected) in [
            ("hostssl all all all scram-sha-256", [None, Some(true), Some(true), Some(true)]),
            ("hostnossl all all all scram-sha-256", [Some(false), Some(false), Some(false), None]),
            ("", [None; 4]),
        ] {
            set_hba(&server, hba);
            for (mode, expected) in MODES.into_iter().zip(expected) {
                for way in [SESSION, TRANSACTION] {
                    let got = outcome(&before(&server, way, &format!("server_tls = \"{mode}\""))).await;
                    assert_eq!(got.as_ref().ok(), expected.as_ref(), "{hba} {mode}: {got:?}");
                }
            }
        }
        // With a wrong password it is tried once, whatever the mode: there are locks on accounts.
        set_hba(&server, "host all all all scram-sha-256");
        let source = "user = \"postgres\"\npassword = \"wrong\"";
        let pond = Pond::before(&server, SESSION, "anybody", "server_tls = \"prefer\"", source);
        assert!(outcome(&pond).await.is_err());
        let log = fs::read_to_string(server.log_file()).unwrap();
        assert_eq!(log.matches("password authentication failed").count(), 1);
    });
}

#[test]
fn everything_goes_through_tls_on_both_legs() {
    run(async {
        let (server, authority) = secured();
        for way in ways() {
            for protocols in ["tlsv1.2", "tlsv1.3"] {
                let leg = format!(
                    "server_tls = \"verify-full\"\nserver_tls_ca_file = \"{}\"\nserver_tls_protocols = \"{protocols}\"
                     server_channel_binding = \"require\"\n{}",
                    authority.path("ca.crt"),
                    authority.settings("require", "pond")
                );
                let pond = before(server, way, &leg);
                let mut raw = raw_in_tls(pond.address());
                raw.log_in(&pond.user);
                let text = "x".repeat(3_000_000);
                let answer = raw.query(&format!("SELECT '{text}'"));
                assert!(answer[1].body.ends_with(text.as_bytes()), "{way:?}");
                let rows = raw.query("SELECT repeat('z', 20000) FROM generate_series(1, 500)");
                assert!(rows[1..501].iter().all(|row| row.body.len() == 20_006), "{way:?}");
                // Into a table and out of it, more than a socket holds.
                raw.send_query("CREATE TEMP TABLE t (line text); COPY t FROM STDIN");
                for _ in 0..200 {
                    raw.send(&message(b'd', format!("{}\n", "c".repeat(20_000)).as_bytes()));
                }
                raw.send(&message(b'c', b""));
                assert_eq!(tags(&raw.until_ready()), "CGCZ", "{way:?}");
                let out = raw.query("COPY t TO STDOUT");
                assert_eq!(out.iter().filter(|message| message.body.len() == 20_001).count(), 200, "{way:?}");
                let snapshot = pond.snapshot().await;
                let shown = snapshot.servers.iter().filter_map(|server| server.tls.as_ref());
                let versions: Vec<_> = shown.map(|tls| tls.version.to_lowercase()).collect();
                assert!(
                    !versions.is_empty() && versions.iter().all(|version| version == protocols),
                    "{way:?}"
                );
                pond.assert_in_step().await;
            }
        }
    });
}

#[test]
fn a_statement_is_cancelled_on_a_server_that_is_reached_by_tls() {
    run(async {
        let (server, _) = secured();
        for way in ways() {
            let pond = before(server, way, "server_tls = \"require\"");
            let mut raw = Raw::connect(pond.address());
            let welcome = raw.log_in(&pond.user);
            let key = welcome.iter().find(|message| message.tag == b'K').unwrap().body.clone();
            raw.send_query("SELECT pg_sleep(600)");
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            until("it sleeps", async || as_postgres(server, sleeping) != "0").await;
            Raw::connect(pond.address()).send_packet(80_877_102, &key);
            let answer = raw.until_ready();
            assert_eq!((tags(&answer).as_str(), &*answer[1].field('C')), ("TEZ", "57014"), "{way:?}");
            assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ");
        }
    });
}

#[test]
fn a_server_that_asks_for_our_certificate_gets_it() {
    run(async {
        let (server, authority) = (&Authority::new(), Authority::new());
        server.issue("server", "server", &["127.0.0.1"], 100);
        server.issue("us", "postgres", &[], 100);
        authority.issue("us", "postgres", &[], 100);
        let database = secure_postgres(server, &[]);
        set_hba(&database, "hostssl all all all cert");
        let leg = |issuer: &Authority| {
            let (certificate, key) = (issuer.path("us.crt"), issuer.path("us.key"));
            format!(
                "server_tls = \"require\"\nserver_tls_cert_file = \"{certificate}\"\nserver_tls_key_file = \"{key}\""
            )
        };
        assert_eq!(outcome(&before(&database, SESSION, &leg(server))).await, Ok(true));
        assert!(outcome(&before(&database, SESSION, &leg(&authority))).await.is_err());
        assert!(outcome(&before(&database, SESSION, "server_tls = \"require\"")).await.is_err());
    });
}

#[test]
fn a_certificate_that_vouches_for_itself_is_trusted_where_it_is_named() {
    run(async {
        // As PostgreSQL's manual makes them: an authority that calls itself by its host's name, and has no other.
        let authority = Authority::new();
        authority.self_issue("server", "127.0.0.1", &[]);
        let server = secure_postgres(&authority, &[]);
        let leg = |mode: &str, file: &str| {
            format!("server_tls = \"{mode}\"\nserver_tls_ca_file = \"{}\"", authority.path(file))
        };
        for mode in ["verify-ca", "verify-full"] {
            assert_eq!(
                outcome(&before(&server, SESSION, &leg(mode, "server.crt"))).await,
                Ok(true),
                "{mode}"
            );
            assert!(outcome(&before(&server, SESSION, &leg(mode, "ca.crt"))).await.is_err(), "{mode}");
        }
    });
}

/// A server made of bytes that says `answer` to each request for TLS.
fn answering(answer: &'static [u8]) -> (u16, std::sync::mpsc::Receiver<Vec<u8>>) {
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8];
            std::io::Read::read_exact(&mut stream, &mut request).unwrap();
            std::io::Write::write_all(&mut stream, answer).unwrap();
            let mut rest = Vec::new();
            // However it ends.
            let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
            if heard.send(rest).is_err() {
                return;
            }
        }
    });
    (port, hears)
}

fn before_port(port: u16, leg: &str) -> Pond {
    let source = format!(
        "[data_source.\"*\"]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"postgres\"\npassword = \"top\""
    );
    Pond::of(SESSION, "anybody", &format!("{leg}\n{source}"))
}

#[test]
fn bytes_that_a_server_sends_in_clear_behind_its_answer_never_count() {
    // CVE-2021-23222: an injected answer to the first query.
    run(async {
        let injected: &[u8] = b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
        for answer in [injected, b"NR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", b"SS", b"X", b"R\0\0\0\x08\0\0\0\0"] {
            for mode in ["prefer", "require"] {
                let (port, hears) = answering(answer);
                let pond = before_port(port, &format!("server_tls = \"{mode}\"\nconnect_timeout = \"5s\""));
                let login = tokio::spawn(async move { pond.login().connect(NoTls).await.map(|_| ()) });
                let rest = tokio::task::spawn_blocking(move || hears.recv().unwrap()).await.unwrap();
                assert!(!rest.windows(8).any(|part| part == b"postgres"), "{answer:?}: {rest:?}");
                login.abort();
            }
        }
    });
}

#[test]
fn what_a_server_says_instead_of_an_answer_to_the_request_for_tls_is_shown_to_nobody() {
    // CVE-2024-10977: libpq showed the text of an error that anybody could have sent.
    run(async {
        let error: &[u8] = b"E\0\0\0\x25SFATAL\0C28000\0Mcall 555-0100 now\0\0";
        for mode in ["prefer", "require", "verify-full"] {
            let (port, hears) = answering(error);
            let authority = Authority::new();
            let ca = authority.path("ca.crt");
            let leg = format!("server_tls = \"{mode}\"\nserver_tls_ca_file = \"{ca}\"");
            let pond = before_port(port, &leg);
            let mut login = pond.login();
            let login = tokio::spawn(async move {
                login.connect_timeout(crate::pond::LIMIT).connect(NoTls).await.map(|_| ())
            });
            let rest = tokio::task::spawn_blocking(move || hears.recv().unwrap()).await.unwrap();
            assert!(rest.is_empty(), "{mode}: {rest:?}");
            until("it is known", async || {
                pond.snapshot().await.pools.iter().any(|row| row.last_error.is_some())
            })
            .await;
            let said = format!("{:?}", pond.snapshot().await.pools[0].last_error);
            assert!(said.contains("TLS") && !said.contains("555"), "{mode}: {said}");
            login.abort();
        }
    });
}

/// Before [`secured`], for clients by SCRAM with a users file; the folder must outlive it.
fn bound(way: Way, leg: &str) -> (Pond, tempfile::TempDir) {
    let (server, _) = secured();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), "\"anybody\" \"secret\"\n").unwrap();
    let text = format!(
        "auth_type = \"scram-sha-256\"\nauth_file = \"users\"\nadmin_users = [\"anybody\"]\n{leg}\n[data_source.\"*\"]
         host = \"{}\"\nport = {}\nuser = \"postgres\"\npassword = \"top\"",
        server.host(),
        server.port()
    );
    (Pond::within(folder.path(), way, "anybody", &text), folder)
}

#[test]
fn a_client_gets_the_binding_it_wants_or_is_told_that_there_is_none() {
    run(async {
        let (_, authority) = secured();
        for way in [SESSION, TRANSACTION, Way { workers: 2, ..TRANSACTION }] {
            let (pond, _folder) = bound(way, &authority.settings("allow", "pond"));
            for database in ["postgres", "headpond"] {
                for (binding, mode, gets_in) in [
                    ("disable", "disable", true),
                    ("disable", "require", true),
                    ("prefer", "disable", true),
                    ("prefer", "require", true),
                    ("require", "require", true),
                    ("require", "disable", false),
                ] {
                    let environment = [("PGPASSWORD", "secret"), ("PGCHANNELBINDING", binding)];
                    let got =
                        psql(program(&pond, "psql", &["-d", database]), mode, &environment, "SHOW VERSION");
                    // PostgreSQL has no such setting, but says so to whoever is in.
                    let in_there = !matches!(&got, Err(why) if why.contains("connection to server"));
                    assert_eq!(in_there, gets_in, "{database} {binding} {mode}: {got:?}");
                }
            }
        }
    });
}

#[test]
fn a_client_that_was_robbed_of_the_offer_to_bind_is_refused() {
    // The class of CVE-2025-49146: whoever stands between takes PLUS out of the list.
    run(async {
        let (_, authority) = secured();
        let (pond, _folder) = bound(SESSION, &authority.settings("require", "pond"));
        for (mechanism, binding, words) in [
            (MECHANISM, Binding::Declined, "saw no offer"),
            (MECHANISM_PLUS, Binding::None, "asks for no channel binding"),
            (MECHANISM, Binding::EndPoint(b"hash"), "without channel binding"),
        ] {
            let mut raw = raw_in_tls(pond.address());
            raw.send_startup(VERSION_3_0, &[("user", "anybody"), ("database", "postgres")]);
            let offer = raw.receive().unwrap();
            assert!(offer.body.windows(19).any(|part| part == b"SCRAM-SHA-256-PLUS\0"), "{offer:?}");
            let (_, first) = ClientRole::bound("abcdefgh", binding);
            let length = u32::try_from(first.len()).unwrap().to_be_bytes();
            raw.send(&message(b'p', &[mechanism.as_bytes(), b"\0", &length, &first].concat()));
            let answer = raw.until_end();
            assert_eq!(tags(&answer), "E");
            assert!(answer[0].field('M').contains(words), "{:?}", answer[0].field('M'));
        }
    });
}

/// A server made of bytes, in TLS, up to what it hears when it offers these mechanisms.
fn offers(server: &TcpListener, authority: &Authority, mechanisms: &[u8]) -> Option<Vec<u8>> {
    let chain = CertificateDer::pem_file_iter(authority.file("server.crt")).unwrap();
    let chain: Vec<_> = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("server.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let mut raw = Raw::of(server.accept().unwrap().0);
    raw.first_packet();
    raw.send(b"S");
    let mut raw = raw.shake_hands(Connection::from(ServerConnection::new(config).unwrap())).unwrap();
    raw.first_packet();
    raw.send(&message(b'R', &[&[0, 0, 0, 10], mechanisms, &[0]].concat()));
    raw.receive().ok().map(|message| message.body)
}

#[test]
fn a_server_that_offers_no_binding_hears_that_we_could_or_nothing_if_we_must() {
    run(async {
        let authority = Authority::new();
        authority.issue("server", "server", &["127.0.0.1"], 100);
        for (binding, mechanisms, begins) in [
            ("prefer", &b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0"[..], Some("p=tls-server-end-point,,")),
            ("prefer", b"SCRAM-SHA-256\0", Some("y,,")),
            ("disable", b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", Some("n,,")),
            ("require", b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", Some("p=tls-server-end-point,,")),
            ("require", b"SCRAM-SHA-256\0", None),
        ] {
            let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            let pond = before_port(
                port,
                &format!("server_tls = \"require\"\nserver_channel_binding = \"{binding}\""),
            );
            let login = pond.login();
            let login = tokio::spawn(async move { login.connect(NoTls).await.map(|_| ()) });
            let heard = tokio::task::block_in_place(|| offers(&server, &authority, mechanisms));
            let text = heard.map(|body| String::from_utf8_lossy(&body).into_owned());
            match (begins, text) {
                (None, None) => {}
                (Some(begins), Some(text)) => assert!(text.contains(begins), "{binding}: {text}"),
                (_, text) => panic!("{binding}: {text:?}"),
            }
            login.abort();
        }
    });
}

#[test]
fn a_server_that_understands_it_is_reached_by_direct_tls() {
    // PostgreSQL does from version 17 on; another Headpond does, too.
    run(async {
        let (server, authority) = secured();
        let near = before(server, TRANSACTION, &authority.settings("require", "pond"));
        for way in ways() {
            let (port, ca) = (near.address().port(), authority.path("ca.crt"));
            let text = format!(
                "server_tls = \"verify-full\"\nserver_tls_ca_file = \"{ca}\"\nserver_tls_negotiation = \"direct\"
                 [data_source.\"*\"]\nhost = \"localhost\"\nport = {port}"
            );
            let pond = Pond::of(way, "anybody", &text);
            let client = pond.client().await;
            assert_eq!(value(&client, "SELECT 40 + 2").await, "42", "{way:?}");
            let snapshot = pond.snapshot().await;
            assert!(snapshot.servers.iter().all(|server| server.tls.as_ref().is_some_and(|tls| tls.agreed)));
            // A statement there is cancelled the same way.
            let cancel = client.cancel_token();
            let sleep = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND wait_event = 'PgSleep'";
            until("it sleeps", async || as_postgres(server, sleeping) != "0").await;
            cancel.cancel_query(NoTls).await.unwrap();
            let ended = sleep.await.unwrap();
            assert_eq!(crate::pond::code(ended), tokio_postgres::error::SqlState::QUERY_CANCELED, "{way:?}");
        }
    });
}
