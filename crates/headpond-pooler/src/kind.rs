//! What pools are for, and what follows from it.

use headpond_core::PoolSettings;

use crate::config::{DataSource, PoolMode, PoolerConfig, Replication, SessionState, Timeouts};
use crate::pooler::Pooler;

/// What a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PoolKind {
    /// Clients that replicate so.
    Serves(Replication),
    /// No client: users are looked up in it.
    Lookup,
}

impl PoolKind {
    pub(crate) fn replication(self) -> Replication {
        match self {
            Self::Serves(replication) => replication,
            Self::Lookup => Replication::None,
        }
    }

    pub(crate) fn settings(self, config: &PoolerConfig, source: &DataSource, user: &str) -> PoolSettings {
        match self {
            Self::Serves(replication) => config.settings_for(source, user, replication),
            Self::Lookup => Pooler::lookup_settings(source),
        }
    }

    pub(crate) fn timeouts(self, source: &DataSource) -> Timeouts {
        match self {
            Self::Serves(replication) => source.timeouts_for(replication),
            Self::Lookup => Timeouts::default(),
        }
    }

    /// Its mode, where its data source has this one.
    pub(crate) fn mode(self, mode: PoolMode) -> PoolMode {
        match self {
            Self::Serves(Replication::None) => mode,
            Self::Serves(_) => PoolMode::Session,
            Self::Lookup => PoolMode::Transaction,
        }
    }

    pub(crate) fn session_state(self, source: &DataSource) -> SessionState {
        match self {
            Self::Serves(_) => source.session_state,
            Self::Lookup => SessionState::Ignore,
        }
    }
}
