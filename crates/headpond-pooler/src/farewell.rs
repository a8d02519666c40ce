//! How clients leave, and what is done when time runs out.

use headpond_core::{CloseReason, Tick};

use crate::action::{Action, Actions, ClientId, Link};
use crate::client::{Client, ClientState, Lease};
use crate::pooler::{PoolEntry, Pooler};
use crate::refuse::Cause;
use crate::timers::Timer;

/// PostgreSQL's own words.
const BY_COMMAND: &str = "terminating connection due to administrator command";

impl Pooler {
    /// A client's socket reached its end or broke.
    pub(crate) fn client_lost(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        // Whoever was closed already is not closed, and counted, once more.
        if self.clients.get(id).is_some() {
            self.remove_client(now, id, true, out);
            out.push(Action::Close(Link::Client(id)));
        }
    }

    /// A client is gone; what it held or waited for is given up.
    pub(crate) fn remove_client(&mut self, now: Tick, id: ClientId, abrupt: bool, out: &mut Actions) {
        let Some(client) = self.forget_client(id) else { return };
        match client.lease {
            Lease::None => {}
            Lease::Waiting(_) if planted!(WaiterForgotten) => {}
            Lease::Waiting(waiter) => {
                self.with_pool(now, client.pool, out, |policy, _| policy.withdraw(now, waiter));
            }
            Lease::Active(server) => {
                self.abandon(now, server, client.is_inside_message(), abrupt, out);
            }
        }
    }

    /// Closes a client that holds nothing.
    pub(crate) fn drop_client(&mut self, id: ClientId, out: &mut Actions) {
        if self.forget_client(id).is_some() {
            out.push(Action::Close(Link::Client(id)));
        }
    }

    /// Takes a client out of the books.
    pub(crate) fn forget_client(&mut self, id: ClientId) -> Option<Client> {
        let mut client = self.clients.remove(id)?;
        self.release_client(&mut client);
        if client.is_logged_in() {
            self.totals.logged_in -= 1;
        } else {
            self.totals.logging_in -= 1;
            self.trim_login_timers();
        }
        if let Some(entry) = self.pools.get_mut(client.pool as usize) {
            entry.clients -= 1;
        }
        Some(client)
    }

    /// While draining, a client that has nothing under way is told and closed. Whether it was.
    pub(crate) fn close_if_draining(&mut self, now: Tick, id: ClientId, out: &mut Actions) -> bool {
        if !self.draining {
            return false;
        }
        let Some(client) = self.clients.get(id) else { return false };
        let idle = match (&client.state, client.lease) {
            (ClientState::Refused(_), _) | (_, Lease::Waiting(_)) => false,
            (_, Lease::None) => true,
            (_, Lease::Active(server)) => {
                let clean = self.servers.get(server).is_some_and(|server| server.is_clean());
                clean && !client.is_inside_message()
            }
        };
        if !idle {
            return false;
        }
        if let Some(client) = self.clients.get_mut(id)
            && let Lease::Active(server) = std::mem::replace(&mut client.lease, Lease::None)
        {
            self.abandon(now, server, false, false, out);
        }
        self.close_client(id, Cause::ShuttingDown, BY_COMMAND, out);
        true
    }

    /// While draining, once all clients that are left only stream in both directions, which they would for ever, they are
    /// told and closed.
    pub(crate) fn end_streams(&mut self, now: Tick, out: &mut Actions) {
        let streams = |client: &Client| {
            let server = client.server().and_then(|server| self.servers.get(server));
            server.is_some_and(|server| server.exchanges.is_streaming())
        };
        let goes_on = |client: &Client| client.is_logged_in() && !streams(client);
        if !self.draining || self.clients.iter().any(|(_, client)| goes_on(client)) {
            return;
        }
        for id in self.servers.ids() {
            if self.servers.get(id).is_some_and(|server| server.client.is_some()) {
                self.close_pair(now, id, CloseReason::Shutdown, Cause::ShuttingDown, BY_COMMAND, out);
            }
        }
    }

    /// Drops every client and server connection of a data source (`None`: of all) at once. Who comes next waits until it
    /// is resumed.
    pub fn kill(&mut self, now: Tick, data_source: Option<&str>, out: &mut Actions) {
        self.suspend(now, data_source, out);
        let named = |entry: &PoolEntry| data_source.is_none_or(|name| entry.name == name);
        let killed: Vec<bool> = self.pools.iter().map(named).collect();
        let is_killed = |pool: u32| killed.get(pool as usize).copied().unwrap_or(false);
        for id in self.servers.ids() {
            if self.servers.get(id).is_some_and(|server| is_killed(server.pool)) {
                self.close_pair(now, id, CloseReason::Suspended, Cause::ShuttingDown, BY_COMMAND, out);
            }
        }
        for id in self.clients.ids() {
            let Some(client) = self.clients.get_mut(id).filter(|client| is_killed(client.pool)) else {
                continue;
            };
            let pool = client.pool;
            if let Lease::Waiting(waiter) = std::mem::replace(&mut client.lease, Lease::None) {
                self.with_pool(now, pool, out, |policy, _| policy.withdraw(now, waiter));
            }
            self.close_client(id, Cause::ShuttingDown, BY_COMMAND, out);
        }
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Tick, out: &mut Actions) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Pool(pool) => {
                    let entry = &mut self.pools[pool as usize];
                    if entry.armed <= now {
                        entry.armed = Tick::NEVER;
                        self.with_pool(now, pool, out, |policy, actions| policy.on_timer(now, actions));
                    }
                }
                Timer::Server(id) => self.server_overdue(now, id, out),
                Timer::Cancel(id) => self.cancel_overdue(now, id, out),
                Timer::Budget(node) => self.budget_overdue(now, node, out),
                Timer::Control(node) => self.control_due(now, node, out),
                Timer::Login(id) => self.login_overdue(now, id, out),
                Timer::Idle(id) => self.idle_overdue(now, id, out),
                Timer::Lease(id) => self.lease_overdue(now, id, out),
                Timer::Sequences(id) => self.sequences_overdue(now, id, out),
            }
        }
    }

    fn login_overdue(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get(id) else { return };
        if client.is_logged_in() {
            return;
        }
        let (lease, pool) = (client.lease, client.pool);
        match lease {
            Lease::None => {}
            Lease::Waiting(waiter) => {
                self.with_pool(now, pool, out, |policy, _| policy.withdraw(now, waiter))
            }
            // A connection of its own, which is being opened anew.
            Lease::Active(server) => self.abandon(now, server, false, true, out),
        }
        self.refuse_login(id, &Cause::LoginTimeout, "the login took longer than client_login_timeout", out);
    }
}
