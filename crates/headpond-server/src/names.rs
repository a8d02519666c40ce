//! How things are written in console, metrics, JSON and on the page.

use headpond_core::{Alarm, Marks, Windows};
use headpond_pooler::config::{NodeAddress, PoolMode, Replication};
use headpond_pooler::figures::{Holding, Pinned};

/// What the holder of a server connection does, in the words of `pg_stat_activity`.
pub(crate) fn holding(holding: Holding) -> &'static str {
    match holding {
        Holding::Active => "active",
        Holding::IdleInTransaction => "idle in transaction",
        Holding::IdleInFailedTransaction => "idle in transaction (aborted)",
        Holding::Idle => "idle",
    }
}

/// Why a server connection stays with its client past the end of a transaction; empty if it does not.
pub(crate) fn pins(pinned: Option<Pinned>) -> String {
    let reasons: Vec<_> = pinned.into_iter().flat_map(|pinned| pinned.pins.names()).collect();
    reasons.join(", ")
}

/// When server connections are released.
pub(crate) fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

/// What connections replicate, in PgBouncer's words.
pub(crate) fn replication(replication: Replication) -> &'static str {
    match replication {
        Replication::None => "none",
        Replication::Physical => "physical",
        Replication::Logical => "logical",
    }
}

/// The windows over which high-water marks are kept.
pub(crate) fn windows(marks: &Windows) -> [(&'static str, Marks); 4] {
    [("start", marks.start), ("reset", marks.reset), ("hour", marks.hour), ("day", marks.day)]
}

/// What an alarm means, and what to change.
pub(crate) fn advice(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NotPooling => {
            "connections are replaced about as often as they are used, so clients wait for logins; the reasons why \
             they are closed (SHOW CLOSE_REASONS) name the setting to change"
        }
        Alarm::CheckSuspect => {
            "connections that were just opened fail the test, so check_query is wrong: it is being ignored, and dead \
             connections are found only when they are used; correct it and reload"
        }
        Alarm::Authentication => {
            "the server does not accept the user or its password; correct them in the configuration or the users file \
             and reload (until then it is asked rarely, so that the account is not locked)"
        }
        Alarm::MaxIdleChurn => {
            "half of the released connections or more are closed because max_idle others are idle, and opened again \
             soon after; raise max_idle"
        }
        Alarm::TooManyConnections => {
            "the server had no connection left and refused a login; lower max_size or budget, or raise max_connections \
             of the server"
        }
        Alarm::Fenced => {
            "the server was a primary and is in recovery now: clients wait until it takes writes again; promote it, or \
             let the data source lead to the new primary"
        }
    }
}

/// The address of a database server.
pub(crate) fn node(node: &NodeAddress) -> String {
    match node {
        NodeAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        NodeAddress::Tcp { host, port } => format!("{host}:{port}"),
        NodeAddress::Unix { folder, port } => format!("{folder}:{port}"),
    }
}
