//! What becomes of a server connection whose client is gone, until it serves again.

use headpond_core::{CloseReason, State, Tick};
use headpond_wire::postgres::frontend;

use crate::action::{Action, Actions, Link, ServerId};
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::server::ServerState;

/// A portal that nobody has; the name is what the server's log shows.
const NO_PORTAL: &str = "Headpond: the client left without a Sync";

impl Pooler {
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
        self.unpin(now, id);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.client = None;
        server.streaming_to_client = false;
        server.half_sent = inside_message;
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
        self.give_answers(id, out);
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
    pub(crate) fn check_failed(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
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
}
