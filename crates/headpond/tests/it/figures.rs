//! What the pool shows of itself, to machines.
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tokio::time::sleep;

use crate::server::Server;

/// Keeps the last value of everything, by name and labels.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, f64>>>);

struct One(Kept, String);

impl One {
    fn set(&self, value: f64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl CounterFn for One {
    fn increment(&self, _: u64) {}

    fn absolute(&self, value: u64) {
        self.set(f64::from(u32::try_from(value).unwrap()));
    }
}

impl GaugeFn for One {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        Self::set(self, value);
    }
}

impl Kept {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(One(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn figures_have_the_poolers_names_and_are_up_to_date_when_the_pool_comes_to_rest() {
    let kept = Kept::default();
    metrics::with_local_recorder(&kept, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let server = Server::new();
            let pool = server.builder(4).name("shop").build();
            for _ in 0..1000 {
                drop(pool.acquire().await.unwrap());
            }
            let _held = pool.acquire().await.unwrap();
            sleep(Duration::from_secs(1)).await;
        });
    });
    let kept = kept.0.lock().unwrap();
    for (name, value) in [
        ("headpond_pool_acquires_total{pool=shop}", 1001.0),
        ("headpond_pool_holds_total{pool=shop}", 1000.0),
        ("headpond_pool_connections{pool=shop,state=in_use}", 1.0),
        ("headpond_pool_high_water{pool=shop,window=start,of=in_use}", 1.0),
        ("headpond_pool_effective_max{pool=shop}", 4.0),
        ("headpond_pool_closed_total{pool=shop,reason=max_idle}", 0.0),
    ] {
        assert_eq!(kept.get(name), Some(&value), "{name} in {kept:?}");
    }
}

#[test]
fn every_name_is_one_of_the_poolers() {
    let pooler = include_str!("../../../headpond-server/src/metrics.rs");
    let library = include_str!("../../src/metrics.rs");
    let mut names = 0;
    for name in library.split("\"headpond_").skip(1).filter_map(|rest| rest.split('"').next()) {
        let plain = name.trim_end_matches("_total").trim_end_matches("_seconds");
        // What waits for a pool are clients there, and whoever asks here.
        assert!(plain == "pool_waiting" || pooler.contains(&format!("\"{plain}\"")), "{name}");
        names += 1;
    }
    assert!(names > 15);
}
