//! The pool as its users know it.

use std::fmt;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;

use headpond_core::{PoolSettings, State, Tick};
use tokio::time::Instant;

use crate::acquire::Acquire;
use crate::builder::Builder;
use crate::connector::{Connector, Credentials};
use crate::error::AcquireError;
use crate::inner::Inner;
use crate::lease::{Lease, lost, take_at_hand};
use crate::slot::Tag;
use crate::state as shell;
use crate::stats::Stats;
use crate::sync::lock;

/// A pool of connections. A handle: clones are the same pool.
///
/// When the last handle is dropped the pool is closed: idle connections are, and those that are leased when they come
/// back.
pub struct Pool<C: Connector>(Arc<Handles<C>>);

/// What all handles share.
struct Handles<C: Connector>(Arc<Inner<C>>);

impl<C: Connector> Pool<C> {
    /// A pool with the default settings; [`Builder::build`] makes it.
    pub fn builder(connector: C) -> Builder<C> {
        Builder::new(connector)
    }

    pub(crate) fn new(builder: Builder<C>) -> Self {
        let inner = Inner::new(builder);
        if inner.runtime().is_some() {
            inner.turn(|state, now| state.command(now, |machine, now, out| machine.start(now, out)));
        }
        Self(Arc::new(Handles(inner)))
    }

    /// Asks for a connection, and waits for one if need be: first come, first served.
    ///
    /// Cancel-safe; see [`Acquire`], which also takes a label and a deadline.
    ///
    /// # Errors
    ///
    /// [`AcquireError`](crate::AcquireError), which says why.
    #[track_caller]
    pub fn acquire(&self) -> Acquire<'_, C> {
        Acquire::new(self.inner(), Location::caller())
    }

    /// As [`Pool::acquire`], with a deadline.
    #[track_caller]
    pub fn acquire_until(&self, deadline: Instant) -> Acquire<'_, C> {
        Acquire::new(self.inner(), Location::caller()).until(deadline)
    }

    /// A connection, if one is idle, needs no test, and nobody waits for it.
    #[track_caller]
    pub fn try_acquire(&self) -> Option<Lease<C>> {
        let (pool, tag) = (self.inner(), Tag { site: Location::caller(), label: None });
        loop {
            let at_hand = take_at_hand(pool, |slot| slot.mark.name(tag, 0));
            let mut slot = at_hand.or_else(|| pool.turn(|state, now| state.try_acquire(now)))?;
            if pool.connector.is_broken(&mut slot.connection) {
                lost(slot);
                continue;
            }
            slot.mark.name(tag, 0);
            return Some(Lease::new(slot));
        }
    }

    /// Waits until the database has let somebody in, and what is to be opened at the start
    /// ([`Builder::initial_size`]) is open.
    ///
    /// Cancel-safe: dropped, it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Pool::acquire`]: so it waits for a database that is not there yet, but not for one that refuses us.
    #[track_caller]
    pub fn wait_ready(&self) -> impl Future<Output = Result<(), AcquireError<C::Error>>> + Send {
        let first = self.acquire();
        async move {
            first.await?;
            let pool = self.inner();
            pool.wait_until(|state, now| {
                let figures = state.machine.figures(now);
                let coming = figures.count(State::Opening) + figures.count(State::Closing);
                let wanted = figures.settings.initial_size.min(figures.effective_max);
                state.closing || figures.open() - coming >= wanted
            })
            .await;
            Ok(())
        }
    }

    /// Finishes what is running, takes nothing new: idle connections are closed, others when they come back, and who
    /// waits hears that the pool is closed. It cannot be undone.
    pub fn drain(&self) {
        self.inner().drain();
    }

    /// [`Pool::drain`], and waits until every connection has been given back and closed.
    ///
    /// Cancel-safe: the pool goes on closing.
    pub async fn close(&self) {
        let pool = self.inner();
        pool.drain();
        pool.wait_until(|state, _| state.machine.open() == 0).await;
    }

    /// Gives nothing out until [`Pool::resume`]: requests wait. Idle connections are closed, others when they come
    /// back.
    pub fn suspend(&self) {
        self.inner().turn(|state, now| state.command(now, |machine, now, out| machine.suspend(now, out)));
    }

    /// Ends a suspension.
    pub fn resume(&self) {
        self.inner().turn(|state, now| state.command(now, |machine, now, out| machine.resume(now, out)));
    }

    /// Another size, from now on. Connections that are too many go as soon as nobody holds them.
    pub fn resize(&self, max_size: u32) {
        self.reconfigure(|settings| {
            settings.max_size = max_size.max(1);
            settings.max_idle = settings.max_idle.max(max_size);
        });
    }

    /// Other settings, from now on.
    pub fn reconfigure(&self, change: impl FnOnce(&mut PoolSettings)) {
        self.inner().turn(|state, now| {
            change(&mut state.policy);
            state.configure(now);
        });
    }

    /// Logins from now on use these; a login that the server refused is tried again at once. Connections that are open
    /// stay: [`Pool::renew`] replaces them.
    pub fn set_credentials(&self, user: impl Into<String>, password: impl Into<String>) {
        let credentials = Credentials { user: user.into(), password: password.into() };
        lock(&self.inner().login).credentials = Some(Arc::new(credentials));
        self.inner().turn(|state, now| {
            state.command(now, |machine, now, out| machine.credentials_changed(now, out));
        });
    }

    /// Every connection of now is replaced: idle ones at once, others when they come back.
    pub fn renew(&self) {
        self.inner().turn(|state, now| state.command(now, |machine, now, out| machine.renew(now, out)));
    }

    /// What the pool is doing, and has done.
    #[must_use]
    pub fn stats(&self) -> Stats<C::Error> {
        self.inner().turn(|state, now| {
            state.recall(now);
            Stats {
                figures: state.machine.figures(now),
                holders: state.holders(now),
                login: state.failure.clone(),
            }
        })
    }

    /// Starts the high-water marks "since the last reset" anew.
    pub fn reset_marks(&self) {
        self.inner().turn(|state, now| state.command(now, |machine, _, _| machine.reset_marks()));
    }

    fn inner(&self) -> &Arc<Inner<C>> {
        &self.0.0
    }
}

impl<C: Connector> Inner<C> {
    async fn wait_until(self: &Arc<Self>, mut done: impl FnMut(&mut shell::State<C>, Tick) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on, not from the first poll on.
            changed.as_mut().enable();
            if self.turn(&mut done) {
                return;
            }
            changed.await;
        }
    }

    fn drain(self: &Arc<Self>) {
        self.turn(|state, now| {
            state.closing = true;
            state.command(now, |machine, now, out| machine.drain(now, out));
        });
        // The upkeep ends when the last connection is gone.
        self.wake_upkeep();
    }
}

impl<C: Connector> Drop for Handles<C> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.inner().options.name).finish_non_exhaustive()
    }
}
