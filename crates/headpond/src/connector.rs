//! What the pool must be told about a kind of connection.

use std::fmt;
use std::sync::Arc;

use headpond_core::FailureClass;

/// How connections are made, tested, cleaned and closed: the only thing a driver has to provide.
///
/// All futures run on tasks of the pool, never on a caller's: a caller that gives up cancels nothing here. They are
/// dropped half way only if their time limit has passed, or their runtime ends; the connection, if there is one, is
/// then dropped too.
///
/// ```
/// use headpond::{Connect, Connector, FailureClass};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::TcpStream;
///
/// /// Connections to a server that answers every line.
/// struct Echo(std::net::SocketAddr);
///
/// impl Connector for Echo {
///     type Connection = TcpStream;
///     type Error = std::io::Error;
///
///     async fn connect(&self, _: Connect) -> Result<TcpStream, Self::Error> {
///         TcpStream::connect(self.0).await
///     }
///
///     async fn check(&self, stream: &mut TcpStream) -> Result<(), Self::Error> {
///         stream.write_all(b"\n").await?;
///         stream.read_u8().await.map(drop)
///     }
///
///     fn is_broken(&self, stream: &mut TcpStream) -> bool {
///         // Nothing is to be read from a connection at rest, not even its end.
///         !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
///     }
///
///     fn classify(&self, error: &Self::Error) -> FailureClass {
///         match error.kind() {
///             std::io::ErrorKind::ConnectionRefused => FailureClass::Unreachable,
///             _ => FailureClass::Other,
///         }
///     }
/// }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// The driver's connection: what a [`Lease`](crate::Lease) derefs to.
    type Connection: Send + 'static;
    /// Why something failed. It is shared with everybody who waited for a login.
    type Error: fmt::Display + fmt::Debug + Send + Sync + 'static;

    /// Connects and logs in.
    ///
    /// Called when the pool needs a connection. Time limit: [`connect_timeout`](crate::Builder::connect_timeout), over
    /// everything the driver does. After an error the pool tries again by itself, at a pace that depends on
    /// [`Connector::classify`].
    fn connect(&self, how: Connect) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Asks the server whether the connection is good, as cheaply as there is.
    ///
    /// Called for a connection that was not used within [`trust_window`](crate::Builder::trust_window), before it is
    /// handed out, and in the background. Time limit: [`check_timeout`](crate::Builder::check_timeout). After an error
    /// a fresh connection is asked too; only if that one passes is this one closed, for otherwise it is the check that
    /// is wrong.
    fn check(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes the session like new: ends a transaction, forgets what was set.
    ///
    /// Called when a lease has ended and [`Connector::is_dirty`] says so, or its holder did
    /// ([`Lease::taint`](crate::Lease::taint)). Time limit: [`reset_timeout`](crate::Builder::reset_timeout). After an
    /// error the connection is closed. By default there is nothing to reset with, and it is closed too.
    fn reset(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Reset, Self::Error>> + Send {
        let _ = connection;
        async { Ok(Reset::Impossible) }
    }

    /// Whether the next holder would notice the last one.
    ///
    /// Called when a lease ends, by whoever drops it: it must not block, and costs every release.
    fn is_dirty(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// Whether the connection is known to be lost, without asking the server.
    ///
    /// Called when a lease begins and when it ends: it must not block, and costs every lease.
    fn is_broken(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// What a failed login means.
    ///
    /// [`FailureClass::Other`], the default, is tried again; those who wait hear of it when
    /// [`login_attempts`](crate::Builder::login_attempts) have failed and no connection is left.
    fn classify(&self, error: &Self::Error) -> FailureClass {
        let _ = error;
        FailureClass::Other
    }

    /// How many connections the server leaves to whoever logs in as we do; `None` if it does not say.
    ///
    /// Asked on the first connection before it serves, and again from time to time. The pool never has more.
    fn limit(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<u32>, Self::Error>> + Send {
        let _ = connection;
        async { Ok(None) }
    }

    /// Says goodbye.
    ///
    /// Called for every connection that is not lost, whatever the reason. Time limit:
    /// [`close_timeout`](crate::Builder::close_timeout). Until it is done the connection counts, for the server still
    /// has it. By default it is dropped.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        async {}
    }
}

/// What became of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The session is like new.
    Done,
    /// This driver cannot do it: the connection is closed.
    Impossible,
}

/// How to log in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Connect {
    /// As given to [`Pool::set_credentials`](crate::Pool::set_credentials); `None`: as the connector was made with.
    pub credentials: Option<Arc<Credentials>>,
}

/// A user and a password that change together.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, in the clear.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
