//! In its steady state a pool allocates nothing: not for a lease, a wait, a test, a time-out, nor a connection
//! that comes and goes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use headpond_core::{Acquired, Action, CloseReason, ConnId, Pool, PoolSettings, Request, State, Tick};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A driver whose server does everything at once.
struct Driver {
    pool: Pool,
    now: Tick,
    actions: Vec<Action>,
    leases: Vec<ConnId>,
}

impl Driver {
    fn follow(&mut self) {
        while let Some(action) = self.actions.pop() {
            match action {
                Action::Open(conn) => self.pool.opened(self.now, conn, &mut self.actions),
                Action::Check(conn) => self.pool.ready(self.now, conn, &mut self.actions),
                Action::Close(conn, _) => self.pool.closed(self.now, conn, &mut self.actions),
                Action::Grant { conn, .. } => self.leases.push(conn),
                _ => {}
            }
        }
    }

    /// Some time of a busy pool: more requests than connections, from two applications, some of which time out.
    fn turn(&mut self) {
        for holder in 0..12 {
            let application = u32::from(holder % 3 == 0);
            let deadline = (holder % 4 == 0).then(|| self.now.plus(Duration::from_millis(1)));
            let request = Request { holder, application, deadline, exempt: false, prefer: None };
            if let Acquired::Granted(conn) = self.pool.acquire(self.now, request, &mut self.actions) {
                self.leases.push(conn);
            }
            self.follow();
        }
        self.now = self.now.plus(Duration::from_millis(700));
        self.pool.on_timer(self.now, &mut self.actions);
        self.follow();
        for turn in 0.. {
            let Some(conn) = self.leases.pop() else { break };
            match turn % 8 {
                0 => self.pool.close(self.now, conn, CloseReason::ServerLost, &mut self.actions),
                1 => {
                    self.pool.retire(self.now, conn, State::Resetting, &mut self.actions);
                    self.follow();
                    self.pool.ready(self.now, conn, &mut self.actions);
                }
                _ => self.pool.release(self.now, conn, &mut self.actions),
            }
            self.follow();
        }
        assert_eq!(self.pool.waiting(), 0);
    }
}

#[test]
fn a_busy_pool_allocates_nothing() {
    let settings =
        PoolSettings { max_size: 5, trust_window: Duration::from_millis(500), ..PoolSettings::on_demand() };
    let mut driver =
        Driver { pool: Pool::new(settings, 7), now: Tick(0), actions: Vec::new(), leases: Vec::new() };
    (0..100).for_each(|_| driver.turn());
    let before = ALLOCATIONS.get();
    assert!(before > 0, "they are counted");
    (0..10_000).for_each(|_| driver.turn());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
