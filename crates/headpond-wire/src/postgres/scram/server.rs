//! The server role: Headpond checks that a client knows its password.

use subtle::ConstantTimeEq;

use super::{
    Binding, ClientKeys, Error, StoredSecret, base64, hmac, key, nonce, redact, sha256, skip_extensions,
    text, value, xor,
};

/// An exchange whose server-first-message was made, and which waits for the client-final-message.
pub struct ServerRole {
    /// What `c=` must be: the gs2 header the client began with and what it is bound to, in base64.
    channel_binding: String,
    /// The client's nonce and ours.
    nonce: String,
    /// client-first-message-bare `,` server-first-message
    auth_message: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl ServerRole {
    /// As [`ServerRole::first_bound`], where PLUS was not offered.
    pub fn first(
        client_first: &[u8],
        server_nonce: &str,
        secret: &StoredSecret,
    ) -> Result<(Self, Vec<u8>), Error> {
        Self::first_bound(client_first, server_nonce, secret, Binding::None)
    }

    /// Answers the client-first-message with the server-first-message (RFC 5802 section 5).
    ///
    /// `server_nonce` is printable ASCII without commas, and fresh for every login: PostgreSQL draws 18
    /// bytes and takes their base64. The user name in the message is ignored, since PostgreSQL's startup
    /// packet has named the user. A client that could bind channels but saw no offer (`y`) is as
    /// welcome as one that cannot (`n`), unless there was an offer.
    pub fn first_bound(
        client_first: &[u8],
        server_nonce: &str,
        secret: &StoredSecret,
        binding: Binding<'_>,
    ) -> Result<(Self, Vec<u8>), Error> {
        debug_assert!(nonce(server_nonce).is_ok() && !server_nonce.contains(','));
        let mut parts = text(client_first)?.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Malformed);
        };
        match (flag, binding) {
            ("n", Binding::None | Binding::Declined) | ("y", Binding::None) => {}
            ("p=tls-server-end-point", Binding::EndPoint(_)) => {}
            ("y", Binding::Declined) => return Err(Error::ChannelBindingDowngraded),
            ("n" | "y", Binding::EndPoint(_)) => return Err(Error::ChannelBindingMissing),
            _ if !flag.starts_with("p=") => return Err(Error::Malformed),
            (_, Binding::EndPoint(_)) => return Err(Error::ChannelBindingType),
            _ => return Err(Error::ChannelBindingRequested),
        }
        match authzid {
            "" => {}
            _ if authzid.starts_with("a=") => return Err(Error::AuthorizationIdentity),
            _ => return Err(Error::Malformed),
        }

        let mut fields = bare.split(',');
        value(fields.next(), "n=")?;
        let client_nonce = nonce(value(fields.next(), "r=")?)?;
        skip_extensions(fields)?;

        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={}", base64(&secret.salt), secret.iterations);
        let role = Self {
            channel_binding: binding.repeated(&format!("{flag},,")),
            nonce,
            auth_message: format!("{bare},{server_first}"),
            stored_key: secret.stored_key,
            server_key: secret.server_key,
        };
        Ok((role, server_first.into_bytes()))
    }

    /// Checks the client-final-message; the client is logged in if this succeeds.
    pub fn finish(self, client_final: &[u8]) -> Result<Finished, Error> {
        let (without_proof, proof) = text(client_final)?.rsplit_once(",p=").ok_or(Error::Malformed)?;
        let mut fields = without_proof.split(',');
        if value(fields.next(), "c=")? != self.channel_binding {
            return Err(Error::ChannelBindingMismatch);
        }
        if value(fields.next(), "r=")? != self.nonce {
            return Err(Error::NonceMismatch);
        }
        skip_extensions(fields)?;

        let auth_message = format!("{},{without_proof}", self.auth_message);
        let keys = ClientKeys {
            client_key: xor(key(proof)?, hmac(&self.stored_key, &auth_message)),
            server_key: self.server_key,
        };
        if !bool::from(sha256(&keys.client_key).ct_eq(&self.stored_key)) {
            return Err(Error::WrongProof);
        }
        let message = format!("v={}", base64(hmac(&self.server_key, &auth_message))).into_bytes();
        Ok(Finished { message, keys })
    }
}

/// A good login.
pub struct Finished {
    /// The server-final-message.
    pub message: Vec<u8>,
    /// What the client's proof gave away: with it Headpond can log in to a server as this client, if that
    /// server holds the same [`StoredSecret`].
    pub keys: ClientKeys,
}

redact!(ServerRole, Finished);
