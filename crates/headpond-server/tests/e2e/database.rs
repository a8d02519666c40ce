//! The PostgreSQL that all tests share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use headpond_embedded::{Options, Postgres};
use tokio_postgres::{Client, Config, NoTls};

/// Enough for every pool of the tests that run at once.
const CONNECTIONS: u32 = 400;

pub(crate) struct Database {
    pub(crate) server: Postgres,
    users: AtomicU32,
}

/// Started by the first test that needs it. A static is never dropped: the server ends with this process.
pub(crate) fn database() -> &'static Database {
    static DATABASE: OnceLock<Database> = OnceLock::new();
    DATABASE.get_or_init(|| Database { server: postgres(Options::default()), users: AtomicU32::new(0) })
}

/// A PostgreSQL for a test that stops it or sets it up in a way of its own.
pub(crate) fn postgres(options: Options) -> Postgres {
    Postgres::start(Options { max_connections: CONNECTIONS, ..options }).unwrap()
}

/// A connection past Headpond.
pub(crate) async fn direct(server: &Postgres) -> Client {
    let mut config = Config::new();
    config.host(server.host()).port(server.port()).user(server.user()).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Database {
    /// A superuser whom nobody else uses.
    pub(crate) async fn user(&self) -> String {
        let user = format!("user_{}", self.users.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE ROLE {user} SUPERUSER LOGIN");
        direct(&self.server).await.batch_execute(&create).await.unwrap();
        user
    }

    /// How many server connections the pools of a user have.
    pub(crate) async fn connections_of(&self, user: &str) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1
            AND application_name <> 'headpond control'";
        direct(&self.server).await.query_one(count, &[&user]).await.unwrap().get(0)
    }
}
