//! What an operator is told of rates.

use super::{ms, plain, secs};
use crate::tests::model::Model;
use crate::{Alarm, CloseReason, FailureClass, PoolSettings, State, Tick};

/// Over a minute, every two seconds: a request, and whatever is done with its connection.
fn minute(pool: &mut Model, mut serve: impl FnMut(&mut Model)) {
    for _ in 0..31 {
        pool.pass(secs(2));
        serve(pool);
        pool.settle();
    }
}

#[test]
fn a_pool_that_opens_for_every_second_request_raises_not_pooling() {
    let mut pool = Model::of(plain(2));
    let lose = |pool: &mut Model| {
        let id = pool.lease_new();
        pool.close(id, CloseReason::ServerLost);
    };
    let keep = |pool: &mut Model| {
        pool.acquire(0, None);
        pool.settle();
        let id = pool.one(State::InUse);
        pool.release(id);
    };
    minute(&mut pool, lose);
    assert!(pool.is_raised(Alarm::NotPooling));
    minute(&mut pool, keep);
    minute(&mut pool, keep);
    assert!(!pool.is_raised(Alarm::NotPooling));
}

#[test]
fn a_pool_that_grows_and_a_server_that_is_down_raise_no_not_pooling() {
    let mut pool = Model::of(plain(100));
    let keep = |pool: &mut Model| {
        pool.lease_new();
    };
    minute(&mut pool, keep);
    minute(&mut pool, keep);
    assert!(!pool.is_raised(Alarm::NotPooling));

    let mut pool = Model::of(plain(100));
    minute(&mut pool, |pool| {
        pool.ask(0);
        for id in pool.all(State::Opening) {
            pool.open_failed(id, FailureClass::Refused);
        }
    });
    assert!(!pool.is_raised(Alarm::NotPooling));
}

#[test]
fn a_max_idle_below_what_the_load_needs_raises_max_idle_churn() {
    let mut pool = Model::of(PoolSettings { max_idle: 0, ..plain(2) });
    minute(&mut pool, |pool| {
        let id = pool.lease_new();
        pool.release(id);
    });
    assert!(pool.is_raised(Alarm::MaxIdleChurn));
}

#[test]
fn too_few_requests_and_a_window_nobody_looked_at_raise_no_alarm() {
    for (every, requests, pause) in [(secs(4), 40, secs(4)), (secs(1), 30, secs(3_600))] {
        let mut pool = Model::of(PoolSettings { max_idle: 0, ..plain(2) });
        for request in 0..=requests {
            let id = pool.lease_new();
            pool.release(id);
            pool.pass(if request + 1 < requests { every } else { pause });
        }
        assert!(!pool.is_raised(Alarm::MaxIdleChurn) && !pool.is_raised(Alarm::NotPooling));
    }
}

/// A request, every two seconds over a minute and longer, and its connection given back.
fn use_every_2_s(pool: &mut Model) {
    minute(pool, |pool| {
        pool.acquire(0, None);
        pool.settle();
        let id = pool.one(State::InUse);
        pool.release(id);
    });
}

#[test]
fn not_pooling_names_what_closes_the_connections() {
    let tested = PoolSettings { check: true, trust_window: ms(0), check_interval: ms(0), ..plain(2) };
    for (settings, cause, setting) in [
        (PoolSettings { max_idle: 0, ..plain(2) }, CloseReason::MaxIdle, "max_idle"),
        (PoolSettings { max_lifetime: secs(1), ..plain(2) }, CloseReason::MaxLifetime, "max_lifetime"),
        (PoolSettings { idle_timeout: secs(1), ..plain(2) }, CloseReason::IdleTimeout, "idle_timeout"),
        (PoolSettings { shrink_interval: secs(1), ..plain(2) }, CloseReason::Shrink, "shrink_interval"),
    ] {
        let mut pool = Model::of(settings);
        use_every_2_s(&mut pool);
        let figures = pool.pool.figures(pool.now);
        assert!(figures.is_raised(Alarm::NotPooling), "{cause:?}");
        assert_eq!(figures.causes[Alarm::NotPooling as usize], Some(cause));
        assert_eq!(cause.setting(), Some(setting));
    }
    // Something in between forgets what is idle: each fails the test, and the fresh one passes.
    let mut pool = Model::of(tested);
    minute(&mut pool, |pool| {
        pool.acquire(0, None);
        if let Some(id) = pool.all(State::Checking).pop() {
            pool.check_failed(id);
        }
        pool.settle();
        let id = pool.one(State::InUse);
        pool.release(id);
    });
    let cause = pool.pool.figures(pool.now).causes[Alarm::NotPooling as usize];
    assert_eq!(cause, Some(CloseReason::CheckFailed));
}

#[test]
fn max_lifetime_of_1_s_under_steady_use_is_not_pooling() {
    let mut pool = Model::started(PoolSettings { max_lifetime: secs(1), ..super::fixed(4) });
    for _ in 0..200 {
        let id = pool.lease();
        pool.pass(ms(500));
        pool.release(id);
        pool.settle();
    }
    let figures = pool.pool.figures(pool.now);
    assert_eq!(figures.causes[Alarm::NotPooling as usize], Some(CloseReason::MaxLifetime));
}

#[test]
pub(crate) fn an_alarm_of_rates_ends_by_itself_when_nobody_asks_any_more() {
    let mut pool = Model::of(PoolSettings { max_idle: 0, ..plain(2) });
    use_every_2_s(&mut pool);
    let churn = |pool: &Model| [Alarm::MaxIdleChurn, Alarm::NotPooling].map(|alarm| pool.is_raised(alarm));
    assert_eq!(churn(&pool), [true; 2]);
    pool.pass(secs(121));
    assert_eq!(churn(&pool), [false; 2]);
    assert_eq!(pool.pool.figures(pool.now).causes, [None; Alarm::ALL.len()]);
    assert_eq!(pool.pool.next_deadline(pool.now), Tick::NEVER, "nothing is left to be looked after");
}
