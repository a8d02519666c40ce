//! What a pool tells of itself.

use std::time::Duration;

use super::{fixed, ms, plain, secs};
use crate::tests::model::Model;
use crate::{Action, CloseReason, FailureClass, Marks, PoolSettings, State, Tick};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
pub(crate) fn a_leak_is_reported_once_and_again_when_it_ends() {
    let mut pool = Model::of(PoolSettings { leak_after: secs(10), ..plain(2) });
    let id = pool.lease_new();
    let since = pool.now;
    assert_eq!(pool.watch(secs(1_000)), [(secs(10), Action::Leak { conn: id, since, ended: false })]);
    pool.release(id);
    assert_eq!(pool.said, [Action::Leak { conn: id, since, ended: true }]);
    pool.lease();
    assert_eq!(pool.watch(secs(9)), []);
}

#[test]
fn with_leak_reclaim_a_leak_is_taken_back_and_the_next_one_served() {
    let mut pool = Model::of(PoolSettings { leak_after: secs(10), leak_reclaim: true, ..plain(1) });
    let id = pool.lease_new();
    pool.ask(0);
    let since = pool.now;
    let said = [Action::Leak { conn: id, since, ended: false }, Action::Reclaim(id)];
    assert_eq!(pool.watch(secs(20)), said.map(|action| (secs(10), action)));
    assert_eq!(pool.one(State::InUse), id, "until the driver has closed it");
    pool.close(id, CloseReason::Leaked);
    assert_eq!(pool.said[0], Action::Leak { conn: id, since, ended: true });
    pool.settle();
    assert_eq!((pool.sizes(), pool.count_closed(CloseReason::Leaked)), ((1, 0), 1));
}

#[test]
fn a_connection_tells_why_it_will_be_closed() {
    let mut pool = Model::of(PoolSettings { max_lifetime: secs(100), acquire_timeout: ms(0), ..plain(2) });
    let id = pool.lease_new();
    let will_close = |pool: &Model| pool.pool.will_close(pool.now, id);
    assert_eq!(will_close(&pool), None);
    pool.now = pool.now.plus(secs(101));
    assert_eq!(will_close(&pool), Some(CloseReason::MaxLifetime));
    pool.server_dies();
    assert_eq!(will_close(&pool), Some(CloseReason::MassDeath));
    pool.renew();
    assert_eq!(will_close(&pool), Some(CloseReason::Outdated));
    pool.suspend();
    assert_eq!(will_close(&pool), Some(CloseReason::Suspended));
    pool.drain();
    assert_eq!(will_close(&pool), Some(CloseReason::Shutdown));
    pool.release(id);
    assert_eq!((pool.one(State::Closing), will_close(&pool)), (id, None), "it does already");
}

#[test]
fn marks_are_kept_in_four_windows() {
    let mut pool = Model::started(fixed(8));
    let use_at_once = |pool: &mut Model, count: u32| {
        let ids: Vec<_> = (0..count).map(|_| pool.lease()).collect();
        ids.into_iter().for_each(|id| pool.release(id));
    };
    let in_use = |pool: &Model| {
        let marks = pool.pool.figures(pool.now).marks;
        [marks.start, marks.reset, marks.hour, marks.day].map(|marks| marks.in_use)
    };
    use_at_once(&mut pool, 5);
    assert_eq!(in_use(&pool), [5; 4], "there has been no full hour yet");
    pool.now = pool.now.plus(HOUR);
    use_at_once(&mut pool, 3);
    assert_eq!(in_use(&pool), [5; 4], "the last full hour");
    pool.pool.reset_marks();
    use_at_once(&mut pool, 2);
    pool.now = pool.now.plus(HOUR);
    assert_eq!(in_use(&pool), [5, 2, 3, 5]);
    pool.now = pool.now.plus(HOUR);
    assert_eq!(in_use(&pool), [5, 2, 0, 5], "an hour without anything");
    pool.now = pool.now.plus(HOUR * 21);
    use_at_once(&mut pool, 1);
    assert_eq!(in_use(&pool), [5, 2, 0, 5], "the first full day");
    pool.now = pool.now.plus(HOUR * 24);
    assert_eq!(in_use(&pool), [5, 2, 0, 1], "the second");
    pool.now = pool.now.plus(HOUR * 24 * 100);
    assert_eq!(in_use(&pool), [5, 2, 0, 0]);
}

#[test]
fn marks_hold_waiters_connections_and_the_longest_wait() {
    let mut pool = Model::of(plain(1));
    let id = pool.lease_new();
    pool.ask(0);
    pool.ask(0);
    pool.now = pool.now.plus(ms(70));
    pool.release(id);
    let marks = pool.pool.figures(pool.now).marks.start;
    assert_eq!(marks, Marks { in_use: 1, waiting: 2, open: 1, wait: 70_000_000 });
    pool.pass(secs(31));
    let marks = pool.pool.figures(pool.now).marks.start;
    assert_eq!(Duration::from_nanos(marks.wait), secs(30), "a wait in vain is one too");
    pool.close(id, CloseReason::ServerLost);
    pool.closed(id);
    pool.pool.reset_marks();
    assert_eq!(pool.pool.figures(pool.now).marks.reset, Marks::default());
}

#[test]
fn a_wait_counts_for_the_hour_in_which_it_ends() {
    let mut pool = Model::of(plain(1));
    let id = pool.lease_new();
    pool.now = Tick(0).plus(HOUR - secs(1));
    pool.ask(0);
    pool.now = Tick(0).plus(HOUR + secs(1));
    pool.release(id);
    assert_eq!(pool.pool.figures(pool.now).marks.hour.wait, 0);
    pool.now = Tick(0).plus(HOUR * 2);
    assert_eq!(pool.pool.figures(pool.now).marks.hour.wait, 2_000_000_000);
}

#[test]
fn hours_and_levels_of_a_pool_begin_with_its_first_request() {
    let mut pool = Model::new(plain(1), Tick(0).plus(HOUR * 1000), 7);
    let id = pool.lease_new();
    pool.release(id);
    let figures = pool.pool.figures(pool.now.plus(ms(5)));
    assert_eq!((figures.marks.hour.in_use, figures.levels), (1, vec![5_000_000, 0]));
}

#[test]
pub(crate) fn levels_sum_to_the_time_that_has_passed() {
    let mut pool = Model::started(fixed(3));
    let ids: Vec<_> = [10, 20, 30]
        .map(|wait| {
            pool.now = pool.now.plus(ms(wait));
            pool.lease()
        })
        .to_vec();
    pool.now = pool.now.plus(ms(40));
    ids.into_iter().for_each(|id| pool.release(id));
    let levels = pool.pool.figures(pool.now.plus(ms(5))).levels;
    assert_eq!(levels.into_iter().map(Duration::from_nanos).collect::<Vec<_>>(), [15, 20, 30, 40].map(ms));
}

#[test]
fn opened_less_closed_by_reason_is_alive() {
    let mut pool = Model::of(PoolSettings { max_idle: 1, ..plain(4) });
    let ids: Vec<_> = (0..4).map(|_| pool.lease_new()).collect();
    pool.close(ids[0], CloseReason::ReplyMismatch);
    ids[1..].iter().for_each(|id| pool.release(*id));
    pool.settle();
    pool.lease();
    pool.ask(0);
    pool.open_failed(pool.one(State::Opening), FailureClass::Other);
    let counts = pool.pool.figures(pool.now).counts;
    let closed = [CloseReason::ReplyMismatch, CloseReason::MaxIdle, CloseReason::LoginFailed];
    assert_eq!(closed.map(|reason| counts.closed[reason as usize]), [1, 2, 1]);
    assert_eq!(counts.opened - counts.closed.iter().sum::<u64>(), 1);
}

#[test]
pub(crate) fn every_wait_has_one_outcome() {
    let mut pool = Model::of(plain(1));
    let id = pool.lease_new();
    (0..3).for_each(|_| pool.ask(0));
    pool.withdraw(pool.queues[&0][2].id);
    pool.release(id);
    pool.pass(secs(31));
    pool.ask(0);
    pool.drain();
    let counts = pool.pool.figures(pool.now).counts;
    let ended = (counts.waits_granted, counts.waits_withdrawn, counts.waits_timed_out, counts.waits_failed);
    assert_eq!((counts.waits, ended), (5, (2, 1, 1, 1)));
}
