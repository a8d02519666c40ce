//! MariaDB and MySQL by `mysql_async`.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts};

use crate::script::Script;
use crate::target::{Failure, LONGEST, Server, Target};

/// What the server has, and where it wrote its process id.
const SERVER: &str = "SELECT @@version, CAST(@@max_connections AS UNSIGNED), @@pid_file, @@datadir";

/// Rows of sysbench's first table, if it is there.
const SYSBENCH: &str = "SELECT CAST(MAX(id) AS UNSIGNED) FROM sbtest1";

/// A MariaDB or MySQL database, without encryption.
#[derive(Clone, Debug)]
pub struct Mysql {
    opts: Opts,
    writes: bool,
}

impl Mysql {
    /// A database to measure; it is only read unless `writes`.
    #[must_use]
    pub fn new(opts: Opts, writes: bool) -> Self {
        Self { opts, writes }
    }
}

impl Target for Mysql {
    type Connection = Conn;

    async fn login(&self) -> Result<Conn, String> {
        let mut conn = Conn::new(self.opts.clone()).await.map_err(|error| text(&error))?;
        // MariaDB's name and unit; MySQL has another for each, and no limit for anything but SELECT.
        let _ = conn.query_drop(format!("SET SESSION max_statement_time = {}", LONGEST.as_secs())).await;
        if !self.writes {
            let read_only = conn.query_drop("SET SESSION TRANSACTION READ ONLY").await;
            read_only.map_err(|error| text(&error))?;
        }
        Ok(conn)
    }

    async fn send(conn: &mut Conn, sql: &str) -> Result<(), Failure> {
        let failure =
            |error: Error| Failure { error: text(&error), lost: !matches!(error, Error::Server(_)) };
        conn.query_drop(sql).await.map_err(failure)
    }

    async fn server(&self, conn: &mut Conn) -> Result<Server, String> {
        let row: Option<(String, u32, String, String)> =
            conn.query_first(SERVER).await.map_err(|error| text(&error))?;
        let (version, max_connections, pid_file, folder) = row.ok_or("the server does not say what it is")?;
        let used: Option<(String, u32)> = conn
            .query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
            .await
            .map_err(|error| text(&error))?;
        let used = used.map_or(1, |(_, used)| used);
        let pid = crate::machine::written(&folder, &pid_file);
        Ok(Server {
            version: if version.contains("MariaDB") { version } else { format!("MySQL {version}") },
            max_connections,
            free: max_connections.saturating_sub(used),
            processes: pid.into_iter().collect(),
        })
    }

    async fn backend(_: &mut Conn) -> Option<u32> {
        // A thread, whose work is that of the process.
        None
    }

    async fn usual(&self, conn: &mut Conn) -> Script {
        let rows = conn.query_first::<Option<u64>, _>(SYSBENCH).await.ok().flatten().flatten();
        let select = rows.map(|rows| format!("SELECT c FROM sbtest1 WHERE id = {{1..{rows}}}"));
        let sysbench = select.and_then(|select| Script::parse(&select).ok());
        sysbench.unwrap_or_else(|| Script::one("SELECT 1"))
    }
}

fn text(error: &Error) -> String {
    match error {
        Error::Server(error) => error.message.clone(),
        error => error.to_string(),
    }
}
