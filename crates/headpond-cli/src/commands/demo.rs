//! `headpond demo`: more clients than a server has connections, with and without the pool.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headpond_core::State;
use headpond_embedded::{Options, Postgres};
use headpond_server::config::Config;
use headpond_server::control::Shutdown;
use headpond_server::process::{Ports, Running, Server};
use tokio_postgres::{Client, NoTls};

use super::serve::embedded_pool;
use crate::limits;

/// How large the demonstration is.
#[derive(clap::Args)]
pub(crate) struct Size {
    /// Clients at once
    #[arg(long, default_value_t = 500)]
    clients: u32,
    /// The private server's `max_connections`
    #[arg(long, default_value_t = 64)]
    max_connections: u32,
    /// Seconds under load
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// What all clients of the demonstration count together.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    errors: AtomicU64,
    /// Nanoseconds, all answers added up.
    time: AtomicU64,
    slowest: AtomicU64,
    stop: AtomicBool,
}

impl Tally {
    fn add(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.done.fetch_add(1, Ordering::Relaxed);
        self.time.fetch_add(nanoseconds, Ordering::Relaxed);
        self.slowest.fetch_max(nanoseconds, Ordering::Relaxed);
    }
}

/// Runs it and prints what happened.
///
/// # Errors
/// The private server cannot be started, or a client of the pool saw an error.
pub(crate) fn demo(size: &Size) -> Result<(), String> {
    limits::raise_descriptors();
    let text = |error: std::io::Error| error.to_string();
    println!("Starting a private PostgreSQL with max_connections = {} ...", size.max_connections);
    let options = Options { max_connections: size.max_connections, ..Options::default() };
    let postgres = Postgres::start(options).map_err(|error| error.to_string())?;
    let pool = embedded_pool(size.max_connections);
    let config = Config::embedded(postgres.port(), pool.clone());
    let server = Server::bind(config, Ports::NextFree).map_err(text)?.spawn().map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let errors = runtime.block_on(async {
        let refused = directly(&postgres, size.clients).await;
        println!("Directly: of {} clients at once, {refused} were refused by the server.", size.clients);
        println!(
            "Through Headpond: {} clients at once, at most {} connections.",
            size.clients, pool.max_size
        );
        pooled(&postgres, &server, size).await
    })?;
    server.stop(Shutdown::Now).map_err(text)?;
    if errors == 0 { Ok(()) } else { Err(format!("{errors} errors reached clients")) }
}

/// As many clients as that, without a pool: how many are refused.
async fn directly(postgres: &Postgres, clients: u32) -> u32 {
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..clients {
        match connect(postgres.host(), postgres.port(), postgres.user()).await {
            Ok(client) => kept.push(client),
            Err(_) => refused += 1,
        }
    }
    refused
}

/// The same through the pool, every client asking without a pause. How many errors clients saw.
async fn pooled(postgres: &Postgres, server: &Running, size: &Size) -> Result<u64, String> {
    let address = server.addresses().first().ok_or("the pool listens nowhere")?;
    let (host, port) = (address.ip().to_string(), address.port());
    // One connection of the reserve watches the server itself.
    let watch =
        connect(postgres.host(), postgres.port(), postgres.user()).await.map_err(|e| e.to_string())?;
    let tally = Arc::new(Tally::default());
    let mut tasks = Vec::new();
    for _ in 0..size.clients {
        let (tally, host, user) = (Arc::clone(&tally), host.clone(), postgres.user().to_owned());
        tasks.push(tokio::spawn(async move { one_client(&tally, &host, port, &user).await }));
    }
    let begun = Instant::now();
    let mut most = 0;
    let mut before = 0;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    while begun.elapsed() < Duration::from_secs(size.seconds) {
        tick.tick().await;
        most = most.max(connections(&watch).await.map_err(|error| error.to_string())?);
        let done = tally.done.load(Ordering::Relaxed);
        show(server, begun.elapsed(), done - before, most, tally.errors.load(Ordering::Relaxed)).await;
        before = done;
    }
    tally.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        if task.await.is_err() {
            tally.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(summary(&tally, begun.elapsed(), most, size))
}

async fn one_client(tally: &Tally, host: &str, port: u16, user: &str) {
    let Ok(client) = connect(host, port, user).await else {
        tally.errors.fetch_add(1, Ordering::Relaxed);
        return;
    };
    while !tally.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match client.simple_query("SELECT count(*) FROM generate_series(1, 1000)").await {
            Ok(_) => tally.add(begun.elapsed()),
            Err(_) => {
                tally.errors.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

async fn connect(host: &str, port: u16, user: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port).user(user).dbname("postgres").application_name("headpond demo");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Connections that the server itself counts, the watching one left out.
async fn connections(watch: &Client) -> Result<i64, tokio_postgres::Error> {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    Ok(watch.query_one(query, &[]).await?.get(0))
}

/// One line of the live view: on a terminal always the same one.
async fn show(server: &Running, elapsed: Duration, rate: u64, most: i64, errors: u64) {
    let Ok(snapshot) = server.control().snapshot(false).await else { return };
    let count = |state| snapshot.pools.iter().map(|pool| pool.pool.count(state)).sum::<u32>();
    let waiting: u32 = snapshot.pools.iter().map(|pool| pool.pool.waiting).sum();
    let (begin, end) = if std::io::stdout().is_terminal() { ("\r\x1b[K", "") } else { ("", "\n") };
    print!(
        "{begin}{:3} s  {rate:6} queries/s  in use {:3}  idle {:3}  opening {:2}  waiting {waiting:4}  \
         at the server, at most {most:3}  errors {errors}{end}",
        elapsed.as_secs(),
        count(State::InUse),
        count(State::Idle),
        count(State::Opening),
    );
    // A terminal that is gone cannot be shown anything.
    let _ = std::io::stdout().flush();
}

fn summary(tally: &Tally, elapsed: Duration, most: i64, size: &Size) -> u64 {
    let done = tally.done.load(Ordering::Relaxed);
    let errors = tally.errors.load(Ordering::Relaxed);
    let mean = Duration::from_nanos(tally.time.load(Ordering::Relaxed) / done.max(1));
    let slowest = Duration::from_nanos(tally.slowest.load(Ordering::Relaxed));
    println!();
    println!("{} clients, {done} queries in {elapsed:.1?}: {errors} errors.", size.clients);
    println!("The server never had more than {most} connections of {}.", size.max_connections);
    println!(
        "A query took {mean:.1?} on average and {slowest:.1?} at most, waiting for a connection included."
    );
    errors
}
