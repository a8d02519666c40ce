//! Copies of the machine's numbers for console, API, metrics and page.

use headpond_core::{FailureClass, State, Tick};

use crate::action::ClientId;
use crate::client::{Client, Lease};
use crate::config::NodeAddress;
use crate::figures::{
    ClientActivity, ClientRow, Holder, Holding, PinFigures, PoolRow, ServerRow, Snapshot, Traffic,
};
use crate::kind::PoolKind;
use crate::pooler::{PoolEntry, Pooler};
use crate::refuse::classify;
use crate::server::Server;
use crate::session::Pins;
use crate::settings::SettingsId;

/// How many of the oldest leases of a pool are shown.
const HOLDERS_MAX: usize = 10;

impl Pooler {
    /// The figures of now; with every client and server connection if `detail`.
    #[must_use]
    pub fn snapshot(&self, now: Tick, detail: bool) -> Snapshot {
        let mut pools: Vec<_> = self.pools.iter().map(|entry| self.pool_row(now, entry)).collect();
        for (_, client) in self.clients.iter().filter(|(_, client)| client.is_logged_in()) {
            let Some(pool) = pools.get_mut(client.pool as usize) else { continue };
            match client.lease {
                Lease::Active(_) => pool.clients_active += 1,
                Lease::None => pool.clients_idle += 1,
                Lease::Waiting(_) => {}
            }
        }
        for (_, cancel) in self.cancels.iter() {
            let pool = self.servers.get(cancel.server).and_then(|server| pools.get_mut(server.pool as usize));
            if let Some(pool) = pool {
                pool.clients_cancelling += 1;
            }
        }
        Snapshot {
            now,
            pools,
            clients: if detail { self.client_rows() } else { Vec::new() },
            servers: if detail { self.server_rows(now) } else { Vec::new() },
            clients_logged_in: self.totals.logged_in,
            clients_logging_in: self.totals.logging_in,
            logins_refused: self.totals.logins_refused,
            cancels_received: self.totals.cancels_received,
            cancels_forwarded: self.totals.cancels_forwarded,
            reply_mismatches: self.totals.reply_mismatches,
            losses: self.totals.losses,
        }
    }

    fn pool_row(&self, now: Tick, entry: &PoolEntry) -> PoolRow {
        let source = self.config.data_sources.get(entry.data_source);
        let budget = self.budget_of(entry.node);
        let nowhere = || NodeAddress::Tcp { host: String::new(), port: 0 };
        PoolRow {
            data_source: entry.name.clone(),
            user: match entry.kind {
                PoolKind::Serves(_) => entry.user.clone(),
                PoolKind::Lookup => format!("{} (auth_query)", entry.user),
            },
            node: source.map_or_else(nowhere, |source| source.node.clone()),
            database: entry.database.clone(),
            mode: entry.mode,
            replication: entry.replication,
            pool: entry.policy.figures(now),
            budget: budget.map(|(limit, _)| limit),
            budget_used: budget.map_or(0, |(_, used)| used),
            clients_active: 0,
            clients_idle: 0,
            clients_cancelling: 0,
            oldest_wait: entry.policy.oldest_wait().map_or(0, |since| now.0.saturating_sub(since.0)),
            paused: entry.policy.is_suspended(),
            awaiting_credentials: entry
                .last_error
                .as_ref()
                .is_some_and(|(code, _)| classify(code) == FailureClass::Authentication),
            last_error: entry.last_error.as_ref().map(|(code, text)| format!("{code} {text}")),
            holders: self
                .longest_held(entry)
                .filter_map(|server| self.holder(server))
                .take(HOLDERS_MAX)
                .collect(),
            traffic: self.traffic(now, entry),
            pinned: self.pin_figures(now, entry),
        }
    }

    /// What went through a pool; of time that goes on, what there is of it.
    fn traffic(&self, now: Tick, entry: &PoolEntry) -> Traffic {
        let idle = self.servers_of(entry).map(|server| server.session.idle_for(now)).sum::<u64>();
        Traffic { idle_time: entry.traffic.idle_time + idle, ..entry.traffic }
    }

    /// The pins of a pool.
    pub(crate) fn pin_figures(&self, now: Tick, entry: &PoolEntry) -> PinFigures {
        let pinnings = &entry.pinnings;
        let (begun, ended, time) = (pinnings.begun, pinnings.ended, pinnings.time);
        let mut figures = PinFigures { begun, ended, time, ..PinFigures::default() };
        for pinned in self.servers_of(entry).filter_map(|server| server.session.pinned()) {
            figures.connections += 1;
            figures.time += now.0.saturating_sub(pinned.since.0);
            for (connections, (pin, _)) in figures.now.iter_mut().zip(Pins::ALL) {
                *connections += u32::from(pinned.pins.has(*pin));
            }
        }
        figures
    }

    fn servers_of(&self, entry: &PoolEntry) -> impl Iterator<Item = &Server> {
        entry.servers.iter().flatten().filter_map(|id| self.servers.get(*id))
    }

    /// The leased connections of a pool, those that have been held for longest first.
    pub(crate) fn longest_held(&self, entry: &PoolEntry) -> impl Iterator<Item = &Server> {
        let mut held: Vec<_> = self.servers_of(entry).filter(|server| server.client.is_some()).collect();
        held.sort_by_key(|server| server.requested);
        held.into_iter()
    }

    fn holder(&self, server: &Server) -> Option<Holder> {
        let id = server.client?;
        let client = self.clients.get(id)?;
        Some(Holder {
            client: u64::from(self.process_of(id)),
            user: self.users.name(client.user).to_owned(),
            application_name: self.application_name(client.settings),
            address: client.peer,
            since: server.requested,
            holding: match server.status {
                _ if !server.exchanges.at_rest() => Holding::Active,
                b'T' => Holding::IdleInTransaction,
                b'E' => Holding::IdleInFailedTransaction,
                _ => Holding::Idle,
            },
            backend_pid: server.key.process.cast_signed(),
            pinned: server.session.pinned(),
        })
    }

    fn application_name(&self, settings: SettingsId) -> String {
        self.settings.value(settings, "application_name").unwrap_or("").to_owned()
    }

    fn client_rows(&self) -> Vec<ClientRow> {
        let logged_in = self.clients.iter().filter(|(_, client)| client.is_logged_in());
        logged_in.map(|(id, client)| self.client_row(id, client)).collect()
    }

    fn client_row(&self, id: ClientId, client: &Client) -> ClientRow {
        let server = client.server();
        ClientRow {
            id: u64::from(self.process_of(id)),
            pool: client.pool as usize,
            user: self.users.name(client.user).to_owned(),
            activity: match client.lease {
                Lease::Active(_) => ClientActivity::Active,
                Lease::Waiting(_) => ClientActivity::Waiting,
                Lease::None => ClientActivity::Idle,
            },
            address: client.peer,
            tls: client.tls.clone(),
            connected: client.connected,
            requested: client.requested,
            server: server.map(|server| self.server_number(server.index())),
            application_name: self.application_name(client.settings),
            pinned: server.and_then(|server| self.servers.get(server)?.session.pinned()),
        }
    }

    fn server_rows(&self, now: Tick) -> Vec<ServerRow> {
        self.servers
            .iter()
            .filter(|(_, server)| !server.is_control())
            .map(|(id, server)| ServerRow {
                id: self.server_number(id.index()),
                pool: server.pool as usize,
                state: self.pools[server.pool as usize].policy.state(server.conn).unwrap_or(State::Closing),
                connected: server.connected,
                requested: server.requested,
                client: server.client.map(|client| u64::from(self.process_of(client))),
                backend_pid: server.key.process.cast_signed(),
                close_needed: self.pools[server.pool as usize].policy.will_close(now, server.conn),
                application_name: self.application_name(server.settings),
                pinned: server.session.pinned(),
                tls: server.tls.clone(),
            })
            .collect()
    }

    /// Worker and place in one number, as clients have theirs.
    fn server_number(&self, index: usize) -> u64 {
        (self.worker as u64 + 1) << 24 | (index as u64 & 0x00ff_ffff)
    }
}
