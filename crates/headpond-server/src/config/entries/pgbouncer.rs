//! What the lines of a `pgbouncer.ini` mean here.

use std::path::Path;

use super::ini::{Line, Lines, unquote};
use super::spelling::did_you_mean;
use super::{At, Entries, Scope, scope};
use crate::config::pgbouncer_keys::{ANSWERS, Answers, DATABASE_ANSWERS, USER_ANSWERS, answer};
use crate::config::table::{Field, SETTINGS, Setting};
use crate::config::values::{Raw, echo};

/// Keys of PgBouncer's that are honoured, but not one to one by a setting of ours.
pub(in crate::config) const TRANSLATED: [&str; 2] = ["listen_addr", "listen_port"];
const SECTIONS: [&str; 5] = ["databases", "pgbouncer", "headpond", "users", "peers"];

/// Reads `text`; `name` stands in messages, included files are looked for in `folder`.
pub(in crate::config) fn from_ini(name: &str, text: &str, folder: &Path) -> Entries {
    let mut out = Entries { file: name.into(), ..Entries::default() };
    let lines = Lines::of(name, text, folder, &mut out);
    let start = At { file: name.into(), line: 0 };
    let mut reader = Reader { out, stated: Stated::default() };
    for line in &lines {
        reader.line(line);
    }
    reader.listen(&start);
    reader.auth_type(&start);
    reader.hosts();
    reader.out
}

struct Reader<'l> {
    out: Entries,
    stated: Stated<'l>,
}

/// Lines that mean something only together with others.
#[derive(Default)]
struct Stated<'l> {
    listen_addr: Option<&'l Line>,
    listen_port: Option<&'l Line>,
    /// Whether `[headpond]` says where to listen, and how clients log in.
    listen: bool,
    auth: bool,
    auth_type: Option<&'l Line>,
    socket_folder: Option<&'l Line>,
    /// For every data source whether it has a host.
    hosts: Vec<bool>,
}

impl<'l> Reader<'l> {
    fn line(&mut self, line: &'l Line) {
        match line.section.as_str() {
            "pgbouncer" => self.pgbouncer(line),
            "databases" => self.database(line),
            "headpond" => self.headpond(line),
            "users" => self.user(line),
            "peers" => {
                self.out.warn(&line.at, &line.key, "has no effect here: cancel requests need no peers")
            }
            other => {
                let meant = did_you_mean(other, SECTIONS.into_iter());
                self.out.error(
                    &line.at,
                    &line.key,
                    format!("stands in an unknown section, {}{meant}", echo(other)),
                );
            }
        }
    }

    fn pgbouncer(&mut self, line: &'l Line) {
        let key = line.key.as_str();
        match key {
            "listen_addr" => self.stated.listen_addr = Some(line),
            "listen_port" => self.stated.listen_port = Some(line),
            "auth_type" => self.stated.auth_type = Some(line),
            "unix_socket_dir" => self.stated.socket_folder = Some(line),
            _ => {}
        }
        if key == "server_check_query" {
            return self.check_query(line);
        }
        if TRANSLATED.contains(&key) || key == "auth_type" {
            return;
        }
        if let Some(setting) = SETTINGS.iter().find(|s| s.pgbouncer == key) {
            self.setting(&line.at, scope(setting), key, setting, &line.value);
        } else if let Some(advice) = answer(ANSWERS, key) {
            self.out.warn(&line.at, key, advice);
        } else {
            let ours =
                SETTINGS.iter().find(|s| s.name == key).map(|_| "; it belongs in [headpond]".to_owned());
            let names = SETTINGS.iter().map(|s| s.pgbouncer).filter(|n| !n.is_empty());
            let names =
                names.chain(TRANSLATED).chain(ANSWERS.iter().flat_map(|(keys, _)| keys.iter().copied()));
            let meant = ours.unwrap_or_else(|| did_you_mean(key, names));
            self.out.error(&line.at, key, format!("no such setting{meant}"));
        }
    }

    /// PgBouncer: nothing turns the test off, `<empty>` is an empty query.
    fn check_query(&mut self, line: &Line) {
        let (ours, value) = match line.value.as_str() {
            "" => ("check", "false"),
            "<empty>" => ("check_query", ""),
            query => ("check_query", query),
        };
        let Some(setting) = SETTINGS.iter().find(|s| s.name == ours) else { return };
        self.out.push(&line.at, scope(setting), &line.key, setting, Raw::Bare(value.to_owned()));
    }

    fn headpond(&mut self, line: &Line) {
        let of_all = |s: &&Setting| matches!(s.field, Field::Top(_) | Field::Pool(_));
        let Some(setting) = SETTINGS.iter().filter(of_all).find(|s| s.name == line.key) else {
            let meant = did_you_mean(&line.key, SETTINGS.iter().filter(of_all).map(|s| s.name));
            return self.out.error(&line.at, &line.key, format!("no such setting{meant}"));
        };
        self.stated.listen |= setting.name == "listen";
        self.stated.auth |= setting.name == "auth_type";
        self.out.push(&line.at, scope(setting), &line.key, setting, Raw::Bare(line.value.clone()));
    }

    fn database(&mut self, line: &'l Line) {
        let index = self.out.sources.len();
        // The last of several lines for one database counts; a nameless source takes the place of the others.
        if let Some(earlier) = self.out.sources.iter_mut().find(|(name, _)| *name == line.key) {
            let message = format!("stated again in {}, which counts", line.at.seen_from(&earlier.1));
            self.out.warnings.push(earlier.1.says(&line.key, message));
            earlier.0.clear();
        }
        self.out.sources.push((line.key.clone(), line.at.clone()));
        self.stated.hosts.push(false);
        for (key, value) in self.pairs(line) {
            self.stated.hosts[index] |= key == "host";
            if let Some(setting) = SETTINGS.iter().find(|s| s.database == key) {
                self.setting(&line.at, Scope::Source(index), key, setting, &value);
            } else {
                let names = SETTINGS.iter().map(|s| s.database).filter(|n| !n.is_empty());
                self.unknown(line, key, DATABASE_ANSWERS, names);
            }
        }
    }

    /// A line of `[users]`: of an application.
    fn user(&mut self, line: &'l Line) {
        let ours = || SETTINGS.iter().filter(|s| matches!(s.field, Field::Application(_)));
        for (key, value) in self.pairs(line) {
            if let Some(setting) = ours().find(|s| s.name == key) {
                let scope = Scope::Application(line.key.clone());
                self.out.push(&line.at, scope, key, setting, Raw::Bare(value));
            } else {
                self.unknown(line, key, USER_ANSWERS, ours().map(|s| s.name));
            }
        }
    }

    /// A key of PgBouncer's that does nothing here gets its answer; any other is an error.
    fn unknown(
        &mut self,
        line: &Line,
        key: &str,
        answers: Answers,
        ours: impl Iterator<Item = &'static str>,
    ) {
        if let Some(advice) = answer(answers, key) {
            return self.out.warn(&line.at, key, advice);
        }
        let names = ours.chain(answers.iter().flat_map(|(keys, _)| keys.iter().copied()));
        self.out.error(&line.at, key, format!("no such setting{}", did_you_mean(key, names)));
    }

    /// The pairs of a connection string, up to what is none.
    fn pairs(&mut self, line: &'l Line) -> Vec<(&'l str, String)> {
        let mut pairs = Vec::new();
        let mut rest = line.value.trim_start();
        while !rest.is_empty() {
            // The text is not repeated: it may hold a password.
            let Some((key, value, after)) = pair(rest) else {
                let right = "key=value, separated by spaces, values with spaces in single quotes";
                self.out.error(&line.at, &line.key, format!("not a connection string; {right}"));
                break;
            };
            pairs.push((key, value));
            rest = after.trim_start();
        }
        pairs
    }

    /// A value that PgBouncer knows and we do not gets its own answer.
    fn setting(&mut self, at: &At, scope: Scope, key: &str, setting: &'static Setting, value: &str) {
        let refusal = match key {
            "client_tls_protocols" | "server_tls_protocols" => {
                return self.protocols(at, scope, key, setting, value);
            }
            "default_pool_size" | "pool_size" if value == "0" => {
                "0 (no limit) is not supported; how many connections the database can spare"
            }
            "server_lifetime" if value.parse() == Ok(0.0) => {
                "0 (each connection used once) is not supported; a time in seconds, like 3600"
            }
            _ => return self.out.push(at, scope, key, setting, Raw::Bare(value.to_owned())),
        };
        self.out.error(at, key, refusal);
    }

    /// A list of versions of TLS, where we have a word for each set of them.
    fn protocols(&mut self, at: &At, scope: Scope, key: &str, setting: &'static Setting, value: &str) {
        let (mut old, mut new) = (false, [false; 2]);
        for word in value.split([',', ':']).map(str::trim) {
            match word.to_ascii_lowercase().as_str() {
                "all" | "legacy" => (old, new) = (true, [true; 2]),
                "secure" | "default" => new = [true; 2],
                "tlsv1.2" => new[0] = true,
                "tlsv1.3" => new[1] = true,
                "tlsv1.0" | "tlsv1.1" => old = true,
                _ => return self.out.push(at, scope, key, setting, Raw::Bare(value.to_owned())),
            }
        }
        let ours = match new {
            [true, true] => "secure",
            [true, false] => "tlsv1.2",
            [false, true] => "tlsv1.3",
            [false, false] => return self.out.error(at, key, "TLS 1.0 and 1.1 are not spoken; \"secure\""),
        };
        if old {
            self.out.warn(at, key, "TLS 1.0 and 1.1 are not spoken");
        }
        self.out.push(at, scope, key, setting, Raw::Bare(ours.to_owned()));
    }

    fn listen(&mut self, start: &At) {
        let Stated { listen_addr, listen_port, listen, .. } = self.stated;
        let port = listen_port.map_or("6432", |l| &l.value);
        if let (Some(line), Err(_)) = (listen_port, port.parse::<u16>()) {
            return self.out.error(
                &line.at,
                "listen_port",
                format!("{} is not a port; 1 to 65535", echo(port)),
            );
        }
        let addresses: Vec<_> =
            listen_addr.map(|l| l.value.split(',')).into_iter().flatten().map(str::trim).collect();
        let addresses: Vec<_> = addresses.into_iter().filter(|a| !a.is_empty()).collect();
        let at = listen_addr.or(listen_port).map_or(start, |l| &l.at);
        if addresses.is_empty() && !listen {
            let advice = format!("not set: listening on 127.0.0.1:{port} all the same");
            self.out.warn(at, "listen_addr", advice);
        } else if addresses.is_empty() {
            return;
        }
        let with_port =
            |a: &&str| if a.contains(':') { format!("[{a}]:{port}") } else { format!("{a}:{port}") };
        let mut list: Vec<_> = addresses.iter().map(with_port).collect();
        if list.is_empty() {
            list.push(format!("127.0.0.1:{port}"));
        }
        if let Some(setting) = SETTINGS.iter().find(|s| s.name == "listen") {
            self.out.push(at, Scope::Top, "listen_addr", setting, Raw::List(list));
        }
    }

    fn auth_type(&mut self, start: &At) {
        let line = self.stated.auth_type;
        if self.stated.auth && line.is_none() {
            return;
        }
        let at = line.map_or(start, |l| &l.at);
        let stated = line.map_or("md5", |l| &l.value);
        let ours = match stated.to_ascii_lowercase().as_str() {
            "any" => {
                self.out.warn(
                    at,
                    "auth_type",
                    "\"any\" is taken as \"trust\": each client keeps its own user name",
                );
                "trust"
            }
            "plain" => "password",
            method @ ("cert" | "ldap" | "pam") => {
                let message = format!(
                    "{method:?} is not supported yet; \"scram-sha-256\" with auth_file, or \"trust\""
                );
                return self.out.error(at, "auth_type", message);
            }
            _ => stated,
        };
        if let Some(setting) = SETTINGS.iter().find(|s| s.pgbouncer == "auth_type") {
            self.out.push(at, Scope::Top, "auth_type", setting, Raw::Bare(ours.to_owned()));
        }
    }

    /// A database without a host is reached through PgBouncer's folder of Unix sockets.
    fn hosts(&mut self) {
        let folder = self.stated.socket_folder.map_or("/tmp", |l| &l.value);
        let Some(setting) = SETTINGS.iter().find(|s| s.database == "host") else { return };
        for index in 0..self.stated.hosts.len() {
            let (name, at) = self.out.sources[index].clone();
            if self.stated.hosts[index] || name.is_empty() {
                continue;
            }
            if folder.starts_with('/') {
                self.out.push(&at, Scope::Source(index), "host", setting, Raw::Bare(folder.to_owned()));
            } else {
                let message = "has no host, and unix_socket_dir is not a folder; host=NAME";
                self.out.error(&at, &name, message);
            }
        }
    }
}

/// The first `key=value` of a connection string, and the rest: libpq's syntax with PgBouncer's doubled quotes.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (key, rest) = text.split_once('=')?;
    let (key, rest) = (key.trim_end(), rest.trim_start());
    // Anything else is a piece of a value without its quotes, perhaps of a password: not to be repeated as a key.
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix('\'') {
        return unquote(quoted, '\'').map(|(value, after)| (key, value, after));
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    (end > 0).then(|| (key, rest[..end].to_owned(), &rest[end..]))
}
