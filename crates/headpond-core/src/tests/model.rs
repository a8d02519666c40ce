//! A simple model of a pool beside the machine: what the actions said, recounted after every call.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::fair::Fair;
use crate::{
    Acquired, Action, Alarm, CloseReason, ConnId, FailureClass, Pool, PoolSettings, Refusal, Request, State,
    Tick, WaiterId,
};

/// After a failed authentication nobody logs in for this long.
const LOCKOUT: Duration = Duration::from_secs(30);

/// What the model knows of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    pub(crate) state: State,
    /// It failed the test and waits for the verdict.
    pub(crate) judged: bool,
    /// It was given back, not opened or tested, when it last came to rest.
    used: bool,
    leaked: bool,
    /// Its lease is to be taken back.
    pub(crate) reclaimed: bool,
    renewals: u32,
    born: Tick,
    lifetime: Duration,
    proven: Tick,
    /// When it was last given back, or its lease began.
    since: Tick,
}

/// A request as the model queues it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: WaiterId,
    holder: u64,
    since: Tick,
    deadline: Tick,
}

/// The machine and its model, always called together.
pub(crate) struct Model {
    pub(crate) pool: Pool,
    pub(crate) now: Tick,
    pub(crate) settings: PoolSettings,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    pub(crate) queues: BTreeMap<u32, VecDeque<Waiting>>,
    fair: Fair,
    pub(crate) suspended: bool,
    pub(crate) fenced: bool,
    pub(crate) draining: bool,
    /// Whether the budget has nothing left.
    pub(crate) denies: bool,
    denied: bool,
    renewals: u32,
    holders: u64,
    /// The connection that the next request prefers.
    pub(crate) prefers: Option<ConnId>,
    alarms: [bool; Alarm::ALL.len()],
    pub(crate) alarms_raised: [u64; Alarm::ALL.len()],
    locked_until: Tick,
    /// Whether the present credentials are known to be right.
    known: bool,
    last_login: Option<Tick>,
    begun: Option<Tick>,
    /// What the last call made the machine say.
    pub(crate) said: Vec<Action>,
}

impl Model {
    pub(crate) fn new(settings: PoolSettings, now: Tick, seed: u64) -> Self {
        Self {
            pool: Pool::new(settings.clone(), seed),
            now,
            settings,
            conns: BTreeMap::new(),
            queues: BTreeMap::new(),
            fair: Fair::default(),
            suspended: false,
            fenced: false,
            draining: false,
            denies: false,
            denied: false,
            renewals: 0,
            holders: 0,
            prefers: None,
            alarms: [false; Alarm::ALL.len()],
            alarms_raised: [0; Alarm::ALL.len()],
            locked_until: Tick(0),
            known: false,
            last_login: None,
            begun: None,
            said: Vec::new(),
        }
    }

    pub(crate) fn waiting(&self) -> u32 {
        size(self.queues.values().map(VecDeque::len).sum())
    }

    pub(crate) fn count(&self, state: State) -> u32 {
        size(self.conns.values().filter(|conn| conn.state == state).count())
    }

    pub(crate) fn start(&mut self) {
        self.begun = Some(self.now);
        self.call(None, |pool, now, out| pool.start(now, out));
    }

    pub(crate) fn acquire(&mut self, application: u32, deadline: Option<Tick>) -> Acquired {
        self.holders += 1;
        self.begun = self.begun.or(Some(self.now));
        let request = Request {
            holder: self.holders,
            application,
            deadline,
            exempt: false,
            prefer: self.prefers.take(),
        };
        let queued = self.waiting();
        self.said.clear();
        let acquired = self.pool.acquire(self.now, request, &mut self.said);
        match acquired {
            Acquired::Granted(id) => {
                assert_eq!(queued, 0, "a newcomer overtook");
                assert_eq!(self.conns[&id].state, State::Idle);
                let idle = |id: &ConnId| self.conns.get(id).is_some_and(|conn| conn.state == State::Idle);
                if let Some(preferred) = request.prefer.filter(idle) {
                    assert!(
                        id == preferred || self.pool.tester.is_on(&self.settings),
                        "another one was preferred"
                    );
                }
                self.begin_lease(id);
            }
            Acquired::Queued(id) => {
                let timeout = match self.settings.acquire_timeout {
                    Duration::ZERO => Tick::NEVER,
                    timeout => self.now.plus(timeout),
                };
                let deadline = deadline.map_or(timeout, |deadline| deadline.min(timeout));
                let waiting = Waiting { id, holder: self.holders, since: self.now, deadline };
                self.queues.entry(application).or_default().push_back(waiting);
                assert!(self.waiting() <= self.settings.max_waiters);
            }
            Acquired::Refused(Refusal::Draining) => assert!(self.draining),
            Acquired::Refused(Refusal::QueueFull) => assert!(queued >= self.settings.max_waiters),
            Acquired::Refused(Refusal::WouldMiss) => {
                let own = self.queues.get(&application).map_or(0, VecDeque::len);
                assert!(deadline.is_some() && size(own) >= self.pool.effective_max(), "nothing is sure");
            }
            Acquired::Refused(Refusal::Database(class)) => {
                assert!(class.is_terminal() || self.settings.login_attempts > 0);
            }
            Acquired::Refused(Refusal::TimedOut) => panic!("refused before its time"),
        }
        self.follow(None);
        acquired
    }

    pub(crate) fn set_weight(&mut self, application: u32, weight: u32) {
        self.fair.set_weight(application, weight);
        self.pool.set_weight(application, weight);
    }

    pub(crate) fn withdraw(&mut self, waiter: WaiterId) {
        self.queues.values_mut().for_each(|queue| queue.retain(|waiting| waiting.id != waiter));
        self.call(None, |pool, now, _| pool.withdraw(now, waiter));
    }

    pub(crate) fn release(&mut self, id: ConnId) {
        self.lease_ends(id);
        self.prove(id, State::InUse);
        let held = self.conns.get(&id).is_some_and(|conn| conn.state == State::InUse);
        self.call(held.then_some(id), |pool, now, out| pool.release(now, id, out));
    }

    pub(crate) fn retire(&mut self, id: ConnId, state: State) {
        let fit = [State::InUse, State::Resetting, State::Recovering, State::BeingCancelled];
        self.lease_ends(id);
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| fit.contains(&conn.state)) {
            conn.state = state;
        }
        self.call(None, |pool, now, out| pool.retire(now, id, state, out));
    }

    pub(crate) fn ready(&mut self, id: ConnId) {
        let ready = [State::Checking, State::Resetting, State::Recovering, State::BeingCancelled];
        let loose = self
            .conns
            .get(&id)
            .filter(|conn| ready.contains(&conn.state) && !conn.judged)
            .map(|conn| conn.state);
        if let Some(state) = loose {
            self.prove(id, state);
        }
        self.call(loose.map(|_| id), |pool, now, out| pool.ready(now, id, out));
    }

    pub(crate) fn check_failed(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.state == State::Checking) {
            conn.judged = true;
            conn.used = false;
        }
        self.call(None, |pool, now, out| pool.check_failed(now, id, out));
    }

    pub(crate) fn opened(&mut self, id: ConnId) {
        let opening = self.conns.get_mut(&id).filter(|conn| conn.state == State::Opening);
        let loose = opening.is_some();
        if let Some(conn) = opening {
            (conn.born, conn.proven, conn.used) = (self.now, self.now, false);
            conn.lifetime = self.settings.max_lifetime;
            if conn.renewals == self.renewals {
                (self.locked_until, self.known) = (Tick(0), true);
            }
        }
        self.call(loose.then_some(id), |pool, now, out| pool.opened(now, id, out));
    }

    pub(crate) fn open_failed(&mut self, id: ConnId, class: FailureClass) {
        let opening = self.conns.get(&id).filter(|conn| conn.state == State::Opening);
        let (opening, of_now) =
            (opening.is_some(), opening.is_some_and(|conn| conn.renewals == self.renewals));
        let refused = class == FailureClass::Authentication;
        if opening && of_now && refused {
            (self.locked_until, self.known) = (self.now.plus(LOCKOUT), false);
        }
        self.call(None, |pool, now, out| pool.open_failed(now, id, class, out));
        assert!(!opening || self.conns[&id].state == State::Closing, "a failed login goes");
    }

    pub(crate) fn reopened(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.state == State::InUse) {
            (conn.born, conn.proven, conn.renewals) = (self.now, self.now, self.renewals);
            conn.lifetime = self.settings.max_lifetime;
        }
        self.call(None, |pool, now, _| pool.reopened(now, id, CloseReason::Repurposed));
    }

    pub(crate) fn close(&mut self, id: ConnId, reason: CloseReason) {
        self.lease_ends(id);
        self.call(None, |pool, now, out| pool.close(now, id, reason, out));
        assert!(self.conns.get(&id).is_none_or(|conn| conn.state == State::Closing));
    }

    pub(crate) fn closed(&mut self, id: ConnId) {
        if self.conns.get(&id).is_some_and(|conn| conn.state == State::Closing) {
            self.conns.remove(&id);
        }
        self.call(None, |pool, now, out| pool.closed(now, id, out));
    }

    pub(crate) fn suspend(&mut self) {
        self.suspended = true;
        self.call(None, |pool, now, out| pool.suspend(now, out));
        assert_eq!(self.count(State::Idle), 0);
    }

    pub(crate) fn resume(&mut self) {
        self.suspended = false;
        self.call(None, |pool, now, out| pool.resume(now, out));
    }

    pub(crate) fn fence(&mut self) {
        self.fenced = true;
        self.outdate();
        self.call(None, |pool, now, out| pool.fence(now, out));
        assert_eq!(self.count(State::Idle), 0);
    }

    pub(crate) fn unfence(&mut self) {
        self.fenced = false;
        self.call(None, |pool, now, out| pool.unfence(now, out));
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.call(None, |pool, now, out| pool.drain(now, out));
        assert_eq!((self.waiting(), self.count(State::Idle)), (0, 0));
    }

    pub(crate) fn configure(&mut self, settings: PoolSettings) {
        self.settings = settings.clone();
        self.call(None, |pool, now, out| pool.configure(now, settings, out));
    }

    pub(crate) fn credentials_changed(&mut self) {
        self.locked_until = Tick(0);
        self.call(None, |pool, now, out| pool.credentials_changed(now, out));
    }

    pub(crate) fn renew(&mut self) {
        (self.locked_until, self.known) = (Tick(0), false);
        self.outdate();
        self.call(None, |pool, now, out| pool.renew(now, out));
        assert_eq!(self.idle_of_old(), 0);
    }

    pub(crate) fn server_dies(&mut self) {
        self.outdate();
        self.call(None, |pool, now, out| pool.server_gone(now, out));
        assert_eq!(self.idle_of_old(), 0);
    }

    pub(crate) fn budget_freed(&mut self) {
        self.denied = false;
        self.call(None, |pool, now, out| pool.budget_freed(now, out));
    }

    pub(crate) fn spare(&mut self) {
        if self.pool.can_spare() {
            self.call(None, |pool, now, out| pool.spare(now, out));
        }
    }

    /// Time goes on to `now`, and what is due is done.
    pub(crate) fn on_timer(&mut self, now: Tick) {
        self.now = now;
        let denied = self.denied;
        self.call(None, |pool, now, out| pool.on_timer(now, out));
        if self.denied && !denied {
            // Without the login it wanted, there may be more to do.
            self.call(None, |pool, now, out| pool.on_timer(now, out));
        }
        let next = self.pool.next_deadline(now);
        assert!(next > now, "on_timer left something to do");
        let overdue = self.queues.values().flatten().any(|waiting| waiting.deadline <= now);
        assert!(!overdue, "a waiter is overdue");
        let first = self.queues.values().flatten().map(|waiting| waiting.deadline).min();
        assert!(first.is_none_or(|first| next <= first), "a waiter's deadline is forgotten");
        self.conns.values().for_each(|conn| self.is_upkept(conn));
    }

    /// Nothing that is due was left undone.
    fn is_upkept(&self, conn: &Conn) {
        let due = |since: Tick, after: Duration| !after.is_zero() && self.now >= since.plus(after);
        let rule = &self.settings;
        match conn.state {
            State::InUse => assert!(conn.leaked || !due(conn.since, rule.leak_after), "a leak is not told"),
            State::Idle => {
                assert!(!due(conn.since, rule.idle_timeout) || !self.above_floors(), "idle for too long");
                let tests = rule.check && !self.alarms[Alarm::CheckSuspect as usize];
                assert!(!tests || !due(conn.proven, rule.check_interval), "untested for too long");
            }
            _ => {}
        }
    }

    /// Whether an idle connection can be closed for want of use.
    fn above_floors(&self) -> bool {
        let absent = [State::Opening, State::Closing];
        let established = self.conns.values().filter(|conn| !absent.contains(&conn.state)).count();
        self.count(State::Idle) > self.settings.min_idle && size(established) > self.settings.min_size
    }

    /// Calls the machine, and follows what it did. `loose` came to rest: it may become idle without a word.
    fn call(&mut self, loose: Option<ConnId>, act: impl FnOnce(&mut Pool, Tick, &mut Vec<Action>)) {
        self.said.clear();
        act(&mut self.pool, self.now, &mut self.said);
        self.follow(loose);
    }

    fn follow(&mut self, mut loose: Option<ConnId>) {
        let mut denials = Vec::new();
        let said = std::mem::take(&mut self.said);
        for (place, action) in said.iter().enumerate() {
            match *action {
                Action::Grant { holder, conn, waited } => {
                    self.follow_grant(holder, conn, waited, loose);
                    loose = loose.filter(|id| *id != conn);
                }
                Action::Refuse { holder, why, .. } => self.follow_refusal(holder, why),
                Action::Open(id) => {
                    self.settles(&mut loose);
                    self.follow_open(id);
                    denials.extend(self.denies.then_some(id));
                }
                Action::Check(id) => self.follow_check(id, &mut loose),
                Action::Close(id, reason) => {
                    self.follow_close(id, reason);
                    loose = loose.filter(|other| *other != id);
                }
                Action::Leak { conn, since, ended } => {
                    self.follow_leak(conn, since, ended);
                    let reclaims = said.get(place + 1) == Some(&Action::Reclaim(conn));
                    assert_eq!(reclaims, !ended && self.settings.leak_reclaim, "whether it is taken back");
                }
                Action::Reclaim(id) => {
                    let conn = self.conns.get_mut(&id).expect("it is there");
                    assert!(conn.leaked && !conn.reclaimed && self.settings.leak_reclaim);
                    conn.reclaimed = true;
                }
                Action::Alarm { alarm, raised, cause } => {
                    let of_rates = matches!(alarm, Alarm::NotPooling | Alarm::MaxIdleChurn);
                    assert_eq!(cause.is_some(), raised && of_rates, "{alarm:?}: {cause:?}");
                    let before = std::mem::replace(&mut self.alarms[alarm as usize], raised);
                    assert_ne!(before, raised, "{alarm:?} is said twice");
                    self.alarms_raised[alarm as usize] += u64::from(raised);
                }
            }
        }
        self.said = said;
        self.settles(&mut loose);
        if let Some(id) = loose {
            assert!(!self.conns.contains_key(&id), "it does not come to rest");
        }
        let judged: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.judged).map(|(id, _)| *id).collect();
        for id in judged {
            if self.pool.state(id) == Some(State::Idle) {
                self.rests(id);
            }
        }
        for id in denials {
            self.denied = true;
            self.conns.remove(&id);
            self.pool.open_denied(id);
        }
        self.examine();
    }

    /// A connection of which nothing was said may have become idle.
    fn settles(&mut self, loose: &mut Option<ConnId>) {
        if let Some(id) = loose.filter(|id| self.pool.state(*id) == Some(State::Idle)) {
            self.rests(id);
            *loose = None;
        }
    }

    fn follow_grant(&mut self, holder: u64, id: ConnId, waited: u64, loose: Option<ConnId>) {
        let firsts =
            self.queues.iter().filter_map(|(name, queue)| Some((*name, queue.front()?.since))).collect();
        let (application, queue) = self
            .queues
            .iter_mut()
            .find(|(_, queue)| queue.front().is_some_and(|first| first.holder == holder))
            .expect("a grant goes to the first of an application");
        self.fair.serve(*application, &firsts);
        let first = queue.pop_front().expect("there is one");
        assert_eq!(self.now.since(first.since), Duration::from_nanos(waited));
        let conn = self.conns[&id];
        assert!(
            loose == Some(id) || conn.judged || conn.state == State::Idle,
            "{:?} was granted",
            conn.state
        );
        self.begin_lease(id);
    }

    fn follow_refusal(&mut self, holder: u64, why: Refusal) {
        let place = |queue: &VecDeque<Waiting>| queue.iter().position(|waiting| waiting.holder == holder);
        let (queue, place) = self
            .queues
            .values_mut()
            .find_map(|queue| place(queue).map(|place| (queue, place)))
            .expect("it waits");
        let waiting = queue.remove(place).expect("it is there");
        match why {
            Refusal::TimedOut => assert!(waiting.deadline <= self.now, "refused before its time"),
            Refusal::Draining => assert!(self.draining),
            Refusal::Database(class) => {
                assert!(class.is_terminal() || self.settings.login_attempts > 0);
                assert!(self.conns.values().all(|conn| conn.state == State::Closing || conn.judged));
            }
            Refusal::QueueFull | Refusal::WouldMiss => panic!("a waiter is in the queue already"),
        }
    }

    fn follow_open(&mut self, id: ConnId) {
        let fresh = Conn {
            state: State::Opening,
            judged: false,
            used: false,
            leaked: false,
            reclaimed: false,
            renewals: self.renewals,
            born: self.now,
            lifetime: Duration::ZERO,
            proven: self.now,
            since: self.now,
        };
        let rule = &self.settings;
        let expired =
            self.conns.values().filter(|conn| conn.state == State::Idle && conn.may_expire(self.now)).count();
        let resting = [State::Recovering, State::BeingCancelled, State::Closing];
        let serving =
            self.conns.values().filter(|conn| !resting.contains(&conn.state) && !conn.judged).count();
        let wanted = self.count(State::InUse) + self.waiting() + rule.min_idle.max(rule.initial_size) + 1;
        let asked = self.count(State::Opening) == 0 && self.conns.values().any(|conn| conn.judged);
        assert!(asked || serving < wanted as usize + expired, "nobody needs one more");
        assert!(!self.is_spaced(), "two logins without the delay between them");
        assert!(self.known || self.count(State::Opening) == 0, "a password that may be wrong is sent twice");
        assert!(self.conns.len() < rule.max_size as usize, "more than max_size");
        assert!(self.count(State::Opening) < rule.max_logins, "more than max_logins");
        assert!(self.now >= self.locked_until, "a login after a failed authentication");
        assert!(!self.suspended && !self.fenced && !self.draining && !self.denied);
        assert!(self.conns.insert(id, fresh).is_none(), "{id:?} is there already");
        self.last_login = Some(self.now);
    }

    /// Whether `login_delay` has not passed since the last login.
    fn is_spaced(&self) -> bool {
        let delay = self.settings.login_delay;
        !delay.is_zero() && self.last_login.is_some_and(|last| self.now < last.plus(delay))
    }

    fn follow_check(&mut self, id: ConnId, loose: &mut Option<ConnId>) {
        let now = self.now;
        let conn = self.conns.get_mut(&id).expect("it is there");
        let suspect = self.alarms[Alarm::CheckSuspect as usize];
        let fresh = *loose == Some(id) && (conn.state == State::Opening || suspect);
        assert!(self.settings.check);
        assert!(fresh || conn.judged || conn.state == State::Idle, "{:?} is tested", conn.state);
        if fresh {
            conn.since = now;
            *loose = None;
        }
        (conn.state, conn.judged, conn.used) = (State::Checking, false, false);
    }

    fn follow_close(&mut self, id: ConnId, reason: CloseReason) {
        let (now, rule) = (self.now, &self.settings);
        let idle = self.count(State::Idle);
        let alive = size(self.conns.len()) - self.count(State::Closing);
        let established = alive - self.count(State::Opening);
        let conn = self.conns[&id];
        let fits = match reason {
            CloseReason::MaxIdle => conn.used && idle >= rule.max_idle && established > rule.min_size,
            CloseReason::IdleTimeout => self.above_floors() && now >= conn.since.plus(rule.idle_timeout),
            CloseReason::Shrink | CloseReason::FairShare => self.above_floors(),
            CloseReason::MaxLifetime => conn.may_expire(now),
            CloseReason::Outdated | CloseReason::MassDeath => conn.renewals != self.renewals,
            CloseReason::Fenced => self.fenced || conn.renewals != self.renewals,
            CloseReason::Resized => alive > self.pool.effective_max(),
            CloseReason::Suspended => self.suspended,
            CloseReason::Shutdown => self.draining,
            CloseReason::CheckFailed => conn.state == State::Checking,
            CloseReason::LoginFailed => conn.state == State::Opening,
            _ => true,
        };
        assert!(fits, "{conn:?} is closed for {reason:?}");
        assert_ne!(conn.state, State::Closing, "closed twice");
        let conn = self.conns.get_mut(&id).expect("it is there");
        (conn.state, conn.judged) = (State::Closing, false);
    }

    fn follow_leak(&mut self, id: ConnId, since: Tick, ended: bool) {
        let (now, leak_after) = (self.now, self.settings.leak_after);
        let conn = self.conns.get_mut(&id).expect("it is there");
        assert_eq!(conn.since, since);
        assert_eq!(conn.leaked, ended, "said once, and once again when it ends");
        assert!(ended || now >= since.plus(leak_after));
        (conn.leaked, conn.reclaimed) = (!ended, false);
    }

    fn begin_lease(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).expect("it is there");
        assert!(!self.suspended && !self.fenced && !self.draining, "a grant");
        assert_eq!(conn.renewals, self.renewals, "an outdated connection is granted");
        let trusted = self.now <= conn.proven.plus(self.settings.trust_window);
        assert!(trusted || !self.settings.check || self.alarms[Alarm::CheckSuspect as usize], "untested");
        (conn.state, conn.judged, conn.since) = (State::InUse, false, self.now);
    }

    fn lease_ends(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.state == State::InUse) {
            conn.used = true;
        }
    }

    fn prove(&mut self, id: ConnId, state: State) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.state == state) {
            conn.proven = self.now;
        }
    }

    fn rests(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).expect("it is there");
        if conn.state != State::Checking {
            conn.since = self.now;
        }
        (conn.state, conn.judged) = (State::Idle, false);
        assert!(!conn.leaked, "the end of a leak is not told");
    }

    fn outdate(&mut self) {
        self.renewals += 1;
    }

    fn idle_of_old(&self) -> usize {
        self.conns.values().filter(|conn| conn.state == State::Idle && conn.renewals != self.renewals).count()
    }

    /// What must be true between any two calls.
    fn examine(&self) {
        for state in State::ALL {
            assert_eq!(self.pool.slots.count(state), self.count(state), "{state:?}");
        }
        let counts = &self.pool.counts;
        let alive = u64::from(self.pool.slots.alive());
        assert_eq!(counts.opened - counts.closed.iter().sum::<u64>(), alive, "the ledger");
        let ended =
            counts.waits_granted + counts.waits_timed_out + counts.waits_withdrawn + counts.waits_failed;
        assert_eq!(counts.waits - ended, u64::from(self.waiting()), "the outcomes of waits");
        assert_eq!(self.pool.waiting(), self.waiting());
        let oldest = self.queues.values().filter_map(|queue| queue.front()).map(|first| first.since).min();
        assert_eq!(self.pool.oldest_wait(), oldest);
        let idle = || self.conns.iter().filter(|(_, conn)| conn.state == State::Idle);
        let newest = idle().map(|(_, conn)| conn.since).max();
        assert_eq!(self.pool.slots.newest_idle().map(|id| self.conns[&id].since), newest, "the order of use");
        let oldest = idle().map(|(_, conn)| conn.since).min();
        assert_eq!(self.pool.slots.oldest_idle().map(|(_, since)| since), oldest, "the order of use");
        let hopeless =
            self.now < self.locked_until && self.conns.values().all(|conn| conn.state == State::Closing);
        assert!(!hopeless || self.waiting() == 0, "somebody waits for nothing");
        let judged = size(self.conns.values().filter(|conn| conn.judged).count());
        let tested = self.count(State::Checking) - judged;
        assert!(newest.is_none() || tested >= self.waiting(), "somebody waits beside an idle connection");
        let coming = self.count(State::Opening) + self.count(State::Closing) + tested + self.pool.needed();
        assert!(judged == 0 || coming > 0 || self.denied, "a verdict never comes");
        let leaks = self.conns.values().any(|conn| conn.leaked && conn.state != State::InUse);
        assert!(!leaks, "the end of a leak is not told");
        if let Some(begun) = self.begun {
            let levels: u64 = self.pool.gauge.levels(self.now).iter().sum();
            assert_eq!(Duration::from_nanos(levels), self.now.since(begun), "the time at all levels");
        }
    }
}

impl Conn {
    fn may_expire(&self, now: Tick) -> bool {
        !self.lifetime.is_zero() && now >= self.born.plus(self.lifetime.mul_f64(0.85))
    }
}

fn size(count: usize) -> u32 {
    u32::try_from(count).expect("few")
}
