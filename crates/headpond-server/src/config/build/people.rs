//! Who may log in, how, and with which secrets: rules, users, and where passwords come from.

use std::path::Path;
use std::sync::Arc;

use headpond_pooler::config::{AuthMethod, DataSource, LookupBy, TlsMode};

use super::{Builder, Stated};
use crate::config::diagnostic::{At, Diagnostic};
use crate::config::entries;
use crate::config::hba::{self, Surroundings};
use crate::config::interfaces::interfaces;
use crate::config::sources::{self, RIGHT, Source};
use crate::config::users::UsersFile;
use crate::config::values::{Choice, echo, echo_path};
use crate::config::{AuthType, Config, Dialect};

impl Builder<'_> {
    /// User and password of a data source come from elsewhere.
    pub(super) fn credentials(&mut self, source: &mut DataSource, stated: &Stated<'_>) {
        let (Some(text), Some(at)) = (&source.credentials, stated.get("credentials")) else { return };
        if source.password.is_some() {
            return self.errors.push(at.says("credentials", "cannot stand beside password; one of them"));
        }
        if Source::parse(&text.0).is_none() {
            return self.errors.push(at.says("credentials", format!("no source; {RIGHT}")));
        }
        if self.asks
            && let Err(why) = obtain(source, self.folder)
        {
            self.errors.push(at.says("credentials", why));
        }
    }

    /// A question of an older installation may let in who should not be any more (CVE-2025-2291).
    pub(super) fn look_at(&mut self, lookup: &LookupBy, stated: &Stated<'_>) {
        let query = lookup.query.to_ascii_lowercase();
        let stored = ["pg_shadow", "pg_authid"].iter().any(|table| query.contains(table));
        if let (true, Some(at)) = (stored && !query.contains("until"), stated.get("auth_query")) {
            let message = "does not look at VALID UNTIL: passwords let in after they have expired; see rolvaliduntil in \
                           the default of auth_query";
            self.config.warnings.push(at.says("auth_query", message));
        }
    }

    /// Users are looked up in a data source that there is, and that strangers do not choose.
    pub(super) fn places(&mut self, sources: &[(String, At)]) {
        let Config { pooler, warnings, .. } = &mut self.config;
        for source in &pooler.data_sources {
            let at = sources.iter().find(|(name, _)| *name == source.name).map(|(_, at)| at);
            let (Some(_), Some(at)) = (&source.lookup.user, at) else { continue };
            let message = match &source.lookup.data_source {
                None if source.name == "*" => {
                    "is missing: whoever can connect has users looked up in any database he names, before he has proved \
                     anything; set it to one data source"
                        .to_owned()
                }
                Some(name) if pooler.data_source(name).is_none() => {
                    format!("there is no data source {}: nobody is found", echo(name))
                }
                _ => continue,
            };
            warnings.push(at.says("auth_dbname", message));
        }
    }

    /// How clients log in: by one method, or as the rules say.
    pub(super) fn rules(&mut self, top: &Stated<'_>, folder: &Path) {
        let method = match self.config.auth_type {
            AuthType::Trust => AuthMethod::Trust,
            AuthType::Password => AuthMethod::Password,
            AuthType::Md5 => AuthMethod::Md5,
            AuthType::ScramSha256 | AuthType::Hba => AuthMethod::ScramSha256,
        };
        Arc::make_mut(&mut self.config.pooler).auth = method;
        let by_rules = self.config.auth_type == AuthType::Hba;
        if !by_rules {
            if let (Some(_), Some(at)) = (&self.config.hba_file, top.get("hba_file")) {
                let key = if self.config.dialect == Dialect::Ini { "auth_hba_file" } else { "hba_file" };
                let message = "has no effect: auth_type is not \"hba\"";
                self.config.warnings.push(at.says(key, message));
            }
            return;
        }
        let (Some(rules), maps) = (self.config.hba_file.clone(), self.config.ident_file.clone()) else {
            if let Some(at) = top.get("auth_type") {
                self.errors.push(at.says("auth_type", "hba needs rules; set hba_file to a file of them"));
            }
            return;
        };
        let maps = maps.and_then(|path| self.file("ident_file", &path, top, folder));
        let maps = maps.map(|(name, text)| hba::maps(&name, &text, &mut self.errors)).unwrap_or_default();
        let Some((name, text)) = self.file("hba_file", &rules, top, folder) else { return };
        let interfaces = interfaces();
        let path = folder.join(&rules);
        let around = Surroundings { folder: path.parent().unwrap_or(folder), interfaces: &interfaces };
        let rules = hba::rules(&name, &text, &maps, &around, &mut self.errors);
        let verified =
            self.config.pooler.client_tls != TlsMode::Disable && self.config.client_tls.authorities.is_some();
        if let (true, false, Some(at)) = (rules.ask_for_certificates(), verified, top.get("hba_file")) {
            let message = "has a rule that asks for certificates; set client_tls, and client_tls_ca_file to verify them by";
            self.errors.push(at.says("hba_file", message));
        }
        Arc::make_mut(&mut self.config.pooler).rules = Some(rules);
    }

    /// The name and text of a file that a setting names.
    fn file(&mut self, key: &str, path: &Path, top: &Stated<'_>, folder: &Path) -> Option<(String, String)> {
        let path = folder.join(path);
        let name = echo_path(&path);
        match entries::read(&path) {
            Ok(text) => Some((name, text)),
            Err(why) => {
                if let Some(at) = top.get(key) {
                    self.errors.push(at.says(key, format!("{name} {why}")));
                }
                None
            }
        }
    }

    /// Whether clients may be asked for a password.
    fn asks_for_passwords(&self) -> bool {
        match &self.config.pooler.rules {
            // Without the rules that it needs nothing can be said.
            None if self.config.auth_type == AuthType::Hba => false,
            None => self.config.pooler.auth != AuthMethod::Trust,
            Some(rules) => [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256]
                .iter()
                .any(|method| rules.ask_by(*method)),
        }
    }

    pub(super) fn users(&mut self, top: &Stated<'_>, folder: &Path) {
        let auth = asked_by(&self.config);
        let Some(path) = self.config.auth_file.take() else {
            let looks_up = self.config.pooler.data_sources.iter().any(|source| source.lookup.user.is_some());
            let needed = self.asks_for_passwords() && !looks_up;
            if let (true, Some(at)) = (needed, top.get("auth_type")) {
                let word = self.config.auth_type.word();
                let message = format!("{word} needs users; set auth_file to a file of them");
                self.errors.push(at.says("auth_type", message));
            }
            return;
        };
        let source = path.to_str().and_then(Source::parse);
        if let Some(source) = source {
            self.config.auth_file = Some(path);
            match self.asks.then(|| source.read(folder)) {
                None => {}
                Some(Ok(text)) => self.list("auth_file", &text, auth),
                Some(Err(why)) => {
                    if let Some(at) = top.get("auth_file") {
                        self.errors.push(at.says("auth_file", why));
                    }
                }
            }
            return;
        }
        if let Some((name, text)) = self.file("auth_file", &path, top, folder) {
            self.list(&name, &text, auth);
        }
        self.config.auth_file = Some(folder.join(path));
    }

    fn list(&mut self, name: &str, text: &str, auth: AuthMethod) {
        let read = UsersFile::read(name, text, auth);
        Arc::make_mut(&mut self.config.pooler).users = read.users;
        self.config.warnings.extend(read.warnings);
        self.errors.extend(read.errors);
    }
}

/// Users and passwords as their sources say now.
pub(in crate::config) fn refreshed(config: &Config) -> Result<Config, Vec<Diagnostic>> {
    let mut new = config.clone();
    let folder = config.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let mut errors = Vec::new();
    let auth = asked_by(&new);
    let pooler = Arc::make_mut(&mut new.pooler);
    for source in &mut pooler.data_sources {
        if let Err(why) = obtain(source, folder) {
            errors.push(Diagnostic::new(&source.name, 0, "credentials", why));
        }
    }
    match config.auth_file.as_deref().and_then(Path::to_str).and_then(Source::parse).map(|s| s.read(folder)) {
        None => {}
        Some(Ok(text)) => {
            let read = UsersFile::read("auth_file", &text, auth);
            pooler.users = read.users;
            errors.extend(read.errors);
        }
        Some(Err(why)) => errors.push(Diagnostic::new("auth_file", 0, "", why)),
    }
    if errors.is_empty() { Ok(new) } else { Err(errors) }
}

/// What the users' secrets have to serve.
fn asked_by(config: &Config) -> AuthMethod {
    let scram = AuthMethod::ScramSha256;
    match &config.pooler.rules {
        Some(rules) if !rules.ask_by(scram) => AuthMethod::Md5,
        Some(_) => scram,
        None => config.pooler.auth,
    }
}

/// The user and the password of a data source, as their source says now, if they have one: both or neither.
fn obtain(source: &mut DataSource, folder: &Path) -> Result<(), String> {
    let Some(from) = source.credentials.as_ref().and_then(|text| Source::parse(&text.0)) else {
        return Ok(());
    };
    let (user, password) = sources::pair(&from.read(folder)?)?;
    if let Some(user) = user {
        source.user = Some(user);
    }
    source.password = Some(password);
    Ok(())
}
