//! What a pool asks of its driver, and what it answers.

use crate::alarms::Alarm;
use crate::{CloseReason, ConnId, Tick, WaiterId};

/// What the driver must do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The request of `holder` is served by `conn`, after `waited` nanoseconds in the queue.
    Grant {
        /// As given to [`crate::Pool::acquire`].
        holder: u64,
        /// The connection, now in use.
        conn: ConnId,
        /// Nanoseconds.
        waited: u64,
    },
    /// The queued request of `holder` ends without a connection.
    Refuse {
        /// As given to [`crate::Pool::acquire`].
        holder: u64,
        /// Why.
        why: Refusal,
        /// How long it was in the queue, in nanoseconds.
        waited: u64,
    },
    /// Connect and log in; answer with [`crate::Pool::opened`] or [`crate::Pool::open_failed`].
    Open(ConnId),
    /// Test it; answer with [`crate::Pool::ready`], [`crate::Pool::check_failed`] or [`crate::Pool::close`].
    Check(ConnId),
    /// Tell the server it goes; answer with [`crate::Pool::closed`] once the server has let it go.
    Close(ConnId, CloseReason),
    /// A lease is older than `leak_after` (`ended` false), or has ended after that was said.
    Leak {
        /// The leased connection.
        conn: ConnId,
        /// When the lease began.
        since: Tick,
        /// Whether it is over.
        ended: bool,
    },
    /// The lease that was just reported is to be taken back: close the connection as [`CloseReason::Leaked`], and tell
    /// its holder. It is in use until then.
    Reclaim(ConnId),
    /// An alarm was raised, or is over.
    Alarm {
        /// Which.
        alarm: Alarm,
        /// Whether it is true now.
        raised: bool,
        /// Of an alarm of rates that is raised: why most of the connections were closed.
        cause: Option<CloseReason>,
    },
}

/// Who asks for a connection, and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Comes back in the answer.
    pub holder: u64,
    /// Requests of one application are served in their order, those of several by their weights.
    pub application: u32,
    /// The caller gives up then; `None`: after `acquire_timeout`.
    pub deadline: Option<Tick>,
    /// It may wait though `max_waiters` do already.
    pub exempt: bool,
    /// Served on this connection, if that is idle and needs no test; else on any.
    pub prefer: Option<ConnId>,
}

impl Request {
    /// A request of the only application, without a deadline of its own.
    #[must_use]
    pub fn of(holder: u64) -> Self {
        Self { holder, application: 0, deadline: None, exempt: false, prefer: None }
    }
}

/// The immediate answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// Served at once.
    Granted(ConnId),
    /// It waits; an [`Action::Grant`] or [`Action::Refuse`] ends the wait, or [`crate::Pool::withdraw`].
    Queued(WaiterId),
    /// Not even queued.
    Refused(Refusal),
}

/// Why a request got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It waited for `acquire_timeout`, or until its own deadline.
    TimedOut,
    /// `max_waiters` others wait.
    QueueFull,
    /// By all that is known, its deadline would pass before its turn comes.
    WouldMiss,
    /// Every login fails, and trying again will not help.
    Database(FailureClass),
    /// The process is stopping.
    Draining,
}

/// Why a login failed, as far as the pool acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The server does not accept our credentials: trying on could lock the account.
    Authentication,
    /// The database does not exist, or this user may not enter it.
    Refused,
    /// The server has no connection left.
    TooManyConnections,
    /// The server is starting, stopping or recovering.
    StartingUp,
    /// Refused by the network, or no answer in time.
    Unreachable,
    /// Anything else.
    Other,
}

impl FailureClass {
    /// Whether waiting and trying again is pointless for those who wait now.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Authentication | Self::Refused)
    }
}
