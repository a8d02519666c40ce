//! Cancel requests: from a client to the server connection it holds, and to no other.
//!
//! While one is under way its server connection is handed to nobody and gets nothing new: the server answers
//! a cancel by closing that connection, and only then is it certain whom the signal hit
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>).

use headpond_core::{CloseReason, State, Tick};
use headpond_wire::postgres::startup;
use subtle::ConstantTimeEq;

use crate::action::{Action, Actions, CancelId, ClientId, Link, ServerId};
use crate::client::{ClientState, Lease};
use crate::config::TlsNegotiation;
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::BackendKey;
use crate::timers::Timer;
use crate::tls::Upgrade;

/// Cancel requests under way at once on one worker; further ones are dropped, as PostgreSQL may do.
const CANCELS_MAX: usize = 256;

/// One cancel request on its way to the server.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) server: ServerId,
    key: BackendKey,
    /// It goes by TLS, as the server connection does, and is so far with that.
    pub(crate) upgrade: Option<Upgrade>,
    /// The connection that asked: it is closed when the request has been delivered.
    requester: Option<ClientId>,
}

impl Pooler {
    /// A connection brought a cancel request. False: it belongs to another worker and has left.
    pub(crate) fn cancel_requested(
        &mut self,
        now: Tick,
        requester: ClientId,
        process: u32,
        key: &[u8],
        out: &mut Actions,
    ) -> bool {
        let worker = (process >> 24) as usize;
        if worker != self.worker + 1 && (1..=self.workers).contains(&worker) {
            self.forget_client(requester);
            out.push(Action::Move { client: requester, worker: worker - 1 });
            return false;
        }
        self.totals.cancels_received += 1;
        let target =
            self.clients.at((process & 0x00ff_ffff) as usize).filter(|id| self.is_key_of(*id, process, key));
        let lease = target.and_then(|id| Some((id, self.clients.get(id)?)));
        match lease.map(|(id, client)| (id, client.lease, client.pool)) {
            Some((id, Lease::Waiting(waiter), pool)) => {
                self.with_pool(now, pool, out, |policy, _| policy.withdraw(now, waiter));
                self.refuse_request(now, id, Cause::Cancelled, out);
                self.drop_client(requester, out);
            }
            Some((_, Lease::Active(server), _)) if self.runs_something(server) => {
                self.cancel_lease(now, server, requester, out);
            }
            _ => self.drop_client(requester, out),
        }
        true
    }

    fn is_key_of(&self, id: ClientId, process: u32, key: &[u8]) -> bool {
        let ready = self.clients.get(id).is_some_and(|client| matches!(client.state, ClientState::Ready));
        let (own_process, own_key) = self.key_of(id);
        ready && own_process == process && (bool::from(own_key.ct_eq(key)) || planted!(CancelKeyUnchecked))
    }

    /// Cancels what a client's lease runs. An errand of ours at its front is not what was meant: the request waits for
    /// the end of that, and one is enough.
    fn cancel_lease(&mut self, now: Tick, id: ServerId, requester: ClientId, out: &mut Actions) {
        let errand = self.servers.get_mut(id).filter(|server| server.exchanges.is_on_errand());
        match errand {
            None => self.start_cancel(now, id, Some(requester), out),
            Some(server) => {
                if let Some(other) = server.cancel_waits.replace(requester) {
                    self.drop_client(other, out);
                }
            }
        }
    }

    /// An errand is over: a cancel request that waited for that goes on, if there is something left to be cancelled.
    pub(crate) fn errand_over(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id).filter(|server| !server.exchanges.is_on_errand()) else {
            return;
        };
        let Some(requester) = server.cancel_waits.take() else { return };
        if server.client.is_some() && !server.exchanges.at_rest() {
            self.start_cancel(now, id, Some(requester), out);
        } else {
            self.drop_client(requester, out);
        }
    }

    fn runs_something(&self, id: ServerId) -> bool {
        self.servers.get(id).is_some_and(|server| !server.exchanges.at_rest())
    }

    /// Asks the server to cancel what a connection runs.
    pub(crate) fn start_cancel(
        &mut self,
        now: Tick,
        id: ServerId,
        requester: Option<ClientId>,
        out: &mut Actions,
    ) {
        let full = self.cancels.len() >= CANCELS_MAX;
        let Some(server) = self.servers.get_mut(id).filter(|_| !full) else {
            if let Some(requester) = requester {
                self.drop_client(requester, out);
            }
            return;
        };
        server.cancels += 1;
        self.totals.cancels_forwarded += 1;
        let data_source = self.pools[server.pool as usize].data_source;
        let upgrade = server.tls.as_ref().map(|_| Upgrade::Asked);
        let key = server.key.clone();
        let cancel = self.cancels.insert(Cancel { server: id, key, upgrade, requester });
        self.timers.set(now.plus(self.config.cancel_timeout), Timer::Cancel(cancel));
        out.push(Action::Connect { link: Link::Cancel(cancel), data_source });
    }

    /// The connection for a cancel request is there.
    pub(crate) fn cancel_connected(&mut self, id: CancelId, out: &mut Actions) {
        let Some(cancel) = self.cancels.get_mut(id) else { return };
        if cancel.upgrade.is_none() {
            return self.send_cancel(id, out);
        }
        let server = cancel.server;
        let pool = self.servers.get(server).map(|server| server.pool);
        if pool.is_some_and(|pool| self.server_tls_of(pool).negotiation == TlsNegotiation::Direct) {
            self.start_cancel_tls(id, out);
        } else {
            out.send(Link::Cancel(id), startup::encode_ssl_request);
        }
    }

    /// The key goes to nobody but the server, in TLS as the connection that it cancels.
    pub(crate) fn start_cancel_tls(&mut self, id: CancelId, out: &mut Actions) {
        let Some(cancel) = self.cancels.get_mut(id) else { return };
        cancel.upgrade = Some(Upgrade::Handshake);
        let server = cancel.server;
        let place = self.servers.get(server).map(|server| self.pools[server.pool as usize].data_source);
        // Of a server connection that is gone nothing is known: there is no such data source.
        out.push(Action::StartTls { link: Link::Cancel(id), data_source: place.unwrap_or(usize::MAX) });
    }

    pub(crate) fn send_cancel(&mut self, id: CancelId, out: &mut Actions) {
        if let Some(cancel) = self.cancels.get_mut(id) {
            cancel.upgrade = None;
            let BackendKey { process, secret } = &cancel.key;
            out.send(Link::Cancel(id), |bytes| startup::encode_cancel(bytes, *process, secret));
        }
    }

    /// The server has closed the connection of a cancel request: the signal was sent. (Or it could not be
    /// reached: then none was.)
    pub(crate) fn cancel_done(&mut self, now: Tick, id: CancelId, out: &mut Actions) {
        let Some(cancel) = self.cancels.remove(id) else { return };
        out.push(Action::Close(Link::Cancel(id)));
        if let Some(requester) = cancel.requester {
            self.drop_client(requester, out);
        }
        let Some(server) = self.servers.get_mut(cancel.server) else { return };
        server.cancels -= 1;
        if server.cancels > 0 {
            return;
        }
        if let Some(client) = server.client {
            self.arm_lease(cancel.server, now);
            self.read_on_if_allowed(client, cancel.server, out);
        } else if server.is_clean() {
            self.came_to_rest(now, cancel.server, out);
        }
    }

    /// A cancel request takes too long: nobody knows whether its signal is still to come, so the server
    /// connection must not serve another.
    pub(crate) fn cancel_overdue(&mut self, now: Tick, id: CancelId, out: &mut Actions) {
        let Some(cancel) = self.cancels.get(id) else { return };
        let server_id = cancel.server;
        self.cancel_done(now, id, out);
        let Some(server) = self.servers.get(server_id) else { return };
        let (pool, conn) = (server.pool, server.conn);
        match self.pools[pool as usize].policy.state(conn) {
            Some(State::Closing) | None => {}
            _ => {
                let message = "a cancel request got no answer within cancel_timeout";
                self.lose_server(now, server_id, CloseReason::RecoverTimeout, message, out);
            }
        }
    }
}
