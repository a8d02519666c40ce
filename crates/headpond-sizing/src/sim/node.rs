//! One node of the database: statements that share it, in virtual work.
//!
//! While n statements run, each proceeds at the speed `of_each(n)`. All proceed equally, so one number, the work that
//! a statement has done that was there from the beginning, orders their ends: whoever starts at `v` with work `d` ends
//! at `v + d`, whatever others do meanwhile. That is exact for equal sharing, and costs a heap operation.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use headpond_core::ConnId;

use super::requests::RequestId;
use crate::scenario::Speed;

/// What a node works on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    /// A statement of a request.
    Statement(RequestId),
    /// A login: pool, life of the pool, connection.
    Login(u32, u32, ConnId),
}

#[derive(Debug)]
struct Running {
    ends: f64,
    number: u64,
    job: Job,
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ends.total_cmp(&other.ends).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Running {}

/// Work done that counts as none: times are whole nanoseconds.
const ROUNDING: f64 = 0.5;

/// A database server.
pub(super) struct Node {
    running: BinaryHeap<Reverse<Running>>,
    speed: Speed,
    /// Speeds by the number running, as far as they were needed.
    speeds: Vec<f64>,
    /// Work that each statement has done, in nanoseconds of a node that does nothing else, at `since`.
    work: f64,
    since: u64,
    next: u64,
    number: u64,
    /// Pauses that are under way, each of which keeps it still.
    pauses: u32,
    pub(super) up: bool,
    /// Connections it has.
    pub(super) connections: u32,
}

impl Node {
    pub(super) fn new(speed: &Speed) -> Self {
        Self {
            running: BinaryHeap::new(),
            speed: speed.clone(),
            speeds: vec![1.0],
            work: 0.0,
            since: 0,
            next: u64::MAX,
            number: 0,
            pauses: 0,
            up: true,
            connections: 0,
        }
    }

    /// When the next job ends, if nothing else happens before.
    pub(super) fn next_end(&self) -> u64 {
        self.next
    }

    pub(super) fn start(&mut self, now: u64, work: f64, job: Job) {
        self.advance(now);
        self.number += 1;
        self.running.push(Reverse(Running { ends: self.work + work, number: self.number, job }));
        self.foresee();
    }

    /// A job that has ended by now.
    pub(super) fn take_ended(&mut self, now: u64) -> Option<Job> {
        self.advance(now);
        let ended = self.running.peek().is_some_and(|Reverse(first)| first.ends <= self.work + ROUNDING);
        let job = if ended && self.pauses == 0 { self.running.pop() } else { None };
        self.foresee();
        job.map(|Reverse(running)| running.job)
    }

    pub(super) fn pause(&mut self, now: u64) {
        self.advance(now);
        self.pauses += 1;
        self.foresee();
    }

    pub(super) fn go_on(&mut self, now: u64) {
        self.advance(now);
        self.pauses = self.pauses.saturating_sub(1);
        self.foresee();
    }

    /// Gone, and all it was doing.
    pub(super) fn crash(&mut self, now: u64) {
        self.advance(now);
        self.running.clear();
        self.connections = 0;
        self.up = false;
        self.foresee();
    }

    fn advance(&mut self, now: u64) {
        if self.pauses == 0 && !self.running.is_empty() {
            self.work += (now - self.since) as f64 * self.speed();
        }
        self.since = now;
    }

    fn foresee(&mut self) {
        self.next = match self.running.peek() {
            Some(Reverse(first)) if self.pauses == 0 => {
                let left = (first.ends - self.work).max(0.0);
                let speed = self.speed();
                self.since.saturating_add((left / speed).ceil() as u64)
            }
            _ => u64::MAX,
        };
    }

    fn speed(&mut self) -> f64 {
        let running = self.running.len();
        while self.speeds.len() <= running {
            let count = u32::try_from(self.speeds.len()).unwrap_or(u32::MAX);
            self.speeds.push(self.speed.of_each(count));
        }
        self.speeds[running]
    }
}
