//! Statements that are deallocated in SQL: drivers do so though they prepared them by the protocol.

use headpond_wire::postgres::frame::{self, Header};
use headpond_wire::postgres::frontend;

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::requests::Run;
use crate::statements::Note;
use crate::statements::registry::{PREFIX, text_of};
use crate::statements::server::Change;

/// A statement that is there to be deallocated in place of another one.
const INSTEAD: &[u8] = b"_headpond_x";

/// What a text that does nothing else deallocates.
#[derive(Debug, PartialEq, Eq)]
enum Deallocates {
    One(Vec<u8>),
    All,
}

impl Pooler {
    /// A text of a client, in a Query or an unnamed Parse: if all it does is to deallocate, the client's names go. `None`:
    /// it must wait.
    pub(super) fn look_for_deallocate(
        &mut self,
        (client, server): (ClientId, ServerId),
        header: Header,
        body: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Option<Note> {
        let from = usize::from(header.tag == b'P');
        let text = text_of(body.get(from..).unwrap_or_default());
        let wanted = read(text);
        let uncertain = match (&wanted, self.servers.get(server)) {
            (None, _) | (_, None) => return Some(Note::default()),
            (Some(Deallocates::One(name)), Some(server)) => {
                server.statements.is_uncertain(server.exchanges.batch(), name, None)
            }
            (Some(Deallocates::All), Some(server)) => {
                server.statements.has_uncertain(server.exchanges.batch())
            }
        };
        if uncertain {
            return None;
        }
        match wanted? {
            Deallocates::All => {
                let own = self.clients.get_mut(client).and_then(|client| client.statements.as_mut());
                let names = own.map(|own| std::mem::take(&mut own.names)).unwrap_or_default();
                if let Some(server) = self.servers.get_mut(server) {
                    server.statements.distrust();
                }
                self.log(server, Change::All(names));
            }
            Deallocates::One(name) => {
                let own = self.clients.get_mut(client).and_then(|client| client.statements.as_mut());
                let own = own.and_then(|own| own.names.remove_entry(&name[..]));
                if own.is_none() && !name.starts_with(PREFIX) {
                    return Some(Note::default());
                }
                self.send_before(server, run, out);
                // What others have prepared is nothing that it could name.
                let instead = if own.is_some() { INSTEAD } else { PREFIX };
                let rest = &body[(from + text.len()).min(body.len())..];
                self.replace_deallocate(server, header, instead, rest, out);
                run.from = run.at + frame::HEADER + body.len();
                let Some((name, named)) = own else { return Some(Note::default()) };
                self.log(server, Change::Unnamed(name, named));
            }
        }
        Some(Note { changes: 1, ..Note::default() })
    }

    /// Deallocates something else: connections keep what they have. `rest` is what follows the text.
    fn replace_deallocate(
        &mut self,
        id: ServerId,
        header: Header,
        instead: &[u8],
        rest: &[u8],
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        self.pools[server.pool as usize].traffic.received += header.size as u64;
        let owner = Owner::Pooler(Errand::Prepare);
        let prepares = instead == INSTEAD
            && server.exchanges.sent(b'C', owner).is_ok()
            && server.exchanges.sent(b'P', owner).is_ok();
        let name = |bytes: &mut Vec<u8>| bytes.extend_from_slice(instead);
        let text = [b"DEALLOCATE ", instead, rest].concat();
        out.send(Link::Server(id), |bytes| {
            if prepares {
                // It is there already if the last one of these failed.
                frontend::close_statement(bytes, name);
                frontend::parse(bytes, name, b"\0\0\0");
            }
            match header.tag {
                b'P' => frontend::parse(bytes, |_| {}, &text),
                _ => frontend::query_of(bytes, &text),
            }
        });
    }
}

/// What a text deallocates, if it does nothing else. `DISCARD ALL` does that too.
fn read(text: &[u8]) -> Option<Deallocates> {
    let text = without_comments(text);
    // Most texts are told by their first letter.
    if !text.first().is_some_and(|first| first.eq_ignore_ascii_case(&b'd')) {
        return None;
    }
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end();
    if let Some(rest) = behind_word(text, b"discard") {
        return rest.eq_ignore_ascii_case(b"all").then_some(Deallocates::All);
    }
    let rest = behind_word(text, b"deallocate")?;
    let rest = behind_word(rest, b"prepare").unwrap_or(rest);
    if rest.eq_ignore_ascii_case(b"all") {
        return Some(Deallocates::All);
    }
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let quoted = quoted.strip_suffix(b"\"")?;
        let mut name = Vec::with_capacity(quoted.len());
        let mut bytes = quoted.iter();
        while let Some(byte) = bytes.next() {
            if *byte == b'"' && bytes.next() != Some(&b'"') {
                return None;
            }
            name.push(*byte);
        }
        return Some(Deallocates::One(name));
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    let is_name = rest.iter().all(plain) && rest.first().is_some_and(|first| !first.is_ascii_digit());
    is_name.then(|| Deallocates::One(rest.to_ascii_lowercase()))
}

/// A text without blanks and comments at its ends, where tracing puts them.
fn without_comments(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    while let Some(end) = text.strip_prefix(b"/*").and_then(|comment| memchr::memmem::find(comment, b"*/")) {
        text = text[end + 4..].trim_ascii_start();
    }
    while let Some(start) = text.strip_suffix(b"*/").and_then(|text| memchr::memmem::rfind(text, b"/*")) {
        text = text[..start].trim_ascii_end();
    }
    text
}

/// What follows a word and the blanks behind it.
fn behind_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = text.split_at_checked(word.len())?;
    let blank = rest.first().is_some_and(u8::is_ascii_whitespace);
    (blank && first.eq_ignore_ascii_case(word)).then(|| rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_only_deallocates_is_told_with_its_name() {
        let name = |text: &str| read(text.as_bytes());
        let one = |name: &str| Some(Deallocates::One(name.as_bytes().to_vec()));
        assert_eq!(name("DEALLOCATE a1"), one("a1"));
        assert_eq!(name(" deallocate\tPREPARE  _Foo ; "), one("_foo"));
        assert_eq!(name("DEALLOCATE \"Say \"\"no\"\"\""), one("Say \"no\""));
        assert_eq!(name("Deallocate All;"), Some(Deallocates::All));
        assert_eq!(name("DEALLOCATE PREPARE ALL"), Some(Deallocates::All));
        assert_eq!(name("discard all"), Some(Deallocates::All));
        assert_eq!(name("/* a */ /**/DISCARD ALL /*'b'*/"), Some(Deallocates::All));
        let others = [
            "DEALLOCATE a; SELECT 1",
            "DEALLOCATE \"a\" b\"",
            "DEALLOCATE",
            "DEALLOCATE ",
            "DEALLOCATE 1",
            "DISCARD PLANS",
            "DISCARD ALL /* a */ ; SELECT 1 /* b */",
            "/* DISCARD ALL */",
            "*/ DISCARD ALL",
            "DELETE FROM a",
            "",
        ];
        assert!(others.iter().all(|text| name(text).is_none()));
    }
}
