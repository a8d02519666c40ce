//! Connections that the driver keeps at hand.

use std::time::Duration;

use super::{ms, plain, secs};
use crate::{Acquired, Action, CloseReason, ConnId, Pool, PoolSettings, Request, State, Tick, Usage};

/// A pool with one connection, which is lent since `Tick(0)`.
fn lent(settings: PoolSettings) -> (Pool, ConnId) {
    let (mut pool, conn) = leased(settings);
    assert!(pool.lend(Tick(0), conn, &mut Vec::new()));
    (pool, conn)
}

fn leased(settings: PoolSettings) -> (Pool, ConnId) {
    let (mut pool, mut out) = (Pool::new(settings, 7), Vec::new());
    pool.acquire(Tick(0), Request::of(0), &mut out);
    let Some(Action::Open(conn)) = out.pop() else { panic!("a login was expected") };
    pool.opened(Tick(0), conn, &mut out);
    (pool, conn)
}

fn at(after: Duration) -> Tick {
    Tick(0).plus(after)
}

#[test]
fn a_connection_that_is_lent_is_idle_and_given_to_nobody() {
    let (mut pool, conn) = lent(plain(1));
    let mut out = Vec::new();
    assert_eq!((pool.state(conn), pool.idle()), (Some(State::Idle), 1));
    assert!(matches!(pool.acquire(at(ms(1)), Request::of(1), &mut out), Acquired::Queued(_)));
    assert_eq!(out, []);
    pool.recall(at(ms(1)), conn, at(ms(1)), None);
    pool.on_timer(at(ms(1)), &mut out);
    assert_eq!(out, [Action::Grant { holder: 1, conn, waited: 0 }]);
}

#[test]
fn who_is_recalled_in_use_holds_the_lease_that_began_before() {
    let (mut pool, conn) = lent(PoolSettings { leak_after: secs(1), ..plain(1) });
    let mut out = Vec::new();
    pool.recall(at(ms(900)), conn, at(ms(500)), Some(at(ms(600))));
    assert_eq!(pool.state(conn), Some(State::InUse));
    pool.on_timer(at(ms(1599)), &mut out);
    assert_eq!(out, []);
    assert_eq!(pool.next_deadline(at(ms(1599))), at(ms(1600)));
    pool.release(at(ms(700)), conn, &mut out);
    assert_eq!(pool.figures(at(ms(900))).counts.hold_time, at(ms(100)).0);
}

#[test]
fn who_is_recalled_idle_was_idle_since_it_was_given_back() {
    let (mut pool, conn) = lent(PoolSettings { idle_timeout: secs(10), ..plain(1) });
    let mut out = Vec::new();
    pool.recall(at(secs(8)), conn, at(secs(4)), None);
    assert_eq!(pool.next_deadline(at(secs(8))), at(secs(14)));
    pool.on_timer(at(secs(14)), &mut out);
    assert_eq!(out, [Action::Close(conn, CloseReason::IdleTimeout)]);
}

#[test]
fn nothing_is_lent_while_somebody_waits_or_headroom_is_wanting() {
    let (mut pool, conn) = leased(plain(1));
    let mut out = Vec::new();
    pool.acquire(Tick(0), Request::of(1), &mut out);
    assert!(!pool.lend(Tick(0), conn, &mut out));
    let (mut pool, conn) = leased(PoolSettings { min_idle: 1, ..plain(2) });
    assert!(!pool.lend(Tick(0), conn, &mut out));
}

#[test]
fn who_goes_anyway_is_not_lent_and_may_not_stay_so() {
    let mut out = Vec::new();
    let (mut pool, conn) = leased(plain(1));
    pool.renew(Tick(0), &mut out);
    assert!(!pool.lend(Tick(0), conn, &mut out));
    let (mut pool, conn) = lent(PoolSettings { max_lifetime: secs(100), ..plain(1) });
    assert!(pool.may_stay_lent(at(secs(80)), conn));
    assert!(!pool.may_stay_lent(at(secs(101)), conn));
    pool.suspend(at(secs(1)), &mut out);
    assert!(!pool.may_stay_lent(at(secs(1)), conn));
}

#[test]
fn what_happened_meanwhile_counts_as_if_it_had_been_told_at_once() {
    let (mut pool, conn) = lent(plain(1));
    let usage = Usage { acquires: 5, holds: 5, hold_time: 5_000, connections: 1 };
    pool.credit(at(secs(1)), usage);
    pool.recall(at(secs(1)), conn, at(secs(1)), None);
    let figures = pool.figures(at(secs(1)));
    assert_eq!((figures.counts.acquires, figures.counts.holds, figures.counts.hold_time), (6, 6, 5_000));
    assert_eq!((figures.marks.start.in_use, figures.count(State::InUse)), (1, 0));
}
