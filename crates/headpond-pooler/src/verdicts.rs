//! What the control connection asks, and what follows from the answers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use headpond_core::Tick;
use headpond_wire::postgres::frame::Fields;

use crate::action::{Actions, ServerId};
use crate::budget::{Node, SLOTS};
use crate::control::Control;
use crate::pooler::{PoolEntry, Pooler, pool_index};

/// The question: one row for each set of login-time defaults, at least one.
/// (<https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html>)
pub(crate) fn question() -> String {
    format!(
        "SELECT {SLOTS}, pg_is_in_recovery(), d.datname, r.rolname, s.setconfig FROM (SELECT) AS server \
         LEFT JOIN pg_catalog.pg_db_role_setting AS s ON true \
         LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase \
         LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole ORDER BY 3, 4"
    )
}

/// What the server says of itself.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Connections it has for logins like ours.
    slots: Option<u32>,
    in_recovery: Option<bool>,
    defaults: Vec<Defaults>,
}

/// Settings with which sessions of a user in a database begin; an empty name stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    database: String,
    user: String,
    /// Of names and values: they may be secrets, and only their change matters.
    hash: u64,
}

impl Defaults {
    fn are_of(&self, entry: &PoolEntry) -> bool {
        let fits = |name: &str, own: &str| name.is_empty() || name == own;
        fits(&self.database, &entry.database) && fits(&self.user, &entry.user)
    }
}

impl Control {
    /// The server said, or would not say, whether it is in recovery: its pools are fenced then, or no longer.
    fn settle(&mut self, now: Tick, in_recovery: Option<bool>) {
        let settles = std::mem::take(&mut self.settles);
        self.read_only &= !settles;
        match in_recovery {
            Some(false) => {
                self.was_primary = true;
                self.fenced = None;
            }
            Some(true) if settles && self.was_primary && self.fenced.is_none() => self.fenced = Some(0),
            _ => {}
        }
        if let Some(answers) = self.fenced {
            self.fenced = Some(answers.saturating_add(1));
            self.due = now.plus(self.pause());
        }
    }
}

impl Pooler {
    /// One row of an answer.
    pub(crate) fn control_row(&mut self, index: u32, row: &[u8]) {
        let Some(Node { control, .. }) = self.nodes.get_mut(index as usize) else { return };
        let mut columns = Columns::of(row);
        let answer = &mut control.answer;
        answer.slots = columns.next().and_then(|text| text.parse().ok());
        answer.in_recovery = columns.next().map(|text| text == "t");
        if let (Some(database), Some(user), Some(settings)) = (columns.next(), columns.next(), columns.next())
            && !settings.is_empty()
        {
            let mut hasher = DefaultHasher::new();
            settings.hash(&mut hasher);
            let (database, user) = (database.to_owned(), user.to_owned());
            answer.defaults.push(Defaults { database, user, hash: hasher.finish() });
        }
    }

    /// An answer is complete; without any rows the server would not say.
    pub(crate) fn control_answered(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.deadline = Tick::NEVER;
        let (index, pool) = (server.node, server.pool);
        let Some(node) = self.nodes.get_mut(index as usize) else { return };
        let answer = std::mem::take(&mut node.control.answer);
        node.control.settle(now, answer.in_recovery);
        let ends = node.permits.is_shared() || node.control.fenced.is_some();
        if let Some(slots) = answer.slots {
            node.surveyed = Some(now);
            self.surveyed(pool, slots, out);
        }
        self.match_fences(now, index, out);
        if answer.in_recovery.is_some() {
            self.match_defaults(now, index, answer.defaults, out);
        }
        if ends {
            self.end_server(now, id, out);
        }
        self.mind_control(now, index, out);
    }

    /// Pools are fenced if their server is, and only then.
    pub(crate) fn match_fences(&mut self, now: Tick, index: u32, out: &mut Actions) {
        let Some(node) = self.nodes.get(index as usize) else { return };
        let fenced = node.control.fenced.is_some();
        self.each_pool_of(now, index, out, |policy, actions| match (policy.is_fenced(), fenced) {
            (false, true) => policy.fence(now, actions),
            (true, false) => policy.unfence(now, actions),
            _ => {}
        });
    }

    /// Sessions keep the defaults they began with: where those have changed, the pool gets new connections.
    fn match_defaults(&mut self, now: Tick, index: u32, heard: Vec<Defaults>, out: &mut Actions) {
        let Some(Node { control, .. }) = self.nodes.get_mut(index as usize) else { return };
        let Some(before) = control.defaults.replace(heard.clone()).filter(|before| *before != heard) else {
            return;
        };
        for pool in 0..pool_index(self.pools.len()) {
            let entry = &self.pools[pool as usize];
            let own = |all: &[Defaults]| -> Vec<Defaults> {
                all.iter().filter(|defaults| defaults.are_of(entry)).cloned().collect()
            };
            if entry.node == index && own(&before) != own(&heard) {
                self.with_pool(now, pool, out, |policy, actions| policy.renew(now, actions));
            }
        }
    }
}

/// The texts of a DataRow, column by column; a null is an empty one.
pub(crate) struct Columns<'a>(Fields<'a>);

impl<'a> Columns<'a> {
    pub(crate) fn of(row: &'a [u8]) -> Self {
        Self(Fields(row.get(2..).unwrap_or_default()))
    }
}

impl<'a> Iterator for Columns<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let length = match self.0.int32()? {
            u32::MAX => 0,
            length => length as usize,
        };
        Some(std::str::from_utf8(self.0.bytes(length)?).unwrap_or_default())
    }
}
