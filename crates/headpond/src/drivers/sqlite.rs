//! SQLite by `rusqlite`.

use std::fmt;
use std::path::PathBuf;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::task::spawn_blocking;

use crate::{Connect, Connector, FailureClass, Reset};

/// Connections to one SQLite database.
///
/// What is done with them blocks: [`Pool::run_blocking`](crate::Pool::run_blocking) does it where that is no harm.
#[derive(Clone, Debug)]
pub struct Sqlite {
    path: PathBuf,
    flags: OpenFlags,
    init: String,
}

impl Sqlite {
    /// The database in a file, which is made if it is not there; or by a
    /// [URI](https://www.sqlite.org/uri.html).
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let init = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000";
        Self { path: path.into(), flags: OpenFlags::default(), init: init.to_owned() }
    }

    /// How the file is opened.
    #[must_use]
    pub fn flags(mut self, flags: OpenFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Statements for each connection that is opened, instead of those for a write-ahead log with a patience of 5 s.
    #[must_use]
    pub fn init(mut self, statements: impl Into<String>) -> Self {
        self.init = statements.into();
        self
    }
}

/// Why a database could not be opened or reset.
#[derive(Debug)]
#[non_exhaustive]
pub enum SqliteError {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// The runtime ended meanwhile.
    Abandoned,
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => error.fmt(f),
            Self::Abandoned => f.write_str("the runtime ended while a database was opened"),
        }
    }
}

impl std::error::Error for SqliteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sqlite(error) => Some(error),
            Self::Abandoned => None,
        }
    }
}

impl Connector for Sqlite {
    type Connection = Connection;
    type Error = SqliteError;

    async fn connect(&self, _: Connect) -> Result<Connection, SqliteError> {
        let Self { path, flags, init } = self.clone();
        let open = move || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch(&init)?;
            Ok(connection)
        };
        spawn_blocking(open).await.map_err(|_| SqliteError::Abandoned)?.map_err(SqliteError::Sqlite)
    }

    /// There is no server that could have gone.
    async fn check(&self, _: &mut Connection) -> Result<(), SqliteError> {
        Ok(())
    }

    /// Ends the transaction that was left open.
    async fn reset(&self, connection: &mut Connection) -> Result<Reset, SqliteError> {
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").map_err(SqliteError::Sqlite)?;
        }
        Ok(Reset::Done)
    }

    fn is_dirty(&self, connection: &mut Connection) -> bool {
        !connection.is_autocommit()
    }

    fn classify(&self, error: &SqliteError) -> FailureClass {
        match error {
            SqliteError::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => FailureClass::StartingUp,
                ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied => {
                    FailureClass::Refused
                }
                _ => FailureClass::Other,
            },
            _ => FailureClass::Other,
        }
    }

    async fn close(&self, connection: Connection) {
        // The last connection writes the log back into the file.
        drop(spawn_blocking(move || drop(connection)).await);
    }
}
