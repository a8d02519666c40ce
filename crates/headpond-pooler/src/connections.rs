//! Server connections: opened, tested and closed, as the policy says.

use headpond_core::{CloseReason, ConnId, Tick};
use headpond_wire::postgres::frontend;

use crate::action::{Action, Actions, ClientId, Link, ServerId};
use crate::client::Lease;
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::server::{Server, ServerState};
use crate::settings::SettingsId;

impl Pooler {
    /// A leased connection was opened with the wrong startup parameters: it goes, and a new one takes its place
    /// once the server has let it go.
    pub(crate) fn reopen(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let deadline = now.plus(self.config.close_timeout);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.state = ServerState::Reopening;
        self.due(id, deadline);
        out.send(Link::Server(id), frontend::terminate);
        out.push(Action::Finish(Link::Server(id)));
    }

    /// The old connection is gone: the new one is opened, for the client that holds the lease.
    pub(crate) fn open_anew(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(mut old) = self.servers.remove(id) else { return };
        self.release_server(&mut old);
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

    /// Opens a connection, with the startup parameters of whoever waits longest.
    pub(crate) fn open_server(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        if !self.take_permit(now, pool) {
            self.with_pool(now, pool, out, |policy, _| policy.open_denied(conn));
            return;
        }
        let waiter = self.pools[pool as usize].policy.oldest_waiter().map(ClientId::unpacked);
        let settings = waiter.and_then(|id| self.clients.get(id)).map(|client| client.settings);
        let startup = self.startup_of(pool, settings.unwrap_or(SettingsId::NONE));
        self.begin_login(now, pool, conn, startup, out);
    }

    pub(crate) fn begin_login(
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
    pub(crate) fn check_server(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        let Some(id) = self.server_of(pool, conn) else { return };
        self.due(id, now.plus(self.config.recover_timeout));
        let query = self.config.check_query.clone();
        self.run_errand(now, id, Errand::Check, &query, out);
    }

    pub(crate) fn close_server(&mut self, now: Tick, pool: u32, conn: ConnId, out: &mut Actions) {
        if let Some(id) = self.server_of(pool, conn) {
            self.end_server(now, id, out);
        }
    }

    /// Tells the server that a connection goes; its slot is free when the server has closed it.
    pub(crate) fn end_server(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let deadline = now.plus(self.config.close_timeout);
        self.unpin(now, id);
        self.lookup_lost(id, out);
        let Some(server) = self.servers.get_mut(id) else { return };
        // Before its startup packet a connection counts for nothing on the server.
        if server.lost || matches!(server.state, ServerState::Connecting | ServerState::Tls(_)) {
            self.forget_server(now, id, out);
            return;
        }
        // Behind half a message it would be taken for the rest.
        let speaks = matches!(server.state, ServerState::Live) && !server.half_sent;
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
        let Some(mut server) = self.servers.remove(id) else { return };
        self.release_server(&mut server);
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
}
