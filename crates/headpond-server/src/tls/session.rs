//! The TLS connection of one socket after its handshake: bytes from the network and inside, both ways.
//!
//! Whatever arrives is decrypted at once and handed on, so nothing that could be read hides here: what remains is part
//! of a record whose rest the network still has. So a client that is left unread is left with the kernel, as without
//! TLS.

use std::io::{self, Read, Write};
use std::sync::Arc;

use headpond_pooler::Tls;
use rustls::Connection;

/// The most that one record adds to what was received now: the part of it that came before.
pub(crate) const RECORD: usize = 17 * 1024;

/// A connection after its handshake.
pub(crate) struct Session {
    connection: Connection,
    /// What the handshake established.
    pub(crate) tls: Arc<Tls>,
    /// The peer has said that no more will come.
    ended: bool,
}

impl Session {
    pub(crate) fn new(mut connection: Connection, tls: Arc<Tls>) -> Self {
        // What is given is taken: the sockets' own buffers bound it.
        connection.set_buffer_limit(None);
        Self { connection, tls, ended: false }
    }

    /// Decrypts what was received into `into`, which is longer by a [`RECORD`] at least. How many bytes were inside.
    ///
    /// # Errors
    /// The peer broke the protocol, or said that we did. It is to be told by what [`Session::owes`], and closed.
    pub(crate) fn open(&mut self, mut received: &[u8], into: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let more = !received.is_empty() && self.connection.read_tls(&mut received)? > 0;
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            let mut rest = state.plaintext_bytes_to_read();
            while rest > 0 {
                let place = into.get_mut(count..).filter(|place| !place.is_empty());
                let place = place.ok_or_else(|| io::Error::other("a TLS record is too large"))?;
                let read = self.connection.reader().read(place)?;
                count += read;
                rest = rest.saturating_sub(read.max(1));
            }
            self.ended |= state.peer_has_closed();
            if self.ended || !more {
                return Ok(count);
            }
        }
    }

    /// Appends `clear` to `out`, encrypted, behind what was to be said before.
    pub(crate) fn seal(&mut self, clear: &[u8], out: &mut Vec<u8>) {
        // Neither fails: there is no limit, and a vector takes everything.
        let _ = self.connection.writer().write_all(clear);
        self.owed(out);
    }

    /// Whether the protocol has something to say by itself: an alert, new keys.
    pub(crate) fn owes(&self) -> bool {
        self.connection.wants_write()
    }

    /// Appends what [`Session::owes`] to `out`.
    pub(crate) fn owed(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if self.connection.write_tls(out).is_err() {
                return;
            }
        }
    }

    /// Appends the last word to `out`.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.owed(out);
    }

    /// Receives from a socket what fits into `into`, through `scratch`. As a read without TLS, and whether there may be
    /// more.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        into: &mut [u8],
        mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        let room = into.len().saturating_sub(RECORD).min(scratch.len());
        while !self.ended {
            let received = receive(&mut scratch[..room])?;
            if received == 0 {
                break;
            }
            // Nothing may be inside: a part of a record, or what is TLS's own.
            match self.open(&scratch[..received], into)? {
                0 => {}
                count => return Ok((count, received == room || self.ended)),
            }
        }
        Ok((0, false))
    }
}
