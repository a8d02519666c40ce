//! A model of a PostgreSQL server process, with a parser and a language of its own.
//!
//! Statements: `ECHO token rows size wait`, `FAIL token wait`, `COPYIN token fails_after`, `COPYOUT token rows
//! size`, `DIRTY token`, `BEGIN`, `COMMIT`, `ROLLBACK`, `SET x TO E'y'`, `RESET x`, `DISCARD ALL`, or nothing;
//! several of them, separated by semicolons, make one simple query. It asserts what a server can know: nobody
//! else speaks inside a transaction, nothing runs twice or under another's settings, and no session leaks.

use std::collections::{BTreeMap, VecDeque};

use headpond_wire::postgres::md5::Md5Secret;

use crate::sim::marked::{ANYONE, Marked, Origin, POOLER, message, text_message};
use crate::sim::net::End;
use crate::sim::peer::{Io, MS, Poke, SECOND, Settings};

const CANCEL: u32 = 80_877_102;

/// The password of the service's user on the server.
pub(crate) const SERVICES: &str = "open, says me";

/// A value that no setting takes.
pub(crate) const IMPOSSIBLE: &str = "impossible";

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Startup,
    /// It asked for a password.
    Asking,
    LoggingIn,
    Serving,
    /// It says nothing and never will.
    Hanging,
    Exiting,
}

#[derive(Debug)]
enum Step {
    Wait(u64),
    Say(Vec<u8>),
    Statement { text: String, simple: bool },
    CopyIn { token: String, fails_after: Option<u64> },
    Done { tag: String },
    Fail { code: &'static str, text: String },
    Ready,
}

#[derive(Debug)]
struct Copy {
    token: String,
    fails_after: Option<u64>,
    taken: u64,
    /// A Sync was read over.
    synced: bool,
}

#[derive(Debug)]
pub(crate) struct Backend {
    phase: Phase,
    process: u32,
    key: Vec<u8>,
    database: String,
    /// It counts as a session of its database, or as the control connection.
    counted: bool,
    control: bool,
    /// It has let its client in.
    served: bool,
    status: u8,
    /// Extended-protocol messages came since the last Sync.
    unsynced: bool,
    skipping: bool,
    /// What the present message still takes, and until when it pauses.
    steps: VecDeque<Step>,
    until: u64,
    simple: bool,
    copy: Option<Copy>,
    /// By name; the unnamed one has the empty one.
    statements: BTreeMap<String, String>,
    portal: Option<String>,
    /// On whose account the present message runs.
    origin: Origin,
    /// Who spoke last, and whether that left something in the session.
    dirty: Option<Origin>,
    /// What the startup packet set, what is set now, and what was before the transaction.
    startup: Settings,
    settings: Settings,
    before: Settings,
    dies_at: u64,
    /// Something is left in the session that no reset undoes.
    has_left: u8,
    /// Tokens that the present transaction has executed.
    transaction: Vec<String>,
}

impl Backend {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Startup,
            process: 0,
            key: Vec::new(),
            database: String::new(),
            counted: false,
            control: false,
            served: false,
            status: b'I',
            unsynced: false,
            skipping: false,
            steps: VecDeque::new(),
            until: 0,
            simple: false,
            copy: None,
            statements: BTreeMap::new(),
            portal: None,
            origin: POOLER,
            dirty: None,
            startup: Settings::new(),
            settings: Settings::new(),
            before: Settings::new(),
            dies_at: u64::MAX,
            has_left: 0,
            transaction: Vec::new(),
        }
    }

    /// Whether it serves, and as what.
    pub(crate) fn is_serving(&self, control: bool) -> bool {
        self.phase == Phase::Serving && self.control == control
    }

    pub(crate) fn poked(&mut self, poke: Poke, io: &mut Io<'_>) {
        match poke {
            Poke::Signal => self.signal(io),
            Poke::Die if self.expects_early_sync(io) => {}
            Poke::Die if self.phase == Phase::Serving && io.dice.chance(50) => self.die(io),
            Poke::Die if matches!(self.phase, Phase::Asking | Phase::LoggingIn | Phase::Serving) => {
                io.shared.deaths += 1;
                self.gone(io, End::Reset);
            }
            Poke::Dawdle => {
                io.shared.deaths += 1;
                self.until = self.until.max(io.now + io.dice.below(6 * SECOND));
            }
            _ => {}
        }
    }

    /// Something happened: bytes came, room was made, time passed.
    pub(crate) fn act(&mut self, io: &mut Io<'_>) {
        loop {
            if io.end.is_some() || self.phase == Phase::Hanging && io.ended.is_none() {
                return;
            }
            if !self.expects_early_sync(io)
                && io.shared.terminated.remove(&io.conn)
                && self.phase == Phase::Serving
            {
                fatal(io.out, "57P01", "terminating connection due to administrator command");
                self.exit(io);
            }
            if io.ended == Some(End::Reset) && self.phase != Phase::Exiting {
                self.exit(io);
            }
            if self.dies_at <= io.now && self.phase == Phase::Serving {
                if self.expects_early_sync(io) {
                    self.dies_at = io.now + MS;
                } else {
                    self.die(io);
                    continue;
                }
            }
            if io.now < self.until {
                io.wake_at(self.until.min(self.dies_at));
                return;
            }
            // A real process blocks in send.
            if io.out.len() > 8_192 && self.phase != Phase::Exiting {
                return;
            }
            // COPY data comes before the steps that follow the COPY.
            if self.copy.is_none()
                && let Some(step) = self.steps.pop_front()
            {
                self.step(step, io);
                continue;
            }
            let going_on = match self.phase {
                Phase::Startup => self.begin(io),
                Phase::Asking => self.hear_password(io),
                Phase::LoggingIn => self.let_in(io),
                Phase::Serving => self.serve(io),
                Phase::Hanging => false,
                Phase::Exiting => return self.gone(io, End::Orderly),
            };
            if !going_on {
                // A process notices that its peer is gone when it reads.
                if io.ended.is_some() {
                    self.exit(io);
                    continue;
                }
                if self.dies_at < u64::MAX {
                    io.wake_at(self.dies_at);
                }
                return;
            }
        }
    }

    /// The first packet: a login or a cancel request.
    fn begin(&mut self, io: &mut Io<'_>) -> bool {
        let Some(head) = io.input.bytes.first_chunk::<4>() else { return false };
        let length = u32::from_be_bytes(*head) as usize;
        if io.input.len() < length {
            return false;
        }
        let packet = io.input.take(length).bytes;
        if packet[4..8] == CANCEL.to_be_bytes() {
            let process = u32::from_be_bytes(packet[8..12].try_into().expect("four bytes"));
            if let Some(conn) = io.shared.keys.get(&(process, packet[12..].to_vec())) {
                let target = *conn;
                // The signal is sent before the connection that asked for it is closed.
                let at = io.now + io.dice.skewed(20 * MS);
                io.shared.signals.push((at, target));
                self.until = at + io.dice.skewed(MS);
            }
            self.phase = Phase::Exiting;
            return true;
        }
        let mut words =
            packet[8..].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name.as_str() {
                "database" => self.database = value,
                "user" | "" => {}
                _ => drop(self.startup.insert(name, value)),
            }
        }
        self.settings = self.startup.clone();
        self.control = self.startup.get("application_name").is_some_and(|name| name == "headpond control");
        self.admit(io);
        true
    }

    fn admit(&mut self, io: &mut Io<'_>) {
        let unconfirmed = io.shared.unconfirmed;
        let limit = io.shared.session_limits.get(&self.database).copied().unwrap_or(u32::MAX / 2);
        let limit = if self.control { 1 } else { limit };
        let sessions = self.sessions(io);
        assert!(*sessions < limit + unconfirmed, "more than {limit} sessions of {}", self.database);
        if let Some(most) = io.shared.budget {
            let all = io.shared.sessions.values().sum::<u32>() + io.shared.controls;
            assert!(all < most + unconfirmed, "more than the budget of {most}");
        }
        if io.shared.going_down {
            fatal(io.out, "57P03", "the database system is shutting down");
            self.phase = Phase::Exiting;
            return;
        }
        let failing = io.dice.chance(io.shared.faults.logins);
        io.shared.deaths += u32::from(failing);
        self.until = io.now + io.dice.skewed(20 * MS);
        if failing && io.dice.chance(60) {
            let code = io.dice.pick(&["53300", "57P03", "57P03", "XX000"]);
            io.shared.count("login refused");
            fatal(io.out, code, "no");
            self.phase = Phase::Exiting;
            return;
        }
        if self.startup.values().any(|value| value == IMPOSSIBLE) {
            io.shared.count("impossible at startup");
            fatal(io.out, "22023", "invalid value");
            self.phase = Phase::Exiting;
            return;
        }
        *self.sessions(io) += 1;
        self.counted = true;
        self.phase = Phase::LoggingIn;
        if io.shared.server_asks > 0 && !failing {
            let salt: &[u8] = if io.shared.server_asks == 5 { b"salt" } else { b"" };
            io.out.push(ANYONE, &message(b'R', &[&[0, 0, 0, io.shared.server_asks][..], salt].concat()));
            self.phase = Phase::Asking;
        }
        if failing {
            self.phase = if io.dice.chance(50) { Phase::Hanging } else { Phase::Exiting };
            io.shared.count("login hangs or dies");
        }
    }

    fn hear_password(&mut self, io: &mut Io<'_>) -> bool {
        let Some((tag, body, origin)) = io.input.message() else { return false };
        assert_eq!((tag, origin), (b'p', POOLER), "not a password");
        let secret = Md5Secret::derive(SERVICES.as_bytes(), "service");
        let right = if io.shared.server_asks == 5 { secret.answer(*b"salt") } else { SERVICES.to_owned() };
        assert_eq!(String::from_utf8_lossy(&body), format!("{right}\0"));
        io.shared.count("server heard a password");
        self.until = io.now + io.dice.skewed(MS);
        self.phase = Phase::LoggingIn;
        true
    }

    fn let_in(&mut self, io: &mut Io<'_>) -> bool {
        self.process = io.conn as u32 + 1000;
        let secret = io.dice.number();
        self.key = secret.to_be_bytes()[..if secret & 1 == 0 { 4 } else { 8 }].to_vec();
        io.shared.keys.insert((self.process, self.key.clone()), io.conn);
        io.out.push(ANYONE, &message(b'R', &[0; 4]));
        for (name, value) in [("server_version", "18.0"), ("client_encoding", "UTF8")] {
            io.out.push(ANYONE, &parameter_status(name, value));
        }
        io.out.push(ANYONE, &message(b'K', &[&self.process.to_be_bytes()[..], &self.key].concat()));
        io.out.push(ANYONE, &message(b'Z', b"I"));
        self.phase = Phase::Serving;
        self.served = true;
        io.shared.serving += 1;
        io.shared.most_serving = io.shared.most_serving.max(io.shared.serving);
        if io.dice.chance(io.shared.faults.deaths) {
            self.dies_at = io.now + io.dice.skewed(SECOND);
        }
        true
    }

    /// Takes one message.
    fn serve(&mut self, io: &mut Io<'_>) -> bool {
        if io.dice.chance(io.shared.faults.asides / 4) {
            aside(ANYONE, io);
        }
        let Some((tag, body, origin)) = io.input.message() else { return false };
        assert_ne!(origin, ANYONE, "a reply went to a server");
        io.trace(|| {
            format!("server takes {:?} of {origin}: {:.60}", char::from(tag), String::from_utf8_lossy(&body))
        });
        if io.dice.below(1000) < io.shared.faults.deaths && !self.expects_early_sync(io) {
            self.die(io);
            return true;
        }
        self.guard(tag, origin, io);
        let text =
            || String::from_utf8_lossy(body.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        if let Some(copy) = &mut self.copy {
            match tag {
                b'd' => {
                    copy.taken += 1;
                    if copy.fails_after.is_some_and(|most| copy.taken > most) {
                        let token = copy.token.clone();
                        io.shared.count("copy fails");
                        self.fail("22P04", &token, io);
                    }
                }
                b'c' => {
                    let taken = copy.taken;
                    self.copy = None;
                    self.steps.push_front(Step::Done { tag: format!("COPY {taken}") });
                }
                b'f' => self.fail("57014", &format!("COPY from stdin failed: {}", text()), io),
                b'H' | b'S' => {
                    copy.synced = true;
                    io.shared.count("sync inside copy");
                }
                b'X' => self.exit(io),
                _ => panic!("{:?} during COPY", char::from(tag)),
            }
            return true;
        }
        if self.skipping && !matches!(tag, b'S' | b'X') {
            return true;
        }
        match tag {
            b'X' => self.exit(io),
            b'Q' => {
                self.simple = true;
                self.statements.remove("");
                let text = text();
                let mut statements: Vec<_> = text.split(';').map(str::trim).collect();
                if let Some(question) = text.strip_prefix("SET LOCAL jit = off;") {
                    statements = vec!["SETLOCAL", question];
                }
                statements.retain(|statement| !statement.is_empty());
                if statements.is_empty() {
                    self.steps.push_back(Step::Say(message(b'I', b"")));
                }
                for text in statements {
                    self.steps.push_back(Step::Statement { text: text.to_owned(), simple: true });
                }
                self.steps.push_back(Step::Ready);
            }
            b'F' => self.call(&body, io),
            b'S' => {
                let gone = origin == POOLER && self.status == b'I' && !self.skipping;
                assert!(
                    !gone || self.transaction.is_empty(),
                    "what a client left without a Sync is committed"
                );
                self.skipping = false;
                self.unsynced = false;
                self.steps.push_back(Step::Ready);
            }
            b'd' | b'c' | b'f' | b'H' => {}
            _ => self.extended(tag, &body, io),
        }
        true
    }

    /// What a server can tell about who speaks.
    fn guard(&mut self, tag: u8, origin: Origin, io: &mut Io<'_>) {
        let under_way = self.status != b'I' || self.unsynced || self.copy.is_some();
        assert!(
            !under_way
                || origin == self.origin
                || origin == POOLER
                || self.origin == POOLER && self.status != b'T',
            "{origin} speaks inside what {} has begun ({:?})",
            self.origin,
            char::from(tag)
        );
        if origin != POOLER && !matches!(tag, b'd' | b'c' | b'f' | b'X' | b'S' | b'H') {
            if io.shared.resets.contains(&self.database) {
                assert!(
                    self.dirty.is_none_or(|who| who == origin),
                    "{origin} gets the session of {:?}",
                    self.dirty
                );
                let left = self.has_left > 0 && self.dirty.is_none() && io.shared.verifies;
                assert!(!left, "{origin} gets a session in which something is left");
            }
            if self.status != b'E' && !self.skipping {
                let wanted = io.shared.settings_of.get(&origin).cloned().unwrap_or_default();
                assert_eq!(self.settings, wanted, "{origin} runs under other settings");
                // What RESET goes back to is what its startup packet said.
                let session = !io.shared.stays.contains(&self.database);
                let own = wanted.get("search_path").filter(|_| session);
                let opened_with = self.startup.get("search_path");
                assert_eq!(opened_with, own, "{origin} has a connection of other startup parameters");
            }
        }
        // What it prepares for a client is part of what that one has begun.
        let prepares = under_way && origin == POOLER && matches!(tag, b'P' | b'C' | b'D' | b'H');
        if !prepares {
            self.origin = origin;
        }
    }

    fn extended(&mut self, tag: u8, body: &[u8], io: &mut Io<'_>) {
        self.simple = false;
        self.unsynced = true;
        let text = |from: usize| {
            let rest = body.get(from..).unwrap_or_default();
            String::from_utf8_lossy(rest.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        // Portals have the empty name, so the first byte of a Bind is its end.
        let name = if tag == b'P' { text(0) } else { text(1) };
        let behind = name.len() + 1;
        let aborted = |text: &str, status| status == b'E' && !ends(text);
        match tag {
            b'P' if aborted(&text(behind), self.status) => self.fail_aborted(io),
            b'P' if !name.is_empty() && self.statements.contains_key(&name) => {
                self.fail("42P05", "there is such a statement", io);
            }
            b'P' => {
                self.statements.insert(name, text(behind));
                self.say(&message(b'1', b""), io);
            }
            b'B' => match self.statements.get(&name).cloned() {
                Some(text) if aborted(&text, self.status) => self.fail_aborted(io),
                Some(text) => {
                    self.portal = Some(text);
                    self.say(&message(b'2', b""), io);
                }
                None => self.fail("26000", "no such statement", io),
            },
            b'D' if body[0] == b'P' && !name.is_empty() => self.fail("34000", "no such portal", io),
            b'D' if body[0] == b'S' && !self.statements.contains_key(&name) => {
                self.fail("26000", "no such statement", io);
            }
            b'D' => {
                if body.first() == Some(&b'S') {
                    self.say(&message(b't', &[0, 0]), io);
                }
                let statement = self.statements.get(&name);
                let what = if body.first() == Some(&b'S') { statement } else { self.portal.as_ref() };
                let rows = what.is_some_and(|text| text.starts_with("ECHO"));
                let answer =
                    what.filter(|_| rows).map_or(message(b'n', b""), |text| row_description(token(text)));
                self.say(&answer, io);
            }
            b'E' => match self.portal.clone() {
                Some(text) => self.steps.push_back(Step::Statement { text, simple: false }),
                None => self.fail("34000", "no such portal", io),
            },
            b'C' => {
                self.statements.remove(&name);
                self.say(&message(b'3', b""), io);
            }
            _ => panic!("message {:?}", char::from(tag)),
        }
    }

    fn call(&mut self, body: &[u8], io: &mut Io<'_>) {
        // Object id, no formats, one argument: its length and bytes, result format.
        let length = u32::from_be_bytes(body[8..12].try_into().expect("four bytes")) as usize;
        let argument = String::from_utf8_lossy(&body[12..12 + length]).into_owned();
        self.simple = true;
        if self.status != b'E' {
            self.executes(token(&argument), io);
        }
        let wait = io.dice.skewed(2 * MS);
        self.steps.push_back(Step::Wait(wait));
        if self.status == b'E' {
            self.steps.push_back(Step::Fail { code: "25P02", text: "aborted".to_owned() });
        } else if argument.starts_with("FAIL") {
            self.steps.push_back(Step::Fail { code: "P0001", text: token(&argument).to_owned() });
        } else {
            let value = token(&argument).as_bytes();
            let length = u32::try_from(value.len()).expect("short");
            self.steps.push_back(Step::Say(message(b'V', &[&length.to_be_bytes()[..], value].concat())));
        }
        self.steps.push_back(Step::Ready);
    }

    fn step(&mut self, step: Step, io: &mut Io<'_>) {
        if io.dice.below(100) < io.shared.faults.asides / 8 {
            // What comes while the pooler asks is for whoever is served next.
            aside(if self.origin == POOLER { ANYONE } else { self.origin }, io);
        }
        if matches!(step, Step::Done { .. } | Step::Ready) && io.dice.below(1000) < io.shared.faults.deaths {
            // Done, and nobody will ever hear of it.
            self.settle(matches!(step, Step::Ready), io);
            return self.die(io);
        }
        match step {
            Step::Wait(pause) => self.until = io.now + pause,
            Step::Say(bytes) => self.say(&bytes, io),
            Step::Statement { text, simple } => self.execute(&text, simple, io),
            Step::CopyIn { token, fails_after } => {
                self.say(&message(b'G', &[0, 0, 0]), io);
                self.copy = Some(Copy { token, fails_after, taken: 0, synced: false });
            }
            Step::Done { tag } => self.say(&text_message(b'C', &tag), io),
            Step::Fail { code, text } => self.fail(code, &text, io),
            Step::Ready => {
                self.settle(true, io);
                let status = self.status;
                self.say(&message(b'Z', &[status]), io);
            }
        }
    }

    fn execute(&mut self, text: &str, simple: bool, io: &mut Io<'_>) {
        let words: Vec<_> = text.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        if self.status == b'E' && !ends(text) {
            return self.fail_aborted(io);
        }
        if !matches!(words[0], "SELECT" | "CHECK") {
            self.executes(token(text), io);
        }
        let done = |tag: &str| Step::Done { tag: tag.to_owned() };
        let mut steps = Vec::new();
        match words[0] {
            "SELECT" if text.ends_with("::int4") => {
                io.shared.count("lost transaction goes on");
                steps.push(Step::Fail { code: "22P02", text: text.to_owned() });
            }
            "SELECT" if text.starts_with("SELECT pg_catalog.set_config(") => {
                let quoted = |number: usize| text.split('\'').nth(2 * number + 1).unwrap_or_default();
                let (name, value) = (quoted(0), quoted(1));
                if value == IMPOSSIBLE {
                    steps.push(Step::Fail { code: "22023", text: "invalid value".to_owned() });
                } else {
                    self.settings.insert(name.to_owned(), value.to_owned());
                    steps.push(Step::Say(row_description("set_config")));
                    steps.push(Step::Say(row(&[value])));
                    steps.push(done("SELECT 1"));
                }
            }
            // The pooler asks for what names mean here: they have no effects.
            "SELECT" if text.starts_with("SELECT pg_catalog.concat_ws") => {
                steps.push(Step::Say(row_description("fingerprint")));
                steps.push(Step::Say(row(&["1 1"])));
                steps.push(done("SELECT 1"));
            }
            "SETLOCAL" => steps.push(done("SET")),
            "WITH" => {
                io.shared.count("catalogue asked");
                steps.push(Step::Say(row_description("name")));
                steps.push(done("SELECT 0"));
            }
            "SELECT" if text.contains("pg_my_temp_schema") => {
                let left = self.has_left.to_string();
                steps.push(Step::Say(row_description("left")));
                steps.push(Step::Say(row(&["f", &left])));
                steps.push(done("SELECT 1"));
            }
            "CHECK" if io.dice.chance(io.shared.faults.checks) => {
                io.shared.count("check fails");
                steps.push(Step::Fail { code: "58000", text: "not fit".to_owned() });
            }
            "CHECK" => steps.push(done("CHECK")),
            // Asked once in a while: how many connections there are.
            "SELECT" => {
                io.shared.count(if self.control { "control asks" } else { "survey" });
                let slots = io.shared.slots.to_string();
                let in_recovery = if io.shared.in_recovery { "t" } else { "f" };
                steps.push(Step::Say(row_description("slots")));
                if !self.control {
                    steps.push(Step::Say(row(&[&slots])));
                } else if io.shared.defaults.is_empty() {
                    steps.push(Step::Say(row(&[&slots, in_recovery, "", "", ""])));
                }
                for [database, user, settings] in io.shared.defaults.iter().filter(|_| self.control) {
                    steps.push(Step::Say(row(&[&slots, in_recovery, database, user, settings])));
                }
                steps.push(done("SELECT 1"));
            }
            "BEGIN" => {
                if self.status == b'I' {
                    self.before = self.settings.clone();
                }
                self.status = b'T';
                steps.push(done("BEGIN"));
            }
            "COMMIT" | "ROLLBACK" => {
                let kept = self.status != b'E' && words[0] == "COMMIT";
                if !kept && self.status != b'I' {
                    self.settings = self.before.clone();
                }
                self.status = b'I';
                if kept {
                    self.settle(true, io);
                } else {
                    self.transaction.clear();
                }
                steps.push(done(if kept { "COMMIT" } else { "ROLLBACK" }));
            }
            "ECHO" => {
                steps.push(Step::Wait(number(4)));
                if simple {
                    steps.push(Step::Say(row_description(words[1])));
                }
                for row in 0..number(2) {
                    steps.push(Step::Say(data_row(words[1], row, number(3) as usize)));
                }
                steps.push(done(&format!("ECHO {}", number(2))));
            }
            "FAIL" => {
                steps.push(Step::Wait(number(2)));
                // Even where writes are allowed, a transaction may be read-only.
                let read_only = io.shared.in_recovery || io.dice.chance(20);
                let code = if read_only { "25006" } else { "P0001" };
                steps.push(Step::Fail { code, text: words[1].to_owned() });
            }
            "COPYIN" => {
                let fails_after = words.get(2).and_then(|word| word.parse().ok());
                steps.push(Step::CopyIn { token: words[1].to_owned(), fails_after });
            }
            "COPYOUT" => {
                steps.push(Step::Say(message(b'H', &[0, 0, 0])));
                for row in 0..number(2) {
                    steps.push(Step::Say(message(b'd', &row_text(words[1], row, number(3) as usize))));
                }
                steps.push(Step::Say(message(b'c', b"")));
                steps.push(done(&format!("COPY {}", number(2))));
            }
            "DIRTY" => {
                self.dirty = Some(self.origin);
                // Now and then it leaves what no reset undoes.
                self.has_left |= u8::from(io.dice.chance(20));
                steps.push(done("DIRTY"));
            }
            "SET" => {
                let value = text.split('\'').nth(1).unwrap_or_default();
                if value == IMPOSSIBLE {
                    steps.push(Step::Fail { code: "22023", text: "invalid value".to_owned() });
                } else {
                    self.settings.insert(words[1].to_owned(), value.to_owned());
                    io.out.push(ANYONE, &parameter_status(words[1], value));
                    steps.push(done("SET"));
                }
            }
            "RESET" => {
                match self.startup.get(words[1]) {
                    Some(value) => drop(self.settings.insert(words[1].to_owned(), value.clone())),
                    None => drop(self.settings.remove(words[1])),
                }
                steps.push(done("RESET"));
            }
            "DISCARD" => {
                assert_eq!(self.status, b'I', "DISCARD ALL inside a transaction");
                self.dirty = None;
                self.statements.clear();
                self.settings = self.startup.clone();
                steps.push(done("DISCARD ALL"));
            }
            other => panic!("statement {other:?}"),
        }
        steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
    }

    /// What runs outside a transaction block is committed at its end.
    fn settle(&mut self, at_end: bool, io: &mut Io<'_>) {
        if !at_end || self.status != b'I' {
            return;
        }
        for token in self.transaction.drain(..) {
            assert!(!io.shared.rolled_back.contains(&token), "{token} is committed, and was rolled back");
            io.shared.committed.insert(token);
        }
    }

    fn executes(&mut self, token: &str, io: &mut Io<'_>) {
        if token.starts_with('k') {
            self.transaction.push(token.to_owned());
            assert!(!io.shared.refused.contains(token), "{token} was refused, and runs");
            let times = io.shared.executed.entry(token.to_owned()).or_default();
            *times += 1;
            assert_eq!(*times, 1, "{token} runs twice");
        }
    }

    fn fail_aborted(&mut self, io: &mut Io<'_>) {
        self.fail("25P02", "current transaction is aborted", io);
    }

    /// An error: the rest of the simple query is dropped, or the extended protocol skips to its Sync.
    fn fail(&mut self, code: &str, text: &str, io: &mut Io<'_>) {
        self.say(&error("ERROR", code, text), io);
        self.copy = None;
        self.steps.retain(|step| matches!(step, Step::Ready));
        self.skipping = !self.simple;
        self.transaction.clear();
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    /// A Sync that was sent ahead and comes only after an error is answered, with or without a pooler in between, and its
    /// client has one ready for query more than it can account for: errors at that moment are left out.
    fn expects_early_sync(&self, io: &Io<'_>) -> bool {
        let no_data = io.input.bytes.first().is_none_or(|tag| matches!(tag, b'S' | b'H'));
        let ahead = |copy: &Copy| copy.taken == 0 && !copy.synced && no_data;
        !self.simple && self.copy.as_ref().is_some_and(ahead)
    }

    /// A cancel request's signal: whatever runs ends; a process that runs nothing takes no notice.
    fn signal(&mut self, io: &mut Io<'_>) {
        if self.expects_early_sync(io) {
            return;
        }
        // What is done cannot be cancelled any more, only what follows.
        if self.copy.is_none()
            && let Some(Step::Done { tag }) =
                self.steps.pop_front_if(|step| matches!(step, Step::Done { .. }))
        {
            self.say(&text_message(b'C', &tag), io);
        }
        let runs = self.copy.is_some() || self.steps.iter().any(|step| !matches!(step, Step::Ready));
        if self.phase != Phase::Serving || !runs {
            io.shared.count("cancel hits nothing");
            return;
        }
        io.shared.count("cancel hits");
        let asked = io.shared.cancelling.get(&self.origin).is_some_and(|requests| *requests > 0);
        let meant = asked || self.origin == POOLER || io.shared.gone.contains(&self.origin);
        assert!(meant, "{} is hit by a cancel that it has not asked for", self.origin);
        self.until = 0;
        // The pooler says it without the last words.
        self.fail("57014", "canceling statement due to user request on the server", io);
    }

    /// The process dies, with a word or without.
    fn die(&mut self, io: &mut Io<'_>) {
        io.shared.deaths += 1;
        match io.dice.below(4) {
            0 => {
                io.shared.count("server shuts down");
                fatal(io.out, "57P01", "terminating connection due to administrator command");
                self.exit(io);
            }
            1 => {
                io.shared.count("server dies inside a message");
                let bytes = match self.steps.pop_front() {
                    Some(Step::Say(bytes)) => bytes,
                    _ => {
                        self.origin = ANYONE;
                        message(b'N', &[0; 80_000])
                    }
                };
                let most = io.dice.pick(&[100, bytes.len() as u64]);
                let lacks = io.dice.between(1, most) as usize;
                self.say(&bytes[..bytes.len().saturating_sub(lacks)], io);
                self.exit(io);
            }
            2 => {
                io.shared.count("server is reset");
                self.gone(io, End::Reset);
            }
            _ => {
                io.shared.count("server dies");
                self.exit(io);
            }
        }
    }

    fn exit(&mut self, io: &mut Io<'_>) {
        self.phase = Phase::Exiting;
        self.dies_at = u64::MAX;
        self.copy = None;
        self.steps.clear();
        self.until = io.now + io.dice.skewed(200 * MS).min(SECOND);
    }

    fn gone(&mut self, io: &mut Io<'_>, how: End) {
        self.phase = Phase::Exiting;
        *io.end = Some(how);
        io.shared.serving -= u32::from(std::mem::take(&mut self.served));
        io.shared.keys.remove(&(self.process, std::mem::take(&mut self.key)));
        if std::mem::take(&mut self.counted) {
            *self.sessions(io) -= 1;
        }
    }

    /// The count that this process is part of: control connections have their own, whatever the database.
    fn sessions<'a>(&self, io: &'a mut Io<'_>) -> &'a mut u32 {
        if self.control {
            return &mut io.shared.controls;
        }
        io.shared.sessions.entry(self.database.clone()).or_default()
    }

    fn say(&self, bytes: &[u8], io: &mut Io<'_>) {
        io.trace(|| format!("server says {:.60}", String::from_utf8_lossy(bytes)));
        io.out.push(self.origin, bytes);
    }
}

fn token(text: &str) -> &str {
    text.split_whitespace().nth(1).unwrap_or_default()
}

fn ends(text: &str) -> bool {
    text.starts_with("COMMIT") || text.starts_with("ROLLBACK")
}

fn aside(origin: Origin, io: &mut Io<'_>) {
    io.shared.count("aside");
    let bytes = if io.dice.chance(io.shared.faults.large / 2) {
        message(b'N', &[0; 70_000])
    } else if io.dice.chance(50) {
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mby the way\0\0")
    } else {
        parameter_status("in_hot_standby", "off")
    };
    io.out.push(origin, &bytes);
}

fn fatal(out: &mut Marked, code: &str, text: &str) {
    out.push(ANYONE, &error("FATAL", code, text));
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0").as_bytes())
}

fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

/// One column, named like the token.
fn row_description(token: &str) -> Vec<u8> {
    message(b'T', &[&[0, 1][..], token.as_bytes(), &[0; 19]].concat())
}

fn data_row(token: &str, row: u64, size: usize) -> Vec<u8> {
    let value = row_text(token, row, size);
    let length = u32::try_from(value.len()).expect("small");
    message(b'D', &[&[0, 1][..], &length.to_be_bytes(), &value].concat())
}

/// A row of texts.
fn row(columns: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for column in columns {
        body.extend_from_slice(&u32::try_from(column.len()).expect("small").to_be_bytes());
        body.extend_from_slice(column.as_bytes());
    }
    message(b'D', &body)
}

/// What a row says: the token, its number, and padding.
pub(crate) fn row_text(token: &str, row: u64, size: usize) -> Vec<u8> {
    let mut text = format!("{token}:{row}:").into_bytes();
    text.resize(text.len() + size, b'x');
    text
}
