//! What the machine asks of its driver, in each mode and for each answer.

use std::time::Duration;

use headpond_core::PoolSettings;
use headpond_wire::postgres::encode::{self, Report as Fields, Severity};

use super::*;
use crate::config::{ChannelBinding, DataSource, PoolMode, PoolerConfig, Secret};

const MODES: [TlsMode; 6] = [
    TlsMode::Disable,
    TlsMode::Allow,
    TlsMode::Prefer,
    TlsMode::Require,
    TlsMode::VerifyCa,
    TlsMode::VerifyFull,
];

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// The machine, and what it has asked for.
struct Play {
    pooler: Pooler,
    out: Actions,
    now: Tick,
}

/// What was asked for, with the bytes that were sent.
#[derive(Debug, PartialEq)]
enum Asked {
    Connect(Link),
    Send(Link, Vec<u8>),
    Handshake(Link),
    Close(Link),
}

impl Play {
    fn new(client: TlsMode, server: ServerTls) -> Self {
        let node = NodeAddress::Tcp { host: "db".to_owned(), port: 5432 };
        let pool = PoolSettings { check: false, ..PoolSettings::on_demand() };
        let source = DataSource {
            tls: server,
            user: Some("service".to_owned()),
            password: Some(Secret("secret".to_owned())),
            ..DataSource::new("shop", node, PoolMode::Transaction, pool)
        };
        let config = PoolerConfig { client_tls: client, ..PoolerConfig::new(vec![source]) };
        Self { pooler: Pooler::new(config.into(), 0, 1, [7; 32]), out: Actions::default(), now: Tick(0) }
    }

    /// With servers reached like this.
    fn before(mode: TlsMode) -> Self {
        Self::new(TlsMode::Disable, ServerTls { mode, ..ServerTls::NONE })
    }

    fn asked(&mut self) -> Vec<Asked> {
        let asked = self.out.list.drain(..).filter_map(|action| match action {
            Action::Connect { link, .. } => Some(Asked::Connect(link)),
            Action::Send { to, from, len } => {
                let bytes = &self.out.injected[from as usize..(from + len) as usize];
                Some(Asked::Send(to, bytes.to_vec()))
            }
            Action::AcceptTls(client) => Some(Asked::Handshake(Link::Client(client))),
            Action::StartTls { link, .. } => Some(Asked::Handshake(link)),
            Action::Close(link) => Some(Asked::Close(link)),
            _ => None,
        });
        let asked = asked.collect();
        self.out.injected.clear();
        asked
    }

    fn comes(&mut self) -> Link {
        let peer = Some(([127, 0, 0, 1], 7).into());
        Link::Client(self.pooler.accepted(self.now, peer, false))
    }

    fn says(&mut self, link: Link, bytes: &[u8]) -> Vec<Asked> {
        let _ = self.pooler.received(self.now, link, bytes, &mut self.out);
        self.asked()
    }

    fn shakes(&mut self, link: Link, tls: Tls) -> Vec<Asked> {
        assert!(self.pooler.awaits_handshake(link));
        self.pooler.handshaken(self.now, link, &Arc::new(tls), &mut self.out);
        self.asked()
    }

    fn fails(&mut self, link: Link, why: NoTls) -> Vec<Asked> {
        self.pooler.handshake_failed(self.now, link, why, &mut self.out);
        self.asked()
    }

    fn connects(&mut self, link: Link) -> Vec<Asked> {
        self.pooler.connected(self.now, link, &mut self.out);
        self.asked()
    }

    /// The link that is to cancel what a server runs.
    fn cancels(&mut self, server: Link) -> Link {
        let Link::Server(id) = server else { panic!("{server:?} is no server") };
        self.pooler.start_cancel(self.now, id, None, &mut self.out);
        let asked = self.asked();
        let Some(Asked::Connect(cancel)) = asked.first() else { panic!("{asked:?}") };
        *cancel
    }

    /// A client whose login waits for the first server connection; what is asked of that once it is connected.
    fn opens(&mut self) -> (Link, Link, Vec<Asked>) {
        let client = self.comes();
        let asked = self.says(client, &hello());
        let Some(Asked::Connect(server)) = asked.first() else { panic!("{asked:?}") };
        let server = *server;
        let asked = self.connects(server);
        (client, server, asked)
    }
}

fn hello() -> Vec<u8> {
    written(|out| startup::encode(out, [("user", "ann"), ("database", "shop")].into_iter()))
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn tls() -> Tls {
    let end_point = Some([7; 32].into());
    Tls { version: "TLSv1.3", cipher: "", agreed: true, end_point, common_name: None }
}

/// Whether the startup packet went to a link.
fn starts_up(asked: &[Asked], link: Link) -> bool {
    let is_startup = |bytes: &Vec<u8>| bytes.windows(8).any(|part| part == b"service\0");
    asked.iter().any(|asked| matches!(asked, Asked::Send(to, bytes) if *to == link && is_startup(bytes)))
}

fn fatal(sqlstate: &str) -> Vec<u8> {
    written(|out| encode::error_response(out, &Fields::new(Severity::Fatal, sqlstate, "no")))
}

/// Lets a login go through from its startup packet on, as a server that trusts.
fn lets_in(play: &mut Play, server: Link) -> Vec<Asked> {
    let welcome = written(|out| {
        encode::authentication_ok(out);
        encode::backend_key_data(out, 42, &[1; 4]);
        encode::ready_for_query(out, b'I');
    });
    play.says(server, &welcome)
}

#[test]
fn a_client_comes_in_clear_or_by_tls_as_its_mode_says() {
    for mode in MODES {
        // In clear.
        let mut play = Play::new(mode, ServerTls::NONE);
        let client = play.comes();
        let gets_in = matches!(play.says(client, &hello())[0], Asked::Connect(_));
        assert_eq!(gets_in, mode < TlsMode::Require, "{mode:?}");
        // By TLS that it asks for.
        let mut play = Play::new(mode, ServerTls::NONE);
        let client = play.comes();
        let offered = mode != TlsMode::Disable;
        let asked = play.says(client, SSL_REQUEST);
        assert_eq!(asked[0], Asked::Send(client, vec![if offered { b'S' } else { b'N' }]), "{mode:?}");
        assert_eq!(asked.get(1), offered.then_some(&Asked::Handshake(client)), "{mode:?}");
        if offered {
            assert!(play.shakes(client, tls()).is_empty());
            assert!(matches!(play.says(client, &hello())[0], Asked::Connect(_)), "{mode:?}");
        }
        // By TLS at once, with and without ALPN.
        for agreed in [true, false] {
            let mut play = Play::new(mode, ServerTls::NONE);
            let client = play.comes();
            let asked = play.says(client, &[startup::TLS_HANDSHAKE, 3, 1]);
            assert_eq!(asked.contains(&Asked::Handshake(client)), offered, "{mode:?}");
            if offered {
                let asked = play.shakes(client, Tls { agreed, ..tls() });
                assert_eq!(asked.contains(&Asked::Close(client)), !agreed, "{mode:?}");
            }
        }
    }
}

#[test]
fn what_a_client_sends_behind_its_request_for_tls_ends_it() {
    for injected in [&hello()[..], b"\0", &[startup::TLS_HANDSHAKE]] {
        let mut play = Play::new(TlsMode::Allow, ServerTls::NONE);
        let client = play.comes();
        let asked = play.says(client, &[SSL_REQUEST, injected].concat());
        assert!(
            asked.contains(&Asked::Close(client)) && !asked.contains(&Asked::Handshake(client)),
            "{asked:?}"
        );
        assert!(!asked.contains(&Asked::Send(client, vec![b'S'])));
    }
}

#[test]
fn a_handshake_that_comes_back_too_late_is_for_nobody() {
    let mut play = Play::new(TlsMode::Require, ServerTls::NONE);
    let client = play.comes();
    play.says(client, SSL_REQUEST);
    play.now = play.now.plus(Duration::from_secs(61));
    play.pooler.on_timer(play.now, &mut play.out);
    assert!(play.asked().contains(&Asked::Close(client)));
    assert!(!play.pooler.awaits_handshake(client));
    assert!(play.fails(client, NoTls::Network("late".to_owned())).is_empty());
    // So is one that failed: the client is told nothing, for its socket is gone.
    let client = play.comes();
    play.says(client, SSL_REQUEST);
    assert_eq!(play.fails(client, NoTls::Refused("no".to_owned())), [Asked::Close(client)]);
    assert!(play.pooler.is_empty());
}

#[test]
fn a_server_is_asked_for_tls_and_its_answer_taken_as_the_mode_says() {
    for mode in MODES {
        let (_, server, asked) = Play::before(mode).opens();
        let asks = mode > TlsMode::Allow;
        assert_eq!(asked[0] == Asked::Send(server, SSL_REQUEST.to_vec()), asks, "{mode:?}");
        assert_eq!(starts_up(&asked, server), !asks, "{mode:?}");
        if !asks {
            continue;
        }
        for (answer, goes_on) in [
            (&b"S"[..], true),
            (b"N", mode == TlsMode::Prefer),
            (b"E", false),
            (b"SS", false),
            (b"NR", false),
            (b"S\x16", false),
            (b"R\0\0\0\x08\0\0\0\0", false),
        ] {
            let mut play = Play::before(mode);
            let (_, server, _) = play.opens();
            let asked = play.says(server, answer);
            assert_eq!(asked.contains(&Asked::Handshake(server)), answer == b"S", "{mode:?} {answer:?}");
            assert_eq!(starts_up(&asked, server), goes_on && answer == b"N", "{mode:?} {answer:?}");
            assert_eq!(asked.contains(&Asked::Close(server)), !goes_on, "{mode:?} {answer:?}");
            if answer == b"S" {
                assert!(starts_up(&play.shakes(server, tls()), server), "{mode:?}");
            }
        }
    }
}

#[test]
fn a_server_whose_handshake_fails_is_tried_in_clear_only_where_that_will_do() {
    for mode in &MODES[2..] {
        for why in [NoTls::Network("gone".to_owned()), NoTls::Refused("expired".to_owned())] {
            let mut play = Play::before(*mode);
            let (_, server, _) = play.opens();
            play.says(server, b"S");
            let asked = play.fails(server, why);
            assert!(asked.contains(&Asked::Close(server)), "{mode:?}");
            let second = asked.iter().find_map(|asked| match asked {
                Asked::Connect(link) => Some(*link),
                _ => None,
            });
            assert_eq!(second.is_some(), *mode == TlsMode::Prefer, "{mode:?} {asked:?}");
            let Some(second) = second else { continue };
            assert!(starts_up(&play.connects(second), second));
            lets_in(&mut play, second);
            assert!(play.pooler.servers.iter().any(|(_, server)| matches!(server.state, ServerState::Live)));
        }
    }
}

#[test]
fn a_login_that_is_refused_unasked_is_tried_the_other_way_once_the_server_has_let_go() {
    for (mode, sqlstate, second_is_tls) in [
        (TlsMode::Allow, "28000", Some(true)),
        (TlsMode::Prefer, "28000", Some(false)),
        (TlsMode::Require, "28000", None),
        (TlsMode::Disable, "28000", None),
        (TlsMode::Allow, "28P01", None),
        (TlsMode::Prefer, "53300", None),
    ] {
        let mut play = Play::before(mode);
        let (_, server, _) = play.opens();
        if mode > TlsMode::Allow {
            play.says(server, b"S");
            play.shakes(server, tls());
        }
        let asked = play.says(server, &fatal(sqlstate));
        assert!(!asked.iter().any(|asked| matches!(asked, Asked::Connect(_))), "{mode:?}: {asked:?}");
        play.pooler.closed(play.now, server, "the peer closed the connection", &mut play.out);
        let asked = play.asked();
        let connects = |asked: &Asked| match asked {
            Asked::Connect(link @ Link::Server(_)) => Some(*link),
            _ => None,
        };
        let second = asked.iter().find_map(connects);
        assert_eq!(second.is_some(), second_is_tls.is_some(), "{mode:?} {sqlstate}: {asked:?}");
        let (Some(second), Some(is_tls)) = (second, second_is_tls) else { continue };
        let asked = play.connects(second);
        assert_eq!(asked[0] == Asked::Send(second, SSL_REQUEST.to_vec()), is_tls, "{mode:?}");
        if is_tls {
            play.says(second, b"S");
            play.shakes(second, tls());
        }
        // There is no third way.
        play.says(second, &fatal("28000"));
        play.pooler.closed(play.now, second, "the peer closed the connection", &mut play.out);
        assert!(play.asked().iter().find_map(connects).is_none(), "{mode:?}");
    }
}

/// The same configuration, but for what `change` does to its data source, or without it.
fn reloads(play: &mut Play, change: Option<impl FnOnce(&mut DataSource)>) {
    let mut config = play.pooler.config.as_ref().clone();
    match change {
        None => config.data_sources.clear(),
        Some(change) => change(&mut config.data_sources[0]),
    }
    play.pooler.reload(play.now, config.into(), &mut play.out);
}

fn second_of(asked: &[Asked]) -> Link {
    let second = asked.iter().find_map(|asked| match asked {
        Asked::Connect(link @ Link::Server(_)) => Some(*link),
        _ => None,
    });
    second.expect("a second try")
}

#[test]
fn a_second_try_goes_in_tls_if_it_has_been_demanded_meanwhile() {
    for (demanded, goes_in_tls) in [(TlsMode::VerifyFull, true), (TlsMode::Disable, false)] {
        for first in [TlsMode::Allow, TlsMode::Prefer] {
            let mut play = Play::before(first);
            let (_, server, _) = play.opens();
            if first == TlsMode::Prefer {
                play.says(server, b"S");
                play.shakes(server, tls());
            }
            play.says(server, &fatal("28000"));
            play.pooler.closed(play.now, server, "the peer closed the connection", &mut play.out);
            let second = second_of(&play.asked());
            reloads(&mut play, Some(|source: &mut DataSource| source.tls.mode = demanded));
            play.asked();
            let asked = play.connects(second);
            assert_eq!(asked.contains(&Asked::Send(second, SSL_REQUEST.to_vec())), goes_in_tls, "{first:?}");
            assert_eq!(starts_up(&asked, second), !goes_in_tls, "{first:?}");
        }
    }
}

#[test]
fn a_login_that_a_reload_overtakes_tells_the_server_nothing() {
    let moved = |source: &mut DataSource| {
        source.node = NodeAddress::Tcp { host: "elsewhere".to_owned(), port: 5432 };
    };
    for change in [None, Some(moved)] {
        let mut play = Play::before(TlsMode::Disable);
        let client = play.comes();
        let server = second_of(&play.says(client, &hello()));
        reloads(&mut play, change);
        play.asked();
        let asked = play.connects(server);
        assert!(!starts_up(&asked, server) && asked.contains(&Asked::Close(server)), "{asked:?}");
    }
    // What nobody verified is not good enough any more.
    let mut play = Play::before(TlsMode::Require);
    let (_, server, _) = play.opens();
    play.says(server, b"S");
    reloads(&mut play, Some(|source: &mut DataSource| source.tls.mode = TlsMode::VerifyFull));
    play.asked();
    play.shakes(server, tls());
    let asked = play.says(server, &written(encode::authentication_cleartext_password));
    let told = |asked: &Asked| matches!(asked, Asked::Send(to, bytes) if *to == server && bytes.first() == Some(&b'p'));
    assert!(!asked.iter().any(told), "{asked:?}");
}

#[test]
fn direct_tls_with_a_server_needs_alpn() {
    for agreed in [true, false] {
        let negotiation = TlsNegotiation::Direct;
        let server = ServerTls { mode: TlsMode::Require, negotiation, ..ServerTls::NONE };
        let mut play = Play::new(TlsMode::Disable, server);
        let (_, server, asked) = play.opens();
        assert_eq!(asked, [Asked::Handshake(server)]);
        let asked = play.shakes(server, Tls { agreed, ..tls() });
        assert_eq!((starts_up(&asked, server), asked.contains(&Asked::Close(server))), (agreed, !agreed));
    }
}

#[test]
fn a_server_that_must_bind_and_lets_us_in_another_way_is_left() {
    for (request, bindable, goes_on) in [
        (&[0, 0, 0, 0][..], true, false),
        (&[0, 0, 0, 3], true, false),
        (&[0, 0, 0, 5, 1, 2, 3, 4], true, false),
        (b"\0\0\0\x0aSCRAM-SHA-256\0\0", true, false),
        (b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0", false, false),
        (b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0", true, true),
    ] {
        let binding = ChannelBinding::Require;
        let server = ServerTls { mode: TlsMode::Require, binding, ..ServerTls::NONE };
        let mut play = Play::new(TlsMode::Disable, server);
        let (_, server, _) = play.opens();
        play.says(server, b"S");
        play.shakes(server, Tls { end_point: bindable.then(|| [7; 32].into()), ..tls() });
        let length = u32::try_from(request.len() + 4).unwrap_or(0).to_be_bytes();
        let asked = play.says(server, &[b"R", &length[..], request].concat());
        let answered = asked
            .iter()
            .any(|asked| matches!(asked, Asked::Send(to, bytes) if *to == server && bytes[0] == b'p'));
        assert_eq!(answered, goes_on, "{request:?}: {asked:?}");
        assert!(
            !asked.iter().any(
                |asked| matches!(asked, Asked::Send(_, bytes) if bytes.windows(6).any(|p| p == b"secret"))
            )
        );
    }
}

#[test]
fn plus_without_tls_is_an_offer_that_nobody_honest_makes() {
    let mut play = Play::before(TlsMode::Prefer);
    let (_, server, _) = play.opens();
    play.says(server, b"N");
    let list = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let length = u32::try_from(list.len() + 4).unwrap_or(0).to_be_bytes();
    let asked = play.says(server, &[b"R", &length[..], list].concat());
    assert!(!asked.iter().any(|asked| matches!(asked, Asked::Send(to, _) if *to == server)), "{asked:?}");
}

#[test]
fn a_cancel_request_goes_to_a_server_as_its_connection_does() {
    for (mode, negotiation) in [
        (TlsMode::Disable, TlsNegotiation::Postgres),
        (TlsMode::Require, TlsNegotiation::Postgres),
        (TlsMode::Require, TlsNegotiation::Direct),
    ] {
        let mut play = Play::new(TlsMode::Disable, ServerTls { mode, negotiation, ..ServerTls::NONE });
        let (_, server, _) = play.opens();
        if mode == TlsMode::Require {
            if negotiation == TlsNegotiation::Postgres {
                play.says(server, b"S");
            }
            play.shakes(server, tls());
        }
        lets_in(&mut play, server);
        let cancel = play.cancels(server);
        let sent = vec![Asked::Send(cancel, written(|out| startup::encode_cancel(out, 42, &[1; 4])))];
        let asked = play.connects(cancel);
        match (mode, negotiation) {
            (TlsMode::Disable, _) => assert_eq!(asked, sent),
            (_, TlsNegotiation::Direct) => {
                assert_eq!(asked, [Asked::Handshake(cancel)]);
                assert_eq!(play.shakes(cancel, tls()), sent);
            }
            _ => {
                assert_eq!(asked, [Asked::Send(cancel, SSL_REQUEST.to_vec())]);
                assert_eq!(play.says(cancel, b"S"), [Asked::Handshake(cancel)]);
                assert_eq!(play.shakes(cancel, tls()), sent);
            }
        }
    }
}

#[test]
fn the_key_of_a_cancel_request_is_told_to_nobody_in_clear_whose_connection_was_not() {
    for answer in [&b"N"[..], b"E", b"SS"] {
        let mut play = Play::before(TlsMode::Prefer);
        let (_, server, _) = play.opens();
        play.says(server, b"S");
        play.shakes(server, tls());
        lets_in(&mut play, server);
        let cancel = play.cancels(server);
        play.connects(cancel);
        let asked = play.says(cancel, answer);
        assert!(asked.contains(&Asked::Close(cancel)), "{asked:?}");
        assert!(!asked.iter().any(|asked| matches!(asked, Asked::Send(to, _) if *to == cancel)), "{asked:?}");
    }
}
