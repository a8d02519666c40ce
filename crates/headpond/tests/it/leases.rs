//! Acquire, use, give back.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use headpond::{AcquireError, CloseReason, State};
use tokio::time::sleep;

use crate::server::Server;

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_before_the_first_request_and_then_no_more_than_asked_for() {
    let server = Server::new();
    let pool = server.pool(8);
    sleep(secs(1)).await;
    assert_eq!(server.logins(), 0);
    for _ in 0..1000 {
        drop(pool.acquire().await.unwrap());
    }
    assert_eq!(server.logins(), 1);
    let stats = pool.stats();
    assert_eq!((stats.counts.acquires, stats.counts.holds, stats.open()), (1000, 1000, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_open_from_the_start_is_when_the_pool_is_ready() {
    let server = Server::new();
    let pool = server.builder(8).initial_size(5).build();
    pool.wait_ready().await.unwrap();
    assert_eq!(server.alive(), 5);
    assert_eq!(pool.stats().count(State::Idle), 5);
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_its_pool_and_is_closed_when_it_comes_back() {
    let server = Server::new();
    let pool = server.pool(2);
    let lease = pool.acquire().await.unwrap();
    drop(pool);
    sleep(secs(1)).await;
    assert_eq!(server.alive(), 1);
    drop(lease);
    sleep(secs(1)).await;
    assert_eq!(server.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_last_lease_and_refuses_who_waits() {
    let server = Server::new();
    let pool = server.pool(1);
    let lease = pool.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    assert!(matches!(waiting.await.unwrap(), Err(AcquireError::Closed)));
    sleep(secs(1)).await;
    assert!(!closing.is_finished());
    drop(lease);
    closing.await.unwrap();
    assert_eq!(server.alive(), 0);
    assert!(matches!(pool.acquire().await, Err(AcquireError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_dirty_connection_is_reset_before_anybody_else_has_it() {
    let server = Server::new();
    let pool = server.pool(1);
    pool.acquire().await.unwrap().dirty = true;
    assert!(!pool.acquire().await.unwrap().dirty);
    assert_eq!((server.resets.load(SeqCst), server.logins()), (1, 1));
    pool.acquire().await.unwrap().taint();
    drop(pool.acquire().await.unwrap());
    assert_eq!((server.resets.load(SeqCst), server.logins()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_detached_is_the_pools_no_longer() {
    let server = Server::new();
    let pool = server.pool(1);
    let mine = pool.acquire().await.unwrap().detach();
    let other = pool.acquire().await.unwrap();
    assert_ne!(mine.number, other.number);
    assert_eq!((server.alive(), pool.stats().open()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_is_closed() {
    let server = Server::new();
    let pool = server.pool(1);
    pool.acquire().await.unwrap().close();
    sleep(secs(1)).await;
    assert_eq!(server.alive(), 0);
    drop(pool.acquire().await.unwrap());
    assert_eq!(server.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_idle_cannot_be_tried_for() {
    let server = Server::new();
    let pool = server.pool(1);
    assert!(pool.try_acquire().is_none(), "nothing is open");
    drop(pool.acquire().await.unwrap());
    let lease = pool.try_acquire().unwrap();
    assert!(pool.try_acquire().is_none());
    drop(lease);
    assert!(pool.try_acquire().is_some());
    sleep(secs(2)).await;
    assert!(pool.try_acquire().is_none(), "it would have to be tested");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_pool_gives_nothing_and_closes_what_is_idle_until_it_is_resumed() {
    let server = Server::new();
    let pool = server.pool(2);
    drop(pool.acquire().await.unwrap());
    pool.suspend();
    sleep(secs(1)).await;
    assert_eq!(server.alive(), 0);
    let waiting = pool.acquire();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(secs(1), waiting.as_mut()).await.is_err());
    pool.resume();
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_smaller_size_holds_at_once_and_connections_go_as_they_come_back() {
    let server = Server::new();
    let pool = server.pool(16);
    let mut leases = Vec::new();
    for _ in 0..16 {
        leases.push(pool.acquire().await.unwrap());
    }
    pool.resize(4);
    leases.truncate(10);
    sleep(secs(1)).await;
    assert_eq!(server.alive(), 10);
    drop(leases);
    sleep(secs(1)).await;
    assert_eq!((server.alive(), pool.stats().counts.closed[CloseReason::Resized as usize]), (4, 12));
}

#[tokio::test(start_paused = true)]
async fn the_pool_never_has_more_than_the_server_leaves_to_it() {
    let server = Server::new();
    *server.limit.lock().unwrap() = Some(10);
    let pool = server.builder(100).reserve(3).build();
    let mut leases = Vec::new();
    while let Ok(lease) = pool.acquire().within(secs(5)).await {
        leases.push(lease);
    }
    assert_eq!(leases.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn new_credentials_are_tried_at_once() {
    let server = Server::new();
    *server.password.lock().unwrap() = Some("right".to_owned());
    let pool = server.pool(2);
    assert!(matches!(pool.acquire().await, Err(AcquireError::Login(_))));
    assert!(matches!(pool.acquire().await, Err(AcquireError::Login(_))));
    assert_eq!(server.logins(), 1, "a wrong password is sent once");
    pool.set_credentials("somebody", "right");
    pool.acquire().await.unwrap();
    assert_eq!(server.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_too_old_is_named_with_its_place_and_label() {
    let server = Server::new();
    let pool = server.builder(1).leak_after(secs(10)).build();
    let lease = pool.acquire().label("report").await.unwrap();
    sleep(secs(11)).await;
    let stats = pool.stats();
    assert_eq!((stats.counts.leaks, stats.holders[0].label), (1, Some("report")));
    assert!(stats.holders[0].site.unwrap().file().ends_with("leases.rs"));
    drop(lease);
    assert_eq!(pool.stats().holders.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_in_time_and_the_floor_kept() {
    let server = Server::new();
    let pool = server.builder(8).idle_timeout(secs(60)).min_size(2).build();
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(pool.acquire().await.unwrap());
    }
    drop(leases);
    sleep(secs(59)).await;
    assert_eq!(server.alive(), 8);
    sleep(secs(2)).await;
    assert_eq!(server.alive(), 2);
}

#[test]
fn a_pool_serves_one_runtime_after_the_other() {
    let server = Server::new();
    let pool = server.pool(2);
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { drop(pool.acquire().await.unwrap()) });
        runtime.block_on(async { drop(pool.acquire().await.unwrap()) });
    }
    assert_eq!(server.logins(), 1);
}

#[test]
fn a_pool_that_a_runtime_used_on_its_way_out_serves_the_next() {
    /// Asks for a connection when it is dropped, with its runtime.
    struct Late(headpond::Pool<crate::server::ToServer>);

    impl Drop for Late {
        fn drop(&mut self) {
            let mut request = Box::pin(self.0.acquire());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = std::future::Future::poll(request.as_mut(), &mut cx);
        }
    }

    let server = Server::new();
    let pool = server.pool(2);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let late = Late(pool.clone());
    first.spawn(async move {
        let _late = late;
        std::future::pending::<()>().await;
    });
    first.block_on(tokio::task::yield_now());
    drop(first);
    runtime().block_on(async { drop(pool.acquire().await.unwrap()) });
}
