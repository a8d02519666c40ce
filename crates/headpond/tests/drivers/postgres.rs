//! PostgreSQL, a private one.

use std::sync::OnceLock;
use std::time::Duration;

use headpond::drivers::{Postgres, ResetWhen};
use headpond::{AcquireError, FailureClass, Pool, State};
use headpond_embedded::{Auth, Options, Postgres as Server, StopMode};
use tokio_postgres::{Client, Config};

/// The one that tests share which do not stop it.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Options::default()).unwrap())
}

fn config(server: &Server) -> Config {
    let mut config = Config::new();
    config.host(server.host()).port(server.port()).user(server.user()).dbname("postgres");
    config
}

async fn backend(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn one_connection_serves_one_after_the_other() {
    let pool = Pool::builder(Postgres::new(config(server()))).max_size(1).build();
    let first = backend(&pool.acquire().await.unwrap()).await;
    for _ in 0..100 {
        assert_eq!(backend(&pool.acquire().await.unwrap()).await, first);
    }
    pool.close().await;
}

#[tokio::test]
async fn a_connection_that_was_killed_is_not_handed_out_again() {
    let pool =
        Pool::builder(Postgres::new(config(server()))).max_size(2).trust_window(Duration::ZERO).build();
    let (killer, victim) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let killed = backend(&victim).await;
    drop(victim);
    killer.execute("SELECT pg_terminate_backend($1)", &[&killed]).await.unwrap();
    for _ in 0..10 {
        assert_ne!(backend(&pool.acquire().await.unwrap()).await, killed);
    }
}

#[tokio::test]
async fn a_session_that_is_tainted_is_like_new_for_the_next() {
    for when in [ResetWhen::Tainted, ResetWhen::Always] {
        let pool = Pool::builder(Postgres::new(config(server())).reset(when)).max_size(1).build();
        let mut lease = pool.acquire().await.unwrap();
        lease.batch_execute("SET search_path = nowhere; CREATE TEMP TABLE t (); BEGIN").await.unwrap();
        if when == ResetWhen::Tainted {
            lease.taint();
        }
        drop(lease);
        let lease = pool.acquire().await.unwrap();
        let row = lease.query_one("SELECT current_setting('search_path'), to_regclass('t') IS NULL", &[]);
        let row = row.await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("\"$user\", public", true));
        assert_eq!(pool.stats().counts.opened, 1);
    }
}

#[tokio::test]
async fn the_pool_leaves_the_reserve_to_others_and_never_asks_for_more_than_there_is() {
    let server = Server::start(Options { max_connections: 20, ..Options::default() }).unwrap();
    // 3 of the 20 are for superusers.
    let pool = Pool::builder(Postgres::new(config(&server))).max_size(100).reserve(5).build();
    let mut leases = Vec::new();
    while let Ok(lease) = pool.acquire().within(Duration::from_secs(2)).await {
        leases.push(lease);
    }
    assert_eq!(leases.len(), 12);
    assert_eq!(pool.stats().counts.logins_failed, 0);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_the_right_one_serves() {
    let password = "right".to_owned();
    let options = Options { auth: Auth::ScramSha256 { password: password.clone() }, ..Options::default() };
    let server = Server::start(options).unwrap();
    let mut wrong = config(&server);
    wrong.password("wrong");
    let pool = Pool::builder(Postgres::new(wrong)).build();
    for _ in 0..10 {
        let Err(AcquireError::Login(failure)) = pool.acquire().await else { panic!("it is wrong") };
        assert_eq!(failure.class, FailureClass::Authentication);
    }
    assert_eq!(pool.stats().counts.opened, 1);
    pool.set_credentials(server.user(), password);
    pool.acquire().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_recovers_when_the_server_is_restarted() {
    let mut server = Server::start(Options::default()).unwrap();
    let pool = Pool::builder(Postgres::new(config(&server))).max_size(16).build();
    for _ in 0..2 {
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let lease = pool.acquire().await.unwrap();
                        // What was under way when the server went is lost.
                        let _ = lease.simple_query("SELECT 1").await;
                    }
                })
            })
            .collect();
        server.stop(StopMode::Fast).unwrap();
        server.start_again().unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        let lease = pool.acquire().await.unwrap();
        lease.simple_query("SELECT 1").await.unwrap();
    }
    assert!(pool.stats().marks.start.open <= 16);
    assert_eq!(pool.stats().count(State::InUse), 0);
}
