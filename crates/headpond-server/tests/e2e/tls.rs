//! TLS with clients: who gets in how, and what does not count. With servers: `tls_servers`.

use std::process::Command;

use crate::pond::{Pond, SESSION, Way, run, until, ways};
use crate::programs::program;
use crate::raw::{Raw, VERSION_3_0, message, packet, tags};
use crate::secure::{Authority, SSL, handshake, psql, raw_in_tls};

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Before the shared database, with a certificate for `localhost` and 127.0.0.1.
async fn secure(authority: &Authority, way: Way, mode: &str, more: &str) -> Pond {
    if !authority.file("pond.crt").exists() {
        authority.issue("pond", "localhost", &["localhost", "127.0.0.1"], 100);
        authority.issue("client", "a client", &[], 100);
    }
    Pond::new(way, &format!("{}{more}", authority.settings(mode, "pond")), "").await
}

/// `psql` in this mode: whether it is encrypted, or what it says if it does not get in.
fn outcome(pond: &Pond, mode: &str, environment: &[(&str, &str)]) -> Result<bool, String> {
    psql(program(pond, "psql", &[]), mode, environment, "\\conninfo")
        // psql 18 has a table of it.
        .map(|said| said.contains("SSL connection") || said.contains("SSL Connection|true"))
}

#[test]
fn each_sslmode_of_libpq_meets_each_mode_for_clients() {
    run(async {
        let authority = Authority::new();
        authority.issue("pond", "localhost", &["localhost", "127.0.0.1"], 100);
        authority.issue("client", "a client", &[], 100);
        let (ca, cert, key) =
            (authority.path("ca.crt"), authority.path("client.crt"), authority.path("client.key"));
        let own = [("PGSSLROOTCERT", &*ca)];
        let with_certificate = [own[0], ("PGSSLCERT", &cert), ("PGSSLKEY", &key)];
        for ours in MODES {
            let verify = format!("client_tls_ca_file = \"{ca}\"\n");
            let verify = if ours.starts_with("verify") { &*verify } else { "" };
            let pond = secure(&authority, SESSION, ours, verify).await;
            for theirs in MODES {
                let got = outcome(&pond, theirs, &own);
                let (offered, demanded) =
                    (ours != "disable", ["require", "verify-ca", "verify-full"].contains(&ours));
                let expected = match theirs {
                    _ if ours.starts_with("verify") => None,
                    "disable" => (!demanded).then_some(false),
                    // It tries in clear first, and by TLS if that is refused.
                    "allow" => Some(demanded),
                    "prefer" => Some(offered),
                    _ => offered.then_some(true),
                };
                assert_eq!(got.as_ref().ok(), expected.as_ref(), "{ours} {theirs}: {got:?}");
                if ["require", "verify-ca", "verify-full"].contains(&theirs) {
                    // What libpq 17 and newer know, and older ones pass over.
                    let got = outcome(&pond, theirs, &[own[0], ("PGSSLNEGOTIATION", "direct")]);
                    assert_eq!(got.as_ref().ok(), expected.as_ref(), "{ours} {theirs}, direct: {got:?}");
                }
                let got = outcome(&pond, theirs, &with_certificate);
                let expected =
                    if ours.starts_with("verify") { (theirs != "disable").then_some(true) } else { expected };
                assert_eq!(
                    got.as_ref().ok(),
                    expected.as_ref(),
                    "{ours} {theirs}, with a certificate: {got:?}"
                );
            }
        }
    });
}

#[test]
fn whoever_shows_a_certificate_of_a_stranger_is_refused_and_the_name_is_that_of_the_host() {
    run(async {
        let (authority, stranger) = (Authority::new(), Authority::new());
        stranger.issue("client", "a client", &[], 100);
        let ca = authority.path("ca.crt");
        let pond =
            secure(&authority, SESSION, "verify-ca", &format!("client_tls_ca_file = \"{ca}\"\n")).await;
        let (cert, key) = (stranger.path("client.crt"), stranger.path("client.key"));
        let got = outcome(&pond, "require", &[("PGSSLCERT", &cert), ("PGSSLKEY", &key)]);
        assert!(got.is_err(), "{got:?}");
        let pond = secure(&authority, SESSION, "require", "").await;
        // Trusted is another authority; or the certificate is for another host.
        assert!(outcome(&pond, "verify-ca", &[("PGSSLROOTCERT", &stranger.path("ca.crt"))]).is_err());
        authority.issue("other", "other.example", &["other.example"], 100);
        let other = Pond::new(SESSION, &authority.settings("require", "other"), "").await;
        assert_eq!(outcome(&other, "verify-ca", &[("PGSSLROOTCERT", &ca)]), Ok(true));
        assert!(outcome(&other, "verify-full", &[("PGSSLROOTCERT", &ca)]).is_err());
    });
}

#[test]
fn everything_goes_through_tls_as_it_does_without() {
    run(async {
        let authority = Authority::new();
        for way in ways() {
            for protocols in ["tlsv1.2", "tlsv1.3"] {
                let more = format!("client_tls_protocols = \"{protocols}\"\n");
                let pond = secure(&authority, way, "require", &more).await;
                let mut raw = raw_in_tls(pond.address());
                raw.log_in(&pond.user);
                assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ", "{way:?}");
                // Larger than any buffer, there and back.
                let text = "x".repeat(3_000_000);
                let answer = raw.query(&format!("SELECT '{text}'"));
                assert!(answer[1].body.ends_with(text.as_bytes()), "{way:?}");
                // Many small ones, none of them read before all are sent.
                for number in 0..500 {
                    raw.send_query(&format!("SELECT {number}, repeat('y', {})", number * 100));
                }
                for number in 0..500 {
                    let answer = raw.until_ready();
                    assert_eq!(answer[1].body.len(), 10 + number.to_string().len() + number * 100, "{way:?}");
                }
                let snapshot = pond.snapshot().await;
                let shown = snapshot.clients.iter().filter_map(|client| client.tls.as_ref());
                let versions: Vec<_> = shown.map(|tls| tls.version.to_lowercase()).collect();
                assert_eq!(versions, [protocols], "{way:?}");
                pond.assert_in_step().await;
            }
        }
    });
}

#[test]
fn bytes_that_a_client_sends_in_clear_before_the_handshake_never_count() {
    // CVE-2021-23214, CVE-2021-3935: an injected query ran when the client had logged in.
    run(async {
        let authority = Authority::new();
        for mode in ["allow", "require"] {
            let pond = secure(&authority, SESSION, mode, "").await;
            let startup =
                packet(VERSION_3_0, format!("user\0{}\0database\0postgres\0\0", pond.user).as_bytes());
            let query = message(b'Q', b"CREATE TABLE injected ()\0");
            for injected in [&startup[..], &query, b"\0", &[startup.clone(), query.clone()].concat()] {
                // In one flight with the request.
                let mut raw = Raw::connect(pond.address());
                raw.send(&[&packet(SSL, b""), injected].concat());
                let answer = raw.until_end();
                assert_eq!((tags(&answer).as_str(), &*answer[0].field('C')), ("E", "08P01"), "{mode}");
                // Or between the answer and the handshake.
                let mut raw = Raw::connect(pond.address());
                raw.send_packet(SSL, b"");
                assert_eq!(raw.receive_byte(), b'S');
                raw.send(injected);
                assert!(raw.shake_hands(handshake(None)).is_err(), "{mode}");
            }
            assert!(
                psql(program(&pond, "psql", &[]), "require", &[], "SELECT 'injected'::regclass").is_err()
            );
        }
    });
}

#[test]
fn direct_tls_needs_alpn_and_nothing_else_may_be_agreed_on() {
    run(async {
        let authority = Authority::new();
        for way in ways() {
            let pond = secure(&authority, way, "allow", "").await;
            let mut raw = Raw::connect(pond.address()).shake_hands(handshake(Some(b"postgresql"))).unwrap();
            assert_eq!(raw.tls().alpn_protocol(), Some(&b"postgresql"[..]));
            raw.log_in(&pond.user);
            assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ", "{way:?}");
            // Without it the client may believe to speak to somebody else.
            let mut raw = Raw::connect(pond.address()).shake_hands(handshake(None)).unwrap();
            let answer = raw.until_end();
            assert_eq!((tags(&answer).as_str(), &*answer[0].field('C')), ("E", "08P01"), "{way:?}");
            assert!(Raw::connect(pond.address()).shake_hands(handshake(Some(b"http/1.1"))).is_err());
            // Where it was asked for, there is no doubt.
            let mut raw = Raw::connect(pond.address());
            raw.send_packet(SSL, b"");
            assert_eq!(raw.receive_byte(), b'S');
            let mut raw = raw.shake_hands(handshake(Some(b"postgresql"))).unwrap();
            raw.log_in(&pond.user);
        }
        let pond = secure(&authority, SESSION, "disable", "").await;
        assert!(Raw::connect(pond.address()).shake_hands(handshake(Some(b"postgresql"))).is_err());
    });
}

#[test]
fn tls_inside_tls_is_refused() {
    run(async {
        let authority = Authority::new();
        let pond = secure(&authority, SESSION, "allow", "").await;
        let mut raw = raw_in_tls(pond.address());
        raw.send_packet(SSL, b"");
        assert_eq!(tags(&raw.until_end()), "E");
    });
}

#[test]
fn a_handshake_that_never_ends_is_given_up_and_holds_nobody_up() {
    run(async {
        let authority = Authority::new();
        let pond = secure(&authority, SESSION, "require", "client_login_timeout = \"500ms\"\n").await;
        let silent: Vec<_> = (0..50)
            .map(|_| {
                let mut raw = Raw::connect(pond.address());
                raw.send_packet(SSL, b"");
                assert_eq!(raw.receive_byte(), b'S');
                // The beginning of a ClientHello.
                raw.send(&[0x16, 3, 1, 2, 0, 1]);
                raw
            })
            .collect();
        let mut raw = raw_in_tls(pond.address());
        raw.log_in(&pond.user);
        for mut raw in silent {
            assert!(raw.until_end().is_empty());
        }
        assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ");
        until("all are gone", async || pond.snapshot().await.clients_logging_in == 0).await;
    });
}

#[test]
fn a_console_in_tls_is_a_console() {
    run(async {
        let authority = Authority::new();
        for way in ways() {
            let pond = secure(&authority, way, "require", "").await;
            let console = |mode, statement| {
                let psql_to = program(&pond, "psql", &["-d", "headpond"]);
                psql(psql_to, mode, &[], statement)
            };
            assert!(console("require", "SHOW CONFIG").unwrap().lines().count() > 20, "{way:?}");
            assert!(console("disable", "SHOW HELP").unwrap_err().contains("client_tls"), "{way:?}");
        }
    });
}

#[test]
fn a_cancel_request_is_heard_in_tls_and_in_clear() {
    run(async {
        let authority = Authority::new();
        for way in ways() {
            let pond = secure(&authority, way, "require", "").await;
            for in_tls in [true, false] {
                let mut raw = raw_in_tls(pond.address());
                let welcome = raw.log_in(&pond.user);
                let key = welcome.iter().find(|message| message.tag == b'K').unwrap().body.clone();
                raw.send_query("SELECT pg_sleep(600)");
                pond.until_in("PgSleep").await;
                // libpq before version 17 sends it in clear, wherever its connection was.
                let mut cancel =
                    if in_tls { raw_in_tls(pond.address()) } else { Raw::connect(pond.address()) };
                cancel.send_packet(80_877_102, &key);
                let answer = raw.until_ready();
                assert_eq!(tags(&answer), "TEZ", "{way:?} {in_tls}");
                assert_eq!(&*answer[1].field('C'), "57014", "{way:?} {in_tls}");
            }
        }
    });
}

fn reload(pond: &Pond) -> Command {
    program(pond, "psql", &["-d", "headpond", "-c", "RELOAD"])
}

#[test]
fn a_reload_shows_the_new_certificate_to_whoever_comes_and_drops_nobody() {
    run(async {
        let authority = Authority::new();
        authority.issue("pond", "localhost", &["localhost", "127.0.0.1"], 100);
        let user = crate::database::database().user().await;
        let server = &crate::database::database().server;
        let file = authority.file("headpond.toml");
        let text = format!(
            "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"127.0.0.1:26480\"\nadmin_users = [\"{user}\"]\n{}
             [data_source.\"*\"]\nhost = \"{}\"\nport = {}",
            authority.settings("require", "pond"),
            server.host(),
            server.port()
        );
        std::fs::write(&file, text).unwrap();
        let pond = Pond::from_file(&file, &user);
        let shown = || {
            let raw = raw_in_tls(pond.address());
            raw.tls().peer_certificates().unwrap()[0].to_vec()
        };
        let mut early = raw_in_tls(pond.address());
        early.log_in(&user);
        let before = shown();
        assert_eq!(before, shown());
        authority.issue("pond", "localhost", &["localhost", "127.0.0.1"], 50);
        assert_eq!(before, shown(), "nothing changes by itself");
        crate::programs::succeed(reload(&pond));
        until("the new one", async || shown() != before).await;
        assert_eq!(tags(&early.query("SELECT 1")), "TDCZ");
        // One that cannot be read leaves everything as it is.
        let now = shown();
        std::fs::write(authority.file("pond.crt"), "nonsense").unwrap();
        assert!(!reload(&pond).output().unwrap().status.success());
        assert_eq!(now, shown());
        assert_eq!(tags(&early.query("SELECT 1")), "TDCZ");
    });
}

#[test]
fn when_certificates_expire_is_on_the_console_and_in_the_metrics_and_one_that_has_is_refused() {
    run(async {
        let authority = Authority::new();
        authority.issue("old", "an old client", &[], 1);
        let ca = authority.path("ca.crt");
        let more = format!("client_tls_ca_file = \"{ca}\"\n");
        let pond = secure(&authority, SESSION, "allow", &more).await;
        let rows =
            psql(program(&pond, "psql", &["-d", "headpond"]), "require", &[], "SHOW CERTIFICATES").unwrap();
        let rows: Vec<Vec<_>> = rows.lines().map(|line| line.split('|').collect()).collect();
        let ours = rows.iter().find(|row| row[0] == "client_tls_cert_file").unwrap();
        assert_eq!(ours[1..4], [&*authority.path("pond.crt"), "localhost", "2120-01-01 00:00:00 UTC"]);
        assert!(rows.iter().any(|row| row[0] == "client_tls_ca_file" && row[2] == "an authority"));
        let metrics = crate::web::get(&pond, "/metrics");
        let metric = "headpond_certificate_not_after_seconds{setting=\"client_tls_cert_file\"";
        let line = metrics.lines().find(|line| line.starts_with(metric)).unwrap();
        assert!(line.ends_with(" 4733510400"), "{line}");
        let (cert, key) = (authority.path("old.crt"), authority.path("old.key"));
        assert!(outcome(&pond, "require", &[("PGSSLCERT", &cert), ("PGSSLKEY", &key)]).is_err());
        assert_eq!(outcome(&pond, "require", &[]), Ok(true));
    });
}

#[test]
fn keys_may_be_changed_at_any_time() {
    run(async {
        let authority = Authority::new();
        for way in ways() {
            let pond = secure(&authority, way, "require", "client_tls_protocols = \"tlsv1.3\"\n").await;
            let mut raw = raw_in_tls(pond.address());
            raw.log_in(&pond.user);
            for _ in 0..20 {
                raw.change_keys();
                raw.send_query("SELECT repeat('k', 100000)");
                raw.change_keys();
                raw.change_keys();
                assert_eq!(raw.until_ready()[1].body.len(), 100_006, "{way:?}");
            }
        }
    });
}

#[test]
fn who_says_goodbye_by_tls_still_gets_its_answers() {
    run(async {
        let authority = Authority::new();
        for way in ways() {
            for protocols in ["tlsv1.2", "tlsv1.3"] {
                let more = format!("client_tls_protocols = \"{protocols}\"\n");
                let pond = secure(&authority, way, "require", &more).await;
                let mut raw = raw_in_tls(pond.address());
                raw.log_in(&pond.user);
                raw.send_query("SELECT pg_sleep(0.05)");
                raw.say_goodbye();
                let answer: String = tags(&raw.until_end()).replace('S', "");
                assert_eq!(answer, "TDCZ", "{way:?} {protocols}");
                until("it is gone", async || pond.snapshot().await.clients_logged_in == 0).await;
            }
        }
    });
}
