//! The client role: Headpond logs in to a server.

use subtle::ConstantTimeEq;

use super::{
    Binding, ClientKeys, Error, GS2_BOUND, base64, hmac, iterations, key, nonce, redact, salt, sha256, text,
    value, xor,
};

/// An exchange whose client-first-message was made, and which waits for the server-first-message.
#[derive(Debug)]
pub struct ClientRole {
    nonce: String,
    /// client-first-message-bare
    bare: String,
    /// What `c=` will be.
    repeated: String,
}

impl ClientRole {
    /// Begins an exchange that cannot be bound with the client-first-message (RFC 5802 section 5).
    ///
    /// `nonce` is printable ASCII without commas, and fresh for every login: libpq draws 18 bytes and takes
    /// their base64. The user name is left empty, as PostgreSQL's documentation asks.
    pub fn new(nonce: &str) -> (Self, Vec<u8>) {
        Self::with_user("", nonce, Binding::None)
    }

    /// As [`ClientRole::new`], over a channel that the login may be bound to.
    pub fn bound(nonce: &str, binding: Binding<'_>) -> (Self, Vec<u8>) {
        Self::with_user("", nonce, binding)
    }

    pub(super) fn with_user(user: &str, nonce: &str, binding: Binding<'_>) -> (Self, Vec<u8>) {
        debug_assert!(super::nonce(nonce).is_ok() && !nonce.contains(','));
        let header = match binding {
            Binding::None => "n,,",
            Binding::Declined => "y,,",
            Binding::EndPoint(_) => GS2_BOUND,
        };
        let bare = format!("n={user},r={nonce}");
        let client_first = format!("{header}{bare}").into_bytes();
        (Self { nonce: nonce.to_owned(), bare, repeated: binding.repeated(header) }, client_first)
    }

    /// Reads the server-first-message: the salt and iterations the keys have to be made with.
    ///
    /// As in libpq, nothing follows the iterations.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenge, Error> {
        let server_first = text(server_first)?;
        let mut fields = server_first.split(',');
        let nonce = nonce(value(fields.next(), "r=")?)?;
        let salt = salt(value(fields.next(), "s=")?)?;
        let iterations = iterations(value(fields.next(), "i=")?)?;
        if fields.next().is_some() {
            return Err(Error::Malformed);
        }
        if nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(Error::NonceMismatch);
        }

        let without_proof = format!("c={},r={nonce}", self.repeated);
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        Ok(Challenge { salt, iterations, without_proof, auth_message })
    }
}

/// A server's challenge, which waits for the keys that answer it.
#[derive(Debug)]
pub struct Challenge {
    /// The salt the server stores for this user: 1 to `SALT_LEN_MAX` bytes.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2: `1..=ITERATIONS_MAX`.
    pub iterations: u32,
    /// client-final-message-without-proof
    without_proof: String,
    auth_message: String,
}

impl Challenge {
    /// Makes the client-final-message, and what will check the server's answer to it.
    pub fn respond(self, keys: &ClientKeys) -> (Vec<u8>, Verifier) {
        let signature = hmac(&sha256(&keys.client_key), &self.auth_message);
        let proof = base64(xor(keys.client_key, signature));
        let client_final = format!("{},p={proof}", self.without_proof).into_bytes();
        (client_final, Verifier { signature: hmac(&keys.server_key, &self.auth_message) })
    }
}

/// Knows the signature by which the server proves to know the secret too.
pub struct Verifier {
    signature: [u8; 32],
}

impl Verifier {
    /// Checks the server-final-message. A server that fails here must not be used, whatever it says next.
    pub fn verify(self, server_final: &[u8]) -> Result<(), Error> {
        let message = text(server_final)?;
        if let Some(error) = message.strip_prefix("e=") {
            return Err(Error::Server(error.to_owned()));
        }
        let signature = key(value(Some(message), "v=")?)?;
        if bool::from(signature.ct_eq(&self.signature)) { Ok(()) } else { Err(Error::WrongServerSignature) }
    }
}

redact!(Verifier);
