//! SCRAM-SHA-256 for both roles: Headpond as the server of a client, and as the client of a server.
//!
//! RFC 5802 defines the exchange, RFC 7677 its SHA-256 form, and PostgreSQL's "SASL Authentication"
//! (<https://www.postgresql.org/docs/current/sasl-authentication.html>) how its messages travel.
//! The machines take and give the bytes inside the SASL messages: they know no framing. Nonces come as arguments, since nothing here is random. No secret is shown by
//! `Debug` or compared in a time that depends on it.
//!
//! Where the RFCs leave room, PostgreSQL decides. Stricter than PostgreSQL: a list of attributes
//! does not end in a comma, and numbers and base64 have one spelling only.

mod client;
mod secret;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub use client::{Challenge, ClientRole, Verifier};
pub use secret::{ClientKeys, InvalidSecret, StoredSecret, mock_secret};
pub use server::{Finished, ServerRole};

/// The longest message either role reads: PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`.
pub const MESSAGE_LEN_MAX: usize = 1024;
/// The longest nonce accepted from a peer; PostgreSQL and libpq draw 24 characters each.
pub const NONCE_LEN_MAX: usize = 256;
/// The longest salt accepted, in bytes; PostgreSQL draws 16.
pub const SALT_LEN_MAX: usize = 256;
/// The most iterations accepted, so that a hostile server cannot spend our processor without limit.
///
/// PostgreSQL's default is 4096, and advice on PBKDF2 with SHA-256 has reached 600,000; this many cost
/// below a second of one core. As in PostgreSQL, one is the fewest.
pub const ITERATIONS_MAX: u32 = 1_000_000;

// `r=<nonce>,s=<salt>,i=<iterations>` at every limit is still a message.
const _: () = assert!(9 + NONCE_LEN_MAX + SALT_LEN_MAX.div_ceil(3) * 4 + 7 <= MESSAGE_LEN_MAX);

/// The mechanism that binds nothing.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism that binds the login to the TLS connection it runs in.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// How a login is bound to the channel it runs in (RFC 5802 section 6). The only kind of binding is
/// `tls-server-end-point` (RFC 5929 section 4), as in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// It cannot be: there is no TLS, or its certificate has no hash to bind to.
    None,
    /// It could be, and is not. As the client: the server does not offer it. As the server: it was offered, so a
    /// client that saw no offer was lied to.
    Declined,
    /// `SCRAM-SHA-256-PLUS`, to this hash of the server's certificate.
    EndPoint(&'a [u8]),
}

/// The gs2 header that asks for a binding.
const GS2_BOUND: &str = "p=tls-server-end-point,,";

impl Binding<'_> {
    /// What `c=` repeats of a binding that was asked for: header, and what is bound to.
    fn repeated(self, header: &str) -> String {
        match self {
            Self::None | Self::Declined => base64(header),
            Self::EndPoint(hash) => base64([header.as_bytes(), hash].concat()),
        }
    }
}

/// Why an exchange ended without a login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The message breaks the grammar of RFC 5802 section 7.
    Malformed,
    /// A message, nonce, salt or iteration count is beyond this module's limits.
    Limit,
    /// The client asks for channel binding (`p=`), which SCRAM-SHA-256 without PLUS does not have.
    ChannelBindingRequested,
    /// The client chose PLUS, and then asks for no channel binding.
    ChannelBindingMissing,
    /// The client could bind channels and saw no offer to (`y`), though there was one: someone took it away.
    ChannelBindingDowngraded,
    /// The client wants another kind of channel binding than `tls-server-end-point`.
    ChannelBindingType,
    /// The client's `c=` does not repeat its gs2 header and what it bound to: someone may have changed the offer, or
    /// stands between client and server.
    ChannelBindingMismatch,
    /// The client asks to act as another user (`a=`); PostgreSQL does not support that either.
    AuthorizationIdentity,
    /// The peer demands an extension (`m=`), and RFC 5802 section 5.1 has us refuse any.
    MandatoryExtension,
    /// The peer's nonce does not continue the nonces sent so far.
    NonceMismatch,
    /// The client does not know the password, or there is no such user.
    WrongProof,
    /// The server does not know the secret: it may not be the server we think.
    WrongServerSignature,
    /// The server ended the exchange with this `e=` value (RFC 5802 section 7, server-error).
    Server(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed SCRAM message",
            Self::Limit => "SCRAM message, nonce, salt or iteration count beyond the limits",
            Self::ChannelBindingRequested => {
                "client selected SCRAM-SHA-256 without channel binding, but asks for channel binding"
            }
            Self::ChannelBindingMissing => {
                "client selected SCRAM-SHA-256-PLUS, but asks for no channel binding"
            }
            Self::ChannelBindingDowngraded => {
                "client supports SCRAM channel binding and saw no offer of it, though there was one"
            }
            Self::ChannelBindingType => "unsupported SCRAM channel-binding type",
            Self::ChannelBindingMismatch => "SCRAM channel binding check failed",
            Self::AuthorizationIdentity => "SCRAM authorization identities are not supported",
            Self::MandatoryExtension => "peer requires an unsupported SCRAM extension",
            Self::NonceMismatch => "SCRAM nonce does not match",
            Self::WrongProof => "password authentication failed",
            Self::WrongServerSignature => "server does not know the password it checks",
            Self::Server(value) => return write!(f, "server refused the SCRAM exchange: {value:?}"),
        })
    }
}

impl std::error::Error for Error {}

/// A message as text: short enough, UTF-8, no NUL.
fn text(message: &[u8]) -> Result<&str, Error> {
    if message.len() > MESSAGE_LEN_MAX {
        return Err(Error::Limit);
    }
    std::str::from_utf8(message).ok().filter(|text| !text.contains('\0')).ok_or(Error::Malformed)
}

/// The value of `field`, which must be the attribute `name` (`"r="`; RFC 5802 section 5.1).
fn value<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, Error> {
    let field = field.ok_or(Error::Malformed)?;
    let other = if field.starts_with("m=") { Error::MandatoryExtension } else { Error::Malformed };
    field.strip_prefix(name).ok_or(other)
}

/// Passes over the optional extensions that end a client's message; none is known.
fn skip_extensions<'a>(mut fields: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    fields.try_for_each(|field| match field.as_bytes() {
        [b'm', b'=', ..] => Err(Error::MandatoryExtension),
        [name, b'=', ..] if name.is_ascii_alphabetic() => Ok(()),
        _ => Err(Error::Malformed),
    })
}

/// A peer's nonce: printable ASCII (RFC 5802 section 7; a comma cannot be inside a field).
fn nonce(value: &str) -> Result<&str, Error> {
    match value.len() {
        0 => Err(Error::Malformed),
        _ if !value.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Error::Malformed),
        1..=NONCE_LEN_MAX => Ok(value),
        _ => Err(Error::Limit),
    }
}

fn salt(value: &str) -> Result<Vec<u8>, Error> {
    let salt = BASE64_STANDARD.decode(value).map_err(|_| Error::Malformed)?;
    match salt.len() {
        0 => Err(Error::Malformed),
        1..=SALT_LEN_MAX => Ok(salt),
        _ => Err(Error::Limit),
    }
}

/// A posit-number of RFC 5802 section 7: no sign and no leading zero.
fn iterations(value: &str) -> Result<u32, Error> {
    if value.is_empty() || value.starts_with('0') || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Malformed);
    }
    value.parse().ok().filter(|&count| count <= ITERATIONS_MAX).ok_or(Error::Limit)
}

/// A key, proof or signature in base64.
fn key(value: &str) -> Result<[u8; 32], Error> {
    BASE64_STANDARD.decode(value).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(Error::Malformed)
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn sha256(bytes: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hmac(key: &[u8], message: impl AsRef<[u8]>) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

/// Turns a key into a proof, or a proof back into the key (RFC 5802 section 3).
fn xor(mut left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}

/// `Debug` that shows the type's name and nothing else.
macro_rules! redact {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
use redact;
