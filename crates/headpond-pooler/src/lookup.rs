//! Users that are not listed are looked up on a server, by a query of the operator's (`auth_query`).
//!
//! It runs on connections that serve nothing else, in a pool of their own for each user that asks (`auth_user`): no
//! client ever has one, and nothing that a client sends but its name goes there, as a parameter. A client that is looked up
//! has a place in that pool's queue, but never a lease. Whatever comes of it, the client is who it said, or nobody.

use std::collections::HashMap;
use std::time::Duration;

use headpond_core::{Acquired, CloseReason, ConnId, Tick};
use headpond_wire::postgres::frontend;

use crate::action::{Actions, ClientId, Link, Report, ServerId};
use crate::client::{ClientState, Lease};
use crate::config::{AuthMethod, DataSource, PoolerConfig, User};
use crate::exchange::{Errand, Owner};
use crate::kind::PoolKind;
use crate::pooler::{PoolEntry, Pooler};
use crate::refuse::Cause;
use crate::users::Mix;
use crate::verdicts::Columns;

/// Answers that are kept at most.
const KNOWN_MAX: usize = 10_000;

/// Connections of a pool that looks users up, at most: logins are few, and the database is not theirs.
const CONNECTIONS_MAX: u32 = 2;

/// Pools in which users are looked up, at most.
const POOLS_MAX: usize = 64;

/// What the server calls those connections.
pub(crate) const APPLICATION: &str = "headpond auth_query";

/// What clients hear while users cannot be looked up: who they are is not known, so no more than that.
const NOT_NOW: &str = "users cannot be looked up at present";

/// Who was asked for, and where: the data source, by its place and by the name clients use, and the user.
pub(crate) type Asked = (usize, String, String);

/// A client that is being looked up.
#[derive(Debug)]
pub(crate) struct Lookup {
    asked: Asked,
    /// The data source it wants.
    database: String,
    method: AuthMethod,
    rows: u32,
    found: Option<User>,
    /// When it began, by [`Lookups::round`].
    round: u32,
    /// The server did not answer the question.
    failed: bool,
}

/// What was found lately.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    known: HashMap<Asked, (Tick, Option<User>)>,
    /// Of users who exist.
    mix: Mix,
    /// How often all of it was forgotten: an answer to what was asked before is not kept.
    round: u32,
}

impl Lookups {
    fn get(&self, now: Tick, asked: &Asked, age: Duration) -> Option<Option<User>> {
        let (at, user) = self.known.get(asked)?;
        (now.since(*at) < age).then(|| user.clone())
    }

    fn insert(&mut self, now: Tick, asked: Asked, user: Option<User>, age: Duration) {
        if self.known.len() >= KNOWN_MAX {
            self.known.retain(|_, (at, _)| now.since(*at) < age);
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        if let Some(user) = &user {
            self.mix.count(user);
        }
        self.known.insert(asked, (now, user));
    }

    pub(crate) fn forget(&mut self, asked: &Asked) {
        self.known.remove(asked);
    }

    /// What a server no longer believes is not believed here either.
    pub(crate) fn forget_user(&mut self, user: &str) {
        self.known.retain(|(_, _, name), _| name != user);
    }

    pub(crate) fn clear(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.known.clear();
    }

    /// What users who exist are like, for those who do not.
    pub(crate) fn mix(&self) -> Mix {
        if self.mix == Mix::default() { Mix::usual() } else { self.mix }
    }
}

impl PoolerConfig {
    /// The data source by which a user of `database` is looked up, and the name of the one in which; `None`: it is not.
    pub(crate) fn lookup_of<'a>(&'a self, database: &'a str, user: &str) -> Option<(usize, &'a str)> {
        let (index, source) = self.data_source(database)?;
        let asker = source.lookup.user.as_deref()?;
        if asker == user || self.users.get(user).is_some() {
            return None;
        }
        Some((index, source.lookup.data_source.as_deref().unwrap_or(database)))
    }
}

impl Pooler {
    /// Looks a user up, if that is how it is known. True: it goes on when there is an answer.
    pub(crate) fn look_up(
        &mut self,
        now: Tick,
        id: ClientId,
        (user, database): (&str, &str),
        method: AuthMethod,
        out: &mut Actions,
    ) -> bool {
        let config = std::sync::Arc::clone(&self.config);
        if method == AuthMethod::Trust {
            return false;
        }
        let Some((index, place)) = config.lookup_of(database, user) else { return false };
        let asked = (index, place.to_owned(), user.to_owned());
        let (database, round) = (database.to_owned(), self.lookups.round);
        let lookup = Lookup { asked, database, method, rows: 0, found: None, round, failed: false };
        if let Some(user) = self.lookups.get(now, &lookup.asked, config.auth_query_age) {
            self.found(now, id, lookup, user, out);
            return true;
        }
        let asker = config.data_sources[index].lookup.user.clone().unwrap_or_default();
        let Some(pool) = self.pool_of(place, &asker, PoolKind::Lookup) else {
            let message =
                format!("there is no data source \"{place}\" (auth_dbname), or too many are asked in");
            out.report(Report::LookupFailed { pool: config.data_sources[index].name.clone(), message });
            self.refuse_login(id, &Cause::NotLookedUp, NOT_NOW, out);
            return true;
        };
        let Some(client) = self.clients.get_mut(id) else { return true };
        client.pool = pool;
        client.state = ClientState::LookedUp(Box::new(lookup));
        self.pools[pool as usize].clients += 1;
        match self.acquire(now, pool, id, None, out) {
            Acquired::Granted(conn) => self.granted(now, pool, id, conn, 0, out),
            Acquired::Queued(waiter) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.lease = Lease::Waiting(waiter);
                }
            }
            Acquired::Refused(_) => self.not_looked_up(id, out),
        }
        true
    }

    /// The client's turn has come.
    pub(crate) fn lookup_granted(
        &mut self,
        now: Tick,
        pool: u32,
        id: ClientId,
        (server_id, conn): (ServerId, ConnId),
        out: &mut Actions,
    ) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.lease = Lease::None;
        let ClientState::LookedUp(lookup) = &client.state else { return };
        let (asked, current) = (lookup.asked.clone(), lookup.round == self.lookups.round);
        // A reload may have given its data source another place.
        let query = self.config.data_source(&lookup.database).map(|(_, source)| source.lookup.query.clone());
        let known = self.lookups.get(now, &asked, self.config.auth_query_age);
        if let Some(user) = known.filter(|_| current) {
            // Somebody else has asked meanwhile.
            self.with_pool(now, pool, out, |policy, actions| policy.release(now, conn, actions));
            self.lookup_ends(now, id, user, out);
            return;
        }
        let Some(server) = self.servers.get_mut(server_id) else { return };
        server.looks_up = Some(id);
        server.requested = now;
        let owner = Owner::Pooler(Errand::Lookup);
        let all = b"PBES".iter().all(|tag| server.exchanges.sent(*tag, owner).is_ok());
        let query = query.filter(|_| all).unwrap_or_default();
        out.send(Link::Server(server_id), |bytes| ask(bytes, &query, &asked.2));
        let timeout = self.config.connect_timeout;
        self.due(server_id, if timeout.is_zero() { Tick::NEVER } else { now.plus(timeout) });
    }

    /// One row of the answer.
    pub(crate) fn lookup_row(&mut self, id: ServerId, row: &[u8], out: &mut Actions) {
        let Some((client, pool)) = self.looks_up(id) else { return };
        let Some(ClientState::LookedUp(lookup)) =
            self.clients.get_mut(client).map(|client| &mut client.state)
        else {
            return;
        };
        lookup.rows += 1;
        let user = &lookup.asked.2;
        let found = if lookup.rows > 1 {
            Err("returned more than one row")
        } else {
            user_in(row, user, lookup.method)
        };
        let wrong = found.as_ref().err().copied();
        lookup.found = found.ok();
        if let Some(wrong) = wrong {
            let message = format!("auth_query {wrong} (for \"{user}\")");
            out.report(Report::LookupFailed { pool: self.pool_title(pool), message });
        }
    }

    /// The server has something against the question.
    pub(crate) fn lookup_refused(&mut self, id: ServerId, message: &str, out: &mut Actions) {
        let Some((client, pool)) = self.looks_up(id) else { return };
        out.report(Report::LookupFailed { pool: self.pool_title(pool), message: message.to_owned() });
        if let Some(ClientState::LookedUp(lookup)) =
            self.clients.get_mut(client).map(|client| &mut client.state)
        {
            lookup.failed = true;
        }
    }

    fn looks_up(&self, id: ServerId) -> Option<(ClientId, u32)> {
        let server = self.servers.get(id)?;
        Some((server.looks_up?, server.pool))
    }

    /// The answer is complete: the connection goes on to the next, and the client with what was found.
    pub(crate) fn lookup_over(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (pool, conn) = (server.pool, server.conn);
        server.deadline = Tick::NEVER;
        let client = server.looks_up.take();
        self.with_pool(now, pool, out, |policy, actions| policy.release(now, conn, actions));
        let Some(client) = client else { return };
        let Some(ClientState::LookedUp(lookup)) =
            self.clients.get_mut(client).map(|client| &mut client.state)
        else {
            return;
        };
        if lookup.failed {
            self.not_looked_up(client, out);
            return;
        }
        let found = if lookup.rows == 1 { lookup.found.take() } else { None };
        if lookup.round == self.lookups.round {
            let asked = lookup.asked.clone();
            self.lookups.insert(now, asked, found.clone(), self.config.auth_query_age);
        }
        self.lookup_ends(now, client, found, out);
    }

    /// The connection goes before it has answered: so does whoever was looked up on it.
    pub(crate) fn lookup_lost(&mut self, id: ServerId, out: &mut Actions) {
        if let Some(client) = self.servers.get_mut(id).and_then(|server| server.looks_up.take()) {
            self.not_looked_up(client, out);
        }
    }

    /// It takes too long.
    pub(crate) fn lookup_overdue(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        self.lookup_refused(id, "auth_query took longer than connect_timeout", out);
        let Some(server) = self.servers.get(id) else { return };
        let (pool, conn) = (server.pool, server.conn);
        self.with_pool(now, pool, out, |policy, actions| {
            policy.close(now, conn, CloseReason::RecoverTimeout, actions);
        });
    }

    /// Nobody can say who a client is.
    pub(crate) fn not_looked_up(&mut self, id: ClientId, out: &mut Actions) {
        self.refuse_login(id, &Cause::NotLookedUp, NOT_NOW, out);
    }

    /// The client leaves the pool it was looked up in.
    fn lookup_ends(&mut self, now: Tick, id: ClientId, user: Option<User>, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let ClientState::LookedUp(lookup) = std::mem::replace(&mut client.state, ClientState::Startup) else {
            return;
        };
        let pool = std::mem::replace(&mut client.pool, u32::MAX);
        self.pools[pool as usize].clients -= 1;
        self.found(now, id, *lookup, user, out);
        self.read_on(id, out);
    }

    fn found(&mut self, now: Tick, id: ClientId, lookup: Lookup, user: Option<User>, out: &mut Actions) {
        let Lookup { asked, database, method, .. } = lookup;
        let who = (asked.2.clone(), database);
        self.begin_proof(now, id, method, who, Some((asked, user)), out);
    }

    /// Where a new pool is kept. Clients who have proved nothing name databases: the pools in which they are looked up are
    /// few, and one that nobody uses gives its place to the next.
    pub(crate) fn place_for(&self, kind: PoolKind) -> Option<usize> {
        let lookups = || self.pools.iter().enumerate().filter(|(_, entry)| entry.kind == PoolKind::Lookup);
        if kind != PoolKind::Lookup || lookups().count() < POOLS_MAX {
            return Some(self.pools.len());
        }
        let unused =
            |entry: &PoolEntry| entry.clients == 0 && entry.policy.waiting() == 0 && entry.policy.open() == 0;
        lookups().find(|(_, entry)| unused(entry)).map(|(place, _)| place)
    }

    /// How a pool is made that only looks users up, in `source`.
    pub(crate) fn lookup_settings(source: &DataSource) -> headpond_core::PoolSettings {
        let settings = source.pool.clone();
        headpond_core::PoolSettings {
            max_size: settings.max_size.min(CONNECTIONS_MAX),
            min_idle: 0,
            initial_size: 0,
            min_size: 0,
            ..settings
        }
    }
}

/// The secrets of the user of this name, in a row of the answer; or what is wrong with it.
pub(crate) fn user_in(row: &[u8], name: &str, method: AuthMethod) -> Result<User, &'static str> {
    let mut columns = Columns::of(row);
    let (said, secret) = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
    if said != name {
        return Err("returned another user than the one it was asked for");
    }
    let user = User::of(name, secret).ok_or("returned a broken secret")?;
    if user.password.is_some() && method == AuthMethod::ScramSha256 {
        return Err("returned a password in clear, and clients are asked by SCRAM-SHA-256");
    }
    Ok(user)
}

/// The question, with its one parameter as text: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
fn ask(bytes: &mut Vec<u8>, query: &str, user: &str) {
    frontend::parse(bytes, |_| {}, &[query.as_bytes(), b"\0\0\0"].concat());
    frontend::bind_text(bytes, user);
    frontend::execute(bytes);
    frontend::sync(bytes);
}
