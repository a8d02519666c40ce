//! The shell around the machine: one short lock, and what must be done once it is free again.

use std::sync::{Arc, Weak};

use headpond_core::Tick;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::builder::{Builder, Options};
use crate::clock::Clock;
use crate::connector::{Connect, Connector};
use crate::door::Locked;
use crate::shelf::Grounds;
use crate::state::State;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};
use crate::upkeep;

/// What every handle, lease and task of a pool shares.
pub(crate) struct Inner<C: Connector> {
    pub(crate) grounds: Grounds<C>,
    pub(crate) clock: Clock,
    pub(crate) connector: C,
    pub(crate) options: Options,
    pub(crate) login: Mutex<Connect>,
    /// Wakes the upkeep before its time.
    pub(crate) due: Notify,
    /// Something happened that [`crate::Pool::wait_ready`] or [`crate::Pool::close`] may wait for.
    pub(crate) changed: Notify,
    /// Where tasks run; none before the pool is first used within a runtime, and after that one has ended.
    runtime: Mutex<Option<Handle>>,
    has_runtime: AtomicBool,
}

impl<C: Connector> Inner<C> {
    pub(crate) fn new(builder: Builder<C>) -> Arc<Self> {
        let Builder { connector, policy, options } = builder;
        let state = State::new(policy, &options);
        Arc::new_cyclic(|pool| {
            let grounds = Grounds::obtain(state);
            // Nobody else knows them yet, so nothing is posted.
            let mut state = lock(&grounds.door.state);
            (state.grounds, state.pool) = (Some(grounds), pool.clone());
            drop(state);
            Self {
                grounds,
                clock: Clock::new(),
                connector,
                options,
                login: Mutex::default(),
                due: Notify::new(),
                changed: Notify::new(),
                runtime: Mutex::new(None),
                has_runtime: AtomicBool::new(false),
            }
        })
    }

    pub(crate) fn lock(&self) -> Locked<C> {
        self.grounds.door.lock(self.clock.now())
    }

    /// Something happens to the machine: `act` tells it, and what it wants done is done once the lock is free.
    pub(crate) fn turn<R>(self: &Arc<Self>, act: impl FnOnce(&mut State<C>, Tick) -> R) -> R {
        let mut state = self.lock();
        let now = state.last();
        self.clock.refresh(now);
        act(&mut state, now)
    }

    /// Where tasks run. Takes the runtime of the caller, if there is none yet or no longer.
    pub(crate) fn runtime(self: &Arc<Self>) -> Option<Handle> {
        let mut runtime = lock(&self.runtime);
        if let Some(handle) = &*runtime {
            return Some(handle.clone());
        }
        let handle = Handle::try_current().ok()?;
        *runtime = Some(handle.clone());
        drop(runtime);
        self.has_runtime.store(true, Ordering::Release);
        // A runtime that is ending drops what it is given at once: the upkeep tells so even then.
        handle.spawn(upkeep::run(self.clone()));
        Some(handle)
    }

    /// Whether there is one, without a lock.
    pub(crate) fn has_runtime(&self) -> bool {
        cfg!(shuttle) || self.has_runtime.load(Ordering::Acquire)
    }

    /// The runtime has ended, or the upkeep has nothing more to do.
    pub(crate) fn lose_runtime(&self) {
        self.has_runtime.store(false, Ordering::Release);
        lock(&self.runtime).take();
    }

    /// How to log in at present.
    pub(crate) fn login(&self) -> Connect {
        lock(&self.login).clone()
    }

    pub(crate) fn wake_upkeep(&self) {
        self.due.notify_one();
    }
}

impl<C: Connector> Drop for Inner<C> {
    fn drop(&mut self) {
        // Every connection holds a count on the pool: none is left, so nothing lies on a shelf.
        self.lock().pool = Weak::new();
        self.grounds.part_with();
    }
}

impl<C: Connector> std::fmt::Debug for Inner<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).finish_non_exhaustive()
    }
}
