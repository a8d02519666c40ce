//! A worker: one thread, one readiness loop, and the pooler machine in the middle.
//!
//! The loop only moves bytes, time and descriptors. Each turn: wait for readiness, hand what is readable to the
//! machine, carry out what it asks, do what is due, and send everything in one go. Nothing here waits for
//! anything but readiness: names are looked up, keys derived and consoles served on the control plane's thread.

mod arena;
mod connect;
mod conns;
mod farewell;
pub(crate) mod handle;
pub(crate) mod local;
mod sends;
pub(crate) mod socket;
mod tls;
mod turn;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use headpond_core::Tick;
use headpond_pooler::config::{PoolerConfig, Secret};
use headpond_pooler::{Actions, Budgets, CancelId, ClientId, Link, NoTls, Pooler, ServerId};
use headpond_wire::postgres::scram::ClientKeys;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use crate::config::Sends;
use crate::tls::Loaded;
use crate::tls::handshake::Done;
use crate::tls::session::Session;
use arena::Arena;
use conns::Conns;
use handle::{Command, Mailbox};
use local::{Door, Opened};
use sends::{Send, Sender};

/// SCRAM keys for a login.
pub(crate) struct DerivedKeys {
    pub(crate) link: Link,
    pub(crate) password: Secret,
    pub(crate) keys: ClientKeys,
}

/// Where a host name leads.
pub(crate) struct ResolvedHost {
    pub(crate) link: Link,
    pub(crate) addresses: io::Result<Vec<SocketAddr>>,
}

/// A client that wants the console: its socket, and all it has sent.
pub(crate) struct ConsoleClient {
    /// The connection.
    pub(crate) socket: socket::Socket,
    /// Bytes received, startup packet first.
    pub(crate) held: Vec<u8>,
    /// What encrypts it, if anything does.
    pub(crate) session: Option<Box<Session>>,
}

/// What became of a handshake.
pub(crate) struct Handshaken {
    pub(crate) link: Link,
    pub(crate) outcome: Result<Done, NoTls>,
}

/// What all workers share.
pub(crate) struct Shared {
    /// Clients of the whole process, logging in or logged in.
    pub(crate) clients: AtomicUsize,
    /// How many connections each database server has for us.
    pub(crate) budgets: Arc<Budgets>,
    /// Where clients of the console go.
    pub(crate) consoles: UnboundedSender<ConsoleClient>,
    /// The control plane's runtime, for what must not run on a worker.
    pub(crate) runtime: Handle,
    /// Who may do a handshake's work now.
    pub(crate) handshakes: Arc<Semaphore>,
    /// A login failed whose user or password may have changed where they come from.
    pub(crate) refused: Notify,
    /// Tells the control plane that a worker has ended.
    pub(crate) ended: UnboundedSender<usize>,
}

/// What a worker is started with.
pub(crate) struct Assignment {
    pub(crate) index: usize,
    pub(crate) config: Arc<PoolerConfig>,
    pub(crate) tls: Arc<Loaded>,
    pub(crate) sends: Sends,
    pub(crate) listeners: Vec<Opened>,
    pub(crate) seed: [u8; 32],
    pub(crate) epoch: Instant,
}

const WAKER: Token = Token(usize::MAX);
/// Tokens of listeners count down from here.
const LISTENERS: usize = usize::MAX - 1;
const LISTENERS_MAX: usize = 64;

/// Readiness events taken at once.
const EVENTS: usize = 1024;

/// One worker.
pub(crate) struct Worker {
    index: usize,
    poll: Poll,
    listeners: Vec<Door>,
    config: Arc<PoolerConfig>,
    tls: Arc<Loaded>,
    /// Users of this system whose name was asked for.
    system_users: HashMap<u32, Option<String>>,
    pooler: Pooler,
    conns: Conns,
    arena: Arena,
    /// What was received, and is to be decrypted.
    scratch: Box<[u8]>,
    /// What is sent now, encrypted.
    sealed: Vec<u8>,
    sender: Sender,
    /// What this turn sends.
    sends: Vec<Send>,
    /// Reused: what came of each send.
    results: Vec<io::Result<usize>>,
    farewells: farewell::Farewells,
    /// Handshakes of links of ours: the sockets are theirs, and close with them.
    shaking: HashMap<Link, AbortHandle>,
    actions: Actions,
    /// Reads of this turn that are still to be done.
    to_read: std::collections::VecDeque<Link>,
    /// Links that may have more than was read of them.
    again: Vec<Link>,
    /// Links to be closed, or to be sent nothing more, after the flush.
    to_close: Vec<Link>,
    to_finish: Vec<Link>,
    /// Listeners that may have more clients than were accepted.
    accepting: Vec<usize>,
    starved: connect::Starved,
    commands: Receiver<Command>,
    mailboxes: Arc<[Mailbox]>,
    shared: Arc<Shared>,
    epoch: Instant,
    max_clients: usize,
    draining: bool,
    stopping: bool,
}

/// A worker's loop before its thread runs: others can already write to it.
pub(crate) struct Prepared {
    poll: Poll,
    commands: Receiver<Command>,
    /// Where commands for it go.
    pub(crate) mailbox: Mailbox,
}

impl Prepared {
    /// # Errors
    /// The system allows no further poll descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (mailbox, commands) = Mailbox::new(waker);
        Ok(Self { poll, commands, mailbox })
    }
}

impl Worker {
    /// # Errors
    /// A listener cannot be watched, or batched sends are demanded and not allowed.
    pub(crate) fn new(
        prepared: Prepared,
        mailboxes: Arc<[Mailbox]>,
        shared: Arc<Shared>,
        assignment: Assignment,
    ) -> io::Result<Self> {
        let Assignment { index, config, tls, sends, listeners, seed, epoch } = assignment;
        let sender = Sender::new(sends)?;
        let mut listening = Vec::new();
        for (number, listener) in listeners.into_iter().enumerate().take(LISTENERS_MAX) {
            let mut door = listener.door()?;
            let token = Token(LISTENERS - number);
            prepared.poll.registry().register(door.source(), token, Interest::READABLE)?;
            listening.push(door);
        }
        let mut pooler = Pooler::new(Arc::clone(&config), index, mailboxes.len(), seed);
        pooler.share_budgets(Arc::clone(&shared.budgets));
        tracing::debug!(worker = index, batched = sender.is_batched(), "worker ready");
        Ok(Self {
            index,
            poll: prepared.poll,
            listeners: listening,
            max_clients: config.max_clients as usize,
            config: Arc::clone(&config),
            tls,
            system_users: HashMap::new(),
            pooler,
            conns: Conns::default(),
            arena: Arena::new(),
            scratch: vec![0; arena::SLICE].into_boxed_slice(),
            sealed: Vec::new(),
            sender,
            sends: Vec::new(),
            results: Vec::new(),
            farewells: farewell::Farewells::default(),
            shaking: HashMap::new(),
            actions: Actions::default(),
            to_read: std::collections::VecDeque::new(),
            again: Vec::new(),
            to_close: Vec::new(),
            to_finish: Vec::new(),
            accepting: Vec::new(),
            starved: connect::Starved::default(),
            commands: prepared.commands,
            mailboxes,
            shared,
            epoch,
            draining: false,
            stopping: false,
        })
    }

    /// Runs until told to stop, or until a drain is complete.
    pub(crate) fn run(mut self) {
        let now = self.now();
        self.pooler.start(now, &mut self.actions);
        self.work(now, 0);
        self.flush(now);
        let mut events = Events::with_capacity(EVENTS);
        let mut ready = Vec::with_capacity(EVENTS);
        while !self.stopping && (!self.draining || !self.pooler.is_empty()) {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the readiness loop failed");
                    break;
                }
            }
            ready.clear();
            ready.extend(events.iter().map(turn::Ready::from));
            self.turn(&ready);
        }
        // The control plane may be gone first.
        let _ = self.shared.ended.send(self.index);
    }

    /// Time as the machine sees it.
    fn now(&self) -> Tick {
        Tick(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn count_client_out(&self) {
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A link as an event token, and back. The generation's upper two bits are lost: a stale event is then taken
/// for a fresh one after 2^30 reuses within one turn.
fn token_of(link: Link) -> Token {
    let (kind, number) = match link {
        Link::Client(id) => (0, id.packed()),
        Link::Server(id) => (1, id.packed()),
        Link::Cancel(id) => (2, id.packed()),
    };
    Token(usize::try_from(number & 0x3fff_ffff_ffff_ffff).unwrap_or(0) | kind << 62)
}

fn link_of(token: Token) -> Link {
    let number = token.0 as u64 & 0x3fff_ffff_ffff_ffff;
    match token.0 >> 62 {
        0 => Link::Client(ClientId::unpacked(number)),
        1 => Link::Server(ServerId::unpacked(number)),
        _ => Link::Cancel(CancelId::unpacked(number)),
    }
}
