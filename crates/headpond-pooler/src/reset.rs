//! Sessions made like new for the next client, in session mode.
//!
//! What no reset undoes is asked for afterwards: a temporary schema, which changes what a transaction may do, and
//! libraries, which change what settings there are. A connection with either is closed.

use headpond_core::{CloseReason, State, Tick};

use crate::action::{Actions, ServerId};
use crate::config::PoolMode;
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::session::Session;
use crate::verdicts::Columns;

/// Whether there is a temporary schema, and how many settings come from libraries.
const LEFT: &str = "SELECT pg_my_temp_schema() <> 0, \
    (SELECT count(*) FROM pg_settings WHERE category = 'Customized Options')";

/// What undoes all that a client may have left behind, but for libraries.
const DISCARD: &str = "DISCARD ALL";

impl Pooler {
    /// A connection without a client is clean as far as transactions go. In session mode its session is reset, and in
    /// others if something may be left in it.
    pub(crate) fn recovered(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (pool, conn) = (server.pool, server.conn);
        let session = self.pools[pool as usize].mode == PoolMode::Session;
        let reset = match session {
            true => self.config.reset_query.as_str(),
            false if server.session.is_dirty() => DISCARD,
            false => "",
        };
        if reset.is_empty() || planted!(ResetForgotten) {
            self.fit_again(now, id, out);
            return;
        }
        if !session && server.session.is_beyond_reset() {
            self.with_pool(now, pool, out, |policy, actions| {
                policy.close(now, conn, CloseReason::Unclean, actions);
            });
            return;
        }
        let reset = reset.to_owned();
        server.settings = server.startup;
        server.session = Session::default();
        server.exchanges.guard();
        self.with_pool(now, pool, out, |policy, actions| {
            policy.retire(now, conn, State::Resetting, actions);
        });
        self.forget_statements(id);
        self.run_errand(now, id, Errand::Reset, &reset, out);
        if session && self.config.verify_reset {
            self.run_errand(now, id, Errand::Verify, LEFT, out);
        }
    }

    /// Asks a new session of a pool that does not know what a new one is like. Whether it did.
    pub(crate) fn measures_session(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get_mut(id) else { return false };
        let entry = &mut self.pools[server.pool as usize];
        let resets = entry.mode == PoolMode::Session && !self.config.reset_query.is_empty();
        if !resets || entry.is_dedicated() || !self.config.verify_reset || !entry.unmeasured {
            return false;
        }
        // A server that does not say is not asked for ever.
        if std::mem::replace(&mut server.measured, true) {
            return false;
        }
        // Until it is known, nothing is held against sessions but what was known before.
        entry.loaded.get_or_insert(u32::MAX);
        self.run_errand(now, id, Errand::Baseline, LEFT, out);
        self.due(id, now.plus(self.config.recover_timeout));
        true
    }

    /// What a new session has loaded.
    pub(crate) fn session_measured(&mut self, pool: u32, row: &[u8]) {
        let entry = &mut self.pools[pool as usize];
        if let Some((_, loaded)) = read(row) {
            entry.unmeasured = false;
            entry.loaded = Some(loaded);
        }
    }

    /// What is left in a session that was reset.
    pub(crate) fn session_verified(&mut self, id: ServerId, row: &[u8]) {
        let (Some((has_schema, loaded)), Some(server)) = (read(row), self.servers.get_mut(id)) else {
            return;
        };
        let entry = &mut self.pools[server.pool as usize];
        let grown = entry.loaded.is_some_and(|new| loaded > new);
        if grown {
            // Perhaps new sessions have it too by now.
            entry.unmeasured = true;
        }
        server.unclean = has_schema || grown;
    }
}

/// The answer to [`LEFT`].
fn read(row: &[u8]) -> Option<(bool, u32)> {
    let mut columns = Columns::of(row);
    Some((columns.next()? == "t", columns.next()?.parse().ok()?))
}
