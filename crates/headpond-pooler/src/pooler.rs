//! The machine's state, and the events it takes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headpond_core::{Pool, Tick};
use headpond_wire::postgres::scram::ClientKeys;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::action::{Action, Actions, CancelMark, ClientId, ClientMark, Link, ServerId, ServerMark};
use crate::budget::{Budgets, Node};
use crate::cancel::Cancel;
use crate::client::Client;
use crate::config::{DataSource, PoolMode, PoolerConfig, Replication, Secret, SessionState, Timeouts};
use crate::derivations::Derivations;
use crate::figures::{Losses, Traffic};
use crate::kind::PoolKind;
use crate::lookup::Lookups;
use crate::proof::Learned;
use crate::server::{Reports, Server, ServerState};
use crate::session::Pinnings;
use crate::settings::{SettingsId, SettingsSets};
use crate::statements::registry::Registry;
use crate::table::Table;
use crate::text::Verdict;
use crate::timers::Timers;

/// Server connections of one (data source, node, identity), their waiters, and what is known of the server.
#[derive(Debug)]
pub(crate) struct PoolEntry {
    pub(crate) policy: Pool,
    /// Index into the configuration's data sources.
    pub(crate) data_source: usize,
    /// Index of its database server.
    pub(crate) node: u32,
    /// The name clients used as database.
    pub(crate) name: String,
    /// User on the server.
    pub(crate) user: String,
    /// How often that, or its password, has changed.
    pub(crate) identity: u32,
    /// Database on the server.
    pub(crate) database: String,
    pub(crate) mode: PoolMode,
    pub(crate) session_state: SessionState,
    pub(crate) timeouts: Timeouts,
    /// The shortest of those of leases, if there is any.
    pub(crate) patience: Option<Duration>,
    pub(crate) kind: PoolKind,
    /// Each of its connections is one client's alone.
    pub(crate) replication: Replication,
    /// Which server connection each of the policy's connections is, by the index of its name there.
    pub(crate) servers: Vec<Option<ServerId>>,
    /// What the server last said of itself at a login, by the startup parameters it was given.
    pub(crate) reports: Vec<(SettingsId, Reports)>,
    /// A login has succeeded once: there are reports.
    pub(crate) known: bool,
    /// What a new session of the pool has loaded, in session mode: see [`crate::reset`].
    pub(crate) loaded: Option<u32>,
    /// A new session has yet to say so, or to say it again.
    pub(crate) unmeasured: bool,
    /// What names in its database may do.
    pub(crate) names: crate::session::Names,
    /// Why a client's settings could last not be restored.
    pub(crate) settings_error: Option<String>,
    /// The last failed login: SQLSTATE and text.
    pub(crate) last_error: Option<(String, String)>,
    pub(crate) traffic: Traffic,
    /// What its clients have prepared.
    pub(crate) statements: Registry,
    pub(crate) pinnings: Pinnings,
    /// Clients that are in.
    pub(crate) clients: u32,
    /// No timer is needed before this one, which is set.
    pub(crate) armed: Tick,
}

impl PoolEntry {
    /// Whether each connection serves one client, from its login on.
    pub(crate) fn is_dedicated(&self) -> bool {
        self.replication != Replication::None
    }

    /// Whether sessions follow their clients from connection to connection.
    #[inline]
    pub(crate) fn follows(&self) -> bool {
        self.mode != PoolMode::Session && self.session_state == SessionState::Follow
    }

    /// The startup parameters with which a connection must have been opened to serve a client with `settings`.
    pub(crate) fn startup_of(&self, sets: &SettingsSets, settings: SettingsId) -> SettingsId {
        if self.is_dedicated() { settings } else { sets.startup_of(self.mode, settings) }
    }
}

/// Counters of the machine as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) logging_in: u32,
    pub(crate) logged_in: u32,
    pub(crate) logins_refused: u64,
    pub(crate) cancels_received: u64,
    pub(crate) cancels_forwarded: u64,
    pub(crate) reply_mismatches: u64,
    pub(crate) losses: Losses,
}

/// Clients and server connections of one worker.
///
/// Every input takes `now`, which never goes back, and appends to `out` what the driver must do, in order.
/// Ids of things that are gone are ignored, so the driver need not filter what crosses on the way.
#[derive(Debug)]
pub struct Pooler {
    pub(crate) config: Arc<PoolerConfig>,
    /// The most bytes of a message of a client.
    pub(crate) size_limit: usize,
    /// Which of how many workers this is: pools are spread over them.
    pub(crate) worker: usize,
    pub(crate) workers: usize,
    pub(crate) clients: Table<Client, ClientMark>,
    pub(crate) servers: Table<Server, ServerMark>,
    pub(crate) cancels: Table<Cancel, CancelMark>,
    pub(crate) pools: Vec<PoolEntry>,
    pub(crate) pool_names: HashMap<(String, String, PoolKind), u32>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) users: Names,
    pub(crate) settings: SettingsSets,
    /// What is thought of a database before its catalogue was asked.
    pub(crate) unknown: Verdict,
    /// What logins of clients taught, by where they were looked up (`None`: they are listed) and user: it opens
    /// connections to the server.
    pub(crate) learned: HashMap<(Option<String>, String), Learned>,
    pub(crate) lookups: Lookups,
    /// Clients whose keys are to be derived.
    pub(crate) derivations: Derivations,
    /// Keys derived from a password, salt and iterations before.
    pub(crate) derived_keys: HashMap<(Secret, Vec<u8>, u32), ClientKeys>,
    /// Servers that are known to ask for passwords in clear.
    pub(crate) in_clear: HashSet<u32>,
    pub(crate) random: ChaCha20Rng,
    /// Secret of this process: fake salts and long cancel keys come from it.
    pub(crate) seed: [u8; 32],
    pub(crate) timers: Timers,
    pub(crate) pool_actions: Vec<headpond_core::Action>,
    pub(crate) totals: Totals,
    pub(crate) draining: bool,
}

/// User names, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Names {
    pub(crate) fn intern(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    pub(crate) fn name(&self, id: u32) -> &str {
        self.names.get(id as usize).map_or("", String::as_str)
    }
}

impl Pooler {
    /// A machine for worker `worker` of `workers`. `seed` is the same for all and must be secret: cancel keys,
    /// nonces and the salts of users who do not exist come from it.
    #[must_use]
    pub fn new(config: Arc<PoolerConfig>, worker: usize, workers: usize, seed: [u8; 32]) -> Self {
        // Each worker draws its own numbers, but fake salts and long keys must look the same on all.
        let mut random = ChaCha20Rng::from_seed(seed);
        random.set_stream(worker as u64 + 1);
        let size_limit = size_limit(&config);
        Self {
            config,
            size_limit,
            worker,
            workers: workers.max(1),
            clients: Table::new(),
            servers: Table::new(),
            cancels: Table::new(),
            pools: Vec::new(),
            pool_names: HashMap::new(),
            nodes: Vec::new(),
            budgets: Arc::default(),
            users: Names::default(),
            settings: SettingsSets::new(),
            unknown: Verdict::unknown(),
            learned: HashMap::new(),
            lookups: Lookups::default(),
            derivations: Derivations::default(),
            derived_keys: HashMap::new(),
            in_clear: HashSet::new(),
            random,
            seed,
            timers: Timers::default(),
            pool_actions: Vec::new(),
            totals: Totals::default(),
            draining: false,
        }
    }

    /// Shares the budgets of database servers with other workers. To be called before anything else.
    pub fn share_budgets(&mut self, budgets: Arc<Budgets>) {
        self.budgets = budgets;
    }

    /// Opens what the configuration wants open from the start: pools whose user it names.
    pub fn start(&mut self, now: Tick, out: &mut Actions) {
        let config = Arc::clone(&self.config);
        for source in &config.data_sources {
            let Some(user) = source.user.as_deref().filter(|_| source.name != "*") else { continue };
            if self.home(&source.name, user) != self.worker {
                continue;
            }
            if let Some(pool) = self.pool_for(&source.name, user, Replication::None) {
                self.with_pool(now, pool, out, |policy, actions| policy.start(now, actions));
            }
        }
    }

    /// A client connected. `over_limit`: the process has as many as it may have, so this one is to be refused.
    pub fn accepted(&mut self, now: Tick, peer: Option<SocketAddr>, over_limit: bool) -> ClientId {
        let secret = self.random.next_u32();
        self.totals.logging_in += 1;
        let client = self.clients.insert(Client::new(now, peer, secret, over_limit));
        self.timers.client_login(self.login_deadline(now), client);
        client
    }

    /// When a login that begins now must be over.
    fn login_deadline(&self, now: Tick) -> Tick {
        let timeout = self.config.client_login_timeout;
        if timeout.is_zero() { Tick::NEVER } else { now.plus(timeout) }
    }

    /// The system says whose process a client is, that was just accepted.
    pub fn vouched_for(&mut self, id: ClientId, system_user: &str) {
        if let Some(client) = self.clients.get_mut(id) {
            client.system_user = Some(system_user.into());
        }
    }

    /// A link has something to read, or had more than the last read took.
    pub fn readable(&mut self, now: Tick, link: Link, out: &mut Actions) {
        match link {
            Link::Client(id) => self.client_readable(now, id, out),
            Link::Server(id) => self.server_readable(id, out),
            Link::Cancel(_) => out.push(Action::Read(link)),
        }
    }

    /// Bytes of a link: what was left unconsumed before, followed by what was just read. Returns how many are
    /// consumed; the driver keeps the others and hands them over again at the next [`Action::Read`].
    #[must_use]
    pub fn received(&mut self, now: Tick, link: Link, bytes: &[u8], out: &mut Actions) -> usize {
        match link {
            Link::Client(id) => self.client_received(now, id, bytes, out),
            Link::Server(id) => self.server_received(now, id, bytes, out),
            Link::Cancel(id) => self.cancel_received(now, id, bytes, out),
        }
    }

    /// A link reached its end, broke, or could not be connected (`why` says so for the log).
    pub fn closed(&mut self, now: Tick, link: Link, why: &str, out: &mut Actions) {
        match link {
            Link::Client(id) => self.client_lost(now, id, out),
            Link::Server(id) => self.server_lost(now, id, why, out),
            Link::Cancel(id) => self.cancel_done(now, id, out),
        }
    }

    /// A connect that was asked for succeeded.
    pub fn connected(&mut self, now: Tick, link: Link, out: &mut Actions) {
        match link {
            Link::Client(_) => {}
            Link::Server(id) => self.server_connected(now, id, out),
            Link::Cancel(id) => self.cancel_connected(id, out),
        }
    }

    /// A link's socket takes no more for now: its peer is not read until [`Pooler::unblocked`].
    pub fn blocked(&mut self, link: Link) {
        match link {
            Link::Client(id) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.blocked = true;
                }
            }
            Link::Server(id) => {
                if let Some(server) = self.servers.get_mut(id) {
                    server.blocked = true;
                }
            }
            Link::Cancel(_) => {}
        }
    }

    /// All that was sent to a link has gone out.
    pub fn unblocked(&mut self, now: Tick, link: Link, out: &mut Actions) {
        match link {
            Link::Client(id) => {
                let Some(client) = self.clients.get_mut(id) else { return };
                client.blocked = false;
                if let Some(server_id) = client.server()
                    && let Some(server) = self.servers.get_mut(server_id)
                    && std::mem::take(&mut server.unread)
                {
                    out.push(Action::Read(Link::Server(server_id)));
                }
            }
            Link::Server(id) => {
                let Some(server) = self.servers.get_mut(id) else { return };
                server.blocked = false;
                let (client, clean) = (server.client, server.is_clean());
                match client {
                    Some(client) if self.clients.get(client).is_some_and(|client| client.unread) => {
                        self.read_on_if_allowed(client, id, out);
                    }
                    _ if clean => self.came_to_rest(now, id, out),
                    None if matches!(server.state, ServerState::Live) => self.recover(now, id, out),
                    _ => {}
                }
            }
            Link::Cancel(_) => {}
        }
    }

    /// A new configuration. Pools keep their connections; those whose server or identity changed are renewed.
    pub fn reload(&mut self, now: Tick, config: Arc<PoolerConfig>, out: &mut Actions) {
        let old = std::mem::replace(&mut self.config, Arc::clone(&config));
        self.size_limit = size_limit(&config);
        self.timers.limit_logins(self.login_deadline(now));
        self.derived_keys.clear();
        // What a login taught is only good for the secret it was checked against.
        self.learned.retain(|(_, name), _| old.users.get(name) == config.users.get(name));
        self.lookups.clear();
        for index in 0..self.pools.len() {
            let wanted = config.data_source(&self.pools[index].name);
            let node = wanted.map(|(_, source)| self.node_of(source));
            let renamed = wanted.is_some_and(|(_, source)| self.follow_user(pool_index(index), &old, source));
            let entry = &mut self.pools[index];
            let (Some((place, source)), Some(node)) = (wanted, node) else {
                // The data source is gone: its clients are served until they leave, new ones find nothing.
                entry.data_source = usize::MAX;
                let pool = pool_index(index);
                self.with_pool(now, pool, out, |policy, actions| policy.drain(now, actions));
                continue;
            };
            let same_server = old.data_sources.get(entry.data_source).is_some_and(|before| {
                (&before.node, &before.database, &before.password, before.tls)
                    == (&source.node, &source.database, &source.password, source.tls)
            });
            let mode = entry.kind.mode(source.mode);
            let same_mode = entry.mode == mode;
            let same_user = old.users.get(&entry.user) == config.users.get(&entry.user);
            if renamed || !same_server || !same_user {
                entry.identity = entry.identity.wrapping_add(1);
            }
            entry.data_source = place;
            entry.node = node;
            entry.mode = mode;
            entry.session_state = entry.kind.session_state(source);
            let timeouts = entry.kind.timeouts(source);
            let same_times = std::mem::replace(&mut entry.timeouts, timeouts) == timeouts;
            entry.patience = timeouts.of_leases();
            if let Some(database) = &source.database {
                entry.database.clone_from(database);
            }
            let settings = entry.kind.settings(&config, source, &entry.user);
            entry.statements.size = settings.statement_cache_size as usize;
            self.with_pool(now, pool_index(index), out, |policy, actions| {
                policy.configure(now, settings, actions);
                if renamed || !same_server || !same_mode || !same_user {
                    policy.renew(now, actions);
                }
            });
            if !same_times {
                self.arm_all(now, pool_index(index));
            }
        }
        for node in 0..self.nodes.len() {
            self.match_fences(now, pool_index(node), out);
        }
        self.reload_budgets();
        self.reweigh(&old);
    }

    /// Where the user of a data source has another name now, so has its pool: the password is his. Whether it is so.
    fn follow_user(&mut self, pool: u32, old: &PoolerConfig, source: &DataSource) -> bool {
        let entry = &mut self.pools[pool as usize];
        let own = old.data_sources.get(entry.data_source).and_then(|before| before.user.as_ref());
        let (Some(before), Some(user), PoolKind::Serves(_)) = (own, &source.user, entry.kind) else {
            return false;
        };
        let key = (entry.name.clone(), user.clone(), entry.kind);
        if before == user || *before != entry.user || self.pool_names.contains_key(&key) {
            return false;
        }
        self.pool_names.remove(&(
            entry.name.clone(),
            std::mem::replace(&mut entry.user, user.clone()),
            entry.kind,
        ));
        self.pool_names.insert(key, pool);
        true
    }

    /// Applications whose weight is not what it was have the new one. Others get theirs when they log in.
    fn reweigh(&mut self, old: &PoolerConfig) {
        for name in old.weights.keys().chain(self.config.weights.keys()) {
            let Some(user) = self.users.find(name) else { continue };
            let weight = self.config.weights.get(name).copied().unwrap_or(1);
            self.pools.iter_mut().for_each(|pool| pool.policy.set_weight(user, weight));
        }
    }

    /// Grants nothing in the pools of a data source (`None`: of all), and closes their connections at rest.
    pub fn suspend(&mut self, now: Tick, data_source: Option<&str>, out: &mut Actions) {
        self.each_pool(now, data_source, out, |policy, actions| policy.suspend(now, actions));
    }

    /// Ends a suspension.
    pub fn resume(&mut self, now: Tick, data_source: Option<&str>, out: &mut Actions) {
        self.each_pool(now, data_source, out, |policy, actions| policy.resume(now, actions));
    }

    /// Replaces every server connection when it is next at rest.
    pub fn renew(&mut self, now: Tick, data_source: Option<&str>, out: &mut Actions) {
        self.each_pool(now, data_source, out, |policy, actions| policy.renew(now, actions));
    }

    /// Starts all high-water marks anew.
    pub fn reset_marks(&mut self) {
        self.pools.iter_mut().for_each(|pool| pool.policy.reset_marks());
    }

    /// Finishes what runs and takes nothing new: idle clients are told and closed, others when they come to rest.
    pub fn drain(&mut self, now: Tick, out: &mut Actions) {
        self.draining = true;
        for id in self.clients.ids() {
            self.close_if_draining(now, id, out);
        }
        self.each_pool(now, None, out, |policy, actions| policy.drain(now, actions));
        for node in 0..self.nodes.len() {
            self.mind_control(now, pool_index(node), out);
        }
        self.end_streams(now, out);
    }

    /// Nothing is left: no client, no server connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.len() == 0 && self.servers.len() == 0 && self.cancels.len() == 0
    }

    /// Clients, logging in or logged in.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// When [`Pooler::on_timer`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.timers.next()
    }

    /// The worker on which the pool of (`database`, `user`) lives: named data sources are dealt out in their
    /// order, users of one are spread further.
    pub(crate) fn home(&self, database: &str, user: &str) -> usize {
        let Some((index, source)) = self.config.data_source(database) else { return self.worker };
        let spread = |text: &str| {
            text.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
        };
        let user = if source.user.is_some() { 0 } else { spread(user) };
        let name = if source.name == "*" { spread(database) } else { 0 };
        index.wrapping_add(user).wrapping_add(name) % self.workers
    }

    fn each_pool(
        &mut self,
        now: Tick,
        data_source: Option<&str>,
        out: &mut Actions,
        act: impl Fn(&mut Pool, &mut Vec<headpond_core::Action>),
    ) {
        for index in 0..self.pools.len() {
            if data_source.is_none_or(|name| self.pools[index].name == name) {
                self.with_pool(now, pool_index(index), out, &act);
            }
        }
    }

    /// Whether a server connection is read now, or later when its client has room.
    fn server_readable(&mut self, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let blocked = !planted!(ReadsWhileBlocked)
            && matches!(server.state, ServerState::Live)
            && server.client.and_then(|client| self.clients.get(client)).is_some_and(|client| client.blocked);
        if blocked {
            server.unread = true;
        } else {
            out.push(Action::Read(Link::Server(id)));
        }
    }

    /// Reads a client that was left unread, if it was.
    pub(crate) fn read_on(&mut self, id: ClientId, out: &mut Actions) {
        if let Some(client) = self.clients.get_mut(id)
            && std::mem::take(&mut client.unread)
        {
            out.push(Action::Read(Link::Client(id)));
        }
    }
}

fn size_limit(config: &PoolerConfig) -> usize {
    if config.max_message_size == 0 { usize::MAX } else { config.max_message_size as usize }
}

/// Pools are far fewer than 2^32.
pub(crate) fn pool_index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
