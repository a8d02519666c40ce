//! What a server says while it lets somebody in, and when something fails.

use super::frame::Fields;

/// An authentication request (`AuthenticationOk` and its kin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The login is done.
    Ok,
    /// The password, in clear.
    CleartextPassword,
    /// The password, hashed with this salt.
    Md5Password([u8; 4]),
    /// SASL by one of these mechanisms, each ended by a zero byte.
    Sasl(&'a [u8]),
    /// The server's SASL challenge.
    SaslContinue(&'a [u8]),
    /// The server's SASL outcome.
    SaslFinal(&'a [u8]),
    /// A method by its number.
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of a message `R`; `None` if it is cut short.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut body = Fields(body);
        Some(match body.int32()? {
            0 => Self::Ok,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password(*body.0.first_chunk()?),
            10 => Self::Sasl(body.0),
            11 => Self::SaslContinue(body.0),
            12 => Self::SaslFinal(body.0),
            other => Self::Other(other),
        })
    }

    /// Whether a server that sent this list of mechanisms offers `wanted`.
    #[must_use]
    pub fn offers(mechanisms: &[u8], wanted: &str) -> bool {
        mechanisms.split(|byte| *byte == 0).any(|name| name == wanted.as_bytes())
    }
}

/// The fields of an error or notice that a pooler looks at; absent ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// The severity that is never translated: ERROR, FATAL, PANIC, …
    pub severity: String,
    /// The five letters and digits of its class.
    pub sqlstate: String,
    /// The text for people.
    pub message: String,
}

impl ErrorFields {
    /// Reads the body of a message `E` or `N`; stops at the first thing it does not understand.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let mut fields = Self::default();
        let mut body = Fields(body);
        while let Some(kind) = body.byte() {
            let Some(value) = body.string() else { break };
            let value = || String::from_utf8_lossy(value).into_owned();
            match kind {
                b'V' => fields.severity = value(),
                b'S' if fields.severity.is_empty() => fields.severity = value(),
                b'C' => fields.sqlstate = value(),
                b'M' => fields.message = value(),
                _ => {}
            }
        }
        fields
    }

    /// Whether the server ends the connection after it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}
