//! Queued requests. Within an application first in, first out; between applications weighted-fair; a waiter can
//! leave from any place.
//!
//! Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996): each application's next request carries a start
//! tag, the later of the queue's virtual time and the finish tag of its last one; the smallest start tag is served,
//! and becomes the virtual time. An application that was away gains nothing by it. With a single application
//! this is a plain queue.
//!
//! Who comes and who is served in turn touches one end of a queue, and no neighbour: a pool behind a lock is changed by
//! one core after the other, and each line of memory that it writes has to travel.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::{Tick, WaiterId};

/// Virtual time that one grant costs an application of weight 1.
const COST: u64 = 1 << 20;

/// So many who left lie between those who wait, beside as many as wait.
const LEFT: usize = 32;

#[derive(Debug)]
struct Waiter {
    holder: u64,
    since: Tick,
    deadline: Tick,
    /// They are numbered within an application, as they come.
    number: u32,
    /// Otherwise it has left.
    waits: bool,
}

/// There may be very many.
const _: () = assert!(size_of::<Waiter>() <= 32);

#[derive(Debug)]
struct Application {
    /// At both ends is who waits.
    queue: VecDeque<Waiter>,
    /// Of those who wait.
    len: u32,
    /// The number of the next.
    next: u32,
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

/// The queue of one pool.
#[derive(Debug)]
pub(crate) struct Waiters {
    len: u32,
    /// The application that was last asked for, and its place.
    latest: Option<(u32, u32)>,
    virtual_time: u64,
    /// No deadline comes before this; may be too early, never too late.
    first_deadline: Tick,
    applications: Vec<Application>,
    /// Applications with somebody waiting.
    active: Vec<u32>,
    /// Those who left because their deadline has come, the oldest last; empty but for one turn.
    overdue: Vec<Left>,
    names: BTreeMap<u32, u32>,
}

impl Waiter {
    fn left(&self) -> Left {
        Left { holder: self.holder, since: self.since }
    }
}

impl Application {
    /// The one at this place leaves, if it has not yet.
    fn remove(&mut self, at: usize) -> Option<Left> {
        let waiter = self.queue.get_mut(at).filter(|waiter| waiter.waits)?;
        waiter.waits = false;
        let left = waiter.left();
        self.len -= 1;
        while self.queue.front().is_some_and(|first| !first.waits) {
            self.queue.pop_front();
        }
        while self.queue.back().is_some_and(|last| !last.waits) {
            self.queue.pop_back();
        }
        if self.queue.len() > 2 * self.len as usize + LEFT {
            self.queue.retain(|waiter| waiter.waits);
        }
        Some(left)
    }

    fn since(&self) -> Option<Tick> {
        self.queue.front().map(|first| first.since)
    }
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            len: 0,
            latest: None,
            virtual_time: 0,
            first_deadline: Tick::NEVER,
            applications: Vec::new(),
            active: Vec::new(),
            overdue: Vec::new(),
            names: BTreeMap::new(),
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
        let place = self.application(application);
        if self.len == 0 || !planted!(DeadlinesForgotten) {
            self.first_deadline = self.first_deadline.min(deadline);
        }
        let Application { queue, len, next, .. } = &mut self.applications[place as usize];
        let number = *next;
        queue.push_back(Waiter { holder, since: now, deadline, number, waits: true });
        *next = number.wrapping_add(1);
        *len += 1;
        if *len == 1 {
            self.active.push(place);
        }
        self.len += 1;
        WaiterId { application: place, number }
    }

    /// Takes out the request whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Left> {
        if planted!(OldestFirstServed) {
            return self.pop_oldest();
        }
        let place = match self.active[..] {
            [] => return None,
            [only] => only,
            _ => *self
                .active
                .iter()
                .min_by_key(|place| (self.start_of(**place), self.applications[**place as usize].since()))?,
        };
        let start = self.start_of(place);
        self.virtual_time = start;
        let application = &mut self.applications[place as usize];
        application.finish = start + application.cost;
        let next = if planted!(LastComeFirstServed) { application.queue.len() - 1 } else { 0 };
        self.remove_at(place, next)
    }

    /// Takes out the request that has been there for longest, whosever it is.
    pub(crate) fn pop_oldest(&mut self) -> Option<Left> {
        self.remove_at(self.oldest_place()?, 0)
    }

    /// Takes out a request whose deadline has come, the oldest first; all of them, before anything else is asked.
    pub(crate) fn pop_overdue(&mut self, now: Tick) -> Option<Left> {
        if self.overdue.is_empty() && self.first_deadline <= now {
            self.find_overdue(now);
        }
        self.overdue.pop()
    }

    /// Finds out anew, too, when the next deadline comes.
    fn find_overdue(&mut self, now: Tick) {
        self.first_deadline = Tick::NEVER;
        for place in &self.active {
            let Application { queue, len, .. } = &mut self.applications[*place as usize];
            queue.retain(|waiter| {
                let stays = waiter.waits && waiter.deadline > now;
                if stays {
                    self.first_deadline = self.first_deadline.min(waiter.deadline);
                } else if waiter.waits {
                    self.overdue.push(waiter.left());
                    *len -= 1;
                    self.len -= 1;
                }
                stays
            });
        }
        self.overdue.reverse();
        if self.active.len() > 1 {
            self.overdue.sort_unstable_by_key(|left| Reverse(left.since));
        }
        self.active.retain(|place| self.applications[*place as usize].len > 0);
    }

    /// Takes one out of the queue; `None` if it is no longer there.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Left> {
        let queue = &self.applications.get(id.application as usize)?.queue;
        let first = queue.front()?.number;
        // From the first on, for numbers begin anew at some time.
        let distance = |number: u32| number.wrapping_sub(first);
        let at = queue.binary_search_by_key(&distance(id.number), |waiter| distance(waiter.number)).ok()?;
        self.remove_at(id.application, at)
    }

    /// No deadline comes before this; may be too early, never too late.
    pub(crate) fn first_deadline(&self) -> Tick {
        self.first_deadline
    }

    /// Whose the oldest request is, and since when it waits.
    pub(crate) fn oldest(&self) -> Option<Left> {
        self.applications[self.oldest_place()? as usize].queue.front().map(Waiter::left)
    }

    fn oldest_place(&self) -> Option<u32> {
        self.active.iter().copied().min_by_key(|place| self.applications[*place as usize].since())
    }

    fn start_of(&self, place: u32) -> u64 {
        let finish = self.applications[place as usize].finish;
        if planted!(AbsenceIsSaved) { finish } else { self.virtual_time.max(finish) }
    }

    fn application(&mut self, name: u32) -> u32 {
        if let Some((latest, place)) = self.latest
            && latest == name
        {
            return place;
        }
        let next = u32::try_from(self.applications.len()).unwrap_or(u32::MAX);
        let place = *self.names.entry(name).or_insert(next);
        if place == next {
            let queue = VecDeque::new();
            self.applications.push(Application { queue, len: 0, next: 0, cost: COST, finish: 0 });
        }
        self.latest = Some((name, place));
        place
    }

    fn remove_at(&mut self, place: u32, at: usize) -> Option<Left> {
        let application = &mut self.applications[place as usize];
        let left = application.remove(at)?;
        if application.len == 0 {
            self.active.retain(|other| *other != place);
        }
        self.len -= 1;
        if self.len == 0 {
            self.first_deadline = Tick::NEVER;
        }
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiters(holders: std::ops::Range<u64>, first_number: u32) -> (Waiters, Vec<WaiterId>) {
        let mut waiters = Waiters::new();
        let place = waiters.application(7) as usize;
        waiters.applications[place].next = first_number;
        let ids = holders.map(|holder| waiters.push(Tick(holder), Tick::NEVER, 7, holder)).collect();
        (waiters, ids)
    }

    #[test]
    fn one_that_waits_for_ever_keeps_nothing_of_those_who_came_and_left_behind_it() {
        let (mut waiters, mut ids) = waiters(0..2, 0);
        for holder in 2..10_000 {
            ids.push(waiters.push(Tick(holder), Tick::NEVER, 7, holder));
            assert!(waiters.remove(ids[ids.len() - 2]).is_some());
            assert!(waiters.applications[0].queue.len() <= LEFT + 2 * 3);
        }
        assert_eq!((waiters.len(), waiters.len_of(7)), (2, 2));
        assert!(ids[1..9999].iter().all(|id| waiters.remove(*id).is_none()));
        let mut rest = || waiters.pop().map(|left| left.holder);
        assert_eq!((rest(), rest(), rest()), (Some(0), Some(9999), None));
    }

    #[test]
    fn who_leaves_is_found_though_numbers_began_anew() {
        let (mut waiters, ids) = waiters(0..5, u32::MAX - 2);
        assert_eq!(waiters.remove(ids[3]).map(|left| left.holder), Some(3));
        assert_eq!(waiters.remove(ids[3]), None);
        assert_eq!(waiters.remove(ids[2]).map(|left| left.holder), Some(2));
        let rest: Vec<_> = std::iter::from_fn(|| waiters.pop().map(|left| left.holder)).collect();
        assert_eq!(rest, [0, 1, 4]);
    }
}
