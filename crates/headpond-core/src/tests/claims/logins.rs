//! How fast connections are opened, and what failures do.

use super::{ms, plain, secs};
use crate::tests::model::Model;
use crate::{Acquired, Action, Alarm, CloseReason, FailureClass, PoolSettings, Refusal, State, Tick};

fn fail_all(pool: &mut Model, class: FailureClass) {
    for id in pool.all(State::Opening) {
        pool.open_failed(id, class);
        pool.closed(id);
    }
}

#[test]
fn logins_begin_login_delay_apart() {
    let mut pool = Model::of(PoolSettings { login_delay: ms(250), max_logins: 9, ..plain(4) });
    pool.lease_new();
    (0..3).for_each(|_| pool.ask(0));
    assert_eq!(pool.count(State::Opening), 0);
    let begun: Vec<_> = pool
        .watch(secs(5))
        .into_iter()
        .filter(|(_, said)| matches!(said, Action::Open(_)))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(begun, [ms(250), ms(500), ms(750)]);
}

#[test]
fn another_login_delay_applies_at_once() {
    for (delay, next) in [(ms(250), ms(250)), (ms(50), ms(100)), (secs(7_200), secs(7_200)), (ms(0), ms(100))]
    {
        let mut pool =
            Model::of(PoolSettings { login_delay: secs(3_600), acquire_timeout: ms(0), ..plain(2) });
        pool.lease_new();
        pool.ask(0);
        pool.now = pool.now.plus(ms(100));
        pool.configure(PoolSettings { login_delay: delay, ..pool.settings.clone() });
        if pool.count_opened() == 0 {
            pool.on_timer(pool.pool.next_deadline(pool.now));
        }
        assert_eq!((pool.count_opened(), pool.now.since(Tick(0))), (1, next), "after {delay:?}");
    }
}

#[test]
fn a_shorter_login_retry_applies_at_once() {
    let slow = PoolSettings { login_retry: secs(3_600), acquire_timeout: ms(0), ..plain(2) };
    let mut pool = Model::of(slow);
    pool.ask(0);
    for _ in 0..20 {
        fail_all(&mut pool, FailureClass::Unreachable);
        pool.on_timer(pool.pool.next_deadline(pool.now));
    }
    fail_all(&mut pool, FailureClass::Unreachable);
    pool.configure(PoolSettings { login_retry: secs(1), ..pool.settings.clone() });
    assert_eq!(pool.pool.next_deadline(pool.now).since(pool.now), secs(1));
    pool.on_timer(pool.now.plus(secs(1)));
    fail_all(&mut pool, FailureClass::Authentication);
    pool.configure(PoolSettings { login_retry: ms(1), ..pool.settings.clone() });
    pool.pass(secs(29));
    assert_eq!(pool.count(State::Opening) + pool.count(State::Idle), 0, "an account is not locked for it");
}

#[test]
pub(crate) fn no_more_than_max_logins_are_in_flight() {
    let mut pool = Model::of(PoolSettings { max_logins: 3, ..plain(10) });
    pool.lease_new();
    (0..9).for_each(|_| pool.ask(0));
    assert_eq!(pool.count(State::Opening), 3);
    pool.opened(pool.one(State::Opening));
    assert_eq!((pool.count_opened(), pool.count(State::Opening)), (1, 3));
}

#[test]
pub(crate) fn the_first_login_is_alone_so_a_wrong_password_is_sent_once() {
    let wrong = FailureClass::Authentication;
    let mut pool = Model::of(PoolSettings { initial_size: 8, max_logins: 4, ..plain(20) });
    pool.start();
    (0..10).for_each(|_| pool.ask(0));
    assert_eq!(pool.count(State::Opening), 1);
    fail_all(&mut pool, wrong);
    assert_eq!((pool.count(State::Opening), pool.refused().len()), (0, 0), "what fails closes after that");
    pool.pass(secs(29));
    assert_eq!((pool.pool.counts.opened, pool.pool.counts.logins_failed), (1, 1));
    pool.now = Tick(0).plus(secs(30));
    (0..10).for_each(|_| pool.ask(0));
    assert_eq!(pool.count(State::Opening), 1, "the next one too");
    pool.opened(pool.one(State::Opening));
    assert_eq!(pool.count(State::Opening), 4, "the password is right");
    pool.settle();
    pool.renew();
    (0..8).for_each(|_| pool.ask(0));
    assert_eq!(pool.count(State::Opening), 1, "it may be another now");
    pool.opened(pool.one(State::Opening));
    assert_eq!(pool.count(State::Opening), 4);
}

#[test]
fn a_login_begun_with_old_credentials_says_nothing_of_the_new_ones() {
    let mut pool = Model::of(plain(8));
    pool.lease_new();
    (0..3).for_each(|_| pool.ask(0));
    let old = pool.all(State::Opening);
    assert_eq!(old.len(), 3);
    pool.renew();
    for id in old {
        pool.open_failed(id, FailureClass::Authentication);
        pool.closed(id);
    }
    assert!(!pool.is_raised(Alarm::Authentication));
    assert_eq!(pool.count(State::Opening), 1, "the new ones are tried at once");
}

#[test]
fn initial_connections_are_opened_side_by_side() {
    let mut pool = Model::of(PoolSettings { initial_size: 100, max_logins: 20, ..plain(100) });
    pool.start();
    let mut rounds = 0;
    while pool.count(State::Opening) > 0 {
        pool.all(State::Opening).into_iter().for_each(|id| pool.opened(id));
        rounds += 1;
    }
    assert_eq!((pool.count(State::Idle), rounds), (100, 6));
}

#[test]
fn after_a_failure_one_probes_with_pauses_that_double_up_to_login_retry() {
    let mut pool =
        Model::of(PoolSettings { acquire_timeout: ms(0), login_retry: ms(300), max_logins: 1, ..plain(8) });
    (0..8).for_each(|_| pool.ask(0));
    for longest in [20, 40, 80, 160, 300, 300, 300].map(ms) {
        fail_all(&mut pool, FailureClass::Unreachable);
        assert_eq!(pool.count(State::Opening), 0);
        let pause = pool.pool.next_deadline(pool.now).since(pool.now);
        assert!(longest.mul_f64(0.75) <= pause && pause <= longest, "{pause:?} for {longest:?}");
        pool.on_timer(pool.now.plus(pause));
        assert_eq!(pool.count(State::Opening), 1);
    }
}

#[test]
pub(crate) fn after_success_logins_in_flight_double_again() {
    let mut pool = Model::of(PoolSettings { max_logins: 8, ..plain(20) });
    (0..20).for_each(|_| pool.ask(0));
    fail_all(&mut pool, FailureClass::StartingUp);
    pool.on_timer(pool.pool.next_deadline(pool.now));
    let mut in_flight = Vec::new();
    while pool.count(State::Opening) > 0 {
        in_flight.push(pool.count(State::Opening));
        pool.opened(pool.one(State::Opening));
    }
    assert_eq!(in_flight[..5], [1, 2, 4, 8, 8]);
}

#[test]
pub(crate) fn after_a_failed_authentication_nobody_logs_in_for_30_s() {
    let mut pool = Model::of(PoolSettings { max_logins: 1, ..plain(8) });
    pool.ask(0);
    pool.ask(0);
    pool.open_failed(pool.one(State::Opening), FailureClass::Authentication);
    assert_eq!(
        pool.refused(),
        [1, 2].map(|holder| (holder, Refusal::Database(FailureClass::Authentication)))
    );
    assert!(pool.is_raised(Alarm::Authentication));
    for _ in 0..1_000 {
        pool.now = pool.now.plus(ms(29));
        let class = FailureClass::Authentication;
        assert_eq!(pool.acquire(0, None), Acquired::Refused(Refusal::Database(class)));
    }
    pool.now = Tick(0).plus(secs(30));
    pool.ask(0);
    assert_eq!(pool.count(State::Opening), 1);
    pool.settle();
    assert!(!pool.is_raised(Alarm::Authentication));
}

#[test]
fn another_failure_does_not_end_the_pause_after_a_failed_authentication() {
    let mut pool = Model::of(plain(8));
    pool.lease_new();
    (0..2).for_each(|_| pool.ask(0));
    let ids = pool.all(State::Opening);
    pool.open_failed(ids[0], FailureClass::Authentication);
    pool.open_failed(ids[1], FailureClass::Unreachable);
    let next = pool.watch(secs(60)).into_iter().find(|(_, said)| matches!(said, Action::Open(_)));
    assert_eq!(next, None, "nobody is left who waits");
    pool.ask(0);
    assert_eq!(pool.count(State::Opening), 1);
}

#[test]
fn renew_forgives_a_failed_authentication() {
    let mut pool = Model::of(PoolSettings { initial_size: 3, ..plain(8) });
    pool.start();
    fail_all(&mut pool, FailureClass::Authentication);
    pool.pass(secs(10_000));
    assert_eq!(pool.pool.counts.opened, 1, "with nobody waiting nobody tries on");
    pool.renew();
    assert!(!pool.is_raised(Alarm::Authentication));
    pool.settle();
    assert_eq!(pool.sizes(), (0, 3));
}

#[test]
fn new_credentials_are_tried_though_a_failed_authentication_bids_to_wait() {
    let mut pool = Model::of(PoolSettings { initial_size: 3, ..plain(8) });
    pool.start();
    fail_all(&mut pool, FailureClass::Authentication);
    pool.credentials_changed();
    assert!(!pool.is_raised(Alarm::Authentication));
    pool.settle();
    assert_eq!(pool.sizes(), (0, 3));
}

#[test]
fn while_connections_live_a_failed_authentication_refuses_nobody() {
    let mut pool = Model::of(plain(8));
    let id = pool.lease_new();
    pool.ask(0);
    pool.open_failed(pool.one(State::Opening), FailureClass::Authentication);
    assert!(pool.refused().is_empty());
    pool.release(id);
    assert_eq!(pool.granted(), [2]);
}

#[test]
fn who_waits_is_refused_when_the_last_connection_goes_and_no_login_can_help() {
    for given_back in [false, true] {
        let mut pool = Model::of(plain(8));
        let id = pool.lease_new();
        pool.ask(0);
        pool.open_failed(pool.one(State::Opening), FailureClass::Authentication);
        pool.server_dies();
        if given_back {
            pool.release(id)
        } else {
            pool.close(id, CloseReason::ServerLost)
        }
        assert_eq!(pool.refused(), [(2, Refusal::Database(FailureClass::Authentication))]);
    }
}

#[test]
pub(crate) fn too_many_connections_lower_the_ceiling_which_rises_again() {
    let mut pool = Model::of(PoolSettings { acquire_timeout: ms(0), max_logins: 1, ..plain(40) });
    (0..20).for_each(|_| {
        pool.lease_new();
    });
    (0..40).for_each(|_| pool.ask(0));
    pool.open_failed(pool.one(State::Opening), FailureClass::TooManyConnections);
    assert!(pool.is_raised(Alarm::TooManyConnections));
    assert_eq!(pool.pool.figures(pool.now).effective_max, 20);
    pool.settle();
    pool.pass(ms(4_999));
    assert_eq!(pool.pool.open(), 20);
    let mut open = Vec::new();
    for _ in 0..4 {
        pool.pass(secs(5));
        open.push(pool.pool.open());
    }
    assert_eq!(open, [25, 31, 38, 40]);
    assert!(!pool.is_raised(Alarm::TooManyConnections));
}

#[test]
fn waiters_outlast_a_server_that_is_down() {
    let mut pool = Model::of(PoolSettings { max_logins: 1, ..plain(4) });
    pool.ask(0);
    for _ in 0..10 {
        fail_all(&mut pool, FailureClass::Unreachable);
        assert!(pool.refused().is_empty());
        pool.on_timer(pool.pool.next_deadline(pool.now));
    }
    pool.settle();
    assert_eq!(pool.sizes(), (1, 0));
}

#[test]
fn a_deadline_that_has_passed_is_still_due() {
    let mut pool = Model::of(PoolSettings { max_logins: 1, ..plain(4) });
    let id = pool.lease_new();
    pool.ask(0);
    pool.ask(0);
    fail_all(&mut pool, FailureClass::Unreachable);
    pool.now = pool.now.plus(secs(2));
    pool.release(id);
    assert_eq!(pool.pool.next_deadline(pool.now), pool.now, "a login is wanted, and may begin");
}

#[test]
fn who_waits_is_told_after_login_attempts_if_no_connection_is_left() {
    for (class, told) in [(FailureClass::Other, true), (FailureClass::Unreachable, false)] {
        let mut pool = Model::of(PoolSettings { login_attempts: 2, ..plain(2) });
        pool.ask(0);
        fail_all(&mut pool, class);
        assert_eq!(pool.waiting(), 1, "one failure may be chance");
        pool.on_timer(pool.pool.next_deadline(pool.now));
        fail_all(&mut pool, class);
        assert_eq!(pool.waiting(), u32::from(!told), "{class:?}");
    }
}
