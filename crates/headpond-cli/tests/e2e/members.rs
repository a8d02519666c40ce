//! Several processes before one server.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::{join, join_all};
use headpond_embedded::{Options, Postgres};
use tokio_postgres::{Client, Error};

use crate::program::{Program, run};

const CLIENTS: usize = 250;
const QUERY: &str = "SELECT pg_sleep(0.002)";

#[test]
fn of_two_members_one_is_killed_and_the_other_serves_on_and_the_server_never_refused_a_login() {
    run(async {
        let server = Postgres::start(Options { max_connections: 64, ..Options::default() }).unwrap();
        let [mut victim, survivor] = [
            Program::serve(&server, "members = 2", "").await,
            Program::serve(&server, "members = 2", "").await,
        ];
        let (doomed, clients) = join(come_in(&victim), come_in(&survivor)).await;

        let (killed, served) = (AtomicBool::new(false), AtomicU64::new(0));
        let until_killed = doomed.iter().map(async |client| {
            while !killed.load(Ordering::Relaxed) {
                let outcome = client.batch_execute(QUERY).await;
                assert!(outcome.is_ok() || killed.load(Ordering::Relaxed), "{outcome:?}");
            }
        });
        let before_and_after = clients.iter().map(async |client| {
            while !killed.load(Ordering::Relaxed) {
                query(client, &served).await.unwrap();
            }
            for _ in 0..10 {
                query(client, &served).await.unwrap();
            }
        });
        let kill = async {
            // Both are in the middle of it.
            while served.load(Ordering::Relaxed) < 1000 {
                tokio::task::yield_now().await;
            }
            killed.store(true, Ordering::Relaxed);
            victim.kill();
        };
        join(join(join_all(until_killed), join_all(before_and_after)), kill).await;
        assert!(doomed[0].batch_execute("SELECT 1").await.is_err());
        come_in(&survivor).await;

        // A backend that finds its client gone says so, and that alone.
        let log = fs::read_to_string(server.log_file()).unwrap();
        let fatal = log.lines().filter(|line| line.contains("FATAL"));
        let refused: Vec<_> = fatal.filter(|line| !line.contains("connection to client lost")).collect();
        assert!(refused.is_empty(), "{refused:?}");
    });
}

async fn come_in(program: &Program) -> Vec<Client> {
    let clients = join_all((0..CLIENTS).map(|_| program.client("member"))).await;
    clients.into_iter().map(Result::unwrap).collect()
}

async fn query(client: &Client, served: &AtomicU64) -> Result<(), Error> {
    client.batch_execute(QUERY).await?;
    served.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
