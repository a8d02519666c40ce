//! How many server connections may exist in total against one database server, over all pools and workers.
//!
//! A permit is taken before a login and given back when the server has let the connection go. A pool that gets
//! none waits in line for the next; a sibling with a connection to spare closes it, and one that has more than its
//! share gives up what it releases. One permit is kept for the control connection.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headpond_core::Tick;

use crate::action::{Actions, Report, ServerId};
use crate::config::{DataSource, NodeAddress};
use crate::control::Control;
use crate::exchange::Errand;
use crate::pooler::{PoolEntry, Pooler, pool_index};
use crate::timers::Timer;
use crate::verdicts::Columns;

/// How many connections a server has for logins like the one that asks.
pub(crate) const SLOTS: &str = "current_setting('max_connections')::int \
    - current_setting('superuser_reserved_connections')::int \
    - coalesce(current_setting('reserved_connections', true)::int, 0)";

/// A server that the control connection cannot ask is asked again after this long: its settings may have changed with a restart.
const SURVEY_INTERVAL: Duration = Duration::from_secs(60);

/// Where several workers share a budget, a permit that another one gave back is looked for this often.
pub(crate) const RETRY: Duration = Duration::from_millis(50);

/// The smallest reserve; a tenth of the connections if that is more.
const RESERVE_MIN: u32 = 5;

/// The permits of one database server.
#[derive(Debug)]
pub struct Permits {
    limit: AtomicU32,
    /// By pools.
    used: AtomicU32,
    /// The one permit that is kept for a control connection is taken.
    control: AtomicBool,
    /// How many workers know this server.
    workers: AtomicU32,
}

impl Permits {
    /// Without a budget that was told there is no limit until the server has been asked.
    fn new(budget: Option<u32>) -> Self {
        Self {
            limit: AtomicU32::new(budget.unwrap_or(u32::MAX)),
            used: AtomicU32::new(0),
            control: AtomicBool::new(false),
            workers: AtomicU32::new(0),
        }
    }

    /// What pools may have: all but one. A budget of one is theirs, and there is no control connection.
    fn for_pools(&self) -> u32 {
        match self.limit.load(Ordering::Relaxed) {
            u32::MAX => u32::MAX,
            limit => (limit - 1).max(1),
        }
    }

    /// Takes a permit, if there is one.
    fn take(&self) -> bool {
        let limit = self.for_pools();
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then_some(used + 1));
        taken.is_ok()
    }

    fn give(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the permit that is kept for a control connection.
    pub(crate) fn take_for_control(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 1 && !self.control.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn give_from_control(&self) {
        self.control.store(false, Ordering::Relaxed);
    }

    /// Whether there is a permit for a control connection that other workers want too.
    pub(crate) fn is_shared(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 1 && self.workers.load(Ordering::Relaxed) > 1
    }
}

/// The permits of every database server, shared by all workers. Looked up when a pool is made, never for a request.
#[derive(Debug, Default)]
pub struct Budgets {
    nodes: Mutex<HashMap<NodeAddress, Arc<Permits>>>,
}

impl Budgets {
    /// The permits of a data source's server, for one more worker.
    fn of(&self, source: &DataSource) -> Arc<Permits> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let permits =
            nodes.entry(source.node.clone()).or_insert_with(|| Arc::new(Permits::new(source.budget)));
        permits.workers.fetch_add(1, Ordering::Relaxed);
        Arc::clone(permits)
    }
}

/// What one worker knows of a database server.
#[derive(Debug)]
pub(crate) struct Node {
    address: NodeAddress,
    pub(crate) permits: Arc<Permits>,
    pub(crate) control: Control,
    /// Pools that got no permit, in the order in which they asked.
    starving: VecDeque<u32>,
    /// A connection was closed to make room, and is not gone yet.
    swapping: bool,
    pub(crate) surveyed: Option<Tick>,
    /// Connections that the server has for logins like ours, as last heard.
    slots: Option<u32>,
    retry_armed: bool,
}

impl Pooler {
    /// The node of a data source, as an index.
    pub(crate) fn node_of(&mut self, source: &DataSource) -> u32 {
        let address = &source.node;
        let known = self.nodes.iter().position(|node| node.address == *address);
        pool_index(known.unwrap_or_else(|| {
            self.nodes.push(Node {
                address: address.clone(),
                permits: self.budgets.of(source),
                control: Control::default(),
                starving: VecDeque::new(),
                swapping: false,
                surveyed: None,
                slots: None,
                retry_armed: false,
            });
            self.nodes.len() - 1
        }))
    }

    /// Takes a permit for a pool that wants to open a connection. Without one the pool waits in line.
    pub(crate) fn take_permit(&mut self, now: Tick, pool: u32) -> bool {
        let node_index = self.pools[pool as usize].node;
        let workers = self.workers;
        let Some(node) = self.nodes.get_mut(node_index as usize) else { return true };
        if node.permits.take() {
            return true;
        }
        if !node.starving.contains(&pool) {
            node.starving.push_back(pool);
        }
        if workers > 1 && !std::mem::replace(&mut node.retry_armed, true) {
            self.timers.set(now.plus(RETRY), Timer::Budget(node_index));
        }
        false
    }

    /// A permit is free again: whoever has waited longest for one may try.
    pub(crate) fn give_permit(&mut self, now: Tick, index: u32, out: &mut Actions) {
        let Some(node) = self.nodes.get_mut(index as usize) else { return };
        if !planted!(PermitLost) {
            node.permits.give();
        }
        node.swapping = false;
        self.feed(now, index, out);
    }

    /// Lets the pools that wait for a permit try, one after the other, until one fails.
    fn feed(&mut self, now: Tick, node_index: u32, out: &mut Actions) {
        let Some(node) = self.nodes.get_mut(node_index as usize) else { return };
        for _ in 0..node.starving.len() {
            let Some(node) = self.nodes.get_mut(node_index as usize) else { return };
            let Some(pool) = node.starving.pop_front() else { return };
            self.with_pool(now, pool, out, |policy, actions| policy.budget_freed(now, actions));
            let still = |node: &Node| node.starving.contains(&pool);
            if self.nodes.get(node_index as usize).is_some_and(still) {
                return;
            }
        }
    }

    pub(crate) fn budget_overdue(&mut self, now: Tick, node: u32, out: &mut Actions) {
        if let Some(entry) = self.nodes.get_mut(node as usize) {
            entry.retry_armed = false;
            self.feed(now, node, out);
        }
    }

    /// A pool with waiters got no permit: a sibling on the same server closes an idle connection, one above its
    /// floors if there is any, else one of a sibling that has more than its share.
    fn ask_siblings(&mut self, now: Tick, pool: u32, out: &mut Actions) {
        let siblings = || (0..pool_index(self.pools.len())).filter(|other| self.is_sibling(pool, *other));
        let spares = |other: &u32| self.pools[*other as usize].policy.can_spare();
        let owes = |other: &u32| self.pools[*other as usize].policy.idle() > 0 && self.owes(*other, pool);
        if let Some(sibling) = siblings().find(spares).or_else(|| siblings().find(owes)) {
            self.make_room(now, sibling, out);
        }
    }

    /// Something changed in a pool while some on its server wait for a permit: it asks the others for one, or gives
    /// up what it can spare, or owes.
    pub(crate) fn relieve(&mut self, now: Tick, pool: u32, out: &mut Actions) {
        let entry = &self.pools[pool as usize];
        let Some(node) = self.nodes.get(entry.node as usize) else { return };
        if node.starving.is_empty() || node.swapping {
            return;
        }
        if entry.policy.waiting() > 0 && node.starving.contains(&pool) {
            self.ask_siblings(now, pool, out);
            return;
        }
        if entry.policy.idle() == 0 {
            return;
        }
        let waits = |other: &u32| *other != pool && self.pools[*other as usize].policy.waiting() > 0;
        let mut waiting = node.starving.iter().filter(|other| waits(other));
        if waiting.any(|other| entry.policy.can_spare() || self.owes(pool, *other)) {
            self.make_room(now, pool, out);
        }
    }

    /// One swap at a time: the next begins when the server has let this connection go.
    fn make_room(&mut self, now: Tick, giver: u32, out: &mut Actions) {
        let node = self.pools[giver as usize].node;
        if let Some(node) = self.nodes.get_mut(node as usize)
            && !std::mem::replace(&mut node.swapping, true)
        {
            self.with_pool(now, giver, out, |policy, actions| policy.spare(now, actions));
        }
    }

    /// Whether a connection that is being given back goes instead, for a sibling below its share that waits.
    pub(crate) fn owes_a_sibling(&mut self, pool: u32) -> bool {
        let node_index = self.pools[pool as usize].node;
        let Some(node) = self.nodes.get(node_index as usize) else { return false };
        if node.starving.is_empty() || node.swapping {
            return false;
        }
        let waits = |other: &u32| self.pools[*other as usize].policy.waiting() > 0;
        let owes =
            node.starving.iter().any(|other| *other != pool && waits(other) && self.owes(pool, *other));
        if owes {
            self.nodes[node_index as usize].swapping = true;
        }
        owes
    }

    fn is_sibling(&self, pool: u32, other: u32) -> bool {
        pool != other && self.pools[pool as usize].node == self.pools[other as usize].node
    }

    /// Whether a pool has more than its share while another has less, or nothing at all.
    fn owes(&self, pool: u32, other: u32) -> bool {
        let has = |pool: u32| self.pools[pool as usize].policy.open();
        if has(other) == 0 {
            return true;
        }
        let node = self.pools[pool as usize].node;
        let Some(permits) = self.nodes.get(node as usize).map(|node| &node.permits) else { return false };
        let busy = |entry: &&PoolEntry| {
            entry.node == node && (entry.policy.open() > 0 || entry.policy.waiting() > 0)
        };
        let busy = pool_index(self.pools.iter().filter(busy).count());
        let share = permits.for_pools() / busy.max(1);
        has(pool) > share && has(other) < share
    }

    /// A login succeeded: the server is asked how many connections it has, if that is not known well enough.
    /// Whether it was asked.
    pub(crate) fn survey(&mut self, now: Tick, id: ServerId, out: &mut Actions) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let node = self.pools[server.pool as usize].node;
        let Some(node) = self.nodes.get_mut(node as usize) else { return false };
        if node.surveyed.is_some_and(|at| now.since(at) < SURVEY_INTERVAL) {
            return false;
        }
        node.surveyed = Some(now);
        self.run_errand(now, id, Errand::Survey, &format!("SELECT {SLOTS}"), out);
        true
    }

    /// The one row of a survey's answer.
    pub(crate) fn survey_answered(&mut self, pool: u32, row: &[u8], out: &mut Actions) {
        let mut columns = Columns::of(row);
        if let Some(slots) = columns.next().and_then(|text| text.parse().ok()) {
            self.surveyed(pool, slots, out);
        }
    }

    /// The server has this many connections for logins like ours: the budget is brought in step.
    pub(crate) fn surveyed(&mut self, pool: u32, slots: u32, out: &mut Actions) {
        let (node, data_source) = (self.pools[pool as usize].node, self.pools[pool as usize].data_source);
        let Some(source) = self.config.data_sources.get(data_source) else { return };
        let limit = limit(source, slots);
        let Some(node) = self.nodes.get_mut(node as usize) else { return };
        node.slots = Some(slots);
        let before = node.permits.limit.swap(limit, Ordering::Relaxed);
        let wanted = source.budget.unwrap_or(source.pool.max_size);
        let room = if source.budget.is_some() { limit } else { node.permits.for_pools() };
        if before != limit && wanted > room {
            let limit = node.permits.for_pools();
            out.report(Report::Capped { pool: self.pool_title(pool), wanted, slots, limit });
        }
    }

    /// New settings: budgets that were told apply at once, others as the server was last heard.
    pub(crate) fn reload_budgets(&mut self) {
        for node in &mut self.nodes {
            let source = self.config.data_sources.iter().find(|source| source.node == node.address);
            if let (Some(source), Some(slots)) = (source, node.slots) {
                node.permits.limit.store(limit(source, slots), Ordering::Relaxed);
            }
        }
    }

    /// The budget of a pool's node, and how much of it is used; `None` while nothing is known of it.
    pub(crate) fn budget_of(&self, node: u32) -> Option<(u32, u32)> {
        let permits = &self.nodes.get(node as usize)?.permits;
        let limit = permits.limit.load(Ordering::Relaxed);
        let control = u32::from(permits.control.load(Ordering::Relaxed));
        (limit < u32::MAX).then(|| (limit, permits.used.load(Ordering::Relaxed) + control))
    }
}

/// What all pools together may have of a server with so many connections for logins like ours: never none.
fn limit(source: &DataSource, slots: u32) -> u32 {
    let reserve = source.reserve.unwrap_or_else(|| RESERVE_MIN.max(slots.div_ceil(10)));
    let ours = slots.saturating_sub(reserve) / source.members.max(1);
    source.budget.map_or(ours, |budget| budget.min(slots)).max(1)
}
