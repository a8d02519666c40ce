//! The configuration: Headpond's TOML, or a `pgbouncer.ini` taken as it is.
//!
//! Both become entries (file, line, key, value), and one table of settings turns those into a [`Config`].
//! The same table gives `SHOW CONFIG`, `reference.toml` and the keys that a wrong one is compared with.
//! Nothing is corrected silently: what cannot be honoured is refused or warned about, with file and line.

mod build;
mod diagnostic;
mod entries;
pub(crate) mod hba;
mod interfaces;
mod pgbouncer_keys;
mod reference;
mod sources;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod users;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headpond_core::PoolSettings;
pub use headpond_pooler::config::NodeAddress;
use headpond_pooler::config::{LookupBy, PoolMode, PoolerConfig, Secret, ServerTls, Timeouts};

use crate::tls::{Files, Loaded};

pub use diagnostic::Diagnostic;
pub use reference::reference;

/// Everything the process is told, checked. Immutable; a reload makes another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the pooler machine is told.
    pub pooler: Arc<PoolerConfig>,
    /// Where clients connect: at least one.
    pub listen: Vec<ListenAddress>,
    /// Where the web page, the metrics and the health checks are served; `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// What whoever looks there must bring, unless that is on this machine.
    pub http_secret: Option<Secret>,
    /// Worker threads: 1 to 64.
    pub workers: usize,
    /// How bytes go out.
    pub sends: Sends,
    /// The least important log lines that are written.
    pub log_level: LogLevel,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Time between two lines of figures in the log; zero: none.
    pub figures_interval: Duration,
    /// The files of the leg to clients.
    pub client_tls: Files,
    /// The files of the leg to servers.
    pub server_tls: Files,
    /// How servers are reached whose data sources do not say.
    pub server_tls_mode: ServerTls,
    /// What was read from those files.
    pub tls: Arc<Loaded>,
    /// How clients log in.
    pub auth_type: AuthType,
    /// The file that the rules came from.
    pub hba_file: Option<PathBuf>,
    /// The file that the name maps came from.
    pub ident_file: Option<PathBuf>,
    /// How users are looked up that are not listed, where their data source does not say.
    pub lookup: LookupBy,
    /// The folder of a Unix socket for clients; `None`: there is none.
    pub unix_socket_dir: Option<PathBuf>,
    /// The mode of that socket, in octal digits.
    pub unix_socket_mode: String,
    /// Its group; `None`: that of the process.
    pub unix_socket_group: Option<String>,
    /// The file that the users came from.
    pub auth_file: Option<PathBuf>,
    /// The mode of data sources that do not say theirs.
    pub pool_mode: PoolMode,
    /// How long clients may take, where their data source does not say.
    pub timeouts: Timeouts,
    /// The budget of servers whose data sources do not say theirs; likewise the reserve, and the members.
    pub budget: Option<u32>,
    /// See [`headpond_pooler::config::DataSource::reserve`].
    pub reserve: Option<u32>,
    /// See [`headpond_pooler::config::DataSource::members`].
    pub members: u32,
    /// The pool of data sources that do not say more.
    pub pool: PoolSettings,
    /// The file this was read from.
    pub file: Option<PathBuf>,
    /// The language of that file, which decides over defaults.
    pub dialect: Dialect,
    /// What was accepted but deserves a word.
    pub warnings: Vec<Diagnostic>,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Host name, IPv4 or IPv6 address without brackets; `*` stands for every interface.
    pub host: String,
    /// TCP port; 0: any free one.
    pub port: u16,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How clients log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthType {
    /// As [`headpond_pooler::config::AuthMethod`] has them.
    Trust,
    /// See there.
    Password,
    /// See there.
    Md5,
    /// See there.
    ScramSha256,
    /// The rules of `hba_file` say.
    Hba,
}

/// How bytes go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// Batched where the kernel allows it, else plain.
    Auto,
    /// All sends of a loop turn in one system call.
    Batched,
    /// One system call per send.
    Plain,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What somebody must look at.
    Error,
    /// And what is likely to become that.
    Warn,
    /// And what happens a few times a day.
    Info,
    /// And every connection.
    Debug,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// The language of a configuration file. Each has its own defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Headpond's own.
    Toml,
    /// PgBouncer's `pgbouncer.ini`: PgBouncer's defaults.
    Ini,
}

/// A row of `SHOW CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    /// PgBouncer's name of the setting where it has one, else ours.
    pub key: &'static str,
    /// The value; times under PgBouncer's names are in seconds.
    pub value: String,
    /// What it would be had nobody set it.
    pub default: String,
    /// Whether a reload changes it.
    pub changeable: bool,
}

impl Config {
    /// Reads and checks a file. One that ends in `.ini`, or begins with a section of PgBouncer's, is a
    /// `pgbouncer.ini`; any other is TOML.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn load(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        Self::load_with(path, &[])
    }

    /// As [`Config::load`], with settings of the top level or of `[pool]` that count instead of the file's: names, ours or
    /// PgBouncer's, and values as in an ini file.
    ///
    /// # Errors
    /// Likewise.
    pub fn load_with(path: &Path, set: &[(String, String)]) -> Result<Self, Vec<Diagnostic>> {
        let name = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        let text = entries::read(path).map_err(|why| vec![Diagnostic::new(&name, 0, "", why)])?;
        let ini = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("ini")) || entries::is_ini(&text);
        let (mut entries, dialect) = if ini {
            (entries::from_ini(&name, &text, folder), Dialect::Ini)
        } else {
            (entries::from_toml(&name, &text), Dialect::Toml)
        };
        set.iter().for_each(|(key, value)| entries.set(key, value));
        build::build(entries, dialect, folder, true)
            .map(|config| Self { file: Some(path.to_owned()), ..config })
    }

    /// As it is, with users and passwords as their sources say now: those of servers, and those of clients.
    ///
    /// # Errors
    /// What is wrong with a source.
    pub fn refreshed(&self) -> Result<Self, Vec<Diagnostic>> {
        build::refreshed(self)
    }

    /// Whether anything in it comes from somewhere that may say something else later.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        let of_users = self.auth_file.as_deref().and_then(Path::to_str).and_then(sources::Source::parse);
        of_users.is_some() || self.pooler.data_sources.iter().any(|source| source.credentials.is_some())
    }

    /// Checks Headpond's TOML. `name` stands in messages, `folder` is where relative paths begin; sources of secrets are not
    /// asked.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_toml(name: &str, text: &str, folder: &Path) -> Result<Self, Vec<Diagnostic>> {
        build::build(entries::from_toml(name, text), Dialect::Toml, folder, false)
    }

    /// Checks a `pgbouncer.ini`. `name` stands in messages, `folder` is where relative paths begin; sources of secrets are
    /// not asked.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_ini(name: &str, text: &str, folder: &Path) -> Result<Self, Vec<Diagnostic>> {
        build::build(entries::from_ini(name, text, folder), Dialect::Ini, folder, false)
    }

    /// All data sources lead to `node`, and to `user` with `password` there if they are given.
    pub fn point_at(&mut self, node: NodeAddress, user: Option<&str>, password: Option<String>) {
        let password = password.map(Secret);
        for source in &mut Arc::make_mut(&mut self.pooler).data_sources {
            source.node = node.clone();
            source.tls = ServerTls::NONE;
            source.user = user.map(str::to_owned);
            source.password.clone_from(&password);
        }
    }

    /// Without a file: every database of the server on this machine's `port`, under each client's own name.
    #[must_use]
    pub fn embedded(port: u16, pool: PoolSettings) -> Self {
        let mut config = Self::defaults(Dialect::Toml);
        let mut source = build::data_source("*", config.pool_mode, pool.clone());
        source.node = NodeAddress::Tcp { host: "127.0.0.1".into(), port };
        source.tls = ServerTls::NONE;
        let pooler = Arc::make_mut(&mut config.pooler);
        pooler.data_sources.push(source);
        pooler.admin_users.push("postgres".into());
        Self { pool, ..config }
    }

    /// The rows of `SHOW CONFIG`: settings of the process and of the pools that say no more.
    #[must_use]
    pub fn settings(&self) -> Vec<SettingRow> {
        let (mut now, mut default) = (self.clone(), Self::defaults(self.dialect));
        let mut rows: Vec<_> = table::SETTINGS
            .iter()
            .filter_map(|s| {
                let (value, default) = (s.shown_in(&mut now)?, s.shown_in(&mut default)?);
                Some(SettingRow { key: s.shown_name(), value, default, changeable: s.reload })
            })
            .collect();
        // Exporters look for this limit of PgBouncer's; there is none here, and 0 says so.
        let none = || "0".to_owned();
        rows.push(SettingRow {
            key: "max_user_connections",
            value: none(),
            default: none(),
            changeable: false,
        });
        rows
    }

    /// The settings that differ in `new` but only take effect at the next start.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (mut old, mut new) = (self.clone(), new.clone());
        let fixed = table::SETTINGS.iter().filter(|s| !s.reload);
        fixed.filter(|s| s.shown_in(&mut old) != s.shown_in(&mut new)).map(|s| s.name).collect()
    }
}
