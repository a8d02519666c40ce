//! Prepared statements where connections change hands: clients keep their names, connections what they have parsed.
//!
//! A statement has one name on all server connections of its pool ([`registry`]). A client's own names ([`client`]) are
//! replaced in its messages, whose bodies pass by as ever. What a connection ([`server`]) lacks is parsed there ahead of
//! the message that needs it; what it has is not parsed again, and the client is answered in its turn.
//!
//! All of that is taken for done when it is sent, and undone ([`outcome`]) if an error has the server pass over it.

pub(crate) mod client;
mod deallocate;
mod outcome;
mod prepare;
pub(crate) mod registry;
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::ops::Range;

use headpond_wire::postgres::frame::{self, Header};

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::endings;
use crate::exchange::Exchanges;
use crate::pooler::{PoolEntry, Pooler};
use crate::requests::Run;
use crate::statements::client::Named;
use crate::statements::registry::{PREFIX, StatementId, text_of};
use crate::statements::server::{Change, Record};

/// A name that is longer is not waited for: whatever has one is nothing that was prepared.
const NAME_MAX: usize = 4 * 1024;

/// What becomes of a client's message.
pub(crate) enum Handled {
    /// It goes on, perhaps with another name in it.
    Goes(Note),
    /// It was dealt with.
    Done,
    /// Something must be known first.
    Held,
    /// Its name is not all there.
    Incomplete,
}

/// What is to be noted of a message once it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Note {
    changes: u8,
    describes: bool,
    unnames: bool,
    /// Of a Bind: whether its statement might end the transaction, and which it is.
    pub(crate) ends: Option<bool>,
    pub(crate) runs: Runs,
    /// A Parse that gives its statement a name: what it does is looked at when it is bound.
    pub(crate) names: bool,
}

/// What is executed that was parsed before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Runs {
    #[default]
    Nothing,
    Statement(StatementId),
    /// The client's unnamed statement.
    Unnamed,
}

impl Note {
    const PLAIN: Handled = Handled::Goes(Self {
        changes: 0,
        describes: false,
        unnames: false,
        ends: None,
        runs: Runs::Nothing,
        names: false,
    });

    /// The message was sent.
    #[inline]
    pub(crate) fn take(self, exchanges: &mut Exchanges) {
        if self.changes > 0 || self.unnames {
            exchanges.note(self.changes, self.describes, self.unnames);
        }
    }
}

/// A message that is about a statement.
struct Message<'a> {
    client: ClientId,
    server: ServerId,
    header: Header,
    /// As much of its body as is there.
    body: &'a [u8],
    whole: bool,
    /// Where in the body the statement's name is.
    name: Range<usize>,
}

impl Message<'_> {
    fn name(&self) -> &[u8] {
        &self.body[self.name.clone()]
    }

    /// What follows the name and its zero byte.
    fn behind_name(&self) -> &[u8] {
        self.body.get(self.name.end + 1..).unwrap_or_default()
    }

    /// How much of it is there.
    fn take(&self) -> usize {
        frame::HEADER + self.body.len()
    }
}

impl PoolEntry {
    /// Whether statements are carried from connection to connection.
    #[inline]
    pub(crate) fn carries_statements(&self) -> bool {
        self.follows() && self.statements.size > 0
    }
}

impl Pooler {
    /// What a Bind would have executed.
    pub(crate) fn bound_by(&self, client: ClientId, body: &[u8]) -> Runs {
        match name_in(b'B', body) {
            Found::Name(name) if name.is_empty() => Runs::Unnamed,
            Found::Name(name) => {
                self.named(client, &body[name]).map_or(Runs::Nothing, |named| Runs::Statement(named.id))
            }
            Found::Nothing | Found::Incomplete => Runs::Nothing,
        }
    }

    /// Looks at a message of a client that may be about statements, of a pool that carries them.
    pub(crate) fn relay_statement(
        &mut self,
        client: ClientId,
        server_id: ServerId,
        header: Header,
        body: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Handled {
        let Some(server) = self.servers.get_mut(server_id) else { return Note::PLAIN };
        // What nobody looks at changes nothing.
        if server.exchanges.is_skipping() || server.exchanges.is_copying() {
            return Note::PLAIN;
        }
        let whole = header.size == frame::HEADER + body.len();
        if header.tag == b'Q' {
            let note = match whole {
                true => self.look_for_deallocate((client, server_id), header, body, run, out),
                false => Some(Note::default()),
            };
            let Some(note) = note else { return self.hold(server_id) };
            self.unnamed_destroyed(client, server_id);
            return Handled::Goes(note);
        }
        let name = match name_in(header.tag, body) {
            Found::Name(name) => name,
            Found::Incomplete if !whole && body.len() < NAME_MAX => return Handled::Incomplete,
            Found::Incomplete | Found::Nothing => return Note::PLAIN,
        };
        let message = Message { client, server: server_id, header, body, whole, name };
        match (header.tag, message.name.is_empty()) {
            (b'P', true) => self.parse_unnamed(&message, run, out),
            (b'C', true) => {
                self.unnamed_destroyed(client, server_id);
                Handled::Goes(Note { unnames: true, ..Note::default() })
            }
            (_, true) => self.use_unnamed(&message, run, out),
            (b'P', false) => self.parse_named(&message, run, out),
            (b'C', false) => self.close_named(&message, run, out),
            (_, false) => self.use_named(&message, run, out),
        }
    }

    /// Whether a Bind may end the transaction it is in, as far as its statement is known.
    pub(crate) fn bind_may_end(&self, client: ClientId, body: &[u8]) -> Option<bool> {
        let client = self.clients.get(client)?;
        let entry = self.pools.get(client.pool as usize).filter(|entry| entry.carries_statements())?;
        let Found::Name(name) = name_in(b'B', body) else { return None };
        let statements = client.statements.as_deref()?;
        if name.is_empty() {
            return statements.unnamed_parse().map(|parse| endings::begins_with_ending(text_of(parse)));
        }
        let id = statements.names.get(&body[name])?.id;
        entry.statements.get(id).map(|statement| statement.ends)
    }

    /// The statement that a client has under a name.
    fn named(&self, client: ClientId, name: &[u8]) -> Option<Named> {
        self.clients.get(client)?.statements.as_deref()?.names.get(name).copied()
    }

    /// Under what a client's message is parsed. Where that is not known, nobody shares what comes of it.
    fn environment_of(&mut self, message: &Message<'_>) -> u64 {
        let Some(server) = self.servers.get(message.server) else { return 0 };
        if server.session.parses_otherwise() {
            return self.pools[server.pool as usize].statements.number() | 1 << 63;
        }
        self.clients.get(message.client).map_or(0, |client| self.settings.environment(client.settings))
    }

    /// Notes a change that was just sent, or is about to be.
    fn log(&mut self, server: ServerId, change: Change) {
        if let Some(server) = self.servers.get_mut(server) {
            let batch = server.exchanges.batch();
            server.statements.log.push_back(Record { batch, change });
        }
    }

    fn is_uncertain(&self, message: &Message<'_>, id: Option<StatementId>) -> bool {
        self.servers.get(message.server).is_some_and(|server| {
            server.statements.is_uncertain(server.exchanges.batch(), message.name(), id)
        })
    }

    /// The client's message waits until all that it sent before is answered, or what was asked for it.
    fn hold(&mut self, server: ServerId) -> Handled {
        if let Some(server) = self.servers.get_mut(server) {
            server.statements.holds = true;
        }
        Handled::Held
    }

    /// Sends on what is before a message, so that something can be put between.
    fn send_before(&mut self, server_id: ServerId, run: &mut Run, out: &mut Actions) {
        if let Some(server) = self.servers.get(server_id) {
            self.pools[server.pool as usize].traffic.received += (run.at - run.from) as u64;
            out.forward(Link::Server(server_id), run.from, run.at);
        }
        run.from = run.at;
    }

    /// Sends a message's head with another name; the rest of it goes on as it is.
    fn rename(
        &mut self,
        message: &Message<'_>,
        run: &mut Run,
        out: &mut Actions,
        write: impl Fn(&mut Vec<u8>),
    ) {
        self.send_before(message.server, run, out);
        let Some(server) = self.servers.get(message.server) else { return };
        let head = frame::HEADER + message.name.end;
        self.pools[server.pool as usize].traffic.received += head as u64;
        out.send(Link::Server(message.server), |bytes| {
            bytes.push(message.header.tag);
            let start = bytes.len();
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&message.body[..message.name.start]);
            write(bytes);
            let size = message.header.size - head + bytes.len() - start;
            let length = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
            bytes[start..start + 4].copy_from_slice(&length);
        });
        run.from = run.at + head;
    }

    /// A message about a statement that the client does not have goes on: the server says so itself. What others have
    /// prepared there it does not reach.
    fn pass_unknown(&mut self, message: &Message<'_>, run: &mut Run, out: &mut Actions) -> Handled {
        if message.name().starts_with(PREFIX) {
            self.rename(message, run, out, |bytes| {
                bytes.push(b' ');
                bytes.extend_from_slice(message.name());
            });
        }
        Note::PLAIN
    }

    /// A message goes no further.
    fn consume(&mut self, message: &Message<'_>, run: &mut Run) -> Handled {
        if let Some(client) = self.clients.get_mut(message.client) {
            client.skip(u32::try_from(message.header.size - message.take()).unwrap_or(0));
        }
        run.at += message.take();
        run.from = run.at;
        Handled::Done
    }
}

/// The name of a statement in a message.
enum Found {
    Name(Range<usize>),
    /// It is about something else.
    Nothing,
    Incomplete,
}

fn name_in(tag: u8, body: &[u8]) -> Found {
    let from = match (tag, body.first()) {
        (b'P', _) => Some(0),
        (b'B', _) => memchr::memchr(0, body).map(|end| end + 1),
        (b'D' | b'C', None) => None,
        (b'D' | b'C', Some(b'S')) => Some(1),
        _ => return Found::Nothing,
    };
    let Some(from) = from else { return Found::Incomplete };
    let Some(len) = body.get(from..).and_then(|rest| memchr::memchr(0, rest)) else {
        return Found::Incomplete;
    };
    Found::Name(from..from + len)
}
