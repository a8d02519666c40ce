//! Sockets that leave for a handshake and come back, and what is encrypted on its way out.

use std::time::Duration;

use headpond_core::Tick;
use headpond_pooler::config::NodeAddress;
use headpond_pooler::{Link, NoTls};

use super::handle::Command;
use super::sends::Send;
use super::socket::{Conn, Held, Socket, Stage};
use super::{Handshaken, Worker, token_of};
use crate::tls::Part;
use crate::tls::handshake::{Done, Wanted, shake};

/// The longest that a handshake may take where logins may take for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a worker that is swamped is given before it is told again what came of a handshake, and how often.
const PAUSE: Duration = Duration::from_millis(5);
const TRIES: u32 = 2000;

impl Worker {
    /// Sends a link's socket away for its handshake: as a client's server, or to the server of a data source.
    pub(super) fn shake_hands(&mut self, now: Tick, link: Link, data_source: Option<usize>) {
        // The byte that agrees to it goes first.
        self.send_queued();
        let wanted = self.wanted(link, data_source);
        match wanted {
            Err(why) => self.pooler.handshake_failed(now, link, why, &mut self.actions),
            Ok(None) => {}
            Ok(Some(wanted)) => {
                let mailbox = self.mailboxes[self.index].clone();
                let places = std::sync::Arc::clone(&self.shared.handshakes);
                let task = self.shared.runtime.spawn(async move {
                    let outcome = shake(wanted, places).await;
                    let mut command = Command::Handshaken(Box::new(Handshaken { link, outcome }));
                    for _ in 0..TRIES {
                        match mailbox.send(command) {
                            Ok(()) => return,
                            Err(same) => command = same,
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                });
                self.shaking.insert(link, task.abort_handle());
            }
        }
    }

    /// What a handshake needs; `None`: the link is gone.
    fn wanted(&mut self, link: Link, data_source: Option<usize>) -> Result<Option<Wanted>, NoTls> {
        let Some(mut conn) = self.conns.remove(link) else { return Ok(None) };
        let network = |why: &str| NoTls::Network(why.to_owned());
        if conn.outbox.is_some() {
            return Err(network("the peer takes not even one byte"));
        }
        conn.socket.deregister(self.poll.registry()).map_err(|error| network(&error.to_string()))?;
        let Socket::Tcp(socket) = conn.socket else { return Err(network("no TLS on Unix sockets")) };
        let (connection, end_point) = self.part(data_source).map_err(NoTls::Refused)?;
        let limit = match link {
            Link::Client(_) => self.config.client_login_timeout,
            Link::Server(_) => self.config.connect_timeout,
            Link::Cancel(_) => self.config.cancel_timeout,
        };
        let received = conn.held.take().map(|held| held.0).unwrap_or_default();
        let limit = if limit.is_zero() { LIMIT } else { limit };
        Ok(Some(Wanted { connection, end_point, socket: socket.into(), received, limit }))
    }

    /// Our part of a handshake.
    fn part(&self, data_source: Option<usize>) -> Result<Part, String> {
        let Some(data_source) = data_source else { return self.tls.accept() };
        let source = self.config.data_sources.get(data_source);
        let source = source.ok_or("the data source is no longer configured")?;
        let NodeAddress::Tcp { host, .. } = &source.node else { return Err("no TLS on Unix sockets".into()) };
        Ok((self.tls.connect(source.tls.mode, host)?, None))
    }

    /// A socket is back from its handshake.
    pub(super) fn handshaken(&mut self, now: Tick, handshaken: Handshaken) {
        let Handshaken { link, outcome } = handshaken;
        self.shaking.remove(&link);
        // Whoever has given up in the meantime has closed it by that.
        if !self.pooler.awaits_handshake(link) {
            return;
        }
        let Done { session, socket, inside } = match outcome {
            Ok(done) => done,
            Err(why) => return self.pooler.handshake_failed(now, link, why, &mut self.actions),
        };
        let tls = std::sync::Arc::clone(&session.tls);
        let mut conn = Conn::new(link, Socket::Tcp(mio::net::TcpStream::from_std(socket)), Stage::Open);
        conn.session = Some(Box::new(session));
        if !inside.is_empty() {
            conn.held = Some(Box::new(Held(inside)));
        }
        let interest = conn.interest();
        match conn.socket.register(self.poll.registry(), token_of(link), interest) {
            Ok(()) => {
                self.conns.insert(conn);
                self.pooler.handshaken(now, link, &tls, &mut self.actions);
            }
            Err(error) => {
                let why = NoTls::Network(error.to_string());
                self.pooler.handshake_failed(now, link, why, &mut self.actions);
            }
        }
    }

    /// Encrypts what is to be sent where that is to be encrypted: each range in as few records as can be.
    pub(super) fn seal(&mut self, sends: &mut [Send]) {
        self.sealed.clear();
        for send in sends.iter_mut().filter(|send| send.secret) {
            let clear = self.arena.get(send.start, send.len);
            let start = self.sealed.len();
            if let Some(session) = self.conns.get_mut(send.link).and_then(|conn| conn.session.as_mut()) {
                session.seal(clear, &mut self.sealed);
            }
            (send.start, send.len) = (start, self.sealed.len() - start);
        }
    }

    /// Sends what the protocol says by itself: it was encrypted before anything that is queued.
    pub(super) fn send_owed(&mut self, link: Link) {
        let Some(conn) = self.conns.get_mut(link) else { return };
        let Some(session) = &mut conn.session else { return };
        let mut owed = Vec::new();
        session.owed(&mut owed);
        if let Some(outbox) = &mut conn.outbox {
            return outbox.push(&owed);
        }
        let sent = conn.socket.send(&owed);
        self.was_sent(link, &sent, |_| owed);
    }
}
