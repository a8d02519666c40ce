//! What needs `unsafe`: requests that wait inside their own future, a lock that is never waited for on the fast path, and
//! a reference to something static that can be swapped. All are run under Miri.
//!
//! A waiting request could be an allocation of its own, shared by its future and the pool. That costs an allocation and
//! two counts for each wait, and the one who is woken has to lock something to learn what it got.
#![expect(unsafe_code, reason = "see above")]

use std::cell::UnsafeCell;
use std::marker::{PhantomData, PhantomPinned};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::Waker;

use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering};
use crate::sync::{hint, thread};

/// Its owner's: not in a queue yet, or no longer.
const OUT: u8 = 0;
/// In a queue.
const QUEUED: u8 = 1;
/// Its owner's again, with an outcome.
const SERVED: u8 = 2;
/// Its owner's, and never to be used again.
const DONE: u8 = 3;

/// One request that waits, or may: a part of its pinned future.
///
/// While it is [`QUEUED`] the cells are the queue's, to be touched only by who has that mutably borrowed. Otherwise
/// they are the owner's. The queue changes the place last, and does not touch the node after that.
#[derive(Debug)]
pub(crate) struct Node<T> {
    place: AtomicU8,
    /// Of one that is queued.
    number: AtomicU32,
    outcome: UnsafeCell<T>,
    waker: UnsafeCell<Option<Waker>>,
    /// The queue knows its address.
    _pinned: PhantomPinned,
}

impl<T: Default> Node<T> {
    pub(crate) fn new() -> Self {
        Self {
            place: AtomicU8::new(OUT),
            number: AtomicU32::new(0),
            outcome: UnsafeCell::new(T::default()),
            waker: UnsafeCell::new(None),
            _pinned: PhantomPinned,
        }
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.place.load(Ordering::Acquire) == QUEUED
    }

    /// Whether it has not been in a queue, nor been done with.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        self.place.load(Ordering::Relaxed) == OUT
    }

    pub(crate) fn is_done(&self) -> bool {
        self.place.load(Ordering::Relaxed) == DONE
    }

    /// The number under which it waits.
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Where it is, for as long as it is.
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// It is not to be queued any more. Does nothing to one that is.
    #[inline]
    pub(crate) fn finish(self: Pin<&mut Self>) {
        if !self.is_queued() {
            self.place.store(DONE, Ordering::Relaxed);
        }
    }

    /// What it was served, once.
    pub(crate) fn take(self: Pin<&mut Self>) -> Option<T> {
        if self.place.load(Ordering::Acquire) != SERVED {
            return None;
        }
        self.place.store(OUT, Ordering::Relaxed);
        // SAFETY: `outcome` is not structurally pinned, so nothing is moved that must stay. Being served, the node is
        // its owner's, who is here with `&mut`; the Acquire above shows what the queue wrote.
        unsafe { Some(std::mem::take(&mut *self.get_unchecked_mut().outcome.get())) }
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        // The queue would write to memory that is somebody else's. Its owner sees to it that this never happens.
        if self.place.load(Ordering::Acquire) == QUEUED {
            std::process::abort();
        }
    }
}

/// The nodes that wait, by number. In which order they are served is not decided here.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    nodes: Vec<Option<NonNull<Node<T>>>>,
    free: Vec<u32>,
}

// SAFETY: the pointers lead to cells that only the queue's one mutable borrower touches; what passes through them from
// thread to thread is `T` and `Waker`, and `Waker` is `Send`.
unsafe impl<T: Send> Send for Queue<T> {}

impl<T: Default> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new() }
    }

    /// The number that the next node will have.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| u32::try_from(self.nodes.len()).unwrap_or(u32::MAX))
    }

    /// The node waits from now on, as number [`Queue::next`]; unless it does already, or has an outcome to take.
    pub(crate) fn join(&mut self, node: Pin<&mut Node<T>>, waker: Waker) {
        let node = node.as_ref().get_ref();
        if node.place.load(Ordering::Relaxed) != OUT {
            return;
        }
        // SAFETY: it is in no queue yet, so its cells are its owner's, who lends it here with `&mut`.
        unsafe { *node.waker.get() = Some(waker) };
        node.number.store(self.next(), Ordering::Relaxed);
        node.place.store(QUEUED, Ordering::Release);
        // It is pinned, so its memory is not reused before it is dropped, and `drop` does not return while it is queued.
        let place = Some(NonNull::from(node));
        match self.free.pop() {
            Some(number) => self.nodes[number as usize] = place,
            None => self.nodes.push(place),
        }
    }

    /// The outcome of a node that waits: it leaves, and its waker is to be called. `Err`: it does not wait.
    #[inline]
    pub(crate) fn serve(&mut self, number: u32, outcome: T) -> Result<Option<Waker>, T> {
        let Some(node) = self.remove(number) else { return Err(outcome) };
        // SAFETY: it was in the queue, so it is alive (see `join`), and its cells are ours until its place changes; then
        // its owner may drop it at any moment.
        unsafe {
            let node = node.as_ref();
            *node.outcome.get() = outcome;
            let waker = (*node.waker.get()).take();
            node.place.store(SERVED, Ordering::Release);
            Ok(waker)
        }
    }

    /// Where the node is that waits under a number.
    pub(crate) fn address(&self, number: u32) -> Option<usize> {
        Some((*self.nodes.get(number as usize)?)?.addr().get())
    }

    /// The waker of a node that waits is another one now.
    pub(crate) fn renew(&mut self, number: u32, waker: &Waker) {
        if let Some(Some(node)) = self.nodes.get(number as usize) {
            // SAFETY: as in `serve`.
            let kept = unsafe { &mut *node.as_ref().waker.get() };
            if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                *kept = Some(waker.clone());
            }
        }
    }

    /// A node does not wait any more.
    pub(crate) fn leave(&mut self, number: u32) {
        if let Some(node) = self.remove(number) {
            // SAFETY: as in `serve`.
            unsafe { node.as_ref().place.store(DONE, Ordering::Release) };
        }
    }

    fn remove(&mut self, number: u32) -> Option<NonNull<Node<T>>> {
        let node = self.nodes.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(node)
    }
}

/// A lock for a few instructions, that can be had at once or not at all.
#[derive(Debug)]
pub(crate) struct Latch<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is handed out mutably to one holder at a time, on any thread.
unsafe impl<T: Send> Sync for Latch<T> {}

/// The value of a latch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Latched<'l, T> {
    latch: &'l Latch<T>,
    /// As with any guard of a lock: it stays on its thread.
    _here: PhantomData<*const ()>,
}

impl<T> Latch<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// `None` if somebody else has it now.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Latched<'_, T>> {
        if self.held.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(Latched { latch: self, _here: PhantomData })
    }

    /// Waits for it: whoever has it gives it back within a few instructions, unless its thread was stopped in them.
    pub(crate) fn lock(&self) -> Latched<'_, T> {
        let mut tries = 0_u32;
        loop {
            if let Some(latched) = self.try_lock() {
                return latched;
            }
            tries += 1;
            if tries.is_multiple_of(64) { thread::yield_now() } else { hint::spin_loop() }
        }
    }
}

impl<T> Deref for Latched<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one until it is dropped.
        unsafe { &*self.latch.value.get() }
    }
}

impl<T> DerefMut for Latched<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.latch.value.get() }
    }
}

impl<T> Drop for Latched<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.latch.held.store(false, Ordering::Release);
    }
}

/// A reference to something static, or none, that can be read and replaced at any time.
#[derive(Debug)]
pub(crate) struct StaticRef<T: Sync + 'static>(AtomicPtr<T>);

impl<T: Sync> StaticRef<T> {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn set(&self, to: Option<&'static T>) {
        self.0.store(to.map_or(ptr::null_mut(), |to| ptr::from_ref(to).cast_mut()), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or from a `&'static T`, whose making the Acquire shows.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
