//! One client: an application's connection to the pooler.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use headpond_core::{Tick, WaiterId};

use crate::aborted::Aborted;
use crate::action::ServerId;
use crate::config::User;
use crate::lookup::Asked;
use crate::proof::Proof;
use crate::settings::SettingsId;
use crate::statements::client::ClientStatements;
use crate::tls::Tls;

/// How far a client is.
#[derive(Debug)]
pub(crate) enum ClientState {
    /// Its first packet is awaited.
    Startup,
    /// The driver does a TLS handshake with it; `direct`: it did not ask before. Ends at its first packet, or gone.
    Handshake {
        /// It began with the handshake.
        direct: bool,
    },
    /// Who it may be is being looked up. Ends in a login, or gone.
    LookedUp(Box<crate::lookup::Lookup>),
    /// It proves who it is. Ends ready, awaiting parameters, or gone.
    Login(Box<Login>),
    /// It is in, but nothing is known of the server yet, so it cannot be told. Ends ready or gone.
    AwaitsParameters,
    /// It is in. Whether it is idle, waiting or active, [`Client::lease`] tells.
    Ready,
    /// Its request failed before any server saw it: the rest of the request is read and dropped.
    Refused(Discard),
}

/// How much of a refused request is still to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discard {
    /// Its first message has not been seen: the error follows it.
    First(crate::refuse::Cause),
    /// The error is out, the request ends with its Sync.
    ToSync,
}

/// What a client has of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Nothing, and it asks for nothing.
    None,
    /// A place in the queue.
    Waiting(WaiterId),
    /// A server connection.
    Active(ServerId),
}

/// A login that needs more than one message.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) proof: Proof,
    /// Who it says to be.
    pub(crate) user: String,
    /// The data source it asked for.
    pub(crate) database: String,
    /// It was looked up, and this was found.
    pub(crate) found: Option<(Asked, Option<User>)>,
}

/// One client. Kept small: there may be tens of thousands, mostly idle.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) state: ClientState,
    pub(crate) lease: Lease,
    /// Index of its pool; meaningless before the startup packet.
    pub(crate) pool: u32,
    /// Interned name it logged in with; meaningless before it has proved who it is.
    pub(crate) user: u32,
    /// The settings of its session, and those of its startup packet, to which resets go back.
    pub(crate) settings: SettingsId,
    pub(crate) layer: SettingsId,
    /// A server has accepted those.
    pub(crate) accepted: bool,
    /// The connection on which it last drew a value of a sequence, or may have.
    pub(crate) drawn_on: Option<ServerId>,
    /// It has made something that the catalogue was last asked about so many answers ago, or will be.
    pub(crate) news: Option<u32>,
    /// Half of its cancel key, or its seed (protocol 3.2).
    pub(crate) secret: u32,
    /// It can be cancelled by a long key.
    pub(crate) long_key: bool,
    /// There is something to read of it that was left unread.
    pub(crate) unread: bool,
    /// Its socket takes no more for now.
    pub(crate) blocked: bool,
    /// It will send no more than what is unread.
    pub(crate) hung_up: bool,
    /// A request of its ended by an error; data for a COPY in it may still be coming, and must not queue.
    pub(crate) copy_tail: bool,
    /// It was counted against `max_clients` when that was reached.
    pub(crate) over_limit: bool,
    /// Its transaction is lost, and how much it knows of that.
    pub(crate) aborted: Aborted,
    /// What it was told of its server's parameters is not known to be true.
    pub(crate) misinformed: bool,
    /// Bytes still to come of a message that is being streamed, or read over.
    pub(crate) streaming: u32,
    /// They are read over.
    pub(crate) skips: bool,
    /// What it has prepared, where statements are carried from connection to connection.
    pub(crate) statements: Option<Box<ClientStatements>>,
    pub(crate) peer: Option<(IpAddr, u16)>,
    /// What protects it on its way here.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Whose process it is, as far as that is known, until it is in.
    pub(crate) system_user: Option<Box<str>>,
    pub(crate) connected: Tick,
    pub(crate) requested: Tick,
    /// When it last came to hold nothing.
    pub(crate) idle_since: Tick,
    /// When its timer, if one is set, goes off: perhaps too early, never too late.
    pub(crate) armed: Tick,
}

impl Client {
    pub(crate) fn new(now: Tick, peer: Option<SocketAddr>, secret: u32, over_limit: bool) -> Self {
        Self {
            state: ClientState::Startup,
            lease: Lease::None,
            pool: u32::MAX,
            user: u32::MAX,
            settings: SettingsId::NONE,
            layer: SettingsId::NONE,
            accepted: false,
            drawn_on: None,
            news: None,
            secret,
            long_key: false,
            unread: false,
            blocked: false,
            hung_up: false,
            copy_tail: false,
            over_limit,
            aborted: Aborted::No,
            misinformed: false,
            streaming: 0,
            skips: false,
            statements: None,
            peer: peer.map(|peer| (peer.ip(), peer.port())),
            tls: None,
            system_user: None,
            connected: now,
            requested: now,
            idle_since: now,
            armed: Tick::NEVER,
        }
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        matches!(self.state, ClientState::Ready | ClientState::Refused(_))
    }

    /// The server has the beginning of a message whose rest is still to come.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.streaming > 0 && !self.skips
    }

    /// The rest of a message is to be read over.
    pub(crate) fn skip(&mut self, rest: u32) {
        self.streaming = rest;
        self.skips = rest > 0;
    }

    pub(crate) fn server(&self) -> Option<ServerId> {
        match self.lease {
            Lease::Active(server) => Some(server),
            Lease::None | Lease::Waiting(_) => None,
        }
    }
}
