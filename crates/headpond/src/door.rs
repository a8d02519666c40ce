//! The lock of a pool's state, with an inbox beside it.
//!
//! Neither a request that has to wait nor a connection that is given back needs an answer at once. So nobody waits for the
//! lock with them: they are posted, and whoever has the lock serves them, with everything at hand already. Nothing posted
//! is forgotten: who posts tries the lock once more afterwards, and who unlocks looks into the inbox once more.

use headpond_core::Tick;

use crate::connector::Connector;
use crate::effects::Effects;
use crate::raw::{Entry, Inbox};
use crate::slot::Slot;
use crate::state::{Outcome, State};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard, lock, try_lock};

/// So many times in a row one thread serves what others post.
const ROUNDS: u32 = if cfg!(shuttle) { 1 } else { 64 };

/// The state of a pool, locked, and what was posted for it. What is not the inbox lies together: who looks at it takes or
/// wants the lock.
#[repr(C)]
pub(crate) struct Door<C: Connector> {
    inbox: Inbox<Outcome<C>, Slot<C>>,
    /// Nothing is posted until somebody else has the lock: who has it has served others for long enough.
    is_crowded: AtomicBool,
    pub(crate) state: Mutex<State<C>>,
}

/// The state while nobody else has it. Everything posted before is done; what the machine wants done is done when it is
/// dropped.
pub(crate) struct Locked<C: Connector> {
    door: &'static Door<C>,
    state: Option<MutexGuard<'static, State<C>>>,
    effects: Effects<C>,
}

impl<C: Connector> Door<C> {
    pub(crate) fn new(state: State<C>) -> Self {
        Self { inbox: Inbox::new(), is_crowded: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Waits for the lock. `now` tells the time for what was posted.
    pub(crate) fn lock(&'static self, now: Tick) -> Locked<C> {
        Locked::new(self, lock(&self.state), |_| now)
    }

    /// The lock; `None`: somebody else has it, to whom to [`Door::post`].
    #[inline(always)]
    pub(crate) fn try_lock(&'static self, now: impl FnOnce(&State<C>) -> Tick) -> Option<Locked<C>> {
        let state = match try_lock(&self.state) {
            Some(state) => state,
            None if self.is_crowded.load(Ordering::Relaxed) => lock(&self.state),
            None => return None,
        };
        Some(Locked::new(self, state, now))
    }

    /// Whoever has the lock serves the entry, or else the caller does now.
    pub(crate) fn post(&'static self, entry: Entry<Outcome<C>, Slot<C>>) {
        if self.inbox.post(entry)
            && self.inbox.may_be_left()
            && let Some(state) = try_lock(&self.state)
        {
            drop(Locked::new(self, state, |state| state.last()));
        }
    }
}

impl<C: Connector> Locked<C> {
    #[inline(always)]
    fn new(
        door: &'static Door<C>,
        state: MutexGuard<'static, State<C>>,
        now: impl FnOnce(&State<C>) -> Tick,
    ) -> Self {
        if door.is_crowded.load(Ordering::Relaxed) {
            door.is_crowded.store(false, Ordering::Relaxed);
        }
        let now = now(&state);
        let mut locked = Self { door, state: Some(state), effects: Effects::none() };
        locked.state().at(now);
        if !door.inbox.is_empty() {
            locked.clear_inbox();
        }
        locked
    }

    #[inline]
    fn state(&mut self) -> &mut State<C> {
        self.state.as_mut().expect(LOCKED)
    }

    #[inline(never)]
    fn clear_inbox(&mut self) {
        let state = self.state.as_deref_mut().expect(LOCKED);
        let now = state.last();
        for entry in self.door.inbox.take() {
            match entry {
                Entry::Request(posted) => state.admit(now, posted, &mut self.effects),
                Entry::Return(slot) => state.release(now, slot),
            }
        }
        // Whoever was served must not be found waiting by what comes next.
        state.settle(now, &mut self.effects);
    }
}

const LOCKED: &str = "only dropping it unlocks it";

impl<C: Connector> std::ops::Deref for Locked<C> {
    type Target = State<C>;

    #[inline]
    fn deref(&self) -> &State<C> {
        self.state.as_deref().expect(LOCKED)
    }
}

impl<C: Connector> std::ops::DerefMut for Locked<C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<C> {
        self.state()
    }
}

impl<C: Connector> Drop for Locked<C> {
    #[inline]
    fn drop(&mut self) {
        let mut rounds = 0;
        while let Some(mut state) = self.state.take() {
            let now = state.last();
            state.settle(now, &mut self.effects);
            // Nothing here counts on the pool to be there: what was served may have been the last of it.
            let pool = if self.effects.is_plain() { None } else { state.pool.upgrade() };
            drop(state);
            self.effects.run(pool.as_ref());
            // If it was the last of it, that locks.
            drop(pool);
            rounds += 1;
            if rounds == ROUNDS {
                self.door.is_crowded.store(true, Ordering::Relaxed);
            }
            if self.door.inbox.may_be_left()
                && let Some(state) = try_lock(&self.door.state)
            {
                self.state = Some(state);
                self.clear_inbox();
            }
        }
    }
}
