//! r2d2, whose callers are threads.

use std::thread;
use std::time::Instant;

use crate::contenders::{Connection, Maker, Never};

impl r2d2::ManageConnection for Maker {
    type Connection = Connection;
    type Error = Never;

    fn connect(&self) -> Result<Connection, Never> {
        Ok(Connection::default())
    }

    fn is_valid(&self, _: &mut Connection) -> Result<(), Never> {
        Ok(())
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
}
