//! `headpond serve [CONFIG]`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use headpond_core::PoolSettings;
use headpond_embedded::{Options, Postgres};
use headpond_server::config::{Config, NodeAddress};
use headpond_server::logs;
use headpond_server::process::{Ports, Server};

use tokio_postgres::config::Host;

use super::check::list;
use crate::limits;

/// `max_connections` of the private server.
const CONNECTIONS: u32 = 100;

/// How often `headpond serve` without a configuration prints a line of figures.
const FIGURES: Duration = Duration::from_secs(10);

/// Serves until told to stop.
///
/// # Errors
/// Whatever keeps it from serving, in words for the person at the keyboard.
pub(crate) fn serve(path: Option<&Path>) -> Result<(), String> {
    limits::raise_descriptors();
    match path {
        Some(path) => {
            let config = Config::load(path).map_err(|errors| list(&errors))?;
            let server = start(config, Ports::Exact)?;
            for address in server.addresses() {
                tracing::info!("clients: {address}");
            }
            if let Some(address) = server.http_address() {
                tracing::info!("page: http://{address}/");
            }
            server.run().map_err(|error| error.to_string())
        }
        None => match std::env::var("DATABASE_URL") {
            Ok(url) => serve_url(&url),
            Err(_) => serve_embedded(),
        },
    }
}

/// In front of the server that a URL names: every client gets in, as the URL's user.
fn serve_url(url: &str) -> Result<(), String> {
    // The parser's error may quote the URL, password and all.
    let wanted = url.parse::<tokio_postgres::Config>();
    let wanted =
        wanted.map_err(|_| "DATABASE_URL is not a PostgreSQL URL (postgres://user:password@host:port/)")?;
    let port = wanted.get_ports().first().copied().unwrap_or(5432);
    let node = match wanted.get_hosts().first() {
        Some(Host::Tcp(host)) => NodeAddress::Tcp { host: host.clone(), port },
        Some(Host::Unix(folder)) => NodeAddress::Unix { folder: folder.display().to_string(), port },
        None => NodeAddress::Tcp { host: "127.0.0.1".to_owned(), port },
    };
    let password = match wanted.get_password() {
        Some(bytes) => {
            Some(String::from_utf8(bytes.to_vec()).map_err(|_| "DATABASE_URL: the password is not UTF-8")?)
        }
        None => None,
    };
    let mut config = Config::embedded(port, PoolSettings::on_demand());
    config.point_at(node, wanted.get_user(), password);
    config.figures_interval = FIGURES;
    let server = start(config, Ports::NextFree)?;
    if let (Some(address), Some(page)) = (server.addresses().first(), server.http_address()) {
        println!("Headpond pools the server of DATABASE_URL.");
        print_addresses(*address, page, wanted.get_user().unwrap_or("postgres"));
    }
    server.run().map_err(|error| error.to_string())
}

/// In front of a private PostgreSQL, which ends with this process.
fn serve_embedded() -> Result<(), String> {
    let options = Options { max_connections: CONNECTIONS, ..Options::default() };
    let postgres = Postgres::start(options).map_err(|error| error.to_string())?;
    let mut config = Config::embedded(postgres.port(), embedded_pool(CONNECTIONS));
    config.figures_interval = FIGURES;
    let server = start(config, Ports::NextFree)?;
    if let (Some(address), Some(page)) = (server.addresses().first(), server.http_address()) {
        println!(
            "Headpond pools a private PostgreSQL, which listens on port {} and ends with it.",
            postgres.port()
        );
        print_addresses(*address, page, postgres.user());
    }
    server.run().map_err(|error| error.to_string())
}

/// A pool that leaves the private server its reserved slots and Headpond's own reserve: 5, or 10 % if more.
pub(crate) fn embedded_pool(max_connections: u32) -> PoolSettings {
    const SUPERUSER_RESERVED: u32 = 3;
    let reserve = 5.max(max_connections.div_ceil(10));
    let max_size = max_connections.saturating_sub(SUPERUSER_RESERVED + reserve).max(1);
    PoolSettings { max_size, max_idle: max_size, ..PoolSettings::on_demand() }
}

fn start(config: Config, ports: Ports) -> Result<Server, String> {
    logs::start(config.log_level, config.log_format).map_err(|error| error.to_string())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Server::bind(config, ports).map_err(|error| error.to_string())
}

fn print_addresses(address: SocketAddr, page: SocketAddr, user: &str) {
    let (host, port) = (address.ip(), address.port());
    println!("  address   {host}:{port}");
    println!("  user      {user} (no password)");
    println!("  psql      psql -h {host} -p {port} -U {user} postgres");
    println!("  console   psql -h {host} -p {port} -U {user} headpond -c 'SHOW POOLS'");
    println!("  page      http://{page}/");
}
