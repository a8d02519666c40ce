//! The machines' hot paths, again and again, for an instruction counter (`./bench gate`).
//!
//! usage: exchange pool|select|untracked|queued N
//!   pool: a connection acquired and released
//!   select: a simple query from readable client to released server
//!   untracked: the same, with `session_state = "ignore"`
//!   queued: as select, for a client that waits while another holds the only server

use std::io;
use std::time::Duration;

use headpond_core::{Acquired, Pool, PoolSettings, Request, Tick};
use headpond_pooler::config::{DataSource, NodeAddress, PoolMode, PoolerConfig, SessionState};
use headpond_pooler::{Action, Actions, Link, Pooler};
use headpond_wire::postgres::{encode, frontend, startup};

/// Time between two events.
const STEP: Duration = Duration::from_micros(10);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || io::Error::other("usage: exchange pool|select|untracked|queued N");
    let [case, count] = arguments.as_slice() else { return Err(usage()) };
    let count = count.parse().map_err(io::Error::other)?;
    match case.as_str() {
        "pool" => pool(count),
        "select" => assert_eq!(Stage::new(1, SessionState::Follow).select(count), count),
        "untracked" => assert_eq!(Stage::new(1, SessionState::Ignore).select(count), count),
        "queued" => assert_eq!(Stage::new(2, SessionState::Follow).queued(count), count),
        _ => return Err(usage()),
    }
    Ok(())
}

fn settings() -> PoolSettings {
    // Without tests: the one connection must be handed on at once.
    PoolSettings { max_size: 1, check: false, ..PoolSettings::on_demand() }
}

fn pool(count: u64) {
    let (mut pool, mut actions, mut now) = (Pool::new(settings(), 7), Vec::new(), Tick(0));
    pool.acquire(now, Request::of(0), &mut actions);
    let Some(headpond_core::Action::Open(conn)) = actions.pop() else { panic!("nothing was opened") };
    pool.opened(now, conn, &mut actions);
    pool.release(now, conn, &mut actions);
    for holder in 0..count {
        now = now.plus(STEP);
        assert_eq!(pool.acquire(now, Request::of(holder), &mut actions), Acquired::Granted(conn));
        pool.release(now, conn, &mut actions);
        actions.clear();
    }
}

/// A pooler with one server connection, and clients that are in.
struct Stage {
    pooler: Pooler,
    actions: Actions,
    now: Tick,
    clients: Vec<Link>,
    server: Link,
    query: Vec<u8>,
    reply: Vec<u8>,
}

impl Stage {
    fn new(clients: usize, state: SessionState) -> Self {
        let (mut query, mut reply) = (Vec::new(), Vec::new());
        frontend::query(&mut query, "select 1");
        let columns = [encode::Column { name: "?column?", of: encode::ColumnType::Int4, binary: false }];
        encode::row_description(&mut reply, columns.into_iter());
        encode::data_row(&mut reply, [Some("1")].into_iter());
        encode::command_complete(&mut reply, "SELECT 1");
        encode::ready_for_query(&mut reply, b'I');
        let mut pooler = Pooler::new(config(state).into(), 0, 1, [7; 32]);
        let (mut actions, now) = (Actions::default(), Tick(0));
        let clients: Vec<Link> =
            (0..clients).map(|_| Link::Client(pooler.accepted(now, None, false))).collect();
        let mut hello = Vec::new();
        startup::encode(&mut hello, [("user", "somebody"), ("database", "shop")].into_iter());
        for client in &clients {
            assert_eq!(pooler.received(now, *client, &hello, &mut actions), hello.len());
        }
        let server = actions.list.iter().find_map(|action| match action {
            Action::Connect { link, .. } => Some(*link),
            _ => None,
        });
        let server = server.expect("the first client makes the pool open a connection");
        pooler.connected(now, server, &mut actions);
        let mut greeting = Vec::new();
        encode::authentication_ok(&mut greeting);
        encode::parameter_status(&mut greeting, "server_version", "17.0");
        encode::backend_key_data(&mut greeting, 1, &[1; 4]);
        encode::ready_for_query(&mut greeting, b'I');
        assert_eq!(pooler.received(now, server, &greeting, &mut actions), greeting.len());
        // Asked how many connections it has, and what its catalogue says, it says what it says to everything.
        let questions = if state == SessionState::Follow { 3 } else { 1 };
        for _ in 0..questions {
            assert_eq!(pooler.received(now, server, &reply, &mut actions), reply.len());
        }
        actions.clear();
        Self { pooler, actions, now, clients, server, query, reply }
    }

    /// Replies that reached their client.
    fn select(&mut self, count: u64) -> u64 {
        let client = self.clients[0];
        (0..count).map(|_| self.ready(client) + self.ask(client) + self.answer(client)).sum()
    }

    fn queued(&mut self, count: u64) -> u64 {
        let (mut holder, mut waiter) = (self.clients[0], self.clients[1]);
        self.ready(holder);
        self.ask(holder);
        let mut answered = 0;
        for _ in 0..count {
            self.ready(waiter);
            answered += self.answer(holder);
            self.ask(waiter);
            (holder, waiter) = (waiter, holder);
        }
        answered
    }

    fn ready(&mut self, link: Link) -> u64 {
        self.now = self.now.plus(STEP);
        self.pooler.readable(self.now, link, &mut self.actions);
        self.actions.clear();
        0
    }

    fn ask(&mut self, client: Link) -> u64 {
        let consumed = self.pooler.received(self.now, client, &self.query, &mut self.actions);
        assert_eq!(consumed, self.query.len(), "the query went to the server");
        self.actions.clear();
        0
    }

    fn answer(&mut self, client: Link) -> u64 {
        self.ready(self.server);
        let consumed = self.pooler.received(self.now, self.server, &self.reply, &mut self.actions);
        assert_eq!(consumed, self.reply.len(), "the reply was relayed");
        let forwarded =
            matches!(self.actions.list.first(), Some(Action::Forward { to, .. }) if *to == client);
        self.actions.clear();
        forwarded.into()
    }
}

fn config(session_state: SessionState) -> PoolerConfig {
    let node = NodeAddress::Tcp { host: "127.0.0.1".to_owned(), port: 5432 };
    let source =
        DataSource { session_state, ..DataSource::new("shop", node, PoolMode::Transaction, settings()) };
    PoolerConfig::new(vec![source])
}
