//! What servers say.

use std::time::Duration;

use headpond_pooler::Link;
use headpond_pooler::config::{AuthMethod, PoolMode, TlsMode};
use headpond_testkit::messages::{BACKEND, Named, Spoiled, message};
use headpond_testkit::{Stage, config, hello};

use crate::{Scene, begin, enters, query, run};

type Reach = fn(PoolMode) -> Option<Scene>;

/// A state, and whether a length that cannot be ends the connection in it.
#[derive(Clone, Copy)]
struct State {
    reach: Reach,
    is_read: bool,
}

const fn read(reach: Reach) -> State {
    State { reach, is_read: true }
}

/// The connection is on its way out, or in the middle of a message.
const fn unread(reach: Reach) -> State {
    State { reach, is_read: false }
}

const STATES: &[(&str, State)] = &[
    ("connecting", unread(|mode| logging_in(mode, None))),
    ("asked for TLS", read(asked_for_tls)),
    ("logging in", read(|mode| logging_in(mode, Some(&[])))),
    ("logging in by md5", read(|mode| logging_in(mode, Some(&[&MD5])))),
    ("begun SASL", read(|mode| logging_in(mode, Some(&[SASL])))),
    ("logged in", read(|mode| logging_in(mode, Some(&[&OK])))),
    ("asked for its size at first", read(|mode| surveyed(mode, true))),
    ("asked for its size", read(|mode| surveyed(mode, false))),
    ("idle", read(idle)),
    ("being checked", read(checked)),
    ("being reset", read(reset)),
    ("setting", read(setting)),
    ("in use at rest", read(|mode| in_use(mode, &[]))),
    ("in use in a transaction", read(|mode| in_use(mode, &["BEGIN"]))),
    ("in a query", read(|mode| in_use(mode, &["SLEEP"]))),
    ("in a query in a transaction", read(|mode| in_use(mode, &["BEGIN", "SLEEP"]))),
    ("in COPY IN", read(|mode| in_use(mode, &["COPYIN"]))),
    ("in COPY OUT", read(|mode| saying(mode, b"SLEEP", &[message(b'H', &[0, 0, 0])]))),
    ("in rows", read(|mode| saying(mode, b"SLEEP", &[message(b'T', &[0, 0])]))),
    ("inside a row", unread(inside_row)),
    ("in a query that failed", read(|mode| saying(mode, b"SLEEP", &[message(b'E', b"SERROR\0\0")]))),
    ("in a function call", read(|mode| asked(mode, &[(b'F', &[0; 8])]))),
    ("at Parse", read(|mode| asked(mode, &[(b'P', b"\0x\0\0\0")]))),
    ("at Bind", read(|mode| asked(mode, &[(b'B', &[0; 8]), (b'S', b"")]))),
    ("at Describe", read(|mode| asked(mode, &[(b'D', b"P\0"), (b'S', b"")]))),
    ("at Execute", read(|mode| asked(mode, &[(b'E', &[0; 5]), (b'S', b"")]))),
    ("at Close", read(|mode| asked(mode, &[(b'C', b"S\0"), (b'S', b"")]))),
    ("at Sync", read(|mode| asked(mode, &[(b'S', b"")]))),
    ("at many", read(|mode| asked(mode, &[(b'Q', b"BEGIN\0"), (b'Q', b"x\0"), (b'Q', b"COMMIT\0")]))),
    ("recovering", read(recovering)),
    ("being cancelled", read(cancelled)),
    ("closing", unread(closing)),
];

const OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];
const MD5: [u8; 13] = [b'R', 0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4];
const SASL: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";

#[test]
fn whatever_a_server_says_in_whatever_state_only_its_client_notices() {
    run(STATES, &BACKEND, cell);
}

/// One cell. Whether there is such a state.
fn cell(state: State, mode: PoolMode, (_, message): &Named, spoiled: Spoiled) -> bool {
    let Some(Scene { mut stage, speaker, bystander, silent, .. }) = (state.reach)(mode) else { return false };
    stage.says(speaker, &spoiled.spoil(message, true));
    let impossible = matches!(spoiled, Spoiled::TooSmall | Spoiled::Negative);
    if state.is_read && impossible {
        assert!(stage.is_over(speaker), "a length that cannot be");
    }
    for _ in 0..2 {
        stage.serve(&silent);
        if let Some(bystander) = bystander {
            assert_eq!(stage.asks(bystander, &silent), Ok(()));
        }
        stage.breaks(speaker);
        stage.passes(Duration::from_secs(100));
        stage.serve(&[]);
    }
    stage.is_well_at_last();
    true
}

/// Somebody who has been served and stays on a connection of its own, and a client with another one, whose server does
/// not answer by itself.
fn pair(mode: PoolMode) -> (Stage, Link, Link, Link) {
    let (mut stage, bystander) = begin(mode, AuthMethod::Trust, 2);
    query(&mut stage, bystander, "BEGIN");
    stage.serve(&[]);
    let client = enters(&mut stage);
    stage.asks(client, &[]).expect("a second connection");
    let server = stage.server_of(client).expect("it was used");
    (stage, bystander, client, server)
}

fn scene(stage: Stage, speaker: Link, bystander: Link) -> Option<Scene> {
    Some(Scene { stage, speaker, bystander: Some(bystander), silent: vec![speaker], drains: false })
}

/// A connection that is opened for a second client; its server has said some of what it takes.
fn logging_in(mode: PoolMode, said: Option<&[&[u8]]>) -> Option<Scene> {
    let (mut stage, bystander) = begin(mode, AuthMethod::Trust, 2);
    query(&mut stage, bystander, "BEGIN");
    stage.serve(&[]);
    let client = enters(&mut stage);
    let before = stage.servers();
    query(&mut stage, client, "SELECT 1");
    let server = stage.servers().into_iter().find(|server| !before.contains(server))?;
    if let Some(said) = said {
        stage.connects(server);
        said.iter().for_each(|said| stage.says(server, said));
    }
    scene(stage, server, bystander)
}

/// The same, by TLS where the server has it.
fn asked_for_tls(mode: PoolMode) -> Option<Scene> {
    let mut config = config(mode, AuthMethod::Trust, 2);
    config.data_sources[0].tls.mode = TlsMode::Prefer;
    let mut stage = Stage::new(config);
    let bystander = enters(&mut stage);
    query(&mut stage, bystander, "BEGIN");
    stage.serve(&[]);
    let client = enters(&mut stage);
    let before = stage.servers();
    query(&mut stage, client, "SELECT 1");
    let server = stage.servers().into_iter().find(|server| !before.contains(server))?;
    stage.connects(server);
    scene(stage, server, bystander)
}

/// The first connection of all, or later the control connection.
fn surveyed(mode: PoolMode, at_first: bool) -> Option<Scene> {
    let (stage, bystander) = if at_first {
        let mut stage = Stage::new(config(mode, AuthMethod::Trust, 2));
        let client = stage.comes();
        stage.says(client, &hello("ann"));
        let server = stage.servers()[0];
        stage.connects(server);
        stage.says(server, &[&OK[..], &message(b'Z', b"I")].concat());
        (stage, None)
    } else {
        let (mut stage, bystander) = begin(mode, AuthMethod::Trust, 2);
        // It is asked every ten seconds.
        stage.passes(Duration::from_secs(11));
        (stage, Some(bystander))
    };
    let asked = |server: &Link| stage.peek(*server).windows(15).any(|part| part == b"max_connections");
    let speaker = stage.servers().into_iter().find(asked).expect("it is asked how many connections it has");
    Some(Scene { stage, speaker, bystander, silent: vec![speaker], drains: false })
}

/// Its client is gone, in peace.
fn idle(mode: PoolMode) -> Option<Scene> {
    let (mut stage, bystander, client, server) = pair(mode);
    stage.says(client, &message(b'X', b""));
    stage.serve(&[]);
    scene(stage, server, bystander)
}

fn checked(mode: PoolMode) -> Option<Scene> {
    let Scene { mut stage, speaker, bystander, .. } = idle(mode)?;
    stage.passes(Duration::from_secs(31));
    assert!(stage.peek(speaker).starts_with(b"Q"));
    scene(stage, speaker, bystander?)
}

fn reset(mode: PoolMode) -> Option<Scene> {
    let (mut stage, bystander, client, server) = pair(mode);
    stage.says(client, &message(b'X', b""));
    // In transaction mode there is nothing to be reset.
    (mode == PoolMode::Session).then(|| scene(stage, server, bystander))?
}

/// A client that wants another time zone.
fn setting(mode: PoolMode) -> Option<Scene> {
    let Scene { mut stage, bystander, .. } = idle(mode)?;
    let other = stage.comes();
    let mut hello = Vec::new();
    let words = [("user", "ann"), ("database", "shop"), ("application_name", "other")];
    headpond_wire::postgres::startup::encode(&mut hello, words.into_iter());
    stage.says(other, &hello);
    query(&mut stage, other, "SELECT 1");
    let told = |server: &Link| stage.peek(*server).windows(5).any(|part| part == b"other");
    let speaker = stage.servers().into_iter().find(told).expect("a server is told");
    scene(stage, speaker, bystander?)
}

fn in_use(mode: PoolMode, queries: &[&str]) -> Option<Scene> {
    let (mut stage, bystander, client, server) = pair(mode);
    for text in queries {
        query(&mut stage, client, text);
        stage.serve(&[]);
    }
    scene(stage, server, bystander)
}

/// A query was sent, and some of the answer has come.
fn saying(mode: PoolMode, text: &[u8], said: &[Vec<u8>]) -> Option<Scene> {
    let mut scene = in_use(mode, &[std::str::from_utf8(text).ok()?])?;
    said.iter().for_each(|said| scene.stage.says(scene.speaker, said));
    Some(scene)
}

fn inside_row(mode: PoolMode) -> Option<Scene> {
    saying(mode, b"SLEEP", &[message(b'D', &[0; 200_000])[..70_000].to_vec()])
}

/// Messages were sent, and nothing was answered.
fn asked(mode: PoolMode, messages: &[(u8, &[u8])]) -> Option<Scene> {
    let (mut stage, bystander, client, server) = pair(mode);
    for (tag, body) in messages {
        stage.says(client, &message(*tag, body));
    }
    scene(stage, server, bystander)
}

fn recovering(mode: PoolMode) -> Option<Scene> {
    let (mut stage, bystander, client, server) = pair(mode);
    query(&mut stage, client, "BEGIN");
    stage.serve(&[]);
    stage.says(client, &message(b'X', b""));
    assert!(stage.peek(server).windows(8).any(|part| part == b"ROLLBACK"));
    scene(stage, server, bystander)
}

fn cancelled(mode: PoolMode) -> Option<Scene> {
    let (mut stage, bystander, client, server) = pair(mode);
    query(&mut stage, client, "SLEEP");
    stage.breaks(client);
    let silent = stage.links().into_iter().filter(|link| matches!(link, Link::Cancel(_)) || *link == server);
    Some(Scene { silent: silent.collect(), ..scene(stage, server, bystander)? })
}

fn closing(mode: PoolMode) -> Option<Scene> {
    let Scene { mut stage, speaker, bystander, .. } = idle(mode)?;
    stage.operates(|pooler, now, out| pooler.renew(now, None, out));
    assert!(stage.is_over(speaker) && !stage.is_closed(speaker));
    scene(stage, speaker, bystander?)
}
