//! Bytes from server to client: replies go to the client that asked, and to nobody else.
//!
//! Each message is matched with the exchange at the front of its connection's queue. Ours are swallowed, the
//! client's go on in runs, as they were received.

use headpond_core::{CloseReason, Tick};
use headpond_wire::postgres::backend::ErrorFields;
use headpond_wire::postgres::frame::{self, Header, Next};

use crate::action::{Action, Actions, ClientId, Link, Report, ServerId};
use crate::client::Lease;
use crate::config::PoolMode;
use crate::control::Suspicion;
use crate::exchange::{Errand, Kind, Owner, StandIn};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::requests::{Run, Step};
use crate::server::ServerState;
use crate::session::Refusal;
use crate::tls::Upgrade;

impl Pooler {
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
            ServerState::Connecting | ServerState::Tls(Upgrade::Handshake) => 0,
            ServerState::Tls(Upgrade::Asked) => self.tls_answered(now, id, bytes, out),
            ServerState::Login(_) => self.server_login_received(now, id, bytes, out),
            ServerState::Live => self.relay_replies(now, id, bytes, out),
            ServerState::Again | ServerState::Reopening | ServerState::Closing | ServerState::Unconfirmed => {
                bytes.len()
            }
        }
    }

    fn relay_replies(&mut self, now: Tick, id: ServerId, bytes: &[u8], out: &mut Actions) -> usize {
        let mut run = self.continue_reply(id, bytes);
        if run.at > 0 && self.servers.get(id).is_some_and(|server| server.is_clean()) {
            // A notice that streamed was all that kept it from rest.
            self.forward_run(id, &mut run, out);
            self.came_to_rest(now, id, out);
        }
        if run.at > 0 && self.servers.get(id).is_some_and(|server| server.exchanges.owes_answer()) {
            self.forward_run(id, &mut run, out);
            self.give_answers(id, out);
        }
        loop {
            let header = match frame::next(&bytes[run.at..]) {
                Ok(Next::Whole(header) | Next::Begun(header)) => header,
                Ok(Next::More) => break,
                Err(_) => {
                    self.forward_run(id, &mut run, out);
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
            && (server.exchanges.is_copying() || server.client.is_none() && server.exchanges.is_unsynced())
        {
            match server.client {
                // Its data may have been stopped at the boundary.
                Some(client) => self.read_on_if_allowed(client, id, out),
                None => self.recover(now, id, out),
            }
            self.end_streams(now, out);
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
        if header.tag == b'E' {
            let error = ErrorFields::read(message.get(frame::HEADER..).unwrap_or_default());
            if error.is_fatal() {
                return self.said_goodbye(now, id, &error, message.len(), run, out);
            }
        }
        let first = message.get(frame::HEADER).copied().unwrap_or(0);
        let Ok(reply) = server.exchanges.received(header.tag, first) else {
            self.forward_run(id, run, out);
            return self.mismatch(now, id, header.tag, out);
        };
        server.streaming = u32::try_from(header.size - message.len()).unwrap_or(0);
        let plain = reply.kind == Kind::Part && reply.owner == Owner::Client && server.client.is_some();
        let plain = plain && !reply.describes && !server.exchanges.has_news();
        if plain && !planted!(OneReplyTooManySwallowed) {
            // Nearly all that servers say goes through here.
            server.streaming_to_client = true;
            run.at += message.len();
            return Step::Next;
        }
        // What its settings turn out to be, a client hears though it was we who set them.
        let sets = matches!(reply.owner, Owner::Pooler(Errand::Settings | Errand::Layer));
        let reports = sets && header.tag == b'S';
        if header.tag == b'D'
            && let Owner::Pooler(errand) = reply.owner
        {
            let (pool, node) = (server.pool, server.node);
            let row = message.get(frame::HEADER..).unwrap_or_default();
            match errand {
                Errand::Survey => self.survey_answered(pool, row, out),
                Errand::Control => self.control_row(node, row),
                Errand::Verify => self.session_verified(id, row),
                Errand::Baseline => self.session_measured(pool, row),
                Errand::Probe => self.probe_row(id, row),
                Errand::Fingerprint => self.fingerprint_row(pool, row),
                Errand::Catalogue => self.catalogue_row(pool, row),
                Errand::Lookup => self.lookup_row(id, row, out),
                Errand::Settings
                | Errand::Layer
                | Errand::Abort
                | Errand::Settle
                | Errand::Check
                | Errand::Reset
                | Errand::Prepare
                | Errand::CleanUp => {}
            }
        }
        if reply.describes {
            let body = message.get(frame::HEADER..).unwrap_or_default();
            self.shape_told(id, header.tag, body, message.len() == header.size);
        }
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        let refused = matches!(reply.kind, Kind::Ready(b'T' | b'E'))
            && reply.owner == Owner::Client
            && self.pools[server.pool as usize].mode == PoolMode::Statement;
        let swallowed = planted!(OneReplyTooManySwallowed) && header.tag == b'n';
        let replaced = matches!(reply.kind, Kind::Ours(_) | Kind::Unguarded | Kind::ReadyUnguarded(_));
        let ours = refused || replaced || swallowed;
        let clients = reply.owner == Owner::Client && !ours || planted!(ErrandAnsweredToClient);
        let forwards = (clients || reports) && server.client.is_some();
        server.streaming_to_client = forwards || planted!(RestToWrongPeer);
        if !forwards {
            self.forward_run(id, run, out);
            run.from = run.at + message.len();
        }
        run.at += message.len();
        let step = match reply.kind {
            Kind::Ours(StandIn::TooLarge) => {
                if let Some(client) = self.servers.get(id).and_then(|server| server.client) {
                    self.send_refusal(now, client, Cause::MessageTooLarge, out);
                }
                Step::Next
            }
            Kind::Ours(StandIn::Sequence) => {
                if let Some(client) = self.servers.get(id).and_then(|server| server.client) {
                    self.send_refusal(now, client, Cause::SequenceUnknown, out);
                }
                Step::Next
            }
            Kind::Ours(why) => {
                self.say_refused(id, why, out);
                Step::Next
            }
            Kind::Unguarded => {
                self.tell_refusal(now, id, out);
                Step::Next
            }
            Kind::Part | Kind::Asynchronous | Kind::Unasked => Step::Next,
            Kind::Ready(status) => {
                match reply.owner {
                    Owner::Pooler(Errand::Probe) => self.probe_over(now, id),
                    Owner::Pooler(Errand::Fingerprint) => self.fingerprint_over(now, id, out),
                    Owner::Pooler(Errand::Catalogue) => self.catalogue_over(now, id),
                    _ => {}
                }
                self.exchange_over(now, id, status, reply.owner, run, out)
            }
            Kind::ReadyUnguarded(status) => {
                self.end_refused(id, out);
                self.exchange_over(now, id, status, Owner::Client, run, out)
            }
            Kind::Error => self.request_failed(now, id, reply.owner, message, run, out),
            Kind::NoData => self.sent_no_data(now, id, run, out),
        };
        if self.servers.get(id).is_some_and(|server| server.exchanges.has_news()) {
            self.forward_run(id, run, out);
            self.statement_news(id, out);
        }
        step
    }

    #[inline]
    fn exchange_over(
        &mut self,
        now: Tick,
        id: ServerId,
        status: u8,
        owner: Owner,
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        let counts = owner == Owner::Client;
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        server.status = status;
        server.statements.holds = false;
        let in_doubt = server.exchanges.is_in_doubt();
        if server.stops_by < Tick::NEVER && (counts || server.exchanges.at_rest()) {
            server.stops_by = Tick::NEVER;
            self.arm_lease(id, now);
        }
        if in_doubt {
            self.run_errand(now, id, Errand::Settle, "", out);
        }
        if !counts {
            self.errand_over(now, id, out);
        }
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        if counts && status == b'I' {
            server.session.transaction_over();
        }
        if let Some(failed) = server.exchanges.take_returned() {
            self.forward_run(id, run, out);
            self.reset_over(now, id, failed, status, out);
        }
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
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
        let ended = client.filter(|_| server.client_ended);
        if let Some(client) = client
            && counts
            && status != b'I'
            && server.session.refusal == Refusal::None
            && self.pools[server.pool as usize].mode == PoolMode::Statement
        {
            self.refuse_block(now, id, client, status, out);
            return Step::Next;
        }
        if clean || client.is_none() {
            self.forward_run(id, run, out);
        }
        if self.recants(now, id, out) {
            return Step::Next;
        }
        // What comes behind a transaction tells whether the lease ends: it does before whoever waited for that is read.
        let behind = matches!(
            owner,
            Owner::Pooler(Errand::Probe | Errand::Layer | Errand::Fingerprint | Errand::Catalogue)
        );
        let held = client.filter(|client| {
            // Its settings are true now, and its message waited for that: the lease begins only here.
            !counts && !behind && self.clients.get(*client).is_some_and(|client| client.unread)
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
        if let Some(client) = ended {
            // Whether it waits for more, its end tells.
            out.push(Action::Read(Link::Client(client)));
        }
        Step::Next
    }

    /// Reads on a client that was left unread, if its next message may go to its server.
    pub(crate) fn read_on_if_allowed(&mut self, client: ClientId, server: ServerId, out: &mut Actions) {
        if self.clients.get(client).is_some_and(|client| client.unread) && self.may_send(client, server) {
            self.read_on(client, out);
        }
    }

    fn request_failed(
        &mut self,
        now: Tick,
        id: ServerId,
        owner: Owner,
        message: &[u8],
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        match owner {
            Owner::Client => {
                let (client, node) = (server.client, server.node);
                // It may have sent data ahead for a COPY that never began, or did not last.
                if let Some(client) = client
                    && let Some(client) = self.clients.get_mut(client)
                {
                    client.copy_tail = true;
                }
                let error = ErrorFields::read(message.get(frame::HEADER..).unwrap_or_default());
                match error.sqlstate.as_str() {
                    "25006" => self.suspect(now, node, Suspicion::ReadOnly, out),
                    // What a plan is made anew for, whatever the language.
                    "0A000" if memchr::memmem::find(message, b"RRevalidateCachedQuery\0").is_some() => {
                        self.result_changed(id);
                    }
                    _ => {}
                }
                Step::Next
            }
            Owner::Pooler(errand) => {
                self.forward_run(id, run, out);
                let error = ErrorFields::read(message.get(frame::HEADER..).unwrap_or_default());
                let (reason, cause) = match errand {
                    Errand::Settings if self.restore_failed(now, id, &error.message, out) => {
                        return Step::Next;
                    }
                    Errand::Settings => return Step::Gone,
                    // Behind settings that could not be restored nothing is carried out.
                    Errand::Layer if self.has_kept_sequences(id) => return Step::Next,
                    Errand::Layer => (CloseReason::SettingsRefused, Cause::SettingsRefused),
                    // Not every server knows: then there is no budget but the one that was told.
                    Errand::Survey | Errand::Control => return Step::Next,
                    Errand::Baseline => {
                        if let Some(server) = self.servers.get(id) {
                            self.pools[server.pool as usize].unmeasured = false;
                        }
                        return Step::Next;
                    }
                    // One was made to fail; the other can only be cancelled, and is answered all the same.
                    Errand::Abort | Errand::Settle | Errand::Prepare => return Step::Next,
                    Errand::Lookup => {
                        self.lookup_refused(id, &error.message, out);
                        return Step::Next;
                    }
                    // What it was to find out is not known, then.
                    Errand::Probe => return Step::Next,
                    Errand::Fingerprint | Errand::Catalogue => {
                        let pool = self.servers.get(id).map_or(u32::MAX, |server| server.pool);
                        self.catalogue_refused(pool);
                        return Step::Next;
                    }
                    Errand::Check => {
                        if let Some(server) = self.servers.get_mut(id) {
                            server.check_failed = true;
                        }
                        return Step::Next;
                    }
                    Errand::Reset | Errand::Verify | Errand::CleanUp => {
                        (CloseReason::ResetFailed, Cause::ServerLost)
                    }
                };
                self.close_pair(now, id, reason, cause, &error.message, out);
                Step::Gone
            }
        }
    }

    /// The server asks for COPY data where its client has sent another request: it will end the connection, and that
    /// is the client's fault.
    fn sent_no_data(&mut self, now: Tick, id: ServerId, run: &mut Run, out: &mut Actions) -> Step {
        self.forward_run(id, run, out);
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        let (pool, conn, cut) = (server.pool, server.conn, server.is_inside_reply());
        if let Some(client) = server.client.take() {
            if let Some(client) = self.clients.get_mut(client) {
                client.lease = Lease::None;
            }
            if cut {
                // The words would be taken for the rest of the message.
                self.drop_client(client, out);
            } else {
                self.misbehaved(now, client, "unexpected message during COPY from stdin", out);
            }
        }
        self.with_pool(now, pool, out, |policy, actions| {
            policy.close(now, conn, CloseReason::ClientLost, actions);
        });
        Step::Gone
    }

    /// The server says why it is about to close. In session mode the client hears it as it would from the server
    /// itself; in transaction mode it stays, and hears what that means for its transaction.
    fn said_goodbye(
        &mut self,
        now: Tick,
        id: ServerId,
        error: &ErrorFields,
        len: usize,
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        let Some(server) = self.servers.get_mut(id) else { return Step::Gone };
        let session = self.pools[server.pool as usize].mode == PoolMode::Session;
        let heard = session || planted!(GoodbyePassedOn);
        server.said_goodbye = heard && server.client.is_some();
        run.at += if heard { len } else { 0 };
        if !planted!(ClosedBeforeFlush) {
            self.forward_run(id, run, out);
        }
        self.server_leaves(now, id, error, out);
        self.lose_server(now, id, CloseReason::ServerLost, &error.message, out);
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
        let Some(server) = self.servers.get(id) else { return };
        let (pool, conn, node) = (server.pool, server.conn, server.node);
        if !server.is_control() {
            self.with_pool(now, pool, out, |policy, actions| {
                policy.server_leaving(now, conn, certain, actions)
            });
        } else if certain {
            self.server_gone(now, node, out);
        }
        if !certain {
            self.suspect(now, node, Suspicion::Leaving, out);
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
}
