//! A TLS connection as a stream of the control plane, for clients of the console.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::{RECORD, Session};

/// What is read at once.
const READ: usize = 16 * 1024;

/// The bytes inside.
pub(crate) struct TlsStream<S> {
    socket: S,
    session: Box<Session>,
    /// Decrypted, and how much of it was read.
    inside: Vec<u8>,
    read: usize,
    /// Encrypted, and how much of it was sent.
    outside: Vec<u8>,
    sent: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(crate) fn new(socket: S, session: Box<Session>) -> Self {
        Self { socket, session, inside: Vec::new(), read: 0, outside: Vec::new(), sent: 0 }
    }

    /// Sends what is encrypted.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outside.len() {
            let rest = &self.outside[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.outside.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Receives and decrypts, when all that was inside is read.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = vec![0; READ];
        self.inside.resize(READ + RECORD, 0);
        let Self { socket, session, inside, .. } = self;
        let outcome = session.receive(&mut scratch, inside, |into| {
            let mut buffer = ReadBuf::new(into);
            match Pin::new(&mut *socket).poll_read(context, &mut buffer) {
                Poll::Ready(outcome) => outcome.map(|()| buffer.filled().len()),
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        self.session.owed(&mut self.outside);
        self.read = 0;
        let count = outcome.as_ref().map_or(0, |(count, _)| *count);
        self.inside.truncate(count);
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            outcome => Poll::Ready(outcome.map(|_| ())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read == this.inside.len() {
            let filled = this.fill(context);
            // What the protocol owes goes out even if nothing is to be written; if it cannot, with what is.
            if let Poll::Ready(Err(error)) = this.drain(context) {
                return Poll::Ready(Err(error));
            }
            ready!(filled)?;
        }
        let rest = &this.inside[this.read..];
        let count = rest.len().min(into.remaining());
        into.put_slice(&rest[..count]);
        this.read += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.drain(context))?;
        this.session.seal(bytes, &mut this.outside);
        match this.drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is left goes out with what comes next, or by a flush.
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().drain(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.close(&mut this.outside);
        ready!(this.drain(context))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}
