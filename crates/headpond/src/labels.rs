//! Labels as references that fit one word, so that they can be swapped while others read them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::sync::lock;

static LABELS: Mutex<BTreeSet<&'static &'static str>> = Mutex::new(BTreeSet::new());

/// The same reference for the same text. There are as many as the program has literals.
pub(crate) fn intern(label: &'static str) -> &'static &'static str {
    let mut labels = lock(&LABELS);
    if let Some(known) = labels.get(&label) {
        return known;
    }
    let label: &'static &'static str = Box::leak(Box::new(label));
    labels.insert(label);
    label
}
