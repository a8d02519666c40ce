//! The figures as OpenMetrics text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! Names begin with `headpond_`; times are in seconds. Counters are those of the pools: they begin anew when a
//! pool is made anew, as scrapers expect of counters.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use headpond_core::{Alarm, CloseReason, Marks, State};
use headpond_pooler::figures::{Pins, PoolRow, Snapshot};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::names;
use crate::tls::Loaded;

/// The `Content-Type` of what [`render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// Labels beside those of the pool, and the value.
type Sample = (Vec<(&'static str, Cow<'static, str>)>, f64);

/// A metric of every pool.
struct PoolMetric {
    name: &'static str,
    what: &'static str,
    unit: Option<Unit>,
    of: fn(&PoolRow) -> Vec<Sample>,
}

const fn metric(name: &'static str, what: &'static str, of: fn(&PoolRow) -> Vec<Sample>) -> PoolMetric {
    PoolMetric { name, what, unit: None, of }
}

const fn timing(name: &'static str, what: &'static str, of: fn(&PoolRow) -> Vec<Sample>) -> PoolMetric {
    PoolMetric { name, what, unit: Some(Unit::Seconds), of }
}

const fn bytes(name: &'static str, what: &'static str, of: fn(&PoolRow) -> Vec<Sample>) -> PoolMetric {
    PoolMetric { name, what, unit: Some(Unit::Bytes), of }
}

const GAUGES: &[PoolMetric] = &[
    metric("pool_connections", "Server connections by state", |row| {
        State::ALL.map(|state| labelled("state", state.name(), row.pool.count(state))).to_vec()
    }),
    metric("pool_clients", "Clients by what they do", |row| {
        vec![
            labelled("activity", "active", row.clients_active),
            labelled("activity", "idle", row.clients_idle),
            labelled("activity", "waiting", row.pool.waiting),
            labelled("activity", "cancelling", row.clients_cancelling),
        ]
    }),
    timing("pool_oldest_wait", "Age of the oldest waiter", |row| seconds(row.oldest_wait)),
    metric("pool_max_size", "The most server connections in any state", |row| {
        one(row.pool.settings.max_size)
    }),
    metric("pool_min_idle", "Idle server connections kept ready", |row| one(row.pool.settings.min_idle)),
    metric("pool_paused", "1 while no new leases are given", |row| one(u32::from(row.paused))),
    metric(
        "pool_effective_max",
        "The most server connections at present, with what server and budget allow",
        |row| one(row.pool.effective_max),
    ),
    metric(
        "pool_budget",
        "The most server connections of all pools of its server together, once known",
        |row| row.budget.map_or_else(Vec::new, one),
    ),
    metric("pool_budget_used", "Server connections of all pools of its server together", |row| {
        one(row.budget_used)
    }),
    metric(
        "pool_high_water",
        "Largest values by window: since start or reset, in the last hour or day",
        |row| {
            let of_window = |(window, marks): (&'static str, Marks)| {
                [("in_use", marks.in_use), ("waiting", marks.waiting), ("open", marks.open)]
                    .map(|(of, most)| (vec![("window", window.into()), ("of", of.into())], most.into()))
            };
            names::windows(&row.pool.marks).into_iter().flat_map(of_window).collect()
        },
    ),
    timing("pool_high_water_wait", "The longest wait by window", |row| {
        let of_window = |(window, marks): (&'static str, Marks)| {
            (vec![("window", window.into())], in_seconds(marks.wait))
        };
        names::windows(&row.pool.marks).map(of_window).into()
    }),
    timing("pool_mean_hold", "How long a lease has lasted on average", |row| {
        seconds(row.pool.counts.hold_time.checked_div(row.pool.counts.holds).unwrap_or(0))
    }),
    metric("pins", "Server connections that stay with their clients after a transaction, by reason", |row| {
        let reasons = Pins::NAMES.into_iter().zip(row.pinned.now);
        reasons.map(|(reason, connections)| labelled("reason", reason, connections)).collect()
    }),
    metric("pinned_connections", "Those server connections, whatever the number of their reasons", |row| {
        one(row.pinned.connections)
    }),
    metric(
        "multiplexing_efficiency",
        "Share of the time of leases that was not spent idle outside transactions, from 0 to 1",
        |row| row.efficiency().map_or_else(Vec::new, |share| vec![(Vec::new(), share)]),
    ),
    metric("pool_alarm", "1 while the alarm is raised", |row| {
        Alarm::ALL.map(|alarm| labelled("alarm", alarm.name(), row.pool.is_raised(alarm).into())).to_vec()
    }),
    metric(
        "pool_alarm_cause",
        "1 with the reason why most connections were closed, while an alarm is about that",
        |row| {
            let causes = row.pool.raised().filter_map(|(alarm, cause)| Some((alarm, cause?)));
            let labels = |(alarm, cause): (Alarm, CloseReason)| {
                vec![("alarm", alarm.name().into()), ("reason", cause.name().into())]
            };
            causes.map(|about| (labels(about), 1.0)).collect()
        },
    ),
];

const COUNTERS: &[PoolMetric] = &[
    metric("pool_opened", "Server connections begun, failed logins included", |row| {
        one64(row.pool.counts.opened)
    }),
    metric("pool_closed", "Server connections closed, by reason", |row| {
        let reasons = CloseReason::ALL.into_iter().zip(row.pool.counts.closed);
        reasons.map(|(reason, closed)| labelled64("reason", reason.name(), closed)).collect()
    }),
    metric("pool_logins_failed", "Logins to the server that failed", |row| {
        one64(row.pool.counts.logins_failed)
    }),
    metric("pool_acquires", "Requests for a server connection", |row| one64(row.pool.counts.acquires)),
    metric("pool_waits", "Waits that ended, by outcome", |row| {
        let counts = &row.pool.counts;
        vec![
            labelled64("outcome", "granted", counts.waits_granted),
            labelled64("outcome", "timed_out", counts.waits_timed_out),
            labelled64("outcome", "withdrawn", counts.waits_withdrawn),
            labelled64("outcome", "failed", counts.waits_failed),
        ]
    }),
    metric("pool_refused", "Requests refused without waiting", |row| one64(row.pool.counts.refused)),
    metric("pool_holds", "Leases that ended", |row| one64(row.pool.counts.holds)),
    timing("pool_hold", "Time of all leases that ended", |row| seconds(row.pool.counts.hold_time)),
    timing("pool_in_use_level", "Time for which so many server connections were in use", |row| {
        // A level that never was has no series: there may be thousands.
        let levels = row.pool.levels.iter().enumerate().filter(|(_, time)| **time > 0);
        levels.map(|(level, time)| (vec![("level", level.to_string().into())], in_seconds(*time))).collect()
    }),
    metric("pool_leaks", "Leases that were reported as too long", |row| one64(row.pool.counts.leaks)),
    metric("pool_leases", "Leases given", |row| one64(row.traffic.leases)),
    metric("pool_transactions", "Transactions that ended", |row| one64(row.traffic.transactions)),
    metric("pool_queries", "Queries", |row| one64(row.traffic.queries)),
    metric("pins_begun", "Pins that began, by reason", |row| {
        let reasons = Pins::NAMES.into_iter().zip(row.pinned.begun);
        reasons.map(|(reason, begun)| labelled64("reason", reason, begun)).collect()
    }),
    timing("pinned", "Time in which server connections were pinned", |row| seconds(row.pinned.time)),
    timing("pool_idle_lease", "Time in which leased connections waited outside transactions", |row| {
        seconds(row.traffic.idle_time)
    }),
    bytes("pool_received", "Bytes from clients", |row| one64(row.traffic.received)),
    bytes("pool_sent", "Bytes to clients", |row| one64(row.traffic.sent)),
    timing("pool_transaction", "Time in which a transaction was open", |row| {
        seconds(row.traffic.transaction_time)
    }),
    timing("pool_query", "Time in which a query was running", |row| seconds(row.traffic.query_time)),
    timing("pool_wait", "Time that requests waited", |row| seconds(row.traffic.wait_time)),
    metric("pool_client_parses", "Parse messages from clients", |row| one64(row.traffic.client_parses)),
    metric("pool_server_parses", "Parse messages to the server", |row| one64(row.traffic.server_parses)),
    metric("pool_binds", "Bind messages", |row| one64(row.traffic.binds)),
    metric("pool_client_logins", "Logins of clients", |row| one64(row.traffic.logins)),
];

/// Everything of a snapshot as text, of the type [`CONTENT_TYPE`].
///
/// # Errors
/// None in practice: writing to a string cannot fail.
pub fn render(snapshot: &Snapshot, tls: &Loaded, uptime: Duration) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("headpond");
    process(&mut registry, snapshot, uptime);
    certificates(&mut registry, tls);
    for metric in GAUGES {
        let family = family::<Gauge<f64, AtomicU64>>(&mut registry, metric);
        for (labels, value) in samples(metric, snapshot) {
            // Two pools that differ in nothing a label shows are one here.
            family.get_or_create(&labels).inc_by(value);
        }
    }
    for metric in COUNTERS {
        let family = family::<Counter<f64, AtomicU64>>(&mut registry, metric);
        for (labels, value) in samples(metric, snapshot) {
            family.get_or_create(&labels).inc_by(value);
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Until when each certificate that was loaded holds.
fn certificates(registry: &mut Registry, tls: &Loaded) {
    let family = Family::<Labels, Gauge<i64>>::default();
    for held in tls.certificates() {
        let labels = vec![
            ("setting", held.setting.to_owned()),
            ("file", held.file.clone()),
            ("subject", held.subject.clone()),
        ];
        family.get_or_create(&labels).set(held.not_after);
    }
    let what = "Until when a certificate holds, since 1970";
    registry.register_with_unit("certificate_not_after", what, Unit::Seconds, family);
}

/// What belongs to no pool.
fn process(registry: &mut Registry, snapshot: &Snapshot, uptime: Duration) {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that runs", version);
    let serving = Gauge::<f64, AtomicU64>::default();
    serving.set(uptime.as_secs_f64());
    registry.register_with_unit("uptime", "How long the process has been serving", Unit::Seconds, serving);
    for (name, what, value) in [
        ("clients_logged_in", "Clients that have logged in", snapshot.clients_logged_in),
        ("clients_logging_in", "Clients that are still logging in", snapshot.clients_logging_in),
    ] {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value.into());
        registry.register(name, what, gauge);
    }
    let losses = &snapshot.losses;
    for (name, what, value) in [
        ("logins_refused", "Logins of clients that were refused", snapshot.logins_refused),
        ("cancels_received", "Cancel requests received", snapshot.cancels_received),
        ("cancels_forwarded", "Cancel requests passed on to a server", snapshot.cancels_forwarded),
        ("reply_mismatches", "Replies that matched no request", snapshot.reply_mismatches),
        ("lost_unsent", "Server connections lost before they saw their client's request", losses.unsent),
        ("lost_rolled_back", "Server connections lost with a transaction (40001)", losses.rolled_back),
        ("lost_unknown", "Server connections lost with an outcome unknown (40003)", losses.unknown),
        ("lost_cut", "Clients closed because their server was lost inside a large message", losses.cut),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, what, counter);
    }
}

fn samples(metric: &PoolMetric, snapshot: &Snapshot) -> impl Iterator<Item = (Labels, f64)> {
    snapshot.pools.iter().flat_map(|row| {
        (metric.of)(row).into_iter().map(|(more, value)| {
            let mut labels: Labels = vec![
                ("data_source", row.data_source.clone()),
                ("user", row.user.clone()),
                ("node", names::node(&row.node)),
            ];
            labels.extend(more.into_iter().map(|(name, value)| (name, value.into_owned())));
            (labels, value)
        })
    })
}

/// A family of all pools, empty yet.
fn family<M>(registry: &mut Registry, metric: &PoolMetric) -> Family<Labels, M>
where
    Family<Labels, M>: Metric + Clone + Default,
{
    let family = Family::default();
    match metric.unit.clone() {
        Some(unit) => registry.register_with_unit(metric.name, metric.what, unit, family.clone()),
        None => registry.register(metric.name, metric.what, family.clone()),
    }
    family
}

fn labelled(name: &'static str, value: &'static str, number: u32) -> Sample {
    (vec![(name, value.into())], number.into())
}

fn labelled64(name: &'static str, value: &'static str, number: u64) -> Sample {
    (vec![(name, value.into())], float(number))
}

fn one(number: u32) -> Vec<Sample> {
    vec![(Vec::new(), number.into())]
}

fn one64(number: u64) -> Vec<Sample> {
    vec![(Vec::new(), float(number))]
}

fn seconds(nanoseconds: u64) -> Vec<Sample> {
    vec![(Vec::new(), in_seconds(nanoseconds))]
}

fn in_seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Exact up to 2^53; beyond, the nearest, as in every store of metrics.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats to those who read them")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::made_up;

    #[test]
    fn every_metric_carries_the_prefix_and_the_pools_labels() {
        let text = render(&made_up::snapshot(), &Loaded::default(), Duration::from_secs(7)).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("headpond_"), "{line}");
        }
        let labels = r#"data_source="shop",user="alice",node="db.example:5432""#;
        for expected in [
            format!("headpond_pool_connections{{{labels},state=\"in_use\"}} 3.0"),
            format!("headpond_pool_closed_total{{{labels},reason=\"max_lifetime\"}} 5.0"),
            format!("headpond_pool_waits_total{{{labels},outcome=\"timed_out\"}} 2.0"),
            format!("headpond_pool_oldest_wait_seconds{{{labels}}} 2.5"),
            format!("headpond_pool_received_bytes_total{{{labels}}} 1000.0"),
            format!("headpond_pool_high_water{{{labels},window=\"day\",of=\"in_use\"}} 9.0"),
            format!("headpond_pool_high_water_wait_seconds{{{labels},window=\"reset\"}} 4.0"),
            format!("headpond_pool_alarm{{{labels},alarm=\"max_idle_churn\"}} 1.0"),
            format!("headpond_pool_alarm{{{labels},alarm=\"authentication\"}} 0.0"),
            format!("headpond_pool_alarm_cause{{{labels},alarm=\"max_idle_churn\",reason=\"max_idle\"}} 1.0"),
            format!("headpond_pool_effective_max{{{labels}}} 8.0"),
            format!("headpond_pool_mean_hold_seconds{{{labels}}} 0.5"),
            format!("headpond_pool_leaks_total{{{labels}}} 1.0"),
            format!("headpond_pool_in_use_level_seconds_total{{{labels},level=\"2\"}} 40.0"),
            format!("headpond_pins{{{labels},reason=\"temporary_objects\"}} 2.0"),
            format!("headpond_pins{{{labels},reason=\"opaque\"}} 0.0"),
            format!("headpond_pinned_connections{{{labels}}} 2.0"),
            format!("headpond_pins_begun_total{{{labels},reason=\"opaque\"}} 4.0"),
            format!("headpond_pinned_seconds_total{{{labels}}} 50.0"),
            format!("headpond_pool_idle_lease_seconds_total{{{labels}}} 20.0"),
            format!("headpond_multiplexing_efficiency{{{labels}}} 0.75"),
            "headpond_uptime_seconds 7.0".to_owned(),
            "headpond_clients_logged_in 9.0".to_owned(),
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\nin\n{text}");
        }
        assert!(!text.contains("level=\"1\""), "a level that never was");
        assert!(text.ends_with("# EOF\n"));
    }
}
