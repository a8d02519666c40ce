//! Who may log in, and by which secrets.

use std::collections::BTreeMap;

use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::{StoredSecret, mock_secret};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::{AuthMethod, Secret};

/// PostgreSQL's own number of iterations.
const ITERATIONS: u32 = 4096;

/// The secrets of a user. Without any, the user is known but cannot log in with a password.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct User {
    /// The password in clear: it serves every method, on both legs.
    pub password: Option<Secret>,
    /// Serves md5 on both legs. Of a password in clear there is one too.
    pub md5: Option<Md5Secret>,
    /// Lets clients in by SCRAM-SHA-256. Of a password in clear there is one where clients are asked for it.
    pub scram: Option<StoredSecret>,
}

impl User {
    /// A user of whom PostgreSQL or a file has this secret: a password in clear, md5, SCRAM, or nothing. `None`: it is
    /// broken. Of a password in clear no SCRAM secret is derived, for that takes a millisecond.
    #[must_use]
    pub fn of(name: &str, secret: &str) -> Option<Self> {
        if secret.is_empty() {
            return Some(Self::default());
        }
        if let Ok(md5) = secret.parse() {
            return Some(Self { md5: Some(md5), ..Self::default() });
        }
        if secret.starts_with("SCRAM-SHA-256$") {
            let scram = secret.parse().ok()?;
            return Some(Self { scram: Some(scram), ..Self::default() });
        }
        let md5 = Some(Md5Secret::derive(secret.as_bytes(), name));
        Some(Self { password: Some(Secret(secret.to_owned())), md5, scram: None })
    }

    /// The secret is a stored SCRAM secret and nothing else: only a derivation shows whether a password is right.
    fn has_only_scram(&self) -> bool {
        self.scram.is_some() && self.md5.is_none()
    }
}

/// The users by name, and how those who do not exist are made to look.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Users {
    by_name: BTreeMap<String, User>,
    mix: Mix,
}

/// What users are like, so that those who do not exist can be made to look like them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Mix {
    /// How many can log in at all, and how many of them have nothing but a stored SCRAM secret.
    with_secret: u32,
    only_scram: u32,
    /// Iterations of a SCRAM secret of theirs.
    iterations: Option<u32>,
}

impl Mix {
    /// Of a server as it is installed.
    pub(crate) fn usual() -> Self {
        Self { with_secret: 1, only_scram: 1, iterations: None }
    }

    pub(crate) fn count(&mut self, user: &User) {
        if self.with_secret == u32::MAX {
            (self.with_secret, self.only_scram) = (self.with_secret / 2, self.only_scram / 2);
        }
        self.with_secret += u32::from(user.scram.is_some() || user.md5.is_some());
        self.only_scram += u32::from(user.has_only_scram());
        self.iterations = self.iterations.or(user.scram.as_ref().map(|secret| secret.iterations));
    }

    fn discount(&mut self, user: &User) {
        self.with_secret -= u32::from(user.scram.is_some() || user.md5.is_some());
        self.only_scram -= u32::from(user.has_only_scram());
    }
}

impl Users {
    /// Adds a user; returns who had the name.
    pub fn insert(&mut self, name: String, user: User) -> Option<User> {
        self.mix.count(&user);
        let before = self.by_name.insert(name, user);
        if let Some(before) = &before {
            self.mix.discount(before);
        }
        before
    }

    /// The user of this name, and what the others are like.
    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        Found { user: self.get(name), mix: self.mix }
    }

    /// The user of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// All names, in their order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// A user, listed or looked up, if there is one, and what the others are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'u> {
    pub(crate) user: Option<&'u User>,
    pub(crate) mix: Mix,
}

impl Found<'_> {
    /// What a client who says to be `name` is measured by, for a method: the secret of its user, or one that nobody
    /// knows. What unknown users are asked for has among them the frequency that it has among known ones, so the
    /// question does not tell who exists. The same work is done for all.
    pub(crate) fn measure(&self, method: AuthMethod, name: &str, seed: &[u8]) -> Measure {
        let noise = noise(seed, name);
        let [a, b, c, d, ..] = noise;
        let mut mock_scram = mock_secret(seed, name);
        mock_scram.iterations = self.mix.iterations.unwrap_or(ITERATIONS);
        let mock_md5 = Md5Secret::mock(noise);
        let known = self.user.filter(|user| user.scram.is_some() || user.md5.is_some());
        let by_scram = known.map_or_else(
            || u32::from_be_bytes([a, b, c, d]) % self.mix.with_secret.max(1) < self.mix.only_scram,
            User::has_only_scram,
        );
        let scram = known.and_then(|user| user.scram.clone()).unwrap_or(mock_scram);
        let md5 = known.and_then(|user| user.md5.clone()).unwrap_or(mock_md5);
        match method {
            AuthMethod::ScramSha256 => Measure::Scram(scram),
            _ if by_scram => Measure::Scram(scram),
            _ => Measure::Md5(md5, known.and_then(|user| user.password.clone())),
        }
    }
}

/// What a client is measured by.
pub(crate) enum Measure {
    Scram(StoredSecret),
    /// The hash, and the password in clear where it is known.
    Md5(Md5Secret, Option<Secret>),
}

fn noise(seed: &[u8], name: &str) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(seed).unwrap_or_else(|_| unreachable!("any length fits"));
    mac.update(b"who is not there");
    mac.update(name.as_bytes());
    let mut noise = [0; 16];
    noise.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(noise, byte)| *noise = byte);
    noise
}
