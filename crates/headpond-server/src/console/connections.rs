//! `SHOW` commands about clients and server connections one by one.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use headpond_core::{State, Tick};
use headpond_pooler::Tls;
use headpond_pooler::config::NodeAddress;
use headpond_pooler::figures::{ClientActivity, ClientRow, Holder, PoolRow, ServerRow};

use super::View;
use super::table::{Cell, Column, Row, int4, int8, row, text};
use crate::names;

/// The columns of `SHOW CLIENTS` and `SHOW SERVERS`.
pub(crate) const CONNECTIONS: &[Column] = SOCKETS.split_at(SOCKETS.len() - SOCKET_EXTRAS).0;

/// Columns that `SHOW SOCKETS` has at its end: positions in buffers, here always 0.
const SOCKET_EXTRAS: usize = 7;

pub(crate) const SOCKETS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int4("port"),
    text("local_addr"),
    int4("local_port"),
    text("connect_time"),
    text("request_time"),
    int4("wait"),
    int4("wait_us"),
    int4("close_needed"),
    text("ptr"),
    text("link"),
    int4("remote_pid"),
    text("tls"),
    text("application_name"),
    int4("prepared_statements"),
    int4("id"),
    int4("recv_pos"),
    int4("pkt_pos"),
    int4("pkt_remain"),
    int4("send_pos"),
    int4("send_remain"),
    int4("pkt_avail"),
    int4("send_avail"),
];

pub(crate) fn clients(view: &View<'_>) -> Vec<Row> {
    view.snapshot.clients.iter().map(|row| client(view, row)).collect()
}

pub(crate) fn servers(view: &View<'_>) -> Vec<Row> {
    view.snapshot.servers.iter().map(|row| server(view, row)).collect()
}

pub(crate) fn sockets(view: &View<'_>) -> Vec<Row> {
    with_extras(clients(view).into_iter().chain(servers(view)))
}

pub(crate) fn active_sockets(view: &View<'_>) -> Vec<Row> {
    let clients = view.snapshot.clients.iter().filter(|row| row.activity != ClientActivity::Idle);
    let servers = view.snapshot.servers.iter().filter(|row| row.state != State::Idle);
    with_extras(clients.map(|row| client(view, row)).chain(servers.map(|row| server(view, row))))
}

pub(crate) const HOLDERS: &[Column] = &[
    text("data_source"),
    text("user"),
    text("node"),
    text("client_user"),
    text("application_name"),
    text("addr"),
    int4("port"),
    text("since"),
    int8("held_us"),
    text("state"),
    int4("remote_pid"),
    int4("id"),
    text("pins"),
];

/// The longest-held connections of each pool, the longest of all first.
pub(crate) fn holders(view: &View<'_>) -> Vec<Row> {
    let pools = view.snapshot.pools.iter();
    let mut holders: Vec<_> = pools.flat_map(|pool| pool.holders.iter().map(move |h| (pool, h))).collect();
    holders.sort_by_key(|(_, holder)| holder.since);
    holders.into_iter().map(|(pool, holder)| held(view, pool, holder)).collect()
}

fn held(view: &View<'_>, pool: &PoolRow, holder: &Holder) -> Row {
    let (address, port) = address(holder.address);
    row![
        pool.data_source.as_str(),
        pool.user.as_str(),
        names::node(&pool.node),
        holder.user.as_str(),
        holder.application_name.as_str(),
        address,
        port,
        time(view, holder.since),
        view.snapshot.now.0.saturating_sub(holder.since.0) / 1000,
        names::holding(holder.holding),
        holder.backend_pid.unsigned_abs(),
        holder.client,
        names::pins(holder.pinned),
    ]
}

/// PgBouncer's way to show where a client is.
pub(super) fn address(address: Option<(IpAddr, u16)>) -> (String, u32) {
    address.map_or_else(|| ("unix".to_owned(), 0), |(address, port)| (address.to_string(), u32::from(port)))
}

fn with_extras(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    rows.map(|row| [row, vec![Cell::Number(0); SOCKET_EXTRAS]].concat()).collect()
}

/// As PgBouncer: protocol and cipher; nothing in clear.
fn tls(tls: Option<&Tls>) -> String {
    tls.map_or_else(String::new, |tls| format!("{}/{}", tls.version, tls.cipher))
}

fn client(view: &View<'_>, client: &ClientRow) -> Row {
    let state = match client.activity {
        ClientActivity::Active => "active",
        ClientActivity::Waiting => "waiting",
        ClientActivity::Idle => "idle",
    };
    let waited = match client.activity {
        ClientActivity::Waiting => view.snapshot.now.since(client.requested),
        _ => Duration::ZERO,
    };
    let (address, port) = address(client.address);
    row![
        "C",
        client.user.as_str(),
        pool(view, client.pool).map(|pool| pool.data_source.as_str()),
        pool(view, client.pool).map(|pool| names::replication(pool.replication)),
        state,
        address,
        port,
        Cell::Null,
        0_u32,
        time(view, client.connected),
        time(view, client.requested),
        waited.as_secs(),
        waited.subsec_micros(),
        false,
        pointer('c', client.id),
        client.server.map_or_else(String::new, |id| pointer('s', id)),
        0_u32,
        tls(client.tls.as_deref()),
        client.application_name.as_str(),
        0_u32,
        client.id,
    ]
}

fn server(view: &View<'_>, server: &ServerRow) -> Row {
    // In PgBouncer's words, which know neither resetting nor recovering.
    let state = match server.state {
        State::Opening => "new",
        State::Idle => "idle",
        State::InUse => "active",
        State::Checking | State::Resetting | State::Recovering => "tested",
        State::BeingCancelled => "being_canceled",
        State::Closing => "closing",
    };
    let pool = pool(view, server.pool);
    let (address, port) = match pool.map(|pool| &pool.node) {
        Some(NodeAddress::Tcp { host, port }) => (host.as_str(), *port),
        Some(NodeAddress::Unix { port, .. }) => ("unix", *port),
        None => ("", 0),
    };
    row![
        "S",
        pool.map(|pool| pool.user.as_str()),
        pool.map(|pool| pool.data_source.as_str()),
        pool.map(|pool| names::replication(pool.replication)),
        state,
        address,
        u32::from(port),
        Cell::Null,
        0_u32,
        time(view, server.connected),
        time(view, server.requested),
        0_u32,
        0_u32,
        server.close_needed.is_some(),
        pointer('s', server.id),
        server.client.map_or_else(String::new, |id| pointer('c', id)),
        server.backend_pid.unsigned_abs(),
        tls(server.tls.as_deref()),
        server.application_name.as_str(),
        0_u32,
        server.id,
    ]
}

fn pool<'a>(view: &View<'a>, index: usize) -> Option<&'a PoolRow> {
    view.snapshot.pools.get(index)
}

/// What stands for PgBouncer's addresses in memory: distinct for clients and server connections, so that `link`
/// can be joined with `ptr`.
fn pointer(kind: char, id: u64) -> String {
    format!("{kind}{id:x}")
}

pub(super) fn time(view: &View<'_>, tick: Tick) -> String {
    utc(view.wall.checked_sub(view.snapshot.now.since(tick)).unwrap_or(view.wall))
}

/// As PgBouncer writes times, always in UTC.
pub(crate) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date that lies `days` after 1970-01-01, by counting years from March, so that the leap day is the last
/// (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}
