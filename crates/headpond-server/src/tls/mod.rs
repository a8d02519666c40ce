//! TLS on both legs: what is loaded from files, the handshakes, and the bytes inside.
//!
//! Handshakes run on the control plane ([`handshake`]), for their public-key work takes a hundred times as long as a
//! small query; the connection then lives with its worker's socket ([`session`]). What was loaded is replaced as a
//! whole by a reload: whoever is connected keeps what it has.

pub(crate) mod certificate;
pub(crate) mod handshake;
pub(crate) mod load;
pub(crate) mod session;
pub(crate) mod stream;
mod verify;

use std::sync::Arc;

use headpond_pooler::config::TlsMode;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

pub use load::{Files, Protocols};

/// A certificate that holds for fewer days is worth a word.
const WARN_DAYS: i64 = 14;

/// All that was loaded; a clear leg has nothing.
#[derive(Default)]
pub struct Loaded {
    clients: Option<ClientLeg>,
    servers: Option<ServerLeg>,
    /// Every certificate that was read.
    certificates: Vec<Held>,
    /// Of everything that was read: whether two are the same.
    digest: [u8; 32],
}

/// A certificate that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The setting that names the file.
    pub setting: &'static str,
    /// The file.
    pub file: String,
    /// The common name of its subject, if it has one.
    pub subject: String,
    /// Until when it holds, in seconds since 1970.
    pub not_after: i64,
}

/// Our part of a handshake, with nothing said yet; and the hash of our own certificate, if it is the server's part.
pub(crate) type Part = (Connection, Option<Box<[u8]>>);

struct ClientLeg {
    config: Arc<ServerConfig>,
    /// What SCRAM binds to.
    end_point: Option<Box<[u8]>>,
}

/// How servers are reached, by how far they are verified.
struct ServerLeg {
    anybody: Arc<ClientConfig>,
    chain: Option<Arc<ClientConfig>>,
    full: Option<Arc<ClientConfig>>,
}

impl Loaded {
    /// Every certificate that was read, in the order of the settings.
    #[must_use]
    pub fn certificates(&self) -> &[Held] {
        &self.certificates
    }

    /// Says what will not hold for long, or no longer; `now` is in seconds since 1970.
    pub(crate) fn warn(&self, now: i64) {
        for Held { setting, file, subject, not_after } in &self.certificates {
            let days = (not_after - now).div_euclid(24 * 3600);
            match days {
                ..0 => tracing::error!(setting, file, subject, "a certificate has expired"),
                0..WARN_DAYS => tracing::warn!(setting, file, subject, days, "a certificate expires soon"),
                _ => {}
            }
        }
    }

    /// The server's part of a handshake.
    pub(crate) fn accept(&self) -> Result<Part, String> {
        let leg = self.clients.as_ref().ok_or("there is no certificate")?;
        let connection = ServerConnection::new(Arc::clone(&leg.config)).map_err(|error| error.to_string())?;
        Ok((connection.into(), leg.end_point.clone()))
    }

    /// The client's part of a handshake with the server at `host`.
    pub(crate) fn connect(&self, mode: TlsMode, host: &str) -> Result<Connection, String> {
        let leg = self.servers.as_ref();
        let config = match mode {
            TlsMode::VerifyCa => leg.and_then(|leg| leg.chain.as_ref()),
            TlsMode::VerifyFull => leg.and_then(|leg| leg.full.as_ref()),
            _ => leg.map(|leg| &leg.anybody),
        };
        let config = config.ok_or("there are no authorities to verify the server by")?;
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) if mode == TlsMode::VerifyFull => return Err(format!("{host:?} is not a host name")),
            // Nobody looks at it, and of an address nothing is told to the server.
            Err(_) => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        };
        let connection = ClientConnection::new(Arc::clone(config), name);
        Ok(connection.map_err(|error| error.to_string())?.into())
    }
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Loaded {}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}
