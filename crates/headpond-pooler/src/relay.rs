//! Bytes from socket to socket: requests to the server that holds the lease, replies to the client that asked.
//!
//! Messages are relayed whole; one too large to be held streams. Only headers are read, bodies never.

use headpond_core::{CloseReason, Tick};
use headpond_wire::postgres::backend::ErrorFields;
use headpond_wire::postgres::encode;
use headpond_wire::postgres::frame::{self, Header, Next};

use crate::action::{Action, Actions, ClientId, Link, Report, ServerId};
use crate::budget::survey_answer;
use crate::client::{ClientState, Discard, Lease};
use crate::config::PoolMode;
use crate::exchange::{Errand, Kind, Owner};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::ServerState;
use crate::settings;

/// Bytes of one event that go on together: from where, and up to where.
struct Run {
    from: usize,
    at: usize,
}

/// What the relay does after a client's message.
enum Step {
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
                if self.may_send(id, server) {
                    out.push(Action::Read(Link::Client(id)));
                } else if let Some(client) = self.clients.get_mut(id) {
                    client.unread = true;
                }
            }
            (ClientState::Ready, Lease::None) => {
                let pool = &self.pools[client.pool as usize];
                // With a connection at hand the message is read first: it may need none, or not be whole.
                if client.copy_tail || pool.policy.has_trusted_idle(now) || self.wants_server(now, id, out) {
                    out.push(Action::Read(Link::Client(id)));
                }
            }
            (ClientState::Ready, Lease::Waiting(_)) | (ClientState::AwaitsParameters, _) => {
                client.unread = true
            }
            _ => out.push(Action::Read(Link::Client(id))),
        }
    }

    /// Whether the client's next message may go to its server now.
    fn may_send(&self, id: ClientId, server_id: ServerId) -> bool {
        let (Some(client), Some(server)) = (self.clients.get(id), self.servers.get(server_id)) else {
            return true;
        };
        let open = matches!(server.state, ServerState::Live) && !server.blocked && server.cancels == 0;
        open && (client.streaming > 0 || !self.stops_at_boundary(server_id))
    }

    /// Whether a message could run under settings that are not its client's: they are still being set, and it
    /// may end the failed transaction that would stop all others if they cannot be.
    fn escapes_guard(&self, server_id: ServerId, tag: u8, body: &[u8]) -> bool {
        let setting = self.servers.get(server_id).is_some_and(|server| server.exchanges.is_setting());
        setting && settings::may_end_transaction(tag, body)
    }

    /// In transaction mode, while others wait, a client goes no further than its first request's end until the
    /// transaction status after it is known: one that pipelines cannot keep the connection for ever.
    fn stops_at_boundary(&self, server_id: ServerId) -> bool {
        let Some(server) = self.servers.get(server_id) else { return false };
        let pool = &self.pools[server.pool as usize];
        pool.mode == PoolMode::Transaction
            && server.exchanges.has_boundary()
            // Data belong to the request under way, which cannot end without them.
            && !server.exchanges.is_copying()
            && pool.policy.waiting() > 0
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
            ClientState::AwaitsParameters => 0,
            ClientState::Refused(discard) => self.discard(now, id, discard, bytes, out),
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
        if let Some(client) = self.clients.get(id)
            && let Some(server_id) = client.server()
        {
            let pool = &mut self.pools[client.pool as usize];
            pool.traffic.received += (run.at - run.from) as u64;
            out.forward(Link::Server(server_id), run.from, run.at);
            // Nothing was begun: there was no whole message after all, or only the end of one that streamed
            // past the end of its COPY. The connection is not kept for what may come.
            if client.streaming == 0 && self.servers.get(server_id).is_some_and(|s| s.is_clean()) {
                self.came_to_rest(now, server_id, out);
            }
        }
        run.at
    }

    /// The rest of a message that streams.
    fn continue_request(&mut self, id: ClientId, bytes: &[u8], run: &mut Run) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let take = bytes.len().min(client.streaming as usize);
        client.streaming -= u32::try_from(take).unwrap_or(0);
        run.at = take;
        if client.server().is_none() {
            run.from = take;
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
        let Some(server_id) = client.server() else {
            if matches!(header.tag, b'd' | b'c' | b'f') {
                // Data for a COPY that has ended: PostgreSQL reads over it too.
                client.streaming = rest;
                run.at += take;
                run.from = run.at;
                return Step::Next;
            }
            client.copy_tail = false;
            return if self.wants_server(now, id, out) { Step::Next } else { Step::Stop };
        };
        let body = bytes.get(run.at + frame::HEADER..run.at + take).unwrap_or_default();
        if !self.may_send(id, server_id) || self.escapes_guard(server_id, header.tag, body) {
            if let Some(client) = self.clients.get_mut(id) {
                client.unread = true;
            }
            return Step::Stop;
        }
        let Some(server) = self.servers.get_mut(server_id) else { return Step::Gone };
        if server.exchanges.at_rest() {
            server.query_begun = now;
        }
        if server.exchanges.sent(header.tag, Owner::Client).is_err() {
            self.misbehaved(now, id, &format!("invalid frontend message type {}", header.tag), out);
            return Step::Gone;
        }
        let traffic = &mut self.pools[server.pool as usize].traffic;
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
        let Some(client) = self.clients.get(id) else { return };
        let server = client.server();
        if let Some(server) = server {
            out.forward(Link::Server(server), run.from, run.at);
        }
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
                    // It waited for the tail of an earlier request only: there is nothing to be refused.
                    if at == bytes.len()
                        && matches!(discard, Discard::First(_))
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
                client.streaming = u32::try_from(header.size - take).unwrap_or(0);
            }
            if let Discard::First(cause) = discard {
                if matches!(header.tag, b'd' | b'c' | b'f') {
                    continue;
                }
                self.send_refusal(now, id, cause, out);
                if cause == Cause::ShuttingDown {
                    self.drop_client(id, out);
                    return bytes.len();
                }
                discard = Discard::ToSync;
            }
            let over = matches!(header.tag, b'Q' | b'F' | b'S');
            let Some(client) = self.clients.get_mut(id) else { return bytes.len() };
            // Data of a COPY that was refused, and the rest of this message, are read over too.
            client.copy_tail |= over;
            client.state = if over { ClientState::Ready } else { ClientState::Refused(discard) };
            if over {
                out.send(Link::Client(id), |bytes| encode::ready_for_query(bytes, b'I'));
                if at < bytes.len() {
                    self.client_readable(now, id, out);
                }
                return at;
            }
        }
    }

    /// Bytes of a server. Returns how many are consumed.
    pub(crate) fn server_received(
        &mut self,
        now: Tick,
        id: ServerId,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        let Some(server) = self.servers.get(id) else { return bytes.len() };
        match server.state {
            ServerState::Connecting => 0,
            ServerState::Login(_) => self.server_login_received(now, id, bytes, out),
            ServerState::Live => self.relay_replies(now, id, bytes, out),
            ServerState::Reopening | ServerState::Closing | ServerState::Unconfirmed => bytes.len(),
        }
    }

    fn relay_replies(&mut self, now: Tick, id: ServerId, bytes: &[u8], out: &mut Actions) -> usize {
        let mut run = self.continue_reply(id, bytes);
        loop {
            let header = match frame::next(&bytes[run.at..]) {
                Ok(Next::Whole(header) | Next::Begun(header)) => header,
                Ok(Next::More) => break,
                Err(_) => {
                    self.mismatch(now, id, bytes[run.at], out);
                    return bytes.len();
                }
            };
            let take = header.size.min(bytes.len() - run.at);
            let message = &bytes[run.at..run.at + take];
            match self.relay_reply(now, id, header, message, &mut run, out) {
                Step::Next => {}
                Step::Stop | Step::Gone => return bytes.len(),
            }
        }
        self.forward_run(id, &mut run, out);
        if let Some(server) = self.servers.get(id)
            && server.exchanges.is_copying()
        {
            match server.client {
                // Its data may have been stopped at the boundary.
                Some(client) => self.read_on_if_allowed(client, id, out),
                None => self.recover(now, id, out),
            }
        }
        run.at
    }

    /// The rest of a reply that streams: to the client, or to nobody.
    fn continue_reply(&mut self, id: ServerId, bytes: &[u8]) -> Run {
        let Some(server) = self.servers.get_mut(id) else { return Run { from: 0, at: 0 } };
        let take = bytes.len().min(server.streaming as usize);
        server.streaming -= u32::try_from(take).unwrap_or(0);
        Run { from: if server.streaming_to_client { 0 } else { take }, at: take }
    }

    /// One message of a server, of which at least the header is there.
    #[inline]
    fn relay_reply(
        &mut self,
        now: Tick,
        id: ServerId,
        header: Header,
        message: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        // The message before may have brought about the end of the connection: what follows is nobody's.
        let live = self.servers.get_mut(id).filter(|server| matches!(server.state, ServerState::Live));
        let Some(server) = live else { return Step::Gone };
        let first = message.get(frame::HEADER).copied().unwrap_or(0);
        let Ok(reply) = server.exchanges.received(header.tag, first) else {
            self.forward_run(id, run, out);
            return self.mismatch(now, id, header.tag, out);
        };
        server.streaming = u32::try_from(header.size - message.len()).unwrap_or(0);
        // What its settings turn out to be, a client hears though it was we who set them.
        let reports = reply.owner == Owner::Pooler(Errand::Settings) && header.tag == b'S';
        if reply.owner == Owner::Pooler(Errand::Survey)
            && header.tag == b'D'
            && let Some(slots) = survey_answer(message.get(frame::HEADER..).unwrap_or_default())
        {
            let pool = server.pool;
            self.surveyed(pool, slots, out);
        }
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        let forwards = (reply.owner == Owner::Client || reports) && server.client.is_some();
        server.streaming_to_client = forwards;
        if !forwards {
            self.forward_run(id, run, out);
            run.from = run.at + message.len();
        }
        run.at += message.len();
        match reply.kind {
            Kind::Part | Kind::Asynchronous => Step::Next,
            Kind::Ready(status) => {
                let counts = reply.owner == Owner::Client;
                self.exchange_over(now, id, status, counts, run, out)
            }
            Kind::Error { in_copy } => self.request_failed(now, id, reply.owner, in_copy, message, run, out),
            Kind::Unasked => self.said_goodbye(now, id, message, run, out),
        }
    }

    #[inline]
    fn exchange_over(
        &mut self,
        now: Tick,
        id: ServerId,
        status: u8,
        counts: bool,
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        server.status = status;
        if counts {
            let traffic = &mut self.pools[server.pool as usize].traffic;
            traffic.query_time += now.0.saturating_sub(server.query_begun.0);
            server.query_begun = now;
            if status == b'I' {
                traffic.transactions += 1;
                traffic.transaction_time += now.0.saturating_sub(server.transaction_begun.0);
                server.transaction_begun = now;
            }
        }
        let (clean, client) = (server.is_clean(), server.client);
        if clean || client.is_none() {
            self.forward_run(id, run, out);
        }
        let held = client.filter(|client| {
            // Its settings are true now, and its message waited for that: the lease begins only here.
            !counts && self.clients.get(*client).is_some_and(|client| client.unread)
        });
        if let Some(client) = held {
            self.read_on_if_allowed(client, id, out);
        } else if clean {
            self.came_to_rest(now, id, out);
        } else if let Some(client) = client {
            // Stopped at a boundary, or held back until this one was known.
            self.read_on_if_allowed(client, id, out);
        } else {
            self.recover(now, id, out);
        }
        Step::Next
    }

    fn read_on_if_allowed(&mut self, client: ClientId, server: ServerId, out: &mut Actions) {
        if self.clients.get(client).is_some_and(|client| client.unread) && self.may_send(client, server) {
            self.read_on(client, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the relay, called from one place")]
    fn request_failed(
        &mut self,
        now: Tick,
        id: ServerId,
        owner: Owner,
        in_copy: bool,
        message: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        match owner {
            Owner::Client => {
                let error = ErrorFields::read(message.get(frame::HEADER..).unwrap_or_default());
                server.said_goodbye = error.is_fatal();
                let client = server.client;
                if in_copy
                    && let Some(client) = client
                    && let Some(client) = self.clients.get_mut(client)
                {
                    client.copy_tail = true;
                }
                if error.is_fatal() {
                    self.server_leaves(now, id, &error, out);
                }
                Step::Next
            }
            Owner::Pooler(errand) => {
                self.forward_run(id, run, out);
                let error = ErrorFields::read(message.get(frame::HEADER..).unwrap_or_default());
                if error.is_fatal() {
                    self.server_leaves(now, id, &error, out);
                    return Step::Next;
                }
                let (reason, cause) = match errand {
                    Errand::Settings => (CloseReason::SettingsRefused, Cause::SettingsRefused),
                    // Not every server knows: then there is no budget but the one that was told.
                    Errand::Survey => return Step::Next,
                    Errand::Check => {
                        if let Some(server) = self.servers.get_mut(id) {
                            server.check_failed = true;
                        }
                        return Step::Next;
                    }
                    Errand::Reset | Errand::CleanUp => (CloseReason::ResetFailed, Cause::ServerLost),
                };
                self.close_pair(now, id, reason, cause, &error.message, out);
                Step::Gone
            }
        }
    }

    /// An error nobody asked for: the server says why it is about to close. A client that holds the connection
    /// hears it as it would from the server itself; nobody else gets the connection.
    fn said_goodbye(
        &mut self,
        now: Tick,
        id: ServerId,
        message: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        self.forward_run(id, run, out);
        let error = ErrorFields::read(message.get(frame::HEADER..).unwrap_or_default());
        if !error.is_fatal() {
            return Step::Next;
        }
        if let Some(server) = self.servers.get_mut(id) {
            server.said_goodbye = server.client.is_some();
        }
        self.server_leaves(now, id, &error, out);
        self.close_pair(now, id, CloseReason::ServerLost, Cause::ServerLost, &error.message, out);
        Step::Gone
    }

    /// A connection hears that the server ends it: alone (`admin_shutdown` may mean either), or because the whole
    /// server goes or crashed.
    fn server_leaves(&mut self, now: Tick, id: ServerId, error: &ErrorFields, out: &mut Actions) {
        let certain = match error.sqlstate.as_str() {
            "57P01" => false,
            "57P02" | "57P03" => true,
            _ => return,
        };
        if let Some(server) = self.servers.get(id) {
            let pool = server.pool;
            self.with_pool(now, pool, out, |policy, actions| policy.server_leaving(now, certain, actions));
        }
    }

    /// Sends what has been found to be the client's so far.
    fn forward_run(&mut self, id: ServerId, run: &mut Run, out: &mut Actions) {
        if let Some(server) = self.servers.get(id)
            && let Some(client) = server.client
        {
            self.pools[server.pool as usize].traffic.sent += (run.at - run.from) as u64;
            out.forward(Link::Client(client), run.from, run.at);
        }
        run.from = run.at;
    }

    fn mismatch(&mut self, now: Tick, id: ServerId, tag: u8, out: &mut Actions) -> Step {
        let Some(server) = self.servers.get(id) else { return Step::Gone };
        self.totals.reply_mismatches += 1;
        out.report(Report::ReplyMismatch { pool: self.pool_title(server.pool), tag });
        let message = "the server's reply matches no request (reply_mismatch)";
        self.close_pair(now, id, CloseReason::ReplyMismatch, Cause::ProtocolViolation, message, out);
        Step::Gone
    }

    /// A client broke the protocol: it is told and closed.
    pub(crate) fn misbehaved(&mut self, now: Tick, id: ClientId, message: &str, out: &mut Actions) {
        out.report(Report::ClientMisbehaved { message: message.to_owned() });
        if let Some(client) = self.clients.get_mut(id)
            && let Lease::Active(server) = std::mem::replace(&mut client.lease, Lease::None)
        {
            let inside = client.streaming > 0;
            self.abandon(now, server, inside, true, out);
        }
        self.close_client(id, Cause::ProtocolViolation, message, out);
    }
}
