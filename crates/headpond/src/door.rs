//! The lock of a pool's state, with an inbox beside it.
//!
//! Neither a request that has to wait nor a connection that is given back needs an answer at once. So nobody waits for the
//! lock with them: they are posted, and whoever has the lock serves them, with everything at hand already. Nothing posted
//! is forgotten: who posts tries the lock once more afterwards, and who unlocks looks into the inbox once more.
//!
//! While others wait a request is posted though the lock may be free: it comes after them, so it is early enough when
//! the next one who has the lock finds it. There is a next one, for somebody waits for what he will bring; and when nobody
//! waits any more, that is told in the same way: who posts looks once more afterwards, and who unlocks into the inbox.

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

/// The state of a pool, locked, and what was posted for it.
#[repr(C)]
pub(crate) struct Door<C: Connector> {
    front: Front<C>,
    pub(crate) state: Mutex<State<C>>,
}

/// What is for those who do not have the lock, on cache lines of its own.
#[repr(align(128))]
struct Front<C: Connector> {
    inbox: Inbox<Outcome<C>, Slot<C>>,
    /// Nothing is posted until somebody else has the lock: who has it has served others for long enough.
    is_crowded: AtomicBool,
    /// As [`State::is_queueing`] says. Changed with the lock.
    is_queueing: AtomicBool,
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
        let (is_crowded, is_queueing) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { front: Front { inbox: Inbox::new(), is_crowded, is_queueing }, state: Mutex::new(state) }
    }

    /// Whether a request need not even try the lock before it is posted.
    #[inline]
    pub(crate) fn is_queueing(&self) -> bool {
        self.front.is_queueing.load(Ordering::Relaxed) && !self.front.is_crowded.load(Ordering::Relaxed)
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
            None if self.front.is_crowded.load(Ordering::Relaxed) => lock(&self.state),
            None => return None,
        };
        Some(Locked::new(self, state, now))
    }

    /// Whoever has the lock serves the entry, or will have it while others wait, or else the caller does now.
    pub(crate) fn post(&'static self, entry: Entry<Outcome<C>, Slot<C>>) {
        let may_wait = matches!(entry, Entry::Request(_));
        self.front.inbox.post(entry);
        if may_wait && self.front.is_queueing.load(Ordering::SeqCst) {
            return;
        }
        if self.front.inbox.may_be_left()
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
        set(&door.front.is_crowded, false);
        let now = now(&state);
        let mut locked = Self { door, state: Some(state), effects: Effects::none() };
        locked.state().at(now);
        if !door.front.inbox.is_empty() {
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
        for entry in self.door.front.inbox.take() {
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
            set(&self.door.front.is_queueing, state.is_queueing());
            drop(state);
            self.effects.run(pool.as_ref());
            // If it was the last of it, that locks.
            drop(pool);
            rounds += 1;
            if rounds == ROUNDS {
                set(&self.door.front.is_crowded, true);
            }
            if self.door.front.inbox.may_be_left()
                && let Some(state) = try_lock(&self.door.state)
            {
                self.state = Some(state);
                self.clear_inbox();
            }
        }
    }
}

/// Writes only what is new: others read it.
#[inline]
fn set(flag: &AtomicBool, to: bool) {
    if flag.load(Ordering::Relaxed) != to {
        flag.store(to, Ordering::Relaxed);
    }
}
