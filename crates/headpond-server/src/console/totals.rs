//! Counters by data source that never fall, and their averages over a minute.
//!
//! Pools come and go, and take their counters with them; what was last seen of them stays here. What a pool did
//! between the last look at it and its end is not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headpond_core::Tick;
use headpond_pooler::config::NodeAddress;
use headpond_pooler::figures::{PoolRow, Snapshot, Traffic};

/// PgBouncer's `stats_period`: averages are over this long.
const PERIOD: Duration = Duration::from_secs(60);

/// Pools remembered at most, live ones excepted: clients choose the names of those made on demand, and must
/// not be able to fill the memory.
const REMEMBERED_MAX: usize = 10_000;

/// The counters of a data source in PgBouncer's order; times in microseconds.
pub(crate) type Counters = [u64; 12];

const TRANSACTIONS: usize = 1;
const QUERIES: usize = 2;
const LEASES: usize = 0;

/// What divides a counter in its average: seconds, or another counter for the times.
const PER: [Option<usize>; 12] =
    [None, None, None, None, None, Some(TRANSACTIONS), Some(QUERIES), Some(LEASES), None, None, None, None];

/// Totals and averages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// By data source.
    pub(crate) rows: BTreeMap<String, (Counters, Counters)>,
    /// Of all together.
    pub(crate) all: (Counters, Counters),
}

type Key = (String, String, NodeAddress, String);
type Sample = BTreeMap<String, Counters>;

/// Remembers what was seen of every pool.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What each pool last showed. A pool that is missing may come back: a worker may have been too busy to
    /// answer.
    last: BTreeMap<Key, Counters>,
    /// What former pools of a key did, by data source.
    former: Sample,
    /// The two samples averages are made of, older first.
    samples: [(Tick, Sample); 2],
}

impl Ledger {
    /// Takes in what the pools show now.
    pub(crate) fn observe(&mut self, snapshot: &Snapshot) {
        let mut present = BTreeSet::new();
        for row in &snapshot.pools {
            let (key, now) = (key(row), counters(&row.traffic));
            let before = self.last.insert(key.clone(), now).unwrap_or_default();
            // Counters only fall when another pool of the same name took the place.
            if now.iter().zip(&before).any(|(now, before)| now < before) {
                add(self.former.entry(row.data_source.clone()).or_default(), &before);
            }
            present.insert(key);
        }
        if self.last.len() > present.len() + REMEMBERED_MAX {
            self.last.retain(|key, _| present.contains(key));
            self.former.clear();
        }
        if snapshot.now.since(self.samples[1].0) >= PERIOD {
            self.samples.swap(0, 1);
            self.samples[1] = (snapshot.now, self.sums());
        }
    }

    /// Totals as of the last observation, averages as of the last two samples.
    pub(crate) fn totals(&self) -> Totals {
        let [(from, older), (to, newer)] = &self.samples;
        let elapsed = to.since(*from);
        let sums = self.sums();
        let all = (whole(&sums), average(&whole(newer), &whole(older), elapsed));
        let rows = sums.into_iter().map(|(name, total)| {
            let of = |sample: &Sample| sample.get(&name).copied().unwrap_or_default();
            let average = average(&of(newer), &of(older), elapsed);
            (name, (total, average))
        });
        Totals { rows: rows.collect(), all }
    }

    fn sums(&self) -> Sample {
        let mut sums = self.former.clone();
        for ((data_source, ..), counters) in &self.last {
            add(sums.entry(data_source.clone()).or_default(), counters);
        }
        sums
    }
}

fn key(row: &PoolRow) -> Key {
    (row.data_source.clone(), row.user.clone(), row.node.clone(), row.database.clone())
}

fn counters(traffic: &Traffic) -> Counters {
    [
        traffic.leases,
        traffic.transactions,
        traffic.queries,
        traffic.received,
        traffic.sent,
        traffic.transaction_time / 1000,
        traffic.query_time / 1000,
        traffic.wait_time / 1000,
        traffic.client_parses,
        traffic.server_parses,
        traffic.binds,
        traffic.logins,
    ]
}

fn add(sum: &mut Counters, more: &Counters) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

fn whole(sample: &Sample) -> Counters {
    let mut sum = Counters::default();
    sample.values().for_each(|counters| add(&mut sum, counters));
    sum
}

fn average(newer: &Counters, older: &Counters, elapsed: Duration) -> Counters {
    let delta: Counters = std::array::from_fn(|i| newer[i].saturating_sub(older[i]));
    std::array::from_fn(|i| match PER[i] {
        Some(counter) => delta[i].checked_div(delta[counter]).unwrap_or(0),
        None => delta[i].checked_div(elapsed.as_secs()).unwrap_or(0),
    })
}
