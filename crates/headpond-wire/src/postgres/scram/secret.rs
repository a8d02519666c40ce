//! What a password becomes: the secret a server stores, and the keys a client proves it with.
//!
//! Both come from RFC 5802 section 3: `SaltedPassword` is PBKDF2 of the password, `ClientKey` and
//! `ServerKey` are HMACs under it, and `StoredKey` is the hash of `ClientKey`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use sha2::Sha256;
use stringprep::tables;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, Zeroizing};

use super::{Error, base64, hmac, iterations, key, redact, salt, sha256};

/// What the server role needs to know of a password: it lets a client in, and is of no use to log in.
///
/// `Display` and `FromStr` are PostgreSQL's stored form (`pg_authid.rolpassword`),
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. Reading it applies this module's
/// limits.
#[derive(Clone)]
pub struct StoredSecret {
    /// Rounds of PBKDF2: `1..=ITERATIONS_MAX` when read.
    pub iterations: u32,
    /// Drawn when the password was set.
    pub salt: Vec<u8>,
    /// Hash of the client key.
    pub stored_key: [u8; 32],
    /// What the server signs with.
    pub server_key: [u8; 32],
}

impl StoredSecret {
    /// The secret PostgreSQL would store for `password`. Slow by design: not for a worker's thread.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        let keys = ClientKeys::derive(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&keys.client_key),
            server_key: keys.server_key,
        }
    }

    /// Whether `keys`, made with its salt and iterations, are of the same password.
    pub fn is_opened_by(&self, keys: &ClientKeys) -> bool {
        sha256(&keys.client_key).ct_eq(&self.stored_key).into()
    }
}

impl PartialEq for StoredSecret {
    fn eq(&self, other: &Self) -> bool {
        let keys = self.stored_key.ct_eq(&other.stored_key) & self.server_key.ct_eq(&other.server_key);
        self.iterations == other.iterations && self.salt == other.salt && keys.into()
    }
}

impl Eq for StoredSecret {}

/// The text is not a stored secret of PostgreSQL's form. It is not repeated: it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSecret;

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not of the form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")
    }
}

impl std::error::Error for InvalidSecret {}

impl From<Error> for InvalidSecret {
    fn from(_: Error) -> Self {
        Self
    }
}

impl FromStr for StoredSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let rest = text.strip_prefix("SCRAM-SHA-256$").ok_or(InvalidSecret)?;
        let (cost, keys) = rest.split_once('$').ok_or(InvalidSecret)?;
        let (count, salt_text) = cost.split_once(':').ok_or(InvalidSecret)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(InvalidSecret)?;
        Ok(Self {
            iterations: iterations(count)?,
            salt: salt(salt_text)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

impl fmt::Display for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iterations, salt, stored_key, server_key } = self;
        let [salt, stored_key, server_key] = [base64(salt), base64(stored_key), base64(server_key)];
        write!(f, "SCRAM-SHA-256${iterations}:{salt}${stored_key}:{server_key}")
    }
}

/// A secret for a user that does not exist, so that a login as one looks and costs as any other.
///
/// The salt depends on `seed` and `user` alone. The seed is secret, and has to outlive restarts: a user
/// whose salt changes does not exist. It plays the part of PostgreSQL's mock authentication nonce.
/// The iterations are PostgreSQL's default; where the real secrets have others, set the field to theirs.
///
/// No login succeeds with it: nobody knows 32 bytes whose hash is all zeros.
pub fn mock_secret(seed: &[u8], user: &str) -> StoredSecret {
    let salt = hmac(seed, user).into_iter().take(16).collect();
    StoredSecret { iterations: 4096, salt, stored_key: [0; 32], server_key: [0; 32] }
}

/// What the client role needs to know of a password. As good as the password; wiped when dropped.
///
/// They work on every server that stores the same salt and iterations for that password.
#[derive(Clone)]
pub struct ClientKeys {
    /// What the client proves to know.
    pub client_key: [u8; 32],
    /// What the server's signature is checked with.
    pub server_key: [u8; 32],
}

impl ClientKeys {
    /// PBKDF2 and the keys below it. Slow by design: not for a worker's thread.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        let password = prepare(password);
        let salted =
            Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations));
        Self { client_key: hmac(&*salted, "Client Key"), server_key: hmac(&*salted, "Server Key") }
    }
}

impl Drop for ClientKeys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

/// SASLprep (RFC 4013) as PostgreSQL's `pg_saslprep` does it: a password that must not be prepared, or of
/// which nothing would be left, is taken as it is.
///
/// Not `stringprep::saslprep`: PostgreSQL looks for what is prohibited before it normalises, not after.
fn prepare(password: &str) -> Cow<'_, str> {
    let mapped = || {
        let spaced = password.chars().map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c });
        spaced.filter(|&c| !tables::commonly_mapped_to_nothing(c))
    };
    let right_to_left = |c: Option<char>| c.is_some_and(tables::bidi_r_or_al);
    let misdirected = mapped().any(tables::bidi_r_or_al)
        && (mapped().any(tables::bidi_l)
            || !right_to_left(mapped().next())
            || !right_to_left(mapped().next_back()));

    if password.is_ascii() || mapped().next().is_none() || mapped().any(prohibited) || misdirected {
        Cow::Borrowed(password)
    } else {
        Cow::Owned(mapped().nfkc().collect())
    }
}

/// RFC 4013 section 2.3 and, as passwords are stored, 2.5.
fn prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

redact!(StoredSecret, ClientKeys);
