//! PostgreSQL by `tokio-postgres`.

use std::fmt;
use std::io;

use tokio_postgres::config::Config;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Error, NoTls, Socket};

use crate::{Connect, Connector, FailureClass, Reset};

use super::ResetWhen;

/// What DISCARD ALL does, but for prepared statements: those the driver has are its own.
const RESET: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
    SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES";

/// What the server leaves to a login that is not a superuser's. `reserved_connections` exists since version 16.
const LIMIT: &str = "SELECT (current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int)::int";

/// Connections to one PostgreSQL database. `T` encrypts them.
///
/// A transaction that was begun with [`Client::transaction`] is rolled back by the driver when it is dropped. One that
/// was begun by SQL, or a session that was changed by `SET`, is for its holder to clean up, or to
/// [taint](crate::Lease::taint).
#[derive(Clone)]
pub struct Postgres<T = NoTls> {
    config: Config,
    tls: T,
    reset: ResetWhen,
}

impl Postgres {
    /// Without encryption. The configuration may be parsed from a URL.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_tls(config, NoTls)
    }
}

impl<T> Postgres<T> {
    /// Encrypted, if the configuration says so.
    pub fn with_tls(config: Config, tls: T) -> Self {
        Self { config, tls, reset: ResetWhen::Tainted }
    }

    /// When sessions are made like new. [`ResetWhen::Tainted`].
    #[must_use]
    pub fn reset(mut self, when: ResetWhen) -> Self {
        self.reset = when;
        self
    }
}

impl<T> fmt::Debug for Postgres<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<T> Connector for Postgres<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    type Connection = Client;
    type Error = Error;

    async fn connect(&self, how: Connect) -> Result<Client, Error> {
        let mut config = self.config.clone();
        if let Some(credentials) = &how.credentials {
            config.user(&credentials.user).password(&credentials.password);
        }
        let (client, connection) = config.connect(self.tls.clone()).await?;
        // It ends with its client, and what it has to say of its end the client hears.
        tokio::spawn(connection);
        Ok(client)
    }

    async fn check(&self, client: &mut Client) -> Result<(), Error> {
        client.check_connection().await
    }

    async fn reset(&self, client: &mut Client) -> Result<Reset, Error> {
        client.batch_execute(RESET).await?;
        Ok(Reset::Done)
    }

    fn is_dirty(&self, _: &mut Client) -> bool {
        self.reset == ResetWhen::Always
    }

    fn is_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }

    fn classify(&self, error: &Error) -> FailureClass {
        let Some(state) = error.code() else {
            let io = std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
            return if io || error.is_closed() { FailureClass::Unreachable } else { FailureClass::Other };
        };
        match state {
            state if *state == SqlState::INVALID_PASSWORD => FailureClass::Authentication,
            state if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => FailureClass::Authentication,
            state if *state == SqlState::INVALID_CATALOG_NAME => FailureClass::Refused,
            state if *state == SqlState::INSUFFICIENT_PRIVILEGE => FailureClass::Refused,
            state if *state == SqlState::TOO_MANY_CONNECTIONS => FailureClass::TooManyConnections,
            state if *state == SqlState::CANNOT_CONNECT_NOW => FailureClass::StartingUp,
            state if *state == SqlState::ADMIN_SHUTDOWN => FailureClass::StartingUp,
            state if *state == SqlState::CRASH_SHUTDOWN => FailureClass::StartingUp,
            _ => FailureClass::Other,
        }
    }

    async fn limit(&self, client: &mut Client) -> Result<Option<u32>, Error> {
        let left: i32 = client.query_one(LIMIT, &[]).await?.get(0);
        Ok(u32::try_from(left).ok())
    }
}
