//! The users file, in PgBouncer's syntax: `"user" "secret"`, the rest of the line ignored.
//!
//! Secrets are passwords in clear or PostgreSQL's stored SCRAM secrets. Messages name users, never secrets.

use std::collections::BTreeMap;

use headpond_pooler::config::{Secret, User};
use headpond_wire::postgres::scram::StoredSecret;

use super::diagnostic::{At, Diagnostic};
use super::entries::unquote;

/// PostgreSQL's own number of iterations, and the length of its salts.
const ITERATIONS: u32 = 4096;
const SALT_LEN: usize = 16;

/// A users file, read.
#[derive(Default)]
pub(super) struct Users {
    pub(super) users: BTreeMap<String, User>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) errors: Vec<Diagnostic>,
}

impl Users {
    /// Reads `text`. The stored secret of a password in clear is derived if `derive` says so: it takes a
    /// millisecond per user, and nobody asks for it where clients are trusted.
    pub(super) fn read(file: &str, text: &str, derive: bool) -> Self {
        let mut out = Self::default();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let at = At { file: file.into(), line: index + 1 };
            let line = line.trim_start();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let Some((name, secret)) = pair(line) else {
                out.errors.push(at.says("", "not a user; \"name\" \"secret\", quotes inside doubled"));
                continue;
            };
            out.user(&at, name, secret, derive);
        }
        out
    }

    fn user(&mut self, at: &At, name: String, secret: String, derive: bool) {
        let user = if is_md5(&secret) {
            self.warnings.push(
                at.says(&name, "md5 secrets are not supported yet: give the password or a SCRAM secret"),
            );
            User::default()
        } else if secret.starts_with("SCRAM-SHA-256$") {
            if secret.parse::<StoredSecret>().is_err() {
                let right = "a value of pg_authid.rolpassword, SCRAM-SHA-256$4096:salt$StoredKey:ServerKey";
                return self.errors.push(at.says(&name, format!("broken SCRAM secret; {right}")));
            }
            User { scram: Some(secret), password: None }
        } else if secret.is_empty() {
            // PgBouncer's way to list a user who cannot log in with a password.
            User::default()
        } else {
            let scram = match derive.then(|| stored(&secret)).transpose() {
                Ok(scram) => scram,
                Err(why) => return self.errors.push(at.says(&name, format!("no random salt: {why}"))),
            };
            User { scram, password: Some(Secret(secret)) }
        };
        if self.users.insert(name.clone(), user).is_some() {
            self.warnings.push(at.says(&name, "stated twice: the last line counts"));
        }
    }
}

fn stored(password: &str) -> Result<String, getrandom::Error> {
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt)?;
    Ok(StoredSecret::derive(password, &salt, ITERATIONS).to_string())
}

fn is_md5(secret: &str) -> bool {
    secret
        .strip_prefix("md5")
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn pair(line: &str) -> Option<(String, String)> {
    let (name, rest) = unquote(line.strip_prefix('"')?, '"')?;
    let (secret, _) = unquote(rest.trim_start().strip_prefix('"')?, '"')?;
    (!name.is_empty() && !name.contains('\0') && !secret.contains('\0')).then_some((name, secret))
}
