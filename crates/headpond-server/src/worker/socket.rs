//! TCP and Unix sockets as one thing, and what a worker keeps of each.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use headpond_pooler::Link;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Type};

use crate::tls::session::Session;

/// A stream socket that never blocks.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Begins to connect over TCP; whether it worked is known when the socket becomes writable.
    pub(crate) fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        prepare(&socket, address);
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Self::Tcp(TcpStream::from_std(socket.into()))),
        }
    }

    /// Connects to a Unix socket, which takes no time.
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self::Unix)
    }

    /// Whether a connect that was begun has succeeded; `None`: not decided yet.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        let Self::Tcp(stream) = self else { return Some(Ok(())) };
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
            Ok(None) => {}
        }
        match stream.peer_addr() {
            Ok(_) => Some(Ok(())),
            Err(error) if error.kind() == ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Where it comes from; `None`: from this machine, by a Unix socket.
    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    pub(crate) fn finish(&self) {
        // Fails only if the peer has gone already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    pub(crate) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interest)
    }

    pub(crate) fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interest)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Small messages must not wait for each other, and a peer that vanished must be noticed some day. Nothing is to be paced
/// on its way within this machine: a congestion control that does so, like bbr, costs a timer for each message. `reno`
/// does not, everybody may choose it, and it must be chosen before the connection is there.
///
/// A socket that refuses any of it serves all the same.
pub(crate) fn prepare(socket: &socket2::Socket, peer: SocketAddr) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_keepalive(true);
    if peer.ip().is_loopback() {
        let _ = socket.set_tcp_congestion(b"reno");
    }
}

/// One link's socket and the little that is kept for it: tens of thousands of these may be idle.
pub(crate) struct Conn {
    pub(crate) link: Link,
    pub(crate) socket: Socket,
    /// Bytes received that the machine has not consumed.
    pub(crate) held: Option<Box<Held>>,
    /// Bytes that the socket did not take.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// What encrypts it, if anything does.
    pub(crate) session: Option<Box<Session>>,
    /// Its entry in the queue of sends, [`NOT_QUEUED`] if it has none.
    pub(crate) queued: u32,
    pub(crate) stage: Stage,
    /// The peer will send no more.
    pub(crate) hung_up: bool,
    /// Nor will it hear any.
    pub(crate) gone: bool,
}

/// What a socket is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Open,
    /// Nothing more is sent once the outbox is empty.
    Finishing,
    /// Nothing more is sent.
    Finished,
}

/// [`Conn::queued`] of a link without a queued send.
pub(crate) const NOT_QUEUED: u32 = u32::MAX;

/// Bytes that were received and not consumed. A type of its own, and boxed: almost no link has any.
pub(crate) struct Held(pub(crate) Vec<u8>);

/// What could not be sent at once.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends what the socket takes; whether everything is out.
    pub(crate) fn flush(&mut self, socket: &mut Socket) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match socket.send(&self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Conn {
    pub(crate) fn new(link: Link, socket: Socket, stage: Stage) -> Self {
        Self {
            link,
            socket,
            held: None,
            outbox: None,
            session: None,
            queued: NOT_QUEUED,
            stage,
            hung_up: false,
            gone: false,
        }
    }

    /// Receives into `into`: how many bytes, and whether there may be more. `scratch` is for what is encrypted.
    pub(crate) fn receive(&mut self, scratch: &mut [u8], into: &mut [u8]) -> io::Result<(usize, bool)> {
        let socket = &mut self.socket;
        match &mut self.session {
            None => socket.receive(into).map(|count| (count, count == into.len())),
            Some(session) => session.receive(scratch, into, |scratch| socket.receive(scratch)),
        }
    }

    /// Keeps bytes for later, behind those that are kept already. They are encrypted here, if they are to be.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        let outbox = self.outbox.get_or_insert_default();
        match &mut self.session {
            None => outbox.push(bytes),
            Some(session) => session.seal(bytes, &mut outbox.bytes),
        }
    }

    /// Says by TLS, if there is any, that nothing follows.
    pub(crate) fn say_goodbye(&mut self) {
        let Some(session) = &mut self.session else { return };
        let mut last = Vec::new();
        session.close(&mut last);
        if self.outbox.is_none() {
            let sent = self.socket.send(&last).unwrap_or(0);
            last.drain(..sent);
        }
        if !last.is_empty() {
            self.outbox.get_or_insert_default().push(&last);
        }
    }

    pub(crate) fn interest(&self) -> Interest {
        let writes = self.outbox.is_some() || self.stage == Stage::Connecting;
        if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }
}
