//! Pools of the same connections, each at its cheapest, but for ours: that has its whole policy on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use headpond::{Connect, Connector};

/// What is pooled: 64 bytes that are made, tested and dropped without doing anything.
#[derive(Debug, Default)]
pub struct Connection(#[expect(dead_code, reason = "as large as a small driver's")] [u64; 8]);

#[derive(Debug)]
pub struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl From<&str> for Never {
    fn from(_: &str) -> Self {
        Self
    }
}

impl std::error::Error for Never {}

#[derive(Clone, Copy, Debug)]
pub struct Maker;

/// Connections made by all pools.
pub static OPENED: AtomicU64 = AtomicU64::new(0);
/// Every test fails, on connections that are good.
pub static TEST_IS_BROKEN: AtomicBool = AtomicBool::new(false);

pub fn open() -> Connection {
    OPENED.fetch_add(1, Relaxed);
    Connection::default()
}

pub fn test() -> Result<(), Never> {
    if TEST_IS_BROKEN.load(Relaxed) { Err(Never) } else { Ok(()) }
}

/// A pool that hands out guards which own what they need.
pub trait Contender: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    type Guard: Send + 'static;

    /// With no connection open, and with each tested before it is handed out, or not if that can be had.
    fn empty(size: u32, tested: bool) -> impl Future<Output = Self> + Send;
    /// `None` if the pool says no.
    fn acquire(&self) -> impl Future<Output = Option<Self::Guard>> + Send;
    /// With all connections open.
    fn make(size: u32) -> impl Future<Output = Self> + Send {
        async move { fill(Self::empty(size, false).await, size).await }
    }
    /// Bytes of the future that waits.
    fn future_size(&self) -> usize {
        size_of_val(&self.acquire())
    }
}

pub async fn fill<C: Contender>(pool: C, size: u32) -> C {
    let mut guards = Vec::new();
    for _ in 0..size {
        guards.push(pool.acquire().await);
    }
    drop(guards);
    tokio::time::sleep(Duration::from_millis(20)).await;
    pool
}

impl Connector for Maker {
    type Connection = Connection;
    type Error = Never;

    async fn connect(&self, _: Connect) -> Result<Connection, Never> {
        Ok(open())
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Never> {
        test()
    }
}

impl Contender for headpond::Pool<Maker> {
    const NAME: &'static str = "headpond";
    type Guard = headpond::Lease<Maker>;

    async fn empty(size: u32, tested: bool) -> Self {
        let trust = if tested { Duration::ZERO } else { Duration::from_millis(500) };
        let builder = Self::builder(Maker).max_size(size).max_idle(size).initial_size(size);
        builder.trust_window(trust).leak_after(Duration::from_secs(60)).build()
    }

    async fn acquire(&self) -> Option<Self::Guard> {
        self.acquire().await.ok()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.acquire())
    }
}

impl deadpool::managed::Manager for Maker {
    type Type = Connection;
    type Error = Never;

    async fn create(&self) -> Result<Connection, Never> {
        Ok(open())
    }

    async fn recycle(
        &self,
        _: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Never> {
        Ok(test()?)
    }
}

impl Contender for deadpool::managed::Pool<Maker> {
    const NAME: &'static str = "deadpool";
    type Guard = deadpool::managed::Object<Maker>;

    async fn empty(size: u32, _: bool) -> Self {
        Self::builder(Maker).max_size(size as usize).build().unwrap()
    }

    async fn acquire(&self) -> Option<Self::Guard> {
        self.get().await.ok()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get())
    }
}

impl bb8::ManageConnection for Maker {
    type Connection = Connection;
    type Error = Never;

    async fn connect(&self) -> Result<Connection, Never> {
        Ok(open())
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Never> {
        test()
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl Contender for bb8::Pool<Maker> {
    const NAME: &'static str = "bb8";
    type Guard = bb8::PooledConnection<'static, Maker>;

    async fn empty(size: u32, tested: bool) -> Self {
        Self::builder().max_size(size).test_on_check_out(tested).build(Maker).await.unwrap()
    }

    async fn acquire(&self) -> Option<Self::Guard> {
        self.get_owned().await.ok()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get_owned())
    }
}

#[async_trait::async_trait]
impl mobc::Manager for Maker {
    type Connection = Connection;
    type Error = Never;

    async fn connect(&self) -> Result<Connection, Never> {
        Ok(open())
    }

    async fn check(&self, connection: Connection) -> Result<Connection, Never> {
        test().map(|()| connection)
    }
}

impl Contender for mobc::Pool<Maker> {
    const NAME: &'static str = "mobc";
    type Guard = mobc::Connection<Maker>;

    async fn empty(size: u32, tested: bool) -> Self {
        let size = u64::from(size);
        Self::builder().max_open(size).max_idle(size).test_on_check_out(tested).build(Maker)
    }

    async fn acquire(&self) -> Option<Self::Guard> {
        self.get().await.ok()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get())
    }
}

impl fast_pool::Manager for Maker {
    type Connection = Connection;
    type Error = Never;

    async fn connect(&self) -> Result<Connection, Never> {
        Ok(open())
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Never> {
        test()
    }
}

impl Contender for fast_pool::Pool<Maker> {
    const NAME: &'static str = "fast_pool";
    type Guard = fast_pool::ConnectionGuard<Maker>;

    async fn empty(size: u32, _: bool) -> Self {
        let pool = Self::new(Maker);
        pool.set_max_open(u64::from(size));
        pool
    }

    async fn acquire(&self) -> Option<Self::Guard> {
        self.get().await.ok()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get())
    }
}
