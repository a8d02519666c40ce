//! From entries to one checked [`Config`].

mod people;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use headpond_core::PoolSettings;
use headpond_pooler::config::{DataSource, NodeAddress, PoolMode, Secret, TlsMode, TlsNegotiation};

use super::diagnostic::{At, Diagnostic};
use super::entries::{Entries, Entry, Scope};
use super::sources::Source;
use super::table::Field;
use super::{Config, Dialect};
use crate::tls::load::{Wrong, load};
pub(super) use people::refreshed;

/// Names that the console answers to.
const CONSOLES: [&str; 2] = ["pgbouncer", "headpond"];

/// Nobody guesses one of this length.
const HTTP_SECRET_LEAST: usize = 16;

/// Where the settings of one block are stated, by name.
type Stated<'e> = BTreeMap<&'static str, &'e At>;

/// `asks`: sources of secrets are asked what they say.
pub(super) fn build(
    read: Entries,
    dialect: Dialect,
    folder: &Path,
    asks: bool,
) -> Result<Config, Vec<Diagnostic>> {
    let Entries { file, entries, sources, warnings, errors } = read;
    let mut blocks = Blocks { sources: vec![Vec::new(); sources.len()], ..Blocks::default() };
    for entry in &entries {
        match &entry.scope {
            Scope::Top => blocks.top.push(entry),
            Scope::Pool => blocks.pool.push(entry),
            Scope::Source(index) => blocks.sources[*index].push(entry),
            Scope::Application(name) => blocks.applications.push((name, entry)),
        }
    }
    let mut builder =
        Builder { file: Arc::clone(&file), config: Config::defaults(dialect), blocks, errors, folder, asks };
    builder.config.warnings = warnings;
    let top = builder.top();
    builder.pool();
    for (index, (name, at)) in sources.iter().enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        builder.source(index, name, at);
    }
    if builder.config.pooler.data_sources.is_empty() {
        let add = if dialect == Dialect::Toml { "[data_source.NAME]" } else { "a line in [databases]" };
        let message = format!("no data source: clients find no database; add {add}");
        builder.config.warnings.push(At { file, line: 0 }.says("", message));
    }
    builder.applications();
    builder.http(&top);
    builder.socket(&top);
    builder.look_at(&builder.config.lookup.clone(), &top);
    builder.places(&sources);
    builder.rules(&top, folder);
    builder.users(&top, folder);
    builder.tls(&top, folder);
    builder.finish()
}

/// A data source that says nothing but its name.
pub(super) fn data_source(name: &str, mode: PoolMode, pool: PoolSettings) -> DataSource {
    let node = NodeAddress::Tcp { host: "127.0.0.1".into(), port: 5432 };
    DataSource::new(name, node, mode, pool)
}

/// Entries by what they are for.
#[derive(Default)]
struct Blocks<'e> {
    top: Vec<&'e Entry>,
    pool: Vec<&'e Entry>,
    sources: Vec<Vec<&'e Entry>>,
    applications: Vec<(&'e String, &'e Entry)>,
}

struct Builder<'e> {
    /// Its name.
    file: Arc<str>,
    config: Config,
    blocks: Blocks<'e>,
    errors: Vec<Diagnostic>,
    folder: &'e Path,
    asks: bool,
}

impl<'e> Builder<'e> {
    fn top(&mut self) -> Stated<'e> {
        let mut stated = Stated::new();
        for entry in std::mem::take(&mut self.blocks.top) {
            if let Field::Top(field) = entry.setting.field {
                let read = field(&mut self.config).read(&entry.raw);
                self.note(entry, read, &mut stated);
            }
        }
        stated
    }

    fn pool(&mut self) {
        let mut pool = self.config.pool.clone();
        let mut stated = Stated::new();
        self.inherit(&mut pool, &mut stated);
        self.settle(&mut pool, &stated);
        self.config.pool = pool;
    }

    fn source(&mut self, index: usize, name: &str, at: &At) {
        if CONSOLES.contains(&name) {
            self.errors.push(at.says(name, "is the console's name; another name for the data source"));
        }
        let defaults = match self.config.dialect {
            Dialect::Ini => Config::defaults(Dialect::Ini).pool,
            Dialect::Toml if name == "*" => PoolSettings::on_demand(),
            Dialect::Toml => PoolSettings::named(),
        };
        let Config { pool_mode, timeouts, budget, reserve, members, server_tls_mode: tls, .. } = self.config;
        let lookup = self.config.lookup.clone();
        let mut source = DataSource {
            timeouts,
            tls,
            budget,
            reserve,
            members,
            lookup,
            ..data_source(name, pool_mode, defaults)
        };
        let mut stated = Stated::new();
        self.inherit(&mut source.pool, &mut stated);
        for entry in std::mem::take(&mut self.blocks.sources[index]) {
            let read = match entry.setting.field {
                Field::Source(field) => field(&mut source).read(&entry.raw),
                Field::Pool(field) => field(&mut source.pool).read(&entry.raw),
                Field::Top(_) | Field::Application(_) => continue,
            };
            self.note(entry, read, &mut stated);
        }
        self.settle(&mut source.pool, &stated);
        if source.tls.negotiation == TlsNegotiation::Direct && !source.tls.mode.is_demanded() {
            let at = stated.get("server_tls_negotiation").map_or(at, |at| at);
            let why = "\"direct\" asks nobody, so TLS must be demanded: set server_tls to require or more";
            self.errors.push(at.says("server_tls_negotiation", why));
        }
        self.look_at(&source.lookup, &stated);
        self.credentials(&mut source, &stated);
        Arc::make_mut(&mut self.config.pooler).data_sources.push(source);
    }

    /// What `[pool]` says holds for every pool.
    fn inherit(&mut self, pool: &mut PoolSettings, stated: &mut Stated<'e>) {
        for entry in self.blocks.pool.clone() {
            if let Field::Pool(field) = entry.setting.field {
                let read = field(pool).read(&entry.raw);
                self.note(entry, read, stated);
            }
        }
    }

    fn note(&mut self, entry: &'e Entry, read: Result<(), String>, stated: &mut Stated<'e>) {
        match read {
            Ok(()) => drop(stated.insert(entry.setting.name, &entry.at)),
            Err(why) => self.errors.push(entry.at.says(&entry.key, why)),
        }
    }

    /// Defaults follow what is stated; stated sizes must fit each other.
    fn settle(&mut self, pool: &mut PoolSettings, stated: &Stated<'_>) {
        let free = |name| !stated.contains_key(name);
        let ini = self.config.dialect == Dialect::Ini;
        if ini {
            // PgBouncer: "effectively capped at the pool size".
            for size in [&mut pool.min_idle, &mut pool.initial_size, &mut pool.min_size] {
                *size = (*size).min(pool.max_size);
            }
        }
        if free("min_idle") {
            let idle = if free("max_idle") { pool.max_size } else { pool.max_idle.min(pool.max_size) };
            pool.min_idle = pool.min_idle.min(idle);
        }
        if free("max_idle") {
            let usual = if ini { pool.max_size } else { PoolSettings::named().max_idle };
            pool.max_idle = usual.max(pool.min_idle).min(pool.max_size);
        }
        if free("initial_size") {
            pool.initial_size = pool.min_idle;
        }
        if free("min_size") {
            pool.min_size = pool.initial_size.min(pool.max_size);
        }
        let most = ("max_size", pool.max_size);
        let idle = if free("max_idle") { most } else { ("max_idle", pool.max_idle) };
        let pairs = [
            (("min_idle", pool.min_idle), most),
            (("initial_size", pool.initial_size), most),
            (("min_size", pool.min_size), most),
            (("min_idle", pool.min_idle), idle),
        ];
        for ((small, less), (large, more)) in pairs {
            // What is not stated follows, and its own error would only repeat another.
            let (Some(at), true) = (stated.get(small), less > more) else { continue };
            let place = stated.get(large).map_or("its default".into(), |l| l.seen_from(at));
            self.errors.push(
                at.says(small, format!("{less} is more than {large} = {more} ({place}); at most {more}")),
            );
        }
    }

    fn applications(&mut self) {
        for (name, entry) in std::mem::take(&mut self.blocks.applications) {
            let Field::Application(field) = entry.setting.field else { continue };
            let mut weight = 1;
            let read = field(&mut weight).read(&entry.raw);
            self.note(entry, read, &mut Stated::new());
            Arc::make_mut(&mut self.config.pooler).weights.insert(name.clone(), weight);
        }
        // That of everybody else is not kept.
        Arc::make_mut(&mut self.config.pooler).weights.retain(|_, weight| *weight != 1);
    }

    /// What leaves this machine is not for everybody.
    fn http(&mut self, top: &Stated<'_>) {
        let from = self.config.http_secret.as_ref().and_then(|secret| Source::parse(&secret.0));
        if let (Some(from), Some(at), true) = (from, top.get("http_secret"), self.asks) {
            match from.read(self.folder) {
                Ok(text) => self.config.http_secret = Some(Secret(text.trim_end().to_owned())),
                Err(why) => return self.errors.push(at.says("http_secret", why)),
            }
        }
        let (key, message) = match (&self.config.http_secret, self.config.http_listen) {
            (Some(secret), _) if secret.0.len() < HTTP_SECRET_LEAST => {
                let right = "like what \"openssl rand -hex 16\" says";
                ("http_secret", format!("too short; at least {HTTP_SECRET_LEAST} bytes, {right}"))
            }
            (None, Some(address)) if !address.ip().is_loopback() => {
                let right = "set http_secret, or listen on 127.0.0.1";
                (
                    "http_listen",
                    format!("other machines can reach {address}, and nothing is asked of them; {right}"),
                )
            }
            _ => return,
        };
        if let Some(at) = top.get(key) {
            self.errors.push(at.says(key, message));
        }
    }

    /// The mode and group of the Unix socket make sense.
    fn socket(&mut self, top: &Stated<'_>) {
        let mode = &self.config.unix_socket_mode;
        let octal = (1..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if let (false, Some(at)) = (octal, top.get("unix_socket_mode")) {
            self.errors.push(at.says("unix_socket_mode", "not octal digits; like 0770"));
        }
        if let Some(folder) = &self.config.unix_socket_dir
            && let (false, Some(at)) = (folder.is_absolute(), top.get("unix_socket_dir"))
        {
            let message = "not a folder, beginning with /; clients on abstract sockets are not supported";
            self.errors.push(at.says("unix_socket_dir", message));
        }
    }

    /// Reads what TLS needs, where it is used.
    fn tls(&mut self, top: &Stated<'_>, folder: &Path) {
        let Config { client_tls, server_tls, pooler, .. } = &mut self.config;
        for files in [&mut *client_tls, &mut *server_tls] {
            for file in [&mut files.certificate, &mut files.key, &mut files.authorities].into_iter().flatten()
            {
                *file = folder.join(&*file);
            }
        }
        let verified = pooler.client_tls >= TlsMode::VerifyCa;
        let clients = (pooler.client_tls != TlsMode::Disable).then_some((&*client_tls, verified));
        let secret = |source: &DataSource| source.tls.mode != TlsMode::Disable;
        let verifies = pooler.data_sources.iter().any(|source| source.tls.mode >= TlsMode::VerifyCa);
        let mut wrong = Vec::new();
        if verifies && server_tls.authorities.is_none() {
            let why = "is missing, and without it no server can be verified".to_owned();
            wrong.push(Wrong { setting: "server_tls_ca_file", why });
        }
        let servers = pooler.data_sources.iter().any(secret).then_some(&*server_tls);
        match load(clients, servers) {
            Ok(loaded) => self.config.tls = Arc::new(loaded),
            Err(more) => wrong.extend(more),
        }
        let modes = ["client_tls", "server_tls"].map(|mode| top.get(mode).copied());
        for Wrong { setting, why } in wrong {
            let mode = modes[usize::from(setting.starts_with("server"))];
            let at = top.get(setting).copied().or(mode).cloned();
            let at = at.unwrap_or_else(|| At { file: self.file.clone(), line: 0 });
            self.errors.push(at.says(setting, why));
        }
    }

    fn finish(mut self) -> Result<Config, Vec<Diagnostic>> {
        if self.errors.is_empty() {
            self.config.warnings.sort();
            return Ok(self.config);
        }
        // What [pool] has wrong was found again in every data source.
        self.errors.sort();
        self.errors.dedup();
        Err(self.errors)
    }
}
