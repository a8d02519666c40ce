//! Statements of a client that is logged in, by the simple and the extended protocol
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headpond_wire::postgres::encode::{self, Report, Severity};
use headpond_wire::postgres::frame::Fields;
use tokio::io::{AsyncRead, AsyncWrite};

use super::bind::bind;
use super::commands::{self, Act, Does, Request, Show};
use super::link::{Ended, Link};
use super::table::{self, Cell, Formats};
use super::{Role, View};
use crate::config::Diagnostic;
use crate::control::{Control, Reloaded};

/// Prepared statements, and portals, at most.
const NAMES_MAX: usize = 100;

/// How often a pause looks whether the pools are empty.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// Why a statement failed.
#[derive(Debug)]
pub(crate) struct Refusal {
    sqlstate: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<&'static str>,
}

impl Refusal {
    fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None }
    }
}

/// Why a message could not be answered as asked.
enum Failure {
    Refused(Refusal),
    Ended(Ended),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

/// `None` stands for the empty statement.
type Prepared = Option<Request>;

/// One client.
pub(crate) struct Dialogue<S> {
    link: Link<S>,
    user: String,
    role: Role,
    control: Arc<Control>,
    statements: BTreeMap<Vec<u8>, Prepared>,
    portals: BTreeMap<Vec<u8>, (Prepared, Formats)>,
    /// An extended-protocol message failed: nothing is done until Sync.
    skipping: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    pub(crate) fn new(link: Link<S>, (user, role): (String, Role), control: Arc<Control>) -> Self {
        let (statements, portals) = (BTreeMap::new(), BTreeMap::new());
        Self { link, user, role, control, statements, portals, skipping: false }
    }

    /// Answers until the client leaves.
    pub(crate) async fn run(mut self) -> Ended {
        loop {
            if let Err(ended) = self.turn().await {
                return ended;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Ended> {
        let (kind, body) = self.link.message().await?;
        match kind {
            b'X' => return Err(Ended::Left),
            b'S' => {
                self.skipping = false;
                self.portals.clear();
                encode::ready_for_query(&mut self.link.out, b'I');
                self.link.flush().await?;
            }
            b'Q' => {
                self.skipping = false;
                let outcome = self.query(&body).await;
                self.settle(outcome)?;
                encode::ready_for_query(&mut self.link.out, b'I');
                self.link.flush().await?;
            }
            b'H' => self.link.flush().await?,
            // Copy data that nobody asked for is dropped, as PostgreSQL does.
            b'd' | b'c' | b'f' => {}
            b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => {
                if !self.skipping {
                    let outcome = self.extended(kind, &body).await;
                    self.skipping = self.settle(outcome)?;
                }
            }
            _ => return Err(self.link.fatal("08P01", "invalid message type").await),
        }
        self.link.relieve().await
    }

    /// Reports a refusal to the client; whether there was one.
    fn settle(&mut self, outcome: Result<(), Failure>) -> Result<bool, Ended> {
        let refusal = match outcome {
            Ok(()) => return Ok(false),
            Err(Failure::Ended(ended)) => return Err(ended),
            Err(Failure::Refused(refusal)) => refusal,
        };
        let report = Report {
            detail: refusal.detail.as_deref(),
            hint: refusal.hint,
            ..Report::new(Severity::Error, refusal.sqlstate, &refusal.message)
        };
        encode::error_response(&mut self.link.out, &report);
        Ok(true)
    }

    async fn query(&mut self, body: &[u8]) -> Result<(), Failure> {
        let prepared = prepare(Fields(body).string())?;
        if let Some(columns) = prepared.as_ref().and_then(|request| request.command.columns()) {
            let start = self.link.out.len();
            table::describe(&mut self.link.out, columns, &Formats::default());
            let outcome = self.execute(prepared.as_ref(), &Formats::default()).await;
            if outcome.is_err() {
                // An error comes instead of the columns, not after them.
                self.link.out.truncate(start);
            }
            return outcome;
        }
        self.execute(prepared.as_ref(), &Formats::default()).await
    }

    async fn extended(&mut self, kind: u8, body: &[u8]) -> Result<(), Failure> {
        let malformed = || Refusal::new("08P01", "invalid message");
        let mut body = Fields(body);
        match kind {
            b'P' => {
                let name = body.string().ok_or_else(malformed)?.to_vec();
                let prepared = prepare(body.string())?;
                insert(&mut self.statements, name, prepared)?;
                encode::parse_complete(&mut self.link.out);
            }
            b'B' => {
                let bind = bind(body).ok_or_else(malformed)?;
                if bind.parameters > 0 {
                    return Err(Refusal::new("0A000", "the console takes no parameters").into());
                }
                let prepared = self.statements.get(bind.statement).ok_or_else(unknown_statement)?.clone();
                insert(&mut self.portals, bind.portal.to_vec(), (prepared, bind.formats))?;
                encode::bind_complete(&mut self.link.out);
            }
            b'D' => {
                let (what, name) = (body.byte(), body.string().ok_or_else(malformed)?);
                let (prepared, formats) = if what == Some(b'S') {
                    encode::parameter_description(&mut self.link.out, &[]);
                    (self.statements.get(name).ok_or_else(unknown_statement)?, &Formats::default())
                } else {
                    let (prepared, formats) = self.portals.get(name).ok_or_else(unknown_portal)?;
                    (prepared, formats)
                };
                match prepared.as_ref().and_then(|request| request.command.columns()) {
                    Some(columns) => table::describe(&mut self.link.out, columns, formats),
                    None => encode::no_data(&mut self.link.out),
                }
            }
            b'E' => {
                let name = body.string().ok_or_else(malformed)?;
                // The limit of rows that follows is not looked at: tables here are short.
                let (prepared, formats) = self.portals.get(name).ok_or_else(unknown_portal)?.clone();
                self.execute(prepared.as_ref(), &formats).await?;
            }
            b'C' => {
                let (what, name) = (body.byte(), body.string().ok_or_else(malformed)?);
                if what == Some(b'S') {
                    self.statements.remove(name);
                } else {
                    self.portals.remove(name);
                }
                encode::close_complete(&mut self.link.out);
            }
            _ => return Err(Refusal::new("0A000", "the console has no functions").into()),
        }
        Ok(())
    }

    /// Everything of an answer but the description of its columns.
    async fn execute(&mut self, prepared: Option<&Request>, formats: &Formats) -> Result<(), Failure> {
        let Some(request) = prepared else {
            encode::empty_query_response(&mut self.link.out);
            return Ok(());
        };
        self.allow(prepared)?;
        match &request.command.does {
            Does::Show(show) => self.show(show, formats).await?,
            Does::Say(value) => {
                let columns = request.command.columns().unwrap_or_default();
                table::rows(&mut self.link.out, columns, &[vec![Cell::from(*value)]], formats);
            }
            Does::Help => self.notice(Severity::Notice, &commands::help()),
            Does::Act(act) => self.act(*act, request.argument.as_deref()).await?,
            Does::Refuse(instead) => {
                let message = format!("{} is not supported", request.command.name);
                return Err(Refusal { hint: Some(instead), ..Refusal::new("0A000", message) }.into());
            }
        }
        encode::command_complete(&mut self.link.out, request.command.tag());
        Ok(())
    }

    fn allow(&self, prepared: Option<&Request>) -> Result<(), Refusal> {
        if self.role == Role::Admin || prepared.is_none_or(|request| request.command.is_for_all()) {
            return Ok(());
        }
        let hint = Some("connect as one of admin_users");
        Err(Refusal { hint, ..Refusal::new("42501", "this user may only use SHOW commands") })
    }

    async fn show(&mut self, show: &Show, formats: &Formats) -> Result<(), Refusal> {
        let snapshot = self.control.snapshot(show.detail).await;
        let snapshot = snapshot.map_err(|silent| Refusal::new("58000", silent.to_string()))?;
        let (config, totals) = (self.control.config(), self.control.totals());
        let view = View { snapshot: &snapshot, config: &config, totals: &totals, wall: SystemTime::now() };
        table::rows(&mut self.link.out, show.columns, &(show.rows)(&view), formats);
        Ok(())
    }

    async fn act(&mut self, act: Act, argument: Option<&str>) -> Result<(), Failure> {
        if act == Act::Set {
            return Ok(self.set(argument.unwrap_or_default()).await?);
        }
        let data_source = argument;
        if let Some(name) = data_source
            && self.control.config().pooler.data_source(name).is_none()
        {
            return Err(Refusal::new("3D000", format!("no such data source: {name}")).into());
        }
        tracing::info!(command = ?act, data_source, user = self.user, "console command");
        match act {
            Act::Pause => {
                self.control.suspend(data_source).await;
                self.wait_until_closed(data_source).await?;
            }
            Act::Resume => self.control.resume(data_source).await,
            Act::Reconnect => self.control.renew(data_source).await,
            Act::Kill => self.control.kill(data_source).await,
            Act::ResetMarks => self.control.reset_marks().await,
            Act::Shutdown(how) => self.control.shut_down(how),
            Act::Reload => self.reload().await?,
            Act::Set => {}
        }
        Ok(())
    }

    /// Waits until no server connection of the paused pools is left, watching the client all the while. The
    /// pause outlives a client that leaves.
    async fn wait_until_closed(&mut self, data_source: Option<&str>) -> Result<(), Failure> {
        loop {
            let snapshot = self.control.snapshot(false).await;
            let snapshot = snapshot.map_err(|silent| Refusal::new("58000", silent.to_string()))?;
            let open = || {
                let named = |name: &str| data_source.is_none_or(|wanted| wanted == name);
                snapshot.pools.iter().filter(move |row| named(&row.data_source) && row.pool.open() > 0)
            };
            if open().next().is_none() {
                return Ok(());
            }
            if open().all(|row| !row.paused) {
                return Err(Refusal::new("55000", "the pause was ended by somebody else").into());
            }
            tokio::select! {
                () = tokio::time::sleep(SETTLE_INTERVAL) => {}
                more = self.link.fill() => more?,
            }
        }
    }

    /// `key = value`, `key=value`, `key TO value`; the value perhaps in quotes.
    async fn set(&mut self, assignment: &str) -> Result<(), Refusal> {
        let spoken = || assignment.split_once(" TO ").or_else(|| assignment.split_once(" to "));
        let pair = assignment.split_once('=').or_else(spoken);
        let Some((key, value)) = pair.map(|(key, value)| (key.trim(), value.trim())) else {
            return Err(Refusal::new("42601", "SET key = value"));
        };
        let quoted = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        tracing::info!(key, user = self.user, "console command SET");
        let reloaded =
            self.control.set(key, quoted.unwrap_or(value)).await.map_err(|errors| wrong(&errors))?;
        self.notice_restart(&reloaded);
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), Refusal> {
        let reloaded = self.control.reload().await.map_err(|errors| wrong(&errors))?;
        for warning in &reloaded.warnings {
            self.notice(Severity::Warning, &warning.to_string());
        }
        self.notice_restart(&reloaded);
        Ok(())
    }

    fn notice_restart(&mut self, reloaded: &Reloaded) {
        if !reloaded.needs_restart.is_empty() {
            let settings = reloaded.needs_restart.join(", ");
            self.notice(Severity::Warning, &format!("takes effect at the next start: {settings}"));
        }
    }

    fn notice(&mut self, severity: Severity, text: &str) {
        let sqlstate = if severity == Severity::Warning { "01000" } else { "00000" };
        encode::notice_response(&mut self.link.out, &Report::new(severity, sqlstate, text));
    }
}

/// A configuration that cannot be taken.
fn wrong(errors: &[Diagnostic]) -> Refusal {
    let mut errors = errors.iter().map(Diagnostic::to_string);
    let first = errors.next().unwrap_or_default();
    let others = errors.collect::<Vec<_>>().join("\n");
    let detail = (!others.is_empty()).then_some(others);
    let hint = Some("the configuration in force has not changed");
    Refusal { detail, hint, ..Refusal::new("F0000", first) }
}

fn unknown_statement() -> Refusal {
    Refusal::new("26000", "no such prepared statement")
}

fn unknown_portal() -> Refusal {
    Refusal::new("34000", "no such portal")
}

fn prepare(statement: Option<&[u8]>) -> Result<Prepared, Refusal> {
    let statement = statement.ok_or_else(|| Refusal::new("08P01", "invalid message"))?;
    let text = std::str::from_utf8(statement).map_err(|_| Refusal::new("22021", "not UTF-8"))?;
    commands::parse(text).map_err(|why| Refusal::new("42601", why))
}

fn insert<V>(named: &mut BTreeMap<Vec<u8>, V>, name: Vec<u8>, value: V) -> Result<(), Refusal> {
    if named.len() >= NAMES_MAX && !named.contains_key(&name) {
        return Err(Refusal::new("54000", format!("more than {NAMES_MAX} names in use")));
    }
    named.insert(name, value);
    Ok(())
}
