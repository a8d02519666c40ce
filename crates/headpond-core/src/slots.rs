//! The connections of one pool: which are in which state, and the idle ones in order of use.

use crate::{ConnId, State, Tick};

const NONE: u32 = u32::MAX;

/// One connection. `newer` and `older` link the idle ones.
#[derive(Debug)]
struct Slot {
    generation: u32,
    state: Option<State>,
    /// When it was last given back, by which the idle ones are in order; or when its lease began.
    since: Tick,
    /// When it last showed that it is good.
    proven: Tick,
    expires: Tick,
    /// Which renewal of the pool it was opened after.
    epoch: u32,
    /// Its lease was reported as too long.
    reported: bool,
    rest: Rest,
    newer: u32,
    older: u32,
}

/// What is to be known of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Plain,
    /// It is too old, and goes when its replacement is there.
    Retiring,
    /// As far as is known it is idle, but it is at the driver's hand: in no list.
    Lent,
}

/// The idle connections, newest to oldest.
#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
}

impl List {
    const EMPTY: Self = Self { newest: NONE, oldest: NONE };
}

/// All connections of one pool. Only [`Slots::change`] moves one between states, and it keeps counts and lists.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    counts: [u32; 8],
    total: u32,
    idle: List,
    epoch: u32,
    /// Idle connections that are retiring.
    retiring: u32,
    /// No idle connection expires before this; may be too early, never too late.
    first_expiry: Tick,
    /// No idle connection was last proven before this; may be too early, never too late.
    first_proof: Tick,
    /// No lease that was not reported began before this; may be too early, never too late.
    first_lease: Tick,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            counts: [0; 8],
            total: 0,
            idle: List::EMPTY,
            epoch: 0,
            retiring: 0,
            first_expiry: Tick::NEVER,
            first_proof: Tick::NEVER,
            first_lease: Tick::NEVER,
        }
    }

    /// A new connection in state opening.
    pub(crate) fn insert(&mut self, now: Tick) -> ConnId {
        let fresh = |generation, epoch| Slot {
            generation,
            state: Some(State::Opening),
            since: now,
            proven: now,
            expires: Tick::NEVER,
            epoch,
            reported: false,
            rest: Rest::Plain,
            newer: NONE,
            older: NONE,
        };
        let index = match self.free.pop() {
            Some(index) => {
                let place = &mut self.slots[index as usize];
                *place = fresh(place.generation, self.epoch);
                index
            }
            None => {
                self.slots.push(fresh(0, self.epoch));
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        self.counts[State::Opening as usize] += 1;
        self.total += 1;
        ConnId { index, generation: self.slots[index as usize].generation }
    }

    /// Forgets a connection that is gone; its id is never valid again.
    pub(crate) fn remove(&mut self, conn: ConnId) {
        let Some(state) = self.state(conn) else { return };
        self.leave_list(state, conn.index);
        self.counts[state as usize] -= 1;
        self.total -= 1;
        let slot = &mut self.slots[conn.index as usize];
        slot.state = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
    }

    /// The driver keeps a connection at hand: idle from now on, but not for the pool to give.
    pub(crate) fn lend(&mut self, now: Tick, conn: ConnId) {
        let Some(from) = self.state(conn) else { return };
        self.leave_list(from, conn.index);
        let slot = &mut self.slots[conn.index as usize];
        (slot.state, slot.since, slot.rest) = (Some(State::Idle), now, Rest::Lent);
        self.counts[from as usize] -= 1;
        self.counts[State::Idle as usize] += 1;
    }

    pub(crate) fn is_lent(&self, conn: ConnId) -> bool {
        self.state(conn).is_some() && self.slots[conn.index as usize].rest == Rest::Lent
    }

    /// The one place where a connection changes its state, but for lending.
    pub(crate) fn change(&mut self, now: Tick, conn: ConnId, to: State) {
        let Some(from) = self.state(conn) else { return };
        self.leave_list(from, conn.index);
        let slot = &mut self.slots[conn.index as usize];
        slot.state = Some(to);
        match to {
            State::InUse => self.begin_lease(now, conn),
            State::Idle => {
                // A check does not count as use: it goes back to where it was.
                if from != State::Checking || planted!(TestCountsAsUse) {
                    slot.since = now;
                }
                self.first_expiry = self.first_expiry.min(slot.expires);
                self.first_proof = self.first_proof.min(slot.proven);
                self.join_list(conn.index);
            }
            // Asked about the test as soon as it came to rest.
            State::Checking if from != State::Idle => slot.since = now,
            _ => {}
        }
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
    }

    /// A lease begins: of one that is in use by now, or that comes from another holder.
    #[inline]
    pub(crate) fn begin_lease(&mut self, now: Tick, conn: ConnId) {
        let slot = &mut self.slots[conn.index as usize];
        (slot.since, slot.reported) = (now, false);
        if now < self.first_lease {
            self.first_lease = now;
        }
    }

    #[inline]
    pub(crate) fn state(&self, conn: ConnId) -> Option<State> {
        let slot = self.slots.get(conn.index as usize)?;
        if slot.generation == conn.generation { slot.state } else { None }
    }

    pub(crate) fn count(&self, state: State) -> u32 {
        self.counts[state as usize]
    }

    pub(crate) fn counts(&self) -> [u32; 8] {
        self.counts
    }

    /// All connections the server may know of, in every state.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// All but those that are on their way out.
    pub(crate) fn alive(&self) -> u32 {
        self.total() - self.count(State::Closing)
    }

    /// Those the floors count: neither on their way in, for they may never arrive, nor on their way out.
    pub(crate) fn established(&self) -> u32 {
        self.alive() - self.count(State::Opening)
    }

    pub(crate) fn newest_idle(&self) -> Option<ConnId> {
        self.id(self.idle.newest)
    }

    /// The idle connection that has been unused for longest, and since when.
    pub(crate) fn oldest_idle(&self) -> Option<(ConnId, Tick)> {
        let conn = self.id(self.idle.oldest)?;
        Some((conn, self.slots[conn.index as usize].since))
    }

    /// No lease that was not reported began before this; may be too early, never too late.
    pub(crate) fn first_lease(&self) -> Tick {
        self.first_lease
    }

    /// The longest lease that has not been reported yet, and since when. Finds out anew when that is for all.
    pub(crate) fn oldest_unreported_lease(&mut self) -> Option<(ConnId, Tick)> {
        let leases =
            (0..).zip(&self.slots).filter(|(_, slot)| slot.state == Some(State::InUse) && !slot.reported);
        let (index, oldest) = leases.min_by_key(|(_, slot)| slot.since).unzip();
        self.first_lease = oldest.map_or(Tick::NEVER, |slot| slot.since);
        Some((self.id(index?)?, self.first_lease))
    }

    /// Marks a lease as reported.
    pub(crate) fn report(&mut self, conn: ConnId) {
        self.slots[conn.index as usize].reported = true;
    }

    /// Whether the present lease was reported, and since when it runs.
    pub(crate) fn lease(&self, conn: ConnId) -> (bool, Tick) {
        let slot = &self.slots[conn.index as usize];
        (slot.reported, slot.since)
    }

    /// A connection showed that it is good.
    pub(crate) fn prove(&mut self, now: Tick, conn: ConnId) {
        self.slots[conn.index as usize].proven = now;
    }

    pub(crate) fn proven(&self, conn: ConnId) -> Tick {
        self.slots[conn.index as usize].proven
    }

    /// No idle connection was last proven before this; may be too early, never too late.
    pub(crate) fn first_proof(&self) -> Tick {
        self.first_proof
    }

    /// The idle connection whose last proof is oldest, and when that was. Finds out anew when that is for all.
    pub(crate) fn stalest_idle(&mut self) -> Option<(ConnId, Tick)> {
        let mut stalest = None;
        self.first_proof = Tick::NEVER;
        let mut next = self.idle.oldest;
        while let Some(conn) = self.id(next) {
            let slot = &self.slots[next as usize];
            if slot.proven < self.first_proof {
                self.first_proof = slot.proven;
                stalest = Some((conn, slot.proven));
            }
            next = slot.newer;
        }
        stalest
    }

    pub(crate) fn expire_at(&mut self, conn: ConnId, at: Tick) {
        self.slots[conn.index as usize].expires = at;
    }

    pub(crate) fn is_expired(&self, now: Tick, conn: ConnId) -> bool {
        self.slots[conn.index as usize].expires <= now
    }

    pub(crate) fn is_outdated(&self, conn: ConnId) -> bool {
        self.slots[conn.index as usize].epoch != self.epoch
    }

    /// It was opened anew.
    pub(crate) fn update(&mut self, conn: ConnId) {
        self.slots[conn.index as usize].epoch = self.epoch;
    }

    /// Every connection of now is outdated: each goes when it next comes to rest.
    pub(crate) fn outdate_all(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// When the first idle connection expires, at the earliest.
    pub(crate) fn first_expiry(&self) -> Tick {
        self.first_expiry
    }

    /// Idle connections that are retiring.
    pub(crate) fn retiring(&self) -> u32 {
        self.retiring
    }

    /// From now on every idle connection that has expired is retiring; finds out anew when the next one expires.
    pub(crate) fn retire_expired(&mut self, now: Tick) {
        self.first_expiry = Tick::NEVER;
        let mut next = self.idle.oldest;
        while let Some(slot) = self.slots.get_mut(next as usize) {
            next = slot.newer;
            if slot.expires > now {
                self.first_expiry = self.first_expiry.min(slot.expires);
            } else if std::mem::replace(&mut slot.rest, Rest::Retiring) != Rest::Retiring {
                self.retiring += 1;
            }
        }
    }

    /// The retiring connection that has been unused for longest.
    pub(crate) fn oldest_retiring(&self) -> Option<ConnId> {
        let mut next = self.idle.oldest;
        while let Some(conn) = self.id(next) {
            let slot = &self.slots[next as usize];
            if slot.rest == Rest::Retiring {
                return Some(conn);
            }
            next = slot.newer;
        }
        None
    }

    fn id(&self, index: u32) -> Option<ConnId> {
        let slot = self.slots.get(index as usize)?;
        Some(ConnId { index, generation: slot.generation })
    }

    /// Puts a slot where its `since` belongs: almost always at the newest end.
    fn join_list(&mut self, index: u32) {
        let since = self.slots[index as usize].since;
        let (mut newer, mut older) = (NONE, self.idle.newest);
        while let Some(slot) = self.slots.get(older as usize)
            && slot.since > since
        {
            newer = older;
            older = slot.older;
        }
        let slot = &mut self.slots[index as usize];
        (slot.newer, slot.older) = (newer, older);
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = index,
            None => self.idle.newest = index,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = index,
            None => self.idle.oldest = index,
        }
    }

    fn leave_list(&mut self, from: State, index: u32) {
        if from != State::Idle {
            return;
        }
        let slot = &mut self.slots[index as usize];
        if slot.rest != Rest::Plain {
            let rest = std::mem::replace(&mut slot.rest, Rest::Plain);
            self.retiring -= u32::from(rest == Rest::Retiring);
            if rest == Rest::Lent {
                return;
            }
        }
        let Slot { newer, older, .. } = *slot;
        if newer == NONE {
            self.idle.newest = older;
        }
        if older == NONE {
            self.idle.oldest = newer;
        }
        if let Some(slot) = self.slots.get_mut(newer as usize) {
            slot.older = older;
        }
        if let Some(slot) = self.slots.get_mut(older as usize) {
            slot.newer = newer;
        }
    }
}
