//! Where received bytes stay until they have been sent on.

/// Bytes of one worker's arena.
const SIZE: usize = 1024 * 1024;

/// The most one read asks for.
pub(crate) const SLICE: usize = 64 * 1024;

/// One buffer for all that a worker receives between two flushes. It only grows until [`Arena::clear`], so a
/// range of it that waits to be sent stays what it was.
pub(crate) struct Arena {
    bytes: Box<[u8]>,
    used: usize,
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; SIZE].into_boxed_slice(), used: 0 }
    }

    /// Whether `count` more bytes fit. They always do after [`Arena::clear`], up to [`Arena::SIZE`].
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.bytes.len() - self.used >= count
    }

    /// Free bytes at the end: the first `count` of them are to be filled, then taken by [`Arena::take`].
    pub(crate) fn spare(&mut self, count: usize) -> &mut [u8] {
        &mut self.bytes[self.used..self.used + count]
    }

    /// Keeps the first `count` spare bytes; where they begin.
    pub(crate) fn take(&mut self, count: usize) -> usize {
        let start = self.used;
        self.used += count;
        start
    }

    /// Copies bytes in; where they begin. They must fit.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        self.spare(bytes.len()).copy_from_slice(bytes);
        self.take(bytes.len())
    }

    /// Copies a range of its own to the end; where it begins. It must fit.
    pub(crate) fn repeat(&mut self, start: usize, len: usize) -> usize {
        self.bytes.copy_within(start..start + len, self.used);
        self.take(len)
    }

    pub(crate) fn get(&self, start: usize, len: usize) -> &[u8] {
        &self.bytes[start..start + len]
    }

    /// Everything in it has been sent or copied elsewhere.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }
}
