//! The users file, in PgBouncer's syntax: `"user" "secret"`, the rest of the line ignored.
//!
//! Secrets are passwords in clear, or what PostgreSQL stores of them: md5 or SCRAM. Messages name users, never secrets.

use std::sync::OnceLock;

use headpond_pooler::config::{AuthMethod, User, Users};
use headpond_wire::postgres::scram::{StoredSecret, mock_secret};

use super::diagnostic::{At, Diagnostic};
use super::entries::unquote;

/// A users file, read.
#[derive(Default)]
pub(crate) struct UsersFile {
    pub(crate) users: Users,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) errors: Vec<Diagnostic>,
}

impl UsersFile {
    /// Reads `text`. Of a password in clear a SCRAM secret is derived only if `auth` asks for one: it takes a
    /// millisecond per user.
    pub(crate) fn read(file: &str, text: &str, auth: AuthMethod) -> Self {
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
            out.user(&at, name, secret, auth);
        }
        out
    }

    fn user(&mut self, at: &At, name: String, secret: String, auth: AuthMethod) {
        let by_scram = auth == AuthMethod::ScramSha256;
        // An empty secret is PgBouncer's way to list a user who cannot log in with a password.
        let Some(mut user) = User::of(&name, &secret) else {
            let right = "a value of pg_authid.rolpassword, SCRAM-SHA-256$4096:salt$StoredKey:ServerKey";
            return self.errors.push(at.says(&name, format!("broken SCRAM secret; {right}")));
        };
        if by_scram && user.password.is_some() {
            match stored(&name, &secret) {
                Ok(scram) => user.scram = Some(scram),
                Err(why) => return self.errors.push(at.says(&name, format!("no random salt: {why}"))),
            }
        } else if by_scram && user.md5.is_some() {
            let advice = "cannot log in: scram-sha-256 is asked for, and this is an md5 secret";
            self.warnings.push(at.says(&name, advice));
        }
        if self.users.insert(name.clone(), user).is_some() {
            self.warnings.push(at.says(&name, "stated twice: the last line counts"));
        }
    }
}

/// The SCRAM secret of a password in clear. Its salt stays the same as long as this process runs: at a reload the
/// salts of users who do not exist do not change either.
fn stored(name: &str, password: &str) -> Result<StoredSecret, getrandom::Error> {
    static SEED: OnceLock<[u8; 32]> = OnceLock::new();
    let mut drawn = [0; 32];
    getrandom::fill(&mut drawn)?;
    let pattern = mock_secret(SEED.get_or_init(|| drawn), name);
    Ok(StoredSecret::derive(password, &pattern.salt, pattern.iterations))
}

fn pair(line: &str) -> Option<(String, String)> {
    let (name, rest) = unquote(line.strip_prefix('"')?, '"')?;
    let (secret, _) = unquote(rest.trim_start().strip_prefix('"')?, '"')?;
    (!name.is_empty() && !name.contains('\0') && !secret.contains('\0')).then_some((name, secret))
}
