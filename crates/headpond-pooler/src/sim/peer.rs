//! What is at the far end of a connection, and what all of them share.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::sim::cells::Cells;
use crate::sim::dice::Dice;
use crate::sim::marked::{Marked, Origin};
use crate::sim::net::End;

pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Run-time parameters that clients ask for in their startup packets.
pub(crate) type Settings = BTreeMap<String, String>;

/// What may go wrong in a run, in percent of the occasions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// A server process dies, per message it gets.
    pub(crate) deaths: u64,
    /// A login is refused, hangs, or is cut off.
    pub(crate) logins: u64,
    /// A connect fails.
    pub(crate) connects: u64,
    /// A test of an idle connection fails.
    pub(crate) checks: u64,
    /// A client leaves before its time.
    pub(crate) departures: u64,
    /// A client cancels what it runs.
    pub(crate) cancels: u64,
    /// Notices and parameter changes at odd moments.
    pub(crate) asides: u64,
    /// A client reads slowly.
    pub(crate) slow_readers: u64,
    /// A message is larger than what is held whole.
    pub(crate) large: u64,
    /// The operator suspends, renews, resizes.
    pub(crate) operator: u64,
    /// He tells the pooler to stop before its time.
    pub(crate) drains: u64,
    /// A request is a COPY from the client, whatever else it might be; and it is in a transaction.
    pub(crate) copies: u64,
    pub(crate) transactions: u64,
    /// Something happens while the machine is in a rare state.
    pub(crate) nudges: u64,
}

/// What is done to a peer from outside its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poke {
    /// The signal of a cancel request, for a server.
    Signal,
    /// The process of a server dies.
    Die,
    /// It does nothing for a while.
    Dawdle,
    /// A client cancels what it runs.
    Cancel,
    /// It leaves.
    Leave,
}

impl Faults {
    /// Whether a login to the server may fail.
    pub(crate) fn any_server(&self) -> bool {
        self.deaths + self.logins + self.connects > 0
    }
}

/// A connection to be made to the pooler, to cancel what another runs.
#[derive(Debug)]
pub(crate) struct Canceller {
    /// Who asks.
    pub(crate) of: Origin,
    pub(crate) at: u64,
    pub(crate) process: u32,
    pub(crate) key: Vec<u8>,
}

/// What the peers of one run know together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) faults: Faults,
    /// Server processes that serve or will, by database.
    pub(crate) sessions: BTreeMap<String, u32>,
    /// Those that are control connections.
    pub(crate) controls: u32,
    /// The most of them that the pooler may ever have.
    pub(crate) session_limits: BTreeMap<String, u32>,
    /// The most of all of them together.
    pub(crate) budget: Option<u32>,
    /// Connections whose process an administrator ends.
    pub(crate) terminated: HashSet<usize>,
    /// The server shuts down: it takes no logins.
    pub(crate) going_down: bool,
    /// The server has become a standby: what fails, fails because it cannot write.
    pub(crate) in_recovery: bool,
    /// Login-time defaults: database, user, settings.
    pub(crate) defaults: Vec<[&'static str; 3]>,
    /// Closes that the server did not confirm in time: those may come on top.
    pub(crate) unconfirmed: u32,
    /// Connections that the server says it has.
    pub(crate) slots: u32,
    /// How often each token was executed.
    pub(crate) executed: HashMap<String, u32>,
    /// Tokens whose request was refused by the pooler: no server may ever see them.
    pub(crate) refused: HashSet<String>,
    /// Tokens of transactions that were committed.
    pub(crate) committed: HashSet<String>,
    /// Tokens whose client was told that their transaction was rolled back: none may ever be committed.
    pub(crate) rolled_back: HashSet<String>,
    /// Databases whose clients outlive their server connections.
    pub(crate) stays: HashSet<String>,
    /// What any text leaves behind is known from the start: nothing.
    pub(crate) readable: bool,
    /// Which connection a cancel key belongs to.
    pub(crate) keys: HashMap<(u32, Vec<u8>), usize>,
    /// Signals to be delivered: when, to which connection.
    pub(crate) signals: Vec<(u64, usize)>,
    pub(crate) cancellers: Vec<Canceller>,
    /// Connections that were once called readable with nothing there: a wait may have begun before its request.
    pub(crate) spurious: HashSet<usize>,
    pub(crate) settings_of: HashMap<Origin, Settings>,
    /// Sessions that were reset are asked what is left in them.
    pub(crate) verifies: bool,
    /// Databases whose sessions are reset before another client gets them.
    pub(crate) resets: HashSet<String>,
    /// Server processes that died, and logins that failed.
    pub(crate) deaths: u32,
    /// Clients that lost their server.
    pub(crate) losses: u32,
    pub(crate) exchanges: u64,
    /// Server processes that serve, and the most there were at once.
    pub(crate) serving: u32,
    pub(crate) most_serving: u32,
    /// Longest a request may wait, by database; `None`: for ever.
    pub(crate) acquire_timeouts: BTreeMap<String, Option<u64>>,
    /// Clients are not asked who they are.
    pub(crate) trusting: bool,
    /// The method by which the server asks for a password; 0: it asks for none.
    pub(crate) server_asks: u8,
    /// The pooler is told to stop: clients hear so.
    pub(crate) draining: bool,
    /// The operator has dropped all clients once.
    pub(crate) killed: bool,
    /// Cancel requests that are being delivered, by the client that asked.
    pub(crate) cancelling: HashMap<Origin, u32>,
    /// Clients that have left.
    pub(crate) gone: HashSet<Origin>,
    /// Which events met which states.
    pub(crate) cells: Cells,
    /// How often each kind of thing happened.
    pub(crate) coverage: BTreeMap<&'static str, u64>,
}

impl Shared {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
    }
}

/// What a peer can see and do when something happened on its connection.
pub(crate) struct Io<'a> {
    pub(crate) now: u64,
    /// The connection's number.
    pub(crate) conn: usize,
    /// What was read and not used yet.
    pub(crate) input: &'a mut Marked,
    /// The other side has ended the connection.
    pub(crate) ended: Option<End>,
    /// What is to be sent.
    pub(crate) out: &'a mut Marked,
    /// Set to end the connection.
    pub(crate) end: &'a mut Option<End>,
    /// Set to be called again.
    pub(crate) wake: &'a mut Option<u64>,
    pub(crate) dice: &'a mut Dice,
    pub(crate) shared: &'a mut Shared,
    pub(crate) traces: bool,
}

impl Io<'_> {
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!(
                "{:>12}     connection {}: {}",
                self.now / US,
                self.conn + 1,
                what().replace(char::is_control, ".")
            );
        }
    }

    pub(crate) fn wake_at(&mut self, at: u64) {
        *self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}
