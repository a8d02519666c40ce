//! Managers that were written for other pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use headpond::drivers::{FromBb8, FromDeadpool, ResetWhen};
use headpond::{AcquireError, Pool};

#[derive(Clone, Debug, Default)]
struct Manager(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    made: AtomicU32,
    recycled: AtomicU32,
    broken: AtomicBool,
    refuses: AtomicBool,
}

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl Manager {
    fn make(&self) -> Result<u32, Refused> {
        if self.0.refuses.load(SeqCst) { Err(Refused) } else { Ok(self.0.made.fetch_add(1, SeqCst)) }
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = u32;
    type Error = Refused;

    async fn connect(&self) -> Result<u32, Refused> {
        self.make()
    }

    async fn is_valid(&self, _: &mut u32) -> Result<(), Refused> {
        self.0.recycled.fetch_add(1, SeqCst);
        Ok(())
    }

    fn has_broken(&self, _: &mut u32) -> bool {
        self.0.broken.load(SeqCst)
    }
}

impl deadpool::managed::Manager for Manager {
    type Type = u32;
    type Error = Refused;

    async fn create(&self) -> Result<u32, Refused> {
        self.make()
    }

    async fn recycle(
        &self,
        _: &mut u32,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Refused> {
        self.0.recycled.fetch_add(1, SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_of_bb8_is_taken_as_it_is() {
    let manager = Manager::default();
    let pool = Pool::builder(FromBb8(manager.clone())).max_size(1).build();
    assert_eq!(*pool.acquire().await.unwrap(), 0);
    let asked = manager.0.recycled.load(SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*pool.acquire().await.unwrap(), 0);
    assert_eq!(manager.0.recycled.load(SeqCst), asked + 1, "it is tested again after 500 ms");
    let lease = pool.acquire().await.unwrap();
    manager.0.broken.store(true, SeqCst);
    drop(lease);
    manager.0.broken.store(false, SeqCst);
    assert_eq!(*pool.acquire().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_manager_of_deadpool_recycles_after_each_lease_unless_it_need_not() {
    for (when, recycled) in [(ResetWhen::Always, 10), (ResetWhen::Tainted, 0)] {
        let manager = Manager::default();
        let pool = Pool::builder(FromDeadpool::new(manager.clone()).reset(when)).max_size(1).build();
        let first = pool.acquire().await.unwrap();
        let before = manager.0.recycled.load(SeqCst);
        drop(first);
        for _ in 0..9 {
            drop(pool.acquire().await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(manager.0.recycled.load(SeqCst) - before, recycled);
        assert_eq!(manager.0.made.load(SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_manager_says_is_what_who_waits_hears() {
    let manager = Manager::default();
    manager.0.refuses.store(true, SeqCst);
    let bb8 = Pool::builder(FromBb8(manager.clone())).build();
    let Err(AcquireError::Login(failure)) = bb8.acquire().await else { panic!("it refuses") };
    assert!(failure.to_string().starts_with("Refused"), "{failure}");
    let deadpool = Pool::builder(FromDeadpool::new(manager)).build();
    let Err(AcquireError::Login(failure)) = deadpool.acquire().await else { panic!("it refuses") };
    assert!(failure.to_string().contains("refused"), "{failure}");
}
