//! The console: what a client gets that asks for the database `pgbouncer` or `headpond`.
//!
//! PgBouncer's commands with PgBouncer's columns, ours at the end, so that exporters, dashboards and habits go
//! on working. Simple and extended protocol; no parameters, no transactions. Statements are read into requests
//! (`commands`), figures are rendered by pure functions, and only `dialogue` and `login` do I/O.

mod bind;
pub(crate) mod commands;
mod connections;
mod dialogue;
mod link;
mod login;
mod pins;
mod pools;
mod process;
mod table;
pub(crate) mod totals;
mod traffic;

#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use headpond_pooler::figures::Snapshot;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use headpond_pooler::Tls;

use crate::config::Config;
use crate::control::Control;
use crate::tls::session::Session;
use crate::tls::stream::TlsStream;
use crate::worker::ConsoleClient;
use crate::worker::local::{name_of, peer_uid};
use crate::worker::socket::Socket;
use totals::Totals;

pub use commands::reference;

/// What `SHOW` commands render.
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) config: &'a Config,
    pub(crate) totals: &'a Totals,
    /// The time of day at the snapshot's `now`.
    pub(crate) wall: SystemTime,
}

/// What a user may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    Admin,
    /// `SHOW`.
    Viewer,
}

/// Where a client of the console comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Its address; `None`: a Unix socket.
    pub address: Option<IpAddr>,
    /// The number of the user whose process it is, and his name if rules ask for it.
    pub system_user: (Option<u32>, Option<String>),
    /// What protects it on its way here.
    pub tls: Option<Arc<Tls>>,
}

impl Origin {
    /// It is on this machine.
    fn is_local(&self) -> bool {
        self.address.is_none_or(|address| address.is_loopback())
    }
}

/// Serves a client of the console from its startup packet on, until it leaves.
pub(crate) async fn serve(client: ConsoleClient, control: Arc<Control>) {
    let ConsoleClient { socket, held, session } = client;
    let address = socket.peer_address().map(|address| address.ip());
    let mut origin = Origin { address, ..Origin::default() };
    let failed = |error: io::Error| tracing::warn!(%error, "a client of the console could not be served");
    match socket {
        // It was reset in the meantime; without an address it would count as a client on a Unix socket.
        Socket::Tcp(_) if address.is_none() => {}
        Socket::Tcp(stream) => match TcpStream::from_std(stream.into()) {
            Ok(stream) => serve_in(stream, session, origin, held, control).await,
            Err(error) => failed(error),
        },
        Socket::Unix(stream) => {
            let uid = peer_uid(&stream);
            let asks = control.config().pooler.rules.as_ref().is_some_and(|rules| rules.ask_the_system());
            let name = match uid.filter(|_| asks) {
                // It may have to ask others.
                Some(uid) => tokio::task::spawn_blocking(move || name_of(uid)).await.ok().flatten(),
                None => None,
            };
            origin.system_user = (uid, name);
            match UnixStream::from_std(stream.into()) {
                Ok(stream) => serve_in(stream, session, origin, held, control).await,
                Err(error) => failed(error),
            }
        }
    }
}

/// In clear, or in TLS.
async fn serve_in<S>(
    stream: S,
    session: Option<Box<Session>>,
    origin: Origin,
    held: Vec<u8>,
    control: Arc<Control>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match session {
        None => serve_on(stream, origin, held, control).await,
        Some(session) => {
            let origin = Origin { tls: Some(Arc::clone(&session.tls)), ..origin };
            serve_on(TlsStream::new(stream, session), origin, held, control).await;
        }
    }
}

/// Serves a client of the console from its startup packet on, until it leaves, over any stream. `held` is what was read
/// from it so far.
pub async fn serve_on<S>(stream: S, origin: Origin, held: Vec<u8>, control: Arc<Control>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut link = link::Link::new(stream, held);
    let ended = match login::login(&mut link, &origin, &control).await {
        Ok(access) => dialogue::Dialogue::new(link, access, control).run().await,
        Err(ended) => ended,
    };
    tracing::debug!(%ended, "console client left");
}
