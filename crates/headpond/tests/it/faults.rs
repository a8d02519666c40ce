//! Servers that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use headpond::{Alarm, CloseReason};
use tokio::time::{sleep, timeout};

use crate::server::Server;

#[tokio::test(start_paused = true)]
async fn a_test_that_is_wrong_closes_nothing_and_raises_an_alarm() {
    let server = Server::new();
    server.fails_checks.store(true, SeqCst);
    let pool = server.builder(4).trust_window(Duration::ZERO).build();
    for _ in 0..1000 {
        drop(pool.acquire().await.unwrap());
        sleep(Duration::from_millis(10)).await;
    }
    let stats = pool.stats();
    assert!(stats.is_raised(Alarm::CheckSuspect));
    assert_eq!((server.logins(), stats.counts.closed[CloseReason::CheckFailed as usize]), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_test_that_breaks_later_costs_one_connection_at_most() {
    let server = Server::new();
    let pool = server.builder(4).trust_window(Duration::ZERO).build();
    let leases = [pool.acquire().await, pool.acquire().await, pool.acquire().await];
    drop(leases);
    server.fails_checks.store(true, SeqCst);
    for _ in 0..1000 {
        sleep(Duration::from_millis(10)).await;
        drop(pool.acquire().await.unwrap());
    }
    assert!(pool.stats().is_raised(Alarm::CheckSuspect));
    assert_eq!(server.logins(), 4, "three, and the one that was asked");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tasks_recover_from_three_restarts() {
    let server = Server::new();
    *server.login_takes.lock().unwrap() = Duration::from_millis(20);
    let pool = server.pool(64);
    let done = Arc::new(AtomicU64::new(0));
    for _ in 0..10_000 {
        let (pool, done) = (pool.clone(), done.clone());
        tokio::spawn(async move {
            loop {
                let lease = pool.acquire().await.unwrap();
                sleep(Duration::from_millis(1)).await;
                drop(lease);
                done.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..3 {
        sleep(Duration::from_secs(1)).await;
        server.down.store(true, SeqCst);
        server.restart();
        sleep(Duration::from_millis(300)).await;
        server.down.store(false, SeqCst);
        sleep(Duration::from_secs(1)).await;
        let before = done.load(SeqCst);
        sleep(Duration::from_secs(1)).await;
        // 64 leases of about a millisecond each.
        assert!(done.load(SeqCst) - before > 20_000, "{} served", done.load(SeqCst) - before);
    }
    assert!(server.most_alive.load(SeqCst) <= 64);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_never_answers_ends_in_time_and_says_so() {
    let server = Server::new();
    server.hangs.store(true, SeqCst);
    let pool = server.builder(2).connect_timeout(Duration::from_secs(1)).build();
    assert!(timeout(Duration::from_secs(3), pool.acquire()).await.is_err());
    assert!(pool.stats().login.unwrap().to_string().contains("no answer within 1.0s"));
    server.hangs.store(false, SeqCst);
    timeout(Duration::from_secs(3), pool.acquire()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_seen_to_be_lost_is_neither_handed_out_nor_kept() {
    let server = Server::new();
    let pool = server.pool(2);
    let lease = pool.acquire().await.unwrap();
    drop(pool.acquire().await.unwrap());
    server.restart();
    drop(lease);
    let fresh = pool.acquire().await.unwrap();
    assert_eq!(fresh.number, 3);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.stats().counts.closed[CloseReason::ServerLost as usize], 2);
}
