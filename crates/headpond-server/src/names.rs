//! How things are written in console, metrics, JSON and on the page.

use headpond_core::State;
use headpond_pooler::config::{NodeAddress, PoolMode};

/// A state of a server connection.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Opening => "opening",
        State::Idle => "idle",
        State::InUse => "in_use",
        State::Checking => "checking",
        State::Resetting => "resetting",
        State::Recovering => "recovering",
        State::BeingCancelled => "being_cancelled",
        State::Closing => "closing",
    }
}

/// When server connections are released.
pub(crate) fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
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
