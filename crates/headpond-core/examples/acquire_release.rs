//! A connection acquired and released, again and again, for an instruction counter: two counts of different length
//! tell what one costs.
//!
//! usage: acquire_release idle|handover N
//!   idle: from an idle connection, and back
//!   handover: from one holder to the next, who waits; with a queue of 100

use headpond_core::{Acquired, Action, ConnId, Pool, PoolSettings, Request, Tick};

/// Nanoseconds between two events.
const STEP: u64 = 10_000;

fn main() -> Result<(), &'static str> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, count] = arguments.as_slice() else { return Err("usage: acquire_release idle|handover N") };
    let count = count.parse().map_err(|_| "N is a number")?;
    let (mut pool, conn) = open();
    match case.as_str() {
        "idle" => idle(&mut pool, conn, count),
        "handover" => handover(&mut pool, conn, count),
        _ => return Err("idle or handover"),
    }
    Ok(())
}

/// A pool whose only connection is idle.
fn open() -> (Pool, ConnId) {
    let (mut pool, mut actions) =
        (Pool::new(PoolSettings { max_size: 1, ..PoolSettings::on_demand() }, 7), Vec::new());
    pool.acquire(Tick(0), Request::of(0), &mut actions);
    let Some(Action::Open(conn)) = actions.pop() else { panic!("a login was expected") };
    pool.opened(Tick(0), conn, &mut actions);
    pool.ready(Tick(0), conn, &mut actions);
    pool.release(Tick(0), conn, &mut actions);
    (pool, conn)
}

/// What a driver does after each call.
fn follow(pool: &mut Pool, now: Tick, actions: &mut Vec<Action>) {
    actions.clear();
    if pool.next_deadline(now) <= now {
        pool.on_timer(now, actions);
    }
}

fn idle(pool: &mut Pool, conn: ConnId, count: u64) {
    let mut actions = Vec::new();
    for turn in 1..=count {
        let now = Tick(turn * STEP);
        assert_eq!(pool.acquire(now, Request::of(turn), &mut actions), Acquired::Granted(conn));
        follow(pool, now, &mut actions);
        pool.release(now, conn, &mut actions);
        follow(pool, now, &mut actions);
    }
}

fn handover(pool: &mut Pool, conn: ConnId, count: u64) {
    let mut actions = Vec::new();
    pool.acquire(Tick(0), Request::of(0), &mut actions);
    for holder in 1..=100 {
        pool.acquire(Tick(0), Request::of(holder), &mut actions);
    }
    for turn in 1..=count {
        let now = Tick(turn * STEP);
        pool.acquire(now, Request::of(100 + turn), &mut actions);
        follow(pool, now, &mut actions);
        pool.release(now, conn, &mut actions);
        assert!(matches!(actions[..], [Action::Grant { holder, .. }] if holder == turn));
        follow(pool, now, &mut actions);
    }
}
