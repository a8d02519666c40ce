//! What there is to know of a kind of database.

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;

use crate::script::{Script, Step, Transaction};

/// A database that can be measured.
pub trait Target: Clone + Send + Sync + 'static {
    /// One connection.
    type Connection: Send + 'static;

    /// Opens a connection that does nothing but read, unless [`Target`] was told otherwise.
    fn login(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Sends one statement and reads its answer to the end.
    fn send(connection: &mut Self::Connection, sql: &str)
    -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends a transaction that failed.
    fn roll_back(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Failure>> + Send {
        Self::send(connection, "ROLLBACK")
    }

    /// What the server says of itself.
    fn server(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Server, String>> + Send;

    /// The server's process for a connection, if there is one for each.
    fn backend(connection: &mut Self::Connection) -> impl Future<Output = Option<u32>> + Send;

    /// What to measure if nobody says: pgbench's and sysbench's reads where their tables are, else the least there is.
    fn usual(&self, connection: &mut Self::Connection) -> impl Future<Output = Script> + Send;

    /// Runs a transaction; `Err` once the connection cannot be used any more.
    fn run(
        connection: &mut Self::Connection,
        transaction: &Transaction,
        chance: &mut Xoshiro256PlusPlus,
    ) -> impl Future<Output = Result<Result<(), String>, String>> + Send {
        async move {
            for step in transaction.steps() {
                let done = match step {
                    Step::Sleep(time) => {
                        tokio::time::sleep(*time).await;
                        Ok(())
                    }
                    Step::Sql(sql) => Self::send(connection, &sql.fill(chance)).await,
                };
                match done {
                    Ok(()) => {}
                    Err(Failure { error, lost: true }) => return Err(error),
                    Err(Failure { error, lost: false }) => {
                        return match Self::roll_back(connection).await {
                            Ok(()) => Ok(Err(error)),
                            Err(_) => Err(error),
                        };
                    }
                }
            }
            Ok(Ok(()))
        }
    }
}

/// A statement that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the server or the driver says.
    pub error: String,
    /// The connection is lost with it.
    pub lost: bool,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Its name and version.
    pub version: String,
    /// Connections that it has.
    pub max_connections: u32,
    /// Those that are neither used nor reserved.
    pub free: u32,
    /// Processes that work for everybody, if it runs on this machine: the first is the parent of all others.
    pub processes: Vec<u32>,
}

/// The longest that any statement of ours may run.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
