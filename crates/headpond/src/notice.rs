//! What an operator should hear of a pool, as it happens.

use std::sync::Arc;

use headpond_core::{Alarm, CloseReason};

use crate::connector::Connector;
use crate::error::Holder;
use crate::inner::Inner;

/// Something that happened, for the log.
#[derive(Debug)]
pub(crate) enum Notice {
    Leak { holder: Holder, ended: bool },
    Alarm { alarm: Alarm, raised: bool, cause: Option<CloseReason> },
    Limit { limit: u32, max_size: u32 },
    LoginFailed { why: String },
}

impl Notice {
    #[cfg(feature = "tracing")]
    pub(crate) fn tell<C: Connector>(self, pool: &Arc<Inner<C>>) {
        let name = pool.options.name.as_str();
        match self {
            Self::Leak { holder, ended: false } => {
                tracing::warn!(pool = name, %holder, "a lease is older than leak_after");
            }
            Self::Leak { holder, ended: true } => {
                tracing::info!(pool = name, %holder, "a lease that was reported has ended");
            }
            Self::Alarm { alarm, raised: true, cause } => {
                tracing::warn!(
                    pool = name,
                    alarm = alarm.name(),
                    cause = cause.map(CloseReason::name),
                    "alarm"
                );
            }
            Self::Alarm { alarm, raised: false, .. } => {
                tracing::info!(pool = name, alarm = alarm.name(), "the alarm is over");
            }
            Self::Limit { limit, max_size } => {
                tracing::warn!(
                    pool = name,
                    limit,
                    max_size,
                    "the server leaves fewer connections than max_size"
                );
            }
            Self::LoginFailed { why } => tracing::warn!(pool = name, why, "a login failed"),
        }
    }

    #[cfg(not(feature = "tracing"))]
    pub(crate) fn tell<C: Connector>(self, _: &Arc<Inner<C>>) {}
}
