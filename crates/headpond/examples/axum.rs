//! A web service over a pool, complete: it answers 503 when the pool is full, shows what the pool is doing, and lets
//! requests finish when it is told to stop.
//!
//! `cargo run -p headpond --features rusqlite --example axum -- [ADDRESS] [FILE]`
//!
//! usage: POST /fish with a name as body; GET /fish; GET /pool

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headpond::drivers::{Sqlite, SqliteError};
use headpond::{AcquireError, Pool};
use tokio::net::TcpListener;

type Db = Pool<Sqlite>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let file = arguments.next().unwrap_or_else(|| "fish.db".to_owned());

    let pool = Pool::builder(Sqlite::open(file))
        .name("fish")
        .max_size(8)
        // Rather no answer than a late one: who would wait behind so many is told at once.
        .max_waiters(1_000)
        .acquire_timeout(Duration::from_secs(3))
        .leak_after(Duration::from_secs(30))
        .build();
    // A database that is not there should be noticed now, not by the first user.
    pool.wait_ready().await?;
    pool.run_blocking(|db| db.execute_batch("CREATE TABLE IF NOT EXISTS fish (name TEXT)")).await??;

    let service = Router::new()
        .route("/fish", get(list).post(add))
        .route("/pool", get(figures))
        .with_state(pool.clone());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/fish", listener.local_addr()?);
    axum::serve(listener, service).with_graceful_shutdown(stopped()).await?;

    // Connections are closed as they come back, and the log is written into the file.
    pool.close().await;
    println!("closed");
    Ok(())
}

async fn list(State(pool): State<Db>) -> Result<String, Failure> {
    let names = pool
        .run_blocking(|db| {
            let mut select = db.prepare_cached("SELECT name FROM fish ORDER BY rowid")?;
            select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
        })
        .await??;
    Ok(names.into_iter().map(|name| name + "\n").collect())
}

async fn add(State(pool): State<Db>, name: String) -> Result<StatusCode, Failure> {
    pool.run_blocking(move |db| db.execute("INSERT INTO fish VALUES (?1)", [name])).await??;
    Ok(StatusCode::CREATED)
}

async fn figures(State(pool): State<Db>) -> String {
    let stats = pool.stats();
    let mut lines = format!(
        "{} open, {} waiting, {} acquires, longest wait {:?}\n",
        stats.open(),
        stats.waiting,
        stats.counts.acquires,
        Duration::from_nanos(stats.marks.start.wait),
    );
    for holder in &stats.holders {
        lines += &format!("held {holder}\n");
    }
    lines
}

/// What went wrong, as far as the client is concerned.
enum Failure {
    Pool(AcquireError<SqliteError>),
    Sqlite(rusqlite::Error),
}

impl From<AcquireError<SqliteError>> for Failure {
    fn from(error: AcquireError<SqliteError>) -> Self {
        Self::Pool(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, said) = match self {
            Self::Pool(
                full @ (AcquireError::Full(_) | AcquireError::WouldMiss(_) | AcquireError::Closed),
            ) => (StatusCode::SERVICE_UNAVAILABLE, full.to_string()),
            Self::Pool(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Self::Sqlite(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        (status, said + "\n").into_response()
    }
}

/// Ctrl-C, or SIGTERM.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
