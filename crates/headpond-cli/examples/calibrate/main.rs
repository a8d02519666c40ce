//! Predicts, writes the predictions down, and only then looks whether they were right:
//!
//! ```text
//! MARIADB_ROOT=$(scripts/mariadb.sh) cargo run --release -p headpond-cli --features calibrate --example calibrate -- --seconds 20
//! ```
//!
//! On a private PostgreSQL and a private MariaDB: the load experiment of `headpond size` on each workload; predictions of
//! waits at points that a seed draws, of the best size, and of what outlasts its cause; then the same by open loads through a
//! pool of the library, and by a sweep over every size. What was predicted and what came is added to `docs/calibration`,
//! misses included.
#![expect(clippy::unwrap_used, reason = "a calibration that cannot go on ends")]

mod ledger;
#[path = "../../../headpond/tests/drivers/mysql/server.rs"]
mod mariadb;
mod open;
mod predict;
mod verify;
mod workloads;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use headpond::drivers::{Mysql as MysqlPool, Postgres as PostgresPool, ResetWhen};
use headpond_embedded::{Options, Postgres as Server};
use headpond_measure::{Mysql, Postgres, Target as _};

use predict::Predicted;
use workloads::{Bench, Workload};

/// Predictions against what comes.
#[derive(Parser)]
struct Arguments {
    /// Of each verifying run
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Of each look of the experiments
    #[arg(long, default_value_t = 2.0)]
    look: f64,
    /// Looks at each level
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Blind points for each workload
    #[arg(long, default_value_t = 6)]
    points: u32,
    /// Connections at most
    #[arg(long, default_value_t = 24)]
    most: u32,
    /// Only these databases
    #[arg(long, value_delimiter = ',', default_value = "postgresql,mariadb")]
    databases: Vec<String>,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', default_value = "read,mix,think,write")]
    workloads: Vec<String>,
    /// Draws points and orders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the ledger is
    #[arg(long, default_value = "docs/calibration")]
    ledger: PathBuf,
}

fn main() {
    let arguments = Arguments::parse();
    let known = Workload::all();
    let workloads: Vec<&Workload> =
        known.iter().filter(|one| arguments.workloads.iter().any(|name| name == one.name)).collect();
    let looks = f64::from(arguments.rounds) * arguments.look * 1.3 * 9.0;
    let each = looks + f64::from(arguments.points + 3) * (arguments.seconds + 2.0) + 40.0;
    let all = each * (workloads.len() * arguments.databases.len()) as f64;
    eprintln!("about {:.0} minutes", all / 60.0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(calibrate(&arguments, &workloads));
}

async fn calibrate(arguments: &Arguments, workloads: &[&Workload]) {
    let begun = Instant::now();
    let wanted = |name: &str| arguments.databases.iter().any(|one| one == name);
    let postgres = if wanted("postgresql") { Some(postgres().await) } else { None };
    let mariadb = if wanted("mariadb") { Some(mariadb().await) } else { None };
    let mut predicted: Vec<Predicted> = Vec::new();
    for workload in workloads {
        if let Some((bench, _)) = &postgres {
            predicted.push(predict::predict(bench, workload, arguments, begun).await);
        }
        if let Some((bench, _)) = &mariadb {
            predicted.push(predict::predict(bench, workload, arguments, begun).await);
        }
    }
    let ledger = ledger::Ledger::begin(&arguments.ledger, &predicted);
    let mut outcomes = Vec::new();
    for one in &predicted {
        let workload = workloads.iter().find(|workload| workload.name == one.workload).unwrap();
        let outcome = match (&postgres, &mariadb) {
            (Some((bench, _)), _) if bench.name == one.database => {
                verify::verify(bench, workload, one, arguments, begun).await
            }
            (_, Some((bench, _))) => verify::verify(bench, workload, one, arguments, begun).await,
            _ => continue,
        };
        outcomes.push(outcome);
        // What is there is kept, whatever becomes of the rest.
        ledger.keep(&outcomes);
    }
    ledger.finish(&predicted, &outcomes);
}

async fn postgres() -> (Bench<Postgres, PostgresPool>, Server) {
    let server = Server::start(Options { max_connections: 200, ..Options::default() }).unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host(server.host()).port(server.port()).user(server.user()).dbname("postgres");
    let target = Postgres::new(config.clone(), true);
    let mut connection = target.login().await.unwrap();
    let version = target.server(&mut connection).await.unwrap().version;
    workloads::fill::<Postgres>(&mut connection).await;
    let connector = PostgresPool::new(config).reset(ResetWhen::Tainted);
    let bench = Bench { name: "postgresql", version, target, connector, parent: server.pid().unwrap() };
    (bench, server)
}

async fn mariadb() -> (Bench<Mysql, MysqlPool>, mariadb::Server) {
    let server = mariadb::Server::start(200);
    let opts = mysql_async::Opts::from(server.opts().db_name(Some("test")));
    let target = Mysql::new(opts.clone(), true);
    let mut connection = target.login().await.unwrap();
    let said = target.server(&mut connection).await.unwrap();
    workloads::fill::<Mysql>(&mut connection).await;
    let connector = MysqlPool::new(opts).reset(ResetWhen::Tainted);
    let bench =
        Bench { name: "mariadb", version: said.version, target, connector, parent: said.processes[0] };
    (bench, server)
}

/// What is done now, and since when.
fn say(begun: Instant, what: &str) {
    let seconds = begun.elapsed().as_secs();
    eprintln!("{:3}:{:02}  {what}", seconds / 60, seconds % 60);
}
