//! Requests that wait, where they are, and by number.

use std::cell::UnsafeCell;
use std::marker::PhantomPinned;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::Waker;

use headpond_core::{Tick, WaiterId};

use super::Below;
use crate::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Its owner's: not in a queue yet, or no longer.
const OUT: u8 = 0;
/// Lent to who brings it to a queue: in an inbox, or out of it again.
const POSTED: u8 = 1;
/// In a queue.
const QUEUED: u8 = 2;
/// Its owner's again, with an outcome.
const SERVED: u8 = 3;
/// Its owner's, and never to be used again.
const DONE: u8 = 4;
/// The same, with its waker.
const LEFT: u8 = 5;

/// One request that waits, or may: a part of its pinned future.
///
/// While it is [`POSTED`] the cells are whose the [`Posted`] is, while it is [`QUEUED`] the queue's, to be touched only by
/// who has that mutably borrowed. Otherwise they are the owner's. Who gives a node back changes the place last, and does
/// not touch the node after that.
///
/// A new one has no byte without a value: it is moved with its future before that is pinned, in pieces as large as can be,
/// and a piece that was written in part only costs as much as an atomic.
#[derive(Debug)]
pub(crate) struct Node<T> {
    place: AtomicU8,
    /// Of one that is queued.
    number: AtomicU32,
    /// When to give up.
    deadline: Tick,
    pub(super) link: UnsafeCell<Link>,
    /// To be dropped only where it was served and not taken.
    outcome: UnsafeCell<ManuallyDrop<T>>,
    /// The task's from being posted to being served; then it is [`Waker::noop`] or not to be used.
    waker: UnsafeCell<ManuallyDrop<Waker>>,
    /// The queue knows its address.
    _pinned: PhantomPinned,
}

/// What a node is known by: there may be very many, so it is one or the other.
#[derive(Clone, Copy)]
pub(super) union Link {
    /// Of one in an inbox.
    pub(super) below: Below,
    /// Of one in a queue, and before.
    waiter: WaiterId,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl<T: Default> Node<T> {
    pub(crate) fn new() -> Self {
        Self {
            place: AtomicU8::new(OUT),
            number: AtomicU32::new(0),
            deadline: Tick::NEVER,
            link: UnsafeCell::new(Link { waiter: WaiterId::NONE }),
            outcome: UnsafeCell::new(ManuallyDrop::new(T::default())),
            waker: UnsafeCell::new(ManuallyDrop::new(Waker::noop().clone())),
            _pinned: PhantomPinned,
        }
    }

    /// It gives up then.
    pub(crate) fn set_deadline(&mut self, deadline: Tick) {
        self.deadline = deadline;
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
        matches!(self.place.load(Ordering::Relaxed), DONE | LEFT)
    }

    /// Whether others know of it, or it has an outcome to take.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        !matches!(self.place.load(Ordering::Relaxed), OUT | DONE | LEFT)
    }

    /// Whether others know of it still.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.place.load(Ordering::Acquire), POSTED | QUEUED)
    }

    /// The number under which it waits.
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Where it is, for as long as it is.
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// When to give up; never: `None`.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        Some(self.deadline).filter(|deadline| *deadline != Tick::NEVER)
    }

    /// It is to be brought to a queue, and its waker is called when it is served; unless others know of it already, or it
    /// is done with.
    pub(crate) fn post(self: Pin<&mut Self>, waker: Waker) -> Option<Posted<T>> {
        let node = self.as_ref().get_ref();
        if node.place.load(Ordering::Relaxed) != OUT {
            return None;
        }
        // SAFETY: its cells are its owner's, who is here with `&mut`.
        unsafe { *node.waker.get() = ManuallyDrop::new(waker) };
        node.place.store(POSTED, Ordering::Relaxed);
        Some(Posted(NonNull::from(node)))
    }

    /// It is not to be queued any more. Does nothing to one that others know of, or that left.
    #[inline]
    pub(crate) fn finish(self: Pin<&mut Self>) {
        if self.is_new() {
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
        unsafe { Some(std::mem::take(&mut **self.get_unchecked_mut().outcome.get())) }
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        match self.place.load(Ordering::Acquire) {
            // Others would write to memory that is somebody else's. Its owner sees to it that this never happens.
            POSTED | QUEUED => std::process::abort(),
            // SAFETY: being served, it is its owner's, who has not taken the outcome.
            SERVED => unsafe { ManuallyDrop::drop(self.outcome.get_mut()) },
            // SAFETY: it left the queue, and its waker was not taken.
            LEFT => unsafe { ManuallyDrop::drop(self.waker.get_mut()) },
            _ => {}
        }
    }
}

/// A node on its way to a queue, with its cells. It must get there, or be served: its owner waits for that.
#[derive(Debug)]
pub(crate) struct Posted<T>(pub(super) NonNull<Node<T>>);

// SAFETY: it leads to cells that are its alone; what passes through them from thread to thread is `T` and `Waker`, and
// `Waker` is `Send`.
unsafe impl<T: Send> Send for Posted<T> {}

impl<T: Default> Posted<T> {
    fn node(&self) -> &Node<T> {
        // SAFETY: a node is pinned, so its memory is not reused before it is dropped, and its `drop` does not return
        // while it is posted or queued. So long it is shared only.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.node().deadline()
    }

    pub(crate) fn address(&self) -> usize {
        self.node().address()
    }

    /// It has its outcome, and its waker is to be called.
    pub(crate) fn serve(self, outcome: T) -> Waker {
        let node = self.node();
        // SAFETY: the cells are ours until the place changes; then its owner may drop the node at any moment. The waker
        // is the one that was posted, and nobody takes it again.
        let waker = unsafe {
            *node.outcome.get() = ManuallyDrop::new(outcome);
            ManuallyDrop::take(&mut *node.waker.get())
        };
        node.place.store(SERVED, Ordering::Release);
        waker
    }
}

/// The nodes that wait, by number. In which order they are served is not decided here.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    places: Vec<Place<T>>,
    /// The first that is free; behind the last, if none is.
    free: u32,
}

/// What a number stands for.
#[derive(Debug)]
enum Place<T> {
    Waits(Posted<T>),
    /// Nothing; the next such one.
    Free(u32),
}

impl<T: Default> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: 0 }
    }

    /// The number that the next node will have.
    pub(crate) fn next(&self) -> u32 {
        self.free
    }

    /// The node waits from now on, as number [`Queue::next`].
    pub(crate) fn join(&mut self, posted: Posted<T>, waiter: WaiterId) {
        let number = self.next();
        let node = posted.node();
        // SAFETY: the cells are those of `posted`.
        unsafe { *node.link.get() = Link { waiter } };
        node.number.store(number, Ordering::Relaxed);
        node.place.store(QUEUED, Ordering::Release);
        match self.places.get_mut(number as usize) {
            Some(place) => {
                if let Place::Free(next) = *place {
                    self.free = next;
                }
                *place = Place::Waits(posted);
            }
            None => {
                self.places.push(Place::Waits(posted));
                self.free = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            }
        }
    }

    /// The outcome of a node that waits: it leaves, and its waker is to be called. `Err`: it does not wait.
    #[inline]
    pub(crate) fn serve(&mut self, number: u32, outcome: T) -> Result<Waker, T> {
        match self.remove(number) {
            Some(posted) => Ok(posted.serve(outcome)),
            None => Err(outcome),
        }
    }

    /// Where the node is that waits under a number.
    pub(crate) fn address(&self, number: u32) -> Option<usize> {
        self.get(number).map(Posted::address)
    }

    /// The waker of a node that waits is another one now.
    pub(crate) fn renew(&mut self, number: u32, waker: &Waker) {
        if let Some(posted) = self.get(number) {
            // SAFETY: it is in the queue, so its cells are ours.
            let kept = unsafe { &mut *posted.node().waker.get() };
            if !kept.will_wake(waker) {
                **kept = waker.clone();
            }
        }
    }

    /// A node does not wait any more. As whom the machine knew it.
    pub(crate) fn leave(&mut self, number: u32) -> Option<WaiterId> {
        let posted = self.remove(number)?;
        // SAFETY: as in `renew`; `join` has written it.
        let waiter = unsafe { (*posted.node().link.get()).waiter };
        posted.node().place.store(LEFT, Ordering::Release);
        Some(waiter)
    }

    fn get(&self, number: u32) -> Option<&Posted<T>> {
        match self.places.get(number as usize)? {
            Place::Waits(posted) => Some(posted),
            Place::Free(_) => None,
        }
    }

    fn remove(&mut self, number: u32) -> Option<Posted<T>> {
        self.get(number)?;
        let place = &mut self.places[number as usize];
        match std::mem::replace(place, Place::Free(std::mem::replace(&mut self.free, number))) {
            Place::Waits(posted) => Some(posted),
            Place::Free(_) => None,
        }
    }
}
