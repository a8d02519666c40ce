//! The table of settings: the one place that knows their names, limits and meaning.

use std::sync::Arc;
use std::time::Duration;

use headpond_core::PoolSettings;
use headpond_pooler::config::{
    DataSource, LookupBy, NodeAddress, PoolMode, PoolerConfig, ServerTls, Timeouts, TlsMode,
};

use super::values::Slot;
use super::{AuthType, Config, Dialect, ListenAddress, LogFormat, LogLevel, Sends};
use crate::tls::Files;

/// PostgreSQL's own limit of `max_connections`.
const CONNECTIONS_MAX: u32 = 262_143;
const CLIENTS_MAX: u32 = 1_000_000;
const WORKERS_MAX: u32 = 64;
/// What the protocol can say, and PgBouncer's default.
const MESSAGE_MAX: u32 = 0x7fff_ffff;
const MEMBERS_MAX: u32 = 1000;
const WEIGHT_MAX: u32 = 1000;
const STATEMENTS_MAX: u32 = 100_000;
const NO_TIME: Duration = Duration::ZERO;
const ALONE: &str = "As above, for this data source alone.";
/// Below this a server that refuses would be asked without pause.
const RETRY_LEAST: Duration = Duration::from_millis(10);

/// One setting.
pub(super) struct Setting {
    /// In TOML, and in the section `[headpond]` of an ini file.
    pub(super) name: &'static str,
    /// In the section `[pgbouncer]`; empty: PgBouncer has none.
    pub(super) pgbouncer: &'static str,
    /// In a line of the section `[databases]`; empty: it cannot stand there.
    pub(super) database: &'static str,
    /// Whether a reload changes it.
    pub(super) reload: bool,
    /// One sentence or two, with the meaning of zero.
    pub(super) doc: &'static str,
    pub(super) field: Field,
}

/// Where a setting may stand, and where its value is kept.
pub(super) enum Field {
    /// At the top of the file.
    Top(fn(&mut Config) -> Slot<'_>),
    /// In `[data_source.NAME]`.
    Source(fn(&mut DataSource) -> Slot<'_>),
    /// In `[pool]` and in `[data_source.NAME]`.
    Pool(fn(&mut PoolSettings) -> Slot<'_>),
    /// In `[application.NAME]`, and in the section `[users]` of an ini file: a weight.
    Application(fn(&mut u32) -> Slot<'_>),
}

impl Setting {
    /// The name in `SHOW CONFIG`.
    pub(super) fn shown_name(&self) -> &'static str {
        if self.pgbouncer.is_empty() { self.name } else { self.pgbouncer }
    }

    /// The value in `SHOW CONFIG`; `None` for what belongs to single data sources or applications.
    pub(super) fn shown_in(&self, config: &mut Config) -> Option<String> {
        let slot = match self.field {
            Field::Top(field) => field(config),
            Field::Pool(field) => field(&mut config.pool),
            Field::Source(_) | Field::Application(_) => return None,
        };
        Some(if self.pgbouncer.is_empty() { slot.notation() } else { slot.plain() })
    }
}

impl Config {
    /// What holds where a file says nothing.
    pub(super) fn defaults(dialect: Dialect) -> Self {
        let ini = dialect == Dialect::Ini;
        let seconds = Duration::from_secs;
        let pool = PoolSettings {
            idle_timeout: seconds(600),
            acquire_timeout: seconds(120),
            login_retry: seconds(1),
            shrink_interval: NO_TIME,
            check_interval: NO_TIME,
            ..PoolSettings::on_demand()
        };
        let pooler = match dialect {
            Dialect::Toml => PoolerConfig::new(Vec::new()),
            // As in PgBouncer.
            Dialect::Ini => PoolerConfig {
                max_clients: 100,
                max_message_size: MESSAGE_MAX,
                verify_reset: false,
                ..PoolerConfig::new(Vec::new())
            },
        };
        Self {
            pooler: Arc::new(pooler),
            listen: vec![ListenAddress { host: "127.0.0.1".into(), port: 6432 }],
            http_listen: Some(([127, 0, 0, 1], 6480).into()),
            http_secret: None,
            workers: 1,
            sends: Sends::Auto,
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
            figures_interval: NO_TIME,
            client_tls: Files::default(),
            server_tls: Files::default(),
            // As in PgBouncer and libpq.
            server_tls_mode: ServerTls { mode: TlsMode::Prefer, ..ServerTls::NONE },
            tls: Arc::default(),
            auth_type: if ini { AuthType::Md5 } else { AuthType::Trust },
            hba_file: None,
            ident_file: None,
            lookup: LookupBy::default(),
            unix_socket_dir: ini.then(|| "/tmp".into()),
            unix_socket_mode: "0777".into(),
            unix_socket_group: None,
            auth_file: None,
            // As in PgBouncer.
            pool_mode: if ini { PoolMode::Session } else { PoolMode::Transaction },
            timeouts: Timeouts::default(),
            budget: None,
            reserve: None,
            members: 1,
            pool: if ini { pool } else { PoolSettings::named() },
            file: None,
            dialect,
            warnings: Vec::new(),
        }
    }
}

fn pooler(config: &mut Config) -> &mut PoolerConfig {
    Arc::make_mut(&mut config.pooler)
}

const fn setting(name: &'static str, field: Field, doc: &'static str) -> Setting {
    Setting { name, pgbouncer: "", database: "", reload: true, doc, field }
}

impl Setting {
    const fn at_start(self) -> Self {
        Self { reload: false, ..self }
    }

    const fn pgbouncer(self, pgbouncer: &'static str) -> Self {
        Self { pgbouncer, ..self }
    }

    const fn database(self, database: &'static str) -> Self {
        Self { database, ..self }
    }
}

use Field::{Application, Pool, Source, Top};

/// Every setting, in the order of the reference.
pub(super) static SETTINGS: &[Setting] = &[
    setting(
        "listen",
        Top(|c| Slot::Listen(&mut c.listen)),
        "Where clients connect: \"host:port\", \"[::1]:port\" or \"*:port\" for every interface.",
    )
    .at_start(),
    setting(
        "unix_socket_dir",
        Top(|c| Slot::Path(&mut c.unix_socket_dir)),
        "The folder of a Unix socket for clients, .s.PGSQL. and the port of the first address; \"\" for none. In a \
         pgbouncer.ini databases without a host are reached there, too.",
    )
    .at_start()
    .pgbouncer("unix_socket_dir"),
    setting(
        "unix_socket_mode",
        Top(|c| Slot::Text(&mut c.unix_socket_mode)),
        "Who may use it, as octal digits: \"0777\" is everybody, \"0770\" its owner and group.",
    )
    .at_start()
    .pgbouncer("unix_socket_mode"),
    setting(
        "unix_socket_group",
        Top(|c| Slot::Name(&mut c.unix_socket_group)),
        "Its group; \"\" for that of the process.",
    )
    .at_start()
    .pgbouncer("unix_socket_group"),
    setting(
        "http_listen",
        Top(|c| Slot::Address(&mut c.http_listen)),
        "Where the web page, the metrics and the health checks are served; \"\" turns it off.",
    )
    .at_start(),
    setting(
        "http_secret",
        Top(|c| Slot::Password(&mut c.http_secret)),
        "What has to be sent along to see the page, the metrics and the figures: as a bearer token, or as the password of \
         any user. Needed where http_listen is not on this machine alone; 16 bytes or more. \
         \"file:PATH\", \"env:NAME\" and \"command:COMMAND LINE\" say where it comes from; \"\" for none.",
    ),
    setting("workers", Top(|c| Slot::Number(&mut c.workers, 1..=WORKERS_MAX)), "Worker threads, 1 to 64.").at_start(),
    setting(
        "sends",
        Top(|c| Slot::Choice(&mut c.sends)),
        "How bytes go out: \"batched\" (io_uring), \"plain\", or \"auto\": batched where the kernel allows it.",
    )
    .at_start(),
    setting(
        "max_clients",
        Top(|c| Slot::Number(&mut pooler(c).max_clients, 1..=CLIENTS_MAX)),
        "The most clients of the whole process; one more is refused.",
    )
    .pgbouncer("max_client_conn"),
    setting(
        "max_startups",
        Top(|c| Slot::Number(&mut pooler(c).max_startups, 0..=CLIENTS_MAX)),
        "The most clients logging in at once, of each worker: for one more, that which has taken longest leaves, if that was a \
         second or more, else the newcomer is refused; 0: no limit but max_clients, which works likewise.",
    ),
    setting(
        "max_startups_per_address",
        Top(|c| Slot::Number(&mut pooler(c).max_startups_per_address, 0..=CLIENTS_MAX)),
        "The most of those from one address, or from one IPv6 network of 64 bits; 0: no limit.",
    ),
    setting(
        "max_message_size",
        Top(|c| Slot::Number(&mut pooler(c).max_message_size, 0..=MESSAGE_MAX)),
        "The most bytes of one message of a client: a larger one is answered by an error, and the client stays; 0: no \
         limit.",
    )
    .pgbouncer("max_packet_size"),
    setting(
        "client_tls",
        Top(|c| Slot::Choice(&mut pooler(c).client_tls)),
        "Whether clients come by TLS: \"disable\", \"allow\" or \"prefer\" (as they like), \"require\", or \"verify-ca\" and \
         \"verify-full\" (only with a certificate that client_tls_ca_file vouches for). Clients on Unix sockets need none.",
    )
    .pgbouncer("client_tls_sslmode"),
    setting(
        "client_tls_cert_file",
        Top(|c| Slot::Path(&mut c.client_tls.certificate)),
        "What clients are shown: our certificate and those between it and its authority, in PEM. A reload reads it again.",
    )
    .pgbouncer("client_tls_cert_file"),
    setting(
        "client_tls_key_file",
        Top(|c| Slot::Path(&mut c.client_tls.key)),
        "The private key of that certificate, in PEM and not encrypted.",
    )
    .pgbouncer("client_tls_key_file"),
    setting(
        "client_tls_ca_file",
        Top(|c| Slot::Path(&mut c.client_tls.authorities)),
        "The authorities that clients' certificates are verified by, in PEM; \"\": none is asked for.",
    )
    .pgbouncer("client_tls_ca_file"),
    setting(
        "client_tls_protocols",
        Top(|c| Slot::Choice(&mut c.client_tls.protocols)),
        "Versions of TLS for clients: \"secure\" (1.2 and 1.3), \"tlsv1.2\" or \"tlsv1.3\".",
    )
    .pgbouncer("client_tls_protocols"),
    setting(
        "server_tls",
        Top(|c| Slot::Choice(&mut c.server_tls_mode.mode)),
        "Whether servers are reached by TLS, as libpq's sslmode: \"disable\", \"allow\" (if they do not let us in \
         without), \"prefer\" (if they have it), \"require\", \"verify-ca\" (with a certificate that server_tls_ca_file \
         vouches for), \"verify-full\" (which is for their host, too). Never on Unix sockets.",
    )
    .pgbouncer("server_tls_sslmode"),
    setting(
        "server_tls_negotiation",
        Top(|c| Slot::Choice(&mut c.server_tls_mode.negotiation)),
        "How TLS with servers begins: \"postgres\" (they are asked first) or \"direct\" (PostgreSQL 17 and later; where \
         server_tls is require or more).",
    ),
    setting(
        "server_channel_binding",
        Top(|c| Slot::Choice(&mut c.server_tls_mode.binding)),
        "Whether logins to servers are bound to TLS (SCRAM-SHA-256-PLUS): \"disable\", \"prefer\", or \"require\": a \
         server that cannot is not logged in to.",
    ),
    setting(
        "server_tls_ca_file",
        Top(|c| Slot::Path(&mut c.server_tls.authorities)),
        "The authorities that servers are verified by, and servers' own certificates, in PEM.",
    )
    .pgbouncer("server_tls_ca_file"),
    setting(
        "server_tls_cert_file",
        Top(|c| Slot::Path(&mut c.server_tls.certificate)),
        "What servers are shown that ask for our certificate, in PEM; \"\": none.",
    )
    .pgbouncer("server_tls_cert_file"),
    setting(
        "server_tls_key_file",
        Top(|c| Slot::Path(&mut c.server_tls.key)),
        "The private key of that certificate, in PEM and not encrypted.",
    )
    .pgbouncer("server_tls_key_file"),
    setting(
        "server_tls_protocols",
        Top(|c| Slot::Choice(&mut c.server_tls.protocols)),
        "Versions of TLS for servers: \"secure\" (1.2 and 1.3), \"tlsv1.2\" or \"tlsv1.3\".",
    )
    .pgbouncer("server_tls_protocols"),
    setting(
        "auth_type",
        Top(|c| Slot::Choice(&mut c.auth_type)),
        "How clients log in: \"trust\" (anybody is who they say), \"scram-sha-256\", \"md5\" (by SCRAM where \
         auth_file has a SCRAM secret), \"password\" (in clear), or \"hba\": as the rules of hba_file say. All but trust \
         need auth_file or auth_user.",
    )
    .pgbouncer("auth_type"),
    setting(
        "hba_file",
        Top(|c| Slot::Path(&mut c.hba_file)),
        "Rules in the syntax of PostgreSQL's pg_hba.conf: who may log in from where, and how. The first that fits decides; \
         if none does, the client is turned away.",
    )
    .pgbouncer("auth_hba_file"),
    setting(
        "ident_file",
        Top(|c| Slot::Path(&mut c.ident_file)),
        "Name maps for those rules, in the syntax of pg_ident.conf: which user of the system may be which user.",
    )
    .pgbouncer("auth_ident_file"),
    setting(
        "auth_file",
        Top(|c| Slot::Path(&mut c.auth_file)),
        "The users: lines of \"user\" \"password, md5 or SCRAM secret\". A file, relative to this one, or \"env:NAME\", or \
         \"command:COMMAND LINE\", which is asked again when a login fails; \"\" for none.",
    )
    .pgbouncer("auth_file"),
    setting(
        "auth_user",
        Top(|c| Slot::Name(&mut c.lookup.user)),
        "The user as whom users who are not in auth_file are looked up on the server; \"\": they are not. Its password is \
         that of auth_file.",
    )
    .pgbouncer("auth_user"),
    setting(
        "auth_query",
        Top(|c| Slot::Text(&mut c.lookup.query)),
        "The question: $1 is the name, the answer one row of that name and its md5 or SCRAM secret. The search path is \
         pg_catalog alone, so anything else has to be named with its schema.",
    )
    .pgbouncer("auth_query"),
    setting(
        "auth_dbname",
        Top(|c| Slot::Name(&mut c.lookup.data_source)),
        "The data source in which; \"\": the one that the client asks for.",
    )
    .pgbouncer("auth_dbname"),
    setting(
        "auth_query_age",
        Top(|c| Slot::Time(&mut pooler(c).auth_query_age, NO_TIME)),
        "For how long an answer is believed, if no login fails with it; 0s: every login asks.",
    ),
    setting(
        "admin_users",
        Top(|c| Slot::Names(&mut pooler(c).admin_users)),
        "Users who may command the console (databases \"headpond\" and \"pgbouncer\").",
    )
    .pgbouncer("admin_users"),
    setting(
        "stats_users",
        Top(|c| Slot::Names(&mut pooler(c).stats_users)),
        "Users who may only look at the console.",
    )
    .pgbouncer("stats_users"),
    setting(
        "pool_mode",
        Top(|c| Slot::Choice(&mut c.pool_mode)),
        "When a server connection goes back to its pool: \"session\" (its client leaves), \"transaction\" (sessions follow \
         their clients: docs/transaction-mode.md), or \"statement\" (as transaction, and a transaction that spans \
         requests is refused).",
    )
    .pgbouncer("pool_mode"),
    setting(
        "client_login_timeout",
        Top(|c| Slot::Time(&mut pooler(c).client_login_timeout, NO_TIME)),
        "A client that has not logged in by then is dropped; 0s: never.",
    )
    .pgbouncer("client_login_timeout"),
    setting(
        "client_idle_timeout",
        Top(|c| Slot::Time(&mut c.timeouts.client_idle, NO_TIME)),
        "A client that does nothing for longer, and is in no transaction, is told and closed; 0s: never.",
    )
    .pgbouncer("client_idle_timeout"),
    setting(
        "idle_transaction_timeout",
        Top(|c| Slot::Time(&mut c.timeouts.idle_transaction, NO_TIME)),
        "A transaction in which its client does nothing for longer is rolled back; the client stays; 0s: never.",
    )
    .pgbouncer("idle_transaction_timeout"),
    setting(
        "transaction_timeout",
        Top(|c| Slot::Time(&mut c.timeouts.transaction, NO_TIME)),
        "A transaction that lasts longer is rolled back, after what runs in it was cancelled; the client stays; 0s: \
         never.",
    )
    .pgbouncer("transaction_timeout"),
    setting(
        "query_timeout",
        Top(|c| Slot::Time(&mut c.timeouts.query, NO_TIME)),
        "A query that runs longer is cancelled; the client stays; 0s: never.",
    )
    .pgbouncer("query_timeout"),
    setting(
        "connect_timeout",
        Top(|c| Slot::Time(&mut pooler(c).connect_timeout, NO_TIME)),
        "A server connection must be logged in by then; 0s: never.",
    )
    .pgbouncer("server_connect_timeout"),
    setting(
        "recover_timeout",
        Top(|c| Slot::Time(&mut pooler(c).recover_timeout, NO_TIME)),
        "A server connection whose client left in mid-flight is drained for this long, then closed.",
    ),
    setting(
        "close_timeout",
        Top(|c| Slot::Time(&mut pooler(c).close_timeout, NO_TIME)),
        "How long the server may take to end a closed connection.",
    ),
    setting(
        "cancel_timeout",
        Top(|c| Slot::Time(&mut pooler(c).cancel_timeout, Duration::from_millis(1))),
        "How long the server may take over a cancel request.",
    )
    .pgbouncer("cancel_wait_timeout"),
    setting(
        "budget",
        Top(|c| Slot::Auto(&mut c.budget, 1..=CONNECTIONS_MAX)),
        "The most server connections of all pools of one server together; \"auto\": what the server leaves to this login \
         (max_connections without the reserved ones), without reserve, divided by members.",
    ),
    setting(
        "reserve",
        Top(|c| Slot::Auto(&mut c.reserve, 0..=CONNECTIONS_MAX)),
        "Connections of a server that are never used, for administrators, backups and replicas; \"auto\": 5, or 10 % if \
         that is more.",
    ),
    setting(
        "members",
        Top(|c| Slot::Number(&mut c.members, 1..=MEMBERS_MAX)),
        "How many processes like this one share each server.",
    ),
    setting(
        "check_query",
        Top(|c| Slot::Text(&mut pooler(c).check_query)),
        "Sent to a connection to test it; \"\": an empty query, which every server answers.",
    )
    .pgbouncer("server_check_query"),
    setting(
        "reset_query",
        Top(|c| Slot::Text(&mut pooler(c).reset_query)),
        "Sent to a server connection before it is reused in session mode; \"\" sends nothing.",
    )
    .pgbouncer("server_reset_query"),
    setting(
        "verify_reset",
        Top(|c| Slot::Switch(&mut pooler(c).verify_reset)),
        "Whether a session that was reset in session mode is asked what no reset undoes (a temporary schema, loaded \
         libraries), and closed if it is not like a new one. Off where sessions are short and run PL/pgSQL: it \
         counts as a library.",
    ),
    setting(
        "log_level",
        Top(|c| Slot::Choice(&mut c.log_level)),
        "The least important log lines written: \"error\", \"warn\", \"info\" or \"debug\".",
    ),
    setting(
        "log_format",
        Top(|c| Slot::Choice(&mut c.log_format)),
        "\"text\", \"json\", or \"auto\": text on a terminal, JSON otherwise.",
    )
    .at_start(),
    setting(
        "figures_interval",
        Top(|c| Slot::Time(&mut c.figures_interval, NO_TIME)),
        "Time between two lines of figures in the log; 0s: none.",
    ),
    setting(
        "max_size",
        Pool(|p| Slot::Number(&mut p.max_size, 1..=CONNECTIONS_MAX)),
        "The most server connections of a pool in any state: the database never sees one more.",
    )
    .pgbouncer("default_pool_size")
    .database("pool_size"),
    setting(
        "max_idle",
        Pool(|p| Slot::Number(&mut p.max_idle, 0..=CONNECTIONS_MAX)),
        "A released connection that would make more than this many idle is closed. Default: 80, or max_size if less.",
    ),
    setting(
        "min_idle",
        Pool(|p| Slot::Number(&mut p.min_idle, 0..=CONNECTIONS_MAX)),
        "Headroom: at least this many are kept idle while max_size allows. Default: 10, or max_size if less.",
    ),
    setting(
        "initial_size",
        Pool(|p| Slot::Number(&mut p.initial_size, 0..=CONNECTIONS_MAX)),
        "Opened at start; 0: the database need not be up. Default: min_idle.",
    )
    .pgbouncer("min_pool_size")
    .database("min_pool_size"),
    setting(
        "min_size",
        Pool(|p| Slot::Number(&mut p.min_size, 0..=CONNECTIONS_MAX)),
        "Shrinking never goes below this many. Default: initial_size.",
    ),
    setting(
        "idle_timeout",
        Pool(|p| Slot::Time(&mut p.idle_timeout, NO_TIME)),
        "An idle connection unused for this long is closed; 0s: never.",
    )
    .pgbouncer("server_idle_timeout"),
    setting(
        "shrink_interval",
        Pool(|p| Slot::Time(&mut p.shrink_interval, NO_TIME)),
        "Every interval, half of the connections that were never needed in it are closed; 0s: never.",
    ),
    setting(
        "acquire_timeout",
        Pool(|p| Slot::Time(&mut p.acquire_timeout, NO_TIME)),
        "A client that has waited this long for a connection gets an error that says why; 0s: it waits for ever.",
    )
    .pgbouncer("query_wait_timeout")
    .database("query_wait_timeout"),
    setting(
        "max_waiters",
        Pool(|p| Slot::Number(&mut p.max_waiters, 0..=CLIENTS_MAX)),
        "The most clients waiting for a connection of a pool; one more is refused at once.",
    ),
    setting(
        "check",
        Pool(|p| Slot::Switch(&mut p.check)),
        "Whether connections are tested: before they are handed out, and in the background.",
    ),
    setting(
        "trust_window",
        Pool(|p| Slot::Time(&mut p.trust_window, NO_TIME)),
        "A connection that was proven good within this time is handed out untested; 0s: every one is tested.",
    )
    .pgbouncer("server_check_delay"),
    setting(
        "check_interval",
        Pool(|p| Slot::Time(&mut p.check_interval, NO_TIME)),
        "An idle connection not proven good for this long is tested in the background; 0s: never.",
    ),
    setting(
        "max_lifetime",
        Pool(|p| Slot::Time(&mut p.max_lifetime, NO_TIME)),
        "A connection older than this is replaced when it is next idle; 0s: never.",
    )
    .pgbouncer("server_lifetime")
    .database("server_lifetime"),
    setting(
        "max_logins",
        Pool(|p| Slot::Number(&mut p.max_logins, 1..=CONNECTIONS_MAX)),
        "The most logins to the server in flight at once.",
    ),
    setting(
        "login_delay",
        Pool(|p| Slot::Time(&mut p.login_delay, NO_TIME)),
        "The least time between the beginnings of two logins; 0s: none.",
    ),
    setting(
        "login_retry",
        Pool(|p| Slot::Time(&mut p.login_retry, RETRY_LEAST)),
        "After a failed login, the wait before the next try doubles up to this.",
    )
    .pgbouncer("server_login_retry"),
    setting(
        "leak_after",
        Pool(|p| Slot::Time(&mut p.leak_after, NO_TIME)),
        "A connection held for longer is reported in the log with its holder, once; 0s: never.",
    ),
    setting(
        "leak_reclaim",
        Pool(|p| Slot::Switch(&mut p.leak_reclaim)),
        "Whether such a connection is also taken back: its client is closed with an error that says so.",
    ),
    setting(
        "round_robin",
        Pool(|p| Slot::Switch(&mut p.round_robin)),
        "Whether the idle connection that was used longest ago serves next, rather than the one used last: load is spread \
         over all of them, and none is left idle for long enough to be closed.",
    )
    .pgbouncer("server_round_robin"),
    setting(
        "statement_cache_size",
        Pool(|p| Slot::Number(&mut p.statement_cache_size, 0..=STATEMENTS_MAX)),
        "In transaction and statement mode: prepared statements kept on each server connection, for whoever uses them \
         next. The one that was not used for longest makes room. 0: clients must not keep any.",
    )
    .pgbouncer("max_prepared_statements"),
    setting(
        "host",
        Source(|s| Slot::Host(&mut s.node)),
        "Name or address of the server, or the folder of its Unix socket, beginning with /.",
    )
    .database("host"),
    setting("port", Source(|s| Slot::Number(port(&mut s.node), 1..=65_535)), "Port of the server.").database("port"),
    setting(
        "database",
        Source(|s| Slot::Name(&mut s.database)),
        "The database on the server; \"\": the name the client asked for.",
    )
    .database("dbname"),
    setting(
        "user",
        Source(|s| Slot::Name(&mut s.user)),
        "The user on the server for all clients; \"\": each client's own name.",
    )
    .database("user"),
    setting(
        "password",
        Source(|s| Slot::Password(&mut s.password)),
        "The password on the server; \"\": none, or that of the users file.",
    )
    .database("password"),
    setting(
        "credentials",
        Source(|s| Slot::Password(&mut s.credentials)),
        "Where the password on the server comes from, or the user and the password on two lines: \"file:PATH\", \
         \"env:NAME\", or \"command:COMMAND LINE\" for the shell. Asked again at a reload, and when the server refuses them; \
         \"\": nowhere.",
    ),
    setting(
        "pool_mode",
        Source(|s| Slot::Choice(&mut s.mode)),
        ALONE,
    )
    .database("pool_mode"),
    setting(
        "session_state",
        Source(|s| Slot::Choice(&mut s.session_state)),
        "What becomes of the state of sessions, in transaction and statement mode: \"follow\" keeps it with its client \
         (docs/transaction-mode.md); \"ignore\" leaves it on the server connection, where the next client finds it, as \
         other poolers do.",
    ),
    setting(
        "opaque_functions",
        Source(|s| Slot::Choice(&mut s.opaque_functions)),
        "What is thought of functions of the database, in transaction and statement mode: \"pin\" asks its catalogue which \
         of them may leave settings that nobody can name, and whoever uses those keeps the server connection; \"trust\" \
         takes all of them to leave nothing behind.",
    ),
    setting("server_tls", Source(|s| Slot::Choice(&mut s.tls.mode)), ALONE),
    setting("server_tls_negotiation", Source(|s| Slot::Choice(&mut s.tls.negotiation)), ALONE),
    setting("server_channel_binding", Source(|s| Slot::Choice(&mut s.tls.binding)), ALONE),
    setting("auth_user", Source(|s| Slot::Name(&mut s.lookup.user)), ALONE).database("auth_user"),
    setting("auth_query", Source(|s| Slot::Text(&mut s.lookup.query)), ALONE).database("auth_query"),
    setting("auth_dbname", Source(|s| Slot::Name(&mut s.lookup.data_source)), ALONE).database("auth_dbname"),
    setting("client_idle_timeout", Source(|s| Slot::Time(&mut s.timeouts.client_idle, NO_TIME)), ALONE),
    setting("idle_transaction_timeout", Source(|s| Slot::Time(&mut s.timeouts.idle_transaction, NO_TIME)), ALONE),
    setting("transaction_timeout", Source(|s| Slot::Time(&mut s.timeouts.transaction, NO_TIME)), ALONE),
    setting("query_timeout", Source(|s| Slot::Time(&mut s.timeouts.query, NO_TIME)), ALONE),
    setting(
        "budget",
        Source(|s| Slot::Auto(&mut s.budget, 1..=CONNECTIONS_MAX)),
        "As above, for the server of this data source.",
    ),
    setting(
        "reserve",
        Source(|s| Slot::Auto(&mut s.reserve, 0..=CONNECTIONS_MAX)),
        "As above, for the server of this data source.",
    ),
    setting(
        "members",
        Source(|s| Slot::Number(&mut s.members, 1..=MEMBERS_MAX)),
        "As above, for the server of this data source.",
    ),
    setting(
        "weight",
        Application(|weight| Slot::Number(weight, 1..=WEIGHT_MAX)),
        "Where several applications wait at one pool, this one gets so many connections for every one of an application \
         of weight 1.",
    ),
];

fn port(node: &mut NodeAddress) -> &mut u16 {
    let (NodeAddress::Tcp { port, .. } | NodeAddress::Unix { port, .. }) = node;
    port
}
