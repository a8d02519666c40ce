//! What clients are told of their server's parameters.
//!
//! A login reports what the startup parameters made of them, so what is known is kept by those. A client for whose
//! startup parameters nothing is known yet is told what others were told, and its own words; its first lease says what
//! is true.

use std::sync::Arc;

use headpond_wire::postgres::encode;

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::pooler::{PoolEntry, Pooler};
use crate::server::{Reports, Server};
use crate::settings::SettingsId;

/// Sets of startup parameters of which a pool remembers what the server made of them.
const REMEMBERED: usize = 100;

impl PoolEntry {
    /// A server connection is logged in. Equal reports are kept once.
    pub(crate) fn note_reports(&mut self, server: &mut Server) {
        match self.reports.iter_mut().find(|(startup, _)| *startup == server.startup) {
            Some((_, reports)) if *reports == server.reports => server.reports = Arc::clone(reports),
            Some((_, reports)) => *reports = Arc::clone(&server.reports),
            None => {
                self.reports.truncate(REMEMBERED);
                self.reports.push((server.startup, Arc::clone(&server.reports)));
            }
        }
    }

    /// What is best known of a server that is given these startup parameters.
    fn reports_for(&self, startup: SettingsId) -> Option<&(SettingsId, Reports)> {
        let of = |wanted| self.reports.iter().find(|(startup, _)| *startup == wanted);
        of(startup).or_else(|| of(SettingsId::NONE)).or_else(|| self.reports.first())
    }
}

impl Pooler {
    /// Tells a client at its login what is known.
    pub(crate) fn tell_parameters(&mut self, id: ClientId, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let entry = &self.pools[client.pool as usize];
        let wanted = entry.startup_of(&self.settings, client.settings);
        let Some((startup, reports)) = entry.reports_for(wanted) else { return };
        client.misinformed = *startup != wanted;
        let (startup, reports) = (*startup, Arc::clone(reports));
        self.tell(id, startup, &reports, out);
    }

    /// At a lease, a client that could not be told what is true is told now.
    pub(crate) fn correct_parameters(&mut self, id: ClientId, server: ServerId, out: &mut Actions) {
        let (Some(client), Some(server)) = (self.clients.get_mut(id), self.servers.get(server)) else {
            return;
        };
        if std::mem::take(&mut client.misinformed) {
            let (startup, reports) = (server.startup, Arc::clone(&server.reports));
            self.tell(id, startup, &reports, out);
        }
    }

    /// What a login with `startup` reported; what the client set beyond that is in its own words.
    fn tell(&self, id: ClientId, startup: SettingsId, reports: &Reports, out: &mut Actions) {
        let Some(client) = self.clients.get(id) else { return };
        let own = |name| {
            let known = !client.misinformed && self.settings.value(startup, name).is_some();
            self.settings.value(client.settings, name).filter(|_| !known)
        };
        out.send(Link::Client(id), |bytes| {
            for (name, value) in reports.iter() {
                encode::parameter_status(bytes, name, own(name).unwrap_or(value));
            }
        });
    }
}
