//! Connections at hand: what was just given back, kept where the same worker thread finds it without asking anybody.
//!
//! The machine has lent them ([`headpond_core::Pool::lend`]): nobody waits, and nothing is wanting. They are recalled
//! before anybody has to wait, and by each upkeep, so that the machine is never further behind than that.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{self, OnceLock, PoisonError};

use headpond_core::Usage;

use crate::connector::Connector;
use crate::door::Door;
use crate::raw::{Latch, Latched};
use crate::slot::Slot;
use crate::state::State;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::lock;

/// So many connections lie on one shelf at most.
const PLACES: usize = 4;

/// What one thread has at hand. On cache lines of its own.
#[repr(align(128))]
#[derive(Debug)]
struct Place<C: Connector> {
    /// Whether anything lies here: a glance costs nothing, the latch does.
    filled: AtomicBool,
    shelved: Latch<Shelved<C>>,
}

#[derive(Debug)]
struct Shelved<C: Connector> {
    slots: [Option<Box<Slot<C>>>; PLACES],
    len: usize,
    usage: Usage,
}

/// A shelf while nobody else is at it.
pub(crate) struct Shelf<C: Connector> {
    filled: &'static AtomicBool,
    shelved: Latched<'static, Shelved<C>>,
}

impl<C: Connector> Shelf<C> {
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.shelved.len < PLACES
    }

    /// Gives the slot back if there is no room.
    #[inline]
    pub(crate) fn push(&mut self, slot: Box<Slot<C>>) -> Option<Box<Slot<C>>> {
        let Shelved { slots, len, .. } = &mut *self.shelved;
        match slots.get_mut(*len) {
            Some(place) => {
                *len += 1;
                self.filled.store(true, Ordering::Relaxed);
                place.replace(slot)
            }
            None => Some(slot),
        }
    }

    /// The one that was used last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Box<Slot<C>>> {
        let Shelved { slots, len, .. } = &mut *self.shelved;
        let last = len.checked_sub(1)?;
        *len = last;
        self.filled.store(last > 0, Ordering::Relaxed);
        slots.get_mut(last)?.take()
    }

    /// What happened to connections of this shelf since it was last taken.
    #[inline]
    pub(crate) fn usage(&mut self) -> &mut Usage {
        &mut self.shelved.usage
    }
}

/// The shelves of one pool, and its state. They outlive it, and serve another one of the same kind then: so a connection
/// can be put where it is reached by the connection itself.
pub(crate) struct Grounds<C: Connector> {
    places: &'static [Place<C>],
    pub(crate) door: &'static Door<C>,
}

impl<C: Connector> Clone for Grounds<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Connector> Copy for Grounds<C> {}

/// Grounds of pools that are gone, by the kind of connector.
static SPARE: sync::Mutex<BTreeMap<TypeId, Vec<Box<dyn Any + Send>>>> = sync::Mutex::new(BTreeMap::new());

fn spare() -> sync::MutexGuard<'static, BTreeMap<TypeId, Vec<Box<dyn Any + Send>>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Connector> Grounds<C> {
    /// New ones, or those of a pool that is gone.
    pub(crate) fn obtain(state: State<C>) -> Self {
        let spare = spare().get_mut(&TypeId::of::<C>()).and_then(Vec::pop);
        if let Some(spare) = spare.and_then(|spare| spare.downcast::<Self>().ok()) {
            *lock(&spare.door.state) = state;
            return *spare;
        }
        let place = || Place { filled: AtomicBool::new(false), shelved: Latch::new(Shelved::new()) };
        let places = Vec::leak((0..count()).map(|_| place()).collect());
        Self { places, door: Box::leak(Box::new(Door::new(state))) }
    }

    /// The pool is gone, and nothing lies here.
    pub(crate) fn part_with(self) {
        // What shuttle knows of one schedule is nothing in the next.
        if !cfg!(shuttle) {
            spare().entry(TypeId::of::<C>()).or_default().push(Box::new(self));
        }
    }

    /// The shelf of this thread, if nobody else is at it.
    #[inline]
    pub(crate) fn shelf(self) -> Option<Shelf<C>> {
        let Place { filled, shelved } = &self.places[place()];
        Some(Shelf { filled, shelved: shelved.try_lock()? })
    }

    /// The same, if something seems to lie there.
    #[inline]
    pub(crate) fn filled_shelf(self) -> Option<Shelf<C>> {
        let Place { filled, shelved } = &self.places[place()];
        if !filled.load(Ordering::Relaxed) {
            return None;
        }
        Some(Shelf { filled, shelved: shelved.try_lock()? })
    }

    /// One after the other.
    pub(crate) fn shelves(self) -> impl Iterator<Item = Shelf<C>> {
        self.places.iter().map(|Place { filled, shelved }| Shelf { filled, shelved: shelved.lock() })
    }
}

impl<C: Connector> Shelved<C> {
    const fn new() -> Self {
        let usage = Usage { acquires: 0, holds: 0, hold_time: 0, connections: 0 };
        Self { slots: [const { None }; PLACES], len: 0, usage }
    }
}

/// Threads take theirs in the order in which they come; that two that are busy share one should be rare.
fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| 2 * std::thread::available_parallelism().map_or(1, usize::from).min(32))
}

#[cfg(not(shuttle))]
#[inline]
fn place() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;

    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % count());
    }
    PLACE.get()
}

#[cfg(shuttle)]
fn place() -> usize {
    usize::from(shuttle::current::me()) % 2
}
