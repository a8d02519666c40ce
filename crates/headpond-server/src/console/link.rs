//! The bytes to and from one client of the console.

use std::{fmt, io};

use headpond_wire::postgres::encode::{self, Report, Severity};
use headpond_wire::postgres::frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest message of a client, header included.
pub(crate) const MESSAGE_MAX: usize = 64 * 1024;

/// What is written is sent when it has grown beyond this, at the latest.
const WRITTEN_MAX: usize = 64 * 1024;

/// Why a conversation is over.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client said goodbye, or closed the connection.
    Left,
    /// The network broke.
    Broken(io::Error),
    /// The login was refused, with this reason.
    Refused(&'static str),
    /// The client broke the protocol.
    Misbehaved(&'static str),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("goodbye"),
            Self::Broken(error) => write!(f, "{error}"),
            Self::Refused(why) | Self::Misbehaved(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// A message of a client: its type and its body.
pub(crate) type Message = (u8, Vec<u8>);

/// A stream with what was received and not yet read, and what was written and not yet sent.
pub(crate) struct Link<S> {
    stream: S,
    received: Vec<u8>,
    /// Messages to be sent by the next [`Link::flush`].
    pub(crate) out: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S, received: Vec<u8>) -> Self {
        Self { stream, received, out: Vec::new() }
    }

    /// The next message; waits for it.
    pub(crate) async fn message(&mut self) -> Result<Message, Ended> {
        loop {
            let Ok(header) = frame::header(&self.received) else {
                return Err(self.fatal("08P01", "invalid message length").await);
            };
            if let Some(header) = header {
                if header.size > MESSAGE_MAX {
                    return Err(self.fatal("54000", "message is too long for the console").await);
                }
                if self.received.len() >= header.size {
                    let rest = self.received.split_off(header.size);
                    let whole = std::mem::replace(&mut self.received, rest);
                    return Ok((header.tag, whole.get(frame::HEADER..).unwrap_or_default().to_vec()));
                }
            }
            self.fill().await?;
        }
    }

    /// Waits for more bytes. May be dropped at any moment without losing one.
    pub(crate) async fn fill(&mut self) -> Result<(), Ended> {
        if self.received.len() >= MESSAGE_MAX {
            // Full: whoever waits here waits for something else too.
            return std::future::pending().await;
        }
        self.received.reserve(4096);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(Ended::Left),
            _ => Ok(()),
        }
    }

    /// What was received and not yet read.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Drops the first `count` bytes of what was received.
    pub(crate) fn consume(&mut self, count: usize) {
        self.received.drain(..count.min(self.received.len()));
    }

    /// Sends what was written.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        self.stream.write_all(&self.out).await?;
        self.stream.flush().await?;
        self.out.clear();
        Ok(())
    }

    /// Sends what was written if it is much.
    pub(crate) async fn relieve(&mut self) -> Result<(), Ended> {
        if self.out.len() > WRITTEN_MAX { self.flush().await } else { Ok(()) }
    }

    /// Tells the client that this is the end; what is returned says so to the caller.
    pub(crate) async fn fatal(&mut self, sqlstate: &str, why: &'static str) -> Ended {
        encode::error_response(&mut self.out, &Report::new(Severity::Fatal, sqlstate, why));
        match self.flush().await {
            Ok(()) => Ended::Misbehaved(why),
            Err(ended) => ended,
        }
    }
}
