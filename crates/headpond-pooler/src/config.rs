//! What the pooler machine is told to do: plain values, parsed and checked elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use headpond_core::PoolSettings;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use crate::access::{
    Database as RuleDatabase, Decision, MappedUser, Method as RuleMethod, NameMap, Network, Origin, Over,
    Request, Rule, Rules,
};
pub use crate::users::{User, Users};

/// When a server connection goes back to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When its client leaves.
    Session,
    /// When the client's transaction ends.
    Transaction,
    /// When the client's request ends: a transaction that would outlive it is rolled back.
    Statement,
}

/// Whether connections replicate: each of those serves one client, from its login until either leaves
/// (<https://www.postgresql.org/docs/current/protocol-replication.html>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replication {
    /// They do not.
    #[default]
    None,
    /// Of the whole server: base backups and its log.
    Physical,
    /// Of one database, by logical decoding; SQL is understood too.
    Logical,
}

impl Replication {
    /// What the startup parameter `replication` asks for; `None` if nobody knows.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.to_ascii_lowercase();
        let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
        match &*value {
            "database" => Some(Self::Logical),
            "on" | "1" => Some(Self::Physical),
            "off" | "of" | "0" => Some(Self::None),
            _ if begins("true") || begins("yes") => Some(Self::Physical),
            _ if begins("false") || begins("no") => Some(Self::None),
            _ => None,
        }
    }
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Any client is who it says; users need not be listed.
    Trust,
    /// A password in clear against the listed users, whatever their secrets.
    Password,
    /// An md5 password against the listed users; those with a SCRAM secret are asked by SCRAM-SHA-256.
    Md5,
    /// SCRAM-SHA-256 against the listed users.
    ScramSha256,
}

/// What becomes of what clients leave in their sessions, in transaction and statement mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// It follows its client, or keeps the connection with it.
    #[default]
    Follow,
    /// It stays on the connection, for whoever comes next: as in other poolers. Startup parameters are set all the same.
    Ignore,
}

/// What is thought of functions that the database has, in transaction and statement mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpaqueFunctions {
    /// The catalogue is asked which of them may leave something in their session. Whoever uses those that may set what
    /// nobody can name keeps the connection.
    #[default]
    Pin,
    /// They are taken to leave nothing behind, and the catalogue is not asked.
    Trust,
}

/// Whether a leg is encrypted, and how far who is on the other end is verified: libpq's `sslmode`
/// (<https://www.postgresql.org/docs/current/libpq-ssl.html>). What is said of both legs holds for TCP only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Never by TLS.
    #[default]
    Disable,
    /// Clients: as they like. Servers: only where they do not let us in without.
    Allow,
    /// Clients: as they like. Servers: if they have it, whoever they are.
    Prefer,
    /// Only by TLS, whoever it is.
    Require,
    /// Only by TLS with a certificate of an authority that is trusted.
    VerifyCa,
    /// The same; and a server's certificate must be for the host it is reached by.
    VerifyFull,
}

impl TlsMode {
    /// Nothing goes without TLS.
    #[must_use]
    pub fn is_demanded(self) -> bool {
        self >= Self::Require
    }
}

/// How TLS begins on a connection to a server: libpq's `sslnegotiation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsNegotiation {
    /// PostgreSQL is asked for it first.
    #[default]
    Postgres,
    /// At once, which PostgreSQL 17 and later understand.
    Direct,
}

/// Whether a login to a server is bound to its TLS connection: libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    #[default]
    Prefer,
    /// Always: a server that cannot is not logged in to.
    Require,
}

/// How servers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Whether by TLS.
    pub mode: TlsMode,
    /// How it begins. Where TLS is not demanded it is always asked for first.
    pub negotiation: TlsNegotiation,
    /// Whether logins are bound to it.
    pub binding: ChannelBinding,
}

impl ServerTls {
    /// In clear.
    pub const NONE: Self = Self {
        mode: TlsMode::Disable,
        negotiation: TlsNegotiation::Postgres,
        binding: ChannelBinding::Prefer,
    };
}

/// How long clients may take over what they do; zero: as long as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// A client that does nothing, and is in no transaction, for longer is told and closed.
    pub client_idle: Duration,
    /// A transaction in which its client does nothing for longer is rolled back.
    pub idle_transaction: Duration,
    /// A transaction that lasts longer is rolled back; what runs in it is cancelled.
    pub transaction: Duration,
    /// What runs for longer is cancelled.
    pub query: Duration,
}

impl Timeouts {
    /// The shortest of those that a server connection is leased under; `None`: there is none.
    #[must_use]
    pub fn of_leases(&self) -> Option<Duration> {
        let all = [self.idle_transaction, self.transaction, self.query];
        all.into_iter().filter(|timeout| !timeout.is_zero()).min()
    }
}

/// Where a database server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeAddress {
    /// Host name or address, and port.
    Tcp {
        /// Host name, IPv4 or IPv6 address without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket: the folder, to which `.s.PGSQL.<port>` is added as PostgreSQL does.
    Unix {
        /// Folder of the socket, absolute.
        folder: String,
        /// The port in the socket's name.
        port: u16,
    },
}

/// What an application asks for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// The name clients use as database; `*` stands for every name not listed.
    pub name: String,
    /// The server.
    pub node: NodeAddress,
    /// The database on the server; `None`: the name the client used.
    pub database: Option<String>,
    /// The user on the server for all clients; `None`: each client's own.
    pub user: Option<String>,
    /// The password of `user` on the server (or of the client's own user, where the users file has none).
    pub password: Option<Secret>,
    /// Where whoever reads the configuration got `user` and `password`; to the machine it means nothing.
    pub credentials: Option<Secret>,
    /// How users that are not listed are looked up.
    pub lookup: LookupBy,
    /// The most server connections of all pools together on this server; `None`: what it leaves to this login
    /// (`max_connections` − reserved slots) − `reserve`, divided by `members`.
    pub budget: Option<u32>,
    /// Connections never used, left to administrators, backups and replication; `None`: 5, or 10 % if that is more.
    pub reserve: Option<u32>,
    /// How many equal processes share this server: at least 1.
    pub members: u32,
    /// When connections are released.
    pub mode: PoolMode,
    /// What becomes of the state of sessions, in transaction and statement mode.
    pub session_state: SessionState,
    /// What is thought of functions that may leave something in their session.
    pub opaque_functions: OpaqueFunctions,
    /// Whether the server is reached by TLS.
    pub tls: ServerTls,
    /// How long its clients may take.
    pub timeouts: Timeouts,
    /// Sizes and times of each of its pools.
    pub pool: PoolSettings,
}

/// How users that are not listed are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupBy {
    /// The user as whom; `None`: they are not.
    pub user: Option<String>,
    /// The question: its parameter is the name, its answer one row of name and secret.
    pub query: String,
    /// The data source in which; `None`: the one that the client wants.
    pub data_source: Option<String>,
}

impl Default for LookupBy {
    fn default() -> Self {
        Self { user: None, query: AUTH_QUERY.to_owned(), data_source: None }
    }
}

/// The question that PgBouncer asks, with the schemas of what it names: no search path leads elsewhere.
const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL \
    ELSE rolpassword END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin";

/// A password in clear, or what leads to one, such as a command with its arguments. Never shown: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl Secret {
    /// Whether somebody gave this one; how long that takes to say tells nothing of how much of it is right.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        Sha256::digest(given).ct_eq(&Sha256::digest(&self.0)).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The machine's whole configuration: immutable, shared, replaced as a whole on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerConfig {
    /// Every data source, `*` included, in the order of the file.
    pub data_sources: Vec<DataSource>,
    /// Whether clients come by TLS.
    pub client_tls: TlsMode,
    /// How clients log in, where there are no rules.
    pub auth: AuthMethod,
    /// Who may log in from where, and how; `None`: anybody from anywhere.
    pub rules: Option<Rules>,
    /// For how long what a lookup found is believed.
    pub auth_query_age: Duration,
    /// The users file.
    pub users: Users,
    /// Applications (names that clients log in with) of another weight than 1: where several wait at one pool, each
    /// gets so many connections for every one of an application of weight 1.
    pub weights: BTreeMap<String, u32>,
    /// Users who may command the console. Clients of the console log in like all others.
    pub admin_users: Vec<String>,
    /// Users who may only look.
    pub stats_users: Vec<String>,
    /// The most clients, logging in or logged in, of the whole process.
    pub max_clients: u32,
    /// The most clients logging in at once, of each worker; zero: no limit of their own.
    pub max_startups: u32,
    /// Of those, the most from one address; zero: no limit.
    pub max_startups_per_address: u32,
    /// The most bytes of one message of a client, header included; zero: as many as the protocol allows.
    pub max_message_size: u32,
    /// A client that has not logged in by then is dropped; zero: never.
    pub client_login_timeout: Duration,
    /// A server connection must be logged in by then; zero: never.
    pub connect_timeout: Duration,
    /// A server connection whose client left in mid-flight must be drained by then, else it is closed.
    pub recover_timeout: Duration,
    /// After the server was told that a connection closes, how long its end of stream is awaited.
    pub close_timeout: Duration,
    /// How long the server may take over a cancel request.
    pub cancel_timeout: Duration,
    /// Sent to a connection to test it; empty: an empty query, which any server answers.
    pub check_query: String,
    /// Sent to a server connection before it is reused, in session mode; empty: nothing.
    pub reset_query: String,
    /// Whether a session that was reset is asked what no reset undoes, and closed if it is not like a new one.
    pub verify_reset: bool,
}

impl DataSource {
    /// A data source of which nothing is said but where it is, how it is used, and its pools.
    #[must_use]
    pub fn new(name: &str, node: NodeAddress, mode: PoolMode, pool: PoolSettings) -> Self {
        Self {
            name: name.to_owned(),
            node,
            database: None,
            user: None,
            password: None,
            credentials: None,
            lookup: LookupBy::default(),
            budget: None,
            reserve: None,
            members: 1,
            mode,
            session_state: SessionState::default(),
            opaque_functions: OpaqueFunctions::default(),
            tls: ServerTls::NONE,
            timeouts: Timeouts::default(),
            pool,
        }
    }

    /// The time-outs of a pool: a stream has none, for it may be quiet, and last, for as long as it likes.
    pub(crate) fn timeouts_for(&self, replication: Replication) -> Timeouts {
        if replication == Replication::None { self.timeouts } else { Timeouts::default() }
    }
}

impl PoolerConfig {
    /// What holds where nothing is said.
    #[must_use]
    pub fn new(data_sources: Vec<DataSource>) -> Self {
        Self {
            data_sources,
            client_tls: TlsMode::Disable,
            auth: AuthMethod::Trust,
            rules: None,
            auth_query_age: Duration::from_secs(10),
            users: Users::default(),
            weights: BTreeMap::new(),
            admin_users: Vec::new(),
            stats_users: Vec::new(),
            max_clients: 10_000,
            max_startups: 0,
            max_startups_per_address: 0,
            max_message_size: 0,
            client_login_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            recover_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(10),
            cancel_timeout: Duration::from_secs(10),
            check_query: String::new(),
            reset_query: "DISCARD ALL".to_owned(),
            verify_reset: true,
        }
    }

    /// The data source that a client asking for `database` gets: the one of that name, else `*`.
    #[must_use]
    pub fn data_source(&self, database: &str) -> Option<(usize, &DataSource)> {
        let named = self.data_sources.iter().position(|s| s.name == database && s.name != "*");
        let index = named.or_else(|| self.data_sources.iter().position(|s| s.name == "*"))?;
        Some((index, &self.data_sources[index]))
    }

    /// The policy of the pool of `user` (on the server). Identities that the configuration does not name are
    /// made on demand and have no floors: any number of them may come.
    #[must_use]
    pub fn pool_settings(&self, source: &DataSource, user: &str) -> PoolSettings {
        let named = source.name != "*" && (source.user.is_some() || self.users.get(user).is_some());
        let settings = source.pool.clone();
        if named { settings } else { PoolSettings { min_idle: 0, initial_size: 0, min_size: 0, ..settings } }
    }

    /// As [`PoolerConfig::pool_settings`], for connections that replicate: none is kept, tested, or a leak.
    #[must_use]
    pub fn settings_for(&self, source: &DataSource, user: &str, replication: Replication) -> PoolSettings {
        let settings = self.pool_settings(source, user);
        if replication == Replication::None {
            return settings;
        }
        PoolSettings {
            max_idle: 0,
            min_idle: 0,
            initial_size: 0,
            min_size: 0,
            check: false,
            leak_after: Duration::ZERO,
            ..settings
        }
    }

    /// The name under which a client that asks for the replication of a whole server is served. Its database means
    /// nothing then, and programs send one that does not exist: the name it gives, else its own, else the only
    /// server's.
    pub(crate) fn physical_source<'a>(&'a self, database: &'a str, user: &'a str) -> &'a str {
        if let Some(known) = [database, user].into_iter().find(|name| self.data_source(name).is_some()) {
            return known;
        }
        match &*self.data_sources {
            [only, others @ ..] if others.iter().all(|other| other.node == only.node) => &only.name,
            _ => database,
        }
    }
}
