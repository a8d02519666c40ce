//! Why no server could be started or stopped, said to whoever has to change something.

use std::path::PathBuf;
use std::{fmt, io};

/// Why no server could be started or stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No PostgreSQL server on this machine.
    NotFound,
    /// `PG_BINDIR` names a folder whose `postgres` and `initdb` do not run for the database's user.
    Unusable(PathBuf),
    /// We are root, and there is no account that the database could run as.
    NoAccount,
    /// Every port is taken.
    NoPort,
    /// A program ended when it should not have; `log` holds the last lines it wrote.
    Ended {
        /// Such as `initdb` or `postgres`.
        program: &'static str,
        /// Its last lines.
        log: String,
    },
    /// The server was neither ready nor gone in time; `log` holds the last lines it wrote.
    TimedOut {
        /// What was waited for.
        awaited: &'static str,
        /// The server's last lines.
        log: String,
    },
    /// The operating system refused something else.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str(
                "no PostgreSQL server found: run scripts/postgres.sh, install the package `postgresql`, \
                 or set PG_BINDIR to the folder that holds `postgres` and `initdb`",
            ),
            Self::Unusable(folder) => {
                let folder = folder.display();
                write!(
                    f,
                    "PG_BINDIR={folder}: `postgres` and `initdb` do not run from there: correct or unset it"
                )
            }
            Self::NoAccount => f.write_str(
                "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`: \
                 add one, or start as an ordinary user",
            ),
            Self::NoPort => f.write_str("no free port on 127.0.0.1 for the private PostgreSQL"),
            Self::Ended { program, log } => write!(f, "{program} ended unexpectedly; its last lines:\n{log}"),
            Self::TimedOut { awaited, log } => {
                write!(f, "the private server was not {awaited} in time; its last lines:\n{log}")
            }
            Self::Io(error) => write!(f, "private server: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
