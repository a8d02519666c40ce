//! What the pool does with connections on tasks of its own: opening, testing, resetting, closing.
//!
//! Each job owns what it works on, and tells the machine how it ended, whatever happens to it: a job that panics, or
//! whose runtime ends, is dropped, and the machine hears that the connection is lost.

use std::sync::Arc;
use std::time::Duration;

use headpond_core::{CloseReason, ConnId, FailureClass};
use tokio::runtime::Handle;

use crate::connector::{Connector, Reset};
use crate::error::LoginError;
use crate::inner::Inner;
use crate::notice::Notice;
use crate::slot::{Mark, Slot};
use crate::task::{spawn, timeout};

/// How long what a server said of its limits is believed.
const LIMIT_BELIEVED: Duration = Duration::from_secs(60);

/// What a job does is in a span that names the pool.
#[cfg(feature = "tracing")]
macro_rules! span {
    ($pool:ident, $name:literal, $job:expr) => {
        tracing::Instrument::instrument(
            $job,
            tracing::debug_span!(parent: None, $name, pool = $pool.options.name.as_str()),
        )
    };
}
#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($pool:ident, $name:literal, $job:expr) => {
        $job
    };
}

/// One thing to do with one connection.
pub(crate) enum Job<C: Connector> {
    Open(ConnId),
    Check(Box<Slot<C>>),
    Close(Box<Slot<C>>, CloseReason),
}

impl<C: Connector> Job<C> {
    pub(crate) fn start(self, pool: &Arc<Inner<C>>, runtime: Option<&Handle>) {
        match self {
            Self::Open(conn) => {
                let login = Login { pool: pool.clone(), conn: Some(conn) };
                spawn(runtime, span!(pool, "login", login.run()));
            }
            Self::Check(slot) => {
                let held = Held::new(slot);
                spawn(runtime, span!(pool, "check", check(held)));
            }
            Self::Close(slot, reason) => {
                let goodbye = Goodbye { pool: pool.clone(), conn: slot.conn };
                spawn(runtime, span!(pool, "close", goodbye.run(slot, reason)));
            }
        }
    }
}

/// Makes the session of a connection like new: its machine's state is resetting.
pub(crate) fn start_reset<C: Connector>(slot: Box<Slot<C>>) {
    let pool = slot.pool.clone();
    let held = Held::new(slot);
    spawn(pool.runtime().as_ref(), span!(pool, "reset", reset(held)));
}

/// A login under way.
struct Login<C: Connector> {
    pool: Arc<Inner<C>>,
    /// Taken when the machine has been told.
    conn: Option<ConnId>,
}

impl<C: Connector> Login<C> {
    async fn run(mut self) {
        let pool = self.pool.clone();
        let limit = pool.options.connect_timeout;
        // What the driver leaves undone in time is dropped, and its connection with it.
        match timeout(limit, self.connect()).await {
            Some(Ok(connection)) => self.succeeded(connection),
            Some(Err(error)) => self.failed(pool.connector.classify(&error), LoginError::Driver(error)),
            None => self.failed(FailureClass::Unreachable, LoginError::TimedOut(limit)),
        }
    }

    async fn connect(&self) -> Result<C::Connection, C::Error> {
        let connector = &self.pool.connector;
        let mut connection = connector.connect(self.pool.login()).await?;
        let due = self.pool.turn(|state, now| {
            let due = state.limit_asked.is_none_or(|asked| now.since(asked) >= LIMIT_BELIEVED);
            if due {
                state.limit_asked = Some(now);
            }
            due
        });
        if due && let Some(limit) = connector.limit(&mut connection).await? {
            let limit = limit.saturating_sub(self.pool.options.reserve).max(1);
            let max_size = self.pool.turn(|state, now| {
                if state.limit.replace(limit) != Some(limit) {
                    state.configure(now);
                }
                state.policy.max_size
            });
            if limit < max_size {
                Notice::Limit { limit, max_size }.tell(&self.pool);
            }
        }
        Ok(connection)
    }

    fn succeeded(&mut self, connection: C::Connection) {
        let Some(conn) = self.conn.take() else { return };
        let slot = Box::new(Slot {
            connection,
            pool: self.pool.clone(),
            grounds: self.pool.grounds,
            conn,
            mark: Arc::new(Mark::new()),
            used: false,
            tainted: false,
            shelved: headpond_core::Tick(0),
        });
        self.pool.turn(|state, now| state.opened(now, slot));
    }

    fn failed(&mut self, class: FailureClass, cause: LoginError<C::Error>) {
        if let Some(conn) = self.conn.take() {
            Notice::LoginFailed { why: cause.to_string() }.tell(&self.pool);
            self.pool.turn(|state, now| state.open_failed(now, conn, class, cause));
        }
    }
}

impl<C: Connector> Drop for Login<C> {
    fn drop(&mut self) {
        self.failed(FailureClass::Other, LoginError::Abandoned);
    }
}

/// A connection that a job works on. Dropped, it is lost.
struct Held<C: Connector>(Option<Box<Slot<C>>>);

impl<C: Connector> Held<C> {
    fn new(slot: Box<Slot<C>>) -> Self {
        Self(Some(slot))
    }
}

impl<C: Connector> Drop for Held<C> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let pool = slot.pool.clone();
            pool.turn(|state, now| state.forget(now, &slot, CloseReason::ServerLost));
        }
    }
}

async fn check<C: Connector>(mut held: Held<C>) {
    let Some(slot) = &mut held.0 else { return };
    let pool = slot.pool.clone();
    let said = timeout(pool.options.check_timeout, pool.connector.check(&mut slot.connection)).await;
    let broken = !matches!(said, Some(Ok(()))) && pool.connector.is_broken(&mut slot.connection);
    let Some(slot) = held.0.take() else { return };
    pool.turn(|state, now| match said {
        Some(Ok(())) => state.ready(now, slot),
        _ if broken => state.close(now, slot, CloseReason::ServerLost),
        Some(Err(_)) => state.check_failed(now, slot),
        None => state.close(now, slot, CloseReason::CheckFailed),
    });
}

async fn reset<C: Connector>(mut held: Held<C>) {
    let Some(slot) = &mut held.0 else { return };
    let pool = slot.pool.clone();
    let said = timeout(pool.options.reset_timeout, pool.connector.reset(&mut slot.connection)).await;
    let broken = pool.connector.is_broken(&mut slot.connection);
    let Some(mut slot) = held.0.take() else { return };
    slot.tainted = false;
    pool.turn(|state, now| match said {
        _ if broken => state.close(now, slot, CloseReason::ServerLost),
        Some(Ok(Reset::Done)) => state.ready(now, slot),
        Some(Ok(Reset::Impossible)) => state.close(now, slot, CloseReason::Unclean),
        _ => state.close(now, slot, CloseReason::ResetFailed),
    });
}

/// A connection that goes. Dropped, it is gone.
struct Goodbye<C: Connector> {
    pool: Arc<Inner<C>>,
    conn: ConnId,
}

impl<C: Connector> Goodbye<C> {
    async fn run(self, slot: Box<Slot<C>>, reason: CloseReason) {
        let Slot { connection, .. } = *slot;
        // Nobody listens at the other end of one that is lost.
        if !matches!(reason, CloseReason::ServerLost | CloseReason::MassDeath) {
            let _ = timeout(self.pool.options.close_timeout, self.pool.connector.close(connection)).await;
        }
    }
}

impl<C: Connector> Drop for Goodbye<C> {
    fn drop(&mut self) {
        let conn = self.conn;
        self.pool.turn(|state, now| state.closed(now, conn));
    }
}
