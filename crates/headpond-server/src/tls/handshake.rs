//! Handshakes: on the control plane, a few at once, each within its time and so many bytes.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use headpond_pooler::{NoTls, Tls};
use headpond_wire::postgres::startup::ALPN;
use rustls::{CipherSuite, Connection, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::certificate::Certificate;
use super::session::Session;

/// The most that a peer may send before its handshake is over: chains of certificates are long, but not that long.
const BYTES_MAX: usize = 128 * 1024;

/// What is read at once.
const READ: usize = 8 * 1024;

/// A handshake to be done.
pub(crate) struct Wanted {
    /// Of ours, with nothing sent yet.
    pub(crate) connection: Connection,
    /// The hash of our own certificate, if ours is the server's part.
    pub(crate) end_point: Option<Box<[u8]>>,
    pub(crate) socket: TcpStream,
    /// What was received of it so far.
    pub(crate) received: Vec<u8>,
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// A handshake that succeeded.
pub(crate) struct Done {
    pub(crate) session: Session,
    pub(crate) socket: TcpStream,
    /// What came inside behind it.
    pub(crate) inside: Vec<u8>,
}

/// How many handshakes may do their public-key work at once: the others' processors are for the workers, who go first
/// on these too.
pub(crate) fn places() -> Semaphore {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new((processors / 2).clamp(1, 8))
}

/// Does a handshake.
pub(crate) async fn shake(wanted: Wanted, places: Arc<Semaphore>) -> Result<Done, NoTls> {
    let limit = wanted.limit;
    let late = || NoTls::Network("the handshake took too long".to_owned());
    tokio::time::timeout(limit, agree(wanted, places)).await.unwrap_or_else(|_| Err(late()))
}

async fn agree(wanted: Wanted, places: Arc<Semaphore>) -> Result<Done, NoTls> {
    let Wanted { connection, end_point, socket, mut received, .. } = wanted;
    let mut socket = tokio::net::TcpStream::from_std(socket).map_err(network)?;
    let mut state = Shaking { connection, inside: Vec::new(), to_send: Vec::new(), wrong: None };
    let mut total = received.len();
    loop {
        // Even without anything received there is something to say, if ours is the client's part.
        let place =
            Arc::clone(&places).acquire_owned().await.map_err(|_| network(io::ErrorKind::Other.into()))?;
        let bytes = std::mem::take(&mut received);
        let step = tokio::task::spawn_blocking(move || {
            state.step(&bytes);
            drop(place);
            state
        });
        state = step.await.map_err(|error| network(io::Error::other(error)))?;
        let sent = socket.write_all(&state.to_send).await;
        if let Some(why) = state.wrong {
            return Err(NoTls::Refused(why));
        }
        sent.map_err(network)?;
        state.to_send.clear();
        if !state.connection.is_handshaking() {
            break;
        }
        received.reserve(READ);
        match socket.read_buf(&mut received).await {
            Ok(0) => return Err(NoTls::Network("the peer closed the connection".to_owned())),
            Ok(count) => total += count,
            Err(error) => return Err(network(error)),
        }
        if total > BYTES_MAX {
            return Err(NoTls::Refused("the handshake is too large".to_owned()));
        }
    }
    let tls = Arc::new(established(&state.connection, end_point));
    let socket = socket.into_std().map_err(network)?;
    Ok(Done { session: Session::new(state.connection, tls), socket, inside: state.inside })
}

fn network(error: io::Error) -> NoTls {
    NoTls::Network(error.to_string())
}

/// A handshake under way, as it goes from thread to thread.
struct Shaking {
    connection: Connection,
    inside: Vec<u8>,
    to_send: Vec<u8>,
    wrong: Option<String>,
}

impl Shaking {
    /// Takes what was received, and makes what is to be sent.
    fn step(&mut self, received: &[u8]) {
        self.wrong = self.take(received).err().map(|error| error.to_string());
        while self.connection.wants_write() && self.connection.write_tls(&mut self.to_send).is_ok() {}
    }

    fn take(&mut self, mut received: &[u8]) -> io::Result<()> {
        while !received.is_empty() {
            if self.connection.read_tls(&mut received)? == 0 {
                break;
            }
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            let (from, count) = (self.inside.len(), state.plaintext_bytes_to_read());
            self.inside.resize(from + count, 0);
            io::Read::read_exact(&mut self.connection.reader(), &mut self.inside[from..])?;
        }
        Ok(())
    }
}

fn established(connection: &Connection, own: Option<Box<[u8]>>) -> Tls {
    let peer = connection.peer_certificates().and_then(|chain| chain.first());
    let read = peer.and_then(|der| Certificate::read(der));
    let (end_point, common_name) = match connection {
        Connection::Server(_) => (own, read.and_then(|certificate| certificate.common_name)),
        Connection::Client(_) => (peer.zip(read).and_then(|(der, read)| read.end_point(der)), None),
    };
    Tls {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        },
        cipher: connection.negotiated_cipher_suite().map_or("", |suite| cipher(suite.suite())),
        agreed: connection.alpn_protocol() == Some(ALPN),
        end_point,
        common_name,
    }
}

/// The name of a cipher suite as the RFCs have it.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.as_str().unwrap_or(""),
    }
}
