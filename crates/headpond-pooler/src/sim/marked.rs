//! Bytes that remember on whose account they travel.

/// A client by its number, or one of the two below.
pub(crate) type Origin = u16;
/// The pooler's own requests, and the answers to them: no client ever sees the latter.
pub(crate) const POOLER: Origin = 0;
/// What any client may see: asynchronous messages of a server, and words of the pooler itself.
pub(crate) const ANYONE: Origin = u16::MAX;

#[derive(Clone, Debug, Default)]
pub(crate) struct Marked {
    pub(crate) bytes: Vec<u8>,
    pub(crate) origins: Vec<Origin>,
}

impl Marked {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn push(&mut self, origin: Origin, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.origins.resize(self.bytes.len(), origin);
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.origins.extend_from_slice(&other.origins);
    }

    pub(crate) fn range(&self, from: usize, len: usize) -> Self {
        Self {
            bytes: self.bytes[from..from + len].to_vec(),
            origins: self.origins[from..from + len].to_vec(),
        }
    }

    /// Takes up to `count` bytes from the front.
    pub(crate) fn take(&mut self, count: usize) -> Self {
        let count = count.min(self.len());
        if count == self.len() {
            return std::mem::take(self);
        }
        Self { bytes: self.bytes.drain(..count).collect(), origins: self.origins.drain(..count).collect() }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.origins.truncate(len);
    }

    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    /// The message at the front, once it is whole: tag, body, and the one origin that all its bytes have. The pooler may
    /// have replaced the head of a client's.
    pub(crate) fn message(&mut self) -> Option<(u8, Vec<u8>, Origin)> {
        let length = u32::from_be_bytes(self.bytes.get(1..5)?.try_into().ok()?) as usize;
        assert!(length >= 4, "a message of length {length}");
        if self.len() <= length {
            return None;
        }
        let message = self.take(length + 1);
        let origin = message.origins[length];
        let replaced = message.origins.iter().take_while(|other| **other == POOLER).count();
        assert!(
            message.origins[replaced..].iter().all(|other| *other == origin),
            "a message {:?} is mixed from {origin} and others",
            char::from(message.bytes[0])
        );
        Some((message.bytes[0], message.bytes[5..].to_vec(), origin))
    }
}

/// A message of the protocol.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("small");
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(tag);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A message whose body is one string.
pub(crate) fn text_message(tag: u8, text: &str) -> Vec<u8> {
    message(tag, &[text.as_bytes(), b"\0"].concat())
}

/// A packet without a tag, as connections begin.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("small");
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}
