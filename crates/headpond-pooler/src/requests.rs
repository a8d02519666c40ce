//! Bytes from client to server: requests go to the connection that the client holds a lease on.
//!
//! Messages are relayed whole; one too large to be held streams. Only headers are read, bodies never.

use headpond_core::Tick;
use headpond_wire::postgres::encode;
use headpond_wire::postgres::frame::{self, Header, Next};

use crate::aborted::{Aborted, Local};
use crate::action::{Action, Actions, ClientId, Link, Report, ServerId};
use crate::client::{ClientState, Discard, Lease};
use crate::config::PoolMode;
use crate::endings;
use crate::exchange::{Owner, StandIn};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::{Server, ServerState};
use crate::session::Refusal;
use crate::session::runs::Reading;
use crate::statements::{Handled, Note, Runs};
use crate::timers::Timer;

/// Bytes of one event that go on together: from where, and up to where.
pub(crate) struct Run {
    pub(crate) from: usize,
    pub(crate) at: usize,
}

/// What the relay does after a message.
pub(crate) enum Step {
    Next,
    Stop,
    Gone,
}

impl Pooler {
    /// A client has something to read. It is read if somebody can make use of it, else it queues unread.
    pub(crate) fn client_readable(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        match (&client.state, client.lease) {
            (ClientState::Ready, Lease::Active(server)) => {
                // What was held back until its settings are true is not added to.
                let waits = |server: &Server| server.exchanges.is_setting() || server.statements.holds;
                let held = client.unread && self.servers.get(server).is_some_and(waits);
                if !held && self.may_send(id, server) {
                    out.push(Action::Read(Link::Client(id)));
                } else if let Some(client) = self.clients.get_mut(id) {
                    client.unread = true;
                }
            }
            (ClientState::Ready, Lease::None) => {
                let pool = &self.pools[client.pool as usize];
                // With a connection at hand, or one to be opened, the message is read first: it may need none, as a
                // goodbye does, or not be whole.
                let rest = client.copy_tail || client.streaming > 0;
                let local = rest || client.hung_up || client.aborted != Aborted::No;
                let at_hand = pool.policy.has_trusted_idle(now) || pool.policy.would_open();
                if local || at_hand || self.wants_server(now, id, None, out) {
                    out.push(Action::Read(Link::Client(id)));
                }
            }
            (ClientState::Ready, Lease::Waiting(_))
            | (ClientState::AwaitsParameters | ClientState::Handshake { .. } | ClientState::LookedUp(_), _) => {
                client.unread = true
            }
            _ => out.push(Action::Read(Link::Client(id))),
        }
    }

    /// Whether the client's next message may go to its server now.
    pub(crate) fn may_send(&self, id: ClientId, server_id: ServerId) -> bool {
        let (Some(client), Some(server)) = (self.clients.get(id), self.servers.get(server_id)) else {
            return true;
        };
        let signalled = server.cancels > 0 && !planted!(CancelledAfterHandOver);
        let session = &server.session;
        let refused = session.refusal != Refusal::None && !server.exchanges.is_unsynced();
        let asks = server.exchanges.is_asking();
        let held = session.is_probed() || asks || server.exchanges.is_returning() || refused;
        let open = matches!(server.state, ServerState::Live) && !server.blocked && !signalled && !held;
        open && (client.streaming > 0 || !self.stops_at_boundary(server_id))
    }

    /// Whether a message could run under settings that are not its client's: they are still being set, and it
    /// may end the failed transaction that would stop all others if they cannot be.
    fn escapes_guard(&self, id: ClientId, server_id: ServerId, tag: u8, body: &[u8]) -> bool {
        let setting = self.servers.get(server_id).is_some_and(|server| server.exchanges.is_setting());
        if !setting || planted!(SettingsUnguarded) {
            return false;
        }
        let known = if tag == b'B' { self.bind_may_end(id, body) } else { None };
        known.unwrap_or_else(|| endings::may_end_transaction(tag, body))
    }

    /// In statement mode, and in transaction mode while others wait, a client goes no further than its first request's end until the
    /// transaction status after it is known: one that pipelines cannot keep the connection for ever.
    fn stops_at_boundary(&self, server_id: ServerId) -> bool {
        let Some(server) = self.servers.get(server_id) else { return false };
        let pool = &self.pools[server.pool as usize];
        let one_by_one = match pool.mode {
            PoolMode::Session => false,
            PoolMode::Transaction => pool.policy.waiting() > 0,
            // What comes next must not run in a transaction that is about to be refused.
            PoolMode::Statement => true,
        };
        one_by_one
            && server.exchanges.has_boundary()
            // Data belong to the request under way, which cannot end without them.
            && !server.exchanges.is_copying()
    }

    /// Bytes of a client. Returns how many are consumed.
    pub(crate) fn client_received(
        &mut self,
        now: Tick,
        id: ClientId,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        let Some(client) = self.clients.get_mut(id) else { return bytes.len() };
        // All there was is here; whoever leaves some of it says so again.
        client.unread = false;
        match client.state {
            ClientState::Startup => {
                let consumed = self.startup_received(now, id, bytes, out);
                self.came_along(now, id, consumed, bytes.len(), out)
            }
            ClientState::Login(_) => {
                let consumed = self.login_received(now, id, bytes, out);
                self.came_along(now, id, consumed, bytes.len(), out)
            }
            ClientState::AwaitsParameters | ClientState::Handshake { .. } | ClientState::LookedUp(_) => 0,
            ClientState::Refused(discard) => self.discard(now, id, discard, bytes, out),
            // It was to be read before it had to queue.
            ClientState::Ready if matches!(client.lease, Lease::Waiting(_)) => {
                client.unread = true;
                0
            }
            ClientState::Ready => self.relay_requests(now, id, bytes, out),
        }
    }

    /// Something came in one flight with a message of the login: nobody will say that it is there.
    fn came_along(
        &mut self,
        now: Tick,
        id: ClientId,
        consumed: usize,
        len: usize,
        out: &mut Actions,
    ) -> usize {
        if (1..len).contains(&consumed) {
            self.client_readable(now, id, out);
        }
        consumed
    }

    fn relay_requests(&mut self, now: Tick, id: ClientId, bytes: &[u8], out: &mut Actions) -> usize {
        let mut run = Run { from: 0, at: 0 };
        self.continue_request(id, bytes, &mut run);
        loop {
            let header = match frame::next(&bytes[run.at..]) {
                Ok(Next::Whole(header) | Next::Begun(header)) => header,
                Ok(Next::More) => break,
                Err(bad) => {
                    self.forward_requests(id, &run, out);
                    self.misbehaved(now, id, &format!("invalid message length {}", bad.0), out);
                    return bytes.len();
                }
            };
            match self.relay_request(now, id, header, bytes, &mut run, out) {
                Step::Next => {}
                Step::Stop => break,
                Step::Gone => return bytes.len(),
            }
        }
        self.forward_requests(id, &run, out);
        if let Some(client) = self.clients.get(id)
            && let Some(server_id) = client.server()
        {
            // Nothing was begun: there was no whole message after all, or only the end of one that streamed
            // past the end of its COPY. The connection is not kept for what may come.
            if !client.is_inside_message() && self.servers.get(server_id).is_some_and(|s| s.is_clean()) {
                self.came_to_rest(now, server_id, out);
            }
        }
        if planted!(SentTwice) && run.from == 0 && self.clients.get(id).is_some_and(|client| client.unread) {
            return 0;
        }
        run.at
    }

    /// Sends what has been found to be good so far: the exchanges count on it.
    fn forward_requests(&mut self, id: ClientId, run: &Run, out: &mut Actions) {
        if let Some(client) = self.clients.get(id)
            && let Some(server) = client.server()
        {
            self.pools[client.pool as usize].traffic.received += (run.at - run.from) as u64;
            out.forward(Link::Server(server), run.from, run.at);
        }
    }

    /// The rest of a message that streams.
    fn continue_request(&mut self, id: ClientId, bytes: &[u8], run: &mut Run) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let take = bytes.len().min(client.streaming as usize);
        client.streaming -= u32::try_from(take).unwrap_or(0);
        run.at = take;
        let (server_id, last) = (client.server().filter(|_| !client.skips), client.streaming == 0);
        if server_id.is_none() {
            run.from = take;
        }
        client.skips &= !last;
        if take == 0 {
            return;
        }
        if client.statements.as_ref().is_some_and(|own| own.collects.is_some()) {
            self.collect_parse(id, &bytes[..take], last);
        }
        if let Some(server_id) = server_id {
            self.reads_more(id, server_id, &bytes[..take], last);
        }
    }

    /// One message of a client, of which at least the header is there.
    #[inline]
    fn relay_request(
        &mut self,
        now: Tick,
        id: ClientId,
        header: Header,
        bytes: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        if header.tag == b'X' {
            self.leaves(now, id, run, out);
            return Step::Gone;
        }
        let Some(client) = self.clients.get_mut(id) else { return Step::Gone };
        let take = header.size.min(bytes.len() - run.at);
        let rest = u32::try_from(header.size - take).unwrap_or(0);
        let server_id = client.server();
        let too_large = header.size > self.size_limit;
        let of_copy = matches!(header.tag, b'd' | b'c' | b'f');
        if server_id.is_none() {
            if of_copy {
                // Data for a COPY that has ended: PostgreSQL reads over it too.
                client.skip(rest);
                run.at += take;
                run.from = run.at;
                return Step::Next;
            }
            client.copy_tail = false;
            if too_large {
                client.state = ClientState::Refused(Discard::First(Cause::MessageTooLarge));
                out.push(Action::Read(Link::Client(id)));
                return Step::Stop;
            }
        }
        let aborted = client.aborted != Aborted::No;
        if aborted && !of_copy {
            // Of a message that is not all there nothing is taken for known.
            let whole = bytes.get(run.at + frame::HEADER..run.at + take).filter(|_| rest == 0);
            match self.answer_aborted(id, header.tag, whole.unwrap_or_default(), out) {
                Local::Done => {
                    if let Some(client) = self.clients.get_mut(id) {
                        client.skip(rest);
                        client.idle_since = now;
                    }
                    if matches!(header.tag, b'P' | b'Q') {
                        self.unnamed_forgotten(id);
                    }
                    run.at += take;
                    run.from = run.at;
                    return Step::Next;
                }
                Local::Refused => return Step::Stop,
                Local::NeedsServer => {}
            }
        }
        let Some(server_id) = server_id else {
            let whole = bytes.get(run.at + frame::HEADER..run.at + take).filter(|_| rest == 0);
            let prefer = self.has_values(id, header.tag, whole.unwrap_or_default());
            return if self.wants_server(now, id, prefer, out) { Step::Next } else { Step::Stop };
        };
        let body = bytes.get(run.at + frame::HEADER..run.at + take).unwrap_or_default();
        if !self.may_send(id, server_id) || self.escapes_guard(id, server_id, header.tag, body) {
            if let Some(client) = self.clients.get_mut(id) {
                client.unread = true;
            }
            return Step::Stop;
        }
        if aborted {
            self.abort_again(now, id, server_id, out);
        }
        let Some(server) = self.servers.get_mut(server_id) else { return Step::Gone };
        server.session.resumes(now, &mut self.pools[server.pool as usize].traffic);
        if server.exchanges.at_rest() {
            server.query_begun = now;
            if server.status == b'I' {
                server.transaction_begun = now;
            }
        }
        if too_large {
            return self.refuse_large(now, id, server_id, header, take, StandIn::TooLarge, run, out);
        }
        let reading = self.read_ahead(id, server_id, header.tag, body, rest == 0);
        if !self.may_run(now, id, server_id, &reading, out) {
            return self.refuse_large(now, id, server_id, header, take, StandIn::Sequence, run, out);
        }
        let Some(server) = self.servers.get(server_id) else { return Step::Gone };
        let mut note = Note::default();
        if matches!(header.tag, b'B' | b'P' | b'Q' | b'D' | b'C')
            && self.pools[server.pool as usize].carries_statements()
        {
            match self.relay_statement(id, server_id, header, body, run, out) {
                Handled::Goes(handled) => note = handled,
                Handled::Done => return Step::Next,
                Handled::Incomplete => return Step::Stop,
                Handled::Held => {
                    if let Some(client) = self.clients.get_mut(id) {
                        client.unread = true;
                    }
                    return Step::Stop;
                }
            }
        }
        let reading = match note.runs {
            Runs::Nothing if note.names => Reading::Nothing,
            Runs::Nothing => reading,
            runs => self.read_bound(id, server_id, runs),
        };
        let Some(server) = self.servers.get_mut(server_id) else { return Step::Gone };
        let copying = server.exchanges.is_copying();
        if server.exchanges.sent(header.tag, Owner::Client).is_err() {
            let message = match copying {
                true => format!("unexpected message type 0x{:02X} during COPY from stdin", header.tag),
                false => format!("invalid frontend message type {}", header.tag),
            };
            self.forward_requests(id, run, out);
            self.misbehaved(now, id, &message, out);
            return Step::Gone;
        }
        match note.ends {
            Some(ends) => server.exchanges.weigh_bind(ends),
            None => server.exchanges.weigh(header.tag, body, rest == 0, server.status),
        }
        note.take(&mut server.exchanges);
        self.runs(id, server_id, reading, header.tag);
        let Some(server) = self.servers.get_mut(server_id) else { return Step::Gone };
        let pool = &mut self.pools[server.pool as usize];
        if let Some(at) = pool.patience.map(|patience| now.plus(patience))
            && at < server.lease_armed
        {
            server.lease_armed = at;
            self.timers.set(at, Timer::Lease(server_id));
        }
        let traffic = &mut pool.traffic;
        match header.tag {
            b'Q' | b'F' | b'S' => traffic.queries += 1,
            b'P' => {
                traffic.client_parses += 1;
                traffic.server_parses += 1;
            }
            b'B' => traffic.binds += 1,
            _ => {}
        }
        if let Some(client) = self.clients.get_mut(id) {
            client.streaming = rest;
        }
        run.at += take;
        Step::Next
    }

    /// Goodbye: what was sent before it is still carried out.
    fn leaves(&mut self, now: Tick, id: ClientId, run: &Run, out: &mut Actions) {
        self.forward_requests(id, run, out);
        self.remove_client(now, id, false, out);
        out.push(Action::Close(Link::Client(id)));
    }

    /// Reads over a request that was refused, and answers it once.
    fn discard(
        &mut self,
        now: Tick,
        id: ClientId,
        mut discard: Discard,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        let mut run = Run { from: 0, at: 0 };
        self.continue_request(id, bytes, &mut run);
        let mut at = run.at;
        loop {
            let header = match frame::next(&bytes[at..]) {
                Ok(Next::Whole(header) | Next::Begun(header)) => header,
                Ok(Next::More) => {
                    // It waited for the tail of an earlier request only: there is nothing to be refused. The loss of
                    // what was begun is told all the same.
                    if at == bytes.len()
                        && let Discard::First(cause) = discard
                        && !matches!(cause, Cause::OutcomeUnknown | Cause::InFailedTransaction)
                        && let Some(client) = self.clients.get_mut(id)
                    {
                        client.state = ClientState::Ready;
                        client.copy_tail = true;
                    }
                    return at;
                }
                Err(bad) => {
                    self.misbehaved(now, id, &format!("invalid message length {}", bad.0), out);
                    return bytes.len();
                }
            };
            if header.tag == b'X' {
                self.drop_client(id, out);
                return bytes.len();
            }
            let take = header.size.min(bytes.len() - at);
            at += take;
            if let Some(client) = self.clients.get_mut(id) {
                client.skip(u32::try_from(header.size - take).unwrap_or(0));
            }
            if let Discard::First(cause) = discard {
                // Data of no COPY any more, or what nobody expects an answer to.
                if matches!(header.tag, b'd' | b'c' | b'f' | b'H') {
                    continue;
                }
                self.send_refusal(now, id, cause, out);
                if cause == Cause::ShuttingDown {
                    self.drop_client(id, out);
                    return bytes.len();
                }
            }
            let over = match discard {
                Discard::First(_) => matches!(header.tag, b'Q' | b'F' | b'S'),
                Discard::ToSync => header.tag == b'S',
            };
            discard = Discard::ToSync;
            let Some(client) = self.clients.get_mut(id) else { return bytes.len() };
            // Data of a COPY that was refused, and the rest of this message, are read over too.
            client.copy_tail |= over;
            client.state = if over { ClientState::Ready } else { ClientState::Refused(discard) };
            client.idle_since = now;
            if over {
                let status = if client.aborted == Aborted::No { b'I' } else { b'E' };
                let times = if planted!(SyncAnsweredTwice) { 2 } else { 1 };
                for _ in 0..times {
                    out.send(Link::Client(id), |bytes| encode::ready_for_query(bytes, status));
                }
                if at < bytes.len() {
                    self.client_readable(now, id, out);
                }
                return at;
            }
        }
    }

    /// A client broke the protocol: it is told and closed.
    pub(crate) fn misbehaved(&mut self, now: Tick, id: ClientId, message: &str, out: &mut Actions) {
        out.report(Report::ClientMisbehaved { message: message.to_owned() });
        let mut heard_part = false;
        if let Some(client) = self.clients.get_mut(id)
            && let Lease::Active(server) = std::mem::replace(&mut client.lease, Lease::None)
        {
            let inside = client.is_inside_message();
            heard_part = self.servers.get(server).is_some_and(|server| server.is_inside_reply());
            self.abandon(now, server, inside, true, out);
        }
        if heard_part {
            self.drop_client(id, out);
        } else {
            self.close_client(id, Cause::ProtocolViolation, message, out);
        }
    }
}
