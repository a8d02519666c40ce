//! New sockets: clients accepted, servers connected, and clients that move.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headpond_core::Tick;
use headpond_pooler::config::NodeAddress;
use headpond_pooler::{ClientId, Link};

use super::handle::Command;
use super::local::Door;
use super::socket::{Conn, Held, Socket, Stage};
use super::{ConsoleClient, ResolvedHost, Worker, token_of};
use crate::tls::session::Session;

/// So many more than `max_clients` are told that there are too many; further ones are cut off.
const OVER_MAX: usize = 1000;

/// Clients accepted in one turn at most; the others are next.
const ACCEPTS: usize = 128;

/// How long a listener rests that could not accept a client.
const PAUSE: Duration = Duration::from_millis(100);

/// It is said so often at most.
const SILENCE: Duration = Duration::from_secs(60);

/// What is known of where a client comes from.
#[derive(Default)]
pub(crate) struct Arrival {
    pub(crate) peer: Option<SocketAddr>,
    /// Whose process it is.
    pub(crate) system_user: Option<String>,
    /// What encrypts it, if anything does.
    pub(crate) session: Option<Box<Session>>,
}

/// Listeners whose clients could not be accepted, for want of descriptors or memory. Readiness tells of new clients only,
/// so those who wait are looked for after a while.
#[derive(Default)]
pub(crate) struct Starved {
    listeners: Vec<usize>,
    until: Tick,
    /// When it was last said.
    said: Option<Tick>,
}

impl Starved {
    fn put_off(&mut self, now: Tick, listener: usize, error: &io::Error) {
        if self.said.is_none_or(|said| now.since(said) >= SILENCE) {
            self.said = Some(now);
            tracing::warn!(%error, "clients wait that cannot be accepted: raise the limit of open files");
        }
        if self.listeners.is_empty() {
            self.until = now.plus(PAUSE);
        }
        // Whoever comes meanwhile is tried at once, and may fail as well.
        if !self.listeners.contains(&listener) {
            self.listeners.push(listener);
        }
    }

    /// When they are tried again.
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        (!self.listeners.is_empty()).then_some(self.until)
    }

    /// Those that are to be tried again now.
    pub(crate) fn due(&mut self, now: Tick) -> Vec<usize> {
        if self.next_deadline().is_some_and(|until| until <= now) {
            std::mem::take(&mut self.listeners)
        } else {
            Vec::new()
        }
    }
}

impl Worker {
    /// Takes in clients of one listener.
    pub(crate) fn accept(&mut self, now: Tick, listener: usize) {
        for _ in 0..ACCEPTS {
            let accepted = match self.listeners.get(listener) {
                None => return,
                Some(Door::Tcp(door)) => door.accept().map(|(stream, peer)| {
                    let arrival = Arrival { peer: Some(peer), ..Arrival::default() };
                    self.adopt(now, Socket::Tcp(stream), arrival, Vec::new(), true);
                }),
                Some(Door::Unix(door)) => door.accept().map(|(stream, _)| {
                    self.adopt_local(now, stream, None, Vec::new(), true);
                }),
            };
            match accepted {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // A client that left in between is no reason to look later for the next.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => return self.starved.put_off(now, listener, &error),
            }
        }
        self.accepting.push(listener);
    }

    /// A client's socket comes to this worker, from a listener or from another worker.
    pub(crate) fn adopt(&mut self, now: Tick, socket: Socket, arrival: Arrival, held: Vec<u8>, counts: bool) {
        let Arrival { peer, system_user, session } = arrival;
        let clients = if counts {
            self.shared.clients.fetch_add(1, Ordering::Relaxed)
        } else {
            self.shared.clients.load(Ordering::Relaxed) - 1
        };
        let full = clients >= self.max_clients;
        let address = peer.map(|peer| peer.ip());
        let room = !counts && !full || self.pooler.has_room(now, address, full, &mut self.actions);
        self.work(now, 0);
        if counts && !room && clients >= self.max_clients + OVER_MAX {
            return self.count_client_out();
        }
        let id = self.pooler.accepted(now, peer, !room);
        if let Some(name) = system_user {
            self.pooler.vouched_for(id, &name);
        }
        let link = Link::Client(id);
        let mut conn = Conn::new(link, socket, Stage::Open);
        if let Some(session) = &session {
            self.pooler.came_in_tls(id, Arc::clone(&session.tls));
        }
        conn.session = session;
        if let Err(error) = conn.socket.register(self.poll.registry(), token_of(link), conn.interest()) {
            tracing::warn!(%error, "a client could not be watched");
            self.pooler.closed(now, link, "", &mut self.actions);
            self.actions.clear();
            self.count_client_out();
            return;
        }
        // Who comes from a TCP listener has spoken already, unless it has been silent for long.
        let spoke = !held.is_empty() || counts && peer.is_some();
        if !held.is_empty() {
            conn.held = Some(Box::new(Held(held)));
        }
        self.conns.insert(conn);
        if spoke {
            self.to_read.push_back(link);
            self.work(now, 0);
        }
    }

    /// Begins to connect a server or cancel link.
    pub(crate) fn connect(&mut self, now: Tick, link: Link, node: Option<NodeAddress>) {
        match node {
            None => self.connect_failed(now, link, "the data source is no longer configured"),
            Some(NodeAddress::Unix { folder, port }) => {
                let path = Path::new(&folder).join(format!(".s.PGSQL.{port}"));
                match Socket::connect_unix(&path) {
                    Ok(socket) => self.watch(now, link, socket, Stage::Open),
                    Err(error) => self.connect_failed(now, link, &format!("{}: {error}", path.display())),
                }
            }
            Some(NodeAddress::Tcp { host, port }) => match host.parse::<IpAddr>() {
                Ok(address) => self.connect_any(now, link, &[SocketAddr::new(address, port)]),
                Err(_) => self.resolve(link, host, port),
            },
        }
    }

    /// A host name was looked up.
    pub(crate) fn resolved(&mut self, now: Tick, resolved: ResolvedHost) {
        match resolved.addresses {
            Ok(addresses) => self.connect_any(now, resolved.link, &addresses),
            Err(error) => self.connect_failed(now, resolved.link, &error.to_string()),
        }
    }

    /// The first address that does not fail at once.
    fn connect_any(&mut self, now: Tick, link: Link, addresses: &[SocketAddr]) {
        let mut why = "the host name has no address".to_owned();
        for address in addresses {
            match Socket::connect_tcp(*address) {
                Ok(socket) => return self.watch(now, link, socket, Stage::Connecting),
                Err(error) => why = format!("{address}: {error}"),
            }
        }
        self.connect_failed(now, link, &why);
    }

    fn watch(&mut self, now: Tick, link: Link, socket: Socket, stage: Stage) {
        let mut conn = Conn::new(link, socket, stage);
        match conn.socket.register(self.poll.registry(), token_of(link), conn.interest()) {
            Ok(()) => {
                self.conns.insert(conn);
                if stage == Stage::Open {
                    self.pooler.connected(now, link, &mut self.actions);
                }
            }
            Err(error) => self.connect_failed(now, link, &error.to_string()),
        }
    }

    fn connect_failed(&mut self, now: Tick, link: Link, why: &str) {
        self.pooler.closed(now, link, why, &mut self.actions);
    }

    fn resolve(&self, link: Link, host: String, port: u16) {
        let mailbox = self.mailboxes[self.index].clone();
        self.shared.runtime.spawn(async move {
            let addresses = tokio::net::lookup_host((host.as_str(), port)).await;
            let addresses = addresses
                .map(Iterator::collect)
                .map_err(|error| io::Error::other(format!("{host}: {error}")));
            // A full or closed mailbox leaves the link to its login time-out.
            let _ = mailbox.send(Command::Resolved(ResolvedHost { link, addresses }));
        });
    }

    /// A client leaves for the console or for another worker, with all it has sent so far.
    pub(crate) fn hand_over(&mut self, client: ClientId, to: Option<usize>) {
        // What it has been told so far must be on its way before somebody else answers it.
        self.send_queued();
        let Some(mut conn) = self.conns.remove(Link::Client(client)) else { return };
        let held = conn.held.take().map(|held| held.0).unwrap_or_default();
        let session = conn.session.take();
        let deregistered = conn.socket.deregister(self.poll.registry());
        let socket = conn.socket;
        let peer = socket.peer_address();
        // Of a connection that was reset no address is known any more: without one it would count as a client on a Unix
        // socket, and what it has sent so far would be carried out by the rules for those.
        let gone = matches!(socket, Socket::Tcp(_)) && peer.is_none();
        if deregistered.is_err() || gone {
            self.count_client_out();
            return;
        }
        match to {
            None => {
                self.count_client_out();
                // Without a control plane there is no console; the client sees its connection close.
                let _ = self.shared.consoles.send(ConsoleClient { socket, held, session });
            }
            Some(worker) => {
                let sent = self
                    .mailboxes
                    .get(worker)
                    .map(|mailbox| mailbox.send(Command::Adopt { socket, peer, held, session }));
                if !matches!(sent, Some(Ok(()))) {
                    self.count_client_out();
                }
            }
        }
    }
}
