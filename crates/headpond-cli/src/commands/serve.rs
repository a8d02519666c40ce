//! `headpond serve [CONFIG]`.

use std::net::SocketAddr;
use std::path::Path;

use headpond_core::PoolSettings;
use headpond_embedded::{Options, Postgres};
use headpond_server::config::Config;
use headpond_server::logs;
use headpond_server::process::{Ports, Server};

use super::check::list;
use crate::limits;

/// `max_connections` of the private server.
const CONNECTIONS: u32 = 100;

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
        None => serve_embedded(),
    }
}

/// In front of a private PostgreSQL, which ends with this process.
fn serve_embedded() -> Result<(), String> {
    let options = Options { max_connections: CONNECTIONS, ..Options::default() };
    let postgres = Postgres::start(options).map_err(|error| error.to_string())?;
    let mut config = Config::embedded(postgres.port(), embedded_pool(CONNECTIONS));
    config.figures_interval = std::time::Duration::from_secs(10);
    let server = start(config, Ports::NextFree)?;
    if let (Some(address), Some(page)) = (server.addresses().first(), server.http_address()) {
        print_welcome(*address, page, &postgres);
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

fn print_welcome(address: SocketAddr, page: SocketAddr, postgres: &Postgres) {
    let (host, port, user) = (address.ip(), address.port(), postgres.user());
    println!("Headpond pools a private PostgreSQL, which listens on port {} and ends with it.", postgres.port());
    println!("  address   {host}:{port}");
    println!("  user      {user} (no password)");
    println!("  psql      psql -h {host} -p {port} -U {user} postgres");
    println!("  console   psql -h {host} -p {port} -U {user} headpond -c 'SHOW POOLS'");
    println!("  page      http://{page}/");
}
