//! What operators and a dying server do to a pool.

use super::{fixed, ms, plain};
use crate::tests::model::Model;
use crate::{
    Acquired, Action, Alarm, CloseReason, FAREWELLS_TOGETHER, PoolSettings, Refusal, Request, State,
};

#[test]
pub(crate) fn a_dead_server_takes_all_idle_connections_in_one_go_and_leased_ones_when_given_back() {
    let tested = PoolSettings { check: true, trust_window: ms(0), check_interval: ms(0), ..fixed(6) };
    let mut pool = Model::of(tested);
    let held = pool.lease_new();
    pool.settle();
    assert_eq!(pool.sizes(), (1, 5));
    pool.now = pool.now.plus(ms(5));
    pool.server_dies();
    assert_eq!((pool.count_closed(CloseReason::MassDeath), pool.count(State::Checking)), (5, 0));
    pool.release(held);
    assert_eq!(pool.said[..1], [Action::Close(held, CloseReason::MassDeath)]);
    pool.settle();
    assert_eq!(pool.sizes(), (0, 6));
}

#[test]
fn two_farewells_speak_for_the_server_only_together() {
    for (apart, idle) in [(FAREWELLS_TOGETHER + ms(1), 1), (FAREWELLS_TOGETHER, 0)] {
        let mut pool = Model::started(fixed(3));
        let mut out = Vec::new();
        let [one, other] = [pool.lease(), pool.lease()];
        pool.pool.server_leaving(pool.now, one, false, &mut out);
        pool.pool.server_leaving(pool.now, one, false, &mut out);
        assert_eq!(pool.pool.idle(), 1, "one may mean itself, however often it says so");
        pool.pool.server_leaving(pool.now.plus(apart), other, false, &mut out);
        assert_eq!(pool.pool.idle(), idle);
    }
}

#[test]
fn a_farewell_to_a_connection_that_was_given_up_already_costs_no_new_one() {
    for certain in [true, false] {
        let mut pool = Model::started(fixed(3));
        let old = [pool.lease(), pool.lease()];
        pool.server_dies();
        pool.settle();
        assert_eq!(pool.pool.idle(), 1, "opened since");
        let mut out = Vec::new();
        for conn in old {
            pool.pool.server_leaving(pool.now, conn, certain, &mut out);
        }
        assert_eq!((pool.pool.idle(), out), (1, Vec::new()));
    }
}

#[test]
pub(crate) fn a_suspended_pool_grants_nothing_and_keeps_nothing() {
    let mut pool = Model::started(fixed(2));
    let id = pool.lease();
    pool.suspend();
    pool.ask(0);
    pool.release(id);
    assert_eq!(pool.count_closed(CloseReason::Suspended), 2);
    pool.settle();
    assert_eq!((pool.pool.open(), pool.waiting()), (0, 1));
    pool.resume();
    pool.settle();
    assert_eq!(pool.sizes(), (1, 1));
}

#[test]
fn a_fenced_pool_grants_nothing_says_so_and_keeps_no_connection_of_before() {
    let mut pool = Model::started(fixed(3));
    let held = [pool.lease(), pool.lease()];
    let (mut out, now) = (Vec::new(), pool.now);
    pool.pool.fence(now, &mut out);
    assert!(matches!(out[0], Action::Alarm { alarm: Alarm::Fenced, raised: true, .. }));
    assert!(matches!(out[1..], [Action::Close(_, CloseReason::Fenced)]), "{out:?}");
    assert!(matches!(pool.pool.acquire(now, Request::of(9), &mut out), Acquired::Queued(_)));
    out.clear();
    pool.pool.release(now, held[0], &mut out);
    assert_eq!(out, [Action::Close(held[0], CloseReason::Fenced)]);
    out.clear();
    pool.pool.unfence(now, &mut out);
    assert!(matches!(out[0], Action::Alarm { alarm: Alarm::Fenced, raised: false, .. }));
    out.clear();
    pool.pool.release(now, held[1], &mut out);
    assert_eq!(out[0], Action::Close(held[1], CloseReason::Fenced));
    assert_eq!(pool.pool.waiting(), 1, "not even for who waits");
}

#[test]
fn draining_finishes_what_runs_and_takes_nothing_new() {
    let mut pool = Model::of(plain(1));
    let id = pool.lease_new();
    pool.ask(0);
    pool.drain();
    assert_eq!(pool.refused(), [(2, Refusal::Draining)]);
    assert_eq!(pool.acquire(0, None), Acquired::Refused(Refusal::Draining));
    pool.release(id);
    pool.settle();
    assert_eq!(pool.pool.open(), 0);
}

#[test]
fn who_waits_for_a_verdict_goes_when_the_pool_is_suspended_or_drained() {
    let tested = PoolSettings { check: true, trust_window: ms(0), check_interval: ms(0), ..plain(2) };
    for drains in [false, true] {
        let mut pool = Model::of(tested.clone());
        let id = pool.lease_new();
        pool.release(id);
        pool.now = pool.now.plus(ms(5));
        pool.ask(0);
        pool.check_failed(id);
        if drains {
            pool.drain()
        } else {
            pool.suspend()
        }
        pool.settle();
        assert_eq!(pool.pool.open(), 0);
    }
}

#[test]
fn a_smaller_pool_closes_idle_connections_at_once_and_others_when_given_back() {
    let mut pool = Model::started(fixed(6));
    let ids: Vec<_> = (0..3).map(|_| pool.lease()).collect();
    pool.configure(fixed(2));
    assert_eq!((pool.count(State::Idle), pool.count_closed(CloseReason::Resized)), (0, 3));
    ids.into_iter().for_each(|id| pool.release(id));
    pool.settle();
    assert_eq!((pool.sizes(), pool.count_closed(CloseReason::Resized)), ((0, 2), 4));
}

#[test]
fn renewing_replaces_every_connection_without_cutting_a_lease() {
    let mut pool = Model::started(fixed(3));
    let id = pool.lease();
    pool.renew();
    assert_eq!((pool.count(State::InUse), pool.count_closed(CloseReason::Outdated)), (1, 2));
    pool.release(id);
    pool.settle();
    assert_eq!((pool.sizes(), pool.count_closed(CloseReason::Outdated)), ((0, 3), 3));
}

#[test]
fn who_was_opened_anew_for_its_holder_is_not_outdated() {
    let mut pool = Model::started(fixed(1));
    let id = pool.lease();
    pool.renew();
    pool.reopened(id);
    pool.release(id);
    assert_eq!(pool.all(State::Idle), [id]);
}
