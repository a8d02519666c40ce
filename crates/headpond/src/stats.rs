//! What a pool shows of itself.

use std::ops::Deref;
use std::sync::Arc;

use headpond_core::PoolFigures;

use crate::error::{Holder, LoginFailure};

/// The figures of one moment. Derefs to those of the policy: connections by state, waiters, high-water marks, counters,
/// alarms.
///
/// Counters are exact. High-water marks of connections in use may be too high by those that were used one after the
/// other within the same 5 ms, and are never too low.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats<E> {
    /// The policy's figures.
    pub figures: PoolFigures,
    /// Who holds a connection, the longest first.
    pub holders: Vec<Holder>,
    /// The last login, if it failed.
    pub login: Option<Arc<LoginFailure<E>>>,
}

impl<E> Deref for Stats<E> {
    type Target = PoolFigures;

    fn deref(&self) -> &PoolFigures {
        &self.figures
    }
}
