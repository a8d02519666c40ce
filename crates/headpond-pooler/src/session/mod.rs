//! The virtual session: in transaction and statement mode, what a client sets on its session is true on whatever
//! connection it gets, and what cannot be moved keeps the connection with it.
//!
//! The text of a statement tells what it *may* leave behind (`text`); what *is* there when its transaction is over, a
//! probe on the connection tells: the values of the settings that were touched, and what pins. So nothing here needs to
//! know what was rolled back, or what a function did.

mod catalogue;
mod pinned;
mod pins;
mod probe;
mod resets;
mod restore;
pub(crate) mod runs;
mod sequences;
#[cfg(test)]
mod tests;

use headpond_core::Tick;

use crate::action::{Actions, ClientId, ServerId};
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::settings::SettingsId;
use crate::text::{Effects, Text};

pub(crate) use catalogue::Names;
pub(crate) use pinned::Pinnings;
pub use pins::Pins;
use probe::{Answer, Probe};
use resets::Returning;
pub(crate) use restore::Refusal;
use sequences::{Readers, Sequences};

/// Effects that outlive their transaction, or may.
const LASTING: Effects = Effects::TEMP
    .and(Effects::LOCKS)
    .and(Effects::LISTENS)
    .and(Effects::CURSORS)
    .and(Effects::PREPARES)
    .and(Effects::SEED)
    .and(Effects::LOADS)
    .and(Effects::SETTINGS)
    .and(Effects::RESET_ALL)
    .and(Effects::OPAQUE);

/// More settings than this in one transaction are not told apart.
const NAMES_MAX: usize = 100;

/// What is known of the session on one server connection, beyond its settings.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// What may have been done to it since the last probe was sent.
    touched: Effects,
    /// The settings among that.
    names: Vec<Box<str>>,
    /// Some of that was in a transaction that is over.
    settled: bool,
    /// A transaction is over since it last came to rest.
    transacted: bool,
    probe: Option<Box<Probe>>,
    /// What PREPARE has prepared may do.
    prepared: Effects,
    /// Its transaction was over before, and only the probe was since.
    has_been_probed: bool,
    /// A text that is on its way to it.
    streamed: Option<Box<runs::Streamed>>,
    /// The client's unnamed statement is among what was touched.
    has_read_unnamed: bool,
    sequences: Sequences,
    /// A timer is set for what only those pin.
    is_watched: bool,
    /// The client may have drawn a value since it got the connection.
    pub(crate) has_drawn: bool,
    /// Why it stays with its client.
    pub(crate) pins: Pins,
    /// Since when there is a reason, and the transactions that ended since then.
    pinned: Tick,
    transactions: u64,
    /// Since when it waits for its client outside a transaction.
    idle: Option<Tick>,
    /// What is reset by requests under way.
    returning: Option<Box<Returning>>,
    /// What its settings were before the errand that restores a client's, and whether that failed.
    before: SettingsId,
    pub(crate) refusal: Refusal,
}

impl Session {
    /// Whether something in it is neither known nor that of a new one, so that it can serve nobody else.
    pub(crate) fn is_dirty(&self) -> bool {
        self.touched.any(LASTING) || self.is_kept() || self.refusal != Refusal::None
    }

    /// Whether it holds what a client was told is there, and no other connection has.
    pub(crate) fn is_kept(&self) -> bool {
        self.settled && !planted!(SettledForgotten) || self.probe.is_some() || !self.pins.is_empty()
    }

    /// What it holds is being found out: its client is to wait.
    #[inline]
    pub(crate) fn is_probed(&self) -> bool {
        self.probe.is_some()
    }

    /// How texts are to be read may have changed.
    fn reads_otherwise(&self) -> bool {
        const DIALECT: [&str; 2] = ["client_encoding", "standard_conforming_strings"];
        self.names.iter().any(|name| DIALECT.contains(&&**name))
    }

    /// Statements may be parsed under other settings than those that are known.
    pub(crate) fn parses_otherwise(&self) -> bool {
        let settings = Effects::SETTINGS.and(Effects::RESET_ALL).and(Effects::OPAQUE);
        self.is_kept() || self.touched.any(settings)
    }

    /// A library was loaded, which no reset undoes.
    pub(crate) fn is_beyond_reset(&self) -> bool {
        self.pins.has(Pins::LOADS) || self.touched.any(Effects::LOADS)
    }

    /// The transaction is over in which it was touched.
    #[inline]
    pub(crate) fn transaction_over(&mut self) {
        self.settled |= self.touched.any(LASTING);
        self.transacted = true;
        self.transactions += 1;
    }

    /// Nothing that was sent since the last probe was carried out.
    fn untouched(&mut self) {
        self.touched = Effects::NONE;
        self.names.clear();
        self.settled = false;
        self.returning = None;
    }

    fn touch(&mut self, text: &Text) {
        self.touched |= text.effects;
        if text.effects.any(Effects::PREPARES) {
            self.prepared |= text.effects;
        }
        if text.effects.any(Effects::EXECUTES) && !planted!(ExecutedForgotten) {
            let settings = if self.prepared.any(Effects::SETTINGS) { Effects::OPAQUE } else { Effects::NONE };
            self.touched |= self.prepared.without(Effects::SETTINGS) | settings;
        }
        for setting in
            &text.settings[usize::from(planted!(SecondSettingForgotten) && text.settings.len() > 1)..]
        {
            let name = str::from_utf8(&setting.name).unwrap_or("?");
            if name.is_empty() {
                continue;
            }
            if !crate::settings::is_name(name) || self.names.len() >= NAMES_MAX {
                self.touched |= Effects::OPAQUE;
            } else if !self.names.iter().any(|other| **other == *name) {
                self.names.push(name.into());
            }
        }
    }
}

impl Pooler {
    /// Whether a leased connection at rest stays with its client: for a reason, or until it is known whether there is
    /// one.
    pub(crate) fn stays(&mut self, now: Tick, id: ServerId, client_id: ClientId, out: &mut Actions) -> bool {
        let (Some(server), Some(client)) = (self.servers.get_mut(id), self.clients.get_mut(client_id)) else {
            return false;
        };
        let session = &mut server.session;
        let touched = std::mem::take(&mut session.touched);
        session.has_read_unnamed = false;
        let entry = &mut self.pools[server.pool as usize];
        let probed = std::mem::take(&mut session.has_been_probed);
        // It comes to rest, too, when what was begun is not a message.
        let transacted = std::mem::take(&mut session.transacted);
        if entry.names.readers == Readers::Later && !probed && transacted {
            session.pin(now, session.pins_of_sequences(touched), &mut entry.pinnings);
        }
        if touched == Effects::NONE || planted!(TouchedForgotten) {
            return self.keeps(now, id, out);
        }
        let mut names = std::mem::take(&mut session.names);
        if touched.any(Effects::RESET_ALL) {
            for (name, _) in self.settings.pairs(client.settings) {
                if !names.iter().any(|other| **other == *name) {
                    names.push(name.into());
                }
            }
        }
        if touched.any(Effects::DDL) {
            entry.names.is_outdated(now, touched.any(Effects::CODE));
        }
        if touched.any(Effects::CODE) {
            // Others see it from now on.
            client.news = Some(entry.names.news());
        }
        let declared = session.pins.with(Pins::declared_by(touched));
        session.pin(now, declared, &mut self.pools[server.pool as usize].pinnings);
        let doubtful = session.pins.doubtful(touched);
        if doubtful.is_empty() && names.is_empty() {
            session.settled = false;
            return self.keeps(now, id, out);
        }
        let probe = Probe { doubtful, names, answer: None };
        let question = probe.question();
        session.probe = Some(Box::new(probe));
        self.run_errand(now, id, Errand::Probe, &question, out);
        true
    }

    /// Whether it is pinned, or asks for what its client has changed of the catalogue: until that is known, what the
    /// client sends next cannot be read.
    fn keeps(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        let asks = self.has_news(id) && self.asks_leased(now, id, out);
        asks || self.servers.get(id).is_some_and(|server| !server.session.pins.is_empty())
    }

    /// The row that answers a probe.
    pub(crate) fn probe_row(&mut self, id: ServerId, row: &[u8]) {
        if let Some(probe) = self.servers.get_mut(id).and_then(|server| server.session.probe.as_mut()) {
            probe.answered(row);
        }
    }

    /// A probe is over: from now on the client has what was found.
    pub(crate) fn probe_over(&mut self, now: Tick, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let Some(client_id) = server.client else { return };
        let Some(probe) = server.session.probe.take() else { return };
        server.session.has_been_probed = true;
        server.session.settled = false;
        let (had, pinnings) = (server.session.pins, &mut self.pools[server.pool as usize].pinnings);
        let Some(Answer { pins, values }) = probe.answer else {
            server.session.pin(now, had.with(Pins::OPAQUE), pinnings);
            return;
        };
        server.session.pin(now, had.without(probe.doubtful).with(pins), pinnings);
        if probe.names.is_empty() {
            return;
        }
        let (Some(client), settings) = (self.clients.get(client_id), &mut self.settings) else { return };
        let set = settings.with(client.settings, probe.names.into_iter().zip(values).collect());
        match set {
            Ok(set) => self.has_settings(client_id, id, set),
            Err(_) => {
                let pins = server.session.pins.with(Pins::OPAQUE);
                server.session.pin(now, pins, &mut self.pools[server.pool as usize].pinnings);
            }
        }
    }

    /// A client and its connection have these settings.
    fn has_settings(&mut self, client: ClientId, server: ServerId, set: SettingsId) {
        if let Some(client) = self.clients.get_mut(client) {
            client.settings = set;
            client.accepted = true;
        }
        if let Some(server) = self.servers.get_mut(server) {
            server.settings = set;
        }
        self.trim_settings();
    }

    /// Gives up sets of settings that nobody has, if there are many.
    pub(crate) fn trim_settings(&mut self) {
        if self.settings.is_full() {
            let clients = self.clients.iter().flat_map(|(_, client)| [client.settings, client.layer]);
            let servers = self
                .servers
                .iter()
                .flat_map(|(_, server)| [server.settings, server.startup, server.session.before]);
            let reports = self.pools.iter().flat_map(|pool| pool.reports.iter().map(|(startup, _)| *startup));
            self.settings.keep_only(clients.chain(servers).chain(reports));
        }
    }
}
