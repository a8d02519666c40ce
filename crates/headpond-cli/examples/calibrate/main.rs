//! Predicts, writes the predictions down, and only then looks whether they were right:
//!
//! ```text
//! MARIADB_ROOT=$(scripts/mariadb.sh) cargo run --release -p headpond-cli --features calibrate --example calibrate
//! ```
//!
//! On a private PostgreSQL and a private MariaDB: the load experiment of `headpond size` on each workload; predictions of
//! waits at points that a seed draws, of the best size, and of what outlasts its cause; then the same by open loads through a
//! pool of the library, and by a sweep over every size. What was predicted and what came is added to `docs/calibration`,
//! misses included.
#![expect(clippy::unwrap_used, reason = "a calibration that cannot go on ends")]

mod ledger;
mod open;
mod predict;
mod score;
mod verify;
mod workloads;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use clap::Parser;
use headpond::Connector;
use headpond::drivers::{Mysql as MysqlPool, Postgres as PostgresPool, ResetWhen};
use headpond_embedded::{Mariadb, Options, Postgres as Server};
use headpond_measure::{Mysql, Postgres, Target};

use ledger::Ledger;
use workloads::{Bench, Workload};

/// Predictions against what comes.
#[derive(Parser)]
struct Arguments {
    /// Of each verifying run
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Of each look of the experiments
    #[arg(long, default_value_t = 1.5)]
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
    /// For doing again what others disturbed, in all
    #[arg(long, default_value_t = 240.0)]
    spare: f64,
    /// Draws points and orders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the ledger is
    #[arg(long, default_value = "docs/calibration")]
    ledger: PathBuf,
    /// Where the score of the whole ledger is, which reports repeat
    #[arg(long, default_value = "crates/headpond-cli/src/commands/score.json")]
    score: PathBuf,
}

fn main() {
    let arguments = Arguments::parse();
    let known = Workload::all();
    let workloads: Vec<&Workload> =
        known.iter().filter(|one| arguments.workloads.iter().any(|name| name == one.name)).collect();
    eprintln!("about {:.0} minutes", arguments.lasts(&workloads) / 60.0);
    let wanted = |name: &str| arguments.databases.iter().any(|one| one == name);
    let options = Options { max_connections: 200, ..Options::default() };
    let postgres = wanted("postgresql").then(|| Server::start(options).unwrap());
    let mariadb = wanted("mariadb").then(|| Mariadb::start(200).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_start(go_first).build();
    let runtime = runtime.unwrap();
    runtime.block_on(calibrate(&arguments, &workloads, postgres.as_ref(), mariadb.as_ref()));
}

/// This thread, but none that it starts, works before those of the servers: clients would have a machine of their own, and a
/// request that is sent late because the database is busy would count as one that waited. A mere priority does not do on
/// Linux: who runs may run on for some milliseconds. Where this is not allowed, lateness is measured with the waits.
fn go_first() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = thread.file_name().unwrap_or_default();
    let _ = Command::new("chrt").args(["--reset-on-fork", "--rr", "--pid", "1"]).arg(number).output();
}

impl Arguments {
    /// How long all of it takes, in seconds.
    fn lasts(&self, workloads: &[&Workload]) -> f64 {
        let looks = f64::from(self.rounds) * self.look * 1.2 * 9.0 + 14.0 * self.look;
        let each = looks + 12.0 + f64::from(self.points) * (self.seconds + 2.2 * self.look + 1.5) + 30.0;
        let troubled = workloads.iter().filter(|workload| workload.troubled).count() as f64;
        let all = each * workloads.len() as f64 + troubled * predict::TROUBLES;
        all * self.databases.len() as f64 + self.spare
    }
}

/// Seconds in which what was disturbed may be done again.
struct Spare(f64);

impl Spare {
    /// Whether there is time for so many, which are taken.
    fn take(&mut self, seconds: f64) -> bool {
        let enough = self.0 >= seconds;
        if enough {
            self.0 -= seconds;
        }
        enough
    }
}

async fn calibrate(
    arguments: &Arguments,
    workloads: &[&Workload],
    postgres: Option<&Server>,
    mariadb: Option<&Mariadb>,
) {
    let begun = Instant::now();
    let postgres = match postgres {
        Some(server) => Some(postgres_bench(server).await),
        None => None,
    };
    let mariadb = match mariadb {
        Some(server) => Some(mariadb_bench(server).await),
        None => None,
    };
    let mut spare = Spare(arguments.spare);
    let mut ledger = Ledger::new(&arguments.ledger);
    for workload in workloads {
        if let Some(bench) = &postgres {
            one(bench, workload, arguments, &mut spare, &mut ledger, begun).await;
        }
        if let Some(bench) = &mariadb {
            one(bench, workload, arguments, &mut spare, &mut ledger, begun).await;
        }
    }
    ledger.finish(&arguments.score);
}

/// One workload on one server: what is foretold is written down before it is looked after.
async fn one<T: Target, C: Connector<Connection = T::Connection> + Clone>(
    bench: &Bench<T, C>,
    workload: &Workload,
    arguments: &Arguments,
    spare: &mut Spare,
    ledger: &mut Ledger,
    begun: Instant,
) {
    let predicted = predict::predict(bench, workload, arguments, spare, begun).await;
    let hash = ledger.foretell(&predicted);
    say(begun, &format!("{} {}: predictions written, SHA-256 {hash}", bench.name, workload.name));
    let outcome = verify::verify(bench, workload, &predicted, arguments, spare, ledger, begun).await;
    ledger.keep(predicted, outcome, hash);
}

async fn postgres_bench(server: &Server) -> Bench<Postgres, PostgresPool> {
    let mut config = tokio_postgres::Config::new();
    config.host(server.host()).port(server.port()).user(server.user()).dbname("postgres");
    let target = Postgres::new(config.clone(), true);
    let mut connection = target.login().await.unwrap();
    let version = target.server(&mut connection).await.unwrap().version;
    workloads::fill::<Postgres>(&mut connection).await;
    let connector = PostgresPool::new(config).reset(ResetWhen::Tainted);
    Bench { name: "postgresql", version, target, connector, parent: server.pid().unwrap() }
}

async fn mariadb_bench(server: &Mariadb) -> Bench<Mysql, MysqlPool> {
    let opts = mysql_async::OptsBuilder::default().socket(server.socket().to_str()).user(Some("root"));
    let opts = mysql_async::Opts::from(opts.db_name(Some("test")));
    let target = Mysql::new(opts.clone(), true);
    let mut connection = target.login().await.unwrap();
    let said = target.server(&mut connection).await.unwrap();
    workloads::fill::<Mysql>(&mut connection).await;
    let connector = MysqlPool::new(opts).reset(ResetWhen::Tainted);
    Bench { name: "mariadb", version: said.version, target, connector, parent: said.processes[0] }
}

/// What is done now, and since when.
fn say(begun: Instant, what: &str) {
    let seconds = begun.elapsed().as_secs();
    eprintln!("{:3}:{:02}  {what}", seconds / 60, seconds % 60);
}
