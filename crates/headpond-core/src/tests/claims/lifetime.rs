//! How long a connection lives.

use std::collections::BTreeSet;

use super::{fixed, ms, plain, secs};
use crate::tests::model::Model;
use crate::{Action, CloseReason, PoolSettings, State};

#[test]
pub(crate) fn with_room_the_replacement_is_there_before_the_old_one_goes() {
    let mut pool = Model::started(PoolSettings { max_lifetime: secs(100), max_size: 3, ..fixed(2) });
    for _ in 0..50 {
        pool.on_timer(pool.pool.next_deadline(pool.now));
        assert!(pool.count(State::Idle) >= 2);
        for id in pool.all(State::Opening) {
            pool.opened(id);
            assert!(pool.count(State::Idle) >= 2);
        }
        pool.settle();
    }
    assert!(pool.count_closed(CloseReason::MaxLifetime) > 20);
}

#[test]
fn without_room_the_old_one_is_closed_on_release_and_the_new_one_opened_after() {
    let mut pool = Model::started(PoolSettings { max_lifetime: secs(100), ..fixed(1) });
    let id = pool.lease();
    pool.pass(secs(101));
    assert_eq!(pool.one(State::InUse), id, "a lease is not cut");
    pool.release(id);
    assert_eq!(pool.said, [Action::Close(id, CloseReason::MaxLifetime)]);
    pool.closed(id);
    assert_eq!(pool.count_opened(), 1);
}

#[test]
fn without_room_idle_ones_are_replaced_one_by_one() {
    let mut pool = Model::started(PoolSettings { max_lifetime: secs(100), ..fixed(5) });
    pool.now = pool.now.plus(secs(100));
    pool.on_timer(pool.now);
    assert_eq!((pool.count(State::Idle), pool.count(State::Closing)), (4, 1));
    while let Some(id) = pool.all(State::Closing).pop() {
        pool.closed(id);
        pool.opened(pool.one(State::Opening));
        assert!(pool.count(State::Idle) >= 4);
    }
    assert_eq!(pool.count_closed(CloseReason::MaxLifetime), 5);
}

#[test]
fn what_nobody_needs_any_more_is_not_replaced() {
    let mut pool = Model::of(PoolSettings { max_lifetime: secs(100), ..plain(4) });
    let ids: Vec<_> = (0..3).map(|_| pool.lease_new()).collect();
    ids.into_iter().for_each(|id| pool.release(id));
    pool.pass(secs(101));
    assert_eq!((pool.pool.open(), pool.pool.counts.opened), (0, 3));
}

#[test]
fn old_connections_stay_while_the_server_takes_no_new_ones() {
    let mut pool = Model::started(PoolSettings { max_lifetime: secs(100), max_size: 4, ..fixed(2) });
    pool.on_timer(pool.now.plus(secs(101)));
    for _ in 0..20 {
        for id in pool.all(State::Opening) {
            pool.open_failed(id, crate::FailureClass::Unreachable);
            pool.closed(id);
        }
        pool.on_timer(pool.pool.next_deadline(pool.now));
    }
    assert_eq!(pool.count(State::Idle), 2);
}

#[test]
fn under_load_too_an_old_connection_serves_on_until_a_login_succeeds() {
    let mut pool = Model::of(PoolSettings { max_lifetime: secs(100), acquire_timeout: ms(0), ..plain(3) });
    let id = pool.lease_new();
    (0..3).for_each(|_| pool.ask(0));
    for id in pool.all(State::Opening) {
        pool.open_failed(id, crate::FailureClass::Unreachable);
        pool.closed(id);
    }
    pool.now = pool.now.plus(secs(101));
    pool.release(id);
    assert_eq!(pool.granted(), [2]);
    pool.on_timer(pool.now);
    pool.settle();
    assert_eq!(pool.sizes(), (3, 0));
    pool.release(id);
    assert_eq!(pool.count_closed(CloseReason::MaxLifetime), 1);
}

#[test]
fn the_jitter_is_drawn_once_and_differs() {
    let mut pool = Model::started(PoolSettings { max_lifetime: secs(1_000), max_size: 20, ..fixed(10) });
    let ends: BTreeSet<_> = (0..10)
        .map(|_| {
            let end = pool.pool.next_deadline(pool.now);
            assert_eq!(pool.pool.next_deadline(pool.now.plus(ms(1))), end, "drawn once");
            pool.on_timer(end);
            end
        })
        .collect();
    let first = ends.first().expect("ten").since(crate::Tick(0));
    let last = ends.last().expect("ten").since(crate::Tick(0));
    assert_eq!(ends.len(), 10);
    assert!(first >= secs(850) && last <= secs(1_000) && last - first > secs(50), "{first:?} {last:?}");
}
