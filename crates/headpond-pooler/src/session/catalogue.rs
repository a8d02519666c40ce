//! What a database's catalogue says of the names in texts: asked on the pool's own connections, at first before any of
//! them serves, later as one comes to rest, and at once when a client has changed it.

use std::time::Duration;

use headpond_core::{State, Tick};

use crate::action::{Actions, ServerId};
use crate::config::OpaqueFunctions;
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::session::sequences::Readers;
use crate::text::catalogue::{Catalogue, fingerprint_question, verdict_question};
use crate::text::{Effects, Verdict};
use crate::verdicts::Columns;

/// How often it is asked whether the catalogue has changed.
const INTERVAL: Duration = Duration::from_secs(60);

/// An answer that takes longer is given up, and the connection with it: until there is one texts may do anything.
const ANSWER: Duration = Duration::from_secs(30);

/// After a change of it, the least time between questions, and how many times as long as an answer took.
const PAUSE: Duration = Duration::from_secs(1);
const SHARE: u64 = 20;
const SHARE_OF_CODE: u64 = 3;

/// To compile expressions would take longer than to evaluate them.
const QUIETLY: &str = "SET LOCAL jit = off;";

/// What is known of the names in a pool's database.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) verdict: Verdict,
    /// How clients of the pool ask for values of sequences that they have drawn.
    pub(super) readers: Readers,
    /// How many verdicts there were.
    pub(crate) generation: u32,
    /// How often it was asked, and which of those was answered last.
    begun: u32,
    answered: u32,
    /// When that was begun, and how long the answer took, in nanoseconds.
    since: Tick,
    cost: u64,
    /// There may be code in it that nobody knows, and when it was last asked for that.
    has_code: bool,
    code_asked: Option<Tick>,
    /// When it is asked again.
    due: Tick,
    /// Who asks, or did last.
    asked: Option<ServerId>,
    /// Of the catalogue that the verdict is about; empty: of none.
    fingerprint: String,
    heard: String,
    answer: Option<Catalogue>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            verdict: Verdict::unknown(),
            readers: Readers::None,
            generation: 0,
            begun: 0,
            answered: 0,
            since: Tick(0),
            cost: 0,
            has_code: false,
            code_asked: None,
            due: Tick(0),
            asked: None,
            fingerprint: String::new(),
            heard: String::new(),
            answer: None,
        }
    }

    /// A client has changed the catalogue. Whoever changes it again and again does not have it asked each time; sooner
    /// if there may be `code` in it that nobody knows, and the first time at once.
    pub(crate) fn is_outdated(&mut self, now: Tick, code: bool) {
        let of = |share| Duration::from_nanos(self.cost.saturating_mul(share));
        let soonest = match code {
            true => self.code_asked.map_or(now, |asked| asked.plus(of(SHARE_OF_CODE))),
            false => self.since.plus(of(SHARE).max(PAUSE)),
        };
        self.has_code |= code;
        self.due = self.due.min(soonest.max(now));
    }

    /// What a client makes now is not known before this number is answered, and more.
    pub(crate) fn news(&self) -> u32 {
        self.begun
    }

    /// Whether what was made by then is known.
    pub(crate) fn knows(&self, news: u32) -> bool {
        self.answered > news
    }

    /// Nobody is to be asked: functions are taken to leave nothing behind.
    fn trust(&mut self) {
        self.due = Tick::NEVER;
        self.answered = u32::MAX;
        self.verdict = Verdict::of(Effects::NONE, []);
    }
}

impl Pooler {
    /// Asks for what is known of the catalogue on a connection that serves nobody yet, if nothing is. Whether it does.
    pub(crate) fn asks_first(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let unknown = self.pools[server.pool as usize].names.fingerprint.is_empty();
        if !unknown || !self.asks(now, id) {
            return false;
        }
        self.due(id, now.plus(ANSWER));
        self.ask_catalogue(now, id, out)
    }

    /// As [`Pooler::asks_first`], on one that is still its client's, who is held.
    pub(crate) fn asks_leased(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        self.asks(now, id) && self.ask_catalogue(now, id, out)
    }

    /// As [`Pooler::asks_first`], on one whose lease is over, whenever it is time.
    pub(crate) fn asks_at_rest(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        if !self.asks(now, id) {
            return false;
        }
        let Some(server) = self.servers.get(id) else { return false };
        let (pool, conn) = (server.pool, server.conn);
        self.with_pool(now, pool, out, |policy, actions| {
            policy.retire(now, conn, State::Resetting, actions);
        });
        self.due(id, now.plus(ANSWER));
        self.ask_catalogue(now, id, out)
    }

    #[inline]
    fn asks(&mut self, now: Tick, id: ServerId) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let entry = &mut self.pools[server.pool as usize];
        if entry.names.due > now || !entry.follows() {
            return false;
        }
        let source = self.config.data_sources.get(entry.data_source);
        if source.is_some_and(|source| source.opaque_functions == OpaqueFunctions::Trust) {
            entry.names.trust();
            return false;
        }
        let asking = entry.names.asked.and_then(|id| self.servers.get(id));
        !asking.is_some_and(|server| server.exchanges.is_asking())
    }

    fn ask_catalogue(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let names = &mut self.pools[server.pool as usize].names;
        names.asked = Some(id);
        names.begun += 1;
        names.since = now;
        if std::mem::take(&mut names.has_code) {
            names.code_asked = Some(now);
        }
        // Whatever becomes of this, it is not tried again at once.
        names.due = now.plus(INTERVAL);
        names.heard.clear();
        let question = format!("{QUIETLY}{}", fingerprint_question());
        self.run_errand(now, id, Errand::Fingerprint, &question, out);
        true
    }

    /// A row of an answer.
    pub(crate) fn fingerprint_row(&mut self, pool: u32, row: &[u8]) {
        let heard = &mut self.pools[pool as usize].names.heard;
        heard.extend(Columns::of(row).flat_map(|column| [column, "/"]));
    }

    /// A row of an answer.
    pub(crate) fn catalogue_row(&mut self, pool: u32, row: &[u8]) {
        let mut columns = Columns::of(row);
        let answer = self.pools[pool as usize].names.answer.as_mut();
        if let (Some(answer), Some(name), Some(odd), Some(effects)) =
            (answer, columns.next(), columns.next(), columns.next())
        {
            answer.row(name, odd == "t", effects);
        }
    }

    /// The server refuses to answer: what was known stays known.
    pub(crate) fn catalogue_refused(&mut self, pool: u32) {
        let names = &mut self.pools[pool as usize].names;
        names.heard.clear();
        names.answer = None;
    }

    /// The cheap question is answered: if the catalogue is another one, the other question follows.
    pub(crate) fn fingerprint_over(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get(id) else { return };
        let names = &mut self.pools[server.pool as usize].names;
        if !names.heard.is_empty() && names.heard != names.fingerprint {
            names.answer = Some(Catalogue::default());
            let question = format!("{QUIETLY}{}", verdict_question());
            self.run_errand(now, id, Errand::Catalogue, &question, out);
        } else if !names.heard.is_empty() {
            names.answered = names.begun;
        }
    }

    /// The catalogue has answered.
    pub(crate) fn catalogue_over(&mut self, now: Tick, id: ServerId) {
        let Some(server) = self.servers.get(id) else { return };
        let names = &mut self.pools[server.pool as usize].names;
        if let Some(answer) = names.answer.take() {
            names.verdict = answer.verdict();
            names.fingerprint = std::mem::take(&mut names.heard);
            names.generation += 1;
            names.answered = names.begun;
            names.cost = now.0.saturating_sub(names.since.0);
        }
    }
}
