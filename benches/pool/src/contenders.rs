//! Pools of the same connections, each at its cheapest, but for ours: that has its whole policy on.

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

/// A pool that hands out guards which own what they need.
pub trait Contender: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    type Guard: Send + 'static;

    /// With all connections open.
    fn make(size: u32) -> impl Future<Output = Self> + Send;
    fn acquire(&self) -> impl Future<Output = Self::Guard> + Send;
    /// Bytes of the future that waits.
    fn future_size(&self) -> usize {
        size_of_val(&self.acquire())
    }
}

async fn fill<C: Contender>(pool: C, size: u32) -> C {
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
        Ok(Connection::default())
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Never> {
        Ok(())
    }
}

impl Contender for headpond::Pool<Maker> {
    const NAME: &'static str = "headpond";
    type Guard = headpond::Lease<Maker>;

    async fn make(size: u32) -> Self {
        let pool = Self::builder(Maker)
            .max_size(size)
            .max_idle(size)
            .initial_size(size)
            .leak_after(Duration::from_secs(60))
            .build();
        fill(pool, size).await
    }

    async fn acquire(&self) -> Self::Guard {
        self.acquire().await.unwrap()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.acquire())
    }
}

impl deadpool::managed::Manager for Maker {
    type Type = Connection;
    type Error = Never;

    async fn create(&self) -> Result<Connection, Never> {
        Ok(Connection::default())
    }

    async fn recycle(
        &self,
        _: &mut Connection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Never> {
        Ok(())
    }
}

impl Contender for deadpool::managed::Pool<Maker> {
    const NAME: &'static str = "deadpool";
    type Guard = deadpool::managed::Object<Maker>;

    async fn make(size: u32) -> Self {
        fill(Self::builder(Maker).max_size(size as usize).build().unwrap(), size).await
    }

    async fn acquire(&self) -> Self::Guard {
        self.get().await.unwrap()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get())
    }
}

impl bb8::ManageConnection for Maker {
    type Connection = Connection;
    type Error = Never;

    async fn connect(&self) -> Result<Connection, Never> {
        Ok(Connection::default())
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Never> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl Contender for bb8::Pool<Maker> {
    const NAME: &'static str = "bb8";
    type Guard = bb8::PooledConnection<'static, Maker>;

    async fn make(size: u32) -> Self {
        let pool = Self::builder().max_size(size).test_on_check_out(false).build(Maker).await.unwrap();
        fill(pool, size).await
    }

    async fn acquire(&self) -> Self::Guard {
        self.get_owned().await.unwrap()
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
        Ok(Connection::default())
    }

    async fn check(&self, connection: Connection) -> Result<Connection, Never> {
        Ok(connection)
    }
}

impl Contender for mobc::Pool<Maker> {
    const NAME: &'static str = "mobc";
    type Guard = mobc::Connection<Maker>;

    async fn make(size: u32) -> Self {
        let size = u64::from(size);
        let pool = Self::builder().max_open(size).max_idle(size).test_on_check_out(false).build(Maker);
        fill(pool, size as u32).await
    }

    async fn acquire(&self) -> Self::Guard {
        self.get().await.unwrap()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get())
    }
}

impl fast_pool::Manager for Maker {
    type Connection = Connection;
    type Error = Never;

    async fn connect(&self) -> Result<Connection, Never> {
        Ok(Connection::default())
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Never> {
        Ok(())
    }
}

impl Contender for fast_pool::Pool<Maker> {
    const NAME: &'static str = "fast_pool";
    type Guard = fast_pool::ConnectionGuard<Maker>;

    async fn make(size: u32) -> Self {
        let pool = Self::new(Maker);
        pool.set_max_open(u64::from(size));
        fill(pool, size).await
    }

    async fn acquire(&self) -> Self::Guard {
        self.get().await.unwrap()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.get())
    }
}
