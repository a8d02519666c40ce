//! What clients say.

use std::time::Duration;

use headpond_pooler::Link;
use headpond_pooler::config::{AuthMethod, PoolMode, PoolerConfig, TlsMode};
use headpond_testkit::messages::{FRONTEND, Named, Spoiled, is_tagged, message};
use headpond_testkit::{Stage, config, hello};

use crate::{Scene, begin, enters, query, run};

/// A state, and whether the client is read in it, message by message.
#[derive(Clone, Copy)]
struct State {
    reach: fn(PoolMode) -> Option<Scene>,
    is_read: bool,
    /// Packets without tags are awaited.
    is_first: bool,
}

type Reach = fn(PoolMode) -> Option<Scene>;

const fn first(reach: Reach) -> State {
    State { reach, is_read: true, is_first: true }
}

const fn read(reach: Reach) -> State {
    State { reach, is_read: true, is_first: false }
}

const fn unread(reach: Reach) -> State {
    State { reach, is_read: false, is_first: false }
}

const STATES: &[(&str, State)] = &[
    ("startup", first(|mode| before(mode, AuthMethod::Trust, &[]))),
    ("encryption refused", first(|mode| before(mode, AuthMethod::Trust, &[&ssl_request()]))),
    ("in a handshake", unread(|mode| in_tls(mode, false))),
    ("in TLS", first(|mode| in_tls(mode, true))),
    ("asked for a password", read(|mode| before(mode, AuthMethod::Password, &[&hello("bob")]))),
    ("asked for md5", read(|mode| before(mode, AuthMethod::Md5, &[&hello("bob")]))),
    ("asked for SASL", read(|mode| before(mode, AuthMethod::ScramSha256, &[&hello("bob")]))),
    ("in SASL", read(|mode| before(mode, AuthMethod::ScramSha256, &[&hello("bob"), &sasl()]))),
    ("awaiting parameters", unread(awaiting_parameters)),
    ("idle", read(|mode| after(mode, &[]))),
    ("in a query", read(|mode| after(mode, &["SLEEP"]))),
    ("in a transaction", read(|mode| after(mode, &["BEGIN"]))),
    ("in a failed transaction", read(|mode| after(mode, &["BEGIN", "FAIL"]))),
    ("in COPY IN", read(|mode| after(mode, &["COPYIN"]))),
    ("in COPY IN in a transaction", read(|mode| after(mode, &["BEGIN", "COPYIN"]))),
    ("after a COPY that failed", read(copy_failed)),
    ("in COPY OUT", read(copying_out)),
    ("in a batch", read(|mode| batch(mode, b"SELECT 1", b"PBE"))),
    ("in COPY IN in a batch", read(|mode| batch(mode, b"COPYIN", b"PBE"))),
    ("in a batch that failed", read(|mode| batch(mode, b"FAIL", b"PBE"))),
    ("in a batch after its Sync", read(unanswered_batch)),
    ("inside a message", unread(inside_message)),
    ("waiting", unread(waiting)),
    ("refused to its Sync", read(refused)),
    ("in a transaction that was lost", read(aborted)),
    ("suspended", unread(suspended)),
    ("being cancelled", unread(cancelled)),
    ("draining", read(draining)),
];

#[test]
fn whatever_a_client_says_in_whatever_state_nobody_else_notices() {
    run(STATES, &FRONTEND, cell);
}

/// One cell. Whether there is such a state.
fn cell(state: State, mode: PoolMode, (name, message): &Named, spoiled: Spoiled) -> bool {
    let Some(Scene { mut stage, speaker, bystander, silent, drains }) = (state.reach)(mode) else {
        return false;
    };
    drop(stage.takes(speaker));
    let tagged = is_tagged(name);
    stage.says(speaker, &spoiled.spoil(message, tagged));
    stage.serve(&silent);
    let impossible = matches!(spoiled, Spoiled::TooSmall | Spoiled::Negative);
    // A first packet's length is its beginning, which a tag makes too large.
    if state.is_read && impossible && (tagged || state.is_first) {
        assert!(stage.is_closed(speaker), "a length that cannot be");
    }
    for _ in 0..2 {
        if let Some(bystander) = bystander {
            assert_eq!(stage.asks(bystander, &silent), Ok(()));
        }
        stage.breaks(speaker);
        stage.passes(Duration::from_secs(40));
        stage.serve(&[]);
    }
    assert_eq!(stage.mismatches, 0, "a client's fault is not its server's");
    if drains {
        stage.ends()
    } else {
        stage.is_well_at_last()
    }
    true
}

fn ssl_request() -> Vec<u8> {
    vec![0, 0, 0, 8, 4, 210, 22, 47]
}

fn sasl() -> Vec<u8> {
    message(b'p', b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=fyko+d2lbbFgONRv9qkxdawL")
}

fn scene(stage: Stage, speaker: Link, bystander: Link) -> Option<Scene> {
    Some(Scene { stage, speaker, bystander: Some(bystander), silent: Vec::new(), drains: false })
}

/// A client that has said some of what it takes to log in.
fn before(mode: PoolMode, auth: AuthMethod, said: &[&[u8]]) -> Option<Scene> {
    let (mut stage, bystander) = begin(mode, auth, 2);
    let speaker = stage.comes();
    said.iter().for_each(|said| stage.says(speaker, said));
    scene(stage, speaker, bystander)
}

/// A client that has asked for TLS, and perhaps got it.
fn in_tls(mode: PoolMode, is_done: bool) -> Option<Scene> {
    let tls = PoolerConfig { client_tls: TlsMode::Require, ..config(mode, AuthMethod::Trust, 2) };
    let mut stage = Stage::new(tls);
    let bystander = enters(&mut stage);
    let speaker = stage.comes();
    stage.says(speaker, &ssl_request());
    if is_done {
        stage.shakes(speaker);
    }
    scene(stage, speaker, bystander)
}

fn awaiting_parameters(mode: PoolMode) -> Option<Scene> {
    let mut stage = Stage::new(config(mode, AuthMethod::Trust, 2));
    let speaker = stage.comes();
    stage.says(speaker, &hello("ann"));
    Some(Scene { silent: stage.servers(), stage, speaker, bystander: None, drains: false })
}

/// A client that has sent queries, each of which was answered as far as it is.
fn after(mode: PoolMode, queries: &[&str]) -> Option<Scene> {
    let (mut stage, bystander) = begin(mode, AuthMethod::Trust, 2);
    let speaker = enters(&mut stage);
    for text in queries {
        query(&mut stage, speaker, text);
        stage.serve(&[]);
    }
    scene(stage, speaker, bystander)
}

fn copy_failed(mode: PoolMode) -> Option<Scene> {
    let mut scene = after(mode, &["COPYIN"])?;
    scene.stage.says(scene.speaker, &message(b'f', b"no\0"));
    scene.stage.serve(&[]);
    Some(scene)
}

fn copying_out(mode: PoolMode) -> Option<Scene> {
    let mut scene = after(mode, &["SLEEP"])?;
    let server = scene.stage.server_of(scene.speaker)?;
    scene.stage.says(server, &[message(b'H', &[0, 0, 0]), message(b'd', b"row")].concat());
    Some(scene)
}

fn batch(mode: PoolMode, text: &[u8], tags: &[u8]) -> Option<Scene> {
    let mut scene = after(mode, &[])?;
    for tag in tags {
        let body = if *tag == b'P' { [&b"\0"[..], text, b"\0\0\0"].concat() } else { vec![0; 8] };
        scene.stage.says(scene.speaker, &message(*tag, &body));
    }
    scene.stage.says(scene.speaker, &message(b'H', b""));
    scene.stage.serve(&[]);
    Some(scene)
}

fn unanswered_batch(mode: PoolMode) -> Option<Scene> {
    let mut scene = batch(mode, b"SLEEP", b"PBE")?;
    scene.stage.says(scene.speaker, &message(b'S', b""));
    Some(scene)
}

fn inside_message(mode: PoolMode) -> Option<Scene> {
    let mut scene = after(mode, &["COPYIN"])?;
    scene.stage.says(scene.speaker, &message(b'd', &[b'x'; 200_000])[..100_000]);
    Some(scene)
}

fn waiting(mode: PoolMode) -> Option<Scene> {
    let (mut stage, bystander) = begin(mode, AuthMethod::Trust, 1);
    query(&mut stage, bystander, "BEGIN");
    stage.serve(&[]);
    let speaker = enters(&mut stage);
    stage.says(speaker, &message(b'P', b"\0SELECT 1\0\0\0"));
    scene(stage, speaker, bystander)
}

fn refused(mode: PoolMode) -> Option<Scene> {
    let mut scene = waiting(mode)?;
    scene.stage.passes(Duration::from_secs(31));
    assert!(scene.stage.takes(scene.speaker).starts_with(b"E"), "it was refused");
    Some(scene)
}

fn aborted(mode: PoolMode) -> Option<Scene> {
    let mut scene = after(mode, &["BEGIN"])?;
    let server = scene.stage.server_of(scene.speaker)?;
    scene.stage.breaks(server);
    // In session mode the client goes with its server.
    (mode == PoolMode::Transaction).then_some(scene)
}

fn suspended(mode: PoolMode) -> Option<Scene> {
    let (mut stage, _) = begin(mode, AuthMethod::Trust, 2);
    let speaker = enters(&mut stage);
    stage.operates(|pooler, now, out| pooler.suspend(now, None, out));
    Some(Scene { stage, speaker, bystander: None, silent: Vec::new(), drains: false })
}

fn cancelled(mode: PoolMode) -> Option<Scene> {
    let (mut stage, bystander) = begin(mode, AuthMethod::Trust, 2);
    let speaker = stage.comes();
    stage.logs_in(speaker, "ann");
    let told = stage.takes(speaker);
    let at = told.windows(5).position(|part| part == b"K\0\0\0\x0c")?;
    query(&mut stage, speaker, "SLEEP");
    stage.serve(&[]);
    let requester = stage.comes();
    stage.says(requester, &[&[0, 0, 0, 16, 4, 210, 22, 46], &told[at + 5..at + 13]].concat());
    let silent: Vec<_> = stage.links().into_iter().filter(|link| matches!(link, Link::Cancel(_))).collect();
    assert_eq!(silent.len(), 1, "the request is passed on");
    Some(Scene { silent, ..scene(stage, speaker, bystander)? })
}

fn draining(mode: PoolMode) -> Option<Scene> {
    let mut scene = after(mode, &["BEGIN"])?;
    scene.stage.operates(|pooler, now, out| pooler.drain(now, out));
    Some(Scene { bystander: None, drains: true, ..scene })
}
