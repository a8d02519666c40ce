//! Start-time fair queueing once more, from the queues of all applications and as simple as can be: whose turn it is.

use std::collections::BTreeMap;

use crate::Tick;

/// What a grant costs an application of weight 1.
const COST: u64 = 1 << 20;

/// The tags of all applications.
#[derive(Debug, Default)]
pub(crate) struct Fair {
    virtual_time: u64,
    finishes: BTreeMap<u32, u64>,
    weights: BTreeMap<u32, u32>,
}

impl Fair {
    pub(crate) fn set_weight(&mut self, application: u32, weight: u32) {
        self.weights.insert(application, weight.max(1));
    }

    /// `application` is served; the first request of each that waits has waited since then.
    pub(crate) fn serve(&mut self, application: u32, waiting: &BTreeMap<u32, Tick>) {
        let tag = |name: u32| {
            let finish = self.finishes.get(&name).copied().unwrap_or(0);
            (finish.max(self.virtual_time), waiting[&name])
        };
        let (start, since) = tag(application);
        let first = waiting.keys().map(|name| tag(*name)).min();
        assert_eq!(Some((start, since)), first, "it is not {application}'s turn among {waiting:?}: {self:?}");
        let weight = self.weights.get(&application).copied().unwrap_or(1);
        self.virtual_time = start;
        self.finishes.insert(application, start + (COST / u64::from(weight)).max(1));
    }
}
