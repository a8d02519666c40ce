//! What a client's messages about statements come to on the connection that it holds.

use headpond_wire::postgres::frontend;

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::client::Client;
use crate::endings;
use crate::exchange::{Answer, Errand, Owner, StandIn};
use crate::pooler::Pooler;
use crate::requests::Run;
use crate::statements::client::{ClientStatements, Named};
use crate::statements::registry::{StatementId, text_of};
use crate::statements::server::{Change, Prepared};
use crate::statements::{Handled, Message, Note, Runs};

/// A portal that nobody has; the name is what the server's log shows.
const REFUSED: &str = "Headpond: a prepared statement was refused";

/// A larger Parse is not kept: its statement is only known to the connection it was sent to.
const COLLECTED_MAX: usize = 4 * 1024 * 1024;

/// What a connection has of a statement.
enum Found {
    /// It, ready for use.
    Fresh(Prepared),
    /// It, as it was before a table was changed.
    Stale,
    /// Nothing.
    Nothing,
}

impl Pooler {
    /// A Parse that gives its statement a name.
    pub(super) fn parse_named(&mut self, message: &Message<'_>, run: &mut Run, out: &mut Actions) -> Handled {
        if self.is_uncertain(message, None) {
            return self.hold(message.server);
        }
        if self.named(message.client, message.name()).is_some() {
            self.log(message.server, Change::Refused(message.name().into()));
            return self.refuse(message, StandIn::NameTaken, 1, run, out);
        }
        let environment = self.environment_of(message);
        let Some(server) = self.servers.get(message.server) else { return Handled::Done };
        let pool = server.pool as usize;
        let statements = &mut self.pools[pool].statements;
        let parse = message.behind_name();
        let id = match message.whole {
            true => statements.hold_parsed(parse, environment),
            false => statements.hold_unseen(environment, endings::begins_with_ending(parse)),
        };
        if self.is_uncertain(message, Some(id)) {
            self.pools[pool].statements.release(id);
            return self.hold(message.server);
        }
        let found = self.look_for(message.server, id);
        if let Found::Fresh(_) = found
            && self.is_refused_now(message.server, id)
        {
            self.pools[pool].statements.release(id);
            self.log(message.server, Change::Refused(message.name().into()));
            return self.refuse(message, StandIn::NameTaken, 1, run, out);
        }
        if let Some(client) = self.clients.get_mut(message.client) {
            let named = Named { id, shape: None };
            own(client).names.insert(message.name().into(), named);
            if !message.whole && message.header.size <= COLLECTED_MAX {
                own(client).collects = Some((id, parse.to_vec()));
            }
        }
        if let Found::Fresh(_) = found {
            self.pools[pool].traffic.client_parses += 1;
            self.log(message.server, Change::Named(message.name().into()));
            return self.answer(message, Answer::Parsed, run, out);
        }
        self.send_before(message.server, run, out);
        self.clear_place(message.server, id, found, out);
        self.rename(message, run, out, |bytes| id.write_name(bytes));
        self.log(message.server, Change::Named(message.name().into()));
        self.prepared(message.server, id);
        Handled::Goes(Note { changes: 2, names: true, ..Note::default() })
    }

    /// Whether a connection is known to be in a transaction that failed, in which this is not even parsed.
    fn is_refused_now(&self, server: ServerId, id: StatementId) -> bool {
        let Some(server) = self.servers.get(server) else { return false };
        let ends = self.pools[server.pool as usize].statements.get(id).is_some_and(|known| known.ends);
        server.status == b'E' && !server.exchanges.has_boundary() && !ends
    }

    /// More of a Parse that streams. `last`: all of it is there.
    pub(crate) fn collect_parse(&mut self, client: ClientId, bytes: &[u8], last: bool) {
        let Some(client) = self.clients.get_mut(client) else { return };
        let Some(own) = client.statements.as_mut() else { return };
        let Some((id, mut parse)) = own.collects.take() else { return };
        parse.extend_from_slice(bytes);
        if last {
            self.pools[client.pool as usize].statements.complete(id, &parse);
        } else {
            own.collects = Some((id, parse));
        }
    }

    /// A Bind or a Describe of a statement with a name.
    pub(super) fn use_named(&mut self, message: &Message<'_>, run: &mut Run, out: &mut Actions) -> Handled {
        let Some(Named { id, shape }) = self.named(message.client, message.name()) else {
            return match self.is_uncertain(message, None) {
                true => self.hold(message.server),
                false => self.pass_unknown(message, run, out),
            };
        };
        if self.is_uncertain(message, Some(id)) {
            return self.hold(message.server);
        }
        let id = self.in_environment(message, id);
        let found = self.look_for(message.server, id);
        match (&found, shape) {
            (Found::Fresh(Prepared { shape: Some(other), .. }), Some(shape)) if *other != shape => {
                return self.refuse(message, StandIn::Reshaped, 0, run, out);
            }
            (Found::Fresh(Prepared { shape: Some(_), .. }), _) | (Found::Fresh(_), None) => {}
            (_, None) => self.provide(message.server, id, found, run, out),
            (_, Some(_)) => {
                self.provide(message.server, id, found, run, out);
                self.ask_for_shape(message.server, id, run, out);
                return self.hold(message.server);
            }
        }
        self.rename(message, run, out, |bytes| id.write_name(bytes));
        if message.header.tag == b'D' {
            self.log(message.server, Change::Described(Some(message.name().into()), id));
            return Handled::Goes(Note { changes: 1, describes: true, ..Note::default() });
        }
        let server = self.servers.get(message.server);
        let statement = server.and_then(|server| self.pools[server.pool as usize].statements.get(id));
        let ends = statement.is_none_or(|known| known.ends);
        Handled::Goes(Note { ends: Some(ends), runs: Runs::Statement(id), ..Note::default() })
    }

    /// A client closes a statement; connections keep it.
    pub(super) fn close_named(&mut self, message: &Message<'_>, run: &mut Run, out: &mut Actions) -> Handled {
        if self.is_uncertain(message, None) {
            return self.hold(message.server);
        }
        let statements = self.clients.get_mut(message.client).and_then(|client| client.statements.as_mut());
        let Some((name, named)) = statements.and_then(|own| own.names.remove_entry(message.name())) else {
            return self.pass_unknown(message, run, out);
        };
        self.log(message.server, Change::Unnamed(name, named));
        self.answer(message, Answer::Closed, run, out)
    }

    /// A Parse of the unnamed statement.
    pub(super) fn parse_unnamed(
        &mut self,
        message: &Message<'_>,
        run: &mut Run,
        out: &mut Actions,
    ) -> Handled {
        let mut note = Note::default();
        if message.whole {
            let both = (message.client, message.server);
            match self.look_for_deallocate(both, message.header, message.body, run, out) {
                Some(found) => note = found,
                None => return self.hold(message.server),
            }
        }
        let parse = message.behind_name();
        let (Some(client), Some(server)) =
            (self.clients.get_mut(message.client), self.servers.get_mut(message.server))
        else {
            return Handled::Done;
        };
        let number = self.pools[server.pool as usize].statements.number();
        own(client).set_unnamed(number, message.whole.then_some(parse));
        server.statements.unnamed = number;
        server.statements.unnamed_batch = server.exchanges.batch();
        Handled::Goes(Note { unnames: true, ..note })
    }

    /// A Bind or a Describe of the unnamed statement: the client's own, or none.
    pub(super) fn use_unnamed(&mut self, message: &Message<'_>, run: &mut Run, out: &mut Actions) -> Handled {
        let (Some(client), Some(server)) =
            (self.clients.get_mut(message.client), self.servers.get_mut(message.server))
        else {
            return Handled::Done;
        };
        if server.exchanges.is_outstanding(server.statements.unnamed_batch) {
            return self.hold(message.server);
        }
        let wanted = client.statements.as_deref().map_or(0, |own| own.unnamed);
        let lacks = server.statements.unnamed != wanted;
        let parsed_now = server.statements.unnamed_batch == server.exchanges.batch();
        if !lacks && (parsed_now || wanted == 0) {
            return Note::PLAIN;
        }
        let own = client.statements.take();
        let parse = own.as_deref().and_then(ClientStatements::unnamed_parse);
        if lacks {
            self.send_before(message.server, run, out);
            self.replace_unnamed(message.server, wanted, parse, out);
        }
        if let Some(client) = self.clients.get_mut(message.client) {
            client.statements = own;
        }
        // It is looked at again in each batch, as one that was parsed in it.
        let runs = if message.header.tag == b'B' && wanted != 0 { Runs::Unnamed } else { Runs::Nothing };
        Handled::Goes(Note { runs, ..Note::default() })
    }

    /// Puts a client's unnamed statement in the place of the one that the connection has.
    fn replace_unnamed(&mut self, id: ServerId, number: u64, parse: Option<&[u8]>, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let tag = if parse.is_some() { b'P' } else { b'C' };
        if server.exchanges.sent(tag, Owner::Pooler(Errand::Prepare)).is_err() {
            return;
        }
        server.exchanges.note(0, false, true);
        server.statements.unnamed = if parse.is_some() { number } else { 0 };
        server.statements.unnamed_batch = server.exchanges.batch();
        match parse {
            Some(parse) => {
                server.exchanges.weigh_unnamed(endings::begins_with_ending(text_of(parse)));
                self.pools[server.pool as usize].traffic.server_parses += 1;
                out.send(Link::Server(id), |bytes| frontend::parse(bytes, |_| {}, parse));
            }
            None => out.send(Link::Server(id), |bytes| frontend::close_statement(bytes, |_| {})),
        }
    }

    /// A simple query or a Close destroys the unnamed statement.
    pub(super) fn unnamed_destroyed(&mut self, client: ClientId, server: ServerId) {
        self.unnamed_forgotten(client);
        if let Some(server) = self.servers.get_mut(server) {
            server.statements.unnamed = 0;
            server.statements.unnamed_batch = server.exchanges.batch();
        }
    }

    /// A client has no unnamed statement any more.
    pub(crate) fn unnamed_forgotten(&mut self, client: ClientId) {
        if let Some(own) = self.clients.get_mut(client).and_then(|client| client.statements.as_mut()) {
            own.unnamed = 0;
        }
    }

    /// The statement as the client's settings have it now. One that the connection has is used as it is: it was parsed
    /// when the client prepared it.
    fn in_environment(&mut self, message: &Message<'_>, id: StatementId) -> StatementId {
        let environment = self.environment_of(message);
        let Some(server) = self.servers.get_mut(message.server) else { return id };
        let statements = &mut self.pools[server.pool as usize].statements;
        let moved = statements.get(id).filter(|statement| statement.environment != environment);
        let Some(parse) = moved.and_then(|statement| statement.parse.clone()) else { return id };
        if server.statements.get_mut(id).is_some() {
            return id;
        }
        let own = self.clients.get_mut(message.client).and_then(|client| client.statements.as_mut());
        let Some(named) = own.and_then(|own| own.names.get_mut(message.name())) else { return id };
        named.id = statements.hold_parsed(&parse, environment);
        statements.release(id);
        named.id
    }

    fn look_for(&mut self, server: ServerId, id: StatementId) -> Found {
        let Some(server) = self.servers.get_mut(server) else { return Found::Nothing };
        match server.statements.touch(id) {
            None => Found::Nothing,
            Some(prepared) if prepared.epoch != self.pools[server.pool as usize].statements.epoch => {
                Found::Stale
            }
            Some(prepared) => Found::Fresh(prepared),
        }
    }

    /// Parses a statement on a connection that lacks it.
    fn provide(
        &mut self,
        server_id: ServerId,
        id: StatementId,
        found: Found,
        run: &mut Run,
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get(server_id) else { return };
        if matches!(found, Found::Fresh(_)) {
            return;
        }
        let statement = self.pools[server.pool as usize].statements.get(id);
        // One that is not known cannot be parsed again: the server will say that it does not exist.
        let Some(parse) = statement.and_then(|statement| statement.parse.clone()) else { return };
        self.send_before(server_id, run, out);
        self.clear_place(server_id, id, found, out);
        let Some(server) = self.servers.get_mut(server_id) else { return };
        if server.exchanges.sent(b'P', Owner::Pooler(Errand::Prepare)).is_err() {
            return;
        }
        server.exchanges.note(1, false, false);
        self.pools[server.pool as usize].traffic.server_parses += 1;
        out.send(Link::Server(server_id), |bytes| {
            frontend::parse(bytes, |bytes| id.write_name(bytes), &parse);
        });
        self.prepared(server_id, id);
    }

    /// A connection is about to have a statement.
    fn prepared(&mut self, server_id: ServerId, id: StatementId) {
        let Some(server) = self.servers.get_mut(server_id) else { return };
        let statements = &mut self.pools[server.pool as usize].statements;
        statements.hold(id);
        server.statements.insert(id, statements.epoch);
        self.log(server_id, Change::Prepared(id));
    }

    /// Closes what stands in the way of a statement on a connection: an older one of the same name, and what was not
    /// used for longest, if it has as many as it may.
    fn clear_place(&mut self, server_id: ServerId, id: StatementId, found: Found, out: &mut Actions) {
        if matches!(found, Found::Stale) {
            self.close_prepared(server_id, id, out);
        }
        while let Some(server) = self.servers.get_mut(server_id)
            && server.statements.len() >= self.pools[server.pool as usize].statements.size
            && let Some(oldest) = server.statements.oldest()
        {
            self.close_prepared(server_id, oldest, out);
        }
    }

    fn close_prepared(&mut self, server_id: ServerId, id: StatementId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(server_id) else { return };
        let Some(prepared) = server.statements.remove(id) else { return };
        if server.exchanges.sent(b'C', Owner::Pooler(Errand::Prepare)).is_ok() {
            server.exchanges.note(1, false, false);
            out.send(Link::Server(server_id), |bytes| {
                frontend::close_statement(bytes, |bytes| id.write_name(bytes));
            });
        }
        self.log(server_id, Change::Closed(id, prepared));
    }

    /// Asks a connection for the form of a statement's parameters and rows, ahead of a message that relies on it.
    fn ask_for_shape(&mut self, server_id: ServerId, id: StatementId, run: &mut Run, out: &mut Actions) {
        self.send_before(server_id, run, out);
        let Some(server) = self.servers.get_mut(server_id) else { return };
        if server.exchanges.sent(b'D', Owner::Pooler(Errand::Prepare)).is_err() {
            return;
        }
        server.exchanges.note(1, true, false);
        server.statements.verifies = true;
        out.send(Link::Server(server_id), |bytes| {
            frontend::describe_statement(bytes, |bytes| id.write_name(bytes));
            frontend::flush(bytes);
        });
        self.log(server_id, Change::Described(None, id));
    }

    /// A message is answered without the server, in its turn. What it changes was just logged.
    fn answer(&mut self, message: &Message<'_>, answer: Answer, run: &mut Run, out: &mut Actions) -> Handled {
        self.send_before(message.server, run, out);
        if let Some(server) = self.servers.get_mut(message.server) {
            self.pools[server.pool as usize].traffic.received += message.take() as u64;
            server.exchanges.answered(answer, 1);
            self.give_answers(message.server, out);
        }
        self.consume(message, run)
    }

    /// The server gets something that fails instead of a message.
    fn refuse(
        &mut self,
        message: &Message<'_>,
        why: StandIn,
        changes: u8,
        run: &mut Run,
        out: &mut Actions,
    ) -> Handled {
        self.send_before(message.server, run, out);
        if let Some(server) = self.servers.get_mut(message.server)
            && server.exchanges.sent_instead(b'D', why).is_ok()
        {
            server.exchanges.note(changes, false, false);
            out.send(Link::Server(message.server), |bytes| frontend::describe_portal(bytes, REFUSED));
        }
        self.consume(message, run)
    }
}

/// What a client has prepared, made when it is needed: most clients prepare nothing.
fn own(client: &mut Client) -> &mut ClientStatements {
    client.statements.get_or_insert_default()
}
