//! TLS on either leg: who asks for it, what answers there are, and what a handshake established. The handshake itself
//! is the driver's.
//!
//! Nothing that was said in clear counts once TLS was agreed on: whoever sends more than the request, or the one byte
//! that answers it, is not spoken to any further
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>).

use std::sync::Arc;

use headpond_core::{FailureClass, Tick};
use headpond_wire::postgres::startup;

use crate::action::{Action, Actions, CancelId, ClientId, Link, Report, ServerId};
use crate::client::{ClientState, Lease};
use crate::config::{NodeAddress, ServerTls, TlsMode, TlsNegotiation};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::ServerState;
use crate::server_login::Failed;

/// What a handshake established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Of the protocol, as OpenSSL calls it: `TLSv1.3`.
    pub version: &'static str,
    /// Of the cipher suite, as the RFCs call it.
    pub cipher: &'static str,
    /// Both sides agreed that PostgreSQL's protocol is spoken inside (ALPN).
    pub agreed: bool,
    /// What SCRAM binds to: the hash of the server's certificate by its own hash function (`tls-server-end-point`);
    /// `None`: it has none.
    pub end_point: Option<Box<[u8]>>,
    /// The common name in the client's certificate, which was verified; `None`: there was no certificate, or no name.
    pub common_name: Option<String>,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTls {
    /// The network, or time.
    Network(String),
    /// One side did not like what the other said, or its certificate.
    Refused(String),
}

/// How far a server connection, or one for a cancel request, is with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// It was asked for.
    Asked,
    /// The driver has the socket.
    Handshake,
}

impl Pooler {
    /// Whether somebody waits for the outcome of a handshake on this link; if not, its socket is to be closed.
    #[must_use]
    pub fn awaits_handshake(&self, link: Link) -> bool {
        match link {
            Link::Client(id) => self
                .clients
                .get(id)
                .is_some_and(|client| matches!(client.state, ClientState::Handshake { .. })),
            Link::Server(id) => {
                let state = self.servers.get(id).map(|server| &server.state);
                matches!(state, Some(ServerState::Tls(Upgrade::Handshake)))
            }
            Link::Cancel(id) => {
                self.cancels.get(id).is_some_and(|cancel| cancel.upgrade == Some(Upgrade::Handshake))
            }
        }
    }

    /// The handshake that [`Action::AcceptTls`] or [`Action::StartTls`] asked for succeeded. The link is the driver's
    /// again: what comes now is what was inside.
    pub fn handshaken(&mut self, now: Tick, link: Link, tls: &Arc<Tls>, out: &mut Actions) {
        match link {
            Link::Client(id) => self.client_handshaken(id, tls, out),
            Link::Server(id) => self.server_handshaken(now, id, tls, out),
            Link::Cancel(id) => self.send_cancel(id, out),
        }
    }

    /// The handshake failed, and the socket is gone.
    pub fn handshake_failed(&mut self, now: Tick, link: Link, why: NoTls, out: &mut Actions) {
        if !self.awaits_handshake(link) {
            return;
        }
        match link {
            Link::Client(id) => {
                let (NoTls::Network(why) | NoTls::Refused(why)) = why;
                self.totals.logins_refused += 1;
                out.report(Report::LoginRefused {
                    message: format!("no TLS with the client: {why}"),
                    wrong: false,
                });
                self.client_lost(now, id, out);
            }
            Link::Server(id) => self.server_handshake_failed(now, id, why, out),
            Link::Cancel(id) => self.cancel_done(now, id, out),
        }
    }

    /// A client that came from another worker has done its handshake there.
    pub fn came_in_tls(&mut self, id: ClientId, tls: Arc<Tls>) {
        if let Some(client) = self.clients.get_mut(id) {
            client.tls = Some(tls);
        }
    }

    /// A client asks for TLS, by its first packet of `size` bytes. Returns how many are consumed.
    pub(crate) fn tls_requested(
        &mut self,
        id: ClientId,
        bytes: &[u8],
        size: usize,
        out: &mut Actions,
    ) -> usize {
        let Some(client) = self.clients.get_mut(id) else { return bytes.len() };
        if client.tls.is_some() {
            self.refuse_login(id, &Cause::BadStartup, "TLS was asked for inside TLS", out);
            return bytes.len();
        }
        if self.config.client_tls == TlsMode::Disable {
            // Whatever follows stands in clear and is read as such: nothing was promised.
            out.send(Link::Client(id), |bytes| bytes.push(b'N'));
            return size;
        }
        if bytes.len() > size {
            // Whoever stands between could have put it there, for it to count as if it had been encrypted.
            let message = "received unencrypted data after the request for TLS";
            self.refuse_login(id, &Cause::BadStartup, message, out);
            return bytes.len();
        }
        client.state = ClientState::Handshake { direct: false };
        out.send(Link::Client(id), |bytes| bytes.push(b'S'));
        out.push(Action::AcceptTls(id));
        size
    }

    /// Whether a client's first bytes are a TLS handshake, and are left to that.
    pub(crate) fn is_direct_tls(&mut self, id: ClientId, bytes: &[u8], out: &mut Actions) -> bool {
        let offered = self.config.client_tls != TlsMode::Disable;
        let Some(client) = self.clients.get_mut(id) else { return false };
        if !offered || client.tls.is_some() || bytes.first() != Some(&startup::TLS_HANDSHAKE) {
            return false;
        }
        client.state = ClientState::Handshake { direct: true };
        out.push(Action::AcceptTls(id));
        true
    }

    /// Whether a client must be turned away because it came in clear. Unix sockets need no TLS.
    pub(crate) fn lacks_tls(&self, id: ClientId) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        self.config.client_tls.is_demanded() && client.tls.is_none() && client.peer.is_some()
    }

    fn client_handshaken(&mut self, id: ClientId, tls: &Arc<Tls>, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let ClientState::Handshake { direct } = client.state else { return };
        client.tls = Some(Arc::clone(tls));
        client.state = ClientState::Startup;
        if direct && !tls.agreed {
            // It may be for somebody else: another protocol's client could be made to speak to us.
            let message = "direct TLS needs ALPN, and the client did not ask for \"postgresql\" by it";
            self.refuse_login(id, &Cause::BadStartup, message, out);
            return;
        }
        out.push(Action::Read(Link::Client(id)));
    }

    /// How the server of a pool is to be spoken to; never by TLS on a Unix socket.
    pub(crate) fn server_tls_of(&self, pool: u32) -> ServerTls {
        let place = self.pools.get(pool as usize).map(|entry| entry.data_source);
        match place.and_then(|place| self.config.data_sources.get(place)) {
            Some(source) if matches!(source.node, NodeAddress::Tcp { .. }) => source.tls,
            _ => ServerTls::NONE,
        }
    }

    /// Begins TLS on a new server connection; false: it stays in clear.
    pub(crate) fn begin_tls(&mut self, id: ServerId, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let tls = self.server_tls_of(server.pool);
        // The second try is the other way, if there still is one: the mode may have changed since the first.
        let encrypted = match tls.mode {
            TlsMode::Disable => false,
            TlsMode::Allow => server.second,
            TlsMode::Prefer => !server.second,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => true,
        };
        if !encrypted {
            return false;
        }
        let direct = tls.negotiation == TlsNegotiation::Direct && tls.mode.is_demanded();
        let entry = &self.pools[server.pool as usize];
        let (data_source, identity) = (entry.data_source, entry.identity);
        let link = Link::Server(id);
        let stage = if direct {
            out.push(Action::StartTls { link, data_source });
            Upgrade::Handshake
        } else {
            out.send(link, startup::encode_ssl_request);
            Upgrade::Asked
        };
        if let Some(server) = self.servers.get_mut(id) {
            server.state = ServerState::Tls(stage);
            // What is demanded of a server may change meanwhile, and so may who we are.
            server.identity = identity;
        }
        true
    }

    /// A server's answer to the request for TLS: one byte. Returns how many are consumed.
    pub(crate) fn tls_answered(&mut self, now: Tick, id: ServerId, bytes: &[u8], out: &mut Actions) -> usize {
        let Some(server) = self.servers.get_mut(id) else { return bytes.len() };
        let pool = server.pool;
        let (class, why) = match bytes {
            [] => return 0,
            [b'S'] => {
                server.state = ServerState::Tls(Upgrade::Handshake);
                let data_source = self.pools[pool as usize].data_source;
                out.push(Action::StartTls { link: Link::Server(id), data_source });
                return 1;
            }
            [b'N'] if self.server_tls_of(pool).mode == TlsMode::Prefer => {
                self.begin_startup(id, out);
                return 1;
            }
            [b'N'] => (FailureClass::Refused, "the server has no TLS, and it is to be used (server_tls)"),
            [b'S' | b'N', ..] => {
                (FailureClass::Other, "the server sent more in clear than whether it has TLS")
            }
            // Nobody vouches for what the error says, so nobody gets to read it.
            [b'E', ..] => (FailureClass::Unreachable, "the server answered the request for TLS by an error"),
            _ => (FailureClass::Other, "the server does not speak PostgreSQL's protocol"),
        };
        self.login_failed(now, id, Failed::new(class, "08006", why), out);
        bytes.len()
    }

    fn server_handshaken(&mut self, now: Tick, id: ServerId, tls: &Arc<Tls>, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.tls = Some(Arc::clone(tls));
        let pool = server.pool;
        if self.server_tls_of(pool).negotiation == TlsNegotiation::Direct && !tls.agreed {
            let message = "direct TLS needs ALPN, and the server did not agree to \"postgresql\" by it";
            self.login_failed(now, id, Failed::new(FailureClass::Refused, "08006", message), out);
            return;
        }
        self.begin_startup(id, out);
    }

    fn server_handshake_failed(&mut self, now: Tick, id: ServerId, why: NoTls, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.lost = true;
        let (pool, second) = (server.pool, server.second);
        if self.server_tls_of(pool).mode == TlsMode::Prefer && !second {
            self.try_other_way(now, id, out);
            return;
        }
        let (class, why) = match why {
            NoTls::Network(why) => (FailureClass::Unreachable, why),
            NoTls::Refused(why) => (FailureClass::Refused, why),
        };
        let failed = Failed::new(class, "08006", format!("no TLS with the server: {why}"));
        self.login_failed(now, id, failed, out);
    }

    /// Whether a login that the server refused before it asked anything is to be tried the other way, as libpq does:
    /// in TLS (`allow`), or in clear (`prefer`).
    pub(crate) fn has_other_way(&self, id: ServerId, sqlstate: &str) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let other = match self.server_tls_of(server.pool).mode {
            TlsMode::Allow => true,
            TlsMode::Prefer => server.tls.is_some(),
            _ => false,
        };
        other && !server.second && sqlstate == "28000"
    }

    /// The first way was refused: the other is tried, for the same purpose and in the same place.
    pub(crate) fn try_other_way(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(old) = self.servers.get(id) else { return };
        let (pool, conn, startup, client, control) =
            (old.pool, old.conn, old.startup, old.client, old.is_control().then_some(old.node));
        let new = match control {
            Some(node) => self.begin_control(now, pool, node, out),
            None => self.begin_login(now, pool, conn, startup, out),
        };
        if let Some(server) = self.servers.get_mut(new) {
            server.second = true;
            server.client = client;
        }
        if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
            client.lease = Lease::Active(new);
        }
        if let Some(mut old) = self.servers.remove(id) {
            self.release_server(&mut old);
        }
        out.push(Action::Close(Link::Server(id)));
    }

    /// The server's answer on a connection for a cancel request. Returns how many bytes are consumed.
    pub(crate) fn cancel_received(
        &mut self,
        now: Tick,
        id: CancelId,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        let Some(cancel) = self.cancels.get(id) else { return bytes.len() };
        match (cancel.upgrade, bytes) {
            (Some(Upgrade::Asked), [b'S']) => self.start_cancel_tls(id, out),
            // The key goes where the connection went, or nowhere.
            (Some(Upgrade::Asked), [_, ..]) => self.cancel_done(now, id, out),
            _ => {}
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests;
