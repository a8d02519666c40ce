//! The process's limit of open descriptors: each client and server connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system allows; how many descriptors there may be.
pub(crate) fn raise_descriptors() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    // If it cannot be raised, what there is must do; the result says how much that is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
