//! Requests: from the moment a client asks until it is served, gives up, or has tried often enough.

use headpond_core::{Acquired, ConnId, Request as PoolRequest, Tick, WaiterId};

use super::World;
use super::agenda::Due;
use super::node::Job;
use super::outcome::End;

/// Names a request; the generation tells it from others at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    index: u32,
    generation: u32,
}

impl RequestId {
    pub(super) fn of(holder: u64) -> Self {
        Self { index: holder as u32, generation: (holder >> 32) as u32 }
    }

    fn holder(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// What a client wants done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) application: u32,
    /// Statements, each followed by a time to think.
    pub(super) statements: u32,
    /// Nanoseconds of one statement on a node that does nothing else.
    pub(super) work: f64,
    /// Nanoseconds after each.
    pub(super) think: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) wish: Wish,
    pub(super) site: usize,
    /// When the client asked first, and when this time.
    born: u64,
    asked: u64,
    attempt: u32,
    /// Statements and thoughts behind it: an even number when a statement is next.
    steps: u32,
    pub(super) conn: Option<ConnId>,
    pub(super) waiter: Option<WaiterId>,
    /// Its client has given up; it runs on.
    abandoned: bool,
}

/// All requests there are.
#[derive(Default)]
pub(super) struct Requests {
    places: Vec<(u32, Option<Request>)>,
    free: Vec<u32>,
}

impl Requests {
    fn insert(&mut self, request: Request) -> RequestId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(request);
        RequestId { index, generation: *generation }
    }

    pub(super) fn find(&mut self, id: RequestId) -> Option<&mut Request> {
        let (generation, request) = self.places.get_mut(id.index as usize)?;
        if *generation == id.generation { request.as_mut() } else { None }
    }

    fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = *self.find(id)?;
        let (generation, place) = &mut self.places[id.index as usize];
        *generation = generation.wrapping_add(1);
        *place = None;
        self.free.push(id.index);
        Some(request)
    }

    /// Those that wait for, or hold, a connection of a pool, in the order of their places.
    pub(super) fn at(&self, site: usize) -> Vec<(RequestId, Request)> {
        let here =
            |request: &Request| request.site == site && (request.conn.is_some() || request.waiter.is_some());
        let places = (0..).zip(&self.places);
        let id = |index, generation: u32| RequestId { index, generation };
        let found = places.filter_map(|(index, (generation, r))| Some((id(index, *generation), (*r)?)));
        found.filter(|(_, request)| here(request)).collect()
    }
}

impl World<'_> {
    /// A client asks for the first time.
    pub(super) fn wishes(&mut self, wish: Wish) {
        let id = self.requests.insert(Request {
            wish,
            site: 0,
            born: self.now,
            asked: self.now,
            attempt: 0,
            steps: 0,
            conn: None,
            waiter: None,
            abandoned: false,
        });
        self.ask(id);
    }

    /// A client asks, for the first time or again.
    pub(super) fn ask(&mut self, id: RequestId) {
        let Some(request) = self.requests.find(id) else { return };
        request.asked = self.now;
        let application = request.wish.application;
        self.await_patience(application as usize, id);
        self.queue(id);
    }

    /// A request goes to the pool whose turn it is.
    fn queue(&mut self, id: RequestId) {
        let site = self.next_site();
        let now = Tick(self.now);
        let Some(request) = self.requests.find(id) else { return };
        request.site = site;
        let ask = PoolRequest { application: request.wish.application, ..PoolRequest::of(id.holder()) };
        match self.sites[site].pool.acquire(now, ask, &mut self.out) {
            Acquired::Granted(conn) => {
                let waited = self.now - request.asked;
                self.granted(id, conn, waited);
            }
            Acquired::Queued(waiter) => request.waiter = Some(waiter),
            Acquired::Refused(_) => self.failed(id, End::Refused),
        }
        self.carry_out(site);
    }

    /// Sites take turns, those whose node is down left out unless all are.
    fn next_site(&mut self) -> usize {
        let count = self.sites.len() as u32;
        for _ in 0..count {
            let site = self.turn as usize;
            self.turn = (self.turn + 1) % count;
            if self.nodes[self.sites[site].node].up {
                return site;
            }
        }
        self.turn as usize
    }

    pub(super) fn granted(&mut self, id: RequestId, conn: ConnId, waited: u64) {
        let Some(request) = self.requests.find(id) else { return };
        request.conn = Some(conn);
        request.waiter = None;
        let (application, asked) = (request.wish.application, request.asked);
        self.tally.note_wait(self.now, application, asked, waited);
        self.tally.note_lease(self.now, true);
        let Some(request) = self.requests.find(id) else { return };
        if request.wish.statements == 0 || request.wish.work + request.wish.think <= 0.0 {
            request.steps = u32::MAX;
            self.agenda.add(self.now, Due::Thought(id));
        } else {
            self.step(id);
        }
    }

    /// The next statement of a request, or the next pause, or its end.
    pub(super) fn step(&mut self, id: RequestId) {
        let Some(request) = self.requests.find(id) else { return };
        while request.steps < 2 * request.wish.statements {
            let thinks = request.steps % 2 == 1;
            request.steps += 1;
            if thinks && request.wish.think > 0.0 {
                let until = self.now.saturating_add(request.wish.think.round() as u64);
                self.agenda.add(until, Due::Thought(id));
                return;
            }
            if !thinks && request.wish.work > 0.0 {
                let (work, node) = (request.wish.work, self.sites[request.site].node);
                self.nodes[node].start(self.now, work, Job::Statement(id));
                return;
            }
        }
        self.ended(id);
    }

    fn ended(&mut self, id: RequestId) {
        let Some(request) = self.requests.remove(id) else { return };
        if !request.abandoned {
            self.tally.note_served(self.now, request.wish.application, request.born);
            self.client_is_done(request.wish.application as usize);
        }
        if let Some(conn) = request.conn {
            self.tally.note_lease(self.now, false);
            self.sites[request.site].pool.release(Tick(self.now), conn, &mut self.out);
            self.carry_out(request.site);
        }
    }

    pub(super) fn refused(&mut self, id: RequestId) {
        if let Some(request) = self.requests.find(id) {
            request.waiter = None;
            let (application, asked) = (request.wish.application, request.asked);
            self.tally.note_wait(self.now, application, asked, self.now - asked);
            self.failed(id, End::TimedOut);
        }
    }

    /// A client has waited for too long; what it asked for runs on, if it has begun.
    pub(super) fn gives_up(&mut self, id: RequestId) {
        let now = self.now;
        let Some(request) = self.requests.find(id) else { return };
        if let Some(waiter) = request.waiter.take() {
            let (application, asked, site) = (request.wish.application, request.asked, request.site);
            self.tally.note_wait(now, application, asked, now - asked);
            self.sites[site].pool.withdraw(Tick(now), waiter);
            self.failed(id, End::GaveUp);
            self.carry_out(site);
        } else if !request.abandoned {
            self.failed(id, End::GaveUp);
        }
    }

    /// Its connection is gone, and so is what ran on it.
    pub(super) fn connection_lost(&mut self, id: RequestId) {
        let Some(request) = self.requests.find(id) else { return };
        request.waiter = None;
        let (lost, abandoned) = (request.conn.take(), request.abandoned);
        if lost.is_some() {
            self.tally.note_lease(self.now, false);
        }
        if abandoned {
            self.requests.remove(id);
        } else {
            self.failed(id, End::Lost);
        }
    }

    /// A waiter goes to another pool, as if it had asked there in the first place.
    pub(super) fn moves_on(&mut self, id: RequestId) {
        let Some(request) = self.requests.find(id) else { return };
        if let Some(waiter) = request.waiter.take() {
            let site = request.site;
            self.sites[site].pool.withdraw(Tick(self.now), waiter);
            self.queue(id);
        }
    }

    /// An attempt has failed: the client tries again later, or no more.
    fn failed(&mut self, id: RequestId, end: End) {
        let Some(request) = self.requests.find(id) else { return };
        let failed = *request;
        if failed.conn.is_some() {
            request.abandoned = true;
        } else {
            self.requests.remove(id);
        }
        let number = failed.wish.application;
        let application = &self.scenario.applications[number as usize];
        self.tally.note_failure(self.now, number, failed.asked, end);
        if failed.attempt >= application.retries {
            self.tally.note_lost(number, failed.asked);
            self.client_is_done(number as usize);
            return;
        }
        let pause = application.backoff * f64::from(1u32 << failed.attempt.min(16));
        let shorter = self.chance.unit() / 2.0;
        let until = self.after(pause * (1.0 - shorter));
        let attempt = failed.attempt + 1;
        let again = Request { attempt, steps: 0, conn: None, waiter: None, abandoned: false, ..failed };
        let again = self.requests.insert(again);
        self.agenda.add(until, Due::Retry(again));
    }
}
