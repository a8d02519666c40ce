//! What is due when. Entries are never removed early: each is looked at when due, and means nothing if what it
//! was for has gone or moved on.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use headpond_core::Tick;

use crate::action::{CancelId, ClientId, ServerId};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A pool's policy has something to do.
    Pool(u32),
    /// A server connection's login, errand, recovery or close takes too long.
    Server(ServerId),
    /// A cancel request takes too long.
    Cancel(CancelId),
    /// A permit of a node may have been given back elsewhere.
    Budget(u32),
    /// A node's control connection has something to ask.
    Control(u32),
    /// A client has not logged in.
    Login(ClientId),
    /// A client is idle for too long.
    Idle(ClientId),
    /// A lease, or what is done under it, takes too long.
    Lease(ServerId),
    /// A connection that only values of sequences pin may be needed elsewhere.
    Sequences(ServerId),
}

/// So many logins that are over are no reason to look for them.
const OVER_MAX: usize = 256;

/// All timers of a machine.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Tick, Timer)>>,
    /// Logins are many and all have the same time: they are due in the order they came, if at all.
    logins: VecDeque<(Tick, ClientId)>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Tick, timer: Timer) {
        if at < Tick::NEVER {
            self.heap.push(Reverse((at, timer)));
        }
    }

    pub(crate) fn client_login(&mut self, at: Tick, client: ClientId) {
        self.logins.push_back((at, client));
    }

    /// Clients that may not be in yet, in the order they came; some are, or are gone.
    pub(crate) fn logins(&self) -> impl Iterator<Item = ClientId> {
        self.logins.iter().map(|(_, client)| *client)
    }

    /// Forgets the logins at the front that `is_over`: called as logins end, so that a storm of short ones
    /// does not pile up until their time-out. Where one at the front lasts, those behind it go when they are many more than
    /// the `open` ones.
    pub(crate) fn trim_logins(&mut self, open: usize, is_over: impl Fn(ClientId) -> bool) {
        while self.logins.front().is_some_and(|(_, client)| is_over(*client)) {
            self.logins.pop_front();
        }
        if self.logins.len() > 2 * open + OVER_MAX {
            self.logins.retain(|(_, client)| !is_over(*client));
        }
    }

    /// Logins of now are due at `at`, at the latest.
    pub(crate) fn limit_logins(&mut self, at: Tick) {
        for (due, _) in &mut self.logins {
            *due = at.min(*due);
        }
    }

    pub(crate) fn next(&self) -> Option<Tick> {
        let login = self.logins.front().map(|(at, _)| *at).filter(|at| *at < Tick::NEVER);
        let other = self.heap.peek().map(|Reverse((at, _))| *at);
        login.into_iter().chain(other).min()
    }

    /// A timer that is due, if any.
    pub(crate) fn pop(&mut self, now: Tick) -> Option<Timer> {
        if let Some((at, client)) = self.logins.front().copied()
            && at <= now
        {
            self.logins.pop_front();
            return Some(Timer::Login(client));
        }
        match self.heap.peek() {
            Some(Reverse((at, timer))) if *at <= now => {
                let timer = *timer;
                self.heap.pop();
                Some(timer)
            }
            _ => None,
        }
    }
}
