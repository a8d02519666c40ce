//! What is posted to whoever has a lock, by those who would have to wait for it.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::{Node, Posted};
use crate::sync::atomic::{AtomicPtr, Ordering, fence};

/// Set in the address of an entry that is something given back rather than a node.
const RETURN: usize = 1;

/// The entry below one in an inbox. Kept in the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Below(*mut ());

// SAFETY: it is read and written by who has the entry for himself only.
unsafe impl Send for Below {}
// SAFETY: a shared one shows nothing.
unsafe impl Sync for Below {}

/// What can be posted in a box.
pub(crate) trait Postable: Send {
    /// Where it keeps the entry below it while it is posted.
    fn below(&self) -> &AtomicPtr<()>;
}

/// Requests and returns, in the order in which they were posted: a stack that is only ever taken whole.
///
/// Whoever posts looks at the lock afterwards, and whoever unlocks looks at the inbox afterwards, each with a fence
/// between ([`Inbox::may_be_left`]): one of them sees what the other one did.
#[derive(Debug)]
pub(crate) struct Inbox<T, R> {
    top: AtomicPtr<()>,
    _entries: PhantomData<fn(Posted<T>, Box<R>)>,
}

/// What was posted.
#[derive(Debug)]
pub(crate) enum Entry<T, R> {
    Request(Posted<T>),
    Return(Box<R>),
}

impl<T: Default + Send, R: Postable> Inbox<T, R> {
    pub(crate) fn new() -> Self {
        Self { top: AtomicPtr::new(ptr::null_mut()), _entries: PhantomData }
    }

    pub(crate) fn post(&self, entry: Entry<T, R>) {
        let top = match entry {
            Entry::Request(Posted(node)) => node.as_ptr().cast::<()>(),
            Entry::Return(entry) => Box::into_raw(entry).cast::<()>().map_addr(|address| address | RETURN),
        };
        let mut below = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: the entry is ours until it is in the inbox.
            unsafe { Self::put(top, below) };
            // In one order with what else is sequentially consistent, so that a flag can be read afterwards without a fence.
            match self.top.compare_exchange_weak(below, top, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => below = now,
            }
        }
    }

    /// Whether anything seems to lie here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.top.load(Ordering::Relaxed).is_null()
    }

    /// The same after unlocking, or after posting: what others posted before they looked at the lock is seen.
    #[inline]
    pub(crate) fn may_be_left(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.is_empty()
    }

    /// Takes all there is.
    pub(crate) fn take(&self) -> Taken<T, R> {
        let mut rest = self.top.swap(ptr::null_mut(), Ordering::Acquire);
        let mut first = ptr::null_mut();
        while !rest.is_null() {
            // SAFETY: what was in the inbox is ours now; the Acquire shows what those wrote who posted it.
            let next = unsafe {
                let next = Self::below(rest);
                Self::put(rest, first);
                next
            };
            (first, rest) = (rest, next);
        }
        Taken { first, _entries: PhantomData }
    }

    /// What is below an entry.
    ///
    /// # Safety
    ///
    /// The entry is the caller's, and alive.
    unsafe fn below(entry: *mut ()) -> *mut () {
        let address = entry.map_addr(|address| address & !RETURN);
        if entry.addr() & RETURN == 0 {
            // SAFETY: it is a node, shared at most, whose cells are the caller's.
            unsafe { (*(*address.cast::<Node<T>>()).link.get()).below.0 }
        } else {
            // SAFETY: it was a box, and nobody else has it.
            unsafe { (*address.cast::<R>()).below().load(Ordering::Relaxed) }
        }
    }

    /// Puts something below an entry.
    ///
    /// # Safety
    ///
    /// As for [`Inbox::below`].
    unsafe fn put(entry: *mut (), below: *mut ()) {
        let address = entry.map_addr(|address| address & !RETURN);
        if entry.addr() & RETURN == 0 {
            // SAFETY: as in `below`.
            unsafe { (*(*address.cast::<Node<T>>()).link.get()).below = Below(below) }
        } else {
            // SAFETY: as in `below`.
            unsafe { (*address.cast::<R>()).below().store(below, Ordering::Relaxed) }
        }
    }
}

/// What was taken out of an inbox, the first first.
#[derive(Debug)]
pub(crate) struct Taken<T, R> {
    first: *mut (),
    _entries: PhantomData<(Posted<T>, Box<R>)>,
}

impl<T: Default + Send, R: Postable> Iterator for Taken<T, R> {
    type Item = Entry<T, R>;

    fn next(&mut self) -> Option<Entry<T, R>> {
        let first = self.first;
        let entry = first.map_addr(|address| address & !RETURN);
        let node = NonNull::new(entry.cast::<Node<T>>())?;
        // SAFETY: it was taken and not yet handed out.
        self.first = unsafe { Inbox::<T, R>::below(first) };
        Some(if first.addr() & RETURN == 0 {
            Entry::Request(Posted(node))
        } else {
            // SAFETY: as it was posted.
            Entry::Return(unsafe { Box::from_raw(entry.cast::<R>()) })
        })
    }
}

impl<T, R> Drop for Taken<T, R> {
    fn drop(&mut self) {
        // A request would be waited for in vain, and its owner could not go.
        debug_assert!(self.first.is_null(), "what was taken is served");
    }
}
