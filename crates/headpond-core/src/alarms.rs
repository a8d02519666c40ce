//! What an operator must be told of a pool, however well it seems to work.

use std::time::Duration;

use crate::{CloseReason, Tick};

/// Something is wrong, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Alarm {
    /// Over a minute with at least 20 acquires, half as many connections or more were opened to replace others:
    /// whatever the cause, they are not being pooled.
    NotPooling,
    /// Connections that were just opened fail the test: the test is broken, and is not acted on.
    CheckSuspect,
    /// The server does not accept our credentials; nobody tries on for a while.
    Authentication,
    /// Over a minute half of the releases or more, and at least 20, closed their connection because `max_idle`
    /// others were idle: `max_idle` is below what the load needs.
    MaxIdleChurn,
    /// The server has fewer connections for us than `max_size`.
    TooManyConnections,
    /// The server was a primary and is in recovery now: nothing is sent there until it takes writes again.
    Fenced,
}

impl Alarm {
    /// Every alarm, in order of its number.
    pub const ALL: [Self; 6] = [
        Self::NotPooling,
        Self::CheckSuspect,
        Self::Authentication,
        Self::MaxIdleChurn,
        Self::TooManyConnections,
        Self::Fenced,
    ];

    /// The name in logs, metrics, console and page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotPooling => "not_pooling",
            Self::CheckSuspect => "check_suspect",
            Self::Authentication => "authentication",
            Self::MaxIdleChurn => "max_idle_churn",
            Self::TooManyConnections => "too_many_connections",
            Self::Fenced => "fenced",
        }
    }
}

/// How long a window is over which rates are judged.
const WINDOW: Duration = Duration::from_secs(60);

/// Fewer events than this in a window say nothing.
const EVENTS_MIN: u64 = 20;

/// The pool's counters at the beginning of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) acquires: u64,
    /// Logins that failed left out.
    pub(crate) opened: u64,
    /// By [`CloseReason`] as a number.
    pub(crate) closed: [u64; CloseReason::ALL.len()],
    pub(crate) open: u32,
}

/// Which alarms are raised and why, and the window over which rates are judged.
#[derive(Debug)]
pub(crate) struct Alarms {
    raised: [bool; Alarm::ALL.len()],
    causes: [Option<CloseReason>; Alarm::ALL.len()],
    begun: Tick,
    before: Counters,
}

impl Alarms {
    pub(crate) fn new() -> Self {
        Self {
            raised: [false; Alarm::ALL.len()],
            causes: [None; Alarm::ALL.len()],
            begun: Tick(0),
            before: Counters::default(),
        }
    }

    pub(crate) fn raised(&self) -> [bool; Alarm::ALL.len()] {
        self.raised
    }

    pub(crate) fn causes(&self) -> [Option<CloseReason>; Alarm::ALL.len()] {
        self.causes
    }

    /// Raises or clears an alarm; whether that changed anything but the cause.
    pub(crate) fn set(&mut self, alarm: Alarm, raised: bool, cause: Option<CloseReason>) -> bool {
        self.causes[alarm as usize] = cause;
        std::mem::replace(&mut self.raised[alarm as usize], raised) != raised
    }

    /// Whether the window is over.
    #[inline]
    pub(crate) fn is_due(&self, now: Tick) -> bool {
        now >= self.begun.plus(WINDOW)
    }

    /// When an alarm of rates must be judged again, though nobody asks for a connection.
    pub(crate) fn deadline(&self) -> Tick {
        let raised = |alarm| self.raised[alarm as usize];
        let any = raised(Alarm::NotPooling) || raised(Alarm::MaxIdleChurn);
        if any && !planted!(AlarmsForEver) { self.begun.plus(WINDOW) } else { Tick::NEVER }
    }

    /// Judges the window that is over, and begins the next: which alarms of rates are true, and the cause.
    pub(crate) fn judge(&mut self, now: Tick, counters: Counters) -> [(Alarm, bool, Option<CloseReason>); 2] {
        let before = std::mem::replace(&mut self.before, counters);
        // A window that nobody looked at for long has no rate.
        let fresh = now.since(self.begun) < WINDOW * 2;
        self.begun = now;
        let acquires = counters.acquires - before.acquires;
        // A pool that grows opens connections without replacing any.
        let growth = u64::from(counters.open.saturating_sub(before.open));
        let replaced = counters.opened.saturating_sub(before.opened + growth);
        let closed = |reason| counters.closed[reason as usize] - before.closed[reason as usize];
        let churned = closed(CloseReason::MaxIdle);
        let judged = fresh && acquires >= EVENTS_MIN;
        let served = CloseReason::ALL.into_iter().filter(|reason| *reason != CloseReason::LoginFailed);
        let most = served.filter(|reason| closed(*reason) > 0).max_by_key(|reason| closed(*reason));
        [
            (Alarm::NotPooling, judged && replaced * 2 >= acquires, most),
            (
                Alarm::MaxIdleChurn,
                judged && churned >= EVENTS_MIN && churned * 2 >= acquires,
                Some(CloseReason::MaxIdle),
            ),
        ]
    }
}
