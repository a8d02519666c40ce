//! A process of the database server: the protocol, and what the pooler itself asks, told by its text.

use std::collections::HashMap;

use crate::session::tests::model::{Outcome, Session};
use crate::sim::marked::message;
use crate::text::catalogue::{fingerprint_question, verdict_question};

/// A client by its place, and the number of its request.
pub(super) type Who = (usize, u64);

/// What the catalogue says of names: there are two functions that leave something behind.
const CATALOGUE: [[&str; 3]; 2] = [["set_tenant", "f", "O"], ["take_lock", "f", "L"]];

#[derive(Default)]
pub(super) struct Process {
    pub(super) session: Session,
    pub(super) statements: HashMap<Vec<u8>, String>,
    /// What was bound, and for whom.
    pub(super) portal: Option<(String, Option<Who>)>,
    pub(super) skipping: bool,
    /// Whose request is under way.
    pub(super) current: Option<Who>,
    /// Executions since the last Sync.
    pub(super) batch: usize,
}

/// One line of what is said, to be compared.
pub(super) fn readable(tag: u8, body: &[u8]) -> Option<String> {
    let fields = || body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    match tag {
        b'E' => {
            let code = fields().find(|field| field.starts_with('C')).unwrap_or_default();
            let fatal = if fields().any(|field| field == "SFATAL") { " FATAL" } else { "" };
            Some(format!("E {}{fatal}", code.get(1..).unwrap_or_default()))
        }
        b'D' => Some(format!("D {}", String::from_utf8_lossy(body.get(6..).unwrap_or_default()))),
        b'C' | b'Z' => Some(format!("{} {}", char::from(tag), fields().next().unwrap_or_default())),
        _ => None,
    }
}

/// The messages of an outcome.
pub(super) fn answer(outcome: &Outcome) -> Vec<u8> {
    match outcome {
        Ok((values, tag)) => {
            let rows = if values.is_empty() { Vec::new() } else { row(values) };
            [rows, message(b'C', format!("{tag}\0").as_bytes())].concat()
        }
        Err(code) => message(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes()),
    }
}

pub(super) fn row(values: &[Option<String>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        let length = value.as_ref().map_or(-1, |value| value.len() as i32);
        body.extend(length.to_be_bytes());
        body.extend(value.iter().flat_map(|value| value.bytes()));
    }
    message(b'D', &body)
}

/// What the pooler asks of the database or its session, if it is that.
pub(super) fn question(session: &Session, text: &str) -> Option<Vec<u8>> {
    let rows = match () {
        () if text.ends_with(fingerprint_question()) => row(&[Some("1 2".to_owned())]),
        () if text.ends_with(&verdict_question()) => {
            CATALOGUE.iter().flat_map(|names| row(&names.map(|name| Some(name.to_owned())))).collect()
        }
        () if text.starts_with("SELECT EXISTS") || text.starts_with("SELECT pg_catalog.encode(") => {
            row(&probe(session, text))
        }
        // How many connections it has, it does not say.
        () if text.contains("max_connections") => return Some(answer(&Err("42501"))),
        () => return None,
    };
    Some([rows, message(b'C', b"SELECT 1\0")].concat())
}

/// The columns of a probe, in their order.
fn probe(session: &Session, text: &str) -> Vec<Option<String>> {
    const FOUND: [(&str, &str); 5] = [
        ("pg_catalog.pg_depend ", "table "),
        ("pg_catalog.pg_locks ", "lock "),
        ("pg_catalog.pg_listening_channels(", "channel "),
        ("pg_catalog.pg_cursors ", "cursor "),
        ("pg_catalog.pg_prepared_statements ", "prepared "),
    ];
    let holds = session.holds();
    let mut columns = Vec::new();
    for (mark, what) in FOUND {
        let is_there = holds.iter().any(|held| held.starts_with(what));
        let is_there = if is_there { "t" } else { "f" };
        columns.extend(text.match_indices(mark).map(|(at, _)| (at, Some(is_there.to_owned()))));
    }
    for (at, mark) in text.match_indices("current_setting('") {
        let name = text[at + mark.len()..].split('\'').next().unwrap_or_default();
        columns.push((at, session.shown(name).map(|value| value.replace('\\', "\\\\"))));
    }
    columns.sort();
    columns.into_iter().map(|(_, value)| value).collect()
}
