//! Who holds which server connection: what the policy decides is carried out here, and leases begin and end.

use headpond_core::{Acquired, Action as PoolAction, CloseReason, ConnId, Pool, Request, State, Tick};
use headpond_wire::postgres::frontend;

use crate::aborted::Aborted;
use crate::action::{Action, Actions, ClientId, Link, Report, ServerId};
use crate::client::{Client, ClientState, Lease};
use crate::config::PoolMode;
use crate::exchange::{Errand, Owner};
use crate::kind::PoolKind;
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::ServerState;
use crate::settings::SettingsId;
use crate::timers::Timer;

impl Pooler {
    /// Speaks to a pool's policy and carries out what it decides.
    pub(crate) fn with_pool<R>(
        &mut self,
        now: Tick,
        pool: u32,
        out: &mut Actions,
        act: impl FnOnce(&mut Pool, &mut Vec<PoolAction>) -> R,
    ) -> R {
        let mut actions = std::mem::take(&mut self.pool_actions);
        let result = act(&mut self.pools[pool as usize].policy, &mut actions);
        for action in actions.drain(..) {
            match action {
                PoolAction::Grant { holder, conn, waited } => {
                    self.granted(now, pool, ClientId::unpacked(holder), conn, waited, out);
                }
                PoolAction::Refuse { holder, why, .. } => {
                    self.refused(now, ClientId::unpacked(holder), why, out)
                }
                PoolAction::Open(conn) => self.open_server(now, pool, conn, out),
                PoolAction::Check(conn) => self.check_server(now, pool, conn, out),
                PoolAction::Close(conn, _) => self.close_server(now, pool, conn, out),
                PoolAction::Leak { conn, since, ended } => {
                    self.report_leak(now, pool, conn, since, ended, out)
                }
                PoolAction::Reclaim(conn) => self.reclaim(now, pool, conn, out),
                PoolAction::Alarm { alarm, raised, cause } => {
                    out.report(Report::Alarm { pool: self.pool_title(pool), alarm, raised, cause });
                }
            }
        }
        if actions.capacity() > self.pool_actions.capacity() {
            self.pool_actions = actions;
        }
        let entry = &mut self.pools[pool as usize];
        let deadline = entry.policy.next_deadline(now);
        if deadline < entry.armed {
            entry.armed = deadline;
            self.timers.set(deadline, Timer::Pool(pool));
        }
        self.relieve(now, pool, out);
        result
    }

    /// Asks the client's pool for a connection.
    pub(crate) fn acquire(
        &mut self,
        now: Tick,
        pool: u32,
        id: ClientId,
        prefer: Option<ConnId>,
        out: &mut Actions,
    ) -> Acquired {
        let client = self.clients.get(id);
        let application = client.map_or(0, |client| client.user);
        // A login only waits to be told of the server: it takes nothing from others.
        let exempt = client.is_some_and(|client| matches!(client.state, ClientState::AwaitsParameters));
        let request = Request { application, exempt, prefer, ..Request::of(id.packed()) };
        self.with_pool(now, pool, out, |policy, actions| policy.acquire(now, request, actions))
    }

    /// A client that wants a server and has none: it gets one, or a place in the queue, or a refusal.
    /// Whether it has one now.
    pub(crate) fn wants_server(
        &mut self,
        now: Tick,
        id: ClientId,
        prefer: Option<ConnId>,
        out: &mut Actions,
    ) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        client.requested = now;
        let pool = client.pool;
        match self.acquire(now, pool, id, prefer, out) {
            Acquired::Granted(conn) => {
                self.granted(now, pool, id, conn, 0, out);
                true
            }
            Acquired::Queued(waiter) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.lease = Lease::Waiting(waiter);
                    client.unread = true;
                }
                false
            }
            Acquired::Refused(why) => {
                self.refused(now, id, why, out);
                false
            }
        }
    }

    /// A lease begins.
    pub(crate) fn granted(
        &mut self,
        now: Tick,
        pool: u32,
        id: ClientId,
        conn: ConnId,
        waited: u64,
        out: &mut Actions,
    ) {
        let entry = &mut self.pools[pool as usize];
        entry.traffic.leases += 1;
        entry.traffic.wait_time += waited;
        let server_id = entry.servers.get(conn.index()).copied().flatten();
        let (Some(server_id), Some(client)) = (server_id, self.clients.get_mut(id)) else { return };
        if entry.kind == PoolKind::Lookup {
            self.lookup_granted(now, pool, id, (server_id, conn), out);
            return;
        }
        if matches!(client.state, ClientState::AwaitsParameters) && !entry.is_dedicated() {
            client.lease = Lease::None;
            self.welcome(now, id, out);
            self.with_pool(now, pool, out, |policy, actions| policy.release(now, conn, actions));
            return;
        }
        client.lease = Lease::Active(server_id);
        let settings = client.settings;
        let Some(server) = self.servers.get_mut(server_id) else { return };
        server.client = Some(id);
        server.session.has_drawn = false;
        server.client_ended = false;
        server.requested = now;
        server.transaction_begun = now;
        let startup = self.startup_of(pool, settings);
        let reopens = self.servers.get(server_id).is_some_and(|server| server.startup != startup);
        if reopens && !planted!(StartupParametersIgnored) {
            self.reopen(now, server_id, out);
            return;
        }
        self.lease_ready(now, server_id, out);
    }

    /// A connection that was opened for the pool is ready to serve.
    pub(crate) fn serves(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.deadline = Tick::NEVER;
        let (pool, conn, node) = (server.pool, server.conn, server.node);
        if self.measures_session(now, id, out) || self.asks_first(now, id, out) {
            return;
        }
        self.with_pool(now, pool, out, |policy, actions| policy.opened(now, conn, actions));
        let entry = &self.pools[pool as usize];
        if entry.is_dedicated() && entry.policy.state(conn) == Some(State::Idle) {
            // Whom it was opened for has left.
            self.with_pool(now, pool, out, |policy, actions| {
                policy.close(now, conn, CloseReason::Dedicated, actions);
            });
        }
        self.mind_control(now, node, out);
    }

    /// A leased connection can be used: its settings are made those of its client, who is read on.
    pub(crate) fn lease_ready(&mut self, now: Tick, server_id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get(server_id) else { return };
        let Some(id) = server.client else { return };
        let Some(client) = self.clients.get(id) else { return };
        let new = matches!(client.state, ClientState::AwaitsParameters);
        if new || client.misinformed || client.aborted != Aborted::No || client.settings != server.settings {
            self.adapt(now, server_id, id, out);
        }
        self.read_on(id, out);
    }

    /// What a client and the connection that it got do not agree on is put right, ahead of its first message.
    fn adapt(&mut self, now: Tick, server_id: ServerId, id: ClientId, out: &mut Actions) {
        if self.clients.get(id).is_some_and(|client| matches!(client.state, ClientState::AwaitsParameters)) {
            self.welcome(now, id, out);
        }
        self.correct_parameters(id, server_id, out);
        self.restore(now, server_id, id, out);
        self.abort_again(now, id, server_id, out);
    }

    pub(crate) fn startup_of(&self, pool: u32, settings: SettingsId) -> SettingsId {
        self.pools[pool as usize].startup_of(&self.settings, settings)
    }

    /// The server connection has nothing outstanding, no transaction, and no message under way.
    pub(crate) fn came_to_rest(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get(id) else { return };
        if !matches!(server.state, ServerState::Live) {
            return;
        }
        if server.is_control() {
            self.control_answered(now, id, out);
            return;
        }
        let (pool, conn) = (server.pool, server.conn);
        let (check_failed, cancels, unclean) = (server.check_failed, server.cancels, server.unclean);
        let (entry, client) = (&self.pools[pool as usize], server.client);
        if entry.kind == PoolKind::Lookup && entry.policy.state(conn) == Some(State::InUse) {
            self.lookup_over(now, id, out);
            return;
        }
        let session = entry.mode == PoolMode::Session;
        match entry.policy.state(conn) {
            Some(State::InUse) => match client {
                // The tail of a COPY that failed comes first: whatever is sent now would be taken for a part of it.
                Some(client) if self.clients.get(client).is_some_and(Client::is_inside_message) => {
                    self.read_on_if_allowed(client, id, out);
                }
                Some(client) if session || self.stays(now, id, client, out) => {
                    self.stayed(now, id, client, out);
                    if !self.close_if_draining(now, client, out) {
                        self.read_on_if_allowed(client, id, out);
                    }
                }
                Some(client) => self.end_lease(now, id, client, out),
                None => {}
            },
            Some(State::Recovering) => self.recover(now, id, out),
            Some(State::BeingCancelled) if cancels == 0 => self.recovered(now, id, out),
            Some(State::Opening) => self.serves(now, id, out),
            Some(State::Checking) if check_failed => self.check_failed(now, id, out),
            Some(State::Resetting) if unclean => {
                self.with_pool(now, pool, out, |policy, actions| {
                    policy.close(now, conn, CloseReason::Unclean, actions);
                });
            }
            Some(State::Checking | State::Resetting) => self.fit_again(now, id, out),
            _ => {}
        }
    }

    /// The transaction is over: the connection goes on to whoever is next, and only then is the client read on.
    pub(crate) fn end_lease(&mut self, now: Tick, id: ServerId, client_id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        if !planted!(LeaseKept) {
            client.lease = Lease::None;
        }
        client.idle_since = now;
        client.accepted = true;
        let unread = std::mem::take(&mut client.unread);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.client = None;
        if std::mem::take(&mut server.unread) {
            // It was left for a client that was blocked, and is not its server's any more.
            out.push(Action::Read(Link::Server(id)));
        }
        let cancelling = server.cancels > 0 && !planted!(CancelledAfterHandOver);
        let (pool, conn) = (server.pool, server.conn);
        server.session.resumes(now, &mut self.pools[pool as usize].traffic);
        let owed = !cancelling && self.owes_a_sibling(pool);
        if cancelling || owed || !self.asks_at_rest(now, id, out) {
            self.with_pool(now, pool, out, |policy, actions| {
                if cancelling {
                    policy.retire(now, conn, State::BeingCancelled, actions);
                } else if owed {
                    policy.close(now, conn, CloseReason::FairShare, actions);
                } else {
                    policy.release(now, conn, actions);
                }
            });
        }
        if !self.close_if_draining(now, client_id, out) && unread && !planted!(UnreadForgotten) {
            self.client_readable(now, client_id, out);
        }
    }

    /// Runs a query of the pooler's own; its replies are swallowed.
    pub(crate) fn run_errand(
        &mut self,
        now: Tick,
        id: ServerId,
        errand: Errand,
        text: &str,
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.exchanges.sent(b'Q', Owner::Pooler(errand)).is_ok() {
            server.query_begun = now;
            // A simple query destroys it.
            server.statements.unnamed = 0;
            out.send(Link::Server(id), |bytes| frontend::query(bytes, text));
        }
    }

    /// A server connection must go, and with it the client that holds it, who is told why.
    pub(crate) fn close_pair(
        &mut self,
        now: Tick,
        id: ServerId,
        reason: CloseReason,
        cause: Cause,
        message: &str,
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.is_control() {
            self.control_lost(now, id, out);
            return;
        }
        let told = server.said_goodbye || server.is_inside_reply();
        let (pool, conn) = (server.pool, server.conn);
        if let Some(client) = server.client.take() {
            if let Some(client) = self.clients.get_mut(client) {
                client.lease = Lease::None;
                server.half_sent = client.is_inside_message();
            }
            if told {
                self.drop_client(client, out);
            } else {
                self.close_client(client, cause, message, out);
            }
        }
        self.with_pool(now, pool, out, |policy, actions| policy.close(now, conn, reason, actions));
    }

    fn report_leak(
        &mut self,
        now: Tick,
        pool: u32,
        conn: ConnId,
        since: Tick,
        ended: bool,
        out: &mut Actions,
    ) {
        let server = self.server_of(pool, conn).and_then(|id| self.servers.get(id));
        let holder = server.and_then(|server| self.clients.get(server.client?));
        let holder =
            holder.map_or_else(|| "a client that has left".to_owned(), |client| self.describe(client));
        out.report(Report::Leak { pool: self.pool_title(pool), holder, held: now.since(since), ended });
    }

    /// A lease is taken back, and its client closed.
    fn reclaim(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        if let Some(id) = self.server_of(pool, conn) {
            let message = "the connection was reclaimed after leak_after";
            self.close_pair(now, id, CloseReason::Leaked, Cause::Reclaimed, message, out);
        }
    }

    pub(crate) fn server_of(&self, pool: u32, conn: ConnId) -> Option<ServerId> {
        self.pools[pool as usize].servers.get(conn.index()).copied().flatten()
    }
}
