//! Queued requests, first in, first out; a waiter can leave from any place in O(1).

use crate::{Tick, WaiterId};

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Waiter {
    generation: u32,
    holder: u64,
    since: Tick,
    deadline: Tick,
    previous: u32,
    next: u32,
    queued: bool,
}

/// One request that left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) holder: u64,
    pub(crate) since: Tick,
}

/// The queue of one pool.
#[derive(Debug)]
pub(crate) struct Waiters {
    waiters: Vec<Waiter>,
    free: Vec<u32>,
    head: u32,
    tail: u32,
    len: u32,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self { waiters: Vec::new(), free: Vec::new(), head: NONE, tail: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn push(&mut self, now: Tick, deadline: Tick, holder: u64) -> WaiterId {
        let previous = self.tail;
        let fresh = |generation| Waiter {
            generation,
            holder,
            since: now,
            deadline,
            previous,
            next: NONE,
            queued: true,
        };
        let index = match self.free.pop() {
            Some(index) => {
                let place = &mut self.waiters[index as usize];
                *place = fresh(place.generation);
                index
            }
            None => {
                self.waiters.push(fresh(0));
                u32::try_from(self.waiters.len() - 1).unwrap_or(NONE)
            }
        };
        match self.waiters.get_mut(previous as usize) {
            Some(waiter) => waiter.next = index,
            None => self.head = index,
        }
        self.tail = index;
        self.len += 1;
        WaiterId { index, generation: self.waiters[index as usize].generation }
    }

    pub(crate) fn pop(&mut self) -> Option<Left> {
        let waiter = self.waiters.get(self.head as usize)?;
        self.remove(WaiterId { index: self.head, generation: waiter.generation })
    }

    /// Takes one out of the queue; `None` if it is no longer there.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Left> {
        let waiter = self.waiters.get_mut(id.index as usize)?;
        if waiter.generation != id.generation || !waiter.queued {
            return None;
        }
        waiter.queued = false;
        waiter.generation = waiter.generation.wrapping_add(1);
        let (left, previous, next) =
            (Left { holder: waiter.holder, since: waiter.since }, waiter.previous, waiter.next);
        match self.waiters.get_mut(previous as usize) {
            Some(waiter) => waiter.next = next,
            None => self.head = next,
        }
        match self.waiters.get_mut(next as usize) {
            Some(waiter) => waiter.previous = previous,
            None => self.tail = previous,
        }
        self.free.push(id.index);
        self.len -= 1;
        Some(left)
    }

    /// Deadline of the oldest waiter.
    pub(crate) fn first_deadline(&self) -> Tick {
        self.waiters.get(self.head as usize).map_or(Tick::NEVER, |w| w.deadline)
    }

    /// Whose the oldest request is.
    pub(crate) fn oldest_holder(&self) -> Option<u64> {
        self.waiters.get(self.head as usize).map(|w| w.holder)
    }

    /// Since when the oldest waiter waits.
    pub(crate) fn oldest(&self) -> Option<Tick> {
        self.waiters.get(self.head as usize).map(|w| w.since)
    }
}
