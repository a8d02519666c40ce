//! The pool: who gets a connection, when one is opened, and when one is closed.

use std::time::Duration;

use crate::figures::{Counts, Marks, PoolFigures};
use crate::slots::Slots;
use crate::waiters::Waiters;
use crate::{CloseReason, ConnId, PoolSettings, State, Tick, WaiterId};

/// What the driver must do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The request of `holder` is served by `conn`, after `waited` nanoseconds in the queue.
    Grant {
        /// As given to [`Pool::acquire`].
        holder: u64,
        /// The connection, now in use.
        conn: ConnId,
        /// Nanoseconds.
        waited: u64,
    },
    /// The queued request of `holder` ends without a connection.
    Refuse {
        /// As given to [`Pool::acquire`].
        holder: u64,
        /// Why.
        why: Refusal,
    },
    /// Connect and log in; answer with [`Pool::opened`] or [`Pool::open_failed`].
    Open(ConnId),
    /// Test it; answer with [`Pool::ready`] or [`Pool::close`].
    Check(ConnId),
    /// Tell the server it goes; answer with [`Pool::closed`] once the server has let it go.
    Close(ConnId, CloseReason),
}

/// The immediate answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// Served at once.
    Granted(ConnId),
    /// It waits; an [`Action::Grant`] or [`Action::Refuse`] ends the wait, or [`Pool::withdraw`].
    Queued(WaiterId),
    /// Not even queued.
    Refused(Refusal),
}

/// Why a request got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It waited for `acquire_timeout`.
    TimedOut,
    /// `max_waiters` others wait.
    QueueFull,
    /// Every login fails, and trying again will not help.
    Database(FailureClass),
    /// The process is stopping.
    Draining,
}

/// Why a login failed, as far as the pool acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The server does not accept our credentials: trying on could lock the account.
    Authentication,
    /// The database does not exist, or this user may not enter it.
    Refused,
    /// The server has no connection left.
    TooManyConnections,
    /// The server is starting, stopping or recovering.
    StartingUp,
    /// Refused by the network, or no answer in time.
    Unreachable,
    /// Anything else.
    Other,
}

impl FailureClass {
    /// Whether waiting and trying again is pointless for those who wait now.
    fn is_terminal(self) -> bool {
        matches!(self, Self::Authentication | Self::Refused)
    }
}

/// First pause after a failed login; each further failure doubles it up to `login_retry`.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// The policy machine of one pool. See the crate's documentation for its contract.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    slots: Slots,
    waiters: Waiters,
    marks: Marks,
    counts: Counts,
    trust_window: Duration,
    random: u64,
    /// Floors apply from the start, or with `initial_size` 0 from the first request on.
    in_service: bool,
    /// Connections still owed of `initial_size`.
    warming: bool,
    suspended: bool,
    draining: bool,
    failures: u32,
    /// No login before this.
    retry_at: Tick,
}

impl Pool {
    /// An empty pool; nothing is opened before [`Pool::start`] or the first request. `seed` feeds the jitter.
    #[must_use]
    pub fn new(settings: PoolSettings, seed: u64) -> Self {
        Self {
            settings,
            slots: Slots::new(),
            waiters: Waiters::new(),
            marks: Marks::default(),
            counts: Counts::default(),
            trust_window: Duration::MAX,
            random: seed | 1,
            in_service: false,
            warming: false,
            suspended: false,
            draining: false,
            failures: 0,
            retry_at: Tick(0),
        }
    }

    /// From now on an idle connection unproven for longer than `window` is checked before it is handed out.
    pub fn trust_for(&mut self, window: Duration) {
        self.trust_window = window;
    }

    /// Opens `initial_size` connections; with 0, does nothing.
    pub fn start(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.settings.initial_size > 0 {
            self.in_service = true;
            self.warming = true;
            self.open_what_is_needed(now, out);
        }
    }

    /// Somebody, known to the caller as `holder`, wants a connection.
    pub fn acquire(&mut self, now: Tick, holder: u64, out: &mut Vec<Action>) -> Acquired {
        self.counts.acquires += 1;
        self.in_service = true;
        if self.draining {
            self.counts.refused += 1;
            return Acquired::Refused(Refusal::Draining);
        }
        if let Some(conn) = self.take_trusted(now) {
            self.lease(now, conn);
            if self.needs_headroom() {
                self.open_what_is_needed(now, out);
            }
            return Acquired::Granted(conn);
        }
        if self.waiters.len() >= self.settings.max_waiters {
            self.counts.refused += 1;
            return Acquired::Refused(Refusal::QueueFull);
        }
        self.counts.waits += 1;
        let deadline = match self.settings.acquire_timeout {
            Duration::ZERO => Tick::NEVER,
            timeout => now.plus(timeout),
        };
        let waiter = self.waiters.push(now, deadline, holder);
        self.marks.waiting = self.marks.waiting.max(self.waiters.len());
        self.open_what_is_needed(now, out);
        Acquired::Queued(waiter)
    }

    /// Whether a request made now would be served at once.
    #[must_use]
    pub fn has_trusted_idle(&self, now: Tick) -> bool {
        !self.suspended
            && self.waiters.len() == 0
            && self.slots.newest_idle().is_some_and(|conn| self.is_trusted(now, conn))
    }

    /// A waiter leaves the queue by itself. Harmless if it has already left.
    pub fn withdraw(&mut self, now: Tick, waiter: WaiterId) {
        if let Some(left) = self.waiters.remove(waiter) {
            self.counts.waits_withdrawn += 1;
            self.note_wait(now, left.since);
        }
    }

    /// A login succeeded.
    pub fn opened(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) != Some(State::Opening) {
            return;
        }
        self.failures = 0;
        self.retry_at = Tick(0);
        self.begin_life(now, conn);
        self.settle(now, conn, out);
        self.open_what_is_needed(now, out);
    }

    /// A leased connection was closed and opened anew for its holder: its place in the pool stayed taken.
    pub fn reopened(&mut self, now: Tick, conn: ConnId, reason: CloseReason) {
        if self.slots.state(conn) == Some(State::InUse) {
            self.counts.closed[reason as usize] += 1;
            self.counts.opened += 1;
            self.begin_life(now, conn);
        }
    }

    /// A login failed: from now on it is closing, for the server may still be busy with it.
    pub fn open_failed(&mut self, now: Tick, conn: ConnId, class: FailureClass, out: &mut Vec<Action>) {
        if self.slots.state(conn) != Some(State::Opening) {
            return;
        }
        self.counts.logins_failed += 1;
        self.begin_close(now, conn, CloseReason::LoginFailed, out);
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_RETRY.saturating_mul(1 << self.failures.min(20).saturating_sub(1));
        let pause = doubled.min(self.settings.login_retry).mul_f64(1.0 - self.draw(25) / 100.0);
        self.retry_at = now.plus(pause);
        if class.is_terminal() && self.slots.total() == self.slots.count(State::Closing) {
            while let Some(left) = self.waiters.pop() {
                self.counts.waits_failed += 1;
                self.note_wait(now, left.since);
                out.push(Action::Refuse { holder: left.holder, why: Refusal::Database(class) });
            }
            // With nobody waiting there is no reason to try on: the next request does.
            self.in_service = false;
            self.warming = false;
        }
    }

    /// The lease ended and the connection can serve anybody at once.
    pub fn release(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) == Some(State::InUse) {
            self.settle(now, conn, out);
        }
    }

    /// The connection cannot be handed out for now: `state` is resetting, recovering or being cancelled.
    pub fn retire(&mut self, now: Tick, conn: ConnId, state: State, out: &mut Vec<Action>) {
        debug_assert!(matches!(state, State::Resetting | State::Recovering | State::BeingCancelled));
        if self.is_live(conn) {
            self.slots.change(now, conn, state);
            self.open_what_is_needed(now, out);
        }
    }

    /// A connection that was checked, reset, drained or cancelled is fit again.
    pub fn ready(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if matches!(
            self.slots.state(conn),
            Some(State::Checking | State::Resetting | State::Recovering | State::BeingCancelled)
        ) {
            self.settle(now, conn, out);
        }
    }

    /// A connection must go, or is already lost: from now on it is closing.
    pub fn close(&mut self, now: Tick, conn: ConnId, reason: CloseReason, out: &mut Vec<Action>) {
        if self.is_live(conn) {
            self.begin_close(now, conn, reason, out);
            self.open_what_is_needed(now, out);
        }
    }

    /// The server has let a closing connection go.
    pub fn closed(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) == Some(State::Closing) {
            self.slots.remove(conn);
            self.open_what_is_needed(now, out);
        }
    }

    /// Grants nothing until [`Pool::resume`]; idle connections are closed, others when they come to rest.
    pub fn suspend(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.suspended = true;
        self.close_idle(now, CloseReason::Suspended, out);
    }

    /// Ends a suspension.
    pub fn resume(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.suspended = false;
        self.open_what_is_needed(now, out);
    }

    /// Whether [`Pool::suspend`] is in force.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Finishes what is running, takes nothing new: waiters are refused, idle connections closed.
    pub fn drain(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.draining = true;
        self.close_idle(now, CloseReason::Shutdown, out);
        while let Some(left) = self.waiters.pop() {
            self.counts.waits_failed += 1;
            self.note_wait(now, left.since);
            out.push(Action::Refuse { holder: left.holder, why: Refusal::Draining });
        }
    }

    /// New settings, from now on.
    pub fn configure(&mut self, now: Tick, settings: PoolSettings, out: &mut Vec<Action>) {
        self.settings = settings;
        while self.slots.total() - self.slots.count(State::Closing) > self.settings.max_size {
            let Some((conn, _)) = self.slots.oldest_idle() else { break };
            self.begin_close(now, conn, CloseReason::Resized, out);
        }
        self.open_what_is_needed(now, out);
    }

    /// Every connection of now is replaced: idle ones at once, others when they come to rest.
    pub fn renew(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.slots.outdate_all();
        self.close_idle(now, CloseReason::Outdated, out);
        self.open_what_is_needed(now, out);
    }

    /// When [`Pool::on_timer`] is due next; it may find nothing to do then.
    #[must_use]
    pub fn next_deadline(&self) -> Tick {
        let idle = match (self.settings.idle_timeout, self.slots.oldest_idle()) {
            (Duration::ZERO, _) | (_, None) => Tick::NEVER,
            (_, Some(_)) if !self.may_shrink() => Tick::NEVER,
            (timeout, Some((_, since))) => since.plus(timeout),
        };
        // While a login is under way its outcome comes first.
        let retries = self.failures > 0 && self.slots.count(State::Opening) == 0 && self.needed() > 0;
        let retry = if retries { self.retry_at } else { Tick::NEVER };
        self.waiters.first_deadline().min(idle).min(self.slots.first_expiry()).min(retry)
    }

    /// Does what is due: time-outs of waiters and idle connections, lifetimes, the next try of a login.
    pub fn on_timer(&mut self, now: Tick, out: &mut Vec<Action>) {
        while self.waiters.first_deadline() <= now {
            let Some(left) = self.waiters.pop() else { break };
            self.counts.waits_timed_out += 1;
            self.note_wait(now, left.since);
            out.push(Action::Refuse { holder: left.holder, why: Refusal::TimedOut });
        }
        if self.settings.idle_timeout > Duration::ZERO {
            while let Some((conn, since)) = self.slots.oldest_idle() {
                if since.plus(self.settings.idle_timeout) > now || !self.may_shrink() {
                    break;
                }
                self.begin_close(now, conn, CloseReason::IdleTimeout, out);
            }
        }
        if self.slots.first_expiry() <= now {
            for (conn, reason) in self.slots.expired_idle(now) {
                self.begin_close(now, conn, reason, out);
            }
        }
        self.open_what_is_needed(now, out);
    }

    /// The state of a connection; `None` once it is gone.
    #[must_use]
    pub fn state(&self, conn: ConnId) -> Option<State> {
        self.slots.state(conn)
    }

    /// Connections in any state.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.slots.total()
    }

    /// Requests queued.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiters.len()
    }

    /// Whose request is the oldest in the queue.
    #[must_use]
    pub fn oldest_waiter(&self) -> Option<u64> {
        self.waiters.oldest_holder()
    }

    /// Since when the oldest waiter waits.
    #[must_use]
    pub fn oldest_wait(&self) -> Option<Tick> {
        self.waiters.oldest()
    }

    /// A copy of the numbers.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        PoolFigures {
            settings: self.settings.clone(),
            by_state: self.slots.counts(),
            waiting: self.waiters.len(),
            marks: self.marks,
            counts: self.counts,
        }
    }

    /// Starts the high-water marks anew from the present values.
    pub fn reset_marks(&mut self) {
        self.marks = Marks {
            in_use: self.slots.count(State::InUse),
            waiting: self.waiters.len(),
            open: self.slots.total(),
            wait: 0,
        };
    }

    /// A connection came to rest: it goes, serves the oldest waiter, or becomes idle.
    fn settle(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if let Some(reason) = self.unwanted(now, conn) {
            self.begin_close(now, conn, reason, out);
            self.open_what_is_needed(now, out);
            return;
        }
        if let Some(left) = self.waiters.pop() {
            let waited = self.note_wait(now, left.since);
            self.counts.waits_granted += 1;
            self.lease(now, conn);
            out.push(Action::Grant { holder: left.holder, conn, waited });
            return;
        }
        self.slots.change(now, conn, State::Idle);
    }

    /// Why a connection that came to rest is not kept.
    fn unwanted(&self, now: Tick, conn: ConnId) -> Option<CloseReason> {
        let alive = self.slots.total() - self.slots.count(State::Closing);
        if self.draining {
            Some(CloseReason::Shutdown)
        } else if self.suspended {
            Some(CloseReason::Suspended)
        } else if alive > self.settings.max_size {
            Some(CloseReason::Resized)
        } else if let Some(reason) = self.slots.must_go(now, conn) {
            Some(reason)
        } else if self.waiters.len() == 0
            && self.slots.count(State::Idle) >= self.settings.max_idle
            && alive > self.settings.min_size
        {
            Some(CloseReason::MaxIdle)
        } else {
            None
        }
    }

    fn begin_life(&mut self, now: Tick, conn: ConnId) {
        if self.settings.max_lifetime > Duration::ZERO {
            let jitter = self.draw(15);
            let lifetime = self.settings.max_lifetime.mul_f64(1.0 - jitter / 100.0);
            self.slots.expire_at(conn, now.plus(lifetime));
        }
    }

    fn lease(&mut self, now: Tick, conn: ConnId) {
        self.slots.change(now, conn, State::InUse);
        self.marks.in_use = self.marks.in_use.max(self.slots.count(State::InUse));
    }

    fn take_trusted(&self, now: Tick) -> Option<ConnId> {
        if !self.has_trusted_idle(now) {
            return None;
        }
        self.slots.newest_idle()
    }

    fn is_trusted(&self, now: Tick, conn: ConnId) -> bool {
        self.trust_window == Duration::MAX || now.since(self.slots.idle_since(conn)) <= self.trust_window
    }

    /// As many idle connections are tested as there are waiters; who passes goes to the oldest of them.
    fn check_for_waiters(&mut self, now: Tick, out: &mut Vec<Action>) {
        while !self.suspended && self.slots.count(State::Checking) < self.waiters.len() {
            let Some(conn) = self.slots.newest_idle() else { return };
            self.slots.change(now, conn, State::Checking);
            out.push(Action::Check(conn));
        }
    }

    fn begin_close(&mut self, now: Tick, conn: ConnId, reason: CloseReason, out: &mut Vec<Action>) {
        self.counts.closed[reason as usize] += 1;
        self.slots.change(now, conn, State::Closing);
        out.push(Action::Close(conn, reason));
    }

    fn close_idle(&mut self, now: Tick, reason: CloseReason, out: &mut Vec<Action>) {
        while let Some(conn) = self.slots.newest_idle() {
            self.begin_close(now, conn, reason, out);
        }
    }

    fn is_live(&self, conn: ConnId) -> bool {
        self.slots.state(conn).is_some_and(|state| state != State::Closing)
    }

    /// Whether an idle connection may be closed for want of use.
    fn may_shrink(&self) -> bool {
        let alive = self.slots.total() - self.slots.count(State::Closing);
        alive > self.settings.min_size && self.slots.count(State::Idle) > self.settings.min_idle
    }

    /// Cheap guard of the common path: an acquire served from idle opens something only below the headroom.
    fn needs_headroom(&self) -> bool {
        self.warming || self.slots.count(State::Idle) < self.settings.min_idle
    }

    /// How many logins to start, login limits aside:
    /// min(in use + waiters + min_idle, max_size) − those that serve or soon will, within `max_size` of all states.
    fn needed(&self) -> u32 {
        if !self.in_service || self.draining || self.suspended {
            return 0;
        }
        let count = |state| self.slots.count(state);
        let demand =
            count(State::InUse).saturating_add(self.waiters.len()).saturating_add(self.settings.min_idle);
        let demand = if self.warming { demand.max(self.settings.initial_size) } else { demand };
        let serving = count(State::InUse)
            + count(State::Idle)
            + count(State::Opening)
            + count(State::Checking)
            + count(State::Resetting);
        let room = self.settings.max_size.saturating_sub(self.slots.total());
        demand.min(self.settings.max_size).saturating_sub(serving).min(room)
    }

    /// Whenever something changed for those who wait: idle connections are tested, further ones opened.
    fn open_what_is_needed(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.check_for_waiters(now, out);
        let needed = self.needed();
        if self.warming && self.slots.total() >= self.settings.initial_size.min(self.settings.max_size) {
            self.warming = false;
        }
        if needed == 0 || now < self.retry_at {
            return;
        }
        // After a failure one login probes; the others follow when it succeeds.
        let logins = if self.failures > 0 { 1 } else { self.settings.max_logins };
        for _ in 0..needed.min(logins.saturating_sub(self.slots.count(State::Opening))) {
            self.counts.opened += 1;
            let conn = self.slots.insert(now);
            self.marks.open = self.marks.open.max(self.slots.total());
            out.push(Action::Open(conn));
        }
    }

    fn note_wait(&mut self, now: Tick, since: Tick) -> u64 {
        let waited = now.0.saturating_sub(since.0);
        self.marks.wait = self.marks.wait.max(waited);
        waited
    }

    /// A number from 0 to `below`, from the seed (xorshift64).
    fn draw(&mut self, below: u32) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are plenty for jitter")]
        let unit = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        unit * f64::from(below)
    }
}
