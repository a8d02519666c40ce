//! What the machine promises, one claim after the other, in virtual time. Each runs beside the model.

pub(crate) mod alarms;
pub(crate) mod checks;
pub(crate) mod commands;
pub(crate) mod fairness;
pub(crate) mod figures;
pub(crate) mod lending;
pub(crate) mod lifetime;
pub(crate) mod logins;
pub(crate) mod size;
pub(crate) mod waiting;

use std::time::Duration;

use super::model::Model;
use crate::{Acquired, Action, Alarm, CloseReason, ConnId, PoolSettings, Refusal, State, Tick};

/// At most `max_size` connections, and nothing else that happens by itself.
fn plain(max_size: u32) -> PoolSettings {
    PoolSettings {
        max_size,
        max_idle: max_size,
        idle_timeout: Duration::ZERO,
        shrink_interval: Duration::ZERO,
        check: false,
        max_lifetime: Duration::ZERO,
        ..PoolSettings::on_demand()
    }
}

/// All sizes the same.
fn fixed(size: u32) -> PoolSettings {
    PoolSettings { min_idle: size, initial_size: size, min_size: size, ..plain(size) }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Model {
    fn of(settings: PoolSettings) -> Self {
        Self::new(settings, Tick(0), 7)
    }

    /// A pool that was started, with whatever it opened open.
    fn started(settings: PoolSettings) -> Self {
        let mut pool = Self::of(settings);
        pool.start();
        pool.settle();
        pool
    }

    fn all(&self, state: State) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| conn.state == state).map(|(id, _)| *id).collect()
    }

    fn one(&self, state: State) -> ConnId {
        self.all(state)[0]
    }

    /// The server is well: logins and tests succeed, and what was closed is gone.
    fn settle(&mut self) {
        loop {
            let busy = |conn: &super::model::Conn| match conn.state {
                State::Opening | State::Closing => true,
                state => state == State::Checking && !conn.judged,
            };
            let Some((id, state)) =
                self.conns.iter().find(|(_, conn)| busy(conn)).map(|(id, conn)| (*id, conn.state))
            else {
                return;
            };
            match state {
                State::Opening => self.opened(id),
                State::Closing => self.closed(id),
                _ => self.ready(id),
            }
        }
    }

    /// Lets time go by with a server that is well.
    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        self.settle();
        loop {
            let next = self.pool.next_deadline(self.now);
            if next > end {
                break;
            }
            self.on_timer(next);
            self.settle();
        }
        self.now = end;
    }

    /// The same, except that nothing answers. What was said meanwhile, and when.
    fn watch(&mut self, time: Duration) -> Vec<(Duration, Action)> {
        let end = self.now.plus(time);
        let mut said = Vec::new();
        loop {
            let next = self.pool.next_deadline(self.now);
            if next > end {
                break;
            }
            self.on_timer(next);
            said.extend(self.said.iter().map(|action| (next.since(Tick(0)), *action)));
        }
        self.now = end;
        said
    }

    /// A request that is served at once.
    fn lease(&mut self) -> ConnId {
        let Acquired::Granted(id) = self.acquire(0, None) else { panic!("it is not served at once") };
        id
    }

    /// A request that is served, by a connection opened for it if need be.
    fn lease_new(&mut self) -> ConnId {
        let before = self.all(State::InUse);
        self.acquire(0, None);
        self.settle();
        let id = self.all(State::InUse).into_iter().find(|id| !before.contains(id));
        id.expect("it is served")
    }

    /// A request that waits.
    fn ask(&mut self, application: u32) {
        assert!(matches!(self.acquire(application, None), Acquired::Queued(_)));
    }

    /// Whose requests are served, releasing the only connection again and again.
    fn order(&mut self, grants: usize) -> Vec<u64> {
        self.settle();
        let mut order = self.granted();
        while order.len() < grants {
            let id = self.one(State::InUse);
            self.release(id);
            order.extend(self.granted());
        }
        order
    }

    fn granted(&self) -> Vec<u64> {
        let holder =
            |action: &Action| if let Action::Grant { holder, .. } = action { Some(*holder) } else { None };
        self.said.iter().filter_map(holder).collect()
    }

    fn refused(&self) -> Vec<(u64, Refusal)> {
        let refusal = |action: &Action| {
            if let Action::Refuse { holder, why, .. } = action { Some((*holder, *why)) } else { None }
        };
        self.said.iter().filter_map(refusal).collect()
    }

    fn count_opened(&self) -> usize {
        self.said.iter().filter(|action| matches!(action, Action::Open(_))).count()
    }

    fn count_closed(&self, reason: CloseReason) -> u64 {
        self.pool.counts.closed[reason as usize]
    }

    fn sizes(&self) -> (u32, u32) {
        (self.count(State::InUse), self.count(State::Idle))
    }

    fn is_raised(&self, alarm: Alarm) -> bool {
        self.pool.figures(self.now).is_raised(alarm)
    }
}
