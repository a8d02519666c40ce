//! What came of changes that were taken for done: they are certain once they are answered, and undone if the server
//! passes over them. And what is forgotten when somebody goes.

use std::hash::{DefaultHasher, Hash, Hasher};

use headpond_wire::postgres::encode::{self, Report, Severity};
use headpond_wire::postgres::frame::Fields;

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::client::Client;
use crate::exchange::{Answer, StandIn};
use crate::pooler::Pooler;
use crate::server::Server;
use crate::statements::client::{Named, Names};
use crate::statements::server::{Change, Record, UNKNOWN};

/// The form of what is too large to be looked at.
const TOO_LARGE: u64 = 0;

impl Pooler {
    /// Something is known of statements on a connection, or an answer of ours is due there.
    pub(crate) fn statement_news(&mut self, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let news = server.exchanges.take_news();
        self.changes_certain(id, news.certain);
        self.changes_undone(id, news.undone as usize);
        self.unnamed_undone(id, news.unnamed_undone, news.own_unnamed_undone);
        self.give_answers(id, out);
        self.let_go_on(id, out);
    }

    /// Gives the answers of ours that are due, unless the client is inside a message.
    pub(crate) fn give_answers(&mut self, id: ServerId, out: &mut Actions) {
        while let Some(server) = self.servers.get_mut(id)
            && !server.is_inside_reply()
            && let Some(answer) = server.exchanges.next_answer()
        {
            let certain = server.exchanges.take_news().certain;
            if let Some(client) = server.client {
                out.send(Link::Client(client), |bytes| match answer {
                    Answer::Parsed => encode::parse_complete(bytes),
                    Answer::Closed => encode::close_complete(bytes),
                });
            }
            self.changes_certain(id, certain);
        }
    }

    /// A message that waited for an answer is looked at again.
    fn let_go_on(&mut self, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.statements.holds && !server.statements.verifies {
            server.statements.holds = false;
            if let Some(client) = server.client {
                self.read_on_if_allowed(client, id, out);
            }
        }
    }

    fn changes_certain(&mut self, id: ServerId, count: u32) {
        for _ in 0..count {
            let Some(server) = self.servers.get_mut(id) else { return };
            let Some(Record { change, .. }) = server.statements.log.pop_front() else { return };
            self.change_certain(id, change);
        }
    }

    fn change_certain(&mut self, id: ServerId, change: Change) {
        let Some(server) = self.servers.get_mut(id) else { return };
        match change {
            Change::Named(_) | Change::Prepared(_) | Change::Refused(_) => {}
            Change::Unnamed(_, Named { id: statement, .. }) | Change::Closed(statement, _) => {
                self.pools[server.pool as usize].statements.release(statement);
            }
            Change::All(names) => {
                let pool = server.pool;
                self.release_names(pool, &names);
            }
            Change::Described(name, statement) => {
                let shape = server.statements.shape;
                if let Some(prepared) = server.statements.get_mut(statement) {
                    prepared.shape = Some(shape);
                }
                server.statements.verifies &= name.is_some();
                if let (Some(name), Some(client)) = (name, server.client)
                    && let Some(named) = self.name_mut(client, &name)
                    && named.id == statement
                {
                    named.shape = Some(shape).filter(|shape| *shape != TOO_LARGE);
                }
            }
        }
    }

    /// The server passed over the oldest of the changes.
    fn changes_undone(&mut self, id: ServerId, count: usize) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let count = count.min(server.statements.log.len());
        let undone: Vec<Record> = server.statements.log.drain(..count).collect();
        for Record { change, .. } in undone.into_iter().rev() {
            self.undo(id, change);
        }
    }

    fn undo(&mut self, id: ServerId, change: Change) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (pool, client) = (server.pool, server.client);
        match change {
            Change::Refused(_) => {}
            Change::Described(name, _) => server.statements.verifies &= name.is_some(),
            Change::Named(name) => {
                let names = client.and_then(|client| self.names_mut(client));
                if let Some(named) = names.and_then(|names| names.remove(&name)) {
                    self.pools[pool as usize].statements.release(named.id);
                }
            }
            Change::Unnamed(name, named) => match client.and_then(|client| self.names_mut(client)) {
                Some(names) => drop(names.insert(name, named)),
                None => self.pools[pool as usize].statements.release(named.id),
            },
            Change::Prepared(statement) => {
                if server.statements.remove(statement).is_some() {
                    self.pools[pool as usize].statements.release(statement);
                }
            }
            Change::All(names) => match client.and_then(|client| self.names_mut(client)) {
                Some(place) => *place = names,
                None => self.release_names(pool, &names),
            },
            Change::Closed(statement, prepared) => server.statements.restore(statement, prepared),
        }
    }

    /// The server did not come to the last change of the unnamed statement: which one it has is not known. If the change
    /// was the client's own, that one is taken for none.
    fn unnamed_undone(&mut self, id: ServerId, undone: bool, own: bool) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if undone {
            server.statements.unnamed = UNKNOWN;
        }
        if let Some(client) = server.client.filter(|_| own) {
            self.unnamed_forgotten(client);
        }
    }

    /// Part of the description of a statement that somebody asked for. `whole`: all of it is there.
    pub(crate) fn shape_told(&mut self, id: ServerId, tag: u8, body: &[u8], whole: bool) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let shape = &mut server.statements.shape;
        *shape = match tag {
            _ if !whole => TOO_LARGE,
            b't' => parameters(body),
            _ if *shape == TOO_LARGE => TOO_LARGE,
            _ => rows(*shape, body),
        };
    }

    /// The words for a message that was refused; its change is the oldest that is outstanding.
    pub(crate) fn say_refused(&mut self, id: ServerId, why: StandIn, out: &mut Actions) {
        let Some(server) = self.servers.get(id) else { return };
        let Some(client) = server.client else { return };
        let taken = match server.statements.log.front() {
            Some(Record { change: Change::Refused(name), .. }) => String::from_utf8_lossy(name),
            _ => "".into(),
        };
        let taken = format!("prepared statement \"{taken}\" already exists");
        let (code, message) = match why {
            _ if server.status == b'E' => {
                ("25P02", "current transaction is aborted, commands ignored until end of transaction block")
            }
            StandIn::NameTaken => ("42P05", taken.as_str()),
            StandIn::TooLarge | StandIn::Sequence | StandIn::Reshaped => {
                ("0A000", "cached plan must not change result type")
            }
        };
        let report = Report::new(Severity::Error, code, message);
        out.send(Link::Client(client), |bytes| encode::error_response(bytes, &report));
    }

    /// A server found that a result has another form than it had: what was prepared before is prepared anew, on all
    /// connections.
    pub(crate) fn result_changed(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get(id) {
            let statements = &mut self.pools[server.pool as usize].statements;
            statements.epoch = statements.epoch.wrapping_add(1);
        }
    }

    /// A connection is lost, and its client stays: nothing that is outstanding has happened. A Close in front of all
    /// else is answered as if it had.
    pub(crate) fn changes_lost(&mut self, id: ServerId) {
        while let Some(server) = self.servers.get_mut(id)
            && matches!(
                server.statements.log.front(),
                Some(Record { change: Change::Unnamed(..) | Change::Closed(..), .. })
            )
        {
            self.changes_certain(id, 1);
        }
        self.changes_undone(id, usize::MAX);
        let own = self.servers.get(id).is_some_and(|server| server.exchanges.unnames_own());
        self.unnamed_undone(id, true, own);
    }

    /// A connection is gone.
    pub(crate) fn release_server(&mut self, server: &mut Server) {
        for Record { change, .. } in server.statements.log.drain(..) {
            match change {
                Change::Unnamed(_, Named { id, .. }) | Change::Closed(id, _) => {
                    self.pools[server.pool as usize].statements.release(id);
                }
                Change::All(names) => self.release_names(server.pool, &names),
                _ => {}
            }
        }
        let Some(entry) = self.pools.get_mut(server.pool as usize) else { return };
        for id in server.statements.ids() {
            entry.statements.release(id);
        }
    }

    /// A client is gone.
    pub(crate) fn release_client(&mut self, client: &mut Client) {
        if let Some(own) = client.statements.take() {
            self.release_names(client.pool, &own.names);
        }
    }

    fn release_names(&mut self, pool: u32, names: &Names) {
        let Some(entry) = self.pools.get_mut(pool as usize) else { return };
        names.values().for_each(|named| entry.statements.release(named.id));
    }

    /// A connection has no statements any more: something deallocated them all.
    pub(crate) fn forget_statements(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let statements = &mut self.pools[server.pool as usize].statements;
        server.statements.unnamed = UNKNOWN;
        for id in server.statements.ids() {
            server.statements.remove(id);
            statements.release(id);
        }
    }

    /// A client has no statements any more: it deallocated them all.
    #[expect(dead_code, reason = "for whoever empties sessions")]
    pub(crate) fn forget_names(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let pool = client.pool;
        if let Some(own) = client.statements.take() {
            self.release_names(pool, &own.names);
        }
    }

    fn names_mut(&mut self, client: ClientId) -> Option<&mut Names> {
        Some(&mut self.clients.get_mut(client)?.statements.as_mut()?.names)
    }

    fn name_mut(&mut self, client: ClientId, name: &[u8]) -> Option<&mut Named> {
        self.names_mut(client)?.get_mut(name)
    }
}

/// The form of a statement's parameters.
fn parameters(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish() | 1
}

/// And of its rows: names, types, sizes and type modifiers. Not which table a column is of, nor its format. Without rows
/// the body is empty.
fn rows(parameters: u64, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parameters.hash(&mut hasher);
    let mut fields = Fields(body.get(2..).unwrap_or_default());
    while let Some(name) = fields.string()
        && fields.bytes(6).is_some()
        && let Some(kind) = fields.bytes(10)
        && fields.bytes(2).is_some()
    {
        (name, kind).hash(&mut hasher);
    }
    body.is_empty().hash(&mut hasher);
    hasher.finish() | 1
}
