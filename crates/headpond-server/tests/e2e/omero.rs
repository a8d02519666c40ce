//! What OMERO asks of a pool in front of PostgreSQL: 500 at once where the server has 64 connections.

use futures_util::future::join_all;
use headpond_core::State;
use headpond_embedded::{Options, Postgres};

use crate::database::direct;
use crate::named::{named, named_before};
use crate::pond::{MODES, run, value};

const CLIENTS: usize = 500;
const CONNECTIONS: u32 = 64;

/// The pool is as large as its default, which is more than the server has: the budget keeps it in step.
#[test]
fn five_hundred_at_once_on_64_connections_see_no_error() {
    run(async {
        let options = Options { max_connections: CONNECTIONS, ..Options::default() };
        let server = Postgres::start(options).unwrap();
        // The last slots are kept for superusers: others are refused when they come too late.
        let direct = direct(&server).await;
        direct.batch_execute("CREATE ROLE omero LOGIN").await.unwrap();
        for way in MODES {
            let pond = named_before(&server, way, "omero", "", "");
            let work = join_all((0..CLIENTS).map(async |number| {
                let client = pond.client().await;
                for round in 0..3 {
                    let query = format!("SELECT {number} + {round} FROM pg_sleep(0.005)");
                    assert_eq!(value(&client, &query).await, (number + round).to_string(), "{way:?}");
                }
            }));
            let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'omero'";
            let mut most = 0;
            let watch = async {
                loop {
                    most = most.max(direct.query_one(open, &[]).await.unwrap().get::<_, i64>(0));
                }
            };
            tokio::select! {
                _ = work => {}
                () = watch => {}
            }
            let pool = pond.until_pool("served", |pool| pool.counts.acquires >= CLIENTS as u64).await;
            let budget = pond.snapshot().await.pools[0].budget.unwrap();
            assert!(budget < CONNECTIONS && (1..=i64::from(budget)).contains(&most), "{most} of {budget}");
            assert_eq!((pool.counts.logins_failed, pool.counts.refused, pool.counts.waits_failed), (0, 0, 0));
            pond.assert_in_step().await;
            // A Headpond that ends at once cuts off what it still asks the server: sessions are being reset.
            pond.until_pool("at rest", |pool| pool.count(State::Idle) == pool.open()).await;
        }
        let log = std::fs::read_to_string(server.log_file()).unwrap();
        assert!(!log.contains("FATAL"), "{log}");
    });
}

#[test]
fn a_budget_that_was_told_holds_from_the_first_login_on() {
    run(async {
        for way in MODES {
            let pond = named(way, "budget = 3", "max_size = 8\nmin_idle = 8").await;
            let clients = (0..20).map(async |_| value(&pond.client().await, "SELECT pg_sleep(0.01)").await);
            join_all(clients).await;
            let pool = pond.until_pool("served", |pool| pool.counts.acquires >= 20).await;
            assert_eq!(pool.marks.start.open, 2, "one is kept for control, {way:?}");
        }
    });
}
