//! A Headpond in this process, and what its tests have in common.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use headpond_embedded::Postgres;
use headpond_pooler::figures::Snapshot;
use headpond_server::config::Config;
use headpond_server::process::{Ports, Running, Server};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, NoTls, SimpleQueryMessage};

use crate::database::{database, direct};
use crate::raw::Raw;

/// The longest that a test, or a condition in one, may take on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// How a Headpond works inside; what its clients see is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) mode: &'static str,
    pub(crate) sends: &'static str,
    pub(crate) workers: u32,
}

pub(crate) const SESSION: Way = Way { mode: "session", sends: "auto", workers: 1 };
pub(crate) const TRANSACTION: Way = Way { mode: "transaction", ..SESSION };

/// Both modes.
pub(crate) const MODES: [Way; 2] = [SESSION, TRANSACTION];

/// Both modes, both ways to send, one worker and two.
pub(crate) fn ways() -> impl Iterator<Item = Way> {
    let sends = ["batched", "plain"].into_iter();
    let pairs = sends.flat_map(|sends| [1, 2].map(|workers| (sends, workers)));
    pairs.flat_map(|(sends, workers)| MODES.map(|way| Way { sends, workers, ..way }))
}

/// Asks for the process id of the server connection.
pub(crate) const PID: &str = "SELECT pg_backend_pid()";

/// Runs a test to its end, within the limit.
pub(crate) fn run(test: impl Future<Output = ()>) {
    run_within(LIMIT, test);
}

/// As [`run`], within another limit.
pub(crate) fn run_within(limit: Duration, test: impl Future<Output = ()>) {
    // A thread of their own for the drivers' connections: a test may block.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("the test ends in time") });
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The SQLSTATE of what went wrong.
pub(crate) fn code<T>(outcome: Result<T, tokio_postgres::Error>) -> SqlState {
    let error = outcome.err().expect("an error");
    error.code().unwrap_or_else(|| panic!("{error}")).clone()
}

pub(crate) struct Pond {
    pub(crate) running: Running,
    /// Whom its clients log in as.
    pub(crate) user: String,
}

impl Pond {
    /// Before the shared database, for a user of its own. `settings` of the process, and of every pool.
    pub(crate) async fn new(way: Way, settings: &str, pool: &str) -> Self {
        let user = database().user().await;
        Self::before(&database().server, way, &user, settings, pool)
    }

    /// Before any server.
    pub(crate) fn before(server: &Postgres, way: Way, user: &str, settings: &str, pool: &str) -> Self {
        let mut text = format!("admin_users = [\"{user}\"]\n{settings}\n[data_source.\"*\"]\n{pool}\n");
        let (host, port) = (server.host(), server.port());
        writeln!(text, "host = \"{host}\"\nport = {port}").unwrap();
        Self::of(way, user, &text)
    }

    /// Of any configuration, which need not say where to listen.
    pub(crate) fn of(way: Way, user: &str, text: &str) -> Self {
        Self::within(Path::new("."), way, user, text)
    }

    /// As [`Pond::of`], with files from a folder.
    pub(crate) fn within(folder: &Path, way: Way, user: &str, text: &str) -> Self {
        let Way { mode, sends, workers } = way;
        let text = format!(
            "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"127.0.0.1:26480\"\npool_mode = \"{mode}\"
             sends = \"{sends}\"\nworkers = {workers}\n{text}"
        );
        Self::start(Config::parse_toml("test.toml", &text, folder).unwrap(), user)
    }

    /// Of a configuration that it can read again.
    pub(crate) fn from_file(file: &Path, user: &str) -> Self {
        Self::start(Config::load(file).unwrap(), user)
    }

    fn start(config: Config, user: &str) -> Self {
        // One at a time, or two could find the same port free.
        static BINDING: Mutex<()> = Mutex::new(());
        let binding = BINDING.lock();
        let server = Server::bind(config, Ports::NextFree).unwrap();
        drop(binding);
        Self { running: server.spawn().unwrap(), user: user.to_owned() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    /// How to log in.
    pub(crate) fn login(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(self.address().ip().to_string()).port(self.address().port());
        config.user(&self.user).dbname("postgres");
        config
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.login()).await
    }

    pub(crate) async fn clients(&self, count: usize) -> Vec<Client> {
        join_all((0..count).map(|_| self.client())).await
    }

    /// A client of the console.
    pub(crate) async fn console(&self) -> Client {
        connect(self.login().dbname("headpond")).await
    }

    /// A client that speaks in bytes and is logged in.
    pub(crate) fn raw(&self) -> Raw {
        let mut raw = Raw::connect(self.address());
        raw.log_in(&self.user);
        raw
    }

    pub(crate) async fn snapshot(&self) -> std::sync::Arc<Snapshot> {
        self.running.control().snapshot(true).await.unwrap()
    }

    /// Waits until this many requests are queued.
    pub(crate) async fn until_waiting(&self, count: u32) {
        let waiting = async || self.snapshot().await.pools.iter().map(|row| row.pool.waiting).sum::<u32>();
        until(&format!("{count} waiting"), async || waiting().await == count).await;
    }

    /// Waits until a statement of its user waits for an event in the database.
    pub(crate) async fn until_in(&self, event: &str) {
        let direct = direct(&database().server).await;
        let query = "SELECT FROM pg_stat_activity WHERE usename = $1 AND wait_event = $2";
        until(event, async || !direct.query(query, &[&self.user, &event]).await.unwrap().is_empty()).await;
    }

    /// Waits until its user has so many connections to the database.
    pub(crate) async fn until_connections(&self, wanted: impl Fn(i64) -> bool) {
        until("connections", async || wanted(database().connections_of(&self.user).await)).await;
    }

    /// No reply went astray.
    pub(crate) async fn assert_in_step(&self) {
        assert_eq!(self.snapshot().await.reply_mismatches, 0);
    }
}

pub(crate) async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The only value of a query's only row.
pub(crate) async fn value(client: &impl GenericClient, query: &str) -> String {
    let messages = client.simple_query(query).await.unwrap();
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.unwrap().get(0).unwrap_or_default().to_owned()
}
