//! What the machine asks of its driver.

use std::fmt;
use std::time::Duration;

use headpond_core::{Alarm, CloseReason};

use crate::config::Secret;
use crate::table::Id;

/// Marks the ids of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientMark {}
/// Marks the ids of server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerMark {}
/// Marks the ids of connections that carry a cancel request to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CancelMark {}

/// A client.
pub type ClientId = Id<ClientMark>;
/// A server connection.
pub type ServerId = Id<ServerMark>;
/// A connection that carries one cancel request to a server.
pub type CancelId = Id<CancelMark>;

/// One socket that machine and driver both know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// From an application.
    Client(ClientId),
    /// To a database server.
    Server(ServerId),
    /// To a database server, for one cancel request.
    Cancel(CancelId),
}

/// What the driver must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the link once and hand over what there is by [`crate::Pooler::received`], or
    /// [`crate::Pooler::closed`] at its end. Bytes it left unconsumed before come first; if they are more than
    /// [`headpond_wire::postgres::frame::WHOLE_MAX`], they come alone, for what is at their front needs no more.
    Read(Link),
    /// Send a range of the bytes that [`crate::Pooler::received`] was just called with.
    Forward {
        /// Where to.
        to: Link,
        /// First byte.
        from: u32,
        /// How many.
        len: u32,
    },
    /// Send a range of [`Actions::injected`].
    Send {
        /// Where to.
        to: Link,
        /// First byte.
        from: u32,
        /// How many.
        len: u32,
    },
    /// Connect a server or cancel link to the node of data source `data_source`; answer with
    /// [`crate::Pooler::connected`] or [`crate::Pooler::closed`].
    Connect {
        /// The link, so far without a socket.
        link: Link,
        /// Index into the configuration's data sources.
        data_source: usize,
    },
    /// Do the server's part of a TLS handshake with a client, away from this thread, after what was sent before has gone
    /// out; bytes that are unconsumed belong to it. Answer with [`crate::Pooler::handshaken`] or
    /// [`crate::Pooler::handshake_failed`]; until then the link neither reads nor sends.
    AcceptTls(ClientId),
    /// The same, the client's part, with the server of data source `data_source`.
    StartTls {
        /// A server or cancel link that is connected.
        link: Link,
        /// Index into the configuration's data sources.
        data_source: usize,
    },
    /// Send no more, but go on reading until the peer closes.
    Finish(Link),
    /// Close the link once what was sent before has gone out. The machine has forgotten it.
    Close(Link),
    /// Derive the SCRAM keys of a login, to a server or of a client, away from this thread; answer with
    /// [`crate::Pooler::keys_derived`].
    DeriveKeys {
        /// Who logs in.
        link: Link,
        /// With this password.
        password: Secret,
        /// Of the secret it must fit.
        salt: Vec<u8>,
        /// Of the secret it must fit.
        iterations: u32,
    },
    /// The client wants the console: it leaves the machine with all bytes unconsumed.
    HandOver(ClientId),
    /// The client's pool lives on another worker: it leaves the machine with all bytes unconsumed.
    Move {
        /// The client.
        client: ClientId,
        /// Index of the worker.
        worker: usize,
    },
    /// Something for the log.
    Report(Report),
}

/// Something an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A client came in.
    LoggedIn {
        /// Who.
        user: String,
        /// The data source's name.
        database: String,
    },
    /// A client was refused or dropped before it was in.
    LoginRefused {
        /// What it was told.
        message: String,
        /// Its proof was wrong.
        wrong: bool,
    },
    /// A login to a server failed.
    ServerLoginFailed {
        /// Which pool.
        pool: String,
        /// As the server or the network said it.
        message: String,
        /// It does not take the user or its password: others may work.
        refused: bool,
    },
    /// A server that is not on this machine asked for a password in clear, and got it.
    PasswordInClear {
        /// Which pool; others of the server are not mentioned.
        pool: String,
    },
    /// A user that is not listed could not be looked up.
    LookupFailed {
        /// Which pool, or data source.
        pool: String,
        /// Why.
        message: String,
    },
    /// A server connection was lost.
    ServerLost {
        /// Which pool.
        pool: String,
    },
    /// A reply matched no request; both sides were closed.
    ReplyMismatch {
        /// Which pool.
        pool: String,
        /// The tag of the message.
        tag: u8,
    },
    /// The server has fewer connections than the configuration wants: the budget was made smaller.
    Capped {
        /// A pool on that server.
        pool: String,
        /// As configured: the budget, or this pool's `max_size`.
        wanted: u32,
        /// Connections that the server has for logins like ours.
        slots: u32,
        /// What all pools together may have from now on.
        limit: u32,
    },
    /// Something is wrong with a pool, or no longer.
    Alarm {
        /// Which pool.
        pool: String,
        /// What.
        alarm: Alarm,
        /// Whether it is true now.
        raised: bool,
        /// Why most of the connections were closed, if it is about that.
        cause: Option<CloseReason>,
    },
    /// A lease is older than `leak_after`, or has ended after that was said.
    Leak {
        /// Which pool.
        pool: String,
        /// Who holds it, or did.
        holder: String,
        /// For how long so far.
        held: Duration,
        /// Whether it is over.
        ended: bool,
    },
    /// The server did not confirm a close in time; its slot was counted for that long.
    CloseUnconfirmed {
        /// Which pool.
        pool: String,
    },
    /// A client, its transaction or what it ran took longer than a time-out allows.
    TookTooLong {
        /// Which pool.
        pool: String,
        /// Who.
        client: String,
        /// The setting.
        setting: &'static str,
    },
    /// A client keeps its connection for a reason that nobody can name. It is said once of a pool.
    Opaque {
        /// Which pool.
        pool: String,
        /// Who.
        client: String,
    },
    /// A client broke the protocol and was closed.
    ClientMisbehaved {
        /// What it did.
        message: String,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedIn { user, database } => write!(f, "{user} logged in to {database}"),
            Self::LoginRefused { message, .. } => write!(f, "login refused: {message}"),
            Self::ServerLoginFailed { pool, message, .. } => {
                write!(f, "{pool}: login to the server failed: {message}")
            }
            Self::PasswordInClear { pool } => write!(
                f,
                "{pool}: the server asks for the password in clear, and the network is not encrypted: whoever listens \
                 has it (set scram-sha-256 in its pg_hba.conf)"
            ),
            Self::LookupFailed { pool, message } => {
                write!(f, "{pool}: a user could not be looked up: {message}")
            }
            Self::ServerLost { pool } => write!(f, "{pool}: a server connection was lost"),
            Self::Capped { pool, wanted, slots, limit } => write!(
                f,
                "{pool}: {wanted} connections are wanted, but the server has {slots} for this login: all pools \
                 together get {limit} (raise max_connections, or lower max_size, reserve or members)"
            ),
            Self::Alarm { pool, alarm, raised, cause } => {
                let over = if *raised { "" } else { " is over" };
                write!(f, "{pool}: alarm {}{over}", alarm.name())?;
                let Some(cause) = cause else { return Ok(()) };
                write!(f, " (most connections were closed for {}", cause.name())?;
                cause.setting().map_or(Ok(()), |setting| write!(f, ": see the setting {setting}"))?;
                f.write_str(")")
            }
            Self::Leak { pool, holder, held, ended: false } => {
                write!(f, "{pool}: a connection is held for {held:.1?} by {holder} (leak_after)")
            }
            Self::Leak { pool, held, .. } => {
                write!(f, "{pool}: a connection reported as leaked came back after {held:.1?}")
            }
            Self::ReplyMismatch { pool, tag } => {
                write!(f, "{pool}: reply {:?} matches no request; both sides closed", char::from(*tag))
            }
            Self::CloseUnconfirmed { pool } => {
                write!(f, "{pool}: the server did not confirm a close in time (close_unconfirmed)")
            }
            Self::TookTooLong { pool, client, setting } => write!(f, "{pool}: {setting} of {client} is over"),
            Self::Opaque { pool, client } => write!(
                f,
                "{pool}: {client} keeps its server connection until it leaves or sends RESET ALL, for what it sent may \
                 have set something that nobody can name (pin opaque, see SHOW PINS; said once of this pool)"
            ),
            Self::ClientMisbehaved { message } => write!(f, "client closed: {message}"),
        }
    }
}

/// The driver's reused buffer of actions.
#[derive(Debug, Default)]
pub struct Actions {
    /// In order.
    pub list: Vec<Action>,
    /// Bytes that [`Action::Send`] refers to.
    pub injected: Vec<u8>,
}

impl Actions {
    /// Empties both buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.injected.clear();
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.list.push(Action::Report(report));
    }

    /// Sends what `write` appends.
    pub(crate) fn send(&mut self, to: Link, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.injected.len();
        write(&mut self.injected);
        let len = self.injected.len() - from;
        self.list.push(Action::Send { to, from: offset(from), len: offset(len) });
    }

    /// Forwards `bytes[from..to]` of the present event, if that is anything.
    pub(crate) fn forward(&mut self, link: Link, from: usize, to: usize) {
        if to > from {
            self.list.push(Action::Forward { to: link, from: offset(from), len: offset(to - from) });
        }
    }
}

/// Buffers are far below 4 GiB.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_names_the_reason_of_most_closes_and_its_setting() {
        let alarm = |raised, cause| {
            let (pool, alarm) = ("shop/app".to_owned(), Alarm::NotPooling);
            Report::Alarm { pool, alarm, raised, cause }.to_string()
        };
        let expected = [
            "shop/app: alarm not_pooling (most connections were closed for check_failed: see the setting check_query)",
            "shop/app: alarm not_pooling (most connections were closed for server_lost)",
            "shop/app: alarm not_pooling is over",
        ];
        let found = [
            alarm(true, Some(CloseReason::CheckFailed)),
            alarm(true, Some(CloseReason::ServerLost)),
            alarm(false, None),
        ];
        assert_eq!(found, expected);
    }
}
