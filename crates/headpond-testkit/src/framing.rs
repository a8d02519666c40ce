//! Where messages end in a stream that only goes one way, read apart from `headpond-wire`.

/// How a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// With messages.
    Messages,
    /// With a packet without a tag, as a client does.
    Packet,
    /// With any number of single `N`s, which refuse encryption, or an `S`, which agrees to it.
    Refusals,
}

/// Follows a stream.
#[derive(Debug)]
pub(crate) struct Framing {
    begins: Begins,
    /// Of a header that has not all come.
    header: Vec<u8>,
    /// Bytes still to come of a message.
    rest: usize,
    /// There was a length that cannot be; nothing is read from there on.
    broken: bool,
}

impl Framing {
    pub(crate) fn new(begins: Begins) -> Self {
        Self { begins, header: Vec::new(), rest: 0, broken: false }
    }

    /// Whether nothing was said yet but single bytes.
    pub(crate) fn is_new(&self) -> bool {
        self.begins != Begins::Messages
    }

    /// Whether all messages so far are whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.header.is_empty() && self.rest == 0 && !self.broken
    }

    /// The next bytes of the stream; `each` is given the tag of each message that begins.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8)) {
        while let Some((first, after)) = bytes.split_first() {
            if self.broken {
                return;
            }
            if self.rest > 0 {
                let take = self.rest.min(bytes.len());
                self.rest -= take;
                bytes = &bytes[take..];
                continue;
            }
            bytes = after;
            if self.begins == Begins::Refusals && self.header.is_empty() {
                if matches!(*first, b'N' | b'S') {
                    continue;
                }
                self.begins = Begins::Messages;
            }
            self.header.push(*first);
            let length = match (self.begins, self.header.as_slice()) {
                (Begins::Packet, [a, b, c, d]) | (_, [_, a, b, c, d]) => u32::from_be_bytes([*a, *b, *c, *d]),
                _ => continue,
            };
            if self.begins == Begins::Messages {
                each(self.header[0]);
            }
            self.begins = Begins::Messages;
            self.header.clear();
            self.broken = !(4..=0x7fff_ffff).contains(&length);
            self.rest = (length as usize).saturating_sub(4);
        }
    }
}
