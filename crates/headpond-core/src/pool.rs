//! The pool: who gets a connection, and what becomes of one that is given back.

use std::time::Duration;

use crate::action::{Acquired, Action, Refusal, Request};
use crate::alarms::{Alarm, Alarms, Counters};
use crate::figures::Counts;
use crate::logins::Logins;
use crate::marks::Gauge;
use crate::slots::Slots;
use crate::tester::Tester;
use crate::waiters::{Left, Waiters};
use crate::{CloseReason, ConnId, PoolSettings, State, Tick, WaiterId};

/// So many leases must have ended before their mean is used to foretell a wait.
const HOLDS_KNOWN: u64 = 1000;

/// The mean of leases is that of about so many: each weighs one in 256, and less with each that follows.
const HOLDS_OF_LATE: u64 = 256;

/// The policy machine of one pool. See the crate's documentation for its contract.
#[derive(Debug)]
pub struct Pool {
    pub(crate) settings: PoolSettings,
    pub(crate) slots: Slots,
    pub(crate) waiters: Waiters,
    pub(crate) gauge: Gauge,
    pub(crate) counts: Counts,
    pub(crate) logins: Logins,
    pub(crate) tester: Tester,
    pub(crate) alarms: Alarms,
    pub(crate) random: u64,
    /// Floors apply from the start, or with `initial_size` 0 from the first request on.
    pub(crate) in_service: bool,
    /// Connections still owed of `initial_size`.
    pub(crate) warming: bool,
    pub(crate) suspended: bool,
    /// The server takes no writes, though those who use the pool expect it to.
    pub(crate) fenced: bool,
    pub(crate) draining: bool,
    /// The budget had no connection left for the last login: none is tried until something of it is given back.
    pub(crate) denied: bool,
    /// Why the connections of an earlier epoch go.
    pub(crate) outdated_by: CloseReason,
    /// The mean of the leases that ended of late, times [`HOLDS_OF_LATE`], in nanoseconds.
    holds_of_late: u64,
    /// When the unneeded are halved next, and how few there were at once since the last time.
    pub(crate) shrink_at: Tick,
    pub(crate) unneeded_min: u32,
    /// Which connection of this epoch was last told that the server goes, and when.
    pub(crate) farewell: Option<(ConnId, Tick)>,
}

impl Pool {
    /// An empty pool; nothing is opened before [`Pool::start`] or the first request. `seed` feeds the jitter.
    #[must_use]
    pub fn new(settings: PoolSettings, seed: u64) -> Self {
        Self {
            settings,
            slots: Slots::new(),
            waiters: Waiters::new(),
            gauge: Gauge::new(),
            counts: Counts::default(),
            logins: Logins::new(),
            tester: Tester::default(),
            alarms: Alarms::new(),
            random: seed,
            in_service: false,
            warming: false,
            suspended: false,
            fenced: false,
            draining: false,
            denied: false,
            outdated_by: CloseReason::Outdated,
            holds_of_late: 0,
            shrink_at: Tick(0),
            unneeded_min: 0,
            farewell: None,
        }
    }

    /// Opens `initial_size` connections; with 0, does nothing.
    pub fn start(&mut self, now: Tick, out: &mut Vec<Action>) {
        self.begin(now);
        if self.settings.initial_size > 0 {
            self.in_service = true;
            self.warming = true;
            self.open_what_is_needed(now, out);
        }
    }

    /// Somebody wants a connection.
    pub fn acquire(&mut self, now: Tick, request: Request, out: &mut Vec<Action>) -> Acquired {
        self.counts.acquires += 1;
        if !self.in_service {
            self.in_service = true;
            self.begin(now);
        }
        if self.alarms.is_due(now) {
            self.judge_rates(now, out);
        }
        if self.draining {
            return self.refuse(Refusal::Draining);
        }
        if self.has_trusted_idle(now)
            && let Some(conn) = self.preferred(now, &request).or_else(|| self.next_idle())
        {
            self.lease(now, conn);
            if !self.is_content() {
                self.open_what_is_needed(now, out);
            }
            return Acquired::Granted(conn);
        }
        self.queue(now, request, out)
    }

    /// Kept apart, so that the common path pays nothing for it.
    #[inline(never)]
    fn queue(&mut self, now: Tick, request: Request, out: &mut Vec<Action>) -> Acquired {
        if let Some(refusal) = self.refuses(now, &request) {
            return self.refuse(refusal);
        }
        self.counts.waits += 1;
        let timeout = match self.settings.acquire_timeout {
            Duration::ZERO => Tick::NEVER,
            timeout => now.plus(timeout),
        };
        let deadline = request.deadline.map_or(timeout, |deadline| deadline.min(timeout));
        let waiter = self.waiters.push(now, deadline, request.application, request.holder);
        self.note(now);
        self.advance(now, out);
        Acquired::Queued(waiter)
    }

    /// Whether a request made now would be served at once.
    #[must_use]
    pub fn has_trusted_idle(&self, now: Tick) -> bool {
        !self.is_halted()
            && (self.waiters.len() == 0 || planted!(NewcomerOvertakes))
            && self.next_idle().is_some_and(|conn| self.is_trusted(now, conn))
    }

    /// The idle connection that serves next.
    #[inline]
    pub(crate) fn next_idle(&self) -> Option<ConnId> {
        if self.settings.round_robin {
            return self.slots.oldest_idle().map(|(conn, _)| conn);
        }
        self.slots.newest_idle()
    }

    /// The connection that a request prefers, if it can serve now.
    #[inline]
    fn preferred(&self, now: Tick, request: &Request) -> Option<ConnId> {
        let fit = |conn: &ConnId| self.slots.state(*conn) == Some(State::Idle) && self.is_trusted(now, *conn);
        request.prefer.filter(fit)
    }

    /// How long a request of `application` would wait at the least, in nanoseconds; `None` while too little is known.
    ///
    /// Nothing is sure but what is counted on here, so that only who is bound to miss its deadline is refused: those
    /// before it are of its own application (others may come after it), the pool grows to all the connections there
    /// may be, all come free at once, and from then on each lease lasts as long as the mean of late.
    #[must_use]
    pub fn predicted_wait(&self, application: u32) -> Option<u64> {
        if self.counts.holds < HOLDS_KNOWN {
            return None;
        }
        let rounds = self.waiters.len_of(application) / self.effective_max().max(1);
        Some((self.holds_of_late / HOLDS_OF_LATE).saturating_mul(u64::from(rounds)))
    }

    /// A waiter leaves the queue by itself. Harmless if it has already left.
    pub fn withdraw(&mut self, now: Tick, waiter: WaiterId) {
        if let Some(left) = self.waiters.remove(waiter) {
            self.counts.waits_withdrawn += u64::from(!planted!(WithdrawalUncounted));
            self.wait_ended(now, left.since);
        }
    }

    /// The lease ended and the connection can serve anybody at once.
    pub fn release(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) == Some(State::InUse) {
            self.lease_ended(now, conn, out);
            self.slots.prove(now, conn);
            self.settle(now, conn, out);
        }
    }

    /// The connection cannot be handed out for now: `state` is resetting, recovering or being cancelled.
    pub fn retire(&mut self, now: Tick, conn: ConnId, state: State, out: &mut Vec<Action>) {
        let fit = |state| matches!(state, State::Resetting | State::Recovering | State::BeingCancelled);
        debug_assert!(fit(state));
        if self.slots.state(conn).is_some_and(|from| from == State::InUse || fit(from)) {
            self.lease_ended(now, conn, out);
            self.slots.change(now, conn, state);
            self.note(now);
            self.advance(now, out);
        }
    }

    /// A connection that was checked, reset, drained or cancelled is fit again.
    pub fn ready(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        match self.slots.state(conn) {
            Some(State::Checking) => self.check_passed(now, conn, out),
            Some(State::Resetting | State::Recovering | State::BeingCancelled) => {
                self.slots.prove(now, conn);
                self.settle(now, conn, out);
            }
            _ => {}
        }
    }

    /// A connection must go, or is already lost: from now on it is closing.
    pub fn close(&mut self, now: Tick, conn: ConnId, reason: CloseReason, out: &mut Vec<Action>) {
        if self.is_live(conn) {
            self.lease_ended(now, conn, out);
            self.check_abandoned(now, conn, reason, out);
            self.begin_close(now, conn, reason, out);
            self.advance(now, out);
        }
    }

    /// The server has let a closing connection go.
    pub fn closed(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) == Some(State::Closing) {
            self.slots.remove(conn);
            self.note(now);
            self.advance(now, out);
        }
    }

    /// How many grants an application gets for each one of an application of weight 1 (the default).
    pub fn set_weight(&mut self, application: u32, weight: u32) {
        self.waiters.set_weight(application, weight);
    }

    /// A connection came to rest: it goes, serves whose turn it is, or becomes idle.
    pub(crate) fn settle(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if let Some(reason) = self.unwanted(now, conn) {
            self.begin_close(now, conn, reason, out);
            self.advance(now, out);
            return;
        }
        if self.tester.asks_next && self.slots.state(conn) != Some(State::Checking) {
            self.ask(now, conn, out);
            return;
        }
        if self.waiters.len() > 0
            && let Some(left) = self.waiters.pop()
        {
            self.serve(now, conn);
            self.granted(now, left, conn, out);
            return;
        }
        self.slots.change(now, conn, State::Idle);
        self.note(now);
        if self.slots.is_expired(now, conn) {
            self.slots.retire_expired(now);
        }
        if self.slots.retiring() > 0 {
            self.advance(now, out);
        }
    }

    /// Whatever has changed: who waits gets an idle connection, or is told that there will be none, those too old go
    /// if they can be spared, and what is needed is opened.
    pub(crate) fn advance(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.slots.alive() == 0
            && let Some(class) = self.logins.hopeless(now)
        {
            self.refuse_all(now, Refusal::Database(class), out);
        }
        self.serve_waiters(now, out);
        self.close_retired(now, out);
        self.make_place_for_fresh(now, out);
        self.open_what_is_needed(now, out);
    }

    /// Why a connection that came to rest is not kept.
    pub(crate) fn unwanted(&self, now: Tick, conn: ConnId) -> Option<CloseReason> {
        let alive = self.slots.alive();
        if self.draining {
            Some(CloseReason::Shutdown)
        } else if self.suspended && !planted!(GrantsWhileSuspended) {
            Some(CloseReason::Suspended)
        } else if self.fenced {
            Some(CloseReason::Fenced)
        } else if self.slots.is_outdated(conn) {
            Some(self.outdated_by)
        } else if alive > self.effective_max() {
            Some(CloseReason::Resized)
        } else if self.slots.is_expired(now, conn) && (self.room() == 0 || self.denied) {
            // With room, it serves until its replacement is there.
            Some(CloseReason::MaxLifetime)
        } else if self.was_used(conn)
            && self.waiters.len() == 0
            && self.slots.count(State::Idle) >= self.settings.max_idle.max(self.settings.min_idle)
            && (self.slots.established() > self.settings.min_size || planted!(MaxIdleBelowMinSize))
        {
            Some(CloseReason::MaxIdle)
        } else {
            None
        }
    }

    /// The most connections there may be: the setting, or what the server allows if that is less.
    #[must_use]
    pub fn effective_max(&self) -> u32 {
        self.settings.max_size.min(self.logins.ceiling())
    }

    pub(crate) fn begin_close(
        &mut self,
        now: Tick,
        conn: ConnId,
        reason: CloseReason,
        out: &mut Vec<Action>,
    ) {
        self.counts.closed[reason as usize] += 1;
        self.tester.forget(conn);
        self.slots.change(now, conn, State::Closing);
        self.note(now);
        out.push(Action::Close(conn, reason));
    }

    pub(crate) fn refuse_all(&mut self, now: Tick, why: Refusal, out: &mut Vec<Action>) {
        while let Some(left) = self.waiters.pop_oldest() {
            self.counts.waits_failed += 1;
            let waited = self.wait_ended(now, left.since);
            out.push(Action::Refuse { holder: left.holder, why, waited });
        }
    }

    pub(crate) fn wait_ended(&mut self, now: Tick, since: Tick) -> u64 {
        let waited = now.0.saturating_sub(since.0);
        self.note(now);
        self.gauge.note_wait(waited);
        waited
    }

    /// The numbers of now, for the marks.
    #[inline]
    pub(crate) fn note(&mut self, now: Tick) {
        if self.slots.count(State::Idle) < self.unneeded_min {
            self.note_need();
        }
        self.gauge.note(now, self.slots.count(State::InUse), self.waiters.len(), self.slots.total());
    }

    /// So many connections that were lent were in use at some time, at most at once.
    pub(crate) fn note_used(&mut self, now: Tick, lent: u32) {
        self.unneeded_min = self.unneeded_min.min(self.unneeded().saturating_sub(lent));
        let in_use = self.slots.count(State::InUse);
        if lent > 0 {
            self.gauge.note(now, in_use + lent, self.waiters.len(), self.slots.total());
            self.gauge.note(now, in_use, self.waiters.len(), self.slots.total());
        }
    }

    #[cold]
    fn note_need(&mut self) {
        self.unneeded_min = self.unneeded_min.min(self.unneeded());
    }

    pub(crate) fn raise(&mut self, alarm: Alarm, out: &mut Vec<Action>) {
        self.set_alarm(alarm, true, None, out);
    }

    pub(crate) fn clear(&mut self, alarm: Alarm, out: &mut Vec<Action>) {
        self.set_alarm(alarm, false, None, out);
    }

    fn set_alarm(&mut self, alarm: Alarm, raised: bool, cause: Option<CloseReason>, out: &mut Vec<Action>) {
        if self.alarms.set(alarm, raised, cause) {
            out.push(Action::Alarm { alarm, raised, cause });
        }
    }

    /// A number from 0 to 1, from the seed (splitmix64: good from the first on, whatever the seed).
    pub(crate) fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are plenty for jitter")]
        let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        unit
    }

    fn begin(&mut self, now: Tick) {
        self.gauge.begin(now);
        self.begin_interval(now);
    }

    /// Why a request is not even queued.
    fn refuses(&self, now: Tick, request: &Request) -> Option<Refusal> {
        if self.waiters.len() >= self.settings.max_waiters && !request.exempt {
            return Some(Refusal::QueueFull);
        }
        if self.slots.alive() == 0
            && let Some(class) = self.logins.hopeless(now)
        {
            return Some(Refusal::Database(class));
        }
        let deadline = request.deadline?;
        let turn = now.plus(Duration::from_nanos(self.predicted_wait(request.application)?));
        (turn > deadline).then_some(Refusal::WouldMiss)
    }

    fn refuse(&mut self, why: Refusal) -> Acquired {
        self.counts.refused += 1;
        Acquired::Refused(why)
    }

    /// A wait ends well.
    pub(crate) fn grant(&mut self, now: Tick, left: Left, conn: ConnId, out: &mut Vec<Action>) {
        self.lease(now, conn);
        self.granted(now, left, conn, out);
    }

    #[inline]
    fn granted(&mut self, now: Tick, left: Left, conn: ConnId, out: &mut Vec<Action>) {
        let waited = now.0.saturating_sub(left.since.0);
        self.gauge.note_wait(waited);
        self.counts.waits_granted += 1;
        out.push(Action::Grant { holder: left.holder, conn, waited });
    }

    #[inline]
    fn lease(&mut self, now: Tick, conn: ConnId) {
        self.slots.change(now, conn, State::InUse);
        self.note(now);
    }

    /// A connection that came to rest serves who waited; from one holder to the next it never changes its state.
    #[inline]
    fn serve(&mut self, now: Tick, conn: ConnId) {
        if self.slots.state(conn) == Some(State::InUse) {
            self.slots.begin_lease(now, conn);
            self.gauge.note_fewer_waiting(now, self.waiters.len());
        } else {
            self.lease(now, conn);
        }
    }

    /// Takes note of a lease that ends, if there is one.
    pub(crate) fn lease_ended(&mut self, now: Tick, conn: ConnId, out: &mut Vec<Action>) {
        if self.slots.state(conn) != Some(State::InUse) {
            return;
        }
        let (reported, since) = self.slots.lease(conn);
        self.counts.holds += 1;
        let hold = now.0.saturating_sub(since.0);
        self.counts.hold_time += hold;
        self.holds_of_late = (self.holds_of_late - self.holds_of_late / HOLDS_OF_LATE).saturating_add(hold);
        if reported && !planted!(EndOfLeakUntold) {
            out.push(Action::Leak { conn, since, ended: true });
        }
    }

    /// The mean follows leases that lasted so long together.
    pub(crate) fn note_holds(&mut self, holds: u64, time: u64) {
        let weight = holds.min(HOLDS_OF_LATE);
        let late = self.holds_of_late - self.holds_of_late / HOLDS_OF_LATE * weight;
        self.holds_of_late = late.saturating_add(time.checked_div(holds).unwrap_or(0) * weight);
    }

    pub(crate) fn is_trusted(&self, now: Tick, conn: ConnId) -> bool {
        !self.tester.is_on(&self.settings)
            || planted!(TrustsForEver)
            || self.slots.proven(conn).plus(self.settings.trust_window) >= now
    }

    /// Whether a connection that comes to rest was given back, rather than opened or tested.
    fn was_used(&self, conn: ConnId) -> bool {
        !matches!(self.slots.state(conn), Some(State::Opening | State::Checking))
    }

    fn is_live(&self, conn: ConnId) -> bool {
        self.slots.state(conn).is_some_and(|state| state != State::Closing)
    }

    pub(crate) fn judge_rates(&mut self, now: Tick, out: &mut Vec<Action>) {
        let counters = Counters {
            acquires: self.counts.acquires,
            opened: self.counts.opened - self.counts.logins_failed,
            closed: self.counts.closed,
            open: self.slots.alive(),
        };
        for (alarm, raised, cause) in self.alarms.judge(now, counters) {
            self.set_alarm(alarm, raised, cause.filter(|_| raised), out);
        }
    }
}
