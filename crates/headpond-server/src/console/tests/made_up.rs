//! Figures that no worker ever had.

use std::sync::Arc;
use std::time::Duration;

use headpond_core::{Alarm, CloseReason, Counts, Marks, PoolFigures, PoolSettings, State, Tick, Windows};
use headpond_pooler::config::{AuthMethod, NodeAddress, PoolMode, Replication};
use headpond_pooler::figures::{
    ClientActivity, ClientRow, Holder, Holding, PinFigures, Pinned, Pins, PoolRow, ServerRow, Snapshot,
    Traffic,
};

use crate::config::Config;

const SECOND: u64 = 1_000_000_000;

const PINNED: Pinned =
    Pinned { pins: Pins::TEMP.with(Pins::LISTENS), since: Tick(90 * SECOND), transactions: 17 };

/// One pool with a bit of everything, two clients, one server connection; 100 s after the start.
pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        now: Tick(100 * SECOND),
        pools: vec![pool("shop", 7)],
        clients: vec![
            ClientRow {
                id: 1,
                pool: 0,
                user: "alice".into(),
                activity: ClientActivity::Active,
                address: Some(([192, 0, 2, 1].into(), 4711)),
                connected: Tick(10 * SECOND),
                requested: Tick(99 * SECOND),
                server: Some(1),
                application_name: "till".into(),
                tls: None,
                pinned: Some(PINNED),
            },
            ClientRow {
                id: 2,
                pool: 0,
                user: "alice".into(),
                activity: ClientActivity::Waiting,
                address: None,
                connected: Tick(10 * SECOND),
                requested: Tick(97 * SECOND + SECOND / 2),
                server: None,
                application_name: String::new(),
                tls: None,
                pinned: None,
            },
        ],
        servers: vec![ServerRow {
            id: 1,
            pool: 0,
            state: State::InUse,
            connected: Tick(20 * SECOND),
            requested: Tick(99 * SECOND),
            client: Some(1),
            backend_pid: 1234,
            close_needed: Some(CloseReason::Outdated),
            application_name: "till".into(),
            tls: None,
            pinned: Some(PINNED),
        }],
        clients_logged_in: 9,
        ..Snapshot::default()
    }
}

/// A pool of that data source whose counters are multiples of `n`.
pub(crate) fn pool(data_source: &str, n: u64) -> PoolRow {
    let mut by_state = [0; 8];
    by_state[State::InUse as usize] = 3;
    by_state[State::Idle as usize] = 2;
    by_state[State::Checking as usize] = 1;
    by_state[State::Recovering as usize] = 1;
    let mut closed = [0; CloseReason::ALL.len()];
    closed[CloseReason::MaxLifetime as usize] = 5;
    let marks = Marks { in_use: 8, waiting: 6, open: 10, wait: 4 * SECOND };
    let day = Marks { in_use: 9, ..marks };
    let mut alarms = [false; Alarm::ALL.len()];
    alarms[Alarm::MaxIdleChurn as usize] = true;
    let mut causes = [None; Alarm::ALL.len()];
    causes[Alarm::MaxIdleChurn as usize] = Some(CloseReason::MaxIdle);
    PoolRow {
        data_source: data_source.into(),
        user: "alice".into(),
        node: NodeAddress::Tcp { host: "db.example".into(), port: 5432 },
        database: "shop".into(),
        mode: PoolMode::Session,
        replication: Replication::None,
        pool: PoolFigures {
            settings: PoolSettings { max_size: 10, ..PoolSettings::named() },
            effective_max: 8,
            by_state,
            waiting: 4,
            marks: Windows { start: day, reset: marks, hour: marks, day },
            levels: vec![60 * SECOND, 0, 40 * SECOND],
            counts: Counts {
                opened: 12,
                closed,
                waits_timed_out: 2,
                holds: 4,
                hold_time: 2 * SECOND,
                leaks: 1,
                ..Counts::default()
            },
            alarms,
            causes,
        },
        budget: Some(40),
        budget_used: 12,
        clients_active: 3,
        clients_idle: 2,
        clients_cancelling: 1,
        oldest_wait: 2 * SECOND + SECOND / 2,
        paused: false,
        awaiting_credentials: false,
        last_error: None,
        holders: vec![
            Holder { pinned: Some(PINNED), ..holder("till", 40, Holding::IdleInTransaction) },
            holder("<b>batch</b>", 97, Holding::Active),
        ],
        traffic: Traffic {
            leases: n,
            transactions: 2 * n,
            queries: 4 * n,
            received: 1000,
            sent: 2000,
            transaction_time: 10_000 * n,
            query_time: 8_000 * n,
            idle_time: 20 * SECOND,
            wait_time: 6_000 * n,
            ..Traffic::default()
        },
        pinned: PinFigures {
            connections: 2,
            now: [2, 0, 1, 0, 0, 0, 0, 0, 0],
            begun: [5, 0, 1, 0, 0, 0, 0, 0, 4],
            ended: [3, 0, 0, 0, 0, 0, 0, 0, 4],
            time: 50 * SECOND,
        },
    }
}

fn holder(application_name: &str, since: u64, holding: Holding) -> Holder {
    Holder {
        client: 1,
        user: "alice".into(),
        application_name: application_name.into(),
        address: Some(([192, 0, 2, 1].into(), 4711)),
        since: Tick(since * SECOND),
        holding,
        backend_pid: 1234,
        pinned: None,
    }
}

/// Every database of a server nobody has; `ann` commands, `stan` looks.
pub(crate) fn config(auth: AuthMethod) -> Config {
    let mut config = Config::embedded(5432, PoolSettings::on_demand());
    let pooler = Arc::make_mut(&mut config.pooler);
    pooler.auth = auth;
    pooler.admin_users = vec!["ann".into()];
    pooler.stats_users = vec!["stan".into()];
    pooler.client_login_timeout = Duration::from_secs(5);
    config
}
