//! The pools, and what they ask for: logins, checks, closes.

use headpond_core::{Action, ConnId, FailureClass, Pool, State, Tick};

use super::agenda::Due;
use super::draw::SECOND;
use super::node::Job;
use super::requests::RequestId;
use super::{World, pool_of};

/// How long a node takes to let a connection go.
const FAREWELL: u64 = 1_000_000;

/// One pool: of one application server on one node.
pub(super) struct Site {
    pub(super) pool: Pool,
    pub(super) node: usize,
    /// Counts its application server's lives: what was begun in an earlier one concerns nobody.
    pub(super) life: u32,
    /// Logins under way.
    pub(super) opening: Vec<ConnId>,
    /// Whether a connection, by its index, counts on the node.
    pub(super) admitted: Vec<bool>,
    /// For which moment a timer is set.
    armed: u64,
    open: u32,
    waiting: u32,
}

impl Site {
    pub(super) fn new(node: u32, pool: Pool) -> Self {
        Self {
            pool,
            node: node as usize,
            life: 0,
            opening: Vec::new(),
            admitted: Vec::new(),
            armed: u64::MAX,
            open: 0,
            waiting: 0,
        }
    }
}

impl World<'_> {
    pub(super) fn start_pool(&mut self, site: usize) {
        self.sites[site].pool.start(Tick(self.now), &mut self.out);
        self.carry_out(site);
    }

    /// An application server starts anew: its pool is empty, and the node is rid of its connections.
    pub(super) fn restart_pool(&mut self, number: usize) {
        let life = self.sites[number].life + 1;
        let pool = pool_of(self.scenario, self.seed, number as u32, life);
        let site = &mut self.sites[number];
        let gone = site.admitted.iter().filter(|counts| **counts).count() as u32;
        let node = &mut self.nodes[site.node];
        node.connections = node.connections.saturating_sub(gone);
        site.pool = pool;
        site.life = life;
        site.opening.clear();
        site.admitted.clear();
        site.armed = u64::MAX;
        self.start_pool(number);
    }

    /// Does what a pool has asked for, and sets its timer.
    pub(super) fn carry_out(&mut self, number: usize) {
        self.tally.pool_events += 1;
        let mut actions = std::mem::take(&mut self.out);
        for action in actions.drain(..) {
            self.act(number, action);
        }
        self.out = actions;
        let now = self.now;
        let site = &mut self.sites[number];
        let next = site.pool.next_deadline(Tick(now)).0.max(now + 1);
        if next < site.armed {
            site.armed = next;
            self.agenda.add(next, Due::Timer(number as u32));
        }
        let (open, waiting) = (site.pool.open(), site.pool.waiting());
        self.tally.note_pool(now, [site.open, site.waiting], [open, waiting]);
        (site.open, site.waiting) = (open, waiting);
    }

    fn act(&mut self, number: usize, action: Action) {
        let (site, life) = (number as u32, self.sites[number].life);
        let database = &self.scenario.database;
        match action {
            Action::Grant { holder, conn, waited } => self.granted(RequestId::of(holder), conn, waited),
            Action::Refuse { holder, .. } => self.refused(RequestId::of(holder)),
            Action::Open(conn) => {
                self.tally.note_open(self.now);
                self.sites[number].opening.push(conn);
                let arrives = self.after(database.login_latency);
                self.agenda.add(arrives, Due::Login(site, life, conn));
            }
            Action::Check(conn) => {
                let answered = self.after(database.round_trip);
                self.agenda.add(answered, Due::Checked(site, life, conn));
            }
            Action::Close(conn, _) => self.agenda.add(self.now + FAREWELL, Due::Closed(site, life, conn)),
            Action::Leak { .. } | Action::Reclaim(_) | Action::Alarm { .. } => {}
        }
    }

    pub(super) fn timer(&mut self, number: usize) {
        let site = &mut self.sites[number];
        if site.armed != self.now {
            return;
        }
        site.armed = u64::MAX;
        if site.pool.next_deadline(Tick(self.now)).0 <= self.now {
            site.pool.on_timer(Tick(self.now), &mut self.out);
        }
        self.carry_out(number);
    }

    /// A login reaches the node, which refuses it or begins to work on it.
    pub(super) fn login_arrives(&mut self, number: usize, life: u32, conn: ConnId) {
        let site = &mut self.sites[number];
        if site.life != life || site.pool.state(conn) != Some(State::Opening) {
            return;
        }
        let node = &mut self.nodes[site.node];
        let full = self.scenario.database.max_connections.is_some_and(|most| node.connections >= most);
        if !node.up || full {
            let class = if node.up { FailureClass::TooManyConnections } else { FailureClass::Unreachable };
            self.login_failed(number, conn, class);
            return;
        }
        node.connections += 1;
        if site.admitted.len() <= conn.index() {
            site.admitted.resize(conn.index() + 1, false);
        }
        site.admitted[conn.index()] = true;
        let work = self.scenario.database.login_work * SECOND;
        node.start(self.now, work, Job::Login(number as u32, life, conn));
    }

    pub(super) fn logged_in(&mut self, number: usize, life: u32, conn: ConnId) {
        let site = &mut self.sites[number];
        if site.life == life {
            site.opening.retain(|opening| *opening != conn);
            site.pool.opened(Tick(self.now), conn, &mut self.out);
            self.carry_out(number);
        }
    }

    pub(super) fn login_failed(&mut self, number: usize, conn: ConnId, class: FailureClass) {
        let site = &mut self.sites[number];
        site.opening.retain(|opening| *opening != conn);
        self.tally.logins_failed += 1;
        site.pool.open_failed(Tick(self.now), conn, class, &mut self.out);
        self.carry_out(number);
    }

    pub(super) fn checked(&mut self, number: usize, life: u32, conn: ConnId) {
        let site = &mut self.sites[number];
        if site.life == life {
            site.pool.ready(Tick(self.now), conn, &mut self.out);
            self.carry_out(number);
        }
    }

    pub(super) fn closed(&mut self, number: usize, life: u32, conn: ConnId) {
        let site = &mut self.sites[number];
        if site.life != life {
            return;
        }
        if let Some(admitted) = site.admitted.get_mut(conn.index())
            && std::mem::take(admitted)
        {
            let node = &mut self.nodes[site.node];
            node.connections = node.connections.saturating_sub(1);
        }
        site.pool.closed(Tick(self.now), conn, &mut self.out);
        self.carry_out(number);
    }
}
