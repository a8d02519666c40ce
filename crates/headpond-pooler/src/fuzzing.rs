//! What is private to this crate and reads what others say, with what must hold of it. For tests elsewhere.

use crate::config::{AuthMethod, User};
use crate::exchange::{Errand, Exchanges, Kind, Owner};
use crate::lookup::user_in;
use crate::text::catalogue::Catalogue;
use crate::text::{Dialect, read};

/// What is asked of a database about names that have effects.
#[must_use]
pub fn verdict_question() -> String {
    crate::text::catalogue::verdict_question()
}

/// What tells whether the answer to that still holds.
#[must_use]
pub fn fingerprint_question() -> &'static str {
    crate::text::catalogue::fingerprint_question()
}

/// What a text may do, with the answer to [`verdict_question`] for its database; each row is a name, whether it was
/// mangled, and its effects. With `escapes` it is read as without `standard_conforming_strings`.
#[must_use]
pub fn effects(text: &str, escapes: bool, rows: &[(String, bool, Option<String>)]) -> String {
    let mut catalogue = Catalogue::default();
    for (name, is_odd, effects) in rows {
        catalogue.row(name, *is_odd, effects.as_deref().unwrap_or_default());
    }
    let how = Dialect { escapes, ..Dialect::default() };
    format!("{:?}", read(text.as_bytes(), how, &catalogue.verdict()).effects)
}

const ERRANDS: [Errand; 4] = [Errand::Settings, Errand::Check, Errand::CleanUp, Errand::Abort];

/// What was sent and heard so far, counted apart from the machine.
#[derive(Default)]
struct Counts {
    client_sent: u32,
    client_ready: u32,
    errands_sent: u32,
    errands_ready: u32,
}

/// Reads `input` as messages to and from a server: for each a byte that says which way, and a tag; requests of a client
/// have a body of up to seven bytes, replies its first byte. Afterwards a server that answers everything must bring the
/// connection to rest.
///
/// # Panics
/// If the automaton breaks what it promises.
pub fn exchanges(input: &[u8]) {
    let (mut exchanges, mut counts) = (Exchanges::default(), Counts::default());
    let mut rest = input;
    while let [way, tag, after @ ..] = rest {
        rest = after;
        match way % 4 {
            0 | 1 => {
                let (body, after) = rest.split_at(usize::from(way >> 5).min(rest.len()));
                rest = after;
                let status = [b'I', b'T', b'E'][usize::from(way >> 2) % 3];
                let misplaced = exchanges.is_copying() && b"QFPBDEC".contains(tag);
                if exchanges.sent(*tag, Owner::Client).is_err() {
                    assert!(
                        misplaced || !b"QFPBDECScfdH".contains(tag),
                        "{tag} is a message that clients send"
                    );
                    continue;
                }
                counts.client_sent += u32::from(b"QFS".contains(tag));
                exchanges.weigh(*tag, body, way & 4 == 0, status);
            }
            // Nothing is asked of a server that waits for data.
            2 if exchanges.is_copying() => {}
            2 => {
                let errand = ERRANDS[usize::from(*tag) % ERRANDS.len()];
                assert!(exchanges.sent(b'Q', Owner::Pooler(errand)).is_ok());
                counts.errands_sent += 1;
            }
            _ => {
                let (first, after) = rest.split_first().map_or((0, rest), |(first, after)| (*first, after));
                rest = after;
                if hear(&mut exchanges, *tag, first, &mut counts).is_none() {
                    // A mismatch closes the pair, and so does what stands in place of COPY data.
                    return;
                }
            }
        }
        end_doubt(&mut exchanges, &mut counts);
        check(&exchanges, &counts);
    }
    come_to_rest(&mut exchanges, &mut counts);
}

fn hear(exchanges: &mut Exchanges, tag: u8, first: u8, counts: &mut Counts) -> Option<()> {
    let was_at_rest = exchanges.at_rest();
    let reply = exchanges.received(tag, first).ok()?;
    match (reply.kind, reply.owner) {
        (Kind::Ready(status) | Kind::ReadyUnguarded(status), owner) => {
            assert!(tag == b'Z' && status == first && !was_at_rest);
            match owner {
                Owner::Client => counts.client_ready += 1,
                Owner::Pooler(_) => counts.errands_ready += 1,
            }
        }
        (Kind::Unasked, _) => assert!(tag == b'E'),
        (Kind::Error | Kind::Ours(_) | Kind::Unguarded, _) => assert!(tag == b'E' && !was_at_rest),
        (Kind::Asynchronous, _) => assert!(b"SNA".contains(&tag)),
        (Kind::NoData, _) => return None,
        (Kind::Part, Owner::Pooler(Errand::Settle)) => assert!(!was_at_rest),
        (Kind::Part, _) => assert!(!was_at_rest && !b"ZESNA".contains(&tag)),
    }
    Some(())
}

/// As `Pooler::exchange_over` does it.
fn end_doubt(exchanges: &mut Exchanges, counts: &mut Counts) {
    if exchanges.is_in_doubt() {
        assert!(exchanges.sent(b'Q', Owner::Pooler(Errand::Settle)).is_ok());
        counts.errands_sent += 1;
    }
}

fn check(exchanges: &Exchanges, counts: &Counts) {
    assert!(counts.client_ready + exchanges.boundaries() <= counts.client_sent);
    assert!(counts.errands_ready <= counts.errands_sent);
    assert_eq!(exchanges.has_boundary(), exchanges.boundaries() > 0);
    assert!(exchanges.boundaries() as usize <= exchanges.clients());
    if exchanges.at_rest() {
        assert!(!exchanges.is_copying() && !exchanges.has_failed() && !exchanges.is_skipping());
        assert_eq!((exchanges.clients(), exchanges.boundaries()), (0, 0));
    }
}

/// What is outstanding is ended as `Pooler::recover` does it, and answered: this takes no more replies than there are
/// requests.
fn come_to_rest(exchanges: &mut Exchanges, counts: &mut Counts) {
    let most = counts.client_sent + counts.errands_sent + 3;
    for _ in 0..2 * most {
        let owner = Owner::Pooler(Errand::CleanUp);
        if exchanges.is_copying() {
            assert!(exchanges.sent(b'f', owner).is_ok());
        }
        if exchanges.is_unsynced() {
            counts.errands_sent += 1;
            assert!(exchanges.sent(b'S', owner).is_ok());
        }
        if exchanges.at_rest() {
            return;
        }
        if hear(exchanges, b'Z', b'I', counts).is_none() {
            assert!(hear(exchanges, b'E', b'S', counts).is_some(), "an error answers any request");
        }
        end_doubt(exchanges, counts);
        check(exchanges, counts);
    }
    panic!("all is answered, and the connection is not at rest: {exchanges:?}");
}

/// The row that `auth_query` answers for `ann`; the first byte chooses how clients are asked.
///
/// # Panics
/// If it is taken for a row of somebody else, or for a secret that does not stand in it.
pub fn lookup_row(input: &[u8]) {
    let Some((choice, row)) = input.split_first() else { return };
    let method = [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256][usize::from(*choice) % 3];
    let Ok(user) = user_in(row, "ann", method) else { return };
    assert_eq!(row.get(2..9), Some(&b"\0\0\0\x03ann"[..]));
    assert!(user_in(row, "bob", method).is_err());
    let stands = |part: &[u8]| row.windows(part.len()).any(|window| window == part);
    match user {
        User { password: Some(password), .. } => {
            assert!(method != AuthMethod::ScramSha256 && stands(password.0.as_bytes()));
        }
        User { md5: Some(_), .. } => assert!(stands(b"md5")),
        User { scram: Some(secret), .. } => {
            assert!(stands(b"SCRAM-SHA-256$") && secret.iterations > 0 && !secret.salt.is_empty());
        }
        // Nobody logs in with a password.
        User { password: None, md5: None, scram: None } => {}
    }
}

/// Texts of statements.
///
/// # Panics
/// If their reader breaks what it promises.
pub fn texts(input: &[u8]) {
    crate::text::fuzzing::texts(input);
}
