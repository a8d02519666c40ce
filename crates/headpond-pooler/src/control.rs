//! The control connection of a database server: it serves no client, and asks the server about itself.
//!
//! It has the permit that every budget keeps for it and logs in as one of the server's pools does, once one of them
//! has a connection; without any it goes. What a client's reply makes suspect is settled by a login of its own, for
//! a connection that is open already may have outlived what the suspicion is about.

use std::time::Duration;

use headpond_core::{ConnId, FailureClass, Tick};

use crate::action::{Action, Actions, Link, Report, ServerId};
use crate::budget::{Node, RETRY};
use crate::exchange::Errand;
use crate::pooler::{Pooler, pool_index};
use crate::server::{Server, ServerState};
use crate::settings::SettingsId;
use crate::timers::Timer;
use crate::verdicts::{Answer, Defaults, question};

/// What it calls itself on the server.
pub(crate) const APPLICATION: &str = "headpond control";

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(10);

/// How soon a fenced server is asked again, longer each time up to so many times that.
const FENCED_PAUSE: Duration = Duration::from_secs(1);
const FENCED_PAUSES: u32 = 5;

/// Errors of clients do not make the server be asked more often than this: any read-only transaction may cause them.
const READ_ONLY_PAUSE: Duration = Duration::from_secs(1);

/// An older connection is opened anew before it is asked: the server's address may lead elsewhere by now.
const LIFETIME: Duration = Duration::from_secs(600);

/// A login is not tried again sooner after the connection was lost, or the server could not be reached.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// After a failed login that another will not mend: servers lock accounts that fail too often.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// What a client's reply made suspect of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// One connection was ended by an administrator (57P01): the server may be going down.
    Leaving,
    /// A client could not write (25006): the server may be in recovery.
    ReadOnly,
}

/// What one worker does to know a database server.
#[derive(Debug)]
pub(crate) struct Control {
    /// The connection, until the server has let it go.
    pub(crate) server: Option<ServerId>,
    /// When a question last went out.
    asked: Option<Tick>,
    /// The next question is due.
    pub(crate) due: Tick,
    /// No login before this.
    not_before: Tick,
    /// No timer is needed before this one, which is set.
    armed: Tick,
    /// The server may be going down: the next login tells.
    leaving: bool,
    /// The server may have become a standby: the first answer after the next login tells.
    pub(crate) read_only: bool,
    /// The present question is to settle that.
    pub(crate) settles: bool,
    /// It has been seen out of recovery: who uses it expects to write.
    pub(crate) was_primary: bool,
    /// Its pools are fenced, and so many answers ago it began.
    pub(crate) fenced: Option<u32>,
    /// As far as it was read.
    pub(crate) answer: Answer,
    /// What a login begins with, by database and user, as last heard.
    pub(crate) defaults: Option<Vec<Defaults>>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            server: None,
            asked: None,
            due: Tick(0),
            not_before: Tick(0),
            armed: Tick::NEVER,
            leaving: false,
            read_only: false,
            settles: false,
            was_primary: false,
            fenced: None,
            answer: Answer::default(),
            defaults: None,
        }
    }
}

impl Control {
    /// Something is to be found out that only a login tells.
    fn needs_login(&self) -> bool {
        self.leaving || self.read_only || self.fenced.is_some()
    }

    /// How long the next question of a fenced server has to wait.
    pub(crate) fn pause(&self) -> Duration {
        match self.fenced {
            Some(answers) => FENCED_PAUSE.saturating_mul(answers.clamp(1, FENCED_PAUSES)),
            None => INTERVAL,
        }
    }
}

impl Pooler {
    /// Does for a node's control connection what is due: it is opened, asked, or ended. To be called when anything
    /// of that may have changed.
    pub(crate) fn mind_control(&mut self, now: Tick, index: u32, out: &mut Actions) {
        let wanted = self.wants_control(index);
        let Some(Node { control, .. }) = self.nodes.get(index as usize) else { return };
        let due = control.due <= now;
        match control.server.and_then(|id| Some((id, self.servers.get(id)?))) {
            None if wanted && due && control.not_before <= now => self.open_control(now, index, out),
            Some((id, server)) if matches!(server.state, ServerState::Live) && server.is_clean() => {
                let stale = control.needs_login() || server.connected.plus(LIFETIME) <= now;
                if !wanted || due && stale {
                    self.end_server(now, id, out);
                } else if due {
                    self.ask(now, id, out);
                }
            }
            Some((id, server)) if self.draining && !is_ending(server) => self.end_server(now, id, out),
            _ => {}
        }
        if wanted {
            self.arm_control(now, index);
        }
    }

    /// Whether a node is to have a control connection: while a pool has connections there, or something is suspected.
    fn wants_control(&self, index: u32) -> bool {
        let Some(Node { control, .. }) = self.nodes.get(index as usize) else { return false };
        let pooled = |server: &Server| {
            server.node == index && matches!(server.state, ServerState::Live) && !server.is_control()
        };
        !self.draining && (control.needs_login() || self.servers.iter().any(|(_, server)| pooled(server)))
    }

    fn arm_control(&mut self, now: Tick, index: u32) {
        let Some(Node { control, .. }) = self.nodes.get_mut(index as usize) else { return };
        let at = match control.server {
            Some(_) => control.due,
            None => control.due.max(control.not_before),
        };
        if now < at && at < control.armed {
            control.armed = at;
            self.timers.set(at, Timer::Control(index));
        }
    }

    pub(crate) fn control_due(&mut self, now: Tick, index: u32, out: &mut Actions) {
        let Some(Node { control, .. }) = self.nodes.get_mut(index as usize) else { return };
        if control.armed <= now {
            control.armed = Tick::NEVER;
            self.mind_control(now, index, out);
        }
    }

    /// Something a client saw, or the control connection itself, is to be settled by a login.
    pub(crate) fn suspect(&mut self, now: Tick, index: u32, what: Suspicion, out: &mut Actions) {
        let Some(Node { control, .. }) = self.nodes.get_mut(index as usize) else { return };
        let due = match what {
            Suspicion::Leaving => {
                control.leaving = true;
                now
            }
            // Who never could write does not expect to.
            Suspicion::ReadOnly if !control.was_primary => return,
            Suspicion::ReadOnly => {
                control.read_only = true;
                control.asked.map_or(now, |asked| now.max(asked.plus(READ_ONLY_PAUSE)))
            }
        };
        control.due = control.due.min(due);
        self.mind_control(now, index, out);
    }

    /// Every connection to the server is given up.
    pub(crate) fn server_gone(&mut self, now: Tick, index: u32, out: &mut Actions) {
        self.each_pool_of(now, index, out, |policy, actions| policy.server_gone(now, actions));
    }

    fn open_control(&mut self, now: Tick, index: u32, out: &mut Actions) {
        let pool = self.identity_on(index);
        let Some(Node { control, permits, .. }) = self.nodes.get_mut(index as usize) else { return };
        let Some(pool) = pool.filter(|_| permits.take_for_control()) else {
            control.not_before = now.plus(if permits.is_shared() { RETRY } else { INTERVAL });
            return;
        };
        self.begin_control(now, pool, index, out);
    }

    /// Begins its login, as a pool does it.
    pub(crate) fn begin_control(&mut self, now: Tick, pool: u32, index: u32, out: &mut Actions) -> ServerId {
        let timeout = self.config.connect_timeout;
        let deadline = if timeout.is_zero() { Tick::NEVER } else { now.plus(timeout) };
        let id = self.servers.insert(Server::new(now, pool, index, ConnId::NONE, SettingsId::NONE));
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.control.server = Some(id);
        }
        self.due(id, deadline);
        let data_source = self.pools[pool as usize].data_source;
        out.push(Action::Connect { link: Link::Server(id), data_source });
        id
    }

    /// As which pool the control connection logs in: one that has connections, else one that once had.
    fn identity_on(&self, index: u32) -> Option<u32> {
        let fit = |pool: &u32| {
            let entry = &self.pools[*pool as usize];
            let usable = entry.known && !entry.is_dedicated();
            entry.node == index && usable && entry.data_source < self.config.data_sources.len()
        };
        let pools = || (0..pool_index(self.pools.len())).filter(fit);
        let open = |pool: &u32| self.pools[*pool as usize].policy.open() > 0;
        pools().find(open).or_else(|| pools().next())
    }

    /// It is in: the server takes logins.
    pub(crate) fn control_logged_in(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(index) = self.servers.get(id).map(|server| server.node) else { return };
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.control.leaving = false;
        }
        if self.wants_control(index) {
            self.ask(now, id, out);
        } else {
            self.end_server(now, id, out);
        }
    }

    /// Its login failed. After a farewell that means: the server is gone.
    pub(crate) fn control_refused(
        &mut self,
        now: Tick,
        id: ServerId,
        class: FailureClass,
        message: String,
        out: &mut Actions,
    ) {
        let Some(server) = self.servers.get(id) else { return };
        let (index, pool) = (server.node, format!("{} (control)", self.pool_title(server.pool)));
        let refused = class == FailureClass::Authentication;
        out.report(Report::ServerLoginFailed { pool, message, refused });
        let Some(Node { control, .. }) = self.nodes.get_mut(index as usize) else { return };
        control.not_before = now.plus(match class {
            _ if class.is_terminal() => REFUSED_PAUSE,
            FailureClass::TooManyConnections => control.pause(),
            // The server is down, and while it is so no pool has connections that ask for this one.
            _ => LOST_PAUSE,
        });
        control.read_only = false;
        let left = std::mem::take(&mut control.leaving);
        if left && matches!(class, FailureClass::StartingUp | FailureClass::Unreachable) {
            self.server_gone(now, index, out);
        }
        self.end_server(now, id, out);
    }

    /// The server closed it, or it did not answer in time.
    pub(crate) fn control_lost(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get(id).filter(|server| !is_ending(server)) else { return };
        let Some(Node { control, .. }) = self.nodes.get_mut(server.node as usize) else { return };
        control.due = control.due.min(now);
        if !control.needs_login() {
            control.not_before = now.plus(LOST_PAUSE);
        }
        self.end_server(now, id, out);
    }

    /// The server has let it go.
    pub(crate) fn control_gone(&mut self, now: Tick, index: u32, out: &mut Actions) {
        let Some(node) = self.nodes.get_mut(index as usize) else { return };
        node.permits.give_from_control();
        node.control.server = None;
        self.mind_control(now, index, out);
    }

    fn ask(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get(id) else { return };
        let Some(Node { control, .. }) = self.nodes.get_mut(server.node as usize) else { return };
        control.asked = Some(now);
        control.due = now.plus(control.pause());
        control.settles = control.needs_login();
        control.answer = Answer::default();
        self.due(id, now.plus(self.config.recover_timeout));
        self.run_errand(now, id, Errand::Control, &question(), out);
    }

    pub(crate) fn each_pool_of(
        &mut self,
        now: Tick,
        index: u32,
        out: &mut Actions,
        act: impl Fn(&mut headpond_core::Pool, &mut Vec<headpond_core::Action>),
    ) {
        for pool in 0..pool_index(self.pools.len()) {
            if self.pools[pool as usize].node == index {
                self.with_pool(now, pool, out, &act);
            }
        }
    }
}

/// It was told to go already.
fn is_ending(server: &Server) -> bool {
    matches!(server.state, ServerState::Closing | ServerState::Unconfirmed)
}
