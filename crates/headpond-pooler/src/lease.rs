//! Who holds which server connection: what the policy decides is carried out here, and leases begin and end.

use headpond_core::{Acquired, Action as PoolAction, CloseReason, ConnId, Pool, Request, State, Tick};
use headpond_wire::postgres::frontend;

use crate::aborted::Aborted;
use crate::action::{Action, Actions, ClientId, Link, Report, ServerId};
use crate::client::{ClientState, Lease};
use crate::config::PoolMode;
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::{Server, ServerState};
use crate::settings::SettingsId;
use crate::timers::Timer;

/// A portal that nobody has; the name is what the server's log shows.
const NO_PORTAL: &str = "Headpond: the client left without a Sync";

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
                PoolAction::Refuse { holder, why } => self.refused(now, ClientId::unpacked(holder), why, out),
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
    pub(crate) fn acquire(&mut self, now: Tick, pool: u32, id: ClientId, out: &mut Actions) -> Acquired {
        let client = self.clients.get(id);
        let application = client.map_or(0, |client| client.user);
        // A login only waits to be told of the server: it takes nothing from others.
        let exempt = client.is_some_and(|client| matches!(client.state, ClientState::AwaitsParameters));
        let request = Request { application, exempt, ..Request::of(id.packed()) };
        self.with_pool(now, pool, out, |policy, actions| policy.acquire(now, request, actions))
    }

    /// A client that wants a server and has none: it gets one, or a place in the queue, or a refusal.
    /// Whether it has one now.
    pub(crate) fn wants_server(&mut self, now: Tick, id: ClientId, out: &mut Actions) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        client.requested = now;
        let pool = client.pool;
        match self.acquire(now, pool, id, out) {
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
        if self.measures_session(now, id, out) {
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
        let (Some(client), Some(server)) = (self.clients.get(id), self.servers.get_mut(server_id)) else {
            return;
        };
        if server.settings != client.settings && !planted!(SettingsOfPredecessorStay) {
            let change = self.settings.change(server.settings, client.settings);
            server.settings = client.settings;
            self.run_errand(now, server_id, Errand::Settings, &change, out);
        }
        self.abort_again(now, id, server_id, out);
    }

    pub(crate) fn startup_of(&self, pool: u32, settings: SettingsId) -> SettingsId {
        self.pools[pool as usize].startup_of(&self.settings, settings)
    }

    /// A leased connection was opened with the wrong startup parameters: it goes, and a new one takes its place
    /// once the server has let it go.
    fn reopen(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let deadline = now.plus(self.config.close_timeout);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.state = ServerState::Reopening;
        self.due(id, deadline);
        out.send(Link::Server(id), frontend::terminate);
        out.push(Action::Finish(Link::Server(id)));
    }

    /// The old connection is gone: the new one is opened, for the client that holds the lease.
    pub(crate) fn open_anew(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(old) = self.servers.remove(id) else { return };
        out.push(Action::Close(Link::Server(id)));
        let settings = old.client.and_then(|client| self.clients.get(client)).map(|client| client.settings);
        let startup = self.startup_of(old.pool, settings.unwrap_or(SettingsId::NONE));
        let new = self.begin_login(now, old.pool, old.conn, startup, out);
        if let Some(client) = old.client
            && let Some(server) = self.servers.get_mut(new)
        {
            server.client = old.client;
            if let Some(client) = self.clients.get_mut(client) {
                client.lease = Lease::Active(new);
            }
        }
        self.pools[old.pool as usize].policy.reopened(now, old.conn, CloseReason::Repurposed);
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
        let entry = &self.pools[pool as usize];
        match entry.policy.state(conn) {
            Some(State::InUse) => match server.client {
                Some(client) if entry.mode != PoolMode::Session => self.end_lease(now, id, client, out),
                Some(client) => {
                    self.close_if_draining(now, client, out);
                }
                None => {}
            },
            Some(State::Recovering) => self.recover(now, id, out),
            Some(State::BeingCancelled) if server.cancels == 0 => self.recovered(now, id, out),
            Some(State::Opening) => self.serves(now, id, out),
            Some(State::Checking) if server.check_failed => self.check_failed(now, id, out),
            Some(State::Resetting) if server.unclean => {
                self.with_pool(now, pool, out, |policy, actions| {
                    policy.close(now, conn, CloseReason::Unclean, actions);
                });
            }
            Some(State::Checking | State::Resetting) => self.fit_again(now, id, out),
            _ => {}
        }
    }

    /// The transaction is over: the connection goes on to whoever is next, and only then is the client read on.
    fn end_lease(&mut self, now: Tick, id: ServerId, client_id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        if client.is_inside_message() {
            return;
        }
        if !planted!(LeaseKept) {
            client.lease = Lease::None;
        }
        client.idle_since = now;
        let unread = std::mem::take(&mut client.unread);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.client = None;
        let cancelling = server.cancels > 0 && !planted!(CancelledAfterHandOver);
        let (pool, conn) = (server.pool, server.conn);
        let owed = !cancelling && self.owes_a_sibling(pool);
        self.with_pool(now, pool, out, |policy, actions| {
            if cancelling {
                policy.retire(now, conn, State::BeingCancelled, actions);
            } else if owed {
                policy.close(now, conn, CloseReason::FairShare, actions);
            } else {
                policy.release(now, conn, actions);
            }
        });
        if !self.close_if_draining(now, client_id, out) && unread && !planted!(UnreadForgotten) {
            self.client_readable(now, client_id, out);
        }
    }

    /// The client of a server connection is gone. `abrupt`: without a word, so what still runs is cancelled.
    pub(crate) fn abandon(
        &mut self,
        now: Tick,
        id: ServerId,
        inside_message: bool,
        abrupt: bool,
        out: &mut Actions,
    ) {
        let deadline = now.plus(self.config.recover_timeout);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.client = None;
        server.streaming_to_client = false;
        server.stops_by = Tick::NEVER;
        let (pool, conn) = (server.pool, server.conn);
        let dedicated = self.pools[pool as usize].is_dedicated();
        if dedicated || inside_message || !matches!(server.state, ServerState::Live) {
            let reason = if dedicated { CloseReason::Dedicated } else { CloseReason::ClientLost };
            self.with_pool(now, pool, out, |policy, actions| policy.close(now, conn, reason, actions));
            return;
        }
        let runs = server.exchanges.has_boundary() && !server.exchanges.is_guarded();
        let unread = std::mem::take(&mut server.unread);
        self.due(id, deadline);
        self.with_pool(now, pool, out, |policy, actions| {
            policy.retire(now, conn, State::Recovering, actions);
        });
        if abrupt && runs {
            self.start_cancel(now, id, None, out);
        }
        if unread {
            out.push(Action::Read(Link::Server(id)));
        }
        self.recover(now, id, out);
    }

    /// Brings a connection whose client left back to rest, step by step: whatever it waits for is ended.
    pub(crate) fn recover(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let owner = Owner::Pooler(Errand::CleanUp);
        let link = Link::Server(id);
        if server.exchanges.is_copying() && server.exchanges.sent(b'f', owner).is_ok() {
            out.send(link, |bytes| frontend::copy_fail(bytes, "the client is gone"));
        }
        if server.exchanges.is_unsynced() && server.exchanges.is_awaited() {
            // It may be a COPY, in which nothing else must come: its answers tell.
            out.send(link, frontend::flush);
            return;
        }
        // A Sync would commit what the client never synced, so it comes behind something that fails.
        let spoiler = Owner::Pooler(Errand::Abort);
        if server.exchanges.is_unsynced()
            && server.exchanges.sent(b'D', spoiler).is_ok()
            && server.exchanges.sent(b'S', owner).is_ok()
        {
            out.send(link, |bytes| {
                frontend::describe_portal(bytes, NO_PORTAL);
                frontend::sync(bytes);
            });
        }
        if !server.exchanges.at_rest() || server.streaming > 0 || server.blocked {
            return;
        }
        if server.status != b'I' && !planted!(RollbackForgotten) {
            self.run_errand(now, id, Errand::CleanUp, "ROLLBACK", out);
        } else if server.cancels == 0 {
            self.recovered(now, id, out);
        }
    }

    /// The test was answered with an error. Whether that is held against the connection, the policy decides.
    fn check_failed(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.check_failed = false;
        server.deadline = Tick::NEVER;
        let (pool, conn) = (server.pool, server.conn);
        self.with_pool(now, pool, out, |policy, actions| policy.check_failed(now, conn, actions));
    }

    pub(crate) fn fit_again(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.deadline = Tick::NEVER;
        let (pool, conn) = (server.pool, server.conn);
        // After a test it has yet to serve: two pools that gave up such ones would never serve anybody.
        let tested = self.pools[pool as usize].policy.state(conn) == Some(State::Checking);
        let owed = !tested && self.owes_a_sibling(pool);
        self.with_pool(now, pool, out, |policy, actions| {
            if owed {
                policy.close(now, conn, CloseReason::FairShare, actions);
            } else {
                policy.ready(now, conn, actions);
            }
        });
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
            out.send(Link::Server(id), |bytes| frontend::query(bytes, text));
        }
    }

    /// Opens a connection, with the startup parameters of whoever waits longest.
    fn open_server(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        if !self.take_permit(now, pool) {
            self.with_pool(now, pool, out, |policy, _| policy.open_denied(conn));
            return;
        }
        let waiter = self.pools[pool as usize].policy.oldest_waiter().map(ClientId::unpacked);
        let settings = waiter.and_then(|id| self.clients.get(id)).map(|client| client.settings);
        let startup = self.startup_of(pool, settings.unwrap_or(SettingsId::NONE));
        self.begin_login(now, pool, conn, startup, out);
    }

    fn begin_login(
        &mut self,
        now: Tick,
        pool: u32,
        conn: ConnId,
        startup: SettingsId,
        out: &mut Actions,
    ) -> ServerId {
        let timeout = self.config.connect_timeout;
        let deadline = if timeout.is_zero() { Tick::NEVER } else { now.plus(timeout) };
        let id = self.servers.insert(Server::new(now, pool, self.pools[pool as usize].node, conn, startup));
        self.due(id, deadline);
        let entry = &mut self.pools[pool as usize];
        if entry.servers.len() <= conn.index() {
            entry.servers.resize(conn.index() + 1, None);
        }
        entry.servers[conn.index()] = Some(id);
        out.push(Action::Connect { link: Link::Server(id), data_source: entry.data_source });
        id
    }

    /// Tests an idle connection: the server must be there and answer without an error.
    fn check_server(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        let Some(id) = self.server_of(pool, conn) else { return };
        self.due(id, now.plus(self.config.recover_timeout));
        let query = self.config.check_query.clone();
        self.run_errand(now, id, Errand::Check, &query, out);
    }

    fn close_server(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        if let Some(id) = self.server_of(pool, conn) {
            self.end_server(now, id, out);
        }
    }

    /// Tells the server that a connection goes; its slot is free when the server has closed it.
    pub(crate) fn end_server(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let deadline = now.plus(self.config.close_timeout);
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.lost || matches!(server.state, ServerState::Connecting) {
            self.forget_server(now, id, out);
            return;
        }
        let speaks = matches!(server.state, ServerState::Live);
        let busy = !server.exchanges.at_rest();
        if std::mem::take(&mut server.unread) {
            // A server that is stuck in sending would never get to read that it is to go.
            out.push(Action::Read(Link::Server(id)));
        }
        let guarded = server.exchanges.is_guarded();
        server.state = ServerState::Closing;
        self.due(id, deadline);
        if busy && !guarded {
            self.start_cancel(now, id, None, out);
        } else if speaks && !busy {
            out.send(Link::Server(id), frontend::terminate);
        }
        out.push(Action::Finish(Link::Server(id)));
    }

    /// A server connection is gone for good, and its slot free.
    pub(crate) fn forget_server(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.remove(id) else { return };
        if let Some(requester) = server.cancel_waits {
            self.drop_client(requester, out);
        }
        let (pool, conn, node) = (server.pool, server.conn, server.node);
        if server.is_control() {
            out.push(Action::Close(Link::Server(id)));
            self.control_gone(now, node, out);
            return;
        }
        if let Some(place) = self.pools[pool as usize].servers.get_mut(conn.index()) {
            *place = None;
        }
        out.push(Action::Close(Link::Server(id)));
        // Whoever waits for a permit gets it before this pool asks for another.
        self.give_permit(now, node, out);
        self.with_pool(now, pool, out, |policy, actions| policy.closed(now, conn, actions));
        self.mind_control(now, node, out);
        self.end_streams(now, out);
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
