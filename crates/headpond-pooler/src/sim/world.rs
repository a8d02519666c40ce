//! Virtual time, and the driver of the pooler in it: it keeps the contract of `Pooler`, `Action` and `Actions`
//! as a driver with real sockets does, and chooses at random wherever the contract leaves a choice.

mod driver;
mod nudge;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use crate::config::Secret;
use crate::{Actions, Link, Pooler};
use headpond_core::Tick;
use headpond_wire::postgres::scram::ClientKeys;

use crate::sim::cells;
use crate::sim::client::Client;
use crate::sim::dice::Dice;
use crate::sim::marked::{Marked, Origin, packet};
use crate::sim::net::{End, Pipe, Weather};
use crate::sim::peer::{Canceller, Io, MS, Poke, Shared, US};
use crate::sim::schedule;
use crate::sim::server::Backend;

#[derive(Debug)]
enum Peer {
    Client(Client),
    Backend(Backend),
    /// Brings a cancel request of a client; waits for the end.
    Canceller {
        of: Origin,
        packet: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Open,
    /// Half closed once all is sent.
    Finish,
    /// Gone once all is sent.
    Close,
}

#[derive(Debug)]
struct Conn {
    link: Option<Link>,
    /// From the peer to the pooler, and back.
    up: Pipe,
    down: Pipe,
    /// Sent by the pooler, not taken by the network yet.
    outbox: Marked,
    /// Handed over and not consumed.
    held: Marked,
    last: Last,
    /// The pooler has said that it will send no more.
    done: bool,
    hung_up: bool,
    peer: Peer,
    /// What the peer has read and not used, has yet to send, and how it ends after that.
    peer_input: Marked,
    peer_out: Marked,
    peer_end: Option<End>,
    peer_wakes: u64,
    /// Bytes the peer reads at a time, if it is slow.
    appetite: Option<usize>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Turn,
    /// Bytes arrive on a connection, or it is time for its peer.
    Network(usize),
    Wake(usize),
    Signal(usize),
    Connected(u64),
    Derived(u64),
    Client(usize),
    Canceller(u64),
    Operator,
    Thaw(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    readable: bool,
    writable: bool,
    hung_up: bool,
}

pub(crate) struct World {
    pub(crate) now: u64,
    dice: Dice,
    weather: Weather,
    pub(crate) pooler: Pooler,
    actions: Actions,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    conns: Vec<Conn>,
    links: HashMap<Link, usize>,
    pub(crate) shared: Shared,
    /// Clients that have yet to come.
    clients: Vec<Option<Client>>,
    connecting: HashMap<u64, Link>,
    deriving: HashMap<u64, (Link, Secret, ClientKeys)>,
    cancellers: HashMap<u64, Canceller>,
    ready: BTreeMap<usize, Ready>,
    turn_at: u64,
    again: Vec<Link>,
    to_read: VecDeque<Link>,
    sends: Vec<(usize, Marked)>,
    to_finish: Vec<Link>,
    to_close: Vec<Link>,
    turns_now: (u64, u32),
    suspended: bool,
    trace: bool,
}

impl World {
    pub(crate) fn new(dice: Dice, weather: Weather, pooler: Pooler, shared: Shared) -> Self {
        Self {
            now: MS,
            dice,
            weather,
            pooler,
            actions: Actions::default(),
            events: BinaryHeap::new(),
            number: 0,
            conns: Vec::new(),
            links: HashMap::new(),
            shared,
            clients: Vec::new(),
            connecting: HashMap::new(),
            deriving: HashMap::new(),
            cancellers: HashMap::new(),
            ready: BTreeMap::new(),
            turn_at: u64::MAX,
            again: Vec::new(),
            to_read: VecDeque::new(),
            sends: Vec::new(),
            to_finish: Vec::new(),
            to_close: Vec::new(),
            turns_now: (0, 0),
            suspended: false,
            trace: std::env::var_os("HEADPOND_TRACE").is_some(),
        }
    }

    pub(crate) fn start(&mut self) {
        self.pooler.start(Tick(self.now), &mut self.actions);
        self.work();
        self.flush();
        self.arm();
        if self.shared.faults.operator > 0 {
            let at = self.now + self.dice.below(200) * MS;
            self.at(at, Event::Operator);
        }
    }

    pub(crate) fn client_comes(&mut self, at: u64, client: Client) {
        self.clients.push(Some(client));
        self.at(at, Event::Client(self.clients.len() - 1));
    }

    /// Runs until `until`, or until `done`.
    pub(crate) fn run(&mut self, until: u64, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let Some(Reverse((at, _, _))) = self.events.peek() else { break };
            if *at > until {
                break;
            }
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            self.happen(event);
        }
        if !done(self) {
            self.now = self.now.max(until);
        }
    }

    pub(crate) fn clients_are_gone(&self) -> bool {
        self.clients.iter().all(Option::is_none)
            && self.conns.iter().all(|conn| match &conn.peer {
                Peer::Client(client) => client.is_gone(),
                Peer::Canceller { .. } => conn.link.is_none(),
                Peer::Backend(_) => true,
            })
    }

    pub(crate) fn stuck(&self) -> Vec<String> {
        let clients = self.conns.iter().enumerate().filter_map(|(number, conn)| match &conn.peer {
            Peer::Client(client) => Some(format!("client {}: {}", number + 1, client.stuck()?)),
            _ => None,
        });
        clients.collect()
    }

    /// Connections to the server that are still open at the server's side.
    pub(crate) fn backends(&self) -> usize {
        self.conns
            .iter()
            .filter(|conn| matches!(conn.peer, Peer::Backend(_)) && conn.peer_end.is_none())
            .count()
    }

    /// The processes that serve, by the numbers of their connections: those of pools, or control connections.
    pub(crate) fn serving(&self, control: bool) -> Vec<usize> {
        let serves =
            |conn: &Conn| matches!(&conn.peer, Peer::Backend(backend) if backend.is_serving(control));
        (0..self.conns.len()).filter(|number| serves(&self.conns[*number])).collect()
    }

    /// An administrator ends a process.
    pub(crate) fn terminate(&mut self, number: usize) {
        self.shared.terminated.insert(number);
        self.with_peer(number, None);
    }

    pub(crate) fn suspend(&mut self) {
        self.pooler.suspend(Tick(self.now), None, &mut self.actions);
        self.work();
        self.flush();
        self.arm();
    }

    pub(crate) fn drain(&mut self) {
        self.shared.draining = true;
        let found =
            cells::clients(&self.pooler, "drain").into_iter().chain(cells::servers(&self.pooler, "drain"));
        for cell in found.collect::<Vec<_>>() {
            self.reaches(cell);
        }
        self.pooler.drain(Tick(self.now), &mut self.actions);
        self.work();
        self.flush();
        self.arm();
    }

    fn servers_meet(&mut self, event: &'static str) {
        for cell in cells::servers(&self.pooler, event) {
            self.reaches(cell);
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at.max(self.now), self.number, event)));
    }

    fn fresh(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn if self.turn_at == self.now => self.turn(),
            Event::Turn => {}
            Event::Network(number) => self.arrive(number),
            Event::Wake(number) => {
                if self.conns[number].peer_wakes == self.now {
                    self.conns[number].peer_wakes = u64::MAX;
                    self.peer_reads(number);
                }
            }
            Event::Signal(number) => self.with_peer(number, Some(Poke::Signal)),
            Event::Connected(number) => self.connect_decided(number),
            Event::Derived(number) => {
                if let Some((link, password, keys)) = self.deriving.remove(&number) {
                    self.meets(link, "derived");
                    self.pooler.keys_derived(Tick(self.now), link, &password, &keys, &mut self.actions);
                    self.work();
                    self.flush();
                    self.arm();
                }
            }
            Event::Client(index) => {
                if let Some(client) = self.clients[index].take() {
                    self.visit(Peer::Client(client));
                }
            }
            Event::Canceller(number) => {
                if let Some(Canceller { of, process, key, .. }) = self.cancellers.remove(&number) {
                    *self.shared.cancelling.entry(of).or_default() += 1;
                    let body = [&process.to_be_bytes()[..], &key].concat();
                    self.visit(Peer::Canceller { of, packet: packet(80_877_102, &body) });
                }
            }
            Event::Operator => self.operate(),
            Event::Thaw(number) => self.thaw(number),
        }
    }

    fn operate(&mut self) {
        self.command();
        if self.suspended || self.shared.in_recovery || !self.clients_are_gone() {
            let later = self.now + self.dice.skewed(200 * MS);
            self.at(later, Event::Operator);
        }
    }

    /// What the operator or the server's administrator does.
    fn command(&mut self) {
        let now = Tick(self.now);
        if self.suspended {
            self.servers_meet("resume");
            self.pooler.resume(now, None, &mut self.actions);
            self.suspended = false;
        } else if std::mem::take(&mut self.shared.in_recovery) {
            self.shared.count("promoted");
        } else {
            match self.dice.below(6) {
                3 => {
                    self.shared.count("demoted");
                    self.shared.in_recovery = true;
                }
                0 => {
                    self.suspended = true;
                    self.servers_meet("suspend");
                    self.pooler.suspend(now, None, &mut self.actions);
                }
                1 => {
                    self.servers_meet("renew");
                    self.pooler.renew(now, None, &mut self.actions);
                }
                4 => {
                    self.servers_meet("reload");
                    self.reload();
                }
                2 if !self.shared.killed && self.dice.below(30) == 0 => {
                    (self.suspended, self.shared.killed) = (true, true);
                    self.pooler.kill(now, None, &mut self.actions);
                }
                _ => self.pooler.reset_marks(),
            }
        }
        self.work();
        self.flush();
        self.arm();
    }

    /// New sizes for every pool.
    fn reload(&mut self) {
        let mut config = self.pooler.config.as_ref().clone();
        for source in &mut config.data_sources {
            schedule::draw_sizes(&mut source.pool, &mut self.dice);
            let limit = self.shared.session_limits.entry(source.name.clone()).or_default();
            *limit = (*limit).max(source.pool.max_size);
        }
        self.pooler.reload(Tick(self.now), Arc::new(config), &mut self.actions);
    }

    /// Somebody connects to the pooler.
    fn visit(&mut self, peer: Peer) {
        let id = self.pooler.accepted(Tick(self.now), None, false);
        let number = self.connect(Link::Client(id), peer);
        self.arm();
        self.with_peer(number, None);
    }

    fn connect(&mut self, link: Link, peer: Peer) -> usize {
        let slow = matches!(&peer, Peer::Client(client) if client.sluggish);
        self.conns.push(Conn {
            link: Some(link),
            up: Pipe::new(&self.weather, &mut self.dice),
            down: Pipe::new(&self.weather, &mut self.dice),
            outbox: Marked::default(),
            held: Marked::default(),
            last: Last::Open,
            done: false,
            hung_up: false,
            peer,
            peer_input: Marked::default(),
            peer_out: Marked::default(),
            peer_end: None,
            peer_wakes: u64::MAX,
            appetite: slow.then(|| self.dice.between(20, 2_000) as usize),
        });
        self.links.insert(link, self.conns.len() - 1);
        self.conns.len() - 1
    }

    fn connect_decided(&mut self, number: u64) {
        let Some(link) = self.connecting.remove(&number) else { return };
        let fails = self.dice.chance(self.shared.faults.connects);
        let now = Tick(self.now);
        if fails {
            self.shared.count("connect fails");
            self.shared.deaths += 1;
            self.meets(link, "refused");
            self.pooler.closed(now, link, "connection refused", &mut self.actions);
        } else {
            let backend = self.connect(link, Peer::Backend(Backend::new()));
            self.meets(link, "connected");
            self.pooler.connected(now, link, &mut self.actions);
            self.work();
            self.with_peer(backend, None);
        }
        self.work();
        self.flush();
        self.arm();
    }

    /// What is due on a connection arrives, in both directions.
    fn arrive(&mut self, number: usize) {
        let conn = &mut self.conns[number];
        let arrived = conn.up.arrive(self.now);
        if arrived && conn.link.is_none() {
            // The socket is closed: nobody will read this, and whoever waits for room is not kept.
            conn.up.arrived.clear();
            self.with_peer(number, None);
        } else if arrived {
            let ready = self.ready.entry(number).or_default();
            ready.readable = true;
            ready.hung_up |= conn.up.ended.is_some();
            self.turn_soon();
        }
        if self.conns[number].down.arrive(self.now) {
            self.peer_reads(number);
        }
    }

    fn turn_soon(&mut self) {
        let at = self.now + self.dice.skewed(100 * US);
        self.turn_by(at);
    }

    fn turn_by(&mut self, at: u64) {
        let at = at.max(self.now);
        if at < self.turn_at {
            self.turn_at = at;
            self.at(at, Event::Turn);
        }
    }

    /// The peer reads what it can take, acts, and sends.
    fn peer_reads(&mut self, number: usize) {
        let conn = &mut self.conns[number];
        let had = conn.down.arrived.len();
        let takes = conn.appetite.map_or(usize::MAX, |most| most.max(had / 20));
        let bytes = conn.down.arrived.take(takes);
        let read = !bytes.is_empty();
        conn.peer_input.append(&bytes);
        if had > takes {
            let later = self.now + self.dice.skewed(20 * MS) + 1;
            self.wake(number, later);
        }
        if read {
            self.writable(number);
        }
        self.with_peer(number, None);
    }

    /// The network has room for more of what the pooler sends.
    fn writable(&mut self, number: usize) {
        let conn = &self.conns[number];
        if conn.outbox.is_empty() {
            return;
        }
        if conn.link.is_some() {
            self.ready.entry(number).or_default().writable = true;
            self.turn_soon();
        } else {
            self.pump_down(number);
        }
    }

    fn wake(&mut self, number: usize, at: u64) {
        let at = at.max(self.now);
        if at < self.conns[number].peer_wakes {
            self.conns[number].peer_wakes = at;
            self.at(at, Event::Wake(number));
        }
    }

    fn with_peer(&mut self, number: usize, poke: Option<Poke>) {
        let conn = &mut self.conns[number];
        if conn.peer_end.is_some() {
            return;
        }
        let mut wake = None;
        let mut io = Io {
            now: self.now,
            conn: number,
            input: &mut conn.peer_input,
            ended: conn.down.ended.filter(|end| *end == End::Reset || conn.down.arrived.is_empty()),
            out: &mut conn.peer_out,
            end: &mut conn.peer_end,
            wake: &mut wake,
            dice: &mut self.dice,
            shared: &mut self.shared,
            traces: self.trace,
        };
        match &mut conn.peer {
            Peer::Client(client) => {
                if let Some(poke) = poke {
                    client.poked(poke, &mut io);
                }
                client.act(&mut io);
            }
            Peer::Backend(backend) => {
                if let Some(poke) = poke {
                    backend.poked(poke, &mut io);
                }
                backend.act(&mut io);
            }
            Peer::Canceller { packet, .. } => {
                io.out.push(number as u16 + 1, &std::mem::take(packet));
                assert!(io.input.is_empty() || io.shared.draining, "a cancel request was answered");
                if io.ended.is_some() {
                    *io.end = Some(End::Orderly);
                }
            }
        }
        if let Some(at) = wake {
            self.wake(number, at);
        }
        for (at, target) in std::mem::take(&mut self.shared.signals) {
            self.at(at, Event::Signal(target));
        }
        for canceller in std::mem::take(&mut self.shared.cancellers) {
            let number = self.fresh();
            self.at(canceller.at, Event::Canceller(number));
            self.cancellers.insert(number, canceller);
        }
        self.pump_up(number);
    }

    /// What the peer says goes on its way.
    fn pump_up(&mut self, number: usize) {
        let conn = &mut self.conns[number];
        if conn.peer_end == Some(End::Reset) {
            conn.peer_out.clear();
            conn.up.reset();
            conn.down.reset();
            if conn.link.is_some() {
                *self.ready.entry(number).or_default() =
                    Ready { readable: true, writable: true, hung_up: true };
                self.turn_soon();
            }
            return;
        }
        let mut arrivals = conn.up.send(self.now, &mut conn.peer_out, &self.weather, &mut self.dice);
        if conn.peer_out.is_empty() && conn.peer_end.is_some() {
            arrivals.extend(conn.up.finish(self.now, &self.weather, &mut self.dice));
            // A closed socket takes no more: what is sent to it breaks the connection.
            conn.down.arrived.clear();
        }
        for at in arrivals {
            self.at(at, Event::Network(number));
        }
    }

    /// What the pooler sent goes on its way. Whether all has gone.
    fn pump_down(&mut self, number: usize) -> bool {
        let conn = &mut self.conns[number];
        let mut arrivals = conn.down.send(self.now, &mut conn.outbox, &self.weather, &mut self.dice);
        let empty = conn.outbox.is_empty();
        if empty && conn.last != Last::Open {
            arrivals.extend(conn.down.finish(self.now, &self.weather, &mut self.dice));
        }
        for at in arrivals {
            self.at(at, Event::Network(number));
        }
        empty
    }
}
