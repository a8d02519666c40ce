//! `SHOW` commands about the process as a whole.

use std::time::{Duration, SystemTime};

use headpond_core::State;

use super::View;
use super::connections::utc;
use super::pools::data_sources;
use super::table::{Column, Row, int4, int8, row, text};
use crate::tls::Held;

/// PgBouncer's version whose console this one follows, then ours: drivers parse the leading number.
pub(crate) const SERVER_VERSION: &str = concat!("1.25.0/headpond ", env!("CARGO_PKG_VERSION"));

/// The one column of what drivers ask for.
pub(crate) const SAID: &[Column] = &[text("value")];

pub(crate) const VERSION: &[Column] = &[text("version")];

pub(crate) fn version(_: &View<'_>) -> Vec<Row> {
    vec![row![format!("PgBouncer {SERVER_VERSION}")]]
}

pub(crate) const STATE: &[Column] = &[text("key"), text("value")];

pub(crate) fn state(view: &View<'_>) -> Vec<Row> {
    let pools = &view.snapshot.pools;
    let paused = !pools.is_empty() && pools.iter().all(|row| row.paused);
    let said = |yes: bool| if yes { "yes" } else { "no" };
    vec![row!["active", said(!paused)], row!["paused", said(paused)], row!["suspended", "no"]]
}

pub(crate) const CONFIG: &[Column] = &[text("key"), text("value"), text("default"), text("changeable")];

pub(crate) fn config(view: &View<'_>) -> Vec<Row> {
    let rows = view.config.settings().into_iter();
    rows.map(|s| row![s.key, s.value, s.default, if s.changeable { "yes" } else { "no" }]).collect()
}

pub(crate) const CERTIFICATES: &[Column] =
    &[text("setting"), text("file"), text("subject"), text("expires"), int8("expires_in")];

/// The certificates that were loaded; how many seconds each has left.
pub(crate) fn certificates(view: &View<'_>) -> Vec<Row> {
    let now = view.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let row = |held: &Held| {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(held.not_after.try_into().unwrap_or(0));
        let left = u64::try_from(held.not_after).unwrap_or(0).saturating_sub(now);
        row![held.setting, held.file.as_str(), held.subject.as_str(), utc(expires), left]
    };
    view.config.tls.certificates().iter().map(row).collect()
}

pub(crate) const LISTS: &[Column] = &[text("list"), int4("items")];

pub(crate) fn lists(view: &View<'_>) -> Vec<Row> {
    let snapshot = view.snapshot;
    let count = |state| snapshot.pools.iter().map(|row| row.pool.count(state)).sum::<u32>();
    let open: u32 = snapshot.pools.iter().map(|row| row.pool.open()).sum();
    let idle = count(State::Idle);
    vec![
        row!["databases", data_sources(view).len()],
        row!["users", view.config.pooler.users.names().len()],
        row!["peers", 0_u32],
        row!["pools", snapshot.pools.len()],
        row!["peer_pools", 0_u32],
        row!["free_clients", 0_u32],
        row!["used_clients", snapshot.clients_logged_in],
        row!["login_clients", snapshot.clients_logging_in],
        row!["free_servers", idle],
        row!["used_servers", open - idle],
        row!["dns_names", 0_u32],
        row!["dns_zones", 0_u32],
        row!["dns_queries", 0_u32],
        row!["dns_pending", 0_u32],
    ]
}

pub(crate) const MEM: &[Column] = &[text("name"), int4("size"), int4("used"), int4("free"), int4("memtotal")];

pub(crate) const DNS_HOSTS: &[Column] = &[text("hostname"), int8("ttl"), text("addrs")];

pub(crate) const DNS_ZONES: &[Column] = &[text("zonename"), int8("serial"), int4("count")];

pub(crate) const PEERS: &[Column] = &[int4("peer_id"), text("host"), int4("port"), int4("pool_size")];

pub(crate) const PEER_POOLS: &[Column] = &[
    int4("peer_id"),
    int4("cl_active_cancel_req"),
    int4("cl_waiting_cancel_req"),
    int4("sv_active_cancel"),
    int4("sv_login"),
];
