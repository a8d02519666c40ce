//! Connections that are held for too long.

use headpond_embedded::{Options, Postgres};
use tokio_postgres::error::SqlState;

use crate::program::{Program, run};

#[test]
fn a_leak_is_reported_once_with_its_holder_and_again_when_it_ends() {
    run(async {
        let server = Postgres::start(Options::default()).unwrap();
        let program = Program::serve(&server, "", "min_idle = 0\nleak_after = \"50ms\"").await;
        let [quick, slow] = [program.client("quick").await.unwrap(), program.client("slow").await.unwrap()];
        slow.batch_execute("BEGIN").await.unwrap();
        let begun = program.until_logged("leak_after", 1).await;
        assert!(begun[0].contains("WARN") && begun[0].contains("somebody (slow)"), "{begun:?}");
        // Held for many times as long, it is not reported a second time.
        slow.batch_execute("SELECT pg_sleep(0.5)").await.unwrap();
        quick.batch_execute("SELECT 1").await.unwrap();
        assert_eq!(program.logged("a connection"), begun);
        slow.batch_execute("COMMIT").await.unwrap();
        let ended = program.until_logged("came back after", 1).await;
        assert!(ended[0].contains("INFO"), "{ended:?}");
        assert_eq!(program.logged("a connection").len(), 2);
    });
}

#[test]
fn a_leak_that_is_reclaimed_costs_its_holder_the_connection_and_serves_the_next() {
    run(async {
        let server = Postgres::start(Options::default()).unwrap();
        let pool = "max_size = 1\nmin_idle = 0\nleak_after = \"300ms\"\nleak_reclaim = true";
        let program = Program::serve(&server, "", pool).await;
        let [slow, next] = [program.client("slow").await.unwrap(), program.client("next").await.unwrap()];
        slow.batch_execute("BEGIN").await.unwrap();
        next.batch_execute("SELECT 1").await.unwrap();
        let lost = slow.batch_execute("COMMIT").await.unwrap_err();
        assert!(lost.is_closed() || lost.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{lost}");
        assert!(program.logged("leak_after").iter().any(|line| line.contains("somebody (slow)")));
    });
}
