//! Where one message ends and the next begins.
//!
//! After the startup packet every message is a tag, a length that counts itself but not the tag, and a body
//! (<https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS>).
//! Only headers are looked at; bodies pass by.

/// A message of up to this many bytes, header included, is held back until it is whole; a larger one streams.
pub const WHOLE_MAX: usize = 64 * 1024;

/// Bytes of a tag and a length.
pub const HEADER: usize = 5;

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of message.
    pub tag: u8,
    /// Bytes of the whole message, header included: at least [`HEADER`].
    pub size: usize,
}

/// A length that no message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength(pub u32);

/// The header at the beginning of `bytes`; `None` if there are too few yet.
///
/// # Errors
/// A length below 4 (it counts itself) or above 2^31 − 1.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, BadLength> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=0x7fff_ffff).contains(&length) {
        return Err(BadLength(length));
    }
    Ok(Some(Header { tag, size: length as usize + 1 }))
}

/// What the beginning of `bytes` is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole message.
    Whole(Header),
    /// The beginning of a message too large to be held: it streams.
    Begun(Header),
    /// Not enough yet.
    More,
}

/// Classifies the beginning of `bytes`.
///
/// # Errors
/// As [`header`].
#[inline]
pub fn next(bytes: &[u8]) -> Result<Next, BadLength> {
    Ok(match header(bytes)? {
        Some(header) if header.size <= bytes.len() => Next::Whole(header),
        Some(header) if header.size > WHOLE_MAX => Next::Begun(header),
        _ => Next::More,
    })
}

/// Reads a body field by field; every read past the end is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// A string up to its zero byte, which is consumed.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (string, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        Some(string)
    }

    /// A number of 32 bits.
    pub fn int32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }
}
