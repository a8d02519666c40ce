//! What needs `unsafe`: requests that wait inside their own future, the inbox that they and connections are posted to, a
//! lock that is never waited for on the fast path, and a reference to something static that can be swapped. All are run
//! under Miri.
//!
//! A waiting request could be an allocation of its own, shared by its future and the pool. That costs an allocation and
//! two counts for each wait, and the one who is woken has to lock something to learn what it got.
#![expect(unsafe_code, reason = "see above")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;

use crate::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use crate::sync::{hint, thread};

mod inbox;
mod queue;

use inbox::Below;
pub(crate) use inbox::{Entry, Inbox, Postable};
pub(crate) use queue::{Node, Posted, Queue};

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
