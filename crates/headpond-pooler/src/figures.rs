//! What a pooler shows of itself: plain values, copied out at most a few times a second.
//!
//! The console, the HTTP API, the metrics and the page all render these and nothing else.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use headpond_core::{CloseReason, PoolFigures, Tick};

use crate::config::{NodeAddress, PoolMode, Replication};
pub use crate::session::Pins;
use crate::tls::Tls;

/// Everything one worker shows; those of several workers are concatenated.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The worker's clock when this was taken: the ticks below are relative to it.
    pub now: Tick,
    /// Every pool.
    pub pools: Vec<PoolRow>,
    /// Every client that has logged in, if asked for.
    pub clients: Vec<ClientRow>,
    /// Every server connection, if asked for.
    pub servers: Vec<ServerRow>,
    /// Clients that have logged in.
    pub clients_logged_in: u32,
    /// Clients that are still logging in.
    pub clients_logging_in: u32,
    /// Logins that were refused since start.
    pub logins_refused: u64,
    /// Cancel requests received since start.
    pub cancels_received: u64,
    /// Cancel requests that were passed on to a server since start.
    pub cancels_forwarded: u64,
    /// Replies that matched no request: each closed its pair.
    pub reply_mismatches: u64,
    /// Server connections that were lost under a client in transaction mode.
    pub losses: Losses,
}

/// Server connections lost under a client in transaction mode since start, by what that meant for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Nothing: the server had seen nothing of its request, which went to another connection.
    pub unsent: u64,
    /// Its transaction was rolled back (40001).
    pub rolled_back: u64,
    /// Nobody knows whether what it sent was carried out (40003).
    pub unknown: u64,
    /// It was closed, inside a message too large to be held.
    pub cut: u64,
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.unsent += other.unsent;
        self.rolled_back += other.rolled_back;
        self.unknown += other.unknown;
        self.cut += other.cut;
    }
}

/// One pool.
#[derive(Clone, Debug)]
pub struct PoolRow {
    /// The name clients use as database.
    pub data_source: String,
    /// The user on the server.
    pub user: String,
    /// The server.
    pub node: NodeAddress,
    /// The database on the server.
    pub database: String,
    /// When connections are released.
    pub mode: PoolMode,
    /// Whether its connections replicate: each is one client's alone then.
    pub replication: Replication,
    /// Sizes, marks and counters of the policy.
    pub pool: PoolFigures,
    /// The most connections of all pools together on this server; `None` while that is not known.
    pub budget: Option<u32>,
    /// How many of them there are.
    pub budget_used: u32,
    /// Clients that hold a server connection.
    pub clients_active: u32,
    /// Clients that hold none and wait for none.
    pub clients_idle: u32,
    /// Clients whose cancel request is on its way to the server.
    pub clients_cancelling: u32,
    /// The oldest waiter's age in nanoseconds; zero without waiters.
    pub oldest_wait: u64,
    /// No new leases until resumed.
    pub paused: bool,
    /// The server did not accept what there was to log in with, or there was nothing: until that changes nothing is
    /// opened unasked, whatever the floors.
    pub awaiting_credentials: bool,
    /// The last error of a login to the server.
    pub last_error: Option<String>,
    /// Those who have held a server connection for longest, at most ten, the longest first.
    pub holders: Vec<Holder>,
    /// What went through.
    pub traffic: Traffic,
    /// Connections that stay with their clients past the end of a transaction.
    pub pinned: PinFigures,
}

impl PoolRow {
    /// Multiplexing efficiency: the share of the time of all leases, the present ones included, in which the
    /// connection worked for its client or was in a transaction of it, rather than waiting for it outside one, for it
    /// is pinned or the mode is session mode. From 0 to 1; `None` before the first lease.
    #[must_use]
    pub fn efficiency(&self) -> Option<f64> {
        let leased = Duration::from_nanos(self.pool.time_in_use());
        let idle = Duration::from_nanos(self.traffic.idle_time);
        (!leased.is_zero()).then(|| 1.0 - idle.div_duration_f64(leased).min(1.0))
    }
}

/// What keeps a server connection with its client past the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The reasons.
    pub pins: Pins,
    /// When the first of them began, without a moment since then in which there was none.
    pub since: Tick,
    /// Transactions that ended since then.
    pub transactions: u64,
}

/// The pins of a pool; arrays are by reason, in the order of [`Pins::NAMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinFigures {
    /// Connections that are pinned.
    pub connections: u32,
    /// Connections by what pins them: one may have several reasons.
    pub now: [u32; Pins::COUNT],
    /// Pins that began since the pool was made.
    pub begun: [u64; Pins::COUNT],
    /// Pins that ended.
    pub ended: [u64; Pins::COUNT],
    /// Nanoseconds in which connections were pinned, up to now.
    pub time: u64,
}

impl PinFigures {
    /// How many connections each reason pins that pins any.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u32)> {
        Pins::NAMES.into_iter().zip(self.now).filter(|(_, connections)| *connections > 0)
    }
}

/// Who holds a server connection.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The client, as [`ClientRow::id`].
    pub client: u64,
    /// The name it logged in with.
    pub user: String,
    /// As it named itself.
    pub application_name: String,
    /// Its address; `None` for a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// When the lease began.
    pub since: Tick,
    /// What it does with the connection.
    pub holding: Holding,
    /// Process id of the server's backend.
    pub backend_pid: i32,
    /// What pins the connection to it.
    pub pinned: Option<Pinned>,
}

/// What the holder of a server connection does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// The server works for it.
    Active,
    /// The server waits for it, in a transaction.
    IdleInTransaction,
    /// The server waits for it to end a transaction that failed.
    IdleInFailedTransaction,
    /// The server waits for it, outside a transaction.
    Idle,
}

/// Counters of what went through a pool since it was made. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Leases given.
    pub leases: u64,
    /// Transactions that ended.
    pub transactions: u64,
    /// Queries: simple queries, and Syncs of the extended protocol.
    pub queries: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Time in which a transaction was open, idle in it included.
    pub transaction_time: u64,
    /// Time in which a query was running.
    pub query_time: u64,
    /// Time in which leased connections waited for their clients outside a transaction, up to now: they were pinned, or
    /// in session mode.
    pub idle_time: u64,
    /// Time that requests waited for a connection.
    pub wait_time: u64,
    /// Parse messages from clients.
    pub client_parses: u64,
    /// Parse messages to servers.
    pub server_parses: u64,
    /// Bind messages.
    pub binds: u64,
    /// Logins of clients.
    pub logins: u64,
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientActivity {
    /// Holds a server connection.
    Active,
    /// Waits for one.
    Waiting,
    /// Neither.
    Idle,
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientRow {
    /// Unique among the clients of this process's worker, reused after it left.
    pub id: u64,
    /// Index into [`Snapshot::pools`].
    pub pool: usize,
    /// The name it logged in with.
    pub user: String,
    /// What it does.
    pub activity: ClientActivity,
    /// Its address; `None` for a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// What protects it on its way here.
    pub tls: Option<Arc<Tls>>,
    /// When it connected.
    pub connected: Tick,
    /// When its last request began.
    pub requested: Tick,
    /// The server connection it holds.
    pub server: Option<u64>,
    /// As it named itself.
    pub application_name: String,
    /// What pins the connection to it that it holds.
    pub pinned: Option<Pinned>,
}

/// One server connection.
#[derive(Clone, Debug)]
pub struct ServerRow {
    /// Unique among the server connections of this process's worker, reused after it was closed.
    pub id: u64,
    /// Index into [`Snapshot::pools`].
    pub pool: usize,
    /// The policy's state of it.
    pub state: headpond_core::State,
    /// When it was opened.
    pub connected: Tick,
    /// When it was last leased.
    pub requested: Tick,
    /// The client that holds it.
    pub client: Option<u64>,
    /// Process id of the server's backend; 0 before the login.
    pub backend_pid: i32,
    /// It will be closed for this when it comes to rest.
    pub close_needed: Option<CloseReason>,
    /// Application name as last set on it.
    pub application_name: String,
    /// What pins it to the client that holds it.
    pub pinned: Option<Pinned>,
    /// What protects it on its way there.
    pub tls: Option<Arc<Tls>>,
}

impl Snapshot {
    /// Adds another worker's figures.
    pub fn append(&mut self, other: Self) {
        let pools = self.pools.len();
        self.now = self.now.max(other.now);
        self.pools.extend(other.pools);
        self.clients.extend(other.clients.into_iter().map(|row| ClientRow { pool: row.pool + pools, ..row }));
        self.servers.extend(other.servers.into_iter().map(|row| ServerRow { pool: row.pool + pools, ..row }));
        self.clients_logged_in += other.clients_logged_in;
        self.clients_logging_in += other.clients_logging_in;
        self.logins_refused += other.logins_refused;
        self.cancels_received += other.cancels_received;
        self.cancels_forwarded += other.cancels_forwarded;
        self.reply_mismatches += other.reply_mismatches;
        self.losses += other.losses;
    }
}
