//! The driver itself: turns of a loop, as with real sockets.

use crate::figures::Pins;
use crate::{Action, Link, Report};
use headpond_core::{State, Tick};
use headpond_wire::postgres::frame::WHOLE_MAX;
use headpond_wire::postgres::scram::ClientKeys;

use super::{Event, Last, Peer, Ready, World};
use crate::sim::cells::{self, Cell};
use crate::sim::marked::{ANYONE, Marked, Origin, POOLER};
use crate::sim::net::End;
use crate::sim::peer::{MS, US};

/// More than what is read in the one turn in which a link turns out to be blocked.
const OUTBOX_MAX: usize = 120_000;

/// The most that the machine may leave with the driver: a message that is not all there, and what was read with it.
const HELD_MAX: usize = WHOLE_MAX + 16_384;

impl World {
    /// One turn of the driver's loop.
    pub(super) fn turn(&mut self) {
        self.turn_at = u64::MAX;
        let (at, turns) = self.turns_now;
        self.turns_now = if at == self.now { (at, turns + 1) } else { (self.now, 0) };
        assert!(self.turns_now.1 < 10_000, "the driver spins");
        let now = Tick(self.now);
        for link in std::mem::take(&mut self.again) {
            if let Some(number) = self.links.get(&link)
                && self.conns[*number].up.arrived.is_empty()
            {
                self.shared.spurious.insert(*number);
            }
            self.meets(link, "readable");
            self.pooler.readable(now, link, &mut self.actions);
            self.work();
        }
        let mut ready: Vec<_> = std::mem::take(&mut self.ready).into_iter().collect();
        for place in (1..ready.len()).rev() {
            ready.swap(place, self.dice.below(place as u64 + 1) as usize);
        }
        for (number, ready) in ready {
            self.became_ready(number, ready);
        }
        if self.pooler.next_deadline().is_some_and(|deadline| deadline <= now) {
            for cell in cells::overdue(&self.pooler, now) {
                self.reaches(cell);
            }
            self.pooler.on_timer(now, &mut self.actions);
            self.work();
            assert!(
                self.pooler.next_deadline().is_none_or(|deadline| deadline > now),
                "what was due is still due after on_timer"
            );
        }
        self.flush();
        self.check();
        self.nudge();
        self.arm();
    }

    /// The next turn comes by itself when a timer is due, or when something was left to be read.
    pub(super) fn arm(&mut self) {
        if !self.again.is_empty() {
            self.turn_by(self.now);
        }
        if let Some(deadline) = self.pooler.next_deadline() {
            let at = deadline.0 + self.dice.skewed(MS);
            if at < self.turn_at {
                self.turn_by(at);
            }
        }
    }

    fn became_ready(&mut self, number: usize, ready: Ready) {
        let now = Tick(self.now);
        if ready.writable
            && !self.conns[number].outbox.is_empty()
            && self.pump_down(number)
            && let Some(link) = self.conns[number].link
        {
            self.meets(link, "unblocked");
            self.pooler.unblocked(now, link, &mut self.actions);
            self.work();
        }
        let conn = &mut self.conns[number];
        conn.hung_up |= ready.hung_up;
        if conn.up.arrived.is_empty() {
            self.shared.spurious.insert(number);
        }
        let Some(link) = conn.link else { return };
        match link {
            Link::Client(id) if ready.hung_up => {
                self.meets(link, "hung up");
                self.pooler.hung_up(now, id, &mut self.actions);
            }
            _ if ready.readable || ready.hung_up => {
                self.meets(link, "readable");
                self.pooler.readable(now, link, &mut self.actions);
            }
            _ => {}
        }
        self.work();
    }

    /// Carries out what the machine asks, and all that follows from it.
    pub(super) fn work(&mut self) {
        self.carry_out(&Marked::default());
        while let Some(link) = self.to_read.pop_front() {
            self.read(link);
        }
    }

    fn carry_out(&mut self, event: &Marked) {
        for action in std::mem::take(&mut self.actions.list) {
            if self.trace {
                eprintln!("{:>12} {action:?}", self.now / US);
            }
            self.act(action, event);
        }
        self.actions.clear();
    }

    fn act(&mut self, action: Action, event: &Marked) {
        match action {
            Action::Read(link) => self.to_read.push_back(link),
            Action::Forward { to, from, len } => {
                self.queue(to, event.range(from as usize, len as usize));
            }
            Action::Send { to, from, len } => {
                let mut bytes = Marked::default();
                let origin = if matches!(to, Link::Client(_)) { ANYONE } else { POOLER };
                bytes.push(origin, &self.actions.injected[from as usize..(from + len) as usize]);
                self.queue(to, bytes);
            }
            Action::Connect { link, .. } => {
                let number = self.fresh();
                self.connecting.insert(number, link);
                let at = self.now + self.dice.skewed(20 * MS);
                self.at(at, Event::Connected(number));
            }
            Action::Finish(link) => {
                self.nothing_follows(link);
                self.to_finish.push(link);
            }
            Action::Close(link) => {
                self.nothing_follows(link);
                if let (Link::Client(_), Some(number)) = (link, self.links.get(&link)) {
                    self.shared.gone.insert(*number as Origin + 1);
                }
                self.to_close.push(link);
            }
            Action::DeriveKeys { link, password, salt, iterations } => {
                let number = self.fresh();
                let keys = ClientKeys::derive(&password.0, &salt, iterations);
                self.deriving.insert(number, (link, password, keys));
                let at = self.now + self.dice.skewed(10 * MS);
                self.at(at, Event::Derived(number));
            }
            Action::Report(report) => self.reported(&report),
            Action::HandOver(client) | Action::Move { client, .. } => panic!("{client:?} has nowhere to go"),
            Action::AcceptTls(_) | Action::StartTls { .. } => panic!("there is no TLS here"),
        }
    }

    /// Notes in which states an event finds the machine.
    pub(super) fn meets(&mut self, link: Link, event: &'static str) {
        let event = match (link, event) {
            (Link::Client(_), "readable") => "client readable",
            (Link::Client(_), "received") => "client received",
            (Link::Client(_), "closed") => "client closed",
            (Link::Client(_), "hung up") => "client hung up",
            (Link::Client(_), "blocked") => "client blocked",
            (Link::Client(_), "unblocked") => "client unblocked",
            (Link::Client(_), "derived") => "client derived",
            (Link::Server(_), "readable") => "server readable",
            (Link::Server(_), "received") => "server received",
            (Link::Server(_), "closed") => "server closed",
            (Link::Server(_), "blocked") => "server blocked",
            (Link::Server(_), "unblocked") => "server unblocked",
            (Link::Server(_), "connected") => "server connected",
            (Link::Server(_), "refused") => "server refused",
            (Link::Server(_), "derived") => "server derived",
            (Link::Cancel(_), "connected") => "cancel connected",
            (Link::Cancel(_), "refused") => "cancel refused",
            (Link::Cancel(_), "closed") => "cancel closed",
            (Link::Cancel(_), _) => return,
            other => panic!("{other:?}"),
        };
        if let Some(cell) = cells::of(&self.pooler, link, event) {
            self.reaches(cell);
        }
    }

    pub(super) fn reaches(&mut self, cell: Cell) {
        *self.shared.cells.entry(cell).or_default() += 1;
    }

    fn nothing_follows(&mut self, link: Link) {
        if let Some(number) = self.links.get(&link) {
            self.conns[*number].done = true;
        }
    }

    fn reported(&mut self, report: &Report) {
        match report {
            Report::ReplyMismatch { .. } | Report::ClientMisbehaved { .. } => panic!("{report}"),
            // It may be taken back.
            Report::Leak { ended: false, .. } => self.shared.deaths += 1,
            Report::CloseUnconfirmed { .. } => {
                self.shared.count("close unconfirmed");
                self.shared.unconfirmed += 1;
            }
            _ => {}
        }
    }

    fn queue(&mut self, to: Link, bytes: Marked) {
        if let Some(number) = self.links.get(&to).copied() {
            assert!(!self.conns[number].done, "something is sent behind the last word to {to:?}");
            self.sends.push((number, bytes));
        }
        // A driver may send early.
        if self.dice.chance(10) {
            self.send_queued();
        }
    }

    fn send_queued(&mut self) {
        for (number, bytes) in std::mem::take(&mut self.sends) {
            if let Peer::Client(_) = self.conns[number].peer {
                assert!(
                    !bytes.origins.contains(&POOLER),
                    "the pooler's own answer goes to client {}",
                    number + 1
                );
            }
            let was_blocked = !self.conns[number].outbox.is_empty();
            self.conns[number].outbox.append(&bytes);
            let queued = self.conns[number].outbox.len();
            assert!(queued <= OUTBOX_MAX, "{queued} bytes wait for connection {}", number + 1);
            if !was_blocked {
                self.chokes_on_last_words(number);
            }
            if !was_blocked
                && !self.pump_down(number)
                && let Some(link) = self.conns[number].link
            {
                self.shared.count("blocked");
                if self.trace {
                    eprintln!("{:>12} {link:?} is blocked", self.now / US);
                }
                self.meets(link, "blocked");
                self.pooler.blocked(link);
            }
        }
    }

    /// Reads a link once, and hands over what there is.
    pub(super) fn read(&mut self, link: Link) {
        let Some(number) = self.links.get(&link).copied() else { return };
        let conn = &mut self.conns[number];
        // A large message is not read in more than some twenty pieces.
        let least = (conn.held.len() / 4).max(conn.up.arrived.len() / 20).min(16_384);
        let full = conn.held.len() > WHOLE_MAX;
        let size = if full { 0 } else { self.dice.pick(&[7, 100, 1_000, 16_384]).max(least) };
        let fresh = conn.up.arrived.take(size);
        let count = fresh.len();
        if count == 0
            && !full
            && let Some(end) = conn.up.ended
        {
            let why = if end == End::Orderly { "the peer closed the connection" } else { "connection reset" };
            self.meets(link, "closed");
            self.pooler.closed(Tick(self.now), link, why, &mut self.actions);
            return self.carry_out(&Marked::default());
        }
        if count > 0 && (count == size || conn.hung_up) {
            self.again.push(link);
        }
        let mut bytes = std::mem::take(&mut conn.held);
        bytes.append(&fresh);
        if count > 0 {
            // Room for more of what the peer has to say.
            self.pump_up(number);
        }
        self.meets(link, "received");
        let consumed = self.pooler.received(Tick(self.now), link, &bytes.bytes, &mut self.actions);
        assert!(consumed <= bytes.len(), "{consumed} of {} bytes consumed", bytes.len());
        if self.trace {
            eprintln!(
                "{:>12} {link:?} hands over {} and keeps {}",
                self.now / US,
                bytes.len(),
                bytes.len() - consumed
            );
        }
        if full && consumed > 0 {
            self.again.push(link);
        }
        assert!(bytes.len() - consumed <= HELD_MAX, "{} bytes are held", bytes.len() - consumed);
        self.conns[number].held = bytes.range(consumed, bytes.len() - consumed);
        self.carry_out(&bytes);
        if count > 0 {
            // A process that was blocked in send goes on.
            self.with_peer(number, None);
        }
    }

    /// Ends a turn: sends everything, then closes what is to be closed.
    pub(super) fn flush(&mut self) {
        self.send_queued();
        for link in std::mem::take(&mut self.to_finish) {
            if let Some(number) = self.links.get(&link).copied() {
                self.conns[number].last = Last::Finish;
                self.pump_down(number);
            }
        }
        for link in std::mem::take(&mut self.to_close) {
            self.connecting.retain(|_, connecting| *connecting != link);
            if let Some(number) = self.links.remove(&link) {
                let conn = &mut self.conns[number];
                // At a drain those who wait for a cancel to be delivered are sent away too.
                if let Peer::Canceller { of, .. } = &conn.peer
                    && !self.shared.draining
                    && let Some(requests) = self.shared.cancelling.get_mut(of)
                {
                    *requests -= 1;
                }
                conn.link = None;
                conn.last = Last::Close;
                conn.up.arrived.clear();
                conn.held.clear();
                self.pump_down(number);
            }
        }
    }

    /// What must hold after every turn.
    fn check(&mut self) {
        let snapshot = self.pooler.snapshot(Tick(self.now), false);
        assert_eq!(snapshot.reply_mismatches, 0);
        for row in &snapshot.pools {
            let figures = &row.pool;
            let closed: u64 = figures.counts.closed.iter().sum();
            let alive = figures.open() - figures.count(State::Closing);
            assert_eq!(figures.counts.opened - closed, u64::from(alive), "opened − closed = open");
            // What is above a limit that was made smaller goes when it comes to rest.
            let drawn = self.shared.session_limits.get(&row.data_source).copied();
            let limit = drawn.unwrap_or(figures.settings.max_size);
            assert!(figures.open() <= limit, "{} open", figures.open());
            assert!(row.clients_active <= figures.count(State::InUse), "{} active", row.clients_active);
            let pinned = &row.pinned;
            for (number, reason) in Pins::NAMES.into_iter().enumerate() {
                let now = pinned.begun[number] - pinned.ended[number];
                assert_eq!(now, u64::from(pinned.now[number]), "pins begun − ended = now: {reason}");
            }
            assert!(pinned.connections <= row.clients_active, "{} pinned to nobody", pinned.connections);
            assert!(row.traffic.idle_time <= figures.time_in_use(), "idle for longer than leased");
            if pinned.connections > 0 {
                self.shared.count("a connection is pinned");
            }
            let timeout = figures.settings.acquire_timeout.as_nanos() as u64;
            assert!(
                timeout == 0 || row.oldest_wait <= timeout + 5 * MS,
                "a waiter is overdue: {}",
                row.oldest_wait
            );
        }
    }
}
