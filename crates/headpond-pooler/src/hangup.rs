//! Clients that will send no more. One that only closed its own direction still gets its answers.
//!
//! A closed socket looks the same at first. Something small is sent to it: if nobody is there, the network says so,
//! and the driver that the link is closed.

use headpond_core::Tick;
use headpond_wire::postgres::encode;

use crate::action::{Action, Actions, ClientId, Link};
use crate::client::{ClientState, Lease};
use crate::pooler::Pooler;
use crate::server::{Server, ServerState};

impl Pooler {
    /// A client will send no more; what it sent may still be unread.
    pub fn hung_up(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let knew = std::mem::replace(&mut client.hung_up, true);
        match (&client.state, client.lease) {
            // It gives up its place: what it wanted is not begun.
            (ClientState::Ready, Lease::Waiting(_)) if !knew => self.client_lost(now, id, out),
            (ClientState::Ready, Lease::Waiting(_)) => {}
            (ClientState::AwaitsParameters | ClientState::LookedUp(_), _) => self.client_lost(now, id, out),
            _ => out.push(Action::Read(Link::Client(id))),
        }
    }

    /// A client's stream was read to its end. What it sent before is answered first, as far as it was whole.
    /// [`Pooler::closed`] says that it is gone.
    pub fn ended(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.hung_up = true;
        let (blocked, inside) = (client.blocked, client.streaming > 0);
        let server = match (&client.state, client.lease) {
            // What was left unconsumed has its turn.
            (ClientState::Ready, Lease::Waiting(_)) => return,
            (ClientState::Ready, Lease::Active(_)) if client.unread => return,
            (ClientState::Ready, Lease::Active(server)) if !inside => self.servers.get_mut(server),
            _ => None,
        };
        let answers = |server: &Server| {
            let live = matches!(server.state, ServerState::Live);
            live && server.exchanges.has_boundary() && !server.exchanges.is_copying()
        };
        let Some(server) = server.filter(|server| answers(server)) else {
            return self.client_lost(now, id, out);
        };
        let knew = std::mem::replace(&mut server.client_ended, true);
        let flows = blocked || server.streaming_to_client && server.streaming > 0;
        let version = server.reports.iter().find(|(name, _)| name == "server_version");
        if let Some((name, value)) = version.filter(|_| !knew && !flows) {
            out.send(Link::Client(id), |bytes| encode::parameter_status(bytes, name, value));
        }
    }
}
