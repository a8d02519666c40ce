//! More clients than connections: who waits, in which order, and what they hear when it takes too long.

use std::fs;

use futures_util::future::{join, join_all};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::{database, direct};
use crate::pond::{MODES, Pond, SESSION, TRANSACTION, Way, code, connect, run, until, value, ways};

#[test]
fn two_hundred_clients_share_five_connections_without_an_error() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 5").await;
            let clients = pond.clients(200).await;
            let mut most = 0;
            let watch = async {
                loop {
                    most = most.max(database().connections_of(&pond.user).await);
                }
            };
            let work = (0..).zip(clients).map(async |(number, client)| {
                for round in 0..5 {
                    let query = format!("SELECT {number} * 10 + {round} FROM pg_sleep(0.002)");
                    assert_eq!(value(&client, &query).await, (number * 10 + round).to_string(), "{way:?}");
                }
            });
            tokio::select! {
                _ = join_all(work) => {}
                () = watch => {}
            }
            assert!((1..=5).contains(&most), "{most} connections, {way:?}");
            pond.assert_in_step().await;
        }
    });
}

/// A query that tells how many were served before; what arrives here first need not have been.
async fn numbers(pond: &Pond) -> String {
    let sequence = format!("served_{}", pond.user);
    direct(&database().server).await.batch_execute(&format!("CREATE SEQUENCE {sequence}")).await.unwrap();
    format!("SELECT nextval('{sequence}')")
}

#[test]
fn connections_are_given_in_the_order_of_asking() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let (holder, take) = (pond.client().await, numbers(&pond).await);
            holder.batch_execute("BEGIN").await.unwrap();
            let ask = async |place: u32| {
                let client = pond.client().await;
                // The one before me is in the queue: now it is my turn to join.
                pond.until_waiting(place).await;
                value(&client, &take).await
            };
            let release = async {
                pond.until_waiting(8).await;
                holder.batch_execute("COMMIT").await.unwrap();
                drop(holder);
            };
            let (served, ()) = join(join_all((0..8).map(ask)), release).await;
            assert_eq!(served, ["1", "2", "3", "4", "5", "6", "7", "8"], "{way:?}");
        }
    });
}

#[test]
fn applications_that_wait_at_one_pool_are_served_by_weight_also_after_a_reload() {
    run(async {
        let server = &database().server;
        let user = database().user().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headpond.toml");
        let configure = |weight: u32| {
            let source = format!("host = \"{}\"\nport = {}\nuser = \"{user}\"", server.host(), server.port());
            let text = format!(
                "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"\"\npool_mode = \"transaction\"
                 admin_users = [\"{user}\"]\n[application.heavy]\nweight = {weight}
                 [data_source.postgres]\n{source}\nmax_size = 1"
            );
            fs::write(&file, text).unwrap();
        };
        configure(4);
        let pond = Pond::from_file(&file, &user);
        let (console, take) = (pond.console().await, numbers(&pond).await);
        for (weight, expected) in [(4, 4..=4), (1, 2..=3)] {
            let holder = pond.client().await;
            holder.batch_execute("BEGIN").await.unwrap();
            let before: usize = value(&holder, &take).await.parse().unwrap();
            // First all of the light ones, then the heavy ones.
            let ask = async |place: u32| {
                let name = if place < 5 { "light" } else { "heavy" };
                let client = connect(pond.login().user(name)).await;
                pond.until_waiting(place).await;
                (value(&client, &take).await.parse::<usize>().unwrap(), name)
            };
            let release = async {
                pond.until_waiting(10).await;
                holder.batch_execute("COMMIT").await.unwrap();
            };
            let (mut served, ()) = join(join_all((0..10).map(ask)), release).await;
            served.sort_unstable();
            let heavy = served[..5].iter().filter(|(_, name)| *name == "heavy").count();
            assert!(expected.contains(&heavy) && served[0].0 == before + 1, "weight {weight}: {served:?}");
            configure(1);
            console.batch_execute("RELOAD").await.unwrap();
        }
    });
}

#[test]
fn who_waited_too_long_hears_who_holds_the_connection_and_goes_on() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 1\nacquire_timeout = \"500ms\"").await;
            let holder = connect(pond.login().application_name("the holder")).await;
            let waiter = pond.client().await;
            holder.batch_execute("BEGIN").await.unwrap();
            let simple = waiter.batch_execute("SELECT 1").await.err();
            let extended = waiter.query_typed("SELECT 1", &[]).await.err();
            let (both, _) = join(waiter.batch_execute("SELECT 1"), waiter.query_typed("SELECT 1", &[])).await;
            for error in [simple, extended, both.err()] {
                let error = error.unwrap();
                let error = error.as_db_error().unwrap();
                assert_eq!(*error.code(), SqlState::QUERY_CANCELED, "{way:?}");
                let detail = error.detail().unwrap();
                let names = [&pond.user, "the holder", "in a transaction", "max_size 1"];
                assert!(names.iter().all(|name| detail.contains(*name)), "{detail}");
            }
            holder.batch_execute("COMMIT").await.unwrap();
            drop(holder);
            assert_eq!(value(&waiter, "SELECT 2").await, "2", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_full_queue_refuses_at_once_and_the_client_goes_on() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1\nmax_waiters = 1").await;
            // The first login waits for the server too.
            let holder = pond.client().await;
            let [waiter, refused] = <[_; 2]>::try_from(pond.clients(2).await).unwrap();
            holder.batch_execute("BEGIN").await.unwrap();
            let rest = async {
                pond.until_waiting(1).await;
                for _ in 0..2 {
                    let outcome = refused.batch_execute("SELECT 1").await;
                    assert_eq!(code(outcome), SqlState::TOO_MANY_CONNECTIONS, "{way:?}");
                }
                holder.batch_execute("COMMIT").await.unwrap();
                drop(holder);
            };
            assert_eq!(join(value(&waiter, "SELECT 1"), rest).await.0, "1", "{way:?}");
            drop(waiter);
            assert_eq!(value(&refused, "SELECT 2").await, "2", "{way:?}");
        }
    });
}

#[test]
fn one_client_too_many_is_refused_and_another_may_come_when_one_left() {
    run(async {
        for workers in [1, 2] {
            let pond = Pond::new(Way { workers, ..SESSION }, "max_clients = 2", "").await;
            let first = pond.client().await;
            let _second = pond.client().await;
            let refused = pond.login().connect(NoTls).await.err().unwrap();
            assert_eq!(refused.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
            drop(first);
            let comes_in = async || pond.login().connect(NoTls).await.is_ok();
            until("a place is free", comes_in).await;
        }
    });
}

#[test]
fn a_client_that_pipelines_does_not_keep_the_connection_from_others() {
    run(async {
        let pond = Pond::new(TRANSACTION, "", "max_size = 1").await;
        let [holder, greedy, modest] = <[_; 3]>::try_from(pond.clients(3).await).unwrap();
        let take = numbers(&pond).await;
        holder.batch_execute("BEGIN").await.unwrap();
        let last = async {
            pond.until_waiting(1).await;
            let release = async {
                pond.until_waiting(2).await;
                holder.batch_execute("COMMIT").await.unwrap();
            };
            join(value(&modest, &take), release).await.0
        };
        let (flood, modest) = join(join_all((0..50).map(|_| value(&greedy, &take))), last).await;
        assert_eq!((&*flood[0], &*modest, &*flood[1]), ("1", "2", "3"));
        pond.assert_in_step().await;
    });
}

#[test]
fn a_client_that_sends_megabytes_ahead_while_others_wait_is_read_as_it_is_served() {
    run(async {
        let pond = Pond::new(TRANSACTION, "", "max_size = 1").await;
        let clients = pond.clients(3).await;
        let (greedy, others) = clients.split_first().unwrap();
        let padded = format!("SELECT 1 /* {} */", "p".repeat(20_000));
        let flood = join_all((0..200).map(|_| greedy.batch_execute(&padded)));
        let busy = join_all(others.iter().map(async |client| {
            loop {
                client.batch_execute("SELECT 1").await.unwrap();
            }
        }));
        tokio::select! {
            answers = flood => assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
            _ = busy => {}
        }
        pond.assert_in_step().await;
    });
}
