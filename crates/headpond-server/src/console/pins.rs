//! `SHOW PINS`: which connections stay with their clients past the end of a transaction, and why.

use std::cmp::Reverse;
use std::collections::HashMap;

use headpond_pooler::figures::{ClientRow, Pinned, PoolRow};

use super::View;
use super::connections::{address, time};
use super::table::{Column, Row, int4, int8, row, text};
use crate::names;

pub(crate) const PINS: &[Column] = &[
    text("data_source"),
    text("user"),
    text("node"),
    text("client_user"),
    text("application_name"),
    text("addr"),
    int4("port"),
    text("reasons"),
    text("since"),
    int8("pinned_s"),
    int8("transactions"),
    int4("remote_pid"),
    int4("id"),
    int4("of_application"),
];

/// An application, as far as a pool's figures tell.
type Application<'a> = (usize, &'a str);

/// Every pinned connection, those of an application together: that with most of them first, then the oldest pins.
pub(crate) fn pins(view: &View<'_>) -> Vec<Row> {
    let snapshot = view.snapshot;
    let mut pins: Vec<_> = snapshot
        .clients
        .iter()
        .filter_map(|client| Some((client, client.pinned?, snapshot.pools.get(client.pool)?)))
        .collect();
    let mut of_application = HashMap::<_, u32>::new();
    pins.iter().for_each(|(client, ..)| *of_application.entry(application(client)).or_default() += 1);
    pins.sort_by_key(|(client, pinned, _)| {
        let application = application(client);
        (Reverse(of_application[&application]), application, pinned.since)
    });
    let backends: HashMap<_, _> = snapshot.servers.iter().map(|row| (row.id, row.backend_pid)).collect();
    let backend = |client: &ClientRow| client.server.and_then(|id| backends.get(&id)).copied().unwrap_or(0);
    pins.iter()
        .map(|(client, pinned, pool)| {
            pin(view, client, *pinned, pool, backend(client), of_application[&application(client)])
        })
        .collect()
}

fn application(client: &ClientRow) -> Application<'_> {
    (client.pool, &client.application_name)
}

fn pin(
    view: &View<'_>,
    client: &ClientRow,
    pinned: Pinned,
    pool: &PoolRow,
    backend: i32,
    of_application: u32,
) -> Row {
    let (address, port) = address(client.address);
    row![
        pool.data_source.as_str(),
        pool.user.as_str(),
        names::node(&pool.node),
        client.user.as_str(),
        client.application_name.as_str(),
        address,
        port,
        names::pins(Some(pinned)),
        time(view, pinned.since),
        view.snapshot.now.since(pinned.since).as_secs(),
        pinned.transactions,
        backend.unsigned_abs(),
        client.id,
        of_application,
    ]
}
