//! The figures as JSON: our words, units at the end of names.

use std::collections::BTreeMap;
use std::time::Duration;

use headpond_core::{Alarm, CloseReason, Marks, PoolSettings, State, Tick};
use headpond_pooler::figures::{
    self, ClientActivity, ClientRow, Holder, PinFigures, PoolRow, ServerRow, Snapshot,
};
use serde::Serialize;

use crate::names;

/// Everything.
#[derive(Serialize)]
pub(crate) struct Figures<'a> {
    version: &'static str,
    uptime_s: u64,
    clients_logged_in: u32,
    clients_logging_in: u32,
    logins_refused: u64,
    cancels_received: u64,
    cancels_forwarded: u64,
    reply_mismatches: u64,
    pools: Vec<Pool<'a>>,
    clients: Vec<Client<'a>>,
    server_connections: Vec<ServerConnection<'a>>,
}

#[derive(Serialize)]
struct Pool<'a> {
    data_source: &'a str,
    user: &'a str,
    node: String,
    database: &'a str,
    pool_mode: &'static str,
    replication: &'static str,
    paused: bool,
    awaiting_credentials: bool,
    last_error: Option<&'a str>,
    /// By state.
    connections: BTreeMap<&'static str, u32>,
    open: u32,
    waiting: u32,
    oldest_wait_us: u64,
    clients_active: u32,
    clients_idle: u32,
    clients_cancelling: u32,
    settings: Settings,
    /// `max_size`, or what server and budget allow if that is less.
    effective_max: u32,
    /// Of all pools of the server together; absent while not known.
    budget: Option<u32>,
    budget_used: u32,
    /// Those that are raised.
    alarms: Vec<Raised>,
    /// By window.
    high_water: BTreeMap<&'static str, HighWater>,
    /// For how long so many were in use, from 0.
    in_use_for_us: Vec<u64>,
    /// Those who have held a connection for longest.
    holders: Vec<Held<'a>>,
    opened: u64,
    /// By reason.
    closed: BTreeMap<&'static str, u64>,
    logins_failed: u64,
    acquires: u64,
    refused: u64,
    waits: Waits,
    leases: Leases,
    traffic: Traffic,
    /// Connections that stay with their clients past the end of a transaction.
    pinned: Pins,
    /// The share of the time of leases that was not spent idle outside transactions; absent before the first.
    multiplexing_efficiency: Option<f64>,
}

#[derive(Serialize)]
struct Pins {
    connections: u32,
    /// By reason, of which a connection may have several.
    reasons: BTreeMap<&'static str, u32>,
    begun: BTreeMap<&'static str, u64>,
    ended: BTreeMap<&'static str, u64>,
    time_us: u64,
}

/// What pins one connection.
#[derive(Serialize)]
struct Pinned {
    reasons: Vec<&'static str>,
    for_us: u64,
    /// Those that ended meanwhile.
    transactions: u64,
}

#[derive(Serialize)]
struct Settings {
    max_size: u32,
    max_idle: u32,
    min_idle: u32,
    initial_size: u32,
    min_size: u32,
    idle_timeout_ms: u128,
    shrink_interval_ms: u128,
    acquire_timeout_ms: u128,
    max_waiters: u32,
    check: bool,
    trust_window_ms: u128,
    check_interval_ms: u128,
    max_lifetime_ms: u128,
    max_logins: u32,
    login_delay_ms: u128,
    login_retry_ms: u128,
    leak_after_ms: u128,
    leak_reclaim: bool,
    round_robin: bool,
    statement_cache_size: u32,
}

#[derive(Serialize)]
struct Held<'a> {
    client: u64,
    user: &'a str,
    application_name: &'a str,
    /// Absent for a Unix socket.
    address: Option<String>,
    held_us: u64,
    state: &'static str,
    backend_pid: i32,
    pinned: Option<Pinned>,
}

#[derive(Serialize)]
struct Raised {
    alarm: &'static str,
    advice: &'static str,
    /// Why most connections were closed, if it is about that.
    cause: Option<&'static str>,
}

#[derive(Serialize)]
struct HighWater {
    in_use: u32,
    waiting: u32,
    open: u32,
    wait_us: u64,
}

#[derive(Serialize)]
struct Waits {
    begun: u64,
    granted: u64,
    timed_out: u64,
    withdrawn: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Leases {
    ended: u64,
    held_us: u64,
    mean_hold_us: u64,
    leaks: u64,
}

#[derive(Serialize)]
struct Traffic {
    leases: u64,
    transactions: u64,
    queries: u64,
    received_bytes: u64,
    sent_bytes: u64,
    transaction_time_us: u64,
    query_time_us: u64,
    /// Leased, but idle outside transactions.
    idle_time_us: u64,
    wait_time_us: u64,
    client_parses: u64,
    server_parses: u64,
    binds: u64,
    client_logins: u64,
}

#[derive(Serialize)]
struct Client<'a> {
    id: u64,
    /// Index into `pools`.
    pool: usize,
    user: &'a str,
    activity: &'static str,
    /// Absent for a Unix socket.
    address: Option<String>,
    connected_for_us: u64,
    requested_before_us: u64,
    server_connection: Option<u64>,
    application_name: &'a str,
    pinned: Option<Pinned>,
}

#[derive(Serialize)]
struct ServerConnection<'a> {
    id: u64,
    /// Index into `pools`.
    pool: usize,
    state: &'static str,
    connected_for_us: u64,
    leased_before_us: u64,
    client: Option<u64>,
    backend_pid: i32,
    close_needed: Option<&'static str>,
    application_name: &'a str,
    pinned: Option<Pinned>,
}

impl<'a> Figures<'a> {
    /// Of a snapshot; clients and server connections are empty where it has none.
    pub(crate) fn new(snapshot: &'a Snapshot, uptime: Duration) -> Self {
        let age_us = |tick: Tick| us(snapshot.now.0.saturating_sub(tick.0));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: uptime.as_secs(),
            clients_logged_in: snapshot.clients_logged_in,
            clients_logging_in: snapshot.clients_logging_in,
            logins_refused: snapshot.logins_refused,
            cancels_received: snapshot.cancels_received,
            cancels_forwarded: snapshot.cancels_forwarded,
            reply_mismatches: snapshot.reply_mismatches,
            pools: snapshot.pools.iter().map(|row| pool(row, age_us)).collect(),
            clients: snapshot.clients.iter().map(|row| client(row, age_us)).collect(),
            server_connections: snapshot.servers.iter().map(|row| server_connection(row, age_us)).collect(),
        }
    }
}

fn pool(row: &PoolRow, age_us: impl Fn(Tick) -> u64) -> Pool<'_> {
    let (pool, traffic) = (&row.pool, &row.traffic);
    let counts = &pool.counts;
    Pool {
        data_source: &row.data_source,
        user: &row.user,
        node: names::node(&row.node),
        database: &row.database,
        pool_mode: names::mode(row.mode),
        replication: names::replication(row.replication),
        paused: row.paused,
        awaiting_credentials: row.awaiting_credentials,
        last_error: row.last_error.as_deref(),
        connections: State::ALL.map(|state| (state.name(), pool.count(state))).into(),
        open: pool.open(),
        waiting: pool.waiting,
        oldest_wait_us: us(row.oldest_wait),
        clients_active: row.clients_active,
        clients_idle: row.clients_idle,
        clients_cancelling: row.clients_cancelling,
        settings: settings(&pool.settings),
        effective_max: pool.effective_max,
        budget: row.budget,
        budget_used: row.budget_used,
        alarms: pool.raised().map(|(alarm, cause)| raised(alarm, cause)).collect(),
        high_water: names::windows(&pool.marks).map(|(window, marks)| (window, high_water(marks))).into(),
        in_use_for_us: pool.levels.iter().map(|time| us(*time)).collect(),
        holders: row.holders.iter().map(|holder| held(holder, &age_us)).collect(),
        opened: counts.opened,
        closed: CloseReason::ALL.map(CloseReason::name).into_iter().zip(counts.closed).collect(),
        logins_failed: counts.logins_failed,
        acquires: counts.acquires,
        refused: counts.refused,
        waits: Waits {
            begun: counts.waits,
            granted: counts.waits_granted,
            timed_out: counts.waits_timed_out,
            withdrawn: counts.waits_withdrawn,
            failed: counts.waits_failed,
        },
        leases: Leases {
            ended: counts.holds,
            held_us: us(counts.hold_time),
            mean_hold_us: us(counts.hold_time.checked_div(counts.holds).unwrap_or(0)),
            leaks: counts.leaks,
        },
        traffic: Traffic {
            leases: traffic.leases,
            transactions: traffic.transactions,
            queries: traffic.queries,
            received_bytes: traffic.received,
            sent_bytes: traffic.sent,
            transaction_time_us: us(traffic.transaction_time),
            query_time_us: us(traffic.query_time),
            idle_time_us: us(traffic.idle_time),
            wait_time_us: us(traffic.wait_time),
            client_parses: traffic.client_parses,
            server_parses: traffic.server_parses,
            binds: traffic.binds,
            client_logins: traffic.logins,
        },
        pinned: pins(&row.pinned),
        multiplexing_efficiency: row.efficiency(),
    }
}

fn pins(figures: &PinFigures) -> Pins {
    let names = || figures::Pins::NAMES.into_iter();
    Pins {
        connections: figures.connections,
        reasons: names().zip(figures.now).collect(),
        begun: names().zip(figures.begun).collect(),
        ended: names().zip(figures.ended).collect(),
        time_us: us(figures.time),
    }
}

fn pinned(figures: figures::Pinned, age_us: impl Fn(Tick) -> u64) -> Pinned {
    Pinned {
        reasons: figures.pins.names().collect(),
        for_us: age_us(figures.since),
        transactions: figures.transactions,
    }
}

fn raised(alarm: Alarm, cause: Option<CloseReason>) -> Raised {
    Raised { alarm: alarm.name(), advice: names::advice(alarm), cause: cause.map(CloseReason::name) }
}

fn held(holder: &Holder, age_us: impl Fn(Tick) -> u64) -> Held<'_> {
    Held {
        client: holder.client,
        user: &holder.user,
        application_name: &holder.application_name,
        address: holder.address.map(|address| std::net::SocketAddr::from(address).to_string()),
        held_us: age_us(holder.since),
        state: names::holding(holder.holding),
        backend_pid: holder.backend_pid,
        pinned: holder.pinned.map(|figures| pinned(figures, &age_us)),
    }
}

fn high_water(Marks { in_use, waiting, open, wait }: Marks) -> HighWater {
    HighWater { in_use, waiting, open, wait_us: us(wait) }
}

fn settings(settings: &PoolSettings) -> Settings {
    Settings {
        max_size: settings.max_size,
        max_idle: settings.max_idle,
        min_idle: settings.min_idle,
        initial_size: settings.initial_size,
        min_size: settings.min_size,
        idle_timeout_ms: settings.idle_timeout.as_millis(),
        shrink_interval_ms: settings.shrink_interval.as_millis(),
        acquire_timeout_ms: settings.acquire_timeout.as_millis(),
        max_waiters: settings.max_waiters,
        check: settings.check,
        trust_window_ms: settings.trust_window.as_millis(),
        check_interval_ms: settings.check_interval.as_millis(),
        max_lifetime_ms: settings.max_lifetime.as_millis(),
        max_logins: settings.max_logins,
        login_delay_ms: settings.login_delay.as_millis(),
        login_retry_ms: settings.login_retry.as_millis(),
        leak_after_ms: settings.leak_after.as_millis(),
        leak_reclaim: settings.leak_reclaim,
        round_robin: settings.round_robin,
        statement_cache_size: settings.statement_cache_size,
    }
}

fn client(row: &ClientRow, age_us: impl Fn(Tick) -> u64) -> Client<'_> {
    Client {
        id: row.id,
        pool: row.pool,
        user: &row.user,
        activity: match row.activity {
            ClientActivity::Active => "active",
            ClientActivity::Waiting => "waiting",
            ClientActivity::Idle => "idle",
        },
        address: row.address.map(|address| std::net::SocketAddr::from(address).to_string()),
        connected_for_us: age_us(row.connected),
        requested_before_us: age_us(row.requested),
        server_connection: row.server,
        application_name: &row.application_name,
        pinned: row.pinned.map(|figures| pinned(figures, &age_us)),
    }
}

fn server_connection(row: &ServerRow, age_us: impl Fn(Tick) -> u64) -> ServerConnection<'_> {
    ServerConnection {
        id: row.id,
        pool: row.pool,
        state: row.state.name(),
        connected_for_us: age_us(row.connected),
        leased_before_us: age_us(row.requested),
        client: row.client,
        backend_pid: row.backend_pid,
        close_needed: row.close_needed.map(CloseReason::name),
        application_name: &row.application_name,
        pinned: row.pinned.map(|figures| pinned(figures, &age_us)),
    }
}

fn us(nanoseconds: u64) -> u64 {
    nanoseconds / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::made_up;

    #[test]
    fn figures_carry_our_words_and_their_units() {
        let snapshot = made_up::snapshot();
        let json = serde_json::to_value(Figures::new(&snapshot, Duration::from_secs(7))).unwrap();
        let pool = &json["pools"][0];
        assert_eq!(json["uptime_s"], 7);
        assert_eq!(pool["data_source"], "shop");
        assert_eq!(pool["connections"]["in_use"], 3);
        assert_eq!(pool["oldest_wait_us"], 2_500_000);
        assert_eq!(pool["closed"]["max_lifetime"], 5);
        assert_eq!(pool["high_water"]["reset"]["wait_us"], 4_000_000);
        assert_eq!(pool["high_water"]["day"]["in_use"], 9);
        assert_eq!(pool["in_use_for_us"], serde_json::json!([60_000_000, 0, 40_000_000]));
        assert_eq!(pool["alarms"][0]["alarm"], "max_idle_churn");
        assert_eq!(pool["alarms"][0]["cause"], "max_idle");
        assert_eq!((&pool["effective_max"], &pool["leases"]["mean_hold_us"]), (&8.into(), &500_000.into()));
        let holder = &pool["holders"][0];
        assert_eq!(
            (&holder["held_us"], &holder["state"]),
            (&60_000_000.into(), &"idle in transaction".into())
        );
        let pinned = serde_json::json!({
            "reasons": ["temporary_objects", "listen"], "for_us": 10_000_000, "transactions": 17
        });
        assert_eq!((&holder["pinned"], &pool["holders"][1]["pinned"]), (&pinned, &serde_json::Value::Null));
        assert_eq!(
            (&json["clients"][0]["pinned"], &json["server_connections"][0]["pinned"]),
            (&pinned, &pinned)
        );
        let pins = &pool["pinned"];
        assert_eq!((&pins["connections"], &pins["reasons"]["listen"]), (&2.into(), &1.into()));
        assert_eq!((&pins["begun"]["opaque"], &pins["ended"]["opaque"]), (&4.into(), &4.into()));
        assert_eq!((&pins["time_us"], &pool["multiplexing_efficiency"]), (&50_000_000.into(), &0.75.into()));
        assert_eq!(json["clients"][0]["address"], "192.0.2.1:4711");
        assert_eq!(json["clients"][0]["connected_for_us"], 90_000_000);
        assert_eq!(json["server_connections"][0]["state"], "in_use");
        assert_eq!(json["server_connections"][0]["close_needed"], "outdated");
    }
}
