//! Requests that are given up at any moment.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::server::Server;

/// A small generator: the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_is_not_served_and_the_next_one_is() {
    let server = Server::new();
    let pool = server.pool(1);
    let lease = pool.acquire().await.unwrap();
    let mut second = Box::pin(pool.acquire());
    let mut third = Box::pin(pool.acquire());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    assert!(third.as_mut().poll(&mut cx).is_pending());
    drop(second);
    drop(lease);
    assert!(third.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test(start_paused = true)]
async fn who_was_served_and_does_not_come_for_it_passes_it_on() {
    let server = Server::new();
    let pool = server.pool(1);
    let lease = pool.acquire().await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut served = Box::pin(pool.acquire());
    let mut next = Box::pin(pool.acquire());
    assert!(served.as_mut().poll(&mut cx).is_pending());
    assert!(next.as_mut().poll(&mut cx).is_pending());
    drop(lease);
    drop(served);
    assert!(next.as_mut().poll(&mut cx).is_ready());
    assert_eq!(server.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_was_served_a_connection_that_broke_meanwhile_waits_for_another() {
    let server = Server::new();
    let pool = server.pool(1);
    let lease = pool.acquire().await.unwrap();
    let mut served = Box::pin(pool.acquire());
    assert!(served.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(lease);
    server.restart();
    assert_eq!(served.await.unwrap().number, 2);
    assert_eq!(pool.stats().counts.opened, 2);
}

#[tokio::test(start_paused = true)]
async fn a_test_goes_on_though_nobody_waits_for_it_any_more() {
    let server = Server::new();
    let pool = server.builder(1).trust_window(Duration::ZERO).build();
    drop(pool.acquire().await.unwrap());
    *server.check_takes.lock().unwrap() = Duration::from_millis(100);
    sleep(Duration::from_secs(1)).await;
    let before = server.checks.load(SeqCst);
    assert!(timeout(Duration::from_millis(10), pool.acquire()).await.is_err());
    sleep(Duration::from_secs(1)).await;
    assert_eq!((server.checks.load(SeqCst), server.logins(), server.alive()), (before + 1, 1, 1));
    drop(pool.acquire().await.unwrap());
    assert_eq!(server.logins(), 1);
}

/// Polls a future so many times, with other tasks at work between, and gives it up then.
async fn poll_times<F: Future>(future: F, times: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_requests_given_up_anywhere_cost_no_connection_and_starve_nobody() {
    const TASKS: u64 = 32;
    const EACH: u64 = 3_200;
    let server = Server::new();
    *server.check_takes.lock().unwrap() = Duration::from_micros(50);
    let pool = server.builder(4).trust_window(Duration::ZERO).build();
    let tasks: Vec<_> = (0..TASKS)
        .map(|seed| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut dice = Dice(seed);
                let (mut served, mut given_up) = (0, 0);
                for _ in 0..EACH {
                    let patience = dice.below(12);
                    match poll_times(pool.acquire(), patience).await {
                        Some(lease) => {
                            let lease = lease.unwrap();
                            if dice.below(2) == 0 {
                                tokio::task::yield_now().await;
                            }
                            drop(lease);
                            served += 1;
                        }
                        None => given_up += 1,
                    }
                    if dice.below(8) == 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                (served, given_up)
            })
        })
        .collect();
    let (mut served, mut given_up) = (0, 0);
    for task in tasks {
        let (one, other) = task.await.unwrap();
        assert!(one > 0, "somebody got nothing");
        (served, given_up) = (served + one, given_up + other);
    }
    assert!(served > 10_000 && given_up > 10_000, "{served} served, {given_up} given up");
    sleep(Duration::from_secs(1)).await;
    let stats = pool.stats();
    assert_eq!(
        (stats.waiting, server.alive(), server.logins()),
        (0, 4, 4),
        "nothing leaked, nothing rebuilt"
    );
    let counts = &stats.counts;
    assert_eq!(counts.waits, counts.waits_granted + counts.waits_withdrawn);
    assert_eq!(counts.acquires, counts.holds + counts.waits_withdrawn);
    let all = [pool.acquire().await, pool.acquire().await, pool.acquire().await, pool.acquire().await];
    assert!(all.iter().all(Result::is_ok));
}

#[test]
fn given_up_from_two_threads_nothing_is_lost_either() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Server::new();
    let pool = server.builder(4).build();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..32_u64)
            .map(|seed| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let mut dice = Dice(seed);
                    for _ in 0..3_200 {
                        if let Some(lease) = poll_times(pool.acquire(), dice.below(6)).await {
                            let lease = lease.unwrap();
                            if dice.below(2) == 0 {
                                tokio::task::yield_now().await;
                            }
                            drop(lease);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let stats = pool.stats();
        assert_eq!((stats.waiting, server.logins(), server.alive()), (0, 4, 4));
        assert_eq!(stats.counts.acquires, stats.counts.holds + stats.counts.waits_withdrawn);
    });
}
