//! Locks and atomics of the standard library, or those of `shuttle`, which tries schedules.
//!
//! Locks do not care for panics elsewhere: what they guard is whole between any two statements of ours.

#[cfg(shuttle)]
pub(crate) use shuttle::{
    hint,
    sync::{Mutex, MutexGuard, atomic},
    thread,
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    hint,
    sync::{Mutex, MutexGuard, atomic},
    thread,
};

use std::sync::{PoisonError, TryLockError};

#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` if somebody else has it.
#[inline]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
