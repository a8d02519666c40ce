//! Closed links whose last words have not gone out yet: they get a little time, and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use headpond_core::Tick;
use mio::{Interest, Registry, Token};

use super::socket::Conn;

/// How long last words may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Links that may say last words at once; further ones are cut off.
const FAREWELLS_MAX: usize = 4096;

/// Tokens of this kind carry these bits.
const KIND: usize = 3 << 62;

/// Numbers stay far below the tokens that count down from the end.
const NUMBERS: usize = 1 << 40;

/// Links on their way out.
#[derive(Default)]
pub(crate) struct Farewells {
    conns: HashMap<usize, (Conn, Tick)>,
    next: usize,
}

/// Whether an event belongs to a link on its way out.
pub(crate) fn is_token(token: Token) -> bool {
    token.0 & KIND == KIND && token.0 & !KIND < NUMBERS
}

impl Farewells {
    /// Closes a link, at once if all has been sent.
    pub(crate) fn take_in(&mut self, now: Tick, mut conn: Conn, registry: &Registry) {
        if conn.outbox.is_none() || self.conns.len() >= FAREWELLS_MAX {
            return;
        }
        self.next = (self.next + 1) % NUMBERS;
        if conn.socket.reregister(registry, Token(KIND | self.next), Interest::WRITABLE).is_ok() {
            self.conns.insert(self.next, (conn, now.plus(PATIENCE)));
        }
    }

    /// A link takes more, or is gone.
    pub(crate) fn writable(&mut self, token: Token) {
        let number = token.0 & !KIND;
        if let Some((conn, _)) = self.conns.get_mut(&number)
            && let Some(outbox) = &mut conn.outbox
            && outbox.flush(&mut conn.socket).unwrap_or(true)
        {
            self.conns.remove(&number);
        }
    }

    /// Cuts off those whose time is over.
    pub(crate) fn expire(&mut self, now: Tick) {
        if !self.conns.is_empty() {
            self.conns.retain(|_, (_, until)| *until > now);
        }
    }
}
