//! The end: what runs is finished, nothing new begins.

use headpond_server::control::Shutdown;
use tokio_postgres::NoTls;

use crate::database::database;
use crate::pond::{Pond, run, until, value, ways};
use crate::raw::tags;

#[test]
fn a_drain_finishes_transactions_and_tells_idle_clients() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let (client, mut idle, login) = (pond.client().await, pond.raw(), pond.login());
            client.batch_execute("BEGIN").await.unwrap();
            let Pond { running, user } = pond;
            let stopped = tokio::task::spawn_blocking(move || running.stop(Shutdown::WaitForServers));
            let goodbye = idle.until_end();
            assert_eq!((tags(&goodbye).as_str(), &*goodbye[0].field('C')), ("E", "57P01"), "{way:?}");
            until("closed to newcomers", async || login.connect(NoTls).await.is_err()).await;
            assert_eq!(value(&client, "SELECT 1").await, "1", "{way:?}");
            client.batch_execute("COMMIT").await.unwrap();
            stopped.await.unwrap().unwrap();
            until("gone", async || database().connections_of(&user).await == 0).await;
        }
    });
}

#[test]
fn a_fast_stop_waits_for_nobody() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let client = pond.client().await;
            client.batch_execute("BEGIN").await.unwrap();
            let Pond { running, user } = pond;
            tokio::task::spawn_blocking(move || running.stop(Shutdown::Now)).await.unwrap().unwrap();
            assert!(client.batch_execute("COMMIT").await.is_err(), "{way:?}");
            until("gone", async || database().connections_of(&user).await == 0).await;
        }
    });
}
