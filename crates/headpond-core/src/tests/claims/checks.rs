//! Which connections are tested when; and the test of the test.

use super::{fixed, ms, plain, secs};
use crate::tests::model::Model;
use crate::{Action, Alarm, CloseReason, ConnId, PoolSettings, State};

fn tested(max_size: u32) -> PoolSettings {
    PoolSettings { check: true, trust_window: ms(500), check_interval: ms(0), ..plain(max_size) }
}

/// So many idle connections, whose trust is used up.
fn stale(settings: PoolSettings, count: u32) -> (Model, Vec<ConnId>) {
    let mut pool = Model::of(settings);
    let ids: Vec<_> = (0..count).map(|_| pool.lease_new()).collect();
    for id in &ids {
        pool.release(*id);
        pool.now = pool.now.plus(ms(1));
    }
    pool.now = pool.now.plus(ms(501));
    (pool, ids)
}

/// A stale connection fails the test of a waiter, and a fresh one is on its way.
fn failed(settings: PoolSettings, count: u32) -> (Model, Vec<ConnId>) {
    let (mut pool, ids) = stale(settings, count);
    pool.ask(0);
    pool.check_failed(*ids.last().expect("some"));
    (pool, ids)
}

#[test]
pub(crate) fn who_was_proven_within_the_trust_window_is_not_tested() {
    let (mut pool, ids) = stale(tested(1), 1);
    pool.ask(0);
    assert_eq!(pool.said, [Action::Check(ids[0])]);
    pool.ready(ids[0]);
    assert_eq!(pool.granted(), [2]);
    pool.release(ids[0]);
    pool.now = pool.now.plus(ms(500));
    pool.lease();
}

#[test]
fn the_first_connection_of_all_is_tested() {
    let mut pool = Model::of(tested(4));
    pool.ask(0);
    pool.opened(pool.one(State::Opening));
    assert_eq!(pool.count(State::Checking), 1);
    pool.settle();
    pool.ask(0);
    pool.opened(pool.one(State::Opening));
    assert_eq!(pool.sizes(), (2, 0), "the second is not");
}

#[test]
pub(crate) fn tests_in_the_background_change_neither_the_order_of_use_nor_the_idle_time() {
    let background = PoolSettings {
        check_interval: secs(30),
        trust_window: secs(30),
        idle_timeout: secs(100),
        ..tested(3)
    };
    let (mut pool, ids) = stale(background, 3);
    pool.pass(secs(60));
    let proven = ids.iter().map(|id| pool.pool.slots.proven(*id)).min().expect("three");
    assert!(pool.now.since(proven) <= secs(30), "each was tested");
    assert_eq!(pool.lease(), ids[2]);
    pool.pass(secs(45));
    assert_eq!((pool.sizes(), pool.count_closed(CloseReason::IdleTimeout)), ((1, 0), 2));
}

#[test]
fn a_test_that_is_wrong_from_the_start_closes_nothing() {
    let mut pool = Model::of(tested(4));
    pool.ask(0);
    pool.opened(pool.one(State::Opening));
    pool.check_failed(pool.one(State::Checking));
    assert!(pool.is_raised(Alarm::CheckSuspect));
    assert_eq!(pool.granted(), [1]);
    let id = pool.one(State::InUse);
    for _ in 0..40 {
        pool.release(id);
        pool.now = pool.now.plus(secs(1));
        assert_eq!(pool.lease(), id, "no longer tested");
    }
    assert_eq!(pool.pool.counts.closed.iter().sum::<u64>(), 0);
}

#[test]
pub(crate) fn a_test_that_breaks_later_asks_one_fresh_connection_and_keeps_all() {
    let (mut pool, _) = failed(tested(8), 3);
    assert_eq!(pool.count(State::Opening), 1);
    // The others are tried for the waiter, and fail as well.
    while let Some(id) = pool.all(State::Checking).into_iter().find(|id| !pool.conns[id].judged) {
        pool.check_failed(id);
    }
    assert_eq!(pool.count(State::Opening), 1, "one is enough");
    pool.opened(pool.one(State::Opening));
    let fresh = pool.said.iter().find_map(|said| if let Action::Check(id) = said { Some(*id) } else { None });
    pool.check_failed(fresh.expect("the fresh one is asked"));
    assert!(pool.is_raised(Alarm::CheckSuspect));
    assert_eq!((pool.sizes(), pool.pool.counts.closed.iter().sum::<u64>()), ((1, 3), 0));
}

#[test]
fn a_dead_connection_is_closed_alone_when_the_fresh_one_passes() {
    let (mut pool, ids) = failed(tested(8), 3);
    pool.ready(ids[1]);
    pool.settle();
    assert_eq!(pool.count_closed(CloseReason::CheckFailed), 1);
    assert_eq!(pool.state_of(ids[2]), None);
    assert!(!pool.is_raised(Alarm::CheckSuspect));
}

#[test]
pub(crate) fn an_idle_connection_that_fails_in_the_background_gets_its_verdict() {
    let background = PoolSettings { check_interval: secs(30), trust_window: secs(30), ..tested(8) };
    let (mut pool, _) = stale(background, 3);
    pool.on_timer(pool.now.plus(secs(31)));
    pool.check_failed(pool.one(State::Checking));
    assert_eq!(pool.count(State::Opening), 1, "nobody waits, but the test must be asked about");
    pool.settle();
    assert_eq!(pool.count_closed(CloseReason::CheckFailed), 1);
}

#[test]
fn in_a_full_pool_only_one_of_those_that_failed_makes_place_for_the_fresh_one() {
    let background = PoolSettings { check_interval: secs(30), trust_window: secs(30), ..tested(4) };
    let mut pool = Model::started(PoolSettings { min_idle: 4, initial_size: 4, min_size: 4, ..background });
    pool.on_timer(pool.now.plus(secs(31)));
    for id in pool.all(State::Checking) {
        pool.check_failed(id);
    }
    assert_eq!((pool.count(State::Checking), pool.count(State::Closing)), (3, 1));
    pool.closed(pool.one(State::Closing));
    let fresh = pool.one(State::Opening);
    pool.opened(fresh);
    pool.check_failed(fresh);
    assert_eq!(pool.sizes(), (0, 4));
    assert!(pool.is_raised(Alarm::CheckSuspect));
}

#[test]
fn a_broken_test_is_tried_again_and_the_alarm_ends_when_it_works() {
    let mut pool = Model::of(PoolSettings { initial_size: 2, ..tested(4) });
    pool.start();
    pool.opened(pool.one(State::Opening));
    pool.check_failed(pool.one(State::Checking));
    pool.settle();
    for works in [false, true] {
        let begun = pool.now;
        pool.on_timer(pool.pool.next_deadline(pool.now));
        assert_eq!(pool.now.since(begun), secs(60));
        let id = pool.one(State::Checking);
        if works {
            pool.ready(id)
        } else {
            pool.check_failed(id)
        }
        assert_eq!((pool.is_raised(Alarm::CheckSuspect), pool.sizes()), (!works, (0, 2)));
    }
}

/// A pool that found out with its first connection, which is leased, that the test is broken.
fn broken(max_size: u32) -> (Model, ConnId) {
    let mut pool = Model::of(PoolSettings { acquire_timeout: ms(0), ..tested(max_size) });
    pool.ask(0);
    pool.opened(pool.one(State::Opening));
    let id = pool.one(State::Checking);
    pool.check_failed(id);
    assert_eq!((pool.granted(), pool.is_raised(Alarm::CheckSuspect)), (vec![1], true));
    (pool, id)
}

#[test]
pub(crate) fn a_broken_test_is_tried_again_though_all_are_busy() {
    let (mut pool, id) = broken(1);
    (2..=4).for_each(|_| pool.ask(0));
    for works in [false, true] {
        pool.pass(secs(61));
        pool.release(id);
        assert_eq!(pool.said, [Action::Check(id)], "who comes to rest is asked");
        if works {
            pool.ready(id)
        } else {
            pool.check_failed(id)
        }
        assert_eq!((pool.granted().len(), pool.is_raised(Alarm::CheckSuspect)), (1, !works));
        pool.release(id);
        assert_eq!(pool.granted().len(), usize::from(!works), "asked once");
    }
    assert_eq!(pool.pool.counts.closed.iter().sum::<u64>(), 0);
}

#[test]
fn who_has_just_failed_a_broken_test_is_not_asked_again() {
    let (mut pool, ids) = stale(PoolSettings { acquire_timeout: ms(0), ..tested(3) }, 2);
    pool.ask(0);
    pool.ask(0);
    pool.check_failed(ids[1]);
    let fresh = pool.one(State::Opening);
    pool.opened(fresh);
    pool.check_failed(fresh);
    assert_eq!((pool.sizes(), pool.all(State::Checking)), ((2, 0), vec![ids[0]]), "it takes its time");
    pool.watch(secs(61));
    pool.check_failed(ids[0]);
    assert_eq!((&pool.said[..], pool.sizes()), (&[][..], (2, 1)));
    pool.release(fresh);
    assert_eq!(pool.said, [Action::Check(fresh)]);
}

#[test]
fn who_is_opened_is_asked_about_a_broken_test() {
    let (mut pool, _) = broken(4);
    let open = |pool: &mut Model| {
        pool.ask(0);
        let id = pool.one(State::Opening);
        pool.opened(id);
        id
    };
    let soon = open(&mut pool);
    assert_eq!(pool.state_of(soon), Some(State::InUse), "not so soon");
    pool.now = pool.now.plus(secs(5));
    let id = open(&mut pool);
    assert_eq!(pool.state_of(id), Some(State::Checking));
    pool.check_failed(id);
    assert_eq!((pool.state_of(id), pool.is_raised(Alarm::CheckSuspect)), (Some(State::InUse), true));
    pool.now = pool.now.plus(secs(5));
    let id = open(&mut pool);
    pool.ready(id);
    assert_eq!((pool.state_of(id), pool.is_raised(Alarm::CheckSuspect)), (Some(State::InUse), false));
    assert_eq!(pool.pool.counts.closed.iter().sum::<u64>(), 0);
}

#[test]
fn a_test_that_hangs_is_broken_too() {
    let (mut pool, ids) = stale(tested(4), 2);
    pool.ask(0);
    pool.close(ids[1], CloseReason::CheckFailed);
    assert_eq!(pool.all(State::Checking), [ids[0]], "the next one is tried for the waiter");
    pool.close(ids[0], CloseReason::CheckFailed);
    let fresh = pool.one(State::Opening);
    pool.opened(fresh);
    pool.close(fresh, CloseReason::CheckFailed);
    assert!(pool.is_raised(Alarm::CheckSuspect));
    pool.settle();
    assert_eq!(pool.sizes(), (1, 0));
}

#[test]
pub(crate) fn nobody_waits_beside_an_idle_connection_when_the_tested_one_is_lost() {
    let (mut pool, ids) = stale(tested(3), 3);
    pool.ask(0);
    pool.close(ids[2], CloseReason::ServerLost);
    assert_eq!(pool.count(State::Checking), 1);
    pool.settle();
    assert_eq!(pool.sizes(), (1, 1));
}

#[test]
fn who_failed_goes_when_no_fresh_connection_can_be_had() {
    let (mut pool, ids) = failed(tested(4), 1);
    pool.open_failed(pool.one(State::Opening), crate::FailureClass::Unreachable);
    assert_eq!(pool.conns[&ids[0]].state, State::Closing);
}

#[test]
fn a_pool_without_tests_tests_nothing() {
    let mut pool = Model::started(PoolSettings { check_interval: secs(1), ..fixed(3) });
    pool.pass(secs(100));
    pool.lease();
    assert_eq!(pool.count(State::Checking), 0);
}

#[test]
fn a_test_that_is_switched_off_while_one_runs_judges_nobody() {
    let (mut pool, ids) = stale(tested(3), 1);
    pool.ask(0);
    pool.configure(plain(3));
    pool.check_failed(ids[0]);
    assert_eq!(pool.granted(), [2]);
    assert_eq!(pool.pool.counts.opened, 1);
}

impl Model {
    fn state_of(&self, id: ConnId) -> Option<State> {
        self.conns.get(&id).map(|conn| conn.state)
    }
}

#[test]
fn who_failed_makes_place_for_the_fresh_one_when_the_budget_has_none() {
    let (mut pool, ids) = stale(tested(4), 1);
    pool.ask(0);
    pool.denies = true;
    pool.check_failed(ids[0]);
    assert_eq!(pool.count(State::Opening), 0, "the budget denied it");
    pool.pass(ms(1));
    assert_eq!(pool.count_closed(CloseReason::CheckFailed), 1);
}
