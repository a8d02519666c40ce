//! A server that does as it is told, and counts.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headpond::{Builder, Connect, Connector, FailureClass, Pool, Reset};
use tokio::time::sleep;

/// Shared with its connections.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) logins: AtomicU64,
    pub(crate) logging_in: AtomicU32,
    pub(crate) alive: AtomicU32,
    pub(crate) most_alive: AtomicU32,
    pub(crate) checks: AtomicU64,
    pub(crate) resets: AtomicU64,
    /// Which start of it this is: connections of earlier ones are broken.
    pub(crate) epoch: AtomicU32,
    pub(crate) down: AtomicBool,
    pub(crate) hangs: AtomicBool,
    pub(crate) fails_checks: AtomicBool,
    pub(crate) login_takes: Mutex<Duration>,
    pub(crate) check_takes: Mutex<Duration>,
    pub(crate) refuses: Mutex<Option<FailureClass>>,
    pub(crate) limit: Mutex<Option<u32>>,
    pub(crate) password: Mutex<Option<String>>,
}

pub(crate) struct Connection {
    server: Arc<Server>,
    epoch: u32,
    pub(crate) number: u64,
    pub(crate) dirty: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ToServer(pub(crate) Arc<Server>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Error(pub(crate) FailureClass);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server says {:?}", self.0)
    }
}

impl std::error::Error for Error {}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A builder of pools for it, with no more policy than the test asks for.
    pub(crate) fn builder(self: &Arc<Self>, max_size: u32) -> Builder<ToServer> {
        Pool::builder(ToServer(self.clone())).max_size(max_size).max_idle(max_size)
    }

    pub(crate) fn pool(self: &Arc<Self>, max_size: u32) -> Pool<ToServer> {
        self.builder(max_size).build()
    }

    /// All connections are lost, and new ones can be had.
    pub(crate) fn restart(&self) {
        self.epoch.fetch_add(1, SeqCst);
    }

    pub(crate) fn alive(&self) -> u32 {
        self.alive.load(SeqCst)
    }

    pub(crate) fn logins(&self) -> u64 {
        self.logins.load(SeqCst)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.alive.fetch_sub(1, SeqCst);
    }
}

struct LoggingIn<'s>(&'s Server);

impl Drop for LoggingIn<'_> {
    fn drop(&mut self) {
        self.0.logging_in.fetch_sub(1, SeqCst);
    }
}

async fn takes(time: &Mutex<Duration>) {
    let time = *time.lock().unwrap();
    if time > Duration::ZERO {
        sleep(time).await;
    }
}

impl Connector for ToServer {
    type Connection = Connection;
    type Error = Error;

    async fn connect(&self, how: Connect) -> Result<Connection, Error> {
        let server = &self.0;
        server.logging_in.fetch_add(1, SeqCst);
        let _logging_in = LoggingIn(server);
        server.logins.fetch_add(1, SeqCst);
        if server.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        takes(&server.login_takes).await;
        if let Some(class) = *server.refuses.lock().unwrap() {
            return Err(Error(class));
        }
        let right = server.password.lock().unwrap().clone();
        if right.is_some_and(|right| how.credentials.is_none_or(|said| said.password != right)) {
            return Err(Error(FailureClass::Authentication));
        }
        if server.down.load(SeqCst) {
            return Err(Error(FailureClass::Unreachable));
        }
        let alive = server.alive.fetch_add(1, SeqCst) + 1;
        server.most_alive.fetch_max(alive, SeqCst);
        let epoch = server.epoch.load(SeqCst);
        Ok(Connection { server: server.clone(), epoch, number: server.logins(), dirty: false })
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), Error> {
        self.0.checks.fetch_add(1, SeqCst);
        takes(&self.0.check_takes).await;
        let fails = self.0.fails_checks.load(SeqCst) || self.is_broken(connection);
        if fails { Err(Error(FailureClass::Other)) } else { Ok(()) }
    }

    async fn reset(&self, connection: &mut Connection) -> Result<Reset, Error> {
        self.0.resets.fetch_add(1, SeqCst);
        connection.dirty = false;
        Ok(Reset::Done)
    }

    fn is_dirty(&self, connection: &mut Connection) -> bool {
        connection.dirty
    }

    fn is_broken(&self, connection: &mut Connection) -> bool {
        connection.epoch != self.0.epoch.load(SeqCst)
    }

    fn classify(&self, error: &Error) -> FailureClass {
        error.0
    }

    async fn limit(&self, _: &mut Connection) -> Result<Option<u32>, Error> {
        Ok(*self.0.limit.lock().unwrap())
    }
}
