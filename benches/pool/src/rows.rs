//! What is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::{JoinSet, yield_now};

use crate::contenders::{Contender, OPENED, TEST_IS_BROKEN, fill};

/// Nanoseconds for one acquire and release, one task alone.
pub async fn alone<C: Contender>(pool: C, each: u64) -> f64 {
    tokio::spawn(async move {
        for _ in 0..each / 10 {
            drop(pool.acquire().await);
        }
        let begun = Instant::now();
        for _ in 0..each {
            drop(pool.acquire().await);
        }
        begun.elapsed().as_nanos() as f64 / each as f64
    })
    .await
    .unwrap()
}

/// Nanoseconds for one acquire and release of many tasks together, each held for so many yields.
pub async fn together<C: Contender>(pool: C, tasks: u64, each: u64, yields: u32) -> f64 {
    let mut set = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..tasks {
        let pool = pool.clone();
        set.spawn(async move {
            for _ in 0..each {
                let guard = pool.acquire().await;
                for _ in 0..yields {
                    yield_now().await;
                }
                drop(guard);
            }
        });
    }
    while set.join_next().await.is_some() {}
    begun.elapsed().as_nanos() as f64 / (tasks * each) as f64
}

/// What a crowd got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    pub throughput: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Jain's index of fairness: 1 if all got the same.
    pub jain: f64,
}

/// Tasks that acquire for so long, each connection held for one yield.
pub async fn crowd<C: Contender>(pool: C, tasks: u64, time: Duration) -> Crowd {
    let stop = Arc::new(AtomicBool::new(false));
    // Who is spawned first would have the pool for itself.
    let ready = Arc::new(Barrier::new(tasks as usize + 1));
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let (pool, stop, ready) = (pool.clone(), stop.clone(), ready.clone());
        set.spawn(async move {
            // Were it to grow meanwhile, it would for all at the same time, and those stops would be the longest waits.
            let (mut count, mut waits) = (0_u64, vec![1; 128]);
            waits.clear();
            ready.wait().await;
            while !stop.load(Relaxed) {
                // One in eight is timed.
                let asked = (count % 8 == 0).then(Instant::now);
                let guard = pool.acquire().await;
                if let Some(asked) = asked {
                    waits.push(asked.elapsed().as_nanos() as u64);
                }
                count += 1;
                yield_now().await;
                drop(guard);
            }
            (count, waits)
        });
    }
    ready.wait().await;
    let begun = Instant::now();
    tokio::time::sleep(time).await;
    let took = begun.elapsed();
    stop.store(true, Relaxed);
    let (mut counts, mut waits) = (Vec::new(), Vec::new());
    while let Some(done) = set.join_next().await {
        let (count, mut some) = done.unwrap();
        counts.push(count as f64);
        waits.append(&mut some);
    }
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize] as f64 / 1e6;
    let (sum, squares) = (counts.iter().sum::<f64>(), counts.iter().map(|count| count * count).sum::<f64>());
    Crowd {
        throughput: sum / took.as_secs_f64(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        jain: sum * sum / (counts.len() as f64 * squares),
    }
}

/// A pool of 8 whose test breaks while its connections are good: connections opened, and requests that failed, for each
/// request.
pub async fn broken_test<C: Contender>() -> (f64, f64) {
    const REQUESTS: u32 = 200;
    TEST_IS_BROKEN.store(false, Relaxed);
    let pool = fill(C::empty(8, true).await, 8).await;
    TEST_IS_BROKEN.store(true, Relaxed);
    let (before, mut failed) = (OPENED.load(Relaxed), 0);
    for _ in 0..REQUESTS {
        match tokio::time::timeout(Duration::from_millis(50), pool.acquire()).await {
            Ok(Some(guard)) => drop(guard),
            _ => failed += 1,
        }
        // Whoever gives back by a task has done so.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let opened = (OPENED.load(Relaxed) - before) as f64;
    TEST_IS_BROKEN.store(false, Relaxed);
    (opened / f64::from(REQUESTS), f64::from(failed) / f64::from(REQUESTS))
}
