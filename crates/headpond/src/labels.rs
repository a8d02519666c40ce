//! Labels as references that fit one word, so that they can be swapped while others read them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static LABELS: Mutex<BTreeSet<&'static &'static str>> = Mutex::new(BTreeSet::new());

/// The same reference for the same text. There are as many as the program has literals.
pub(crate) fn intern(label: &'static str) -> &'static &'static str {
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = labels.get(&label) {
        return known;
    }
    let label: &'static &'static str = Box::leak(Box::new(label));
    labels.insert(label);
    label
}
