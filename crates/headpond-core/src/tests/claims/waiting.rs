//! Who is served when.

use std::time::Duration;

use super::{ms, plain, secs};
use crate::tests::model::Model;
use crate::{Acquired, PoolSettings, Refusal, Request, State};

#[test]
pub(crate) fn an_application_is_served_first_in_first_out() {
    let mut pool = Model::of(plain(1));
    (0..5).for_each(|_| pool.ask(0));
    assert_eq!(pool.order(5), [1, 2, 3, 4, 5]);
}

#[test]
fn a_released_connection_goes_to_the_oldest_waiter_at_once() {
    let mut pool = Model::of(plain(2));
    let first = pool.lease_new();
    let second = pool.lease_new();
    pool.ask(0);
    pool.ask(0);
    pool.release(second);
    assert_eq!(pool.granted(), [3]);
    pool.release(first);
    assert_eq!(pool.granted(), [4]);
}

#[test]
pub(crate) fn a_newcomer_never_overtakes() {
    let tested = PoolSettings { check: true, trust_window: ms(100), check_interval: ms(0), ..plain(2) };
    let mut pool = Model::of(tested);
    let ids = [pool.lease_new(), pool.lease_new()];
    ids.into_iter().for_each(|id| pool.release(id));
    pool.now = pool.now.plus(ms(200));
    // The newest is tested for the first who asks. Then tests are switched off: the other is free at once.
    pool.ask(0);
    pool.configure(plain(2));
    pool.ask(0);
    assert_eq!(pool.granted(), [3]);
    pool.settle();
    assert_eq!(pool.granted(), [4]);
}

#[test]
fn two_applications_take_turns_whoever_asked_first() {
    let mut pool = Model::of(plain(1));
    (1..=6).for_each(|_| pool.ask(1));
    (7..=9).for_each(|_| pool.ask(2));
    assert_eq!(pool.order(9), [1, 7, 2, 8, 3, 9, 4, 5, 6]);
}

#[test]
pub(crate) fn grants_follow_the_weights() {
    let mut pool = Model::of(plain(1));
    pool.set_weight(1, 3);
    (0..20).for_each(|_| pool.ask(1));
    (0..20).for_each(|_| pool.ask(2));
    let of_the_heavy = pool.order(20).into_iter().filter(|holder| *holder <= 20).count();
    assert_eq!(of_the_heavy, 15);
}

#[test]
fn another_weight_counts_from_the_next_grant_on() {
    let mut pool = Model::of(plain(1));
    let heavy = |order: Vec<u64>| order.into_iter().filter(|holder| *holder <= 60).count();
    (0..60).for_each(|_| pool.ask(1));
    (0..60).for_each(|_| pool.ask(2));
    for (weight, of_20) in [(3, 15), (1, 10), (19, 19)] {
        pool.said.clear();
        pool.set_weight(1, weight);
        let found = heavy(pool.order(20));
        assert!(found.abs_diff(of_20) <= 1, "{found} of 20 by weight {weight}");
    }
}

#[test]
pub(crate) fn an_application_that_was_away_gains_nothing() {
    let mut pool = Model::of(plain(1));
    (0..50).for_each(|_| pool.ask(1));
    pool.order(40);
    (0..10).for_each(|_| pool.ask(2));
    let of_the_new = pool.order(10).into_iter().filter(|holder| *holder > 50).count();
    assert_eq!(of_the_new, 5);
}

#[test]
fn even_an_endless_weight_leaves_the_others_their_turn() {
    let mut pool = Model::of(plain(1));
    pool.set_weight(1, u32::MAX);
    pool.ask(2);
    (0..3).for_each(|_| pool.ask(1));
    assert!(pool.order(4).contains(&1));
}

#[test]
fn a_waiter_is_refused_when_acquire_timeout_or_its_own_deadline_has_passed() {
    let mut pool = Model::of(plain(1));
    pool.lease_new();
    pool.ask(0);
    for own in [secs(40), secs(5), secs(10)] {
        pool.acquire(0, Some(pool.now.plus(own)));
    }
    let timed_out: Vec<_> = [secs(5), secs(10), secs(30)]
        .map(|at| {
            assert_eq!(pool.pool.next_deadline(pool.now).since(crate::Tick(0)), at);
            pool.on_timer(crate::Tick(0).plus(at));
            pool.refused()
        })
        .concat();
    assert_eq!(timed_out.map_holders(), [4, 5, 2, 3]);
}

#[test]
fn with_acquire_timeout_0_a_waiter_waits_for_ever() {
    let mut pool = Model::of(PoolSettings { acquire_timeout: ms(0), ..plain(1) });
    let id = pool.lease_new();
    pool.ask(0);
    pool.pass(secs(1_000_000));
    pool.release(id);
    assert_eq!(pool.granted(), [2]);
}

#[test]
fn one_more_than_max_waiters_is_refused_at_once() {
    let mut pool = Model::of(PoolSettings { max_waiters: 2, ..plain(1) });
    pool.ask(0);
    pool.ask(0);
    assert_eq!(pool.acquire(0, None), Acquired::Refused(Refusal::QueueFull));
    let exempt = Request { exempt: true, ..Request::of(9) };
    assert!(matches!(pool.pool.acquire(pool.now, exempt, &mut Vec::new()), Acquired::Queued(_)));
}

#[test]
fn who_would_surely_miss_its_deadline_is_refused_once_1000_holds_are_known() {
    let mut pool = Model::of(plain(1));
    let id = pool.lease_new();
    for known in [999, 1000] {
        while pool.pool.counts.holds < known {
            pool.now = pool.now.plus(ms(10));
            pool.release(id);
            pool.lease();
        }
        pool.ask(0);
        let late = pool.acquire(0, Some(pool.now.plus(ms(9))));
        assert_eq!(late == Acquired::Refused(Refusal::WouldMiss), known == 1000);
        let queued: Vec<_> = pool.queues[&0].iter().map(|waiting| waiting.id).collect();
        queued.into_iter().for_each(|waiter| pool.withdraw(waiter));
    }
    let patient = pool.acquire(0, Some(pool.now.plus(ms(30))));
    assert!(matches!(patient, Acquired::Queued(_)));
}

/// A pool with so many connections, all leased, of which many were held for so long each.
fn held_for(size: u32, hold: Duration) -> Model {
    let mut pool = Model::of(PoolSettings { acquire_timeout: ms(0), ..plain(size) });
    let ids: Vec<_> = (0..size).map(|_| pool.lease_new()).collect();
    hold_again(&mut pool, ids[0], hold, 2_000);
    pool
}

fn hold_again(pool: &mut Model, id: crate::ConnId, hold: Duration, times: u32) {
    for _ in 0..times {
        pool.now = pool.now.plus(hold);
        pool.release(id);
        pool.lease();
    }
}

/// Whether a request that can wait for so long is refused.
fn misses(pool: &mut Model, patience: Duration) -> bool {
    match pool.acquire(0, Some(pool.now.plus(patience))) {
        Acquired::Queued(waiter) => {
            pool.withdraw(waiter);
            false
        }
        other => {
            assert_eq!(other, Acquired::Refused(Refusal::WouldMiss));
            true
        }
    }
}

#[test]
fn a_miss_is_sure_only_if_all_that_are_leased_came_free_at_once_and_it_still_came_too_late() {
    let mut pool = held_for(4, ms(10));
    for ahead in 0..9 {
        let rounds = ahead / 4;
        if rounds > 0 {
            assert!(misses(&mut pool, ms(10 * rounds - 1)), "behind {ahead}");
        }
        assert!(!misses(&mut pool, ms(10 * rounds + 1)), "behind {ahead}");
        pool.ask(0);
    }
}

#[test]
fn who_waits_of_another_application_or_before_a_pool_that_can_grow_makes_no_miss_sure() {
    let mut pool = held_for(1, ms(10));
    (0..50).for_each(|_| pool.ask(1));
    assert!(!misses(&mut pool, ms(1)), "its turn comes before theirs");
    pool.ask(0);
    assert!(misses(&mut pool, ms(1)));
    pool.configure(PoolSettings { max_size: 2, ..pool.settings.clone() });
    assert!(!misses(&mut pool, ms(1)), "a second connection is on its way");
}

#[test]
fn what_is_foretold_follows_the_holds_of_late() {
    let mut pool = held_for(1, secs(1));
    for (hold, before) in [(ms(10), secs(1)), (ms(500), ms(10))] {
        let id = pool.one(State::InUse);
        hold_again(&mut pool, id, hold, 2_000);
        pool.ask(0);
        assert!(misses(&mut pool, hold.mul_f64(0.9)) && !misses(&mut pool, hold.mul_f64(1.1)), "{before:?}");
        pool.withdraw(pool.queues[&0][0].id);
    }
}

#[test]
fn a_login_outlives_the_waiter_that_caused_it() {
    let mut pool = Model::of(plain(2));
    let id = pool.lease_new();
    pool.ask(0);
    pool.release(id);
    assert_eq!(pool.granted(), [2], "whichever comes first");
    pool.settle();
    assert_eq!(pool.sizes(), (1, 1));
}

#[test]
fn who_leaves_takes_nobody_elses_place() {
    let mut pool = Model::of(plain(1));
    (0..5).for_each(|_| pool.ask(0));
    for place in [2, 0] {
        pool.withdraw(pool.queues[&0][place].id);
    }
    assert_eq!(pool.order(3), [2, 4, 5]);
}

trait Holders {
    fn map_holders(self) -> Vec<u64>;
}

impl Holders for Vec<(u64, Refusal)> {
    fn map_holders(self) -> Vec<u64> {
        self.into_iter().map(|(holder, _)| holder).collect()
    }
}
