//! Logins that are bound to their TLS connection, on either leg.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;

use headpond_wire::postgres::scram::{Binding, ClientRole, MECHANISM, MECHANISM_PLUS};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Connection, ServerConfig, ServerConnection};
use tokio_postgres::NoTls;

use crate::pond::{Pond, SESSION, TRANSACTION, Way, run};
use crate::programs::program;
use crate::raw::{Raw, VERSION_3_0, message, tags};
use crate::secure::{Authority, psql, raw_in_tls};
use crate::tls_servers::{before_port, secured};

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
