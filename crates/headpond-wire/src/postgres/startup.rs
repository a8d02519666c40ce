//! The first packet of a connection
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>, `StartupMessage`, `SSLRequest`,
//! `GSSENCRequest`, `CancelRequest`).

use super::frame::Fields;

/// PostgreSQL refuses larger ones too (`MAX_STARTUP_PACKET_LENGTH`).
pub const PACKET_MAX: usize = 10_000;

/// Newest minor version of protocol 3 that is spoken.
pub const NEWEST_MINOR: u16 = 2;

/// Longest secret of a cancel key (protocol 3.2).
pub const KEY_MAX: usize = 256;

/// The first byte of a TLS handshake, which no first packet begins with: it would be far too long.
pub const TLS_HANDSHAKE: u8 = 0x16;

/// What both sides call the protocol inside TLS (ALPN), when it begins without a request for TLS.
pub const ALPN: &[u8] = b"postgresql";

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Asks for TLS.
    Ssl,
    /// Asks for GSSAPI encryption.
    GssEnc,
    /// Asks to cancel what another connection runs.
    Cancel {
        /// Process id of that connection.
        process: u32,
        /// Its secret.
        key: &'a [u8],
    },
    /// Wants to log in.
    Startup(Startup<'a>),
}

/// A login's first words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup<'a> {
    /// Minor version of protocol 3 asked for.
    pub minor: u16,
    /// Names and values in their order, `user` and `database` included.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// Why a first packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a length, or not a shape, that a first packet can have.
    Malformed,
    /// Another major version of the protocol.
    Version {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// A name or value that is not UTF-8.
    Encoding,
}

/// The first packet in `bytes` and its size; `None` if it is not whole yet.
///
/// # Errors
/// See [`Error`].
pub fn packet(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Error> {
    let mut head = Fields(bytes);
    let Some(length) = head.int32() else { return Ok(None) };
    let length = length as usize;
    if !(8..=PACKET_MAX).contains(&length) {
        return Err(Error::Malformed);
    }
    let Some(body) = bytes.get(4..length) else { return Ok(None) };
    let mut body = Fields(body);
    let packet = match body.int32().ok_or(Error::Malformed)? {
        SSL => Packet::Ssl,
        GSSENC => Packet::GssEnc,
        CANCEL => {
            let process = body.int32().ok_or(Error::Malformed)?;
            if body.0.is_empty() || body.0.len() > KEY_MAX {
                return Err(Error::Malformed);
            }
            Packet::Cancel { process, key: body.0 }
        }
        version => Packet::Startup(startup(version, body)?),
    };
    Ok(Some((packet, length)))
}

fn startup(version: u32, mut body: Fields<'_>) -> Result<Startup<'_>, Error> {
    let [a, b, c, d] = version.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if major != 3 {
        return Err(Error::Version { major, minor });
    }
    let mut parameters = Vec::new();
    loop {
        let name = text(body.string().ok_or(Error::Malformed)?)?;
        if name.is_empty() {
            break;
        }
        parameters.push((name, text(body.string().ok_or(Error::Malformed)?)?));
    }
    if body.0.is_empty() { Ok(Startup { minor, parameters }) } else { Err(Error::Malformed) }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Encoding)
}

/// Appends a startup packet of protocol 3.0.
pub fn encode<'a>(out: &mut Vec<u8>, parameters: impl Iterator<Item = (&'a str, &'a str)>) {
    packet_of(out, 0x0003_0000, |out| {
        for (name, value) in parameters {
            for text in [name, value] {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        }
        out.push(0);
    });
}

/// Appends a request for TLS: one byte answers it.
pub fn encode_ssl_request(out: &mut Vec<u8>) {
    packet_of(out, SSL, |_| {});
}

/// Appends a cancel request.
pub fn encode_cancel(out: &mut Vec<u8>, process: u32, key: &[u8]) {
    packet_of(out, CANCEL, |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(key);
    });
}

fn packet_of(out: &mut Vec<u8>, code: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&code.to_be_bytes());
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
