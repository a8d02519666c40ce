//! What the lock guards: the machine, the connections that lie in the pool, and those who wait.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use headpond_core::{
    Acquired, Action, CloseReason, ConnId, FailureClass, Pool as Machine, PoolSettings, Refusal, Request,
    State as Doing, Tick, Usage, WaiterId,
};

use crate::builder::Options;
use crate::connector::Connector;
use crate::effects::Effects;
use crate::error::{Holder, LoginError, LoginFailure, PoolFull, Situation};
use crate::inner::Inner;
use crate::jobs::Job;
use crate::notice::Notice;
use crate::raw::{Node, Posted, Queue};
use crate::shelf::Grounds;
use crate::slot::{Mark, Slot};
use crate::upkeep::TICK;

/// A shelf keeps a connection untested for a few upkeeps at most.
const TRUST_AT_HAND: Duration = TICK.saturating_mul(4);

/// So many holders an error names.
const HOLDERS_NAMED: usize = 3;

/// What becomes of one that waits; `None`: it was refused, [`State::take_refusal`] says why.
pub(crate) type Outcome<C> = Option<Box<Slot<C>>>;

/// Why one that waits gets nothing.
#[derive(Debug)]
pub(crate) enum Refused<E> {
    /// After so long.
    TimedOut(Duration, Arc<Situation<E>>),
    Full(PoolFull),
    WouldMiss(PoolFull),
    Login(Arc<LoginFailure<E>>),
    Closed,
}

/// The answer to a request.
pub(crate) enum Answer<C: Connector> {
    Granted(Box<Slot<C>>),
    Queued(WaiterId),
    Full(PoolFull),
    WouldMiss(PoolFull),
    Login(Arc<LoginFailure<C::Error>>),
    Nested(Holder),
    Closed,
}

/// One connection as the pool knows it.
struct Entry<C: Connector> {
    mark: Option<(ConnId, Arc<Mark>)>,
    /// It lies here; otherwise somebody holds it, a task of the pool works on it, or it lies on a shelf.
    slot: Option<Box<Slot<C>>>,
}

pub(crate) struct State<C: Connector> {
    pub(crate) machine: Machine,
    entries: Vec<Entry<C>>,
    queue: Queue<Outcome<C>>,
    /// Why those were refused who have not heard it yet, by where they are.
    refusals: BTreeMap<usize, Refused<C::Error>>,
    /// Connections that the machine has lent.
    lent: Vec<ConnId>,
    actions: Vec<Action>,
    last: Tick,
    /// Something happened since the last upkeep.
    pub(crate) busy: bool,
    /// The upkeep waits until then, or until it is woken; while it does not, it comes by itself.
    pub(crate) asleep: bool,
    /// As set, before the server's own limit.
    pub(crate) policy: PoolSettings,
    pub(crate) limit: Option<u32>,
    /// When the server was last asked for its limit.
    pub(crate) limit_asked: Option<Tick>,
    pub(crate) failure: Option<Arc<LoginFailure<C::Error>>>,
    may_lend: bool,
    /// Where it lies itself, and the pool whose it is: none before there is one, and when it is gone.
    pub(crate) grounds: Option<Grounds<C>>,
    pub(crate) pool: Weak<Inner<C>>,
    pub(crate) closing: bool,
    /// A connection came or went, or failed to.
    changed: bool,
}

impl<C: Connector> State<C> {
    pub(crate) fn new(policy: PoolSettings, options: &Options) -> Self {
        let seed = options.name.bytes().fold(u64::from(std::process::id()), |seed, byte| {
            seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
        });
        Self {
            machine: Machine::new(policy.clone(), seed),
            entries: Vec::new(),
            queue: Queue::new(),
            refusals: BTreeMap::new(),
            lent: Vec::new(),
            actions: Vec::new(),
            last: Tick(0),
            busy: false,
            asleep: false,
            may_lend: may_lend(&policy),
            policy,
            limit: None,
            limit_asked: None,
            failure: None,
            grounds: None,
            pool: Weak::new(),
            closing: false,
            changed: false,
        }
    }

    /// Clocks are read before the lock is had: time only grows nevertheless.
    #[inline]
    pub(crate) fn at(&mut self, now: Tick) -> Tick {
        self.last = self.last.max(now);
        self.last
    }

    /// The time of the last turn.
    #[inline]
    pub(crate) fn last(&self) -> Tick {
        self.last
    }

    /// Somebody wants a connection. `node` waits if it has to, and `waker` is called then.
    pub(crate) fn acquire(
        &mut self,
        now: Tick,
        node: Pin<&mut Node<Outcome<C>>>,
        waker: impl FnOnce() -> Waker,
    ) -> Answer<C> {
        let answer = self.request(now, node.deadline());
        if let Answer::Queued(waiter) = answer
            && let Some(posted) = node.post(waker())
        {
            self.queue.join(posted, waiter);
        }
        answer
    }

    /// The same for one that was posted.
    pub(crate) fn admit(&mut self, now: Tick, posted: Posted<Outcome<C>>, effects: &mut Effects<C>) {
        let refused = match self.request(now, posted.deadline()) {
            Answer::Queued(waiter) => return self.queue.join(posted, waiter),
            Answer::Granted(slot) => return effects.wake(posted.serve(Some(slot))),
            Answer::Full(full) => Refused::Full(full),
            Answer::WouldMiss(full) => Refused::WouldMiss(full),
            Answer::Login(failure) => Refused::Login(failure),
            Answer::Nested(_) | Answer::Closed => Refused::Closed,
        };
        self.refusals.insert(posted.address(), refused);
        effects.wake(posted.serve(None));
    }

    /// Who queues by it must join the queue at once.
    fn request(&mut self, now: Tick, deadline: Option<Tick>) -> Answer<C> {
        match self.ask(now, deadline, self.queue.next()) {
            Ok(Acquired::Granted(conn)) => match self.take(now, conn) {
                Some(slot) => Answer::Granted(slot),
                None => Answer::Closed,
            },
            Ok(Acquired::Queued(waiter)) => Answer::Queued(waiter),
            Ok(Acquired::Refused(why)) => self.refusal(why),
            Err(answer) => answer,
        }
    }

    /// Somebody wants a connection, but not to wait.
    pub(crate) fn try_acquire(&mut self, now: Tick) -> Option<Box<Slot<C>>> {
        self.recall_if_wanting(now);
        if !self.machine.has_trusted_idle(now) {
            return None;
        }
        match self.ask(now, None, self.queue.next()) {
            Ok(Acquired::Granted(conn)) => self.take(now, conn),
            _ => None,
        }
    }

    fn ask(&mut self, now: Tick, deadline: Option<Tick>, number: u32) -> Result<Acquired, Answer<C>> {
        self.busy = true;
        if self.closing {
            return Err(Answer::Closed);
        }
        self.recall_if_wanting(now);
        let request = Request { deadline, ..Request::of(u64::from(number)) };
        Ok(self.machine.acquire(now, request, &mut self.actions))
    }

    fn refusal(&self, why: Refusal) -> Answer<C> {
        let full = || PoolFull { waiting: self.machine.waiting(), max_size: self.machine.effective_max() };
        match why {
            Refusal::QueueFull => Answer::Full(full()),
            Refusal::WouldMiss | Refusal::TimedOut => Answer::WouldMiss(full()),
            Refusal::Database(_) => self.failure.clone().map_or(Answer::Closed, Answer::Login),
            Refusal::Draining => Answer::Closed,
        }
    }

    /// Takes the connection of a lease that begins now.
    fn take(&mut self, now: Tick, conn: ConnId) -> Option<Box<Slot<C>>> {
        let slot = self.entries.get_mut(conn.index())?.slot.take()?;
        slot.mark.begin(now);
        Some(slot)
    }

    /// Who waits under this number gives up.
    pub(crate) fn withdraw(&mut self, now: Tick, number: u32) {
        if let Some(waiter) = self.queue.leave(number) {
            self.machine.withdraw(now, waiter);
        }
    }

    /// Whether a request that comes now can only wait, after others, and the pool looks at it often enough for that.
    #[inline]
    pub(crate) fn is_queueing(&self) -> bool {
        (1..self.policy.max_waiters).contains(&self.machine.waiting())
            && self.machine.open() >= self.machine.effective_max()
            && !self.asleep
            && !self.closing
    }

    /// Why the one at this address was refused.
    pub(crate) fn take_refusal(&mut self, address: usize) -> Option<Refused<C::Error>> {
        self.refusals.remove(&address)
    }

    pub(crate) fn renew_waker(&mut self, number: u32, waker: &Waker) {
        self.queue.renew(number, waker);
    }

    /// A lease ends, and its connection may serve anybody.
    pub(crate) fn release(&mut self, now: Tick, mut slot: Box<Slot<C>>) {
        self.busy = true;
        let conn = slot.conn;
        self.know_leased(now, &slot);
        if self.may_lend
            && self.machine.waiting() == 0
            && let Some(mut shelf) = slot.grounds.shelf()
            && shelf.has_room()
            && self.machine.lend(now, conn, &mut self.actions)
        {
            slot.mark.set_lent(true);
            slot.shelved = now;
            self.lent.push(conn);
            shelf.push(slot);
            return;
        }
        self.lay_down(slot);
        self.machine.release(now, conn, &mut self.actions);
    }

    /// A lease ends, and its connection is made like new first.
    pub(crate) fn reset(&mut self, now: Tick, slot: &Slot<C>) {
        self.busy = true;
        self.know_leased(now, slot);
        self.machine.retire(now, slot.conn, Doing::Resetting, &mut self.actions);
    }

    /// A connection that was tested or reset is fit.
    pub(crate) fn ready(&mut self, now: Tick, slot: Box<Slot<C>>) {
        self.busy = true;
        let conn = slot.conn;
        self.lay_down(slot);
        self.machine.ready(now, conn, &mut self.actions);
    }

    /// The server answered the test of a connection with an error.
    pub(crate) fn check_failed(&mut self, now: Tick, slot: Box<Slot<C>>) {
        self.busy = true;
        let conn = slot.conn;
        self.lay_down(slot);
        self.machine.check_failed(now, conn, &mut self.actions);
    }

    /// A connection goes, whatever it is doing.
    pub(crate) fn close(&mut self, now: Tick, slot: Box<Slot<C>>, reason: CloseReason) {
        self.busy = true;
        let conn = slot.conn;
        self.know_leased(now, &slot);
        self.lay_down(slot);
        self.machine.close(now, conn, reason, &mut self.actions);
    }

    /// A connection is not the pool's any more, or nothing is left of it.
    pub(crate) fn forget(&mut self, now: Tick, slot: &Slot<C>, reason: CloseReason) {
        self.busy = true;
        self.know_leased(now, slot);
        self.machine.close(now, slot.conn, reason, &mut self.actions);
    }

    /// The server has let a connection go.
    pub(crate) fn closed(&mut self, now: Tick, conn: ConnId) {
        self.busy = true;
        if let Some(entry) = self.entries.get_mut(conn.index()) {
            entry.mark = None;
        }
        self.changed = true;
        self.machine.closed(now, conn, &mut self.actions);
    }

    /// A login succeeded.
    pub(crate) fn opened(&mut self, now: Tick, slot: Box<Slot<C>>) {
        self.busy = true;
        let conn = slot.conn;
        self.failure = None;
        self.changed = true;
        self.entry(conn).mark = Some((conn, slot.mark.clone()));
        self.lay_down(slot);
        self.machine.opened(now, conn, &mut self.actions);
    }

    pub(crate) fn open_failed(
        &mut self,
        now: Tick,
        conn: ConnId,
        class: FailureClass,
        cause: LoginError<C::Error>,
    ) {
        self.busy = true;
        let failures = self.failure.as_ref().map_or(0, |failure| failure.failures).saturating_add(1);
        self.failure = Some(Arc::new(LoginFailure { class, cause, failures }));
        self.changed = true;
        self.machine.open_failed(now, conn, class, &mut self.actions);
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, now: Tick) {
        // Should the machine find something due that it cannot do now, it is asked again at the next upkeep.
        for _ in 0..4 {
            if self.machine.next_deadline(now) > now {
                return;
            }
            self.machine.on_timer(now, &mut self.actions);
        }
    }

    /// A command to the machine, after which nothing is lent.
    pub(crate) fn command(&mut self, now: Tick, command: impl FnOnce(&mut Machine, Tick, &mut Vec<Action>)) {
        self.busy = true;
        self.recall(now);
        command(&mut self.machine, now, &mut self.actions);
    }

    /// Other settings, as far as the server allows.
    pub(crate) fn configure(&mut self, now: Tick) {
        let max_size =
            self.limit.map_or(self.policy.max_size, |limit| self.policy.max_size.min(limit).max(1));
        let settings = PoolSettings { max_size, ..self.policy.clone() };
        self.may_lend = may_lend(&settings);
        self.command(now, |machine, now, out| machine.configure(now, settings, out));
    }

    /// Whether there is nothing to give but what is lent: then it is lent no longer.
    #[inline]
    fn recall_if_wanting(&mut self, now: Tick) {
        if !self.lent.is_empty() && !self.machine.has_trusted_idle(now) {
            self.recall(now);
        }
    }

    /// Nothing is lent any more, and the machine knows what happened meanwhile.
    pub(crate) fn recall(&mut self, now: Tick) {
        if self.lent.is_empty() {
            return;
        }
        let lent = std::mem::take(&mut self.lent);
        // Whoever comes to a shelf after it was cleared sees this, by the shelf's own lock.
        for conn in &lent {
            if let Some(mark) = self.mark(*conn) {
                mark.set_lent(false);
            }
        }
        let mut usage = Usage::default();
        let grounds = self.grounds;
        for mut shelf in grounds.iter().flat_map(|grounds| grounds.shelves()) {
            while let Some(mut slot) = shelf.pop() {
                usage.connections += u32::from(std::mem::take(&mut slot.used));
                self.machine.recall(now, slot.conn, slot.shelved, None);
                self.lay_down(slot);
            }
            let here = std::mem::take(shelf.usage());
            usage.acquires += here.acquires;
            usage.holds += here.holds;
            usage.hold_time += here.hold_time;
        }
        self.busy |= usage.acquires + usage.holds > 0;
        for conn in lent {
            // Those that were found are lent no longer: this is about those that somebody holds.
            if let Some(since) = self.mark(conn).map(Mark::since) {
                self.machine.recall(now, conn, since, Some(since));
            }
        }
        self.machine.credit(now, usage);
    }

    /// What the machine wants done.
    #[inline]
    pub(crate) fn settle(&mut self, now: Tick, effects: &mut Effects<C>) {
        let mut next = 0;
        let mut timed_out = None;
        while let Some(action) = self.actions.get(next).copied() {
            next += 1;
            match action {
                Action::Grant { holder, conn, .. } => {
                    if let Some(slot) = self.take(now, conn) {
                        self.serve(holder, Some(slot), effects);
                    }
                }
                Action::Refuse { holder, why, waited } => {
                    let refused = match why {
                        Refusal::Database(_) => self.failure.clone().map_or(Refused::Closed, Refused::Login),
                        Refusal::Draining => Refused::Closed,
                        _ => Refused::TimedOut(
                            Duration::from_nanos(waited),
                            timed_out.get_or_insert_with(|| Arc::new(self.situation(now))).clone(),
                        ),
                    };
                    let number = u32::try_from(holder).unwrap_or(u32::MAX);
                    if let Some(address) = self.queue.address(number) {
                        self.refusals.insert(address, refused);
                    }
                    self.serve(holder, None, effects);
                }
                Action::Open(conn) => effects.job(Job::Open(conn)),
                Action::Check(conn) => {
                    if let Some(slot) = self.entry(conn).slot.take() {
                        effects.job(Job::Check(slot));
                    }
                }
                Action::Close(conn, reason) => match self.entry(conn).slot.take() {
                    Some(slot) => effects.job(Job::Close(slot, reason)),
                    None => self.closed(now, conn),
                },
                Action::Leak { conn, since, ended } => {
                    if let Some(mark) = self.mark(conn) {
                        let holder = holder(now, mark, since);
                        effects.notice(Notice::Leak { holder, ended });
                    }
                }
                // A lease cannot be taken out of its holder's hands.
                Action::Reclaim(_) => {}
                Action::Alarm { alarm, raised, cause } => {
                    effects.notice(Notice::Alarm { alarm, raised, cause });
                }
            }
        }
        self.actions.clear();
        effects.changed |= std::mem::take(&mut self.changed);
        if self.asleep && self.busy {
            self.asleep = false;
            effects.wakes_upkeep = true;
        }
    }

    fn serve(&mut self, holder: u64, outcome: Outcome<C>, effects: &mut Effects<C>) {
        let number = u32::try_from(holder).unwrap_or(u32::MAX);
        match self.queue.serve(number, outcome) {
            Ok(waker) => effects.wake(waker),
            // Nobody leaves the queue without telling the machine.
            Err(outcome) => debug_assert!(outcome.is_none(), "granted to nobody"),
        }
    }

    /// The machine learns that a lease from a shelf is under way, before it ends.
    fn know_leased(&mut self, now: Tick, slot: &Slot<C>) {
        if slot.mark.is_lent() {
            slot.mark.set_lent(false);
            self.lent.retain(|conn| *conn != slot.conn);
            let since = slot.mark.since();
            self.machine.recall(now, slot.conn, since, Some(since));
        }
    }

    fn lay_down(&mut self, slot: Box<Slot<C>>) {
        let conn = slot.conn;
        self.entry(conn).slot = Some(slot);
    }

    fn entry(&mut self, conn: ConnId) -> &mut Entry<C> {
        let index = conn.index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || Entry { mark: None, slot: None });
        }
        &mut self.entries[index]
    }

    fn mark(&self, conn: ConnId) -> Option<&Mark> {
        let (whose, mark) = self.entries.get(conn.index())?.mark.as_ref()?;
        (*whose == conn).then_some(mark)
    }

    pub(crate) fn situation(&self, now: Tick) -> Situation<C::Error> {
        let figures = self.machine.figures(now);
        let count = |state| figures.count(state);
        let mut holders = self.holders(now);
        holders.truncate(HOLDERS_NAMED);
        Situation {
            max_size: figures.effective_max,
            in_use: count(Doing::InUse),
            opening: count(Doing::Opening),
            recovering: count(Doing::Checking) + count(Doing::Resetting) + count(Doing::Recovering),
            idle: count(Doing::Idle),
            waiting: figures.waiting,
            holders,
            suspended: self.machine.is_suspended(),
            login: self.failure.clone(),
        }
    }

    /// Who holds connections, the longest first.
    pub(crate) fn holders(&self, now: Tick) -> Vec<Holder> {
        let mut holders: Vec<_> = self.leased().map(|mark| holder(now, mark, mark.since())).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held));
        holders
    }

    /// The lease of a task, if it has one.
    pub(crate) fn held_by(&self, now: Tick, task: usize) -> Option<Holder> {
        let mark = self.leased().find(|mark| task != 0 && mark.task() == task)?;
        Some(holder(now, mark, mark.since()))
    }

    /// What a task holds, if it would have to wait for more.
    pub(crate) fn nested(&mut self, now: Tick, task: usize) -> Option<Holder> {
        self.recall_if_wanting(now);
        if self.machine.has_trusted_idle(now) { None } else { self.held_by(now, task) }
    }

    fn leased(&self) -> impl Iterator<Item = &Mark> {
        let known = self.entries.iter().filter_map(|entry| entry.mark.as_ref());
        let in_use = known.filter(|(conn, _)| self.machine.state(*conn) == Some(Doing::InUse));
        in_use.map(|(_, mark)| mark.as_ref())
    }
}

fn holder(now: Tick, mark: &Mark, since: Tick) -> Holder {
    Holder { label: mark.label(), site: mark.site(), held: now.since(since) }
}

/// Whether connections may lie on shelves: not where the one used longest ago comes next, or where no use is trusted.
fn may_lend(policy: &PoolSettings) -> bool {
    !policy.round_robin && (!policy.check || policy.trust_window >= TRUST_AT_HAND)
}
