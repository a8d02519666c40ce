//! The shell under schedules that `shuttle` makes up: whatever order threads run in, nobody is forgotten, nobody has what
//! another one has, and the counts are right. A request that is forgotten is a deadlock, which shuttle reports.
//!
//! `RUSTFLAGS='--cfg shuttle' cargo test -p headpond --lib schedules`

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::thread;

use crate::{AcquireError, Connect, Connector, Pool, Reset, State};

#[derive(Default)]
struct Maker(Arc<()>);

/// Whether somebody has it.
struct Connection {
    held: AtomicBool,
    dirty: bool,
    /// How many there are.
    _one: Arc<()>,
}

impl Connector for Maker {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self, _: Connect) -> Result<Connection, Infallible> {
        Ok(Connection { held: AtomicBool::new(false), dirty: false, _one: self.0.clone() })
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    async fn reset(&self, connection: &mut Connection) -> Result<Reset, Infallible> {
        connection.dirty = false;
        Ok(Reset::Done)
    }

    fn is_dirty(&self, connection: &mut Connection) -> bool {
        connection.dirty
    }
}

fn pool(size: u32) -> Pool<Maker> {
    Pool::builder(Maker::default()).max_size(size).check(false).idle_timeout(Duration::ZERO).build()
}

fn use_once(pool: &Pool<Maker>, dirty: bool) {
    let Ok(mut lease) = block_on(pool.acquire()) else { panic!("nothing is refused here") };
    assert!(!lease.held.swap(true, SeqCst), "somebody else has it");
    thread::yield_now();
    assert!(!lease.dirty);
    lease.dirty = dirty;
    lease.held.store(false, SeqCst);
}

fn give_up(pool: &Pool<Maker>) {
    let mut request = Box::pin(pool.acquire());
    let _ = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    thread::yield_now();
}

/// Nobody may wait: who would have to is refused.
fn be_refused(pool: &Pool<Maker>) {
    for _ in 0..2 {
        match block_on(pool.acquire()) {
            Ok(lease) => assert!(!lease.held.load(SeqCst), "somebody else has it"),
            Err(AcquireError::Full(_)) => {}
            Err(_) => panic!("there is no other reason"),
        }
    }
}

/// It goes away while it waits, or was just served.
fn give_up_late(pool: &Pool<Maker>) {
    let mut request = Box::pin(pool.acquire());
    for _ in 0..2 {
        if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        thread::yield_now();
    }
}

/// Threads that each do something with one pool; then all connections are at home, and the counts add up.
fn together(pool: Pool<Maker>, size: u32, acts: &[fn(&Pool<Maker>)]) {
    let pool = Arc::new(pool);
    let threads: Vec<_> = acts
        .iter()
        .copied()
        .map(|act| {
            let pool = pool.clone();
            thread::spawn(move || act(&pool))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap_or_else(|_| panic!("a thread failed")));
    // What the pool does by itself may still be under way.
    let mut stats = pool.stats();
    while stats.count(State::Idle) < stats.open() {
        thread::yield_now();
        stats = pool.stats();
    }
    let counts = &stats.counts;
    assert_eq!(stats.waiting, 0);
    assert!(stats.open() <= size);
    assert_eq!(counts.acquires, counts.holds + counts.waits_withdrawn + counts.refused);
    assert_eq!(counts.waits, counts.waits_granted + counts.waits_withdrawn);
}

fn schedules(size: u32, acts: &'static [fn(&Pool<Maker>)]) {
    shuttle::check_random(move || together(pool(size), size, acts), 10_000);
    shuttle::check_pct(move || together(pool(size), size, acts), 5_000, 3);
}

fn suspend_a_while(pool: &Pool<Maker>) {
    pool.suspend();
    thread::yield_now();
    pool.resume();
}

fn once(pool: &Pool<Maker>) {
    use_once(pool, false);
}

fn twice(pool: &Pool<Maker>) {
    (0..2).for_each(|_| use_once(pool, false));
}

#[test]
fn two_take_turns_at_one_connection() {
    schedules(1, &[twice, twice]);
}

#[test]
fn three_share_two_connections_while_they_are_recalled() {
    schedules(2, &[twice, twice, twice, |pool| (0..3).for_each(|_| drop(pool.stats()))]);
}

#[test]
fn who_gives_up_leaves_nothing_behind() {
    schedules(1, &[once, once, give_up, give_up]);
}

#[test]
fn a_dirty_connection_is_never_handed_on() {
    schedules(2, &[|pool| use_once(pool, true), twice, twice]);
}

#[test]
fn a_pool_that_is_suspended_meanwhile_serves_all_in_the_end() {
    schedules(2, &[twice, twice, suspend_a_while]);
}

#[test]
fn who_gives_up_while_served_leaves_nothing_behind() {
    schedules(1, &[twice, give_up_late, give_up_late, give_up]);
}

#[test]
fn who_is_refused_hears_it() {
    let few = || Pool::builder(Maker::default()).max_size(1).max_waiters(1).check(false).build();
    let acts: &[fn(&Pool<Maker>)] = &[be_refused, be_refused, be_refused];
    shuttle::check_random(move || together(few(), 1, acts), 10_000);
    shuttle::check_pct(move || together(few(), 1, acts), 5_000, 3);
}

/// Nobody but its users has the pool, and they leave it while others have leases and wait.
fn abandon() {
    let count = Arc::new(());
    let pool = Pool::builder(Maker(count.clone())).max_size(2).check(false).build();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                let lease = block_on(pool.acquire());
                drop(pool);
                thread::yield_now();
                assert!(lease.is_ok());
            })
        })
        .collect();
    drop(pool);
    threads.into_iter().for_each(|thread| thread.join().unwrap_or_else(|_| panic!("a thread failed")));
    // No connection is left, nor the pool: all of it was given back.
    while Arc::strong_count(&count) > 1 {
        thread::yield_now();
    }
}

#[test]
fn a_pool_that_is_dropped_meanwhile_leaves_nothing_behind() {
    shuttle::check_random(abandon, 10_000);
    shuttle::check_pct(abandon, 5_000, 3);
}

/// Who waits when the pool closes hears it, and who has a connection keeps it.
fn close_meanwhile() {
    let pool = Arc::new(pool(1));
    let users: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || match block_on(pool.acquire()) {
                Ok(lease) => assert!(!lease.held.load(SeqCst)),
                Err(AcquireError::Closed) => {}
                Err(_) => panic!("there is no other reason"),
            })
        })
        .collect();
    pool.drain();
    users.into_iter().for_each(|thread| thread.join().unwrap_or_else(|_| panic!("a thread failed")));
}

#[test]
fn who_waits_when_the_pool_closes_hears_it() {
    shuttle::check_random(close_meanwhile, 10_000);
    shuttle::check_pct(close_meanwhile, 5_000, 3);
}
