//! A client's settings are made those of the connection that it got, ahead of its first message and in the same flight.
//!
//! If that fails the connection is left in a failed transaction, so that nothing the client sends does anything. It is
//! told, in answer to that, and goes on; the connection goes back to what it was.

use headpond_core::{CloseReason, Tick};
use headpond_wire::postgres::encode;

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::refuse::Cause;

/// Whether the settings of a connection's client could not be restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[default]
    None,
    /// They could not, and it has not heard it.
    Untold,
    Told,
}

impl Pooler {
    /// Brings a leased connection's settings to what its client has.
    pub(crate) fn restore(&mut self, now: Tick, id: ServerId, client: ClientId, out: &mut Actions) {
        let (Some(client), Some(server)) = (self.clients.get(client), self.servers.get_mut(id)) else {
            return;
        };
        if server.settings == client.settings || planted!(SettingsOfPredecessorStay) {
            return;
        }
        let mut change = self.settings.change(server.settings, client.settings);
        if planted!(PrefixUnguarded) {
            change = change.replace("BEGIN;", "").replace(";COMMIT", "");
        }
        server.session.before = std::mem::replace(&mut server.settings, client.settings);
        self.run_errand(now, id, Errand::Settings, &change, out);
    }

    /// They cannot be restored. What no server has accepted yet is wrong, and its client is closed, as the server itself
    /// would at a login. Whether it stays.
    pub(crate) fn restore_failed(&mut self, now: Tick, id: ServerId, why: &str, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get_mut(id) else { return false };
        if server.client.and_then(|client| self.clients.get(client)).is_none_or(|client| !client.accepted) {
            self.close_pair(now, id, CloseReason::SettingsRefused, Cause::SettingsRefused, why, out);
            return false;
        }
        server.session.refusal = Refusal::Untold;
        server.exchanges.unguard();
        self.pools[server.pool as usize].settings_error = Some(why.to_owned());
        true
    }

    /// The error in place of one that says no more than that the connection is in a failed transaction.
    pub(crate) fn tell_refusal(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.session.refusal = Refusal::Told;
        if let Some(client) = server.client {
            self.send_refusal(now, client, Cause::SettingsRefused, out);
        }
    }

    /// The end of a request that did nothing, for the client that is in no transaction.
    pub(crate) fn end_refused(&mut self, id: ServerId, out: &mut Actions) {
        if let Some(client) = self.servers.get(id).and_then(|server| server.client) {
            out.send(Link::Client(client), |bytes| encode::ready_for_query(bytes, b'I'));
        }
    }

    /// A step on the way back from settings that could not be restored. Whether the connection is on that way.
    pub(crate) fn recants(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get_mut(id) else { return false };
        let (true, Some(client_id)) = (server.session.refusal != Refusal::None, server.client) else {
            return false;
        };
        if !server.exchanges.at_rest() || server.streaming > 0 || server.blocked {
            return true;
        }
        if server.status != b'I' {
            self.run_errand(now, id, Errand::CleanUp, "ROLLBACK", out);
            return true;
        }
        if !planted!(RefusedTakenForSet) {
            server.settings = server.session.before;
        }
        server.exchanges.guard();
        // Whatever was sent did nothing.
        server.session.untouched();
        if std::mem::take(&mut server.session.refusal) == Refusal::Told {
            self.came_to_rest(now, id, out);
            return true;
        }
        // It has sent nothing yet, or it is unread: it loses the connection, and hears why.
        self.abandon(now, id, false, false, out);
        self.refuse_request(now, client_id, Cause::SettingsRefused, out);
        true
    }
}
