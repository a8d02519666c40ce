//! MySQL and MariaDB by `mysql_async`.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder};

use crate::{Connect, Connector, FailureClass, Reset};

use super::ResetWhen;

/// What the server has for everybody; one more is reserved for an administrator.
const LIMIT: &str = "SELECT CAST(@@max_connections AS UNSIGNED),
    CAST(@@max_user_connections AS UNSIGNED)";

/// Connections to one MySQL or MariaDB database.
///
/// After each lease the session is reset by `COM_RESET_CONNECTION`, for the driver does not tell whether that is needed:
/// transactions are rolled back, variables, temporary tables and prepared statements gone.
#[derive(Clone, Debug)]
pub struct Mysql {
    opts: Opts,
    reset: ResetWhen,
}

impl Mysql {
    /// The options may be parsed from a URL. What they say of a pool does not apply.
    #[must_use]
    pub fn new(opts: Opts) -> Self {
        Self { opts, reset: ResetWhen::Always }
    }

    /// When sessions are made like new. [`ResetWhen::Always`].
    #[must_use]
    pub fn reset(mut self, when: ResetWhen) -> Self {
        self.reset = when;
        self
    }
}

impl Connector for Mysql {
    type Connection = Conn;
    type Error = Error;

    async fn connect(&self, how: Connect) -> Result<Conn, Error> {
        let mut opts = OptsBuilder::from_opts(self.opts.clone());
        if let Some(credentials) = &how.credentials {
            opts = opts.user(Some(&credentials.user)).pass(Some(&credentials.password));
        }
        Conn::new(opts).await
    }

    async fn check(&self, conn: &mut Conn) -> Result<(), Error> {
        conn.ping().await
    }

    async fn reset(&self, conn: &mut Conn) -> Result<Reset, Error> {
        if conn.reset().await? {
            return Ok(Reset::Done);
        }
        // Before MariaDB 10.2.4 and MySQL 5.7.3: a new login on the same connection.
        conn.change_user(mysql_async::ChangeUserOpts::default()).await?;
        Ok(Reset::Done)
    }

    fn is_dirty(&self, _: &mut Conn) -> bool {
        self.reset == ResetWhen::Always
    }

    fn classify(&self, error: &Error) -> FailureClass {
        match error {
            Error::Server(error) => match error.code {
                // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
                1045 | 1698 => FailureClass::Authentication,
                // ER_DBACCESS_DENIED_ERROR, ER_BAD_DB_ERROR, ER_HOST_IS_BLOCKED, ER_HOST_NOT_PRIVILEGED
                1044 | 1049 | 1129 | 1130 => FailureClass::Refused,
                // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
                1040 | 1203 | 1226 => FailureClass::TooManyConnections,
                // ER_SERVER_SHUTDOWN
                1053 => FailureClass::StartingUp,
                _ => FailureClass::Other,
            },
            Error::Io(_) | Error::Driver(DriverError::ConnectionClosed) => FailureClass::Unreachable,
            _ => FailureClass::Other,
        }
    }

    async fn limit(&self, conn: &mut Conn) -> Result<Option<u32>, Error> {
        let said: Option<(u32, u32)> = conn.query_first(LIMIT).await?;
        // 0: as many as there are.
        Ok(said.map(|(all, own)| if own == 0 { all } else { all.min(own) }))
    }

    async fn close(&self, conn: Conn) {
        // The server has forgotten it, or will.
        let _ = conn.disconnect().await;
    }
}
