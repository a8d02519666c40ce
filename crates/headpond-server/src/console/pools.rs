//! `SHOW` commands about pools, data sources and users.

use std::collections::BTreeMap;

use headpond_core::{CloseReason, Marks, State};
use headpond_pooler::config::{DataSource, NodeAddress};
use headpond_pooler::figures::PoolRow;

use super::View;
use super::table::{Cell, Column, Row, int4, int8, row, text};
use crate::names;

/// PgBouncer's columns, then ours.
pub(crate) const POOLS: &[Column] = &[
    text("database"),
    text("user"),
    int4("cl_active"),
    int4("cl_waiting"),
    int4("cl_active_cancel_req"),
    int4("cl_waiting_cancel_req"),
    int4("sv_active"),
    int4("sv_active_cancel"),
    int4("sv_being_canceled"),
    int4("sv_idle"),
    int4("sv_used"),
    int4("sv_tested"),
    int4("sv_login"),
    int4("maxwait"),
    int4("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
    text("node"),
    int4("in_use"),
    int4("idle"),
    int4("opening"),
    int4("checking"),
    int4("resetting"),
    int4("recovering"),
    int4("being_cancelled"),
    int4("closing"),
    int4("max_size"),
    int4("high_water_in_use"),
    int4("high_water_waiting"),
    int4("high_water_open"),
    int8("high_water_wait_us"),
    int8("opened"),
    int4("effective_max"),
    int4("budget"),
    int4("budget_used"),
    text("alarms"),
    int4("awaiting_credentials"),
    text("replication"),
    int4("pinned"),
    text("pins"),
    int8("idle_us"),
    text("efficiency"),
];

pub(crate) fn pools(view: &View<'_>) -> Vec<Row> {
    view.snapshot.pools.iter().map(pool).collect()
}

fn pool(row: &PoolRow) -> Row {
    let count = |state| row.pool.count(state);
    let tested = count(State::Checking) + count(State::Resetting) + count(State::Recovering);
    let oldest_wait_us = row.oldest_wait / 1000;
    let marks = row.pool.marks.reset;
    let alarms: Vec<_> = row.pool.raised().map(|(alarm, _)| alarm.name()).collect();
    let pins: Vec<_> = row.pinned.reasons().map(|(reason, pinned)| format!("{reason} {pinned}")).collect();
    row![
        row.data_source.as_str(),
        row.user.as_str(),
        row.clients_active + row.clients_idle,
        row.pool.waiting,
        row.clients_cancelling,
        0_u32,
        count(State::InUse),
        0_u32,
        count(State::BeingCancelled),
        count(State::Idle),
        0_u32,
        tested,
        count(State::Opening),
        oldest_wait_us / 1_000_000,
        oldest_wait_us % 1_000_000,
        names::mode(row.mode),
        Cell::Null,
        names::node(&row.node),
        count(State::InUse),
        count(State::Idle),
        count(State::Opening),
        count(State::Checking),
        count(State::Resetting),
        count(State::Recovering),
        count(State::BeingCancelled),
        count(State::Closing),
        row.pool.settings.max_size,
        marks.in_use,
        marks.waiting,
        marks.open,
        marks.wait / 1000,
        row.pool.counts.opened,
        row.pool.effective_max,
        row.budget,
        row.budget_used,
        alarms.join(", "),
        u32::from(row.awaiting_credentials),
        names::replication(row.replication),
        row.pinned.connections,
        pins.join(", "),
        row.traffic.idle_time / 1000,
        row.efficiency().map(|share| format!("{share:.3}")),
    ]
}

pub(crate) const MARKS: &[Column] = &[
    text("data_source"),
    text("user"),
    text("node"),
    text("window"),
    int4("in_use"),
    int4("waiting"),
    int4("open"),
    int8("wait_us"),
];

pub(crate) fn marks(view: &View<'_>) -> Vec<Row> {
    let of_pool = |row: &PoolRow| {
        names::windows(&row.pool.marks).map(|(window, marks)| {
            let (source, user) = (row.data_source.as_str(), row.user.as_str());
            let Marks { in_use, waiting, open, wait } = marks;
            row![source, user, names::node(&row.node), window, in_use, waiting, open, wait / 1000]
        })
    };
    view.snapshot.pools.iter().flat_map(of_pool).collect()
}

pub(crate) const ALARMS: &[Column] =
    &[text("data_source"), text("user"), text("node"), text("alarm"), text("advice"), text("cause")];

/// Alarms that are raised.
pub(crate) fn alarms(view: &View<'_>) -> Vec<Row> {
    let of_pool = |row: &PoolRow| {
        let alarms = row.pool.raised().map(|(alarm, cause)| {
            let (source, user) = (row.data_source.as_str(), row.user.as_str());
            let cause = cause.map(CloseReason::name);
            row![source, user, names::node(&row.node), alarm.name(), names::advice(alarm), cause]
        });
        alarms.collect::<Vec<_>>()
    };
    view.snapshot.pools.iter().flat_map(of_pool).collect()
}

pub(crate) const CLOSE_REASONS: &[Column] =
    &[text("data_source"), text("user"), text("node"), text("reason"), int8("closed")];

/// Reasons that have occurred.
pub(crate) fn close_reasons(view: &View<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for row in &view.snapshot.pools {
        for (reason, closed) in CloseReason::ALL.into_iter().zip(row.pool.counts.closed) {
            if closed > 0 {
                let (source, user) = (row.data_source.as_str(), row.user.as_str());
                rows.push(row![source, user, names::node(&row.node), reason.name(), closed]);
            }
        }
    }
    rows
}

pub(crate) const DATABASES: &[Column] = &[
    text("name"),
    text("host"),
    int4("port"),
    text("database"),
    text("force_user"),
    int4("pool_size"),
    int4("min_pool_size"),
    int4("reserve_pool_size"),
    int4("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int4("max_connections"),
    int4("current_connections"),
    int4("max_client_connections"),
    int4("current_client_connections"),
    int4("paused"),
    int4("disabled"),
];

/// Data sources by name: those of the configuration, and those made on demand that have a pool.
pub(crate) fn data_sources<'a>(view: &View<'a>) -> BTreeMap<&'a str, &'a DataSource> {
    let pooler = &view.config.pooler;
    let named = pooler.data_sources.iter().map(|source| source.name.as_str()).filter(|name| *name != "*");
    let pooled = view.snapshot.pools.iter().map(|row| row.data_source.as_str());
    // A pool whose data source has just been taken out of the configuration has none.
    named.chain(pooled).filter_map(|name| Some((name, pooler.data_source(name)?.1))).collect()
}

pub(crate) fn databases(view: &View<'_>) -> Vec<Row> {
    let rows = data_sources(view).into_iter();
    rows.map(|(name, source)| {
        let pools = || view.snapshot.pools.iter().filter(|row| row.data_source == name);
        let open: u32 = pools().map(|row| row.pool.open()).sum();
        let clients: u32 = pools().map(clients_of).sum();
        let (host, port) = match &source.node {
            NodeAddress::Tcp { host, port } => (host, *port),
            NodeAddress::Unix { folder, port } => (folder, *port),
        };
        row![
            name,
            host.as_str(),
            u32::from(port),
            source.database.as_deref().unwrap_or(name),
            source.user.as_deref(),
            source.pool.max_size,
            source.pool.min_size,
            0_u32,
            source.pool.max_lifetime.as_secs(),
            names::mode(source.mode),
            Cell::Null,
            0_u32,
            open,
            0_u32,
            clients,
            pools().next().is_some() && pools().all(|row| row.paused),
            false,
        ]
    })
    .collect()
}

pub(crate) const USERS: &[Column] = &[
    text("name"),
    int4("pool_size"),
    int4("reserve_pool_size"),
    text("pool_mode"),
    int4("max_user_connections"),
    int4("current_connections"),
    int4("max_user_client_connections"),
    int4("current_client_connections"),
];

/// Users of the configuration, and those that have a pool.
pub(crate) fn users(view: &View<'_>) -> Vec<Row> {
    let mut users: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    users.extend(view.config.pooler.users.names().map(|name| (name, (0, 0))));
    for row in &view.snapshot.pools {
        let (connections, clients) = users.entry(&row.user).or_default();
        *connections += row.pool.open();
        *clients += clients_of(row);
    }
    let rows = users.into_iter();
    rows.map(|(name, (connections, clients))| {
        row![name, Cell::Null, Cell::Null, Cell::Null, 0_u32, connections, 0_u32, clients]
    })
    .collect()
}

fn clients_of(row: &PoolRow) -> u32 {
    row.clients_active + row.clients_idle + row.pool.waiting
}
