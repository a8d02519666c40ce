//! A model of an application: what it sends, and what it must get back, in order, exactly once.

use std::collections::VecDeque;

use headpond_wire::postgres::frontend;
use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::{ClientKeys, ClientRole, Verifier};

use crate::sim::marked::{ANYONE, Origin, message, packet, text_message};
use crate::sim::net::End;
use crate::sim::peer::{Canceller, Io, MS, Poke, SECOND, Settings};
use crate::sim::server::{IMPOSSIBLE, row_text};

/// One statement and what is to be expected of it.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) token: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Begin,
    Commit,
    Rollback,
    Dirty,
    Echo { rows: u64, size: usize, wait: u64 },
    Fail { wait: u64 },
    CopyIn { messages: u64, size: usize, ending: CopyEnding, eager: bool, early_sync: bool },
    CopyOut { rows: u64, size: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyEnding {
    Done,
    /// The client gives up.
    GivenUp,
    /// The server finds fault with a row.
    FailsAfter(u64),
}

impl Statement {
    pub(crate) fn text(&self, padding: usize) -> String {
        let token = &self.token;
        let text = match &self.kind {
            Kind::Begin => format!("BEGIN {token}"),
            Kind::Commit => format!("COMMIT {token}"),
            Kind::Rollback => format!("ROLLBACK {token}"),
            Kind::Dirty => format!("DIRTY {token}"),
            Kind::Echo { rows, size, wait } => format!("ECHO {token} {rows} {size} {wait}"),
            Kind::Fail { wait } => format!("FAIL {token} {wait}"),
            Kind::CopyIn { ending: CopyEnding::FailsAfter(rows), .. } => format!("COPYIN {token} {rows}"),
            Kind::CopyIn { .. } => format!("COPYIN {token} never"),
            Kind::CopyOut { rows, size } => format!("COPYOUT {token} {rows} {size}"),
        };
        let bare = padding == 0 || token.is_empty();
        if bare { text } else { format!("{text} '{}'", "p".repeat(padding)) }
    }

    /// The data of a COPY from the client, and how it ends.
    pub(crate) fn copy_data(&self) -> Vec<u8> {
        let Kind::CopyIn { messages, size, ending, .. } = &self.kind else { return Vec::new() };
        let mut bytes: Vec<u8> =
            (0..*messages).flat_map(|row| message(b'd', &row_text(&self.token, row, *size))).collect();
        match ending {
            CopyEnding::GivenUp => bytes.extend(text_message(b'f', &self.token)),
            _ => bytes.extend(message(b'c', b"")),
        }
        bytes
    }
}

/// A request whose answer is awaited.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Query(Vec<Statement>),
    Call(String, bool),
    Parse(Statement),
    Bind(Statement),
    DescribeStatement(Statement),
    DescribePortal(Statement),
    Execute(Statement),
    Close,
    Sync,
}

impl Ask {
    /// Ready for query answers it.
    fn is_boundary(&self) -> bool {
        matches!(self, Self::Query(_) | Self::Call(..) | Self::Sync)
    }
}

/// Messages that go out together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight {
    pub(crate) bytes: Vec<u8>,
    pub(crate) asks: Vec<Ask>,
    /// How long the client thinks before it.
    pub(crate) think: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unborn,
    /// Asked for TLS.
    Asking,
    LoggingIn,
    Ready,
    /// It was told why it is closed.
    Dismissed,
    Gone,
}

#[derive(Debug)]
pub(crate) struct Client {
    phase: Phase,
    pub(crate) database: String,
    pub(crate) settings: Settings,
    /// Its settings cannot be made true.
    pub(crate) impossible: bool,
    pub(crate) flights: VecDeque<Flight>,
    asks: VecDeque<Ask>,
    /// Statement of a query, row of a statement, and whether its rows were announced.
    statement: usize,
    row: u64,
    begun: bool,
    /// The front request has failed: only its end may follow.
    failed: bool,
    /// Part of the front request, up to its Sync, was answered.
    answered: bool,
    status: u8,
    /// Tokens that ran in the present transaction.
    transaction: Vec<String>,
    /// Its COMMIT was answered by a loss: whether before a server saw it, and so in what state, it cannot tell.
    either: bool,

    key: Option<(u32, Vec<u8>)>,
    /// What it sent last has no Sync yet.
    open: bool,
    next: u64,
    asked: u64,
    cancels: u32,
    pub(crate) leaves_at: u64,
    pub(crate) sluggish: bool,
    authenticated: bool,
    /// It does not know the password.
    pub(crate) stranger: bool,
    scram: Scram,
}

/// How far a login by SCRAM is.
#[derive(Debug)]
enum Scram {
    None,
    Begun(ClientRole),
    Proved(Verifier),
}

/// The password of every client that knows it.
pub(crate) const SOMEONES: &str = "open, says someone";

impl Client {
    pub(crate) fn new(database: String, settings: Settings, flights: VecDeque<Flight>) -> Self {
        Self {
            phase: Phase::Unborn,
            database,
            impossible: settings.values().any(|value| value == IMPOSSIBLE),
            settings,
            flights,
            asks: VecDeque::new(),
            statement: 0,
            row: 0,
            begun: false,
            failed: false,
            answered: false,
            status: b'I',
            transaction: Vec::new(),
            either: false,
            key: None,
            open: false,
            next: 0,
            asked: 0,
            cancels: 0,
            leaves_at: u64::MAX,
            sluggish: false,
            authenticated: false,
            stranger: false,
            scram: Scram::None,
        }
    }

    /// How many exchanges it is about.
    pub(crate) fn intended(&self) -> usize {
        self.flights.iter().map(|flight| flight.asks.iter().filter(|ask| ask.is_boundary()).count()).sum()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    pub(crate) fn poked(&mut self, poke: Poke, io: &mut Io<'_>) {
        match poke {
            Poke::Cancel if self.phase == Phase::Ready => self.cancel(io),
            Poke::Leave => self.leaves_at = io.now,
            _ => {}
        }
    }

    pub(crate) fn act(&mut self, io: &mut Io<'_>) {
        if self.phase == Phase::Gone {
            return;
        }
        if self.phase == Phase::Unborn {
            self.knock(io);
        }
        self.listen(io);
        if self.phase == Phase::Gone {
            return;
        }
        if io.ended.is_some() {
            self.was_closed(io);
            return;
        }
        if io.now >= self.leaves_at {
            self.depart(io);
            return;
        }
        if self.leaves_at < u64::MAX {
            io.wake_at(self.leaves_at);
        }
        self.speak(io);
    }

    fn origin(io: &Io<'_>) -> Origin {
        io.conn as Origin + 1
    }

    fn knock(&mut self, io: &mut Io<'_>) {
        self.asked = io.now;
        io.shared.settings_of.insert(Self::origin(io), self.settings.clone());
        if io.dice.chance(20) {
            self.phase = Phase::Asking;
            io.out.push(Self::origin(io), &packet(80_877_103, b""));
        } else {
            self.log_in(io);
        }
    }

    fn log_in(&mut self, io: &mut Io<'_>) {
        self.phase = Phase::LoggingIn;
        let mut body = format!("user\0someone\0database\0{}\0", self.database);
        for (name, value) in &self.settings {
            body.push_str(&format!("{name}\0{value}\0"));
        }
        body.push('\0');
        io.out.push(Self::origin(io), &packet(0x0003_0000, body.as_bytes()));
    }

    /// Reads what came.
    fn listen(&mut self, io: &mut Io<'_>) {
        let own = Self::origin(io);
        if self.phase == Phase::Asking && !io.input.is_empty() {
            if io.input.bytes[0] == b'E' {
                assert!(io.shared.draining, "an error answers the wish for TLS");
                self.phase = Phase::LoggingIn;
            } else {
                assert_eq!(io.input.take(1).bytes, b"N");
                self.log_in(io);
            }
        }
        while self.phase != Phase::Gone {
            let Some((tag, body, origin)) = io.input.message() else { return };
            io.trace(|| format!("client gets {:?}: {:.60}", char::from(tag), String::from_utf8_lossy(&body)));
            assert!(origin == own || origin == ANYONE, "client {own} gets what belongs to {origin}");
            assert_ne!(self.phase, Phase::Dismissed, "a message {:?} after the last", char::from(tag));
            if self.phase == Phase::LoggingIn {
                self.login_reply(tag, &body, io);
            } else {
                self.reply(tag, &body, io);
            }
        }
    }

    fn login_reply(&mut self, tag: u8, body: &[u8], io: &mut Io<'_>) {
        match tag {
            b'R' if body == [0; 4] => {
                assert!(matches!(self.scram, Scram::None), "in without the server's proof");
                self.authenticated = true;
            }
            b'R' => self.prove(body, io),
            b'S' | b'N' => {}
            b'K' => {
                let (process, key) = body.split_at(4);
                self.key = Some((u32::from_be_bytes(process.try_into().expect("four bytes")), key.to_vec()));
            }
            b'Z' => {
                assert!(self.authenticated && self.key.is_some() && body == b"I");
                assert!(!self.stranger || io.shared.trusting, "a stranger is in");
                self.phase = Phase::Ready;
                self.next = io.now;
                io.shared.count("login");
            }
            b'E' => self.dismissed(body, io),
            _ => panic!("{:?} during the login", char::from(tag)),
        }
    }

    /// Answers what the pooler asks for.
    fn prove(&mut self, body: &[u8], io: &mut Io<'_>) {
        let password = if self.stranger { "open" } else { SOMEONES };
        let mut answer = Vec::new();
        match (body[3], std::mem::replace(&mut self.scram, Scram::None)) {
            (3, _) => frontend::password(&mut answer, password),
            (5, _) => {
                let secret = Md5Secret::derive(password.as_bytes(), "someone");
                let salt = body[4..].try_into().expect("four bytes");
                frontend::password(&mut answer, &secret.answer(salt));
            }
            (10, _) => {
                let (role, first) = ClientRole::new(&format!("{:x}", io.dice.number()));
                frontend::sasl_initial_response(&mut answer, "SCRAM-SHA-256", &first);
                self.scram = Scram::Begun(role);
            }
            (11, Scram::Begun(role)) => {
                let challenge = role.challenge(&body[4..]).expect("a challenge");
                let keys = ClientKeys::derive(password, &challenge.salt, challenge.iterations);
                let (proof, verifier) = challenge.respond(&keys);
                frontend::sasl_response(&mut answer, &proof);
                self.scram = Scram::Proved(verifier);
            }
            (12, Scram::Proved(verifier)) => {
                verifier.verify(&body[4..]).expect("the pooler knows the secret")
            }
            other => panic!("{other:?} during the login"),
        }
        io.shared.count("client proves who it is");
        io.out.push(Self::origin(io), &answer);
        // Who knows the password need not wait to be let in.
        let knows = !self.stranger && matches!(body[3], 3 | 5 | 11);
        if knows && !self.impossible && io.dice.chance(15) {
            io.shared.count("client speaks before it is let in");
            self.say(io);
        }
    }

    /// A fatal error: is there a reason for it?
    fn dismissed(&mut self, body: &[u8], io: &mut Io<'_>) {
        let (severity, code, text) = error(body);
        assert_eq!(severity, "FATAL", "{code} {text}");
        if self.phase == Phase::LoggingIn {
            io.shared.count("login of a client refused");
            let late = text.contains("acquire_timeout") || text.contains("max_waiters");
            let expected = late || io.shared.draining || io.shared.killed || io.shared.faults.any_server();
            let expected = expected && code != "28P01" || self.stranger && code == "28P01";
            assert!(expected || self.impossible && code == "22023", "refused: {code} {text}");
        } else if code == "57P01" && io.shared.draining {
            io.shared.count("drained");
        } else if code == "57P01" && io.shared.killed {
            io.shared.count("killed");
        } else if self.impossible && code == "22023" {
            io.shared.count("settings refused");
        } else if text.contains("leak_after") {
            assert_eq!(code, "57P01");
            io.shared.count("reclaimed");
        } else {
            self.lost_its_server(io, &format!("{code} {text}"));
        }
        self.phase = Phase::Dismissed;
    }

    fn lost_its_server(&self, io: &mut Io<'_>, why: &str) {
        if io.shared.killed {
            return io.shared.count("killed");
        }
        let stays = io.shared.stays.contains(&self.database);
        // Before anything is known of a database, most texts might do anything.
        let pinned = !io.shared.readable && why.contains("the session is gone");
        assert!(!stays || why.starts_with("closed") || pinned, "a client goes with its server: {why}");
        io.shared.count("client lost its server");
        io.shared.losses += 1;
        assert!(io.shared.losses <= io.shared.deaths, "a server is lost that has not died: {why}");
    }

    fn was_closed(&mut self, io: &mut Io<'_>) {
        let own = Self::origin(io);
        let stranger = io.input.origins.iter().find(|origin| **origin != own && **origin != ANYONE);
        assert!(stranger.is_none(), "client {own} gets what belongs to {stranger:?}");
        match self.phase {
            Phase::Dismissed => {}
            // Cut inside a message that streamed: nothing could be said any more.
            Phase::Ready => {
                assert!(!io.input.is_empty(), "closed without a word, and not inside a message");
                self.lost_its_server(io, "closed without a word");
            }
            _ => panic!("closed without a word during the login"),
        }
        self.finish(io, End::Orderly);
    }

    fn reply(&mut self, tag: u8, body: &[u8], io: &mut Io<'_>) {
        match tag {
            b'N' | b'S' | b'A' => return,
            b'E' => return self.error_reply(body, io),
            b'Z' => return self.ready(body[0], io),
            _ => {}
        }
        assert!(!self.failed, "{:?} after an error", char::from(tag));
        self.answered = true;
        let ask =
            self.asks.front().cloned().unwrap_or_else(|| panic!("{:?} answers nothing", char::from(tag)));
        match (&ask, tag) {
            (Ask::Query(statements), b'I') => assert!(statements.is_empty()),
            (Ask::Query(statements), _) => {
                let statement = statements.get(self.statement).expect("no statement is left");
                if self.part(statement, true, tag, body, io) {
                    self.statement += 1;
                }
            }
            (Ask::Call(token, fails), b'V') => {
                assert!(!fails && self.status != b'E' && &body[4..] == token.as_bytes());
                self.failed = true;
            }
            (Ask::Parse(statement), b'1') | (Ask::Bind(statement), b'2') => {
                assert!(self.may_run(statement));
                self.asks.pop_front();
            }
            (Ask::DescribeStatement(_), b't') => {}
            (Ask::DescribeStatement(statement) | Ask::DescribePortal(statement), b'T') => {
                assert!(body[2..].starts_with(statement.token.as_bytes()));
                self.asks.pop_front();
            }
            (Ask::DescribeStatement(statement) | Ask::DescribePortal(statement), b'n') => {
                assert!(!matches!(statement.kind, Kind::Echo { .. }));
                self.asks.pop_front();
            }
            (Ask::Execute(statement), _) => {
                if self.part(statement, false, tag, body, io) {
                    self.asks.pop_front();
                }
            }
            (Ask::Close, b'3') => {
                self.asks.pop_front();
            }
            _ => panic!("{:?} does not answer {ask:?}", char::from(tag)),
        }
    }

    fn may_run(&self, statement: &Statement) -> bool {
        self.status != b'E' || matches!(statement.kind, Kind::Commit | Kind::Rollback)
    }

    /// Part of a statement's result; whether it was the last.
    fn part(&mut self, statement: &Statement, simple: bool, tag: u8, body: &[u8], io: &mut Io<'_>) -> bool {
        let token = &statement.token;
        assert!(self.may_run(statement), "{statement:?} runs in a failed transaction");
        let row = |at: u64, size: usize| row_text(token, at, size);
        match (&statement.kind, tag) {
            (Kind::Echo { .. }, b'T') => {
                assert!(simple && !self.begun && body[2..].starts_with(token.as_bytes()));
                self.begun = true;
            }
            (Kind::Echo { rows, size, .. }, b'D') => {
                assert!(
                    self.row < *rows && self.begun == simple && body[6..] == row(self.row, *size),
                    "{statement:?}"
                );
                self.row += 1;
            }
            (Kind::CopyOut { .. }, b'H') | (Kind::CopyIn { .. }, b'G') => {
                assert!(!self.begun);
                self.begun = true;
                if let Kind::CopyIn { eager: false, .. } = statement.kind {
                    let origin = Self::origin(io);
                    io.out.push(origin, &statement.copy_data());
                    if !simple {
                        io.out.push(origin, &message(b'S', b""));
                    }
                }
            }
            (Kind::CopyOut { rows, size }, b'd') => {
                assert!(self.begun && self.row < *rows && body == row(self.row, *size));
                self.row += 1;
            }
            (Kind::CopyOut { rows, .. }, b'c') => assert_eq!(self.row, *rows),
            (kind, b'C') => {
                self.complete(kind, token, body, io);
                return true;
            }
            _ => panic!("{:?} does not answer {statement:?}", char::from(tag)),
        }
        false
    }

    fn complete(&mut self, kind: &Kind, token: &str, body: &[u8], io: &mut Io<'_>) {
        let expected = match kind {
            Kind::Begin => "BEGIN".to_owned(),
            Kind::Commit if self.status == b'E' => "ROLLBACK".to_owned(),
            Kind::Commit => "COMMIT".to_owned(),
            Kind::Rollback => "ROLLBACK".to_owned(),
            Kind::Dirty => "DIRTY".to_owned(),
            Kind::Echo { rows, .. } => format!("ECHO {rows}"),
            Kind::CopyIn { messages, ending: CopyEnding::Done, .. } => format!("COPY {messages}"),
            Kind::CopyOut { rows, .. } => format!("COPY {rows}"),
            _ => panic!("{kind:?} cannot succeed"),
        };
        assert_eq!(&body[..body.len() - 1], expected.as_bytes(), "{token}");
        if let Kind::Echo { rows, .. } | Kind::CopyOut { rows, .. } = kind {
            assert_eq!(self.row, *rows);
        }
        assert!(token.is_empty() || io.shared.executed.get(token) == Some(&1), "{token}");
        match kind {
            Kind::Begin => self.status = b'T',
            Kind::Commit if self.status == b'T' => {
                let lacks = self.transaction.iter().find(|token| !io.shared.committed.contains(*token));
                assert!(lacks.is_none(), "{lacks:?} is not committed, and its client was told so");
                self.transaction_over();
            }
            Kind::Commit | Kind::Rollback => self.rolled_back(io),
            _ if self.status == b'T' => self.transaction.push(token.to_owned()),
            _ => {}
        }
        (self.row, self.begun) = (0, false);
    }

    fn transaction_over(&mut self) {
        self.status = b'I';
        self.transaction.clear();
    }

    /// The client was told that its transaction was rolled back.
    fn rolled_back(&mut self, io: &mut Io<'_>) {
        for token in std::mem::take(&mut self.transaction) {
            assert!(!io.shared.committed.contains(&token), "{token} was committed, not rolled back");
            io.shared.rolled_back.insert(token);
        }
        self.transaction_over();
    }

    /// Whether an error says that the server connection was lost, and what with it.
    fn lost_transaction(&mut self, ask: &Ask, code: &str, text: &str, io: &mut Io<'_>) -> bool {
        let stays = io.shared.stays.contains(&self.database);
        match code {
            "40001" => {
                assert!(stays && io.shared.deaths > 0 && self.status == b'T', "{text}");
                io.shared.count("transaction lost");
                let exact = |s: &Statement| s.kind == Kind::Commit && s.token.is_empty();
                let commits = match ask {
                    Ask::Query(statements) => statements.first().is_some_and(exact),
                    Ask::Parse(statement) => exact(statement),
                    _ => false,
                };
                let group = self.asks.iter().take_while(|ask| !matches!(ask, Ask::Sync));
                let simple = matches!(ask, Ask::Query(_) | Ask::Call(..));
                let tokens: Vec<_> =
                    group.take(if simple { 1 } else { usize::MAX }).flat_map(tokens).collect();
                self.transaction.extend(tokens);
                self.rolled_back(io);
                self.status = if commits { b'I' } else { b'E' };
                self.either = commits;
                true
            }
            "40003" => {
                assert!(stays && io.shared.deaths > 0, "{text}");
                io.shared.count("outcome unknown");
                self.transaction_over();
                true
            }
            "25P02" => {
                stays
                    && io.shared.deaths > 0
                    && self.status == b'E'
                    && !matches!(ask, Ask::Query(_) | Ask::Call(..))
            }
            _ => false,
        }
    }

    fn error_reply(&mut self, body: &[u8], io: &mut Io<'_>) {
        let (severity, code, text) = error(body);
        if severity == "FATAL" {
            return self.dismissed(body, io);
        }
        let ask = self.asks.front().cloned().unwrap_or_else(|| panic!("{code} {text} answers nothing"));
        // A function's result is not its end.
        let returned = matches!(ask, Ask::Call(..)) && matches!(code.as_str(), "40001" | "40003");
        assert!(!self.failed || returned, "a second error: {code} {text}");
        if self.lost_transaction(&ask, &code, &text, io) || self.was_refused(&ask, &code, &text, io) {
            // The whole request, up to its end.
        } else {
            let statement = match &ask {
                Ask::Query(statements) => statements.get(self.statement),
                Ask::Parse(statement) | Ask::Bind(statement) | Ask::Execute(statement) => Some(statement),
                // A Close fails with its transaction, if no server has it any more.
                Ask::Call(..) | Ask::Close => None,
                _ => panic!("{code} {text} answers {ask:?}"),
            };
            let aborted = self.status == b'E' && statement.is_none_or(|statement| !self.may_run(statement));
            let expected = match (statement, code.as_str()) {
                (_, "25P02") => aborted || self.impossible,
                (_, "57014") if text.starts_with("canceling statement") => {
                    self.cancels =
                        self.cancels.checked_sub(1).unwrap_or_else(|| panic!("cancelled by a stranger"));
                    io.shared.count("statement cancelled");
                    true
                }
                (None, _) => matches!(&ask, Ask::Call(token, true) if *token == text),
                (Some(Statement { token, kind }), _) => match kind {
                    Kind::Fail { .. } => text == *token,
                    Kind::CopyIn { ending: CopyEnding::GivenUp, .. } => {
                        text.ends_with(token.as_str()) && code == "57014"
                    }
                    Kind::CopyIn { ending: CopyEnding::FailsAfter(_), .. } => text == *token,
                    _ => false,
                },
            };
            assert!(expected, "{code} {text} answers {statement:?} ({ask:?})");
            if self.status == b'T' {
                self.status = b'E';
            }
        }
        if let Ask::Parse(statement) | Ask::Bind(statement) | Ask::Execute(statement) = &ask
            && matches!(statement.kind, Kind::CopyIn { eager: false, early_sync: false, .. })
            && !self.begun
        {
            // Its Sync would have followed the data.
            io.out.push(Self::origin(io), &message(b'S', b""));
        }
        self.failed = true;
        (self.row, self.begun, self.statement) = (0, false, 0);
        if !matches!(ask, Ask::Query(_) | Ask::Call(..)) {
            while self.asks.front().is_some_and(|ask| !matches!(ask, Ask::Sync)) {
                self.asks.pop_front();
            }
        }
    }

    /// Whether the pooler refused a request, which then never runs.
    fn was_refused(&mut self, ask: &Ask, code: &str, text: &str, io: &mut Io<'_>) -> bool {
        let by_time = text.contains("acquire_timeout");
        let by_cancel = code == "57014" && text == "canceling statement due to user request";
        let by_server = text == "no" && io.shared.faults.logins > 0;
        let by_settings = code == "22023" && self.impossible;
        if !(by_time || by_cancel || by_server || by_settings || text.contains("max_waiters")) {
            return false;
        }
        // The rest of a pipeline that has been begun, or a transaction, cannot be refused.
        // A transaction that failed may have lost its server since, and nobody told.
        let homeless =
            self.status == b'E' && io.shared.stays.contains(&self.database) && io.shared.deaths > 0;
        let outside = self.status == b'I' || homeless;
        // Nor the rest of one, unless its beginning ended a lost transaction.
        let begun = self.answered && !(io.shared.stays.contains(&self.database) && io.shared.deaths > 0);
        assert!(outside && !begun, "{text} inside {ask:?}");
        io.shared.count(if by_time {
            "acquire timed out"
        } else if by_cancel {
            "wait cancelled"
        } else if by_settings {
            "settings refused"
        } else {
            "refused"
        });
        if by_cancel {
            self.cancels = self.cancels.checked_sub(1).expect("cancelled by nobody");
        }
        if by_time {
            let timeout = io.shared.acquire_timeouts[&self.database].expect("it may wait for ever");
            let in_time = io.now - self.asked >= timeout || io.shared.spurious.contains(&io.conn);
            assert!(in_time, "refused after {} of {timeout}", io.now - self.asked);
        }
        let simple = matches!(ask, Ask::Query(_) | Ask::Call(..));
        let request = self.asks.iter().take_while(|ask| !matches!(ask, Ask::Sync));
        for token in request.take(if simple { 1 } else { usize::MAX }).flat_map(tokens) {
            assert!(!io.shared.executed.contains_key(&token), "{token} ran, and was refused");
            io.shared.refused.insert(token);
        }
        true
    }

    fn ready(&mut self, status: u8, io: &mut Io<'_>) {
        match self.asks.pop_front() {
            Some(Ask::Query(statements)) => {
                assert!(self.failed || self.statement == statements.len(), "{statements:?} is not over");
            }
            Some(Ask::Call(..)) => assert!(self.failed),
            Some(Ask::Sync) => {}
            other => panic!("ready answers {other:?}"),
        }
        if status == b'I' && self.status == b'E' && io.shared.stays.contains(&self.database) {
            // It failed in the request that was to end it, and then the server was lost.
            assert!(self.failed && io.shared.deaths > 0);
            self.transaction_over();
        }
        if std::mem::take(&mut self.either) && status == b'E' {
            self.status = b'E';
        }
        assert_eq!(char::from(status), char::from(self.status), "the transaction's status");
        (self.statement, self.row) = (0, 0);
        (self.begun, self.failed, self.answered) = (false, false, false);
        io.shared.exchanges += 1;
        if self.asks.is_empty() {
            self.next = io.now + self.flights.front().map_or(0, |flight| flight.think);
        }
    }

    /// Sends the next flight when its time has come and everything before it is answered.
    fn speak(&mut self, io: &mut Io<'_>) {
        if self.phase != Phase::Ready || !self.asks.is_empty() {
            return;
        }
        if std::mem::take(&mut self.open) {
            self.next = io.now + self.flights.front().map_or(0, |flight| flight.think);
        }
        if io.now < self.next {
            return io.wake_at(self.next);
        }
        if self.flights.is_empty() {
            if io.dice.chance(70) {
                io.out.push(Self::origin(io), &message(b'X', b""));
            }
            return self.finish(io, End::Orderly);
        }
        self.say(io);
    }

    fn say(&mut self, io: &mut Io<'_>) {
        let Some(flight) = self.flights.pop_front() else { return };
        io.out.push(Self::origin(io), &flight.bytes);
        // Whatever follows an error is read over, up to the Sync.
        let read_over = |ask: &Ask| self.failed && !matches!(ask, Ask::Sync);
        self.open = !flight.asks.last().is_some_and(Ask::is_boundary);
        self.asks.extend(flight.asks.into_iter().skip_while(read_over));
        if self.asks.is_empty() {
            io.wake_at(io.now + 1);
        }
        self.asked = io.now;
        if io.dice.chance(io.shared.faults.cancels) {
            self.cancel(io);
        }
    }

    /// Asks over another connection to cancel what runs; now and then with a key that is not its own.
    fn cancel(&mut self, io: &mut Io<'_>) {
        let Some((process, mut key)) = self.key.clone() else { return };
        let mut of = Self::origin(io);
        if io.dice.chance(10) {
            key[0] ^= 1;
            of = ANYONE;
        } else {
            self.cancels += 1;
        }
        let at = io.now + io.dice.skewed(10 * MS);
        io.shared.cancellers.push(Canceller { of, at, process, key });
    }

    /// Leaves before its time, perhaps inside a message.
    fn depart(&mut self, io: &mut Io<'_>) {
        io.shared.count("client departs");
        let origin = Self::origin(io);
        match io.dice.below(4) {
            0 if self.phase == Phase::Ready && io.out.is_empty() => io.out.push(origin, &message(b'X', b"")),
            1 if self.phase == Phase::Ready && io.out.is_empty() && self.asks.is_empty() => {
                if io.dice.chance(10 * io.shared.faults.large) {
                    // Inside a message too large to be held: a query, or data that no COPY asked for, which a server
                    // reads over.
                    let large = text_message(io.dice.pick(b"Qd"), &"p".repeat(100_000));
                    io.out.push(origin, &large[..io.dice.between(66_000, 99_000) as usize]);
                } else if let Some(flight) = self.flights.front() {
                    io.out.push(origin, &flight.bytes[..io.dice.below(flight.bytes.len() as u64) as usize]);
                }
            }
            2 => return self.finish(io, End::Reset),
            _ => {
                let keeps = io.dice.below(io.out.len() as u64 + 1) as usize;
                io.out.truncate(keeps);
            }
        }
        self.finish(io, End::Orderly);
    }

    fn finish(&mut self, io: &mut Io<'_>, how: End) {
        io.shared.gone.insert(Self::origin(io));
        self.phase = Phase::Gone;
        *io.end = Some(how);
    }

    /// Says what it is waiting for, if it has not come to its end.
    pub(crate) fn stuck(&self) -> Option<String> {
        (!self.is_gone())
            .then(|| format!("{:?} since {} ms, awaits {:?}", self.phase, self.asked / MS, self.asks.front()))
    }
}

fn tokens(ask: &Ask) -> Vec<String> {
    match ask {
        Ask::Query(statements) => statements.iter().map(|statement| statement.token.clone()).collect(),
        Ask::Call(token, _) => vec![token.clone()],
        Ask::Execute(statement) => vec![statement.token.clone()],
        _ => Vec::new(),
    }
}

fn error(body: &[u8]) -> (String, String, String) {
    let mut found = (String::new(), String::new(), String::new());
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, value)) = field.split_first() else { continue };
        let value = String::from_utf8_lossy(value).into_owned();
        match kind {
            b'V' => found.0 = value,
            b'C' => found.1 = value,
            b'M' => found.2 = value,
            _ => {}
        }
    }
    found
}

/// Longer than any client ever needs.
pub(crate) const PATIENCE: u64 = 300 * SECOND;
