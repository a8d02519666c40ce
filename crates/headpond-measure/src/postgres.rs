//! PostgreSQL by `tokio-postgres`.

use std::fmt::Write as _;

use tokio_postgres::{Client, Config, NoTls};

use crate::script::Script;
use crate::target::{Failure, LONGEST, Server, Target};

/// What the server has, what of it is free for a login that is no superuser's, and who works for everybody.
/// `reserved_connections` exists since version 16.
const SERVER: &str = "SELECT current_setting('server_version'), current_setting('max_connections')::int,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int,
    ARRAY(SELECT pid FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'parallel worker',
        'autovacuum worker')), pg_backend_pid()";

/// A PostgreSQL database, without encryption.
#[derive(Clone, Debug)]
pub struct Postgres {
    config: Config,
    settings: String,
}

impl Postgres {
    /// A database to measure; it is only read unless `writes`.
    #[must_use]
    pub fn new(mut config: Config, writes: bool) -> Self {
        config.application_name("headpond size");
        let mut settings = format!("SET statement_timeout = {}", LONGEST.as_millis());
        if !writes {
            // A String takes whatever is written to it.
            let _ = write!(settings, "; SET default_transaction_read_only = on");
        }
        Self { config, settings }
    }
}

impl Target for Postgres {
    type Connection = Client;

    async fn login(&self) -> Result<Client, String> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(|error| text(&error))?;
        // It ends with its client, who hears what it has to say.
        tokio::spawn(connection);
        client.batch_execute(&self.settings).await.map_err(|error| text(&error))?;
        Ok(client)
    }

    async fn send(client: &mut Client, sql: &str) -> Result<(), Failure> {
        let failure = |error: tokio_postgres::Error| Failure { error: text(&error), lost: error.is_closed() };
        client.batch_execute(sql).await.map_err(failure)
    }

    async fn server(&self, client: &mut Client) -> Result<Server, String> {
        let row = client.query_one(SERVER, &[]).await.map_err(|error| text(&error))?;
        let number = |column| u32::try_from(row.get::<_, i32>(column)).unwrap_or(0);
        let others: Vec<i32> = row.get(3);
        let mut processes = Vec::new();
        if let Some(parent) = crate::machine::parent(number(4), "postgres") {
            processes.push(parent);
            processes.extend(others.into_iter().filter_map(|pid| u32::try_from(pid).ok()));
        }
        Ok(Server {
            version: format!("PostgreSQL {}", row.get::<_, String>(0)),
            max_connections: number(1),
            free: number(2),
            processes,
        })
    }

    async fn backend(client: &mut Client) -> Option<u32> {
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await.ok()?;
        u32::try_from(row.get::<_, i32>(0)).ok()
    }

    async fn usual(&self, client: &mut Client) -> Script {
        let rows = "SELECT count(*) FROM pgbench_branches";
        let scale: i64 = match client.query_one(rows, &[]).await {
            Ok(row) => row.get(0),
            Err(_) => 0,
        };
        let accounts = scale * 100_000;
        let select = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {{1..{accounts}}}");
        let pgbench = (accounts > 0).then(|| Script::parse(&select).ok()).flatten();
        pgbench.unwrap_or_else(|| Script::one("SELECT 1"))
    }
}

/// What the server said, rather than the driver's name for it.
fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}
