//! Whatever can be pooled by deadpool.

use std::fmt;
use std::time::Instant;

use deadpool::managed::{Manager, Metrics, RecycleError};

use crate::{Connect, Connector, Reset};

use super::ResetWhen;

/// Any [`deadpool::managed::Manager`]: `Pool::builder(FromDeadpool::new(manager)).build()`.
///
/// What a manager does to recycle a connection may be a test, or make its session like new. So it is asked for both: as a
/// test, and after each lease, on a task of the pool. Where it only tests, [`FromDeadpool::reset`] spares the latter.
#[derive(Clone, Debug)]
pub struct FromDeadpool<M> {
    manager: M,
    reset: ResetWhen,
}

impl<M: Manager> FromDeadpool<M> {
    /// With the manager that deadpool was used with.
    pub fn new(manager: M) -> Self {
        Self { manager, reset: ResetWhen::Always }
    }

    /// When connections are recycled, beside the tests. [`ResetWhen::Always`].
    #[must_use]
    pub fn reset(mut self, when: ResetWhen) -> Self {
        self.reset = when;
        self
    }
}

/// The pool keeps no such figures of a single connection: managers hear that each is new.
fn metrics() -> Metrics {
    Metrics { created: Instant::now(), recycled: None, recycle_count: 0 }
}

impl<M> Connector for FromDeadpool<M>
where
    M: Manager + 'static,
    M::Type: 'static,
    M::Error: fmt::Display + fmt::Debug + Sync + 'static,
{
    type Connection = M::Type;
    type Error = RecycleError<M::Error>;

    async fn connect(&self, _: Connect) -> Result<M::Type, Self::Error> {
        self.manager.create().await.map_err(RecycleError::Backend)
    }

    async fn check(&self, connection: &mut M::Type) -> Result<(), Self::Error> {
        self.manager.recycle(connection, &metrics()).await
    }

    async fn reset(&self, connection: &mut M::Type) -> Result<Reset, Self::Error> {
        self.manager.recycle(connection, &metrics()).await?;
        Ok(Reset::Done)
    }

    fn is_dirty(&self, _: &mut M::Type) -> bool {
        self.reset == ResetWhen::Always
    }

    async fn close(&self, mut connection: M::Type) {
        self.manager.detach(&mut connection);
    }
}
