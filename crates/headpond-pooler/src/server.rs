//! One server connection.

use std::sync::Arc;

use headpond_core::{ConnId, Tick};
use headpond_wire::postgres::scram::{Challenge, ClientRole, Verifier};

use crate::action::ClientId;
use crate::exchange::Exchanges;
use crate::session::Session;
use crate::settings::SettingsId;
use crate::statements::server::ServerStatements;
use crate::tls::{Tls, Upgrade};

/// How far a server connection is.
#[derive(Debug)]
pub(crate) enum ServerState {
    /// The socket is being connected.
    Connecting,
    /// TLS begins.
    Tls(Upgrade),
    /// The login is under way.
    Login(Box<ServerLogin>),
    /// It serves: leased, idle, or on an errand of the pooler.
    Live,
    /// The server refused it; at its end the login is tried again, in TLS if this one was in clear and the other way
    /// round.
    Again,
    /// It was told to go, to be opened anew with other startup parameters for the client that has it.
    Reopening,
    /// It was told to go; its end of stream is awaited.
    Closing,
    /// Nobody can tell whether the server still has it; its slot stays counted until the deadline.
    Unconfirmed,
}

/// Where a login to a server stands.
#[derive(Debug)]
pub(crate) enum ServerLogin {
    /// The startup packet was sent.
    Started,
    /// SCRAM was begun.
    ScramFirst(ClientRole),
    /// The keys are being derived elsewhere.
    ScramKeys(Challenge),
    /// The proof was sent.
    ScramFinal(Verifier),
    /// A password was sent, or the server's own proof was good: its word is awaited.
    Proven,
}

impl ServerLogin {
    /// The server has not asked anything yet.
    pub(crate) fn is_started(&self) -> bool {
        matches!(self, Self::Started)
    }
}

/// The key under which the server cancels what a connection runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackendKey {
    pub(crate) process: u32,
    pub(crate) secret: Box<[u8]>,
}

/// Parameters that a server reported at a login: names and values in its order.
pub(crate) type Reports = Arc<[(String, String)]>;

/// One server connection.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) state: ServerState,
    pub(crate) pool: u32,
    /// The database server whose permit it has.
    pub(crate) node: u32,
    /// Its name in the pool's policy; [`ConnId::NONE`]: it is the node's control connection, and of the pool it has
    /// only the identity.
    pub(crate) conn: ConnId,
    pub(crate) client: Option<ClientId>,
    /// What protects it on its way there.
    pub(crate) tls: Option<Arc<Tls>>,
    /// One way, in TLS or in clear, was refused: this is the other.
    pub(crate) second: bool,
    /// Which of the pool's identities it began to log in as.
    pub(crate) identity: u32,
    /// Whom it looks up.
    pub(crate) looks_up: Option<ClientId>,
    pub(crate) exchanges: Exchanges,
    /// What is prepared on it, where statements are carried from connection to connection.
    pub(crate) statements: ServerStatements,
    /// Transaction status as last heard: `I`, `T` or `E`.
    pub(crate) status: u8,
    /// The startup parameters it was opened with.
    pub(crate) startup: SettingsId,
    /// What the server says of itself, while it logs us in.
    pub(crate) reported: Vec<(String, String)>,
    /// All of that, after the login.
    pub(crate) reports: Reports,
    /// The settings its session has.
    pub(crate) settings: SettingsId,
    pub(crate) session: Session,
    pub(crate) key: BackendKey,
    /// The reply being streamed goes to the client.
    pub(crate) streaming_to_client: bool,
    /// Bytes still to come of a reply that is being streamed.
    pub(crate) streaming: u32,
    /// There is something to read of it that was left unread.
    pub(crate) unread: bool,
    /// Its socket takes no more for now.
    pub(crate) blocked: bool,
    /// The socket is gone.
    pub(crate) lost: bool,
    /// Its client only waits for answers: all that it sent was read, to the end.
    pub(crate) client_ended: bool,
    /// It has the beginning of a message whose rest will never come.
    pub(crate) half_sent: bool,
    /// The server said why it ends the connection, and the client has heard it.
    pub(crate) said_goodbye: bool,
    /// It was asked, when new, what its session has.
    pub(crate) measured: bool,
    /// Its session was reset, and is still not like a new one.
    pub(crate) unclean: bool,
    /// It answered the test with an error.
    pub(crate) check_failed: bool,
    /// Cancel requests that are under way for it.
    pub(crate) cancels: u32,
    /// A connection that brought one which waits for the end of an errand.
    pub(crate) cancel_waits: Option<ClientId>,
    /// What it does now must be done by then.
    pub(crate) deadline: Tick,
    /// When its timer, if one is set, goes off: perhaps too early, never too late.
    pub(crate) armed: Tick,
    /// When the timer of its lease, if one is set, goes off: perhaps too early, never too late.
    pub(crate) lease_armed: Tick,
    /// What runs was cancelled for taking too long, and must have ended by then.
    pub(crate) stops_by: Tick,
    pub(crate) connected: Tick,
    pub(crate) requested: Tick,
    /// When the present lease's first message went out, in the present transaction.
    pub(crate) transaction_begun: Tick,
    /// When the oldest outstanding request went out.
    pub(crate) query_begun: Tick,
}

impl Server {
    pub(crate) fn new(now: Tick, pool: u32, node: u32, conn: ConnId, startup: SettingsId) -> Self {
        Self {
            state: ServerState::Connecting,
            pool,
            node,
            conn,
            client: None,
            tls: None,
            second: false,
            identity: 0,
            looks_up: None,
            exchanges: Exchanges::default(),
            statements: ServerStatements::default(),
            status: b'I',
            startup,
            reported: Vec::new(),
            reports: Reports::default(),
            settings: startup,
            session: Session::default(),
            key: BackendKey::default(),
            streaming_to_client: false,
            streaming: 0,
            unread: false,
            blocked: false,
            lost: false,
            client_ended: false,
            half_sent: false,
            said_goodbye: false,
            measured: false,
            unclean: false,
            check_failed: false,
            cancels: 0,
            cancel_waits: None,
            deadline: Tick::NEVER,
            armed: Tick::NEVER,
            lease_armed: Tick::NEVER,
            stops_by: Tick::NEVER,
            connected: now,
            requested: now,
            transaction_begun: now,
            query_begun: now,
        }
    }

    /// Whether it is the node's control connection.
    pub(crate) fn is_control(&self) -> bool {
        self.conn == ConnId::NONE
    }

    /// The client has heard a part of a reply: whatever else it is told would be taken for the rest.
    pub(crate) fn is_inside_reply(&self) -> bool {
        self.streaming_to_client && self.streaming > 0
    }

    /// Every request is answered, no transaction is open, and all that was sent has gone out: the tail of a COPY that
    /// failed may still be on its way.
    pub(crate) fn is_clean(&self) -> bool {
        let over = self.status == b'I' || planted!(ReleasedInTransaction);
        self.exchanges.at_rest() && over && self.streaming == 0 && !self.blocked
    }
}
