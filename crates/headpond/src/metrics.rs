//! The figures through the facade of the crate `metrics`, under the names that the pooler has at `/metrics`.

use std::time::Duration;

use headpond_core::{Alarm, CloseReason, PoolFigures, State, Tick};
use metrics::{Label, counter, gauge};

/// How often they are told while the pool is used.
const EVERY: Duration = Duration::from_secs(1);

/// When the figures were last told, and of what.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    told: Option<(Tick, u64)>,
}

impl Teller {
    /// Whether they are due: in time while something happens, and once more when it is over.
    pub(crate) fn is_due(&mut self, now: Tick, happened: u64, asleep: bool) -> bool {
        let due = self.told.is_none_or(|(at, of)| of != happened && (asleep || now.since(at) >= EVERY));
        if due {
            self.told = Some((now, happened));
        }
        due
    }
}

pub(crate) fn tell(pool: &str, figures: &PoolFigures, oldest_wait: Duration) {
    let own = |name: &'static str, value: &'static str| {
        vec![Label::new("pool", pool.to_owned()), Label::from_static_parts(name, value)]
    };
    let pool = || vec![Label::new("pool", pool.to_owned())];
    for state in State::ALL {
        gauge!("headpond_pool_connections", own("state", state.name())).set(figures.count(state));
    }
    gauge!("headpond_pool_waiting", pool()).set(figures.waiting);
    gauge!("headpond_pool_oldest_wait_seconds", pool()).set(oldest_wait.as_secs_f64());
    gauge!("headpond_pool_max_size", pool()).set(figures.settings.max_size);
    gauge!("headpond_pool_min_idle", pool()).set(figures.settings.min_idle);
    gauge!("headpond_pool_effective_max", pool()).set(figures.effective_max);
    for (window, marks) in [
        ("start", figures.marks.start),
        ("reset", figures.marks.reset),
        ("hour", figures.marks.hour),
        ("day", figures.marks.day),
    ] {
        for (of, most) in [("in_use", marks.in_use), ("waiting", marks.waiting), ("open", marks.open)] {
            let mut labels = own("window", window);
            labels.push(Label::from_static_parts("of", of));
            gauge!("headpond_pool_high_water", labels).set(most);
        }
        let wait = Duration::from_nanos(marks.wait).as_secs_f64();
        gauge!("headpond_pool_high_water_wait_seconds", own("window", window)).set(wait);
    }
    for alarm in Alarm::ALL {
        let raised = u32::from(figures.is_raised(alarm));
        gauge!("headpond_pool_alarm", own("alarm", alarm.name())).set(raised);
    }
    let counts = &figures.counts;
    let mean = counts.hold_time.checked_div(counts.holds).unwrap_or(0);
    gauge!("headpond_pool_mean_hold_seconds", pool()).set(Duration::from_nanos(mean).as_secs_f64());
    gauge!("headpond_pool_hold_seconds_total", pool())
        .set(Duration::from_nanos(counts.hold_time).as_secs_f64());
    counter!("headpond_pool_opened_total", pool()).absolute(counts.opened);
    for (reason, closed) in CloseReason::ALL.into_iter().zip(counts.closed) {
        counter!("headpond_pool_closed_total", own("reason", reason.name())).absolute(closed);
    }
    counter!("headpond_pool_logins_failed_total", pool()).absolute(counts.logins_failed);
    counter!("headpond_pool_acquires_total", pool()).absolute(counts.acquires);
    for (outcome, waits) in [
        ("granted", counts.waits_granted),
        ("timed_out", counts.waits_timed_out),
        ("withdrawn", counts.waits_withdrawn),
        ("failed", counts.waits_failed),
    ] {
        counter!("headpond_pool_waits_total", own("outcome", outcome)).absolute(waits);
    }
    counter!("headpond_pool_refused_total", pool()).absolute(counts.refused);
    counter!("headpond_pool_holds_total", pool()).absolute(counts.holds);
    counter!("headpond_pool_leaks_total", pool()).absolute(counts.leaks);
}
