//! Everything one loop turn sends, in one system call where the kernel allows it.
//!
//! The gain is not the saved entries into the kernel: a sender that wakes its peer with each `send` is switched
//! out each time, and everybody works in small portions. Sends submitted together wake everybody first.

#![expect(unsafe_code, reason = "io_uring takes raw descriptors and pointers; see the one block below")]

use std::io;
use std::os::fd::RawFd;

use headpond_pooler::Link;
use io_uring::{IoUring, opcode, types};

use super::arena::Arena;
use crate::config::Sends;

/// Sends in one batch at most; a longer queue is flushed in several.
const BATCH: u32 = 256;

/// A range of the arena on its way to a socket; or, once it is encrypted, of what was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) link: Link,
    pub(crate) fd: RawFd,
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// It is encrypted, or to be.
    pub(crate) secret: bool,
}

impl Send {
    /// What goes out.
    pub(crate) fn bytes<'b>(&self, arena: &'b Arena, sealed: &'b [u8]) -> &'b [u8] {
        if self.secret { &sealed[self.start..self.start + self.len] } else { arena.get(self.start, self.len) }
    }
}

/// How bytes go out: batched, if the kernel lets us.
pub(crate) struct Sender {
    ring: Option<IoUring>,
    always: bool,
}

impl Sender {
    /// Sets up the ring.
    ///
    /// # Errors
    /// `Batched` is demanded and the kernel does not allow io_uring.
    pub(crate) fn new(sends: Sends) -> io::Result<Self> {
        let ring = match sends {
            Sends::Plain => None,
            Sends::Auto => ring().ok(),
            Sends::Batched => Some(ring()?),
        };
        Ok(Self { ring, always: sends == Sends::Batched })
    }

    pub(crate) fn is_batched(&self) -> bool {
        self.ring.is_some()
    }

    /// Whether `count` sends are worth a batch: one alone is cheaper by itself.
    pub(crate) fn batches(&self, count: usize) -> bool {
        self.ring.is_some() && (count > 1 || self.always)
    }

    /// Sends each range without blocking; `done` hears of each by its index: bytes taken, or the error.
    /// Everything is over when this returns: the kernel keeps no pointer.
    ///
    /// The descriptors must be open: a link is closed only after the sends that were queued for it.
    pub(crate) fn submit(
        &mut self,
        sends: &[Send],
        arena: &Arena,
        sealed: &[u8],
        mut done: impl FnMut(usize, io::Result<usize>),
    ) {
        let Some(ring) = &mut self.ring else { return };
        for (number, batch) in sends.chunks(BATCH as usize).enumerate() {
            let first = number * BATCH as usize;
            for (index, send) in batch.iter().enumerate() {
                let bytes = send.bytes(arena, sealed);
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let entry = opcode::Send::new(types::Fd(send.fd), bytes.as_ptr(), len)
                    .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data((first + index) as u64);
                // SAFETY: both buffers are borrowed until this function returns, so their bytes neither move nor change,
                // and the loop below returns only after the kernel has completed every entry of the batch.
                let pushed = unsafe { ring.submission().push(&entry) };
                assert!(pushed.is_ok(), "the queue has BATCH places and is empty at the start of each batch");
            }
            let mut open = batch.len();
            while open > 0 {
                match ring.submit_and_wait(open) {
                    Ok(_) => {}
                    Err(error)
                        if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
                    }
                    // Entries may be in flight, and their memory must not be touched again: there is no way on.
                    Err(error) => panic!("io_uring_enter failed with sends in flight: {error}"),
                }
                for completion in ring.completion() {
                    open -= 1;
                    let result = usize::try_from(completion.result())
                        .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
                    done(usize::try_from(completion.user_data()).unwrap_or(usize::MAX), result);
                }
            }
        }
    }
}

fn ring() -> io::Result<IoUring> {
    // Older kernels do not know the flags; the ring works without them.
    let flagged = IoUring::builder().setup_submit_all().setup_coop_taskrun().build(BATCH);
    flagged.or_else(|_| IoUring::builder().build(BATCH))
}
