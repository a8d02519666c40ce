//! SQLite, in a folder of each test's own.

use headpond::drivers::Sqlite;
use headpond::{AcquireError, FailureClass, Pool};

fn pool(size: u32) -> (Pool<Sqlite>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Pool::builder(Sqlite::open(folder.path().join("test.db"))).max_size(size).build(), folder)
}

#[tokio::test]
async fn many_tasks_share_few_connections() {
    let (pool, _folder) = pool(4);
    pool.run_blocking(|db| db.execute_batch("CREATE TABLE t (n INTEGER)")).await.unwrap().unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                pool.run_blocking(move |db| db.execute("INSERT INTO t VALUES (?1)", [n]))
                    .await
                    .unwrap()
                    .unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 1);
    }
    let sum: i64 = pool
        .run_blocking(|db| db.query_row("SELECT sum(n) FROM t", [], |row| row.get(0)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(sum, 4950);
    assert!(pool.stats().marks.start.open <= 4);
}

#[tokio::test]
async fn a_transaction_that_was_left_open_is_rolled_back() {
    let (pool, _folder) = pool(1);
    pool.run_blocking(|db| db.execute_batch("CREATE TABLE t (n INTEGER); BEGIN; INSERT INTO t VALUES (1)"))
        .await
        .unwrap()
        .unwrap();
    let tables: i64 = pool
        .run_blocking(|db| db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)))
        .await
        .unwrap()
        .unwrap();
    let rows: i64 = pool
        .run_blocking(|db| db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((tables, rows, pool.stats().counts.opened), (1, 0, 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named_at_once() {
    let pool = Pool::builder(Sqlite::open("/nowhere/at/all.db")).build();
    let Err(AcquireError::Login(failure)) = pool.acquire().await else { panic!("there is no such folder") };
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.to_string().contains("/nowhere/at/all.db"), "{failure}");
}

#[tokio::test]
async fn work_that_panics_costs_its_caller_and_nobody_else() {
    let (pool, _folder) = pool(1);
    let panicking = tokio::spawn({
        let pool = pool.clone();
        async move { pool.run_blocking(|_| -> () { panic!("on purpose") }).await.is_ok() }
    });
    assert!(panicking.await.unwrap_err().is_panic());
    pool.run_blocking(|db| db.execute_batch("SELECT 1")).await.unwrap().unwrap();
    assert_eq!(pool.stats().counts.opened, 1);
}
