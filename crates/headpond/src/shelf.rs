//! Connections at hand: what was just given back, kept where the same worker thread finds it without asking anybody.
//!
//! The machine has lent them ([`headpond_core::Pool::lend`]): nobody waits, and nothing is wanting. They are recalled
//! before anybody has to wait, and by each upkeep, so that the machine is never further behind than that.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::connector::Connector;
use crate::raw::{Latch, Latched};
use crate::slot::Slot;
use crate::sync::lock;

/// So many connections lie on one shelf at most.
const PLACES: usize = 4;

/// What one thread has at hand. On cache lines of its own.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Shelf<C: Connector>(Latch<Shelved<C>>);

#[derive(Debug)]
pub(crate) struct Shelved<C: Connector> {
    slots: [Option<Box<Slot<C>>>; PLACES],
    len: usize,
    /// Since they were last taken note of.
    pub(crate) acquires: u64,
    pub(crate) holds: u64,
    pub(crate) hold_time: u64,
}

impl<C: Connector> Shelved<C> {
    const fn new() -> Self {
        Self { slots: [const { None }; PLACES], len: 0, acquires: 0, holds: 0, hold_time: 0 }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len < PLACES
    }

    /// Gives the slot back if there is no room.
    #[inline]
    pub(crate) fn push(&mut self, slot: Box<Slot<C>>) -> Option<Box<Slot<C>>> {
        match self.slots.get_mut(self.len) {
            Some(place) => {
                self.len += 1;
                place.replace(slot)
            }
            None => Some(slot),
        }
    }

    /// The one that was used last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Box<Slot<C>>> {
        let last = self.len.checked_sub(1)?;
        self.len = last;
        self.slots.get_mut(last)?.take()
    }
}

/// The shelves of one pool. They outlive it, and serve another one of the same kind then: so a connection can be put on
/// one that is reached by the connection itself.
#[derive(Debug)]
pub(crate) struct Shelves<C: Connector>(&'static [Shelf<C>]);

impl<C: Connector> Clone for Shelves<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Connector> Copy for Shelves<C> {}

/// Shelves of pools that are gone, by the kind of connector.
static SPARE: Mutex<BTreeMap<TypeId, Vec<Box<dyn Any + Send>>>> = Mutex::new(BTreeMap::new());

impl<C: Connector> Shelves<C> {
    /// Two shelves for each processor, or those of a pool that is gone.
    pub(crate) fn obtain() -> Self {
        let spare = lock(&SPARE).get_mut(&TypeId::of::<C>()).and_then(Vec::pop);
        if let Some(shelves) = spare.and_then(|spare| spare.downcast::<&'static [Shelf<C>]>().ok()) {
            return Self(*shelves);
        }
        let shelves: Vec<_> = (0..count()).map(|_| Shelf(Latch::new(Shelved::new()))).collect();
        Self(Vec::leak(shelves))
    }

    /// The pool is gone, and nothing lies here.
    pub(crate) fn part_with(self) {
        lock(&SPARE).entry(TypeId::of::<C>()).or_default().push(Box::new(self.0));
    }

    /// The shelf of this thread, if nobody else is at it.
    #[inline]
    pub(crate) fn mine(self) -> Option<Latched<'static, Shelved<C>>> {
        self.0[PLACE.get()].0.try_lock()
    }

    /// One after the other.
    pub(crate) fn iter(self) -> impl Iterator<Item = Latched<'static, Shelved<C>>> {
        self.0.iter().map(|shelf| shelf.0.lock())
    }
}

/// Threads take theirs in the order in which they come; that two that are busy share one should be rare.
fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| 2 * std::thread::available_parallelism().map_or(1, usize::from).min(32))
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % count());
}
