//! Clients that take longer than they may: what they run is cancelled, their transactions are rolled back. Only a
//! client that does nothing at all is closed.
//!
//! A lease has one timer, set at its first message and looked at again when it goes off: what is within its time
//! costs nothing. It never goes off later than the shortest time-out after anything that begins.

use headpond_core::{CloseReason, Tick};
use headpond_wire::postgres::encode::{self, Report as Fields, Severity};
use headpond_wire::postgres::frontend;

use crate::aborted::Aborted;
use crate::action::{Actions, ClientId, Link, Report, ServerId};
use crate::client::{ClientState, Lease};
use crate::config::PoolMode;
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::{Server, ServerState};
use crate::timers::Timer;

/// What a lease that took too long comes to.
#[derive(Clone, Copy)]
enum Over {
    /// Nothing yet; this is the next thing to become due.
    Not(Tick),
    /// What runs is cancelled.
    Cancel(&'static str),
    /// It was, and did not end.
    Stuck,
    /// The transaction, in which nothing runs, is rolled back.
    Transaction(Cause, &'static str),
}

impl Pooler {
    /// A client is idle from now on.
    pub(crate) fn idle_from(&mut self, now: Tick, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            client.idle_since = now;
        }
    }

    /// Sets a client's timer, if there is a time-out and none is set.
    pub(crate) fn arm_idle(&mut self, now: Tick, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let timeout = self.pools[client.pool as usize].timeouts.client_idle;
        let at = now.plus(timeout);
        if !timeout.is_zero() && at < client.armed {
            client.armed = at;
            self.timers.set(at, Timer::Idle(id));
        }
    }

    /// Has the time of a lease looked at, at the latest at `at`.
    pub(crate) fn arm_lease(&mut self, id: ServerId, at: Tick) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if self.pools[server.pool as usize].patience.is_some() && at < server.lease_armed {
            server.lease_armed = at;
            self.timers.set(at, Timer::Lease(id));
        }
    }

    /// The time-outs of a pool are others now.
    pub(crate) fn arm_all(&mut self, now: Tick, pool: u32) {
        for id in self.clients.ids() {
            if self.clients.get(id).is_some_and(|client| client.pool == pool && client.is_logged_in()) {
                self.arm_idle(now, id);
            }
        }
        for id in self.servers.ids() {
            if self.servers.get(id).is_some_and(|server| server.pool == pool && server.client.is_some()) {
                self.arm_lease(id, now);
            }
        }
    }

    /// A client's timer went off: it is closed if it did nothing for all that time.
    pub(crate) fn idle_overdue(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.armed > now {
            return;
        }
        client.armed = Tick::NEVER;
        let timeout = self.pools[client.pool as usize].timeouts.client_idle;
        let since = match (&client.state, client.lease) {
            (ClientState::Ready, Lease::None) if client.aborted == Aborted::No => client.idle_since,
            (ClientState::Ready, Lease::Active(server)) if client.aborted == Aborted::No => self
                .servers
                .get(server)
                .filter(|server| server.is_clean())
                .map_or(now, |server| server.query_begun),
            _ => now,
        };
        let at = since.plus(timeout);
        if timeout.is_zero() {
            return;
        }
        if at > now {
            client.armed = at;
            self.timers.set(at, Timer::Idle(id));
            return;
        }
        if let Lease::Active(server) = std::mem::replace(&mut client.lease, Lease::None) {
            let inside = client.is_inside_message();
            self.abandon(now, server, inside, false, out);
        }
        self.report_timeout(id, "client_idle_timeout", out);
        self.close_client(id, Cause::IdleClient, Cause::IdleClient.words().0, out);
    }

    /// The timer of a lease went off.
    pub(crate) fn lease_overdue(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.lease_armed > now {
            return;
        }
        server.lease_armed = Tick::NEVER;
        let (Some(client), ServerState::Live) = (server.client, &server.state) else { return };
        let Some(server) = self.servers.get(id) else { return };
        match self.judge(now, server) {
            Over::Not(at) => {
                // What begins in the meantime must not be overlooked.
                let patience = self.pools[server.pool as usize].patience.unwrap_or_default();
                let at = if at < Tick::NEVER { at.min(now.plus(patience)) } else { at };
                self.arm_lease(id, at);
            }
            Over::Cancel(setting) => {
                self.report_timeout(client, setting, out);
                self.stop(now, id, out);
            }
            Over::Stuck => {
                let message = "what was cancelled did not end within cancel_timeout";
                self.lose_server(now, id, CloseReason::RecoverTimeout, message, out);
            }
            Over::Transaction(cause, setting) => {
                self.report_timeout(client, setting, out);
                self.roll_back(now, id, client, cause, out);
            }
        }
    }

    /// How a lease stands, by what its connection does.
    fn judge(&self, now: Tick, server: &Server) -> Over {
        let times = self.pools[server.pool as usize].timeouts;
        let after = |begun: Tick, timeout: std::time::Duration| match timeout.is_zero() {
            true => Tick::NEVER,
            false => begun.plus(timeout),
        };
        let transaction = after(server.transaction_begun, times.transaction);
        if server.is_clean() {
            return Over::Not(Tick::NEVER);
        }
        if !server.exchanges.at_rest() {
            let query = after(server.query_begun, times.query);
            return match () {
                () if server.stops_by <= now => Over::Stuck,
                () if server.stops_by < Tick::NEVER => Over::Not(server.stops_by),
                () if transaction <= now => Over::Cancel("transaction_timeout"),
                () if query <= now => Over::Cancel("query_timeout"),
                () => Over::Not(query.min(transaction)),
            };
        }
        let idle = after(server.query_begun, times.idle_transaction);
        match () {
            // The end of the cancel has it looked at again.
            () if server.cancels > 0 => Over::Not(Tick::NEVER),
            () if transaction <= now => Over::Transaction(Cause::LongTransaction, "transaction_timeout"),
            () if idle <= now => Over::Transaction(Cause::IdleTransaction, "idle_transaction_timeout"),
            () => Over::Not(idle.min(transaction)),
        }
    }

    /// Ends what a connection runs for its client: the server says so itself. If it does not, it is lost.
    fn stop(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let by = now.plus(self.config.cancel_timeout);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.stops_by = by;
        let client = server.client.and_then(|client| self.clients.get_mut(client));
        // A server that waits for data hears no cancel.
        if let Some(client) =
            client.filter(|client| server.exchanges.is_copying() && !client.is_inside_message())
            && server.exchanges.sent(b'f', Owner::Client).is_ok()
        {
            client.copy_tail = true;
            out.send(Link::Server(id), |bytes| frontend::copy_fail(bytes, "it took too long"));
        }
        // Cancelled settings would cost the client its connection.
        if !server.exchanges.is_setting() {
            self.start_cancel(now, id, None, out);
        }
        self.arm_lease(id, by);
    }

    /// Rolls back a transaction in which nothing runs. The client goes on in a failed one, and hears why when it
    /// next says something.
    fn roll_back(&mut self, now: Tick, id: ServerId, client_id: ClientId, cause: Cause, out: &mut Actions) {
        let Some(server) = self.servers.get(id) else { return };
        let kept = server.session.is_kept();
        let session = self.pools[server.pool as usize].mode == PoolMode::Session || kept;
        let failed = server.status == b'E';
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let inside = client.is_inside_message();
        if session && inside {
            self.close_pair(now, id, CloseReason::ClientLost, cause, cause.words().0, out);
            return;
        }
        client.aborted = if failed { Aborted::Told } else { Aborted::Untold(cause) };
        if session {
            self.run_errand(now, id, Errand::CleanUp, "ROLLBACK", out);
        } else {
            self.part(now, id, client_id, out);
        }
    }

    /// In statement mode a request left a transaction open: it is rolled back, and the client hears that before the
    /// request ends. If it failed, the client has heard an error already.
    pub(crate) fn refuse_block(
        &mut self,
        now: Tick,
        id: ServerId,
        client: ClientId,
        status: u8,
        out: &mut Actions,
    ) {
        if status == b'T' {
            let (message, hint) = Cause::TransactionBlock.words();
            let report = Fields::new(Severity::Error, Cause::TransactionBlock.sqlstate(), message).hint(hint);
            out.send(Link::Client(client), |bytes| encode::error_response(bytes, &report));
        }
        out.send(Link::Client(client), |bytes| encode::ready_for_query(bytes, b'I'));
        self.part(now, id, client, out);
    }

    /// Takes the connection from a client that goes on without it; what it left open there is rolled back.
    fn part(&mut self, now: Tick, id: ServerId, client_id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.lease = Lease::None;
        client.idle_since = now;
        let inside = client.is_inside_message();
        let unread = std::mem::take(&mut client.unread) || client.hung_up;
        self.abandon(now, id, inside, false, out);
        if !self.close_if_draining(now, client_id, out) && unread {
            self.client_readable(now, client_id, out);
        }
    }

    fn report_timeout(&self, id: ClientId, setting: &'static str, out: &mut Actions) {
        if let Some(client) = self.clients.get(id) {
            let (pool, client) = (self.pool_title(client.pool), self.describe(client));
            out.report(Report::TookTooLong { pool, client, setting });
        }
    }
}
