//! A Headpond with one pool, which the configuration names: its floors apply from the start.

use futures_util::future::join_all;
use headpond_core::{CloseReason, PoolFigures, State};
use headpond_embedded::Postgres;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::database::database;
use crate::pond::{Pond, Way, until};

/// Before the shared database, for a user of its own.
pub(crate) async fn named(way: Way, settings: &str, pool: &str) -> Pond {
    let user = database().user().await;
    named_before(&database().server, way, &user, settings, pool)
}

/// Before any server.
pub(crate) fn named_before(server: &Postgres, way: Way, user: &str, settings: &str, pool: &str) -> Pond {
    let (host, port) = (server.host(), server.port());
    let source = format!("[data_source.postgres]\nhost = \"{host}\"\nport = {port}\nuser = \"{user}\"");
    Pond::of(way, user, &format!("admin_users = [\"{user}\"]\n{settings}\n{source}\n{pool}"))
}

impl Pond {
    /// Waits until the figures of its only pool are as wanted, and returns them.
    pub(crate) async fn until_pool(&self, what: &str, wanted: impl Fn(&PoolFigures) -> bool) -> PoolFigures {
        let mut found = None;
        until(what, async || {
            let snapshot = self.snapshot().await;
            found = snapshot.pools.iter().map(|row| &row.pool).find(|pool| wanted(pool)).cloned();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until so many connections are there, and all of them idle.
    pub(crate) async fn until_idle(&self, count: u32) -> PoolFigures {
        let wanted = |pool: &PoolFigures| pool.count(State::Idle) == count && pool.open() == count;
        self.until_pool(&format!("{count} idle"), wanted).await
    }
}

/// How many connections were closed for a reason.
pub(crate) fn closed(pool: &PoolFigures, reason: CloseReason) -> u64 {
    pool.counts.closed[reason as usize]
}

/// Clients that hold a connection each, in a transaction.
pub(crate) async fn holders(pond: &Pond, count: usize) -> Vec<Client> {
    let clients = pond.clients(count).await;
    for begun in join_all(clients.iter().map(|client| client.batch_execute("BEGIN"))).await {
        begun.unwrap();
    }
    // Figures are up to 100 ms old: those that are seen from now on know of this load.
    let held = |pool: &PoolFigures| pool.count(State::InUse) as usize >= count;
    pond.until_pool("held", held).await;
    clients
}

/// Waits until the console shows these values in two columns, row by row.
pub(crate) async fn until_shown(pond: &Pond, command: &str, columns: [&str; 2], expected: &[[&str; 2]]) {
    let console = pond.console().await;
    until(&format!("{command}: {expected:?}"), async || {
        let answer = console.simple_query(command).await.unwrap();
        let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        let rows: Vec<SimpleQueryRow> = answer.into_iter().filter_map(row).collect();
        let found = rows.iter().map(|row| columns.map(|column| row.get(column).unwrap_or_default()));
        found.eq(expected.iter().copied())
    })
    .await;
}
