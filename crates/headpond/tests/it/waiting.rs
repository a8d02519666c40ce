//! Who waits, for how long, and what they hear.

use std::error::Error as _;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headpond::{AcquireError, FailureClass};
use tokio::time::{Instant, sleep};

use crate::server::Server;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_first_in_first_out_and_a_newcomer_never_overtakes() {
    let server = Server::new();
    let pool = server.pool(1);
    let lease = pool.acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..100 {
        let (pool, order) = (pool.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let lease = pool.acquire().await.unwrap();
            order.lock().unwrap().push(number);
            sleep(ms(1)).await;
            drop(lease);
        }));
        tokio::task::yield_now().await;
    }
    drop(lease);
    assert!(pool.try_acquire().is_none());
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn who_waited_too_long_hears_who_holds_what_it_waited_for() {
    let server = Server::new();
    let pool = server.builder(1).acquire_timeout(ms(500)).build();
    let held = tokio::spawn({
        let pool = pool.clone();
        async move {
            let _lease = pool.acquire().label("nightly report").await.unwrap();
            sleep(ms(10_000)).await;
        }
    });
    sleep(ms(100)).await;
    let begun = Instant::now();
    let Err(AcquireError::TimedOut(why)) = pool.acquire().await else { panic!("it is taken") };
    assert!((ms(500)..ms(510)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(why.situation.holders[0].label, Some("nightly report"));
    assert!(why.own.is_none());
    let said = why.to_string();
    assert!(said.contains("1 of at most 1 in use") && said.contains("waiting.rs"), "{said}");
    held.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_itself_is_told() {
    let server = Server::new();
    let pool = server.builder(1).acquire_timeout(ms(500)).build();
    let _mine = pool.acquire().label("outer").await.unwrap();
    let Err(AcquireError::TimedOut(why)) = pool.acquire().await else { panic!("it is taken") };
    assert_eq!(why.own.unwrap().label, Some("outer"));
}

#[tokio::test(start_paused = true)]
async fn nested_requests_that_would_wait_can_be_refused() {
    let server = Server::new();
    let pool = server.builder(1).refuse_nested(true).build();
    let mine = pool.acquire().label("outer").await.unwrap();
    let Err(AcquireError::Nested(own)) = pool.acquire().await else { panic!("it is taken") };
    assert_eq!(own.label, Some("outer"));
    drop(mine);
    pool.acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_an_error_of_its_own() {
    let server = Server::new();
    let pool = server.builder(1).max_waiters(1).build();
    let _lease = pool.acquire().await.unwrap();
    let waiting = pool.acquire();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(ms(1), waiting.as_mut()).await.is_err());
    let Err(AcquireError::Full(full)) = pool.acquire().await else { panic!("it is full") };
    assert_eq!((full.waiting, full.max_size), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_its_own_is_kept_though_others_wait_for_longer() {
    let server = Server::new();
    let pool = server.pool(1);
    let _lease = pool.acquire().await.unwrap();
    let patient = pool.acquire();
    tokio::pin!(patient);
    assert!(tokio::time::timeout(ms(1), patient.as_mut()).await.is_err());
    let begun = Instant::now();
    let why = pool.acquire_until(begun + ms(70)).await.map(drop);
    assert!(matches!(why, Err(AcquireError::TimedOut(_))));
    assert!((ms(70)..ms(80)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

/// The first wakes the upkeep, and the others only leave word.
#[tokio::test(start_paused = true)]
async fn who_comes_behind_others_gives_up_in_time_though_nobody_else_comes_or_goes() {
    let server = Server::new();
    let pool = server.builder(1).acquire_timeout(ms(500)).build();
    let _lease = pool.acquire().await.unwrap();
    sleep(ms(100)).await;
    let begun = Instant::now();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    for waiting in waiting {
        assert!(matches!(waiting.await.unwrap(), Err(AcquireError::TimedOut(_))));
        assert!((ms(500)..ms(515)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
    assert_eq!(pool.stats().counts.waits_timed_out, 3);
}

#[tokio::test(start_paused = true)]
async fn who_is_served_with_a_lost_connection_goes_on_waiting() {
    let server = Server::new();
    let pool = server.pool(1);
    let held = pool.acquire().await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(|lease| lease.number) }
    });
    sleep(ms(1000)).await;
    *server.login_takes.lock().unwrap() = ms(500);
    drop(held);
    server.restart();
    assert_eq!(waiter.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_does_not_keep_a_returned_connection_from_who_waits() {
    let server = Server::new();
    let pool = server.pool(3);
    let lease = pool.acquire().await.unwrap();
    server.hangs.store(true, SeqCst);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { drop(pool.acquire().await.unwrap()) })
        })
        .collect();
    sleep(ms(50)).await;
    assert_eq!(server.logging_in.load(SeqCst), 2);
    let begun = Instant::now();
    drop(lease);
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(begun.elapsed(), ms(0));
}

#[tokio::test(start_paused = true)]
async fn when_logins_fail_all_who_wait_have_the_cause_at_once() {
    for (class, most) in
        [(FailureClass::Other, 8), (FailureClass::Authentication, 1), (FailureClass::Refused, 8)]
    {
        let server = Server::new();
        *server.refuses.lock().unwrap() = Some(class);
        *server.login_takes.lock().unwrap() = ms(2);
        let pool = server.pool(16);
        let begun = Instant::now();
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.acquire().await.map(drop) })
            })
            .collect();
        for task in waiting {
            let Err(error) = task.await.unwrap() else { panic!("no login works") };
            assert!(matches!(&error, AcquireError::Login(failure) if failure.class == class), "{error}");
            assert!(error.source().unwrap().to_string().contains("the server says"));
        }
        assert!(begun.elapsed() < ms(60), "{class:?}: {:?}", begun.elapsed());
        assert!(server.logins() <= most, "{class:?}: {} logins", server.logins());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_yet_is_waited_for_and_the_error_names_it() {
    let server = Server::new();
    server.down.store(true, SeqCst);
    let pool = server.builder(2).acquire_timeout(ms(3_000)).build();
    let begun = Instant::now();
    let error = pool.acquire().await.map(drop).unwrap_err();
    assert!(begun.elapsed() >= ms(3_000));
    assert!(error.to_string().contains("the server says Unreachable"), "{error}");
    let waiting = pool.acquire();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(ms(500), waiting.as_mut()).await.is_err());
    server.down.store(false, SeqCst);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_lease_is_one_pointer_and_a_waiter_small() {
    let pool = Server::new().pool(1);
    assert_eq!(size_of::<headpond::Lease<crate::server::ToServer>>(), size_of::<usize>());
    // With the 48 bytes that the machine keeps of it, and a pointer to it.
    assert!(size_of_val(&pool.acquire()) + 48 + 8 <= 128, "{}", size_of_val(&pool.acquire()));
}
