//! MariaDB, a private one.

use std::sync::OnceLock;
use std::time::Duration;

use headpond::drivers::Mysql;
use headpond::{AcquireError, FailureClass, Pool, State};
use headpond_embedded::Mariadb;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};

/// The one that tests share.
fn server() -> &'static Mariadb {
    static SERVER: OnceLock<Mariadb> = OnceLock::new();
    SERVER.get_or_init(|| Mariadb::start(40).unwrap())
}

fn opts(server: &Mariadb) -> OptsBuilder {
    let opts = OptsBuilder::default().socket(server.socket().to_str());
    opts.user(Some("root")).db_name(Some("mysql"))
}

fn mysql(server: &Mariadb) -> Mysql {
    Mysql::new(Opts::from(opts(server)))
}

async fn id(conn: &mut Conn) -> u64 {
    conn.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap()
}

#[tokio::test]
async fn one_connection_serves_one_after_the_other_and_each_finds_a_new_session() {
    let pool = Pool::builder(mysql(server())).max_size(1).build();
    let mut lease = pool.acquire().await.unwrap();
    let first = id(&mut lease).await;
    lease.query_drop("SET @left = 1; ").await.unwrap();
    lease.query_drop("CREATE TEMPORARY TABLE test.left_over (n INT)").await.unwrap();
    lease.query_drop("START TRANSACTION").await.unwrap();
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    assert_eq!(id(&mut lease).await, first);
    let left: Option<Option<i64>> = lease.query_first("SELECT @left").await.unwrap();
    assert_eq!(left, Some(None));
    assert!(lease.query_drop("SELECT * FROM test.left_over").await.is_err());
    let open: Option<u32> = lease.query_first("SELECT @@in_transaction").await.unwrap();
    assert_eq!(open, Some(0));
    assert_eq!(pool.stats().counts.opened, 1);
}

#[tokio::test]
async fn a_connection_that_was_killed_is_not_handed_out_again() {
    let pool = Pool::builder(mysql(server())).max_size(2).trust_window(Duration::ZERO).build();
    let (mut killer, mut victim) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let killed = id(&mut victim).await;
    drop(victim);
    // A reset that the server ended before it was told to kill is a proof, though the pool learns of it later.
    while pool.stats().count(State::Idle) == 0 {
        tokio::task::yield_now().await;
    }
    killer.query_drop(format!("KILL {killed}")).await.unwrap();
    for _ in 0..10 {
        assert_ne!(id(&mut pool.acquire().await.unwrap()).await, killed);
    }
}

#[tokio::test]
async fn the_pool_never_asks_for_more_than_the_server_has() {
    let server = Mariadb::start(15).unwrap();
    let pool = Pool::builder(mysql(&server)).max_size(100).reserve(5).build();
    let mut leases = Vec::new();
    while let Ok(lease) = pool.acquire().within(Duration::from_secs(2)).await {
        leases.push(lease);
    }
    assert_eq!(leases.len(), 10);
    assert_eq!(pool.stats().counts.logins_failed, 0);
}

#[tokio::test]
async fn a_user_whom_the_server_does_not_know_is_told_at_once() {
    let opts = opts(server()).user(Some("nobody")).pass(Some("wrong"));
    let pool = Pool::builder(Mysql::new(Opts::from(opts))).build();
    for _ in 0..10 {
        let Err(AcquireError::Login(failure)) = pool.acquire().await else { panic!("it is wrong") };
        assert_eq!(failure.class, FailureClass::Authentication);
    }
    assert_eq!(pool.stats().counts.opened, 1);
}
