//! One turn of the loop: what became ready, what the machine makes of it, and what goes out.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use headpond_core::{Alarm, Tick};
use headpond_pooler::{Action, Link, Report};
use headpond_wire::postgres::frame::WHOLE_MAX;
use headpond_wire::postgres::scram::ClientKeys;
use mio::Token;

use super::arena::SLICE;
use super::connect::Arrival;
use super::handle::Command;
use super::sends::Send;
use super::socket::{Held, NOT_QUEUED, Socket, Stage};
use super::{DerivedKeys, LISTENERS, LISTENERS_MAX, WAKER, Worker, farewell, link_of, token_of};
use crate::names;

/// Two sends to the same link of up to this many bytes together are copied into one.
const COPY_MAX: usize = 16 * 1024;

/// A readiness event.
pub(crate) struct Ready {
    token: Token,
    readable: bool,
    writable: bool,
    hung_up: bool,
    /// In both directions.
    gone: bool,
}

impl From<&mio::event::Event> for Ready {
    fn from(event: &mio::event::Event) -> Self {
        Self {
            token: event.token(),
            readable: event.is_readable(),
            writable: event.is_writable(),
            hung_up: event.is_read_closed() || event.is_error(),
            gone: event.is_write_closed() || event.is_error(),
        }
    }
}

impl Worker {
    /// How long the loop may wait for readiness.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() || !self.accepting.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline =
            [self.pooler.next_deadline(), self.starved.next_deadline()].into_iter().flatten().min()?;
        // Rounded up, so that the loop does not spin through the last millisecond.
        Some(deadline.since(self.now()).saturating_add(Duration::from_micros(999)))
    }

    pub(crate) fn turn(&mut self, ready: &[Ready]) {
        let now = self.now();
        for link in std::mem::take(&mut self.again) {
            self.pooler.readable(now, link, &mut self.actions);
            self.work(now, 0);
        }
        let starved = self.starved.due(now);
        for listener in std::mem::take(&mut self.accepting).into_iter().chain(starved) {
            self.accept(now, listener);
        }
        for event in ready {
            match event.token {
                WAKER => self.obey(now),
                token if farewell::is_token(token) => self.farewells.writable(token),
                Token(number) if number <= LISTENERS && number > LISTENERS - LISTENERS_MAX => {
                    self.accept(now, LISTENERS - number);
                }
                token => self.became_ready(now, link_of(token), event),
            }
        }
        self.farewells.expire(now);
        if self.pooler.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.pooler.on_timer(now, &mut self.actions);
            self.work(now, 0);
        }
        self.flush(now);
    }

    fn became_ready(&mut self, now: Tick, link: Link, event: &Ready) {
        let Some(conn) = self.conns.get_mut(link) else { return };
        conn.hung_up |= event.hung_up;
        conn.gone |= event.gone;
        if conn.stage == Stage::Connecting {
            self.connect_decided(now, link);
        } else if event.writable && conn.outbox.is_some() {
            self.drain_outbox(now, link);
        }
        if event.hung_up
            && let Link::Client(id) = link
        {
            self.pooler.hung_up(now, id, &mut self.actions);
        } else if event.readable || event.hung_up {
            self.pooler.readable(now, link, &mut self.actions);
        }
        self.work(now, 0);
    }

    fn connect_decided(&mut self, now: Tick, link: Link) {
        let Some(conn) = self.conns.get_mut(link) else { return };
        match conn.socket.connected() {
            None => {}
            Some(Ok(())) => {
                conn.stage = Stage::Open;
                let interest = conn.interest();
                let _ = conn.socket.reregister(self.poll.registry(), token_of(link), interest);
                self.pooler.connected(now, link, &mut self.actions);
            }
            Some(Err(error)) => {
                self.conns.remove(link);
                self.pooler.closed(now, link, &error.to_string(), &mut self.actions);
            }
        }
    }

    /// Carries out what the machine asks, and all that follows from it. `base` is where the bytes of the
    /// present event begin in the arena.
    pub(crate) fn work(&mut self, now: Tick, base: usize) {
        self.carry_out(now, base);
        while let Some(link) = self.to_read.pop_front() {
            self.read(now, link);
        }
    }

    fn carry_out(&mut self, now: Tick, base: usize) {
        // Carrying out may ask for more, a connect that fails at once for example: that comes behind.
        while !self.actions.list.is_empty() {
            let mut list = std::mem::take(&mut self.actions.list);
            for action in list.drain(..) {
                self.act(now, base, action);
            }
            if self.actions.list.is_empty() {
                self.actions.list = list;
            }
        }
        self.actions.injected.clear();
    }

    fn act(&mut self, now: Tick, base: usize, action: Action) {
        match action {
            Action::Read(link) => self.to_read.push_back(link),
            Action::Forward { to, from, len } => self.queue(to, base + from as usize, len as usize),
            Action::Send { to, from, len } => self.inject(to, from as usize, len as usize),
            Action::Connect { link, data_source } => {
                let node = self.config.data_sources.get(data_source).map(|source| source.node.clone());
                self.connect(now, link, node);
            }
            Action::AcceptTls(client) => self.shake_hands(now, Link::Client(client), None),
            Action::StartTls { link, data_source } => self.shake_hands(now, link, Some(data_source)),
            Action::Finish(link) => self.to_finish.push(link),
            Action::Close(link) => self.to_close.push(link),
            Action::DeriveKeys { link, password, salt, iterations } => {
                let mailbox = self.mailboxes[self.index].clone();
                self.shared.runtime.spawn_blocking(move || {
                    let keys = ClientKeys::derive(&password.0, &salt, iterations);
                    // A full or closed mailbox leaves the login to its time-out.
                    let _ = mailbox.send(Command::Keys(DerivedKeys { link, password, keys }));
                });
            }
            Action::HandOver(client) => self.hand_over(client, None),
            Action::Move { client, worker } => self.hand_over(client, Some(worker)),
            Action::Report(report) => {
                if let Report::ServerLoginFailed { refused: true, .. }
                | Report::LoginRefused { wrong: true, .. } = report
                {
                    self.shared.refused.notify_one();
                }
                log(&report);
            }
        }
    }

    /// Reads a link once, and hands over what there is.
    fn read(&mut self, now: Tick, link: Link) {
        let Some(conn) = self.conns.get_mut(link) else { return };
        if conn.stage == Stage::Connecting {
            return;
        }
        let held = conn.held.take();
        let before = held.as_ref().map_or(0, |held| held.0.len());
        if !self.arena.has_room(before + SLICE) {
            self.send_queued();
            self.arena.clear();
        }
        let Some(conn) = self.conns.get_mut(link) else { return };
        let spare = self.arena.spare(before + SLICE);
        if let Some(held) = &held {
            spare[..before].copy_from_slice(&held.0);
        }
        if before > WHOLE_MAX {
            // A client that pipelines goes no faster than it is served: nothing is kept on top of so much.
            if self.hand_in(now, link, before) > 0 {
                self.again.push(link);
            }
            return;
        }
        let received = loop {
            match conn.receive(&mut self.scratch, &mut spare[before..]) {
                Ok((0, _)) => break Err(None),
                Ok(received) => break Ok(received),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok((0, false)),
                Err(error) => break Err(Some(error.to_string())),
            }
        };
        let (gone, hung_up) = (conn.gone, conn.hung_up);
        if conn.session.as_ref().is_some_and(|session| session.owes()) {
            self.send_owed(link);
        }
        match received {
            Ok((count, more)) => {
                self.hand_in(now, link, before + count);
                if (more || (count > 0 && hung_up)) && !self.to_close.contains(&link) {
                    self.again.push(link);
                }
            }
            // What came before the end is heard first.
            Err(_) if before > 0 && self.hand_in(now, link, before) > 0 => self.again.push(link),
            Err(why) => {
                match (link, why) {
                    (Link::Client(id), None) if !gone => self.pooler.ended(now, id, &mut self.actions),
                    (_, why) => {
                        let why = why.as_deref().unwrap_or("the peer closed the connection");
                        self.pooler.closed(now, link, why, &mut self.actions);
                    }
                }
                self.carry_out(now, 0);
            }
        }
    }

    /// Gives the machine the next `len` bytes of the arena, and keeps what it does not consume. Returns how many it
    /// did.
    fn hand_in(&mut self, now: Tick, link: Link, len: usize) -> usize {
        let base = self.arena.take(len);
        let bytes = self.arena.get(base, len);
        let consumed = self.pooler.received(now, link, bytes, &mut self.actions);
        if consumed < len
            && let Some(conn) = self.conns.get_mut(link)
        {
            conn.held = Some(Box::new(Held(bytes[consumed..].to_vec())));
        }
        self.carry_out(now, base);
        consumed
    }

    /// Queues a range of the arena for a link.
    fn queue(&mut self, link: Link, start: usize, len: usize) {
        let Some(conn) = self.conns.get_mut(link) else { return };
        if conn.outbox.is_some() {
            conn.keep(self.arena.get(start, len));
            return;
        }
        if conn.queued != NOT_QUEUED {
            let earlier = &mut self.sends[conn.queued as usize];
            let together = earlier.len + len;
            if earlier.start + earlier.len == start {
                earlier.len = together;
                return;
            }
            if together <= COPY_MAX && self.arena.has_room(together) {
                let copy = self.arena.repeat(earlier.start, earlier.len);
                self.arena.repeat(start, len);
                earlier.start = copy;
                earlier.len = together;
                return;
            }
            self.send_queued();
            return self.queue(link, start, len);
        }
        conn.queued = u32::try_from(self.sends.len()).unwrap_or(NOT_QUEUED);
        let secret = conn.session.is_some();
        self.sends.push(Send { link, fd: conn.socket.as_raw_fd(), start, len, secret });
    }

    /// Queues a range of the bytes that the machine wrote itself.
    fn inject(&mut self, link: Link, from: usize, len: usize) {
        if self.arena.has_room(len) {
            let start = self.arena.push(&self.actions.injected[from..from + len]);
            self.queue(link, start, len);
            return;
        }
        // Very many at once: the arena must stay as it is, for the present event's bytes are in it.
        self.send_queued();
        let Some(conn) = self.conns.get_mut(link) else { return };
        let bytes = &self.actions.injected[from..from + len];
        if conn.outbox.is_some() {
            conn.keep(bytes);
        } else if let Some(session) = &mut conn.session {
            let mut sealed = Vec::new();
            session.seal(bytes, &mut sealed);
            let sent = conn.socket.send(&sealed);
            self.was_sent(link, &sent, |_| sealed);
        } else {
            let sent = conn.socket.send(bytes);
            self.was_sent(link, &sent, |worker| worker.actions.injected[from..from + len].to_vec());
        }
    }

    /// Sends all that is queued. The arena stays as it is.
    pub(super) fn send_queued(&mut self) {
        let mut sends = std::mem::take(&mut self.sends);
        self.seal(&mut sends);
        let mut results = std::mem::take(&mut self.results);
        results.clear();
        if self.sender.batches(sends.len()) {
            results.resize_with(sends.len(), || Ok(0));
            self.sender.submit(&sends, &self.arena, &self.sealed, |index, result| {
                if let Some(place) = results.get_mut(index) {
                    *place = result;
                }
            });
        } else {
            for send in &sends {
                let bytes = send.bytes(&self.arena, &self.sealed);
                results.push(match self.conns.get_mut(send.link) {
                    Some(conn) => conn.socket.send(bytes),
                    None => Ok(send.len),
                });
            }
        }
        for (send, result) in sends.iter().zip(&results) {
            if let Some(conn) = self.conns.get_mut(send.link) {
                conn.queued = NOT_QUEUED;
            }
            if !matches!(result, Ok(count) if *count == send.len) {
                self.was_sent(send.link, result, |worker| send.bytes(&worker.arena, &worker.sealed).to_vec());
            }
        }
        self.results = results;
        self.sends = sends;
        self.sends.clear();
    }

    /// A send took less than all: the rest waits in the outbox, and the machine holds back what comes behind.
    pub(super) fn was_sent(
        &mut self,
        link: Link,
        sent: &io::Result<usize>,
        bytes: impl FnOnce(&Self) -> Vec<u8>,
    ) {
        let count = match sent {
            Ok(count) => *count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            // The peer is gone: its end of stream tells the machine.
            Err(_) => return,
        };
        let bytes = bytes(self);
        let rest = bytes.get(count..).unwrap_or_default();
        let Some(conn) = self.conns.get_mut(link) else { return };
        if rest.is_empty() {
            return;
        }
        conn.outbox.get_or_insert_default().push(rest);
        let interest = conn.interest();
        let _ = conn.socket.reregister(self.poll.registry(), token_of(link), interest);
        self.pooler.blocked(link);
    }

    fn drain_outbox(&mut self, now: Tick, link: Link) {
        let Some(conn) = self.conns.get_mut(link) else { return };
        let Some(outbox) = &mut conn.outbox else { return };
        if !outbox.flush(&mut conn.socket).unwrap_or(true) {
            return;
        }
        conn.outbox = None;
        let interest = conn.interest();
        let _ = conn.socket.reregister(self.poll.registry(), token_of(link), interest);
        if conn.stage == Stage::Finishing {
            conn.stage = Stage::Finished;
            conn.socket.finish();
        }
        self.pooler.unblocked(now, link, &mut self.actions);
    }

    /// Sends everything, then closes what is to be closed: a descriptor must not be used again while bytes for
    /// its former owner wait to be sent.
    pub(super) fn flush(&mut self, now: Tick) {
        self.send_queued();
        self.arena.clear();
        for link in std::mem::take(&mut self.to_finish) {
            let Some(conn) = self.conns.get_mut(link) else { continue };
            conn.say_goodbye();
            if conn.outbox.is_some() {
                conn.stage = Stage::Finishing;
            } else {
                conn.stage = Stage::Finished;
                conn.socket.finish();
            }
        }
        for link in std::mem::take(&mut self.to_close) {
            if matches!(link, Link::Client(_)) {
                self.count_client_out();
            }
            if let Some(handshake) = self.shaking.remove(&link) {
                // Its socket is not counted any more, so it must not stay open.
                handshake.abort();
            }
            if let Some(mut conn) = self.conns.remove(link) {
                conn.say_goodbye();
                self.farewells.take_in(now, conn, self.poll.registry());
            }
        }
    }

    /// Does what the control plane says.
    fn obey(&mut self, now: Tick) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Snapshot { detail, reply } => {
                    // Whoever asked may have given up.
                    let _ = reply.send(self.pooler.snapshot(now, detail));
                }
                Command::Suspend { data_source } => {
                    self.pooler.suspend(now, data_source.as_deref(), &mut self.actions);
                }
                Command::Resume { data_source } => {
                    self.pooler.resume(now, data_source.as_deref(), &mut self.actions);
                }
                Command::Renew { data_source } => {
                    self.pooler.renew(now, data_source.as_deref(), &mut self.actions);
                }
                Command::Kill { data_source } => {
                    self.pooler.kill(now, data_source.as_deref(), &mut self.actions);
                }
                Command::ResetMarks => self.pooler.reset_marks(),
                Command::Reload(config, tls) => {
                    self.tls = tls;
                    self.max_clients = config.max_clients as usize;
                    self.config = Arc::clone(&config);
                    self.system_users.clear();
                    self.pooler.reload(now, config, &mut self.actions);
                }
                Command::Adopt { socket: Socket::Unix(socket), held, session, .. } => {
                    self.adopt_local(now, socket, session, held, false);
                }
                Command::Adopt { socket, peer, held, session } => {
                    self.adopt(now, socket, Arrival { peer, session, system_user: None }, held, false);
                }
                Command::Named(nameless, name) => self.named(now, *nameless, name),
                Command::Handshaken(handshaken) => self.handshaken(now, *handshaken),
                Command::Keys(DerivedKeys { link, password, keys }) => {
                    self.pooler.keys_derived(now, link, &password, &keys, &mut self.actions);
                }
                Command::Resolved(resolved) => self.resolved(now, resolved),
                Command::Drain => {
                    self.draining = true;
                    self.stop_listening();
                    self.pooler.drain(now, &mut self.actions);
                }
                Command::Stop => self.stopping = true,
            }
            self.work(now, 0);
        }
    }

    fn stop_listening(&mut self) {
        for mut door in self.listeners.drain(..) {
            let _ = self.poll.registry().deregister(door.source());
        }
    }
}

/// What the machine reports, at the level it deserves: connections only at debug.
fn log(report: &Report) {
    match report {
        Report::Alarm { alarm, raised: true, .. } => {
            let advice = names::advice(*alarm);
            match alarm {
                Alarm::MaxIdleChurn | Alarm::TooManyConnections => tracing::warn!("{report}: {advice}"),
                _ => tracing::error!("{report}: {advice}"),
            }
        }
        Report::Alarm { .. } | Report::Leak { ended: true, .. } | Report::Opaque { .. } => {
            tracing::info!("{report}")
        }
        Report::LoggedIn { .. } => tracing::debug!("{report}"),
        Report::LoginRefused { .. } | Report::ClientMisbehaved { .. } | Report::TookTooLong { .. } => {
            tracing::info!("{report}")
        }
        Report::ServerLoginFailed { .. }
        | Report::LookupFailed { .. }
        | Report::PasswordInClear { .. }
        | Report::ServerLost { .. }
        | Report::CloseUnconfirmed { .. }
        | Report::Capped { .. }
        | Report::Leak { .. } => tracing::warn!("{report}"),
        Report::ReplyMismatch { .. } => tracing::error!("{report}"),
    }
}
