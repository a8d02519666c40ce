//! The pooler machine with a driver that keeps to its contract, and what must hold after every step.
//!
//! Peers are played by whoever holds the stage: they say bytes, leave or break. Time passes when it is told to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headpond_core::{State, Tick};
use headpond_pooler::config::{PoolerConfig, Secret};
use headpond_pooler::{Action, Actions, Link, NoTls, Pooler, Report, Tls};
use headpond_wire::postgres::scram::ClientKeys;

use crate::backend::Backend;
use crate::framing::{Begins, Framing};

/// Reads that one step may lead to.
const READS_MAX: usize = 10_000;

/// More iterations of a key derivation are not worth the wait: the keys are wrong then.
const ITERATIONS_MAX: u32 = 10;

/// The packet that asks for TLS.
pub(crate) const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// The message Terminate.
const GOODBYE: &[u8] = b"X\0\0\0\x04";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Open,
    Finish,
}

/// One socket, with what its peer has said and was told.
#[derive(Debug)]
struct Wire {
    link: Link,
    connected: bool,
    /// It is away for a TLS handshake.
    shakes: bool,
    /// Said by the peer and not read.
    arrived: Vec<u8>,
    /// Handed over and not consumed.
    held: Vec<u8>,
    /// The peer says no more.
    ended: bool,
    last: Last,
    blocked: bool,
    /// Sent to the peer, and not taken by it yet.
    sent: Vec<u8>,
    framing: Framing,
    turnover: Turnover,
}

/// What is known of a server connection from its bytes alone: who used it, and what is unanswered.
#[derive(Debug)]
struct Turnover {
    heard: Framing,
    client: Option<Link>,
    /// Queries and function calls, of clients and of the pooler up to the last message of a client.
    asked: u32,
    errands: u32,
    ready: u32,
    /// An error or COPY was heard: requests may have been skipped.
    unsure: bool,
}

impl Wire {
    fn new(link: Link) -> Self {
        let begins = if matches!(link, Link::Client(_)) { Begins::Refusals } else { Begins::Packet };
        Self {
            link,
            connected: matches!(link, Link::Client(_)),
            shakes: false,
            arrived: Vec::new(),
            held: Vec::new(),
            ended: false,
            last: Last::Open,
            blocked: false,
            sent: Vec::new(),
            framing: Framing::new(begins),
            turnover: Turnover {
                heard: Framing::new(Begins::Messages),
                client: None,
                asked: 0,
                errands: 0,
                ready: 0,
                unsure: false,
            },
        }
    }
}

impl Wire {
    /// Its peer can say something.
    fn speaks(&self) -> bool {
        self.connected && !self.shakes && !self.ended
    }
}

impl Turnover {
    /// Bytes go between this server connection and a client: another one only when all is answered.
    fn used_by(&mut self, client: Link) {
        if self.client.replace(client) != Some(client) {
            let answered = self.unsure || self.asked <= self.ready;
            assert!(answered, "{client:?} gets a connection with a request unanswered: {self:?}");
            // What an error made the server skip is not awaited from the next either.
            self.asked = self.asked.min(self.ready);
            self.unsure = false;
        }
        self.asked += std::mem::take(&mut self.errands);
    }
}

/// The machine, its sockets, and servers that answer when asked to ([`Stage::serve`]).
#[derive(Debug)]
pub struct Stage {
    pooler: Pooler,
    actions: Actions,
    now: Tick,
    wires: Vec<Wire>,
    backends: HashMap<Link, Backend>,
    to_read: VecDeque<Link>,
    deriving: Vec<(Link, Secret, Vec<u8>, u32)>,
    /// Clients that were said to have broken the protocol.
    pub misbehaved: u32,
    /// Replies that were said to match no request.
    pub mismatches: u32,
}

impl Stage {
    /// A machine of its own, at the beginning of time.
    #[must_use]
    pub fn new(config: PoolerConfig) -> Self {
        let mut pooler = Pooler::new(config.into(), 0, 1, [7; 32]);
        let mut actions = Actions::default();
        pooler.start(Tick(0), &mut actions);
        let mut stage = Self {
            pooler,
            actions,
            now: Tick(0),
            wires: Vec::new(),
            backends: HashMap::new(),
            to_read: VecDeque::new(),
            deriving: Vec::new(),
            misbehaved: 0,
            mismatches: 0,
        };
        stage.work();
        stage
    }

    /// A client connects.
    pub fn comes(&mut self) -> Link {
        let link = Link::Client(self.pooler.accepted(self.now, None, false));
        self.wires.push(Wire::new(link));
        link
    }

    /// Links that the machine has not closed, in the order in which they came to be.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.wires.iter().map(|wire| wire.link).collect()
    }

    /// Links to servers and of cancel requests, in the order in which they were asked for.
    #[must_use]
    pub fn servers(&self) -> Vec<Link> {
        self.links().into_iter().filter(|link| matches!(link, Link::Server(_))).collect()
    }

    /// The server connection that a client used last.
    #[must_use]
    pub fn server_of(&self, client: Link) -> Option<Link> {
        let used = |wire: &&Wire| wire.turnover.client == Some(client);
        self.wires.iter().rfind(used).map(|wire| wire.link)
    }

    /// Whether the machine has closed a link.
    #[must_use]
    pub fn is_closed(&self, link: Link) -> bool {
        !self.wires.iter().any(|wire| wire.link == link)
    }

    /// Whether the machine has said its last word to a link.
    #[must_use]
    pub fn is_over(&self, link: Link) -> bool {
        !self.wires.iter().any(|wire| wire.link == link && wire.last == Last::Open)
    }

    /// The peer of a link says something.
    pub fn says(&mut self, link: Link, bytes: &[u8]) {
        let Some(wire) = self.wire(link).filter(|wire| wire.speaks()) else { return };
        wire.arrived.extend_from_slice(bytes);
        self.pooler.readable(self.now, link, &mut self.actions);
        self.work();
    }

    /// The peer of a link says no more, but what it said stands.
    pub fn leaves(&mut self, link: Link) {
        let Some(wire) = self.wire(link).filter(|wire| wire.speaks()) else { return self.breaks_off(link) };
        wire.ended = true;
        match link {
            Link::Client(id) => self.pooler.hung_up(self.now, id, &mut self.actions),
            _ => self.pooler.readable(self.now, link, &mut self.actions),
        }
        self.work();
    }

    /// A link breaks, or could not be connected.
    pub fn breaks(&mut self, link: Link) {
        if self.wire(link).is_some_and(|wire| wire.shakes) {
            self.breaks_off(link);
        } else if self.wire(link).is_some() {
            self.pooler.closed(self.now, link, "it broke", &mut self.actions);
            self.work();
        }
    }

    /// A handshake fails.
    fn breaks_off(&mut self, link: Link) {
        if self.wire(link).is_some_and(|wire| wire.shakes) {
            let why = NoTls::Network("it broke".to_owned());
            self.pooler.handshake_failed(self.now, link, why, &mut self.actions);
            self.work();
        }
    }

    /// A connect that was asked for succeeds.
    pub fn connects(&mut self, link: Link) {
        let Some(wire) = self.wire(link).filter(|wire| !wire.connected) else { return };
        wire.connected = true;
        self.pooler.connected(self.now, link, &mut self.actions);
        self.work();
    }

    /// A link takes no more, or takes bytes again.
    pub fn blocks(&mut self, link: Link) {
        let Some(wire) = self.wire(link).filter(|wire| !wire.shakes) else { return };
        wire.blocked = !wire.blocked;
        if wire.blocked {
            self.pooler.blocked(link);
        } else {
            self.pooler.unblocked(self.now, link, &mut self.actions);
            self.work();
        }
    }

    /// Time passes, and whatever is due in it is done.
    pub fn passes(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while let Some(due) = self.pooler.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.pooler.on_timer(self.now, &mut self.actions);
            self.work();
            let next = self.pooler.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "what was due is still due");
        }
        self.now = until;
    }

    /// All keys that are being derived are there.
    pub fn derives(&mut self) {
        for (link, password, salt, iterations) in std::mem::take(&mut self.deriving) {
            let keys = ClientKeys::derive(&password.0, &salt, iterations.clamp(1, ITERATIONS_MAX));
            self.pooler.keys_derived(self.now, link, &password, &keys, &mut self.actions);
            self.work();
        }
    }

    /// Something that an operator does.
    pub fn operates(&mut self, act: impl FnOnce(&mut Pooler, Tick, &mut Actions)) {
        act(&mut self.pooler, self.now, &mut self.actions);
        self.work();
    }

    /// What was sent to a link since this was last asked.
    pub fn takes(&mut self, link: Link) -> Vec<u8> {
        self.wire(link).map(|wire| std::mem::take(&mut wire.sent)).unwrap_or_default()
    }

    /// What was sent to a link since it last took something.
    #[must_use]
    pub fn peek(&self, link: Link) -> &[u8] {
        self.wires.iter().find(|wire| wire.link == link).map_or(&[], |wire| &wire.sent)
    }

    /// Every server that is not `silent` does what it is asked, until there is nothing left to do.
    pub fn serve(&mut self, silent: &[Link]) {
        for _ in 0..READS_MAX {
            self.derives();
            let mut idle = true;
            let servers = self.links().into_iter().filter(|link| !matches!(link, Link::Client(_)));
            for link in servers.filter(|link| !silent.contains(link)).collect::<Vec<_>>() {
                idle &= !self.serve_one(link);
            }
            if idle {
                return;
            }
        }
        panic!("servers and the pooler talk without end");
    }

    /// One server does what it is asked. Whether there was anything.
    fn serve_one(&mut self, link: Link) -> bool {
        let Some(wire) = self.wire(link) else { return false };
        if wire.ended {
            return false;
        }
        if !wire.connected {
            self.connects(link);
            return true;
        }
        if wire.shakes {
            self.shakes(link);
            return true;
        }
        let (sent, last) = (std::mem::take(&mut wire.sent), wire.last);
        if sent == SSL_REQUEST {
            self.says(link, b"S");
            return true;
        }
        if matches!(link, Link::Cancel(_)) {
            self.leaves(link);
            return true;
        }
        let backend = self.backends.entry(link).or_default();
        let answer = backend.hears(&sent);
        let leaves = backend.has_left() || last != Last::Open;
        if !answer.is_empty() {
            self.says(link, &answer);
        }
        if leaves {
            self.leaves(link);
        }
        leaves || !answer.is_empty()
    }

    /// Whether nothing is left in the machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pooler.is_empty()
    }

    fn wire(&mut self, link: Link) -> Option<&mut Wire> {
        self.wires.iter_mut().find(|wire| wire.link == link)
    }

    /// Carries out what the machine asks, and all that follows from it.
    fn work(&mut self) {
        self.carry_out(None, &[]);
        let mut reads = 0;
        while let Some(link) = self.to_read.pop_front() {
            reads += 1;
            assert!(reads < READS_MAX, "the driver spins");
            self.reads(link);
        }
        self.check();
    }

    /// A link goes away for its handshake, with all that was left of it.
    fn goes(&mut self, link: Link) {
        assert!(self.pooler.awaits_handshake(link), "{link:?} goes away unasked");
        let wire = self.wire(link).expect("a link that is open goes away");
        assert!(wire.connected && !wire.shakes);
        wire.shakes = true;
        wire.held.clear();
        wire.arrived.clear();
    }

    /// A handshake succeeds.
    pub fn shakes(&mut self, link: Link) {
        let Some(wire) = self.wire(link).filter(|wire| wire.shakes) else { return };
        wire.shakes = false;
        let tls = Tls {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            agreed: true,
            end_point: Some([7; 32].into()),
            common_name: None,
        };
        self.pooler.handshaken(self.now, link, &Arc::new(tls), &mut self.actions);
        self.work();
    }

    /// Reads a link once, and hands over what there is.
    fn reads(&mut self, link: Link) {
        let Some(wire) = self.wire(link).filter(|wire| wire.connected) else { return };
        assert!(!wire.shakes, "{link:?} is read in its handshake");
        if wire.arrived.is_empty() && wire.ended {
            self.pooler.closed(self.now, link, "the peer closed the connection", &mut self.actions);
            return self.carry_out(None, &[]);
        }
        let again = wire.ended && !wire.arrived.is_empty();
        let mut bytes = std::mem::take(&mut wire.held);
        bytes.append(&mut wire.arrived);
        let consumed = self.pooler.received(self.now, link, &bytes, &mut self.actions);
        assert!(consumed <= bytes.len(), "{consumed} of {} bytes consumed", bytes.len());
        if let Some(wire) = self.wire(link) {
            wire.held = bytes[consumed..].to_vec();
            let Turnover { heard, ready, unsure, .. } = &mut wire.turnover;
            heard.read(&bytes[..consumed], |tag| match tag {
                b'Z' => *ready += 1,
                b'E' | b'G' | b'W' => *unsure = true,
                _ => {}
            });
        }
        self.carry_out(Some(link), &bytes);
        if again {
            self.pooler.readable(self.now, link, &mut self.actions);
            self.carry_out(None, &[]);
        }
    }

    fn carry_out(&mut self, from: Option<Link>, event: &[u8]) {
        let list = std::mem::take(&mut self.actions.list);
        let injected = std::mem::take(&mut self.actions.injected);
        for action in list {
            match action {
                Action::Read(link) => self.to_read.push_back(link),
                Action::Forward { to, from: start, len } => {
                    let from = from.expect("bytes are forwarded while they are handed over");
                    self.forward(from, to, &event[start as usize..][..len as usize]);
                }
                Action::Send { to, from, len } => self.send(to, &injected[from as usize..][..len as usize]),
                Action::Connect { link, .. } => self.wires.push(Wire::new(link)),
                Action::Finish(link) => self.wire(link).into_iter().for_each(|wire| wire.last = Last::Finish),
                Action::Close(link) => self.forget(link),
                Action::AcceptTls(client) => self.goes(Link::Client(client)),
                Action::StartTls { link, .. } => self.goes(link),
                Action::HandOver(client) | Action::Move { client, .. } => self.forget(Link::Client(client)),
                Action::DeriveKeys { link, password, salt, iterations } => {
                    self.deriving.push((link, password, salt, iterations));
                }
                Action::Report(Report::ClientMisbehaved { .. }) => self.misbehaved += 1,
                Action::Report(Report::ReplyMismatch { .. }) => self.mismatches += 1,
                Action::Report(report) => drop(report.to_string()),
            }
        }
    }

    fn forget(&mut self, link: Link) {
        self.wires.retain(|wire| wire.link != link);
        self.backends.remove(&link);
    }

    /// What one peer said goes to another: between a client and a server, and whose turn it is.
    fn forward(&mut self, from: Link, to: Link, bytes: &[u8]) {
        let (server, client) = match (from, to) {
            (Link::Client(_), Link::Server(_)) => (to, from),
            (Link::Server(_), Link::Client(_)) => (from, to),
            _ => panic!("bytes of {from:?} go to {to:?}"),
        };
        let wire = self.wire(server).expect("a link that is open");
        wire.turnover.used_by(client);
        let wire = self.wire(to).expect("bytes go to a link that is open");
        assert_eq!(wire.last, Last::Open, "bytes go to {to:?} behind the last word");
        let asked = &mut wire.turnover.asked;
        wire.framing.read(bytes, |tag| *asked += u32::from(b"QF".contains(&tag)));
        wire.sent.extend_from_slice(bytes);
    }

    /// The machine's own words go between messages, never into one; but for goodbye, behind which nothing comes.
    fn send(&mut self, to: Link, bytes: &[u8]) {
        let wire = self.wire(to).expect("words go to a link that is open");
        assert_eq!(wire.last, Last::Open, "words go to {to:?} behind the last one");
        if bytes == GOODBYE || bytes == SSL_REQUEST {
            wire.sent.extend_from_slice(bytes);
            return;
        }
        assert!(wire.framing.is_whole(), "{bytes:?} go to {to:?} inside a message");
        if wire.framing.is_new() {
            // What was heard so far said whether there is TLS.
            wire.turnover.heard = Framing::new(Begins::Messages);
        }
        let errands = &mut wire.turnover.errands;
        wire.framing.read(bytes, |tag| *errands += u32::from(tag == b'Q'));
        assert!(wire.framing.is_whole(), "{bytes:?} are no whole message");
        wire.sent.extend_from_slice(bytes);
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let snapshot = self.pooler.snapshot(self.now, true);
        for row in &snapshot.pools {
            let figures = &row.pool;
            let closed: u64 = figures.counts.closed.iter().sum();
            let alive = figures.open() - figures.count(State::Closing);
            assert_eq!(figures.counts.opened - closed, u64::from(alive), "opened − closed = open");
            assert!(figures.open() <= figures.settings.max_size, "{} open", figures.open());
            assert!(row.clients_active <= figures.count(State::InUse), "{} active", row.clients_active);
        }
        let open: u32 = snapshot.pools.iter().map(|row| row.pool.open()).sum();
        assert_eq!(open as usize, snapshot.servers.len(), "each connection of the policy is one to a server");
        for client in &snapshot.clients {
            let Some(server) = client.server else { continue };
            let server = snapshot.servers.iter().find(|row| row.id == server);
            assert!(
                server.is_some_and(|row| row.client == Some(client.id) && row.state == State::InUse),
                "{client:?} holds {server:?}"
            );
        }
        assert_eq!(snapshot.clients_logged_in as usize, snapshot.clients.len());
    }
}
