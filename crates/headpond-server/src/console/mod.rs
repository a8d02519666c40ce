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

use std::sync::Arc;
use std::time::SystemTime;

use headpond_pooler::figures::Snapshot;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use headpond_pooler::Tls;

use crate::config::Config;
use crate::control::Control;
use crate::tls::session::Session;
use crate::tls::stream::TlsStream;
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

/// Serves a client of the console from its startup packet on, until it leaves. `held` is what was read from
/// it so far, startup packet included.
pub(crate) async fn serve(
    stream: TcpStream,
    session: Option<Box<Session>>,
    held: Vec<u8>,
    control: Arc<Control>,
) {
    let local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    let origin = Origin { local, tls: session.as_ref().map(|session| Arc::clone(&session.tls)) };
    match session {
        None => serve_on(stream, origin, held, control).await,
        Some(session) => serve_on(TlsStream::new(stream, session), origin, held, control).await,
    }
}

/// Where a client of the console comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// It is on this machine.
    pub local: bool,
    /// What protects it on its way here.
    pub tls: Option<Arc<Tls>>,
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
