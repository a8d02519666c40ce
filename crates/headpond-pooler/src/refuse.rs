//! What clients are told when something cannot be had: one table of causes, codes and consequences.
//!
//! Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use headpond_core::{FailureClass, Refusal, State, Tick};
use headpond_wire::postgres::encode::{self, Report as Fields, Severity};

use crate::action::{Action, Actions, ClientId, Link, Report};
use crate::client::{Client, ClientState, Discard, Lease};
use crate::pooler::Pooler;

/// Why a client does not get what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The first packet makes no sense.
    BadStartup,
    /// A version of the protocol that is not spoken.
    Version,
    /// It came in clear, and TLS is demanded.
    TlsRequired,
    /// The proof was wrong, or there is no such user.
    WrongPassword,
    /// The rules do not let it in.
    NotAllowed,
    /// Users cannot be looked up.
    NotLookedUp,
    /// No data source has this name.
    UnknownDatabase,
    /// `max_clients` is reached.
    TooManyClients,
    /// A client broke the protocol.
    ProtocolViolation,
    /// No connection came free within `acquire_timeout`.
    AcquireTimeout,
    /// `max_waiters` wait already.
    QueueFull,
    /// Every login to the server fails for good.
    ServerRefuses,
    /// It was cancelled while it waited.
    Cancelled,
    /// The pooler stops.
    ShuttingDown,
    /// The server connection broke.
    ServerLost,
    /// It broke, and with it what pinned its client to it.
    SessionLost,
    /// It broke in a transaction, which is rolled back.
    TransactionLost,
    /// The client was told that its transaction is rolled back, and goes on in it.
    InFailedTransaction,
    /// It broke, and what was sent may have been carried out or not.
    OutcomeUnknown,
    /// The client's settings cannot be restored on the connection that it got.
    SettingsRefused,
    /// The login took too long.
    LoginTimeout,
    /// Its lease was older than `leak_after`.
    Reclaimed,
    /// A client did nothing for longer than `client_idle_timeout`.
    IdleClient,
    /// Nothing was done in a transaction for longer than `idle_transaction_timeout`: it is rolled back.
    IdleTransaction,
    /// A transaction lasted longer than `transaction_timeout`: it is rolled back.
    LongTransaction,
    /// A transaction that would outlive its request, in statement mode: it is rolled back.
    TransactionBlock,
    /// It asks for a value of a sequence that others may have drawn on the connection.
    SequenceUnknown,
    /// A message is larger than `max_message_size`.
    MessageTooLarge,
}

impl Cause {
    pub(crate) fn sqlstate(self) -> &'static str {
        match self {
            Self::BadStartup | Self::ProtocolViolation => "08P01",
            Self::Version | Self::TransactionBlock => "0A000",
            Self::TlsRequired => "28000",
            Self::WrongPassword => "28P01",
            Self::NotAllowed => "28000",
            Self::NotLookedUp => "57P03",
            Self::UnknownDatabase => "3D000",
            Self::TooManyClients | Self::QueueFull => "53300",
            Self::AcquireTimeout | Self::Cancelled => "57014",
            Self::ServerRefuses | Self::ServerLost => "08006",
            Self::TransactionLost => "40001",
            Self::InFailedTransaction => "25P02",
            Self::OutcomeUnknown => "40003",
            Self::ShuttingDown | Self::Reclaimed | Self::SessionLost => "57P01",
            Self::SettingsRefused => "22023",
            Self::LoginTimeout => "08006",
            Self::SequenceUnknown => "55000",
            Self::MessageTooLarge => "54000",
            Self::IdleClient => "57P05",
            Self::IdleTransaction => "25P03",
            Self::LongTransaction => "25P04",
        }
    }

    /// What a client is told of a lost server, and what it may do about it.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::SessionLost => ("the session is gone: its server connection was lost", ""),
            Self::SettingsRefused => (
                "the session's settings cannot be restored on a server connection",
                "The statement was not executed. Connect anew, or see the detail for what the server refuses.",
            ),
            Self::TransactionLost => (
                "the transaction was rolled back: its server connection was lost",
                "Run the transaction again.",
            ),
            Self::InFailedTransaction => {
                ("current transaction is aborted, commands ignored until end of transaction block", "")
            }
            Self::OutcomeUnknown => (
                "the server connection was lost before the outcome was known",
                "What was sent last may have been carried out, or not.",
            ),
            Self::MessageTooLarge => ("the message is larger than max_message_size", ""),
            Self::SequenceUnknown => (
                "the last value of a sequence is not known on this server connection",
                "From now on connections stay with whoever advances a sequence. Run the transaction again, or use \
                 INSERT ... RETURNING.",
            ),
            Self::IdleClient => ("terminating connection due to client_idle_timeout", ""),
            Self::IdleTransaction => ("the transaction was rolled back: idle_transaction_timeout", ""),
            Self::LongTransaction => ("the transaction was rolled back: transaction_timeout", ""),
            Self::TransactionBlock => (
                "transaction blocks are not allowed in statement mode",
                "The transaction was rolled back. Send it in one request, or use another pool_mode.",
            ),
            _ => ("the request was refused", ""),
        }
    }
}

impl From<Refusal> for Cause {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::TimedOut => Self::AcquireTimeout,
            Refusal::QueueFull => Self::QueueFull,
            Refusal::WouldMiss => Self::AcquireTimeout,
            Refusal::Database(_) => Self::ServerRefuses,
            Refusal::Draining => Self::ShuttingDown,
        }
    }
}

/// How many of the oldest leases an error names.
const HOLDERS_SHOWN: usize = 3;

impl Pooler {
    /// A request, queued or not, gets no connection: a login ends, a request is answered by an error.
    pub(crate) fn refused(&mut self, now: Tick, id: ClientId, why: Refusal, out: &mut Actions) {
        self.refuse_request(now, id, why.into(), out);
    }

    /// As [`Pooler::refused`], for any cause.
    pub(crate) fn refuse_request(&mut self, now: Tick, id: ClientId, cause: Cause, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.lease = Lease::None;
        match client.state {
            ClientState::LookedUp(_) => self.not_looked_up(id, out),
            ClientState::Ready => {
                client.state = ClientState::Refused(Discard::First(cause));
                client.unread = false;
                out.push(Action::Read(Link::Client(id)));
            }
            _ => {
                let (code, message, detail) = self.explain(now, id, cause);
                let report = Fields::new(Severity::Fatal, &code, &message);
                let report = if detail.is_empty() { report } else { report.detail(&detail) };
                out.send(Link::Client(id), |bytes| encode::error_response(bytes, &report));
                self.totals.logins_refused += 1;
                out.report(Report::LoginRefused { message, wrong: false });
                self.drop_client(id, out);
            }
        }
    }

    /// A client cannot come in: says why, in the words given, and closes it.
    pub(crate) fn refuse_login(&mut self, id: ClientId, cause: &Cause, message: &str, out: &mut Actions) {
        self.totals.logins_refused += 1;
        let wrong = *cause == Cause::WrongPassword;
        out.report(Report::LoginRefused { message: message.to_owned(), wrong });
        self.close_client(id, *cause, message, out);
    }

    /// Tells a client why it is closed, and closes it.
    pub(crate) fn close_client(&mut self, id: ClientId, cause: Cause, message: &str, out: &mut Actions) {
        if self.clients.get(id).is_some() {
            let report = Fields::new(Severity::Fatal, cause.sqlstate(), message);
            out.send(Link::Client(id), |bytes| encode::error_response(bytes, &report));
            self.drop_client(id, out);
        }
    }

    /// The error that answers a refused request.
    pub(crate) fn send_refusal(&mut self, now: Tick, id: ClientId, cause: Cause, out: &mut Actions) {
        let (code, message, detail) = self.explain(now, id, cause);
        let severity = if cause == Cause::ShuttingDown { Severity::Fatal } else { Severity::Error };
        let report = Fields::new(severity, &code, &message);
        let report = if detail.is_empty() { report } else { report.detail(&detail) };
        let (_, hint) = cause.words();
        let report = if hint.is_empty() { report } else { report.hint(hint) };
        out.send(Link::Client(id), |bytes| encode::error_response(bytes, &report));
    }

    /// Code, text and detail for the operator.
    fn explain(&self, now: Tick, id: ClientId, cause: Cause) -> (String, String, String) {
        let code = cause.sqlstate().to_owned();
        let pool = self.clients.get(id).and_then(|client| self.pools.get(client.pool as usize));
        let Some(pool) = pool else { return (code, "the request was refused".to_owned(), String::new()) };
        let figures = pool.policy.figures(now);
        let settings = &figures.settings;
        match cause {
            Cause::AcquireTimeout => {
                let message = format!(
                    "no server connection became free within acquire_timeout ({:?})",
                    settings.acquire_timeout
                );
                // A connection of its own is refused as a server would that has none left.
                let code = if pool.is_dedicated() { Cause::QueueFull.sqlstate().to_owned() } else { code };
                (code, message, self.saturation(now, id))
            }
            Cause::QueueFull => {
                let message =
                    format!("too many requests wait already (max_waiters = {})", settings.max_waiters);
                (code, message, self.saturation(now, id))
            }
            Cause::ServerRefuses => match &pool.last_error {
                Some((state, text)) => {
                    (state.clone(), text.clone(), "The database server refuses logins.".to_owned())
                }
                None => (code, "the database server refuses logins".to_owned(), String::new()),
            },
            Cause::Cancelled => (code, "canceling statement due to user request".to_owned(), String::new()),
            Cause::ShuttingDown => {
                (code, "terminating connection due to administrator command".to_owned(), String::new())
            }
            Cause::SettingsRefused => {
                (code, cause.words().0.to_owned(), pool.settings_error.clone().unwrap_or_default())
            }
            _ => (code, cause.words().0.to_owned(), String::new()),
        }
    }

    /// Who holds what the client waited for.
    fn saturation(&self, now: Tick, id: ClientId) -> String {
        let Some(client) = self.clients.get(id) else { return String::new() };
        let Some(pool) = self.pools.get(client.pool as usize) else { return String::new() };
        let figures = pool.policy.figures(now);
        let mut text = format!(
            "Pool {}/{}: {} in use, {} opening, {} idle of max_size {}; {} waiting.",
            pool.name,
            pool.user,
            figures.count(State::InUse),
            figures.count(State::Opening),
            figures.count(State::Idle),
            figures.effective_max,
            figures.waiting,
        );
        if let Some((code, error)) = &pool.last_error {
            text.push_str(&format!(" Last failed login: {code} {error}."));
        }
        for server in self.longest_held(pool).take(HOLDERS_SHOWN) {
            let Some(holder) = server.client.and_then(|client| self.clients.get(client)) else { continue };
            let doing = if server.status == b'I' { "" } else { ", in a transaction" };
            let held = now.since(server.requested);
            text.push_str(&format!(" Held for {held:.1?} by {}{doing}", self.describe(holder)));
            let pins: Vec<_> = server.session.pins.names().collect();
            text.push_str(&if pins.is_empty() {
                ".".to_owned()
            } else {
                format!(", pinned: {}.", pins.join(", "))
            });
        }
        let pinned = self.pin_figures(now, pool);
        if let Some((reason, connections)) = pinned.reasons().max_by_key(|(_, connections)| *connections) {
            text.push_str(&format!(
                " {} of those in use are pinned to their clients, {connections} for {reason} (SHOW PINS).",
                pinned.connections
            ));
        }
        text
    }

    pub(crate) fn describe(&self, client: &Client) -> String {
        let user = self.users.name(client.user);
        let application = self.settings.value(client.settings, "application_name").unwrap_or("");
        match (application, client.peer) {
            ("", None) => user.to_owned(),
            ("", Some((address, port))) => format!("{user} at {address}:{port}"),
            (_, None) => format!("{user} ({application})"),
            (_, Some((address, port))) => format!("{user} ({application}) at {address}:{port}"),
        }
    }
}

/// What a failed login to a server means to the pool, from its SQLSTATE.
pub(crate) fn classify(sqlstate: &str) -> FailureClass {
    match sqlstate {
        "53300" => FailureClass::TooManyConnections,
        "57P03" => FailureClass::StartingUp,
        "3D000" | "42501" => FailureClass::Refused,
        _ if sqlstate.starts_with("28") => FailureClass::Authentication,
        _ if sqlstate.starts_with("08") || sqlstate.starts_with("57P") => FailureClass::Unreachable,
        _ => FailureClass::Other,
    }
}
