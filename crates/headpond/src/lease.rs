//! A connection in somebody's hands.

use std::fmt;
use std::ops::{Deref, DerefMut};

use headpond_core::{CloseReason, Tick};

use crate::connector::Connector;
use crate::inner::Inner;
use crate::jobs;
use crate::raw::Entry;
use crate::slot::Slot;
use crate::state::State;

/// A connection that its holder has for itself; it derefs to the driver's. Dropped, it goes home at once, on any
/// thread: to the one who waits for longest, or into the pool. No task is needed for that, unless the session must be
/// reset first.
///
/// It owns what it needs: it may be moved to another task, and may outlive the [`Pool`](crate::Pool).
pub struct Lease<C: Connector> {
    /// Empty only while it is being dropped or taken apart.
    slot: Option<Box<Slot<C>>>,
}

impl<C: Connector> Lease<C> {
    pub(crate) fn new(slot: Box<Slot<C>>) -> Self {
        Self { slot: Some(slot) }
    }

    /// The session is not as it was found, in a way that the driver does not see: it is reset before anybody else has
    /// it.
    pub fn taint(&mut self) {
        self.slot_mut().tainted = true;
    }

    /// Gives the connection up: it is closed, and the pool opens another if one is needed.
    pub fn close(mut self) {
        if let Some(slot) = self.slot.take() {
            let pool = slot.pool.clone();
            pool.turn(|state, now| state.close(now, slot, CloseReason::ClientLost));
        }
    }

    /// Takes the connection out of the pool, which may open another in its place.
    #[must_use]
    pub fn detach(mut self) -> C::Connection {
        let slot = self.slot.take().expect(HELD);
        slot.pool.turn(|state, now| state.forget(now, &slot, CloseReason::Dedicated));
        slot.connection
    }

    fn slot(&self) -> &Slot<C> {
        self.slot.as_deref().expect(HELD)
    }

    fn slot_mut(&mut self) -> &mut Slot<C> {
        self.slot.as_deref_mut().expect(HELD)
    }
}

const HELD: &str = "only what consumes a lease empties it";

impl<C: Connector> Deref for Lease<C> {
    type Target = C::Connection;

    fn deref(&self) -> &C::Connection {
        &self.slot().connection
    }
}

impl<C: Connector> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C::Connection {
        &mut self.slot_mut().connection
    }
}

impl<C: Connector> Drop for Lease<C> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            give_back(slot);
        }
    }
}

impl<C: Connector> fmt::Debug for Lease<C>
where
    C::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.slot().connection).finish()
    }
}

/// A lease ends.
#[inline]
pub(crate) fn give_back<C: Connector>(mut slot: Box<Slot<C>>) {
    let Slot { connection, pool, tainted, grounds, mark, shelved, .. } = &mut *slot;
    if pool.connector.is_broken(connection) {
        return lost(slot);
    }
    if *tainted || pool.connector.is_dirty(connection) {
        return dirty(slot);
    }
    let now = pool.clock.coarse();
    // What lies on a shelf is lent; who sees that while he is at the shelf may put it there (`State::recall`).
    if mark.is_lent()
        && let Some(mut shelf) = grounds.shelf()
        && mark.is_lent()
        && shelf.has_room()
    {
        let usage = shelf.usage();
        usage.holds += 1;
        usage.hold_time += now.0.saturating_sub(mark.since().0);
        *shelved = now;
        shelf.push(slot);
        return;
    }
    release(slot, now);
}

/// The machine is told that a lease ends. Nothing here counts on the pool to be there once the slot has moved on.
fn release<C: Connector>(slot: Box<Slot<C>>, now: Tick) {
    let door = slot.grounds.door;
    // While there is upkeep the round number is at most as old as the last.
    let exact = |state: &State<C>| if state.asleep { slot.pool.clock.now() } else { now };
    let Some(mut state) = door.try_lock(exact) else { return door.post(Entry::Return(slot)) };
    let now = state.last();
    slot.pool.clock.refresh(now);
    state.release(now, slot);
}

/// The next request on this thread is served by what the last one gave back.
#[inline]
pub(crate) fn take_at_hand<C: Connector>(
    pool: &Inner<C>,
    name: impl FnOnce(&Slot<C>),
) -> Option<Box<Slot<C>>> {
    let mut shelf = pool.grounds.filled_shelf()?;
    let mut slot = shelf.pop()?;
    shelf.usage().acquires += 1;
    slot.mark.begin(pool.clock.coarse());
    name(&slot);
    drop(shelf);
    slot.used = true;
    if pool.connector.is_broken(&mut slot.connection) {
        lost(slot);
        return None;
    }
    Some(slot)
}

#[cold]
pub(crate) fn lost<C: Connector>(slot: Box<Slot<C>>) {
    let pool = slot.pool.clone();
    pool.turn(|state, now| state.close(now, slot, CloseReason::ServerLost));
}

#[cold]
fn dirty<C: Connector>(slot: Box<Slot<C>>) {
    let pool = slot.pool.clone();
    pool.turn(|state, now| state.reset(now, &slot));
    jobs::start_reset(slot);
}
