//! How a client comes in: first packet, version, identity, proof, and what it is told when it is in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::rand_core::Rng;
use sha2::Sha256;

use headpond_core::{Acquired, Pool, Tick};
use headpond_wire::postgres::encode;
use headpond_wire::postgres::frame;
use headpond_wire::postgres::startup::{self, NEWEST_MINOR, Packet};

use crate::action::{Action, Actions, ClientId, Link, Report};
use crate::client::{ClientState, Lease, Login};
use crate::config::{AuthMethod, Decision, Origin, Replication, Request, User};
use crate::figures::Traffic;
use crate::kind::PoolKind;
use crate::lookup::Asked;
use crate::pooler::{PoolEntry, Pooler, pool_index};
use crate::proof::{ANSWER_MAX, Learned, Outcome, Proof};
use crate::refuse::Cause;
use crate::session::{Names, Pinnings};
use crate::settings::{BadParameter, SettingsId, options};
use crate::statements::registry::Registry;
use crate::users::Found;

/// The databases that stand for the console.
const CONSOLES: [&str; 2] = ["pgbouncer", "headpond"];

/// The startup parameter that asks for a connection of its own.
const REPLICATION: &str = "replication";

/// Longest names, as PostgreSQL and PgBouncer bound them generously.
const NAME_MAX: usize = 128;

/// What a startup packet asked for, read and checked.
struct Wanted {
    minor: u16,
    user: String,
    database: String,
    replication: Replication,
    parameters: Vec<(String, String)>,
    unknown: Vec<String>,
}

impl Pooler {
    /// Bytes of a client that has not been told anything yet. Returns how many are consumed.
    pub(crate) fn startup_received(
        &mut self,
        now: Tick,
        id: ClientId,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        if self.is_direct_tls(id, bytes, out) {
            return 0;
        }
        match startup::packet(bytes) {
            Ok(None) => 0,
            Ok(Some((Packet::Ssl, size))) => self.tls_requested(id, bytes, size, out),
            Ok(Some((Packet::GssEnc, size))) => {
                // Whatever follows stands in clear and is read as such: nothing was promised.
                out.send(Link::Client(id), |bytes| bytes.push(b'N'));
                size
            }
            Ok(Some((Packet::Cancel { process, key }, size))) => {
                if self.cancel_requested(now, id, process, key, out) { size } else { 0 }
            }
            Ok(Some((Packet::Startup(packet), size))) => match wanted(&packet) {
                Ok(wanted) => self.wants_in(now, id, wanted, size, out),
                Err(BadParameter(message)) => {
                    self.refuse_login(id, &Cause::BadStartup, &message, out);
                    bytes.len()
                }
            },
            Err(startup::Error::Version { major, minor }) => {
                let message = format!(
                    "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"
                );
                self.refuse_login(id, &Cause::Version, &message, out);
                bytes.len()
            }
            Err(startup::Error::Malformed | startup::Error::Encoding) => {
                self.refuse_login(id, &Cause::BadStartup, "invalid startup packet", out);
                bytes.len()
            }
        }
    }

    fn wants_in(
        &mut self,
        now: Tick,
        id: ClientId,
        mut wanted: Wanted,
        size: usize,
        out: &mut Actions,
    ) -> usize {
        if self.lacks_tls(id) {
            let message = "the connection is not encrypted, and it must be (client_tls)";
            self.refuse_login(id, &Cause::TlsRequired, message, out);
            return size;
        }
        if CONSOLES.contains(&wanted.database.as_str()) {
            self.forget_client(id);
            out.push(Action::HandOver(id));
            return 0;
        }
        if wanted.replication == Replication::Physical {
            wanted.database = self.config.physical_source(&wanted.database, &wanted.user).to_owned();
        }
        let home = self.home(&wanted.database, &wanted.user);
        if home != self.worker {
            self.forget_client(id);
            out.push(Action::Move { client: id, worker: home });
            return 0;
        }
        if self.draining {
            self.refuse_login(id, &Cause::ShuttingDown, "the pooler is shutting down", out);
            return size;
        }
        if self.clients.get(id).is_some_and(|client| client.over_limit) {
            let message = format!(
                "sorry, too many clients already (max_clients = {}, or max_startups)",
                self.config.max_clients
            );
            self.refuse_login(id, &Cause::TooManyClients, &message, out);
            return size;
        }
        self.trim_settings();
        let settings = match self.settings.intern(std::mem::take(&mut wanted.parameters)) {
            Ok(settings) => settings,
            Err(BadParameter(message)) => {
                self.refuse_login(id, &Cause::BadStartup, &message, out);
                return size;
            }
        };
        let Some(client) = self.clients.get_mut(id) else { return size };
        client.settings = settings;
        client.layer = settings;
        client.long_key = wanted.minor >= 2;
        let link = Link::Client(id);
        if wanted.minor > NEWEST_MINOR || !wanted.unknown.is_empty() {
            let newest = 0x0003_0000 | u32::from(wanted.minor.min(NEWEST_MINOR));
            out.send(link, |bytes| {
                encode::negotiate_protocol_version(bytes, newest, wanted.unknown.iter().map(String::as_str));
            });
        }
        self.admit(now, id, &wanted, out);
        size
    }

    /// The rules say how a client proves who it is, if it may come in at all.
    fn admit(&mut self, now: Tick, id: ClientId, wanted: &Wanted, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let system_user = client.system_user.take();
        let address = client.peer.map(|(address, _)| address);
        let tls = client.tls.clone();
        let origin = Origin {
            address,
            tls: tls.is_some(),
            system_user: system_user.as_deref(),
            common_name: tls.as_ref().and_then(|tls| tls.common_name.as_deref()),
        };
        let Wanted { user, database, replication, .. } = wanted;
        match self.config.admit(origin, Request { database, user, replication: *replication }) {
            Decision::Refuse(message) => self.refuse_login(id, &Cause::NotAllowed, &message, out),
            Decision::Vouched => self.proven(now, id, (user, database), out),
            Decision::Ask(method) => {
                let who = (user.clone(), database.clone());
                if !self.look_up(now, id, (user, database), method, out) {
                    self.begin_proof(now, id, method, who, None, out);
                }
            }
        }
    }

    /// Asks a client who it is. `found`: it was looked up, and this is who it may be.
    pub(crate) fn begin_proof(
        &mut self,
        now: Tick,
        id: ClientId,
        method: AuthMethod,
        (user, database): (String, String),
        found: Option<(Asked, Option<User>)>,
        out: &mut Actions,
    ) {
        let mut fresh = [0; 18];
        self.random.fill_bytes(&mut fresh);
        let Some(client) = self.clients.get_mut(id) else { return };
        let known = match &found {
            None => self.config.users.find(&user),
            Some((_, user)) => Found { user: user.as_ref(), mix: self.lookups.mix() },
        };
        let mut question = Vec::new();
        let end_point = client.tls.as_ref().and_then(|tls| tls.end_point.as_deref());
        match Proof::of(method, known, &user, &self.seed, fresh, end_point, &mut question) {
            None => self.proven(now, id, (&user, &database), out),
            Some(proof) => {
                client.state = ClientState::Login(Box::new(Login { proof, user, database, found }));
                out.send(Link::Client(id), |bytes| bytes.extend_from_slice(&question));
            }
        }
    }

    /// Bytes of a client that proves who it is. Returns how many are consumed.
    pub(crate) fn login_received(
        &mut self,
        now: Tick,
        id: ClientId,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        let Some(client) = self.clients.get_mut(id) else { return bytes.len() };
        let ClientState::Login(login) = &mut client.state else { return bytes.len() };
        if !login.proof.awaits_answer() {
            client.unread = true;
            return 0;
        }
        let size = match frame::header(bytes) {
            Ok(None) => return 0,
            Ok(Some(header)) if header.tag == b'p' && header.size <= ANSWER_MAX => header.size,
            Ok(Some(header)) if header.tag == b'X' => {
                self.drop_client(id, out);
                return bytes.len();
            }
            _ => {
                self.refuse_login(id, &Cause::BadStartup, "expected a password of reasonable length", out);
                return bytes.len();
            }
        };
        let Some(body) = bytes.get(frame::HEADER..size) else { return 0 };
        let mut answer = Vec::new();
        let outcome = login.proof.answered(body, &mut answer);
        if !answer.is_empty() {
            out.send(Link::Client(id), |bytes| bytes.extend_from_slice(&answer));
        }
        if self.login_goes_on(now, id, outcome, out) { size } else { bytes.len() }
    }

    /// What comes of an answer; whether the client is still there.
    pub(crate) fn login_goes_on(
        &mut self,
        now: Tick,
        id: ClientId,
        outcome: Outcome,
        out: &mut Actions,
    ) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        let ClientState::Login(login) = &mut client.state else { return false };
        match outcome {
            Outcome::Asked => true,
            Outcome::Derive { password, salt, iterations } => {
                self.derive_for(now, id, (password, salt, iterations), out);
                true
            }
            Outcome::Proven(learned) => {
                let database = std::mem::take(&mut login.database);
                let name = std::mem::take(&mut login.user);
                let (place, found) = match login.found.take() {
                    None => (None, None),
                    Some(((_, place, _), user)) => (Some(place), user),
                };
                // The users file has it at hand, a lookup has not.
                let md5 = found.and_then(|user| user.md5);
                let learned = match (learned, md5) {
                    (Learned::Nothing, Some(md5)) => Learned::Md5(md5),
                    (learned, _) => learned,
                };
                self.learn(now, (place, name.clone()), learned, out);
                self.proven(now, id, (&name, &database), out);
                true
            }
            Outcome::Failed => {
                // Unknown user, wrong password, nonsense: the same words, at the same stage.
                let message = login.proof.refusal();
                if let Some((asked, _)) = login.found.take() {
                    // Perhaps the password has changed: whoever comes next is looked up anew.
                    self.lookups.forget(&asked);
                }
                self.refuse_login(id, &Cause::WrongPassword, &message, out);
                false
            }
        }
    }

    /// The client is who it says. Its pool is found or made, and it is let in as soon as the server is known.
    fn proven(&mut self, now: Tick, id: ClientId, (user, database): (&str, &str), out: &mut Actions) {
        // Names of whoever only says so are not kept: there may be any number of them.
        let name = self.users.intern(user);
        let Some(client) = self.clients.get_mut(id) else { return };
        client.user = name;
        let settings = client.settings;
        let replication = self.replication_of(settings);
        let Some(pool) = self.pool_for(database, user, replication) else {
            let message = format!("database \"{database}\" does not exist");
            self.refuse_login(id, &Cause::UnknownDatabase, &message, out);
            return;
        };
        let Some(client) = self.clients.get_mut(id) else { return };
        client.pool = pool;
        client.state = ClientState::AwaitsParameters;
        let entry = &mut self.pools[pool as usize];
        entry.clients += 1;
        if let Some(weight) = self.config.weights.get(user) {
            entry.policy.set_weight(client.user, *weight);
        }
        if entry.known && !entry.is_dedicated() {
            self.welcome(now, id, out);
            return;
        }
        // Nothing is known of the server yet, or it is to have a connection of its own: the login waits for one as a
        // request would.
        match self.acquire(now, pool, id, None, out) {
            Acquired::Granted(conn) => self.granted(now, pool, id, conn, 0, out),
            Acquired::Queued(waiter) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.lease = Lease::Waiting(waiter);
                }
            }
            Acquired::Refused(why) => self.refused(now, id, why, out),
        }
    }

    /// Tells the client that it is in.
    pub(crate) fn welcome(&mut self, now: Tick, id: ClientId, out: &mut Actions) {
        let key = self.key_of(id);
        let Some(client) = self.clients.get_mut(id) else { return };
        client.state = ClientState::Ready;
        client.connected = now;
        self.totals.logging_in -= 1;
        self.totals.logged_in += 1;
        let entry = &mut self.pools[client.pool as usize];
        entry.traffic.logins += 1;
        let (user, database) = (self.users.name(client.user).to_owned(), entry.name.clone());
        out.send(Link::Client(id), encode::authentication_ok);
        self.tell_parameters(id, out);
        out.send(Link::Client(id), |bytes| {
            encode::backend_key_data(bytes, key.0, &key.1);
            encode::ready_for_query(bytes, b'I');
        });
        out.report(Report::LoggedIn { user, database });
        self.trim_login_timers();
        self.idle_from(now, id);
        self.arm_idle(now, id);
        self.read_on(id, out);
    }

    /// Logins that are over need no time-out any more.
    pub(crate) fn trim_login_timers(&mut self) {
        let (clients, open) = (&self.clients, self.totals.logging_in as usize);
        self.timers.trim_logins(open, |id| clients.get(id).is_none_or(crate::client::Client::is_logged_in));
    }

    /// What a client with these startup parameters replicates.
    fn replication_of(&self, settings: SettingsId) -> Replication {
        self.settings.value(settings, REPLICATION).and_then(Replication::parse).unwrap_or_default()
    }

    /// The pool of a (data source, user), made if it is new; `None` if no data source answers to the name.
    pub(crate) fn pool_for(&mut self, database: &str, user: &str, replication: Replication) -> Option<u32> {
        self.pool_of(database, user, PoolKind::Serves(replication))
    }

    /// As [`Pooler::pool_for`], whatever the pool is for.
    pub(crate) fn pool_of(&mut self, database: &str, user: &str, kind: PoolKind) -> Option<u32> {
        let config = std::sync::Arc::clone(&self.config);
        let (index, source) = config.data_source(database)?;
        let server_user = match kind {
            PoolKind::Serves(_) => source.user.as_deref().unwrap_or(user),
            PoolKind::Lookup => user,
        };
        let key = (database.to_owned(), server_user.to_owned(), kind);
        if let Some(pool) = self.pool_names.get(&key) {
            let known = self.pools[*pool as usize].data_source != usize::MAX;
            if known {
                return Some(*pool);
            }
        }
        let settings = kind.settings(&config, source, server_user);
        let statements = Registry::new(settings.statement_cache_size);
        let policy = Pool::new(settings, self.random.next_u64());
        let node = self.node_of(source);
        let timeouts = kind.timeouts(source);
        let place = self.place_for(kind)?;
        let mut entry = PoolEntry {
            policy,
            data_source: index,
            node,
            name: database.to_owned(),
            user: server_user.to_owned(),
            identity: 0,
            database: source.database.clone().unwrap_or_else(|| database.to_owned()),
            mode: kind.mode(source.mode),
            session_state: kind.session_state(source),
            kind,
            replication: kind.replication(),
            names: Names::new(),
            settings_error: None,
            servers: Vec::new(),
            reports: Vec::new(),
            known: false,
            loaded: None,
            unmeasured: true,
            last_error: None,
            traffic: Traffic::default(),
            statements,
            pinnings: Pinnings::default(),
            clients: 0,
            armed: Tick::NEVER,
            timeouts,
            patience: timeouts.of_leases(),
        };
        let pool = pool_index(place);
        match self.pools.get_mut(place) {
            None => self.pools.push(entry),
            Some(unused) => {
                // A control connection may be logging in as the pool that was here.
                entry.identity = unused.identity.wrapping_add(1);
                *unused = entry;
                self.pool_names.retain(|_, other| *other != pool);
            }
        }
        self.pool_names.insert(key, pool);
        Some(pool)
    }

    /// The key that a client may cancel with: ours, not the server's, which changes with every lease.
    pub(crate) fn key_of(&self, id: ClientId) -> (u32, Vec<u8>) {
        let Some(client) = self.clients.get(id) else { return (0, Vec::new()) };
        let process = self.process_of(id);
        let short = client.secret.to_be_bytes();
        if !client.long_key {
            return (process, short.to_vec());
        }
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.seed).unwrap_or_else(|_| unreachable!("any length fits"));
        mac.update(&process.to_be_bytes());
        mac.update(&short);
        (process, mac.finalize().into_bytes().to_vec())
    }

    /// The number shown as process id: worker and place, so that any worker finds whose it is. Positive, and
    /// not zero.
    pub(crate) fn process_of(&self, id: ClientId) -> u32 {
        let place = u32::try_from(id.index()).unwrap_or(0) & 0x00ff_ffff;
        (u32::try_from(self.worker).unwrap_or(0) + 1) << 24 | place
    }

    /// 18 random bytes in base64, as libpq and PostgreSQL draw their nonces.
    pub(crate) fn nonce(&mut self) -> String {
        let mut bytes = [0; 18];
        self.random.fill_bytes(&mut bytes);
        STANDARD.encode(bytes)
    }
}

/// Sorts the parameters of a startup packet.
fn wanted(packet: &startup::Startup<'_>) -> Result<Wanted, BadParameter> {
    let (mut user, mut database) = (None, None);
    let (mut parameters, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in &packet.parameters {
        match *name {
            "user" => user = Some(*value),
            "database" => database = Some(*value),
            "options" => parameters.extend(options(value)?),
            REPLICATION if Replication::parse(value) == Some(Replication::None) => {}
            _ if name.starts_with("_pq_.") => unknown.push((*name).to_owned()),
            _ => parameters.push(((*name).to_owned(), (*value).to_owned())),
        }
    }
    let replication = match parameters.iter().rfind(|(name, _)| name.eq_ignore_ascii_case(REPLICATION)) {
        None => Replication::None,
        Some((_, value)) => Replication::parse(value).ok_or_else(|| {
            BadParameter(format!("invalid value for parameter \"{REPLICATION}\": {value:?}"))
        })?,
    };
    let Some(user) = user.filter(|user| !user.is_empty()) else {
        return Err(BadParameter("no PostgreSQL user name specified in startup packet".to_owned()));
    };
    let database = database.filter(|database| !database.is_empty()).unwrap_or(user);
    if user.len() > NAME_MAX || database.len() > NAME_MAX {
        return Err(BadParameter(format!("user and database names have at most {NAME_MAX} bytes")));
    }
    Ok(Wanted {
        minor: packet.minor,
        user: user.to_owned(),
        database: database.to_owned(),
        replication,
        parameters,
        unknown,
    })
}
