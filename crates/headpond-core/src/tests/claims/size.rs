//! How many connections there are.

use super::{fixed, ms, plain, secs};
use crate::tests::model::Model;
use crate::{Acquired, CloseReason, PoolSettings, State, Tick};

#[test]
pub(crate) fn max_size_counts_every_state() {
    let mut pool = Model::of(plain(5));
    let ids: Vec<_> = (0..4).map(|_| pool.lease_new()).collect();
    pool.retire(ids[0], State::Resetting);
    pool.retire(ids[1], State::Recovering);
    pool.retire(ids[2], State::BeingCancelled);
    pool.close(ids[3], CloseReason::ServerLost);
    (0..5).for_each(|_| pool.ask(0));
    assert_eq!(pool.count(State::Opening), 1, "four have a place already, each in a state of its own");
    pool.closed(ids[3]);
    assert_eq!(pool.count_opened(), 1);
}

#[test]
fn a_release_beyond_max_idle_closes_the_connection() {
    let mut pool = Model::of(PoolSettings { max_idle: 2, ..plain(5) });
    let ids: Vec<_> = (0..5).map(|_| pool.lease_new()).collect();
    ids.into_iter().for_each(|id| pool.release(id));
    assert_eq!((pool.count(State::Idle), pool.count_closed(CloseReason::MaxIdle)), (2, 3));
}

#[test]
pub(crate) fn max_idle_never_closes_below_min_size() {
    let mut pool = Model::started(PoolSettings { max_idle: 0, min_idle: 0, ..fixed(4) });
    let ids: Vec<_> = (0..4).map(|_| pool.lease()).collect();
    ids.into_iter().for_each(|id| pool.release(id));
    assert_eq!(pool.sizes(), (0, 4));
}

#[test]
fn initial_min_and_max_alike_make_a_stable_pool() {
    let ageing = PoolSettings { idle_timeout: secs(10), shrink_interval: secs(10), ..fixed(6) };
    let mut pool = Model::started(ageing);
    for _ in 0..20 {
        let ids: Vec<_> = (0..6).map(|_| pool.lease()).collect();
        pool.pass(secs(1));
        ids.into_iter().for_each(|id| pool.release(id));
        pool.pass(secs(100));
    }
    assert_eq!((pool.sizes(), pool.pool.counts.opened), ((0, 6), 6));
}

#[test]
fn the_headroom_is_kept_while_max_size_allows() {
    let mut pool = Model::started(PoolSettings { min_idle: 2, initial_size: 2, ..plain(5) });
    for in_use in 1..=5 {
        pool.lease();
        pool.settle();
        assert_eq!(pool.sizes(), (in_use, 2.min(5 - in_use)));
    }
}

#[test]
fn with_initial_size_0_nothing_is_opened_before_the_first_request() {
    let mut pool = Model::started(PoolSettings { min_idle: 3, ..plain(5) });
    pool.pass(secs(100_000));
    assert_eq!(pool.pool.counts.opened, 0);
    pool.lease_new();
    assert_eq!(pool.sizes(), (1, 3));
}

#[test]
fn more_initial_than_idle_connections_do_not_churn() {
    let mut pool = Model::started(PoolSettings { max_idle: 2, initial_size: 6, ..plain(8) });
    pool.pass(secs(10));
    assert_eq!((pool.sizes(), pool.pool.counts.opened), ((0, 6), 6));
}

#[test]
fn initial_size_is_made_up_for_when_the_server_was_down_at_first() {
    let mut pool = Model::of(PoolSettings { initial_size: 4, ..plain(4) });
    pool.start();
    for id in pool.all(State::Opening) {
        pool.open_failed(id, crate::FailureClass::Unreachable);
    }
    pool.pass(secs(10));
    assert_eq!(pool.sizes(), (0, 4));
}

#[test]
fn what_was_opened_at_the_start_is_not_kept_up() {
    let mut pool =
        Model::started(PoolSettings { initial_size: 4, min_idle: 1, idle_timeout: secs(60), ..plain(8) });
    pool.pass(secs(1_000));
    assert_eq!((pool.sizes(), pool.pool.counts.opened), ((0, 1), 4));
}

#[test]
pub(crate) fn idle_timeout_closes_the_oldest_first_and_respects_the_floors() {
    let mut pool = Model::of(PoolSettings { idle_timeout: secs(60), min_idle: 2, min_size: 3, ..plain(6) });
    let mut ids: Vec<_> = (0..6).map(|_| pool.lease_new()).collect();
    ids.sort_unstable();
    for id in &ids {
        pool.now = pool.now.plus(secs(1));
        pool.release(*id);
    }
    pool.pass(secs(54));
    assert_eq!(pool.pool.open(), 6);
    pool.pass(secs(2));
    assert_eq!(pool.all(State::Idle), &ids[2..], "the first two are gone");
    pool.pass(secs(1_000));
    assert_eq!(pool.all(State::Idle), &ids[3..], "the floors are left");
}

#[test]
pub(crate) fn shrinking_halves_what_was_never_needed() {
    let floors = PoolSettings { min_idle: 2, min_size: 3, shrink_interval: secs(900), ..plain(19) };
    let mut pool = Model::of(floors);
    let ids: Vec<_> = (0..19).map(|_| pool.lease_new()).collect();
    pool.pass(secs(1));
    ids.into_iter().for_each(|id| pool.release(id));
    pool.pass(secs(899));
    let mut over_floors = vec![pool.pool.open() - 3];
    for _ in 0..5 {
        pool.pass(secs(900));
        over_floors.push(pool.pool.open() - 3);
    }
    // 10 of 19, 5 of 9, and of the last 4 not two but one.
    assert_eq!(over_floors, [16, 6, 1, 0, 0, 0]);
}

#[test]
fn without_floors_shrinking_ends_with_none() {
    let mut pool = Model::of(PoolSettings { shrink_interval: secs(900), ..plain(16) });
    let ids: Vec<_> = (0..16).map(|_| pool.lease_new()).collect();
    pool.pass(secs(1));
    ids.into_iter().for_each(|id| pool.release(id));
    pool.pass(secs(899));
    let open: Vec<_> = (0..6)
        .map(|_| {
            pool.pass(secs(900));
            pool.pool.open()
        })
        .collect();
    assert_eq!(open, [8, 4, 2, 1, 0, 0]);
}

#[test]
fn shrinking_halves_the_fewest_that_were_idle_at_once() {
    let mut pool = Model::started(PoolSettings { initial_size: 10, shrink_interval: secs(900), ..plain(10) });
    pool.pass(secs(900));
    assert_eq!(pool.sizes(), (0, 10), "at first none was there");
    let ids: Vec<_> = (0..3).map(|_| pool.lease()).collect();
    pool.pass(secs(100));
    ids.into_iter().for_each(|id| pool.release(id));
    pool.pass(secs(800));
    assert_eq!(pool.sizes(), (0, 6), "three were needed, and half of the other seven are gone");
}

#[test]
fn who_is_only_tested_is_not_needed() {
    let tested = PoolSettings { check: true, trust_window: secs(30), check_interval: secs(30), ..plain(8) };
    let mut pool =
        Model::started(PoolSettings { initial_size: 8, min_idle: 1, shrink_interval: secs(900), ..tested });
    for (interval, open) in (1..).zip([8, 4, 2, 1]) {
        let end = Tick(0).plus(secs(900 * interval));
        while pool.pool.next_deadline(pool.now) < end {
            pool.on_timer(pool.pool.next_deadline(pool.now));
            // Amid a test of all somebody comes and goes.
            match pool.acquire(0, None) {
                Acquired::Queued(waiter) => pool.withdraw(waiter),
                Acquired::Granted(id) => pool.release(id),
                Acquired::Refused(why) => panic!("{why:?}"),
            }
            pool.settle();
        }
        pool.pass(end.since(pool.now));
        assert_eq!(pool.pool.open(), open);
    }
}

#[test]
fn shrinking_that_is_switched_on_begins_with_a_whole_interval() {
    let shrinking = PoolSettings { initial_size: 8, shrink_interval: secs(900), ..plain(8) };
    let mut pool = Model::started(shrinking.clone());
    pool.pass(secs(900));
    pool.configure(PoolSettings { shrink_interval: ms(0), ..shrinking.clone() });
    pool.pass(secs(10_000));
    pool.configure(shrinking);
    pool.pass(secs(899));
    assert_eq!(pool.pool.open(), 8);
    pool.pass(secs(1));
    assert_eq!(pool.pool.open(), 4);
}

#[test]
fn shrinking_closes_none_of_what_was_needed_for_a_moment() {
    let mut pool = Model::of(PoolSettings { shrink_interval: secs(900), ..plain(8) });
    let ids: Vec<_> = (0..8).map(|_| pool.lease_new()).collect();
    ids.into_iter().for_each(|id| pool.release(id));
    pool.pass(secs(1));
    for _ in 0..10 {
        pool.pass(secs(898));
        let ids: Vec<_> = (0..8).map(|_| pool.lease()).collect();
        ids.into_iter().for_each(|id| pool.release(id));
        pool.pass(secs(2));
    }
    assert_eq!((pool.pool.open(), pool.count_closed(CloseReason::Shrink)), (8, 0));
}

#[test]
fn an_idle_connection_is_reused_newest_first() {
    let mut pool = Model::of(plain(3));
    let ids: Vec<_> = (0..3).map(|_| pool.lease_new()).collect();
    for id in &ids {
        pool.now = pool.now.plus(ms(1));
        pool.release(*id);
    }
    assert_eq!(pool.acquire(0, None), Acquired::Granted(ids[2]));
    assert_eq!(pool.acquire(0, None), Acquired::Granted(ids[1]));
}

#[test]
fn with_round_robin_the_idle_connection_that_was_used_longest_ago_is_next() {
    let mut pool = Model::of(PoolSettings { round_robin: true, ..plain(3) });
    let ids: Vec<_> = (0..3).map(|_| pool.lease_new()).collect();
    for id in &ids {
        pool.now = pool.now.plus(ms(1));
        pool.release(*id);
    }
    assert_eq!(pool.acquire(0, None), Acquired::Granted(ids[0]));
    assert_eq!(pool.acquire(0, None), Acquired::Granted(ids[1]));
}

#[test]
fn a_connection_that_is_preferred_serves_if_it_is_idle() {
    let mut pool = Model::of(plain(3));
    let ids: Vec<_> = (0..3).map(|_| pool.lease_new()).collect();
    ids.iter().for_each(|id| pool.release(*id));
    pool.prefers = Some(ids[1]);
    assert_eq!(pool.acquire(0, None), Acquired::Granted(ids[1]));
    pool.prefers = Some(ids[1]);
    assert_eq!(pool.acquire(0, None), Acquired::Granted(ids[2]), "it is in use");
}

#[test]
fn without_a_permit_of_the_budget_a_login_never_was() {
    let mut pool = Model::of(plain(3));
    let id = pool.lease_new();
    pool.denies = true;
    pool.ask(0);
    assert_eq!((pool.pool.open(), pool.pool.counts.opened), (1, 1));
    pool.pass(secs(1));
    assert_eq!(pool.pool.counts.opened, 1, "none is tried until something is given back");
    pool.denies = false;
    pool.budget_freed();
    assert_eq!(pool.count(State::Opening), 1);
    pool.release(id);
    assert_eq!(pool.granted(), [2]);
}
