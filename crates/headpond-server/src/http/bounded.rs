//! A listener that lets in only so many at once, and nobody for ever: whoever asks costs little.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; further ones wait in the kernel.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// A connection ends after this time, however slowly its answers are taken; the next request opens another.
pub(super) const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// A request has to be there whole, and its answer begun, within this time: the first one of a connection from its
/// beginning on, later ones from their own.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Who is silent for longer makes room while less than half of the places are free.
const SLOW: Duration = Duration::from_secs(1);

pub(crate) struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // It is never closed, so there is always a permit some day.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, Arc::clone(&self.free), permit), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    began: Instant,
    /// Since when nothing has gone on: no answer was sent, and no request was begun.
    silent_since: Instant,
    /// A request is awaited or has begun, and none of its answer has gone out.
    asking: bool,
    /// When it is next looked whether that is too long.
    look: Pin<Box<Sleep>>,
    free: Arc<Semaphore>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: TcpStream, free: Arc<Semaphore>, permit: Option<OwnedSemaphorePermit>) -> Self {
        let began = Instant::now();
        let look = Box::pin(sleep(SLOW));
        Self { stream, began, silent_since: began, asking: true, look, free, _permit: permit }
    }

    fn overdue(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let may_be_silent = if self.free.available_permits() < CONNECTIONS_MAX / 2 {
                SLOW
            } else if self.asking {
                REQUEST_TIME
            } else {
                CONNECTION_TIME
            };
            if now - self.silent_since >= may_be_silent || now - self.began >= CONNECTION_TIME {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.look.as_mut().reset(now + SLOW);
        }
        Ok(())
    }

    fn goes_on(&mut self, asking: bool) {
        self.asking = asking;
        self.silent_since = Instant::now();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.overdue(context)?;
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        // What comes after the first bytes of a request does not give it more time.
        if !self.asking && buffer.filled().len() > before {
            self.goes_on(true);
        }
        outcome
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.overdue(context)?;
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(outcome, Poll::Ready(Ok(1..))) {
            self.goes_on(false);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
