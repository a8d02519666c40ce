//! What a client resets goes back to what its startup packet said, not to what the connection was opened with.
//!
//! Whether a reset took place is known when its request is over: until then the client is held, and then its startup
//! layer is set again, ahead of what it sends next.

use headpond_core::Tick;

use crate::action::{Actions, ServerId};
use crate::config::PoolMode;
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::session::sequences::Sequences;
use crate::session::{Pinnings, Pins, Session};
use crate::settings::{IDENTITY, SettingsId, moves_freely};
use crate::text::{Effects, Text};

/// What the requests under way reset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returning {
    /// Everything but what is in `kept`.
    all: bool,
    /// Set after everything was reset.
    kept: Vec<Box<str>>,
    names: Vec<Box<str>>,
    /// It is DISCARD ALL.
    discards: bool,
}

impl Returning {
    /// Takes note of what a text resets, and of what it sets after that.
    fn note(&mut self, text: &Text) {
        for setting in &text.settings {
            let Ok(name) = str::from_utf8(&setting.name) else { continue };
            self.names.retain(|other| **other != *name);
            self.kept.retain(|other| **other != *name);
            match (setting.resets, name) {
                (true, "") => *self = Self { all: true, ..Self::default() },
                (true, _) => self.names.push(name.into()),
                (false, _) => self.kept.push(name.into()),
            }
        }
        self.discards |= text.effects.any(Effects::DISCARD_ALL);
    }

    fn is_reset(&self, name: &str) -> bool {
        let all = self.all && !self.kept.iter().any(|other| **other == *name);
        all || self.names.iter().any(|other| **other == *name)
    }
}

impl Session {
    /// Takes note of what a text resets. Whether it resets anything.
    pub(super) fn returns(&mut self, text: &Text) -> bool {
        let resets = text.effects.any(Effects::RESETS);
        if resets || self.returning.is_some() {
            self.returning.get_or_insert_default().note(text);
        }
        resets
    }

    /// All settings went back to their defaults, and if it was DISCARD ALL everything else did.
    fn emptied(&mut self, now: Tick, discards: bool, pool: &mut Pinnings) {
        self.touched = self.touched.without(Effects::RESET_ALL);
        let mut pins = self.pins.without(Pins::OPAQUE);
        if self.pins.has(Pins::OPAQUE) && !discards && !planted!(IdentityKeptByResetAll) {
            // RESET ALL leaves that, and nobody knows who it is now.
            self.names.extend(IDENTITY.map(Box::from));
        }
        if discards {
            self.untouched();
            self.sequences = Sequences::Nobodys;
            self.prepared = Effects::NONE;
            pins = pins.and(Pins::LOADS);
        }
        self.pin(now, pins, pool);
    }
}

impl Pooler {
    /// A client's request that resets something is over, with this transaction status.
    pub(crate) fn reset_over(
        &mut self,
        now: Tick,
        id: ServerId,
        failed: bool,
        status: u8,
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let Some(returning) = server.session.returning.take() else { return };
        let Some(client) = server.client.and_then(|client| self.clients.get_mut(client)) else { return };
        if failed || status == b'E' {
            return;
        }
        let layer = client.layer;
        let session = self.pools[server.pool as usize].mode == PoolMode::Session;
        if session {
            // The rest goes back by itself to what the connection was opened with.
            let text = self.settings.layer(layer, |name| returning.is_reset(name) && moves_freely(name));
            self.run_errand(now, id, Errand::Layer, &text, out);
            return;
        }
        if returning.all && status == b'I' {
            let base = if returning.discards { SettingsId::NONE } else { client.settings };
            if let Ok(set) = self.settings.reset(base, layer) {
                client.settings = set;
                server.settings = set;
            }
            if returning.discards {
                client.drawn_on = Some(id);
            }
            // Something else may have been sent ahead that has yet to do what it does.
            if !server.exchanges.is_on(Owner::Client) {
                let pinnings = &mut self.pools[server.pool as usize].pinnings;
                server.session.emptied(now, returning.discards, pinnings);
            }
        }
        let text = self.settings.layer(layer, |name| returning.is_reset(name));
        if !text.is_empty() && !planted!(LayerForgotten) {
            self.run_errand(now, id, Errand::Layer, &text, out);
        }
    }
}
