//! What happens when: events in order of their time, equal ones in order of their coming.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use headpond_core::ConnId;

use super::requests::RequestId;

/// Something that is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The next request, or group of requests, of an application.
    Arrival(u32),
    /// A client of an application with a fixed number of clients asks again.
    AsksAgain(u32),
    /// The clients of an application that have waited for too long.
    Impatience(u32),
    /// A request is made anew.
    Retry(RequestId),
    /// A pool's own deadline.
    Timer(u32),
    /// A client has thought for long enough.
    Thought(RequestId),
    /// A login reaches its node: pool, life of the pool, connection.
    Login(u32, u32, ConnId),
    /// A check was answered.
    Checked(u32, u32, ConnId),
    /// A node has let a connection go.
    Closed(u32, u32, ConnId),
    /// A node pauses at random, and goes on.
    Stall(u32),
    /// It goes on.
    GoOn(u32),
    /// An event of the scenario begins, or ends.
    Begins(u32),
    /// It ends.
    Ends(u32),
}

struct Entry {
    at: u64,
    number: u64,
    due: Due,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// All that is due.
#[derive(Default)]
pub(super) struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: u64, due: Due) {
        self.number += 1;
        self.entries.push(Reverse(Entry { at, number: self.number, due }));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> u64 {
        self.entries.peek().map_or(u64::MAX, |Reverse(entry)| entry.at)
    }

    pub(super) fn take(&mut self) -> Option<Due> {
        self.entries.pop().map(|Reverse(entry)| entry.due)
    }
}
