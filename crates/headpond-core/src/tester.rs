//! The test of connections, and the test of the test.
//!
//! A pool whose test is wrong closes every connection it has and opens a new one for each request: it works, slowly,
//! and nobody notices for years. So when a connection that was fine fails the test, a fresh connection is asked to
//! pass it too. If that one fails, it is the test that is broken: nothing is closed for it, and an alarm is raised.

use std::time::Duration;

use crate::{ConnId, PoolSettings, Tick};

/// How long a broken test is left alone before it is tried again, on whatever comes to rest next.
const RETEST: Duration = Duration::from_secs(60);

/// A connection that is opened is asked about a broken test, but not so soon after the last one: a test that hangs
/// costs who is asked its life, and the one opened in its place shall serve.
const RETEST_OPENED: Duration = Duration::from_secs(5);

/// What a fresh connection says of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passed: who failed was bad.
    Works,
    /// It failed too: the test is broken.
    Broken,
    /// There was no fresh connection to be had: the server is in trouble, and who failed with it.
    Unknown,
}

/// The tester of one pool.
#[derive(Debug, Default)]
pub(crate) struct Tester {
    /// The test itself fails: nobody is judged by it.
    pub(crate) broken: bool,
    /// A fresh connection has passed, or the test is known to be broken: the next one need not be asked.
    pub(crate) tried: bool,
    /// The fresh connection that is being asked; of a broken test, whoever is.
    pub(crate) fresh: Option<ConnId>,
    /// Connections that failed and wait for the verdict.
    pub(crate) failed: Vec<ConnId>,
    /// When a broken test is tried again, and from when on whoever is opened is asked.
    pub(crate) retest_at: Option<Tick>,
    opened_asked_from: Tick,
    /// Nobody was idle then: the next that comes to rest is asked.
    pub(crate) asks_next: bool,
}

impl Tester {
    /// Whether connections are tested at present.
    pub(crate) fn is_on(&self, settings: &PoolSettings) -> bool {
        settings.check && !self.broken
    }

    /// Whether a connection that is being opened is asked about the test.
    pub(crate) fn asks_opened(&self, now: Tick, settings: &PoolSettings) -> bool {
        let due = if self.broken { now >= self.opened_asked_from } else { !self.tried };
        settings.check && due && self.fresh.is_none()
    }

    /// Whether a connection must be opened only to be asked.
    pub(crate) fn wants_fresh(&self) -> bool {
        !self.failed.is_empty() && self.fresh.is_none()
    }

    /// A connection goes: it waits for no verdict any more.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.failed.retain(|failed| *failed != conn);
        if self.fresh == Some(conn) {
            self.fresh = None;
        }
    }

    pub(crate) fn found_broken(&mut self, now: Tick) {
        self.broken = true;
        self.tried = true;
        self.asks_next = false;
        self.retest_at = Some(now.plus(RETEST));
        self.opened_asked_from = now.plus(RETEST_OPENED);
    }

    /// Nobody waits for a verdict any more.
    pub(crate) fn found_working(&mut self) {
        *self = Self { tried: true, ..Self::default() };
    }

    /// The retest is due.
    pub(crate) fn retest(&mut self, now: Tick) {
        self.retest_at = Some(now.plus(RETEST));
        self.asks_next = self.fresh.is_none() && !planted!(RetestedWhenIdleOnly);
    }
}
