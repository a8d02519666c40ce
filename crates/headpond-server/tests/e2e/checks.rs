//! Tests of connections that go wrong in another way than with an error: they may cost the pool nothing.

use headpond_core::{Alarm, CloseReason, PoolFigures};

use crate::named::{closed, named, until_shown};
use crate::pond::{MODES, Pond, run, value};

#[test]
fn a_check_that_hangs_raises_an_alarm_and_everybody_is_served() {
    run(async {
        for way in MODES {
            let settings = "check_query = \"SELECT pg_sleep(100000)\"\nrecover_timeout = \"50ms\"";
            let pond = named(way, settings, "min_idle = 0\nmax_size = 4\ntrust_window = \"0s\"").await;
            ask(&pond, 100).await;
            let pool = pond.until_pool("served", served(100)).await;
            assert!(pool.is_raised(Alarm::CheckSuspect), "{way:?}");
            assert!(pool.counts.opened <= 8, "{} opened, {way:?}", pool.counts.opened);
            until_shown(&pond, "SHOW ALARMS", ["user", "alarm"], &[[&pond.user, "check_suspect"]]).await;
        }
    });
}

#[test]
fn whatever_rows_a_check_returns_it_is_passed_and_they_reach_nobody() {
    run(async {
        for check in [
            "SELECT 42 FROM generate_series(1, 3)",
            "SELECT 1, NULL; SELECT 2",
            "SELECT FROM pg_class LIMIT 0",
        ] {
            for way in MODES {
                let settings = format!("check_query = \"{check}\"");
                let pool = "min_idle = 0\nmax_size = 2\ntrust_window = \"0s\"";
                let pond = named(way, &settings, pool).await;
                ask(&pond, 50).await;
                let pool = pond.until_pool("served", served(50)).await;
                let raised = pool.alarms.contains(&true);
                assert_eq!((raised, closed(&pool, CloseReason::CheckFailed)), (false, 0), "{way:?} {check}");
                assert!(pool.counts.opened <= 2, "{} opened, {way:?}", pool.counts.opened);
                pond.assert_in_step().await;
            }
        }
    });
}

/// So many clients, one after the other, each with a question of its own.
async fn ask(pond: &Pond, count: usize) {
    for number in 0..count {
        let asked = value(&pond.client().await, &format!("SELECT 1000 + {number}")).await;
        assert_eq!(asked, (1000 + number).to_string());
    }
}

fn served(count: u64) -> impl Fn(&PoolFigures) -> bool {
    move |pool| pool.counts.acquires >= count && pool.waiting == 0
}
