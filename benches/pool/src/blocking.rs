//! r2d2, whose callers are threads.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::contenders::{Connection, Maker, Never, OPENED, TEST_IS_BROKEN, open, test};

impl r2d2::ManageConnection for Maker {
    type Connection = Connection;
    type Error = Never;

    fn connect(&self) -> Result<Connection, Never> {
        Ok(open())
    }

    fn is_valid(&self, _: &mut Connection) -> Result<(), Never> {
        test()
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

fn pool(size: u32) -> r2d2::Pool<Maker> {
    r2d2::Pool::builder().max_size(size).test_on_check_out(false).build(Maker).unwrap()
}

fn together(size: u32, threads: u64, each: u64, yields: bool) -> f64 {
    let pool = pool(size);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..each {
                    let guard = pool.get().unwrap();
                    if yields {
                        thread::yield_now();
                    }
                    drop(guard);
                }
            });
        }
    });
    begun.elapsed().as_nanos() as f64 / (threads * each) as f64
}

fn broken_test() -> (f64, f64) {
    const REQUESTS: u32 = 200;
    let pool = r2d2::Pool::builder().max_size(8).build(Maker).unwrap();
    TEST_IS_BROKEN.store(true, Relaxed);
    let (before, mut failed) = (OPENED.load(Relaxed), 0);
    for _ in 0..REQUESTS {
        failed += u32::from(pool.get_timeout(Duration::from_millis(50)).is_err());
        thread::sleep(Duration::from_millis(1));
    }
    let opened = (OPENED.load(Relaxed) - before) as f64;
    TEST_IS_BROKEN.store(false, Relaxed);
    (opened / f64::from(REQUESTS), f64::from(failed) / f64::from(REQUESTS))
}

pub fn measure(has: impl Fn(&str) -> bool, mut note: impl FnMut(&'static str, f64)) {
    if has("alone") {
        note("alone, ns", together(16, 1, 300_000, false));
    }
    if has("workers") {
        note("8 tasks on 16, ns", together(16, 8, 60_000, false));
    }
    if has("queue") {
        note("64 tasks on 8, a yield, ns", together(8, 64, 1_000, true));
    }
    if has("broken") {
        let (opened, failed) = broken_test();
        note("broken test: opened each", opened);
        note("broken test: failed each", failed);
    }
}
