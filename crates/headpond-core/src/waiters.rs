//! Queued requests. Within an application first in, first out; between applications weighted-fair; a waiter can
//! leave from any place in O(1).
//!
//! Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996): each application's next request carries a start
//! tag, the later of the queue's virtual time and the finish tag of its last one; the smallest start tag is served,
//! and becomes the virtual time. An application that was away gains nothing by it. With a single application
//! this is a plain queue.

use std::collections::BTreeMap;

use crate::{Tick, WaiterId};

const NONE: u32 = u32::MAX;

/// Virtual time that one grant costs an application of weight 1.
const COST: u64 = 1 << 20;

#[derive(Debug)]
struct Waiter {
    generation: u32,
    /// The place of its application; [`NONE`] once it has left.
    application: u32,
    holder: u64,
    since: Tick,
    deadline: Tick,
    /// Neighbours in order of arrival, all applications together.
    all: Links,
    /// Neighbours of the same application.
    own: Links,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
}

impl Ends {
    const EMPTY: Self = Self { head: NONE, tail: NONE };
}

#[derive(Debug)]
struct Application {
    ends: Ends,
    len: u32,
    /// Virtual time that one grant costs it.
    cost: u64,
    finish: u64,
}

/// One request that left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) holder: u64,
    pub(crate) since: Tick,
}

/// There may be very many.
const _: () = assert!(size_of::<Waiter>() <= 48);

/// The queue of one pool.
#[derive(Debug)]
pub(crate) struct Waiters {
    waiters: Vec<Waiter>,
    free: Vec<u32>,
    all: Ends,
    len: u32,
    applications: Vec<Application>,
    names: BTreeMap<u32, u32>,
    /// The application that was last asked for, and its place.
    latest: Option<(u32, u32)>,
    /// Applications with somebody waiting.
    active: Vec<u32>,
    virtual_time: u64,
    /// Waiters have deadlines of their own, so the oldest need not be the first to time out.
    mixed_deadlines: bool,
    /// With mixed deadlines none comes before this; may be too early, never too late.
    first_deadline: Tick,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            waiters: Vec::new(),
            free: Vec::new(),
            all: Ends::EMPTY,
            len: 0,
            applications: Vec::new(),
            names: BTreeMap::new(),
            latest: None,
            active: Vec::new(),
            virtual_time: 0,
            mixed_deadlines: false,
            first_deadline: Tick::NEVER,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Waiters of one application.
    pub(crate) fn len_of(&self, application: u32) -> u32 {
        self.names.get(&application).map_or(0, |place| self.applications[*place as usize].len)
    }

    /// How many grants an application gets for each one of an application of weight 1.
    pub(crate) fn set_weight(&mut self, application: u32, weight: u32) {
        let place = self.application(application);
        let weight = if planted!(WeightsIgnored) { 1 } else { u64::from(weight) };
        self.applications[place as usize].cost = COST.checked_div(weight).unwrap_or(COST).max(1);
    }

    pub(crate) fn push(&mut self, now: Tick, deadline: Tick, application: u32, holder: u64) -> WaiterId {
        let application = self.application(application);
        let own_tail = self.applications[application as usize].ends.tail;
        self.first_deadline = self.first_deadline().min(deadline);
        if let Some(last) = self.waiters.get(self.all.tail as usize)
            && last.deadline > deadline
        {
            self.mixed_deadlines = true;
        }
        let waiter = |generation| Waiter {
            generation,
            application,
            holder,
            since: now,
            deadline,
            all: Links { previous: self.all.tail, next: NONE },
            own: Links { previous: own_tail, next: NONE },
        };
        let index = match self.free.pop() {
            Some(index) => {
                let generation = self.waiters[index as usize].generation;
                self.waiters[index as usize] = waiter(generation);
                index
            }
            None => {
                let waiter = waiter(0);
                self.waiters.push(waiter);
                u32::try_from(self.waiters.len() - 1).unwrap_or(NONE)
            }
        };
        match self.waiters.get_mut(self.all.tail as usize) {
            Some(last) => last.all.next = index,
            None => self.all.head = index,
        }
        self.all.tail = index;
        let Application { ends, len, .. } = &mut self.applications[application as usize];
        *len += 1;
        let first_of_its_own = ends.head == NONE;
        if first_of_its_own {
            ends.head = index;
        }
        ends.tail = index;
        match self.waiters.get_mut(own_tail as usize) {
            Some(last) => last.own.next = index,
            None => self.active.push(application),
        }
        self.len += 1;
        WaiterId { index, generation: self.waiters[index as usize].generation }
    }

    /// Takes out the request whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Left> {
        if planted!(OldestFirstServed) {
            return self.pop_oldest();
        }
        let application = match self.active[..] {
            [] => return None,
            [only] => only,
            _ => *self.active.iter().min_by_key(|place| {
                let application = &self.applications[**place as usize];
                let head = &self.waiters[application.ends.head as usize];
                (self.start_of(**place), head.since)
            })?,
        };
        let start = self.start_of(application);
        self.virtual_time = start;
        let entry = &mut self.applications[application as usize];
        entry.finish = start + entry.cost;
        let next = if planted!(LastComeFirstServed) { entry.ends.tail } else { entry.ends.head };
        self.remove_at(next)
    }

    /// Takes out the request that has been there for longest, whosever it is.
    pub(crate) fn pop_oldest(&mut self) -> Option<Left> {
        self.remove_at(self.all.head)
    }

    /// Takes out a request whose deadline has come, looking from `from` on.
    pub(crate) fn pop_overdue(&mut self, now: Tick, from: &mut u32) -> Option<Left> {
        if self.first_deadline() > now {
            return None;
        }
        while let Some(waiter) = self.waiters.get(*from as usize) {
            let index = std::mem::replace(from, waiter.all.next);
            if waiter.deadline <= now {
                return self.remove_at(index);
            }
        }
        self.find_first_deadline();
        None
    }

    /// Where looking through all requests begins.
    pub(crate) fn first(&self) -> u32 {
        self.all.head
    }

    /// Takes one out of the queue; `None` if it is no longer there.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Left> {
        let waiter = self.waiters.get(id.index as usize)?;
        let waits = waiter.generation == id.generation && waiter.application != NONE;
        if waits { self.remove_at(id.index) } else { None }
    }

    /// No deadline comes before this; may be too early, never too late.
    pub(crate) fn first_deadline(&self) -> Tick {
        match self.waiters.get(self.all.head as usize) {
            None => Tick::NEVER,
            Some(head) if !self.mixed_deadlines || planted!(DeadlinesForgotten) => head.deadline,
            Some(_) => self.first_deadline,
        }
    }

    /// Whose the oldest request is, and since when it waits.
    pub(crate) fn oldest(&self) -> Option<Left> {
        self.waiters.get(self.all.head as usize).map(|w| Left { holder: w.holder, since: w.since })
    }

    fn find_first_deadline(&mut self) {
        self.first_deadline = Tick::NEVER;
        let mut next = self.all.head;
        while let Some(waiter) = self.waiters.get(next as usize) {
            self.first_deadline = self.first_deadline.min(waiter.deadline);
            next = waiter.all.next;
        }
    }

    fn start_of(&self, application: u32) -> u64 {
        let finish = self.applications[application as usize].finish;
        if planted!(AbsenceIsSaved) { finish } else { self.virtual_time.max(finish) }
    }

    fn application(&mut self, name: u32) -> u32 {
        if let Some((latest, place)) = self.latest
            && latest == name
        {
            return place;
        }
        let next = u32::try_from(self.applications.len()).unwrap_or(NONE);
        let place = *self.names.entry(name).or_insert(next);
        if place == next {
            self.applications.push(Application { ends: Ends::EMPTY, len: 0, cost: COST, finish: 0 });
        }
        self.latest = Some((name, place));
        place
    }

    fn remove_at(&mut self, index: u32) -> Option<Left> {
        let waiter = self.waiters.get_mut(index as usize)?;
        waiter.generation = waiter.generation.wrapping_add(1);
        let left = Left { holder: waiter.holder, since: waiter.since };
        let application = std::mem::replace(&mut waiter.application, NONE);
        let (all, own) = (waiter.all, waiter.own);
        match self.waiters.get_mut(all.previous as usize) {
            Some(waiter) => waiter.all.next = all.next,
            None => self.all.head = all.next,
        }
        match self.waiters.get_mut(all.next as usize) {
            Some(waiter) => waiter.all.previous = all.previous,
            None => self.all.tail = all.previous,
        }
        let Application { ends, len, .. } = &mut self.applications[application as usize];
        *len -= 1;
        match self.waiters.get_mut(own.previous as usize) {
            Some(waiter) => waiter.own.next = own.next,
            None => ends.head = own.next,
        }
        match self.waiters.get_mut(own.next as usize) {
            Some(waiter) => waiter.own.previous = own.previous,
            None => ends.tail = own.previous,
        }
        if ends.head == NONE {
            self.active.retain(|other| *other != application);
        }
        self.free.push(index);
        self.len -= 1;
        if self.len == 0 {
            self.mixed_deadlines = false;
        }
        Some(left)
    }
}
