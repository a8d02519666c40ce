//! Nudges: while the machine is in a state that is seldom seen, something is made to happen just then.

use headpond_core::Tick;

use crate::client::Client;
use crate::sim::cells;
use crate::sim::peer::{MS, Poke, SECOND};
use crate::{Link, ServerId};

use super::{Event, Peer, World};

/// What can happen to a client, or to the server connection under it.
#[derive(Clone, Copy, Debug)]
enum Nudge {
    ClientLeaves,
    ClientCancels,
    ClientStalls,
    ClientThaws,
    ClientIsRead,
    ServerDies,
    ServerIsSlow,
    ServerStalls,
    ServerChokes,
    ServerThaws,
    Operator,
    Drain,
}

/// What may happen in a rare state, and in one that is rarer still.
const ANYTHING: &[Nudge] = &[
    Nudge::ClientLeaves,
    Nudge::ClientCancels,
    Nudge::ClientStalls,
    Nudge::ServerDies,
    Nudge::ServerIsSlow,
    Nudge::ServerStalls,
    Nudge::ServerStalls,
    Nudge::Operator,
    Nudge::Operator,
];
const AND_THE_END: &[Nudge] = &[
    Nudge::ClientLeaves,
    Nudge::ClientLeaves,
    Nudge::ClientCancels,
    Nudge::ClientStalls,
    Nudge::ClientStalls,
    Nudge::ServerDies,
    Nudge::ServerDies,
    Nudge::ServerIsSlow,
    Nudge::ServerStalls,
    Nudge::ServerStalls,
    Nudge::Operator,
    Nudge::Operator,
    Nudge::Drain,
    Nudge::Drain,
];

const HARDLY_EVER: &[Nudge] = &[
    Nudge::ClientLeaves,
    Nudge::ClientLeaves,
    Nudge::ClientStalls,
    Nudge::ServerDies,
    Nudge::ServerStalls,
    Nudge::ServerStalls,
    Nudge::Drain,
];

/// How likely a state is to be nudged at a turn, in percent, and by what.
fn temptation(session: &str, doing: &str, client: Option<&Client>) -> (u64, &'static [Nudge]) {
    let rest = client.map_or(0, |client| client.streaming);
    let pipelines = client.is_some_and(|client| client.unread);
    let blocked = client.is_some_and(|client| client.blocked);
    match (session, doing) {
        // It goes on while that lasts.
        ("refused", _) | (_, "connecting" | "logging in" | "reopening") if blocked => {
            (60, &[Nudge::ClientThaws])
        }
        // The tail of a COPY that failed: its last bytes meet a connection that others may have.
        ("inside a message", "in use, at rest") if rest < 16_384 => (100, &[Nudge::ServerChokes]),
        ("inside a message", "in use, at rest") => {
            (20, &[Nudge::ServerStalls, Nudge::ServerDies, Nudge::Drain])
        }
        ("inside a message", "in use, answering" | "in use, unsynced") => (15, ANYTHING),
        ("inside a message", "in use, settling" | "in use, aborting") => (90, HARDLY_EVER),
        ("inside a message", _) => (40, AND_THE_END),
        ("active", "in use, in transaction") => (20, &[Nudge::ServerDies]),
        // What it sent ahead comes to a connection while it is still told that it is let in.
        ("proving", _) => (20, &[Nudge::ClientStalls]),
        ("active", "connecting" | "logging in") => (15, AND_THE_END),
        // Whoever was to be read is, though it had to queue meanwhile.
        ("waiting, transaction lost", _) => (
            60,
            &[
                Nudge::ClientIsRead,
                Nudge::ClientIsRead,
                Nudge::ClientLeaves,
                Nudge::ServerDies,
                Nudge::Operator,
                Nudge::Drain,
            ],
        ),
        ("idle, transaction lost" | "skipping to sync" | "refused", _) => (40, ANYTHING),
        (_, "in use, aborting" | "in use, settling" | "in use, skipping" | "being cancelled") => {
            (40, AND_THE_END)
        }
        (_, "resetting") => {
            (20, &[Nudge::ServerIsSlow, Nudge::ServerStalls, Nudge::ServerDies, Nudge::Drain])
        }
        (_, "reopening" | "recovering" | "surveying" | "in use, cancelling") => (20, ANYTHING),
        (_, "in use, copying in" | "in use, inside a message" | "in use, in failed transaction") => {
            (10, ANYTHING)
        }
        (_, "in use, unsynced") => {
            (10, &[Nudge::ClientStalls, Nudge::ClientStalls, Nudge::ServerDies, Nudge::ServerStalls])
        }
        (_, "checking") => (5, ANYTHING),
        (_, "in use, at rest") => (1, &[Nudge::ClientStalls, Nudge::ServerStalls]),
        // What it is told next, and what it sent ahead, come together.
        (_, "in use, answering") if pipelines => (20, &[Nudge::ClientStalls]),
        (_, "in use, answering") => (3, &[Nudge::ClientStalls, Nudge::ClientStalls, Nudge::ServerStalls]),
        (_, "control" | "closing") => (3, &[Nudge::ServerIsSlow]),
        (_, "unconfirmed") => (3, &[Nudge::Operator, Nudge::Drain]),
        _ => (0, &[]),
    }
}

impl World {
    /// What the machine is doing may tempt something to happen.
    pub(super) fn nudge(&mut self) {
        let odds = self.shared.faults.nudges;
        if odds == 0 {
            return;
        }
        let mut tempting = Vec::new();
        for (id, client) in self.pooler.clients.iter() {
            if let Some((session, doing, _)) = cells::of_client(&self.pooler, id, "") {
                tempting.push((
                    temptation(session, doing, Some(client)),
                    Some(Link::Client(id)),
                    client.server(),
                ));
            }
        }
        for (id, server) in self.pooler.servers.iter().filter(|(_, server)| server.client.is_none()) {
            let asked = !server.is_control() || server.deadline != Tick::NEVER;
            if let Some((session, doing, _)) = cells::of_server(&self.pooler, id, "").filter(|_| asked) {
                let temptation = match doing {
                    "idle" if server.blocked => (100, &[Nudge::ServerThaws][..]),
                    _ => temptation(session, doing, None),
                };
                tempting.push((temptation, None, Some(id)));
            }
        }
        tempting.retain(|((percent, _), ..)| self.dice.below(10_000) < percent * odds);
        if tempting.is_empty() {
            return;
        }
        let ((_, nudges), client, server) = tempting[self.dice.below(tempting.len() as u64) as usize];
        let nudge = self.dice.pick(nudges);
        self.nudged(nudge, client, server);
    }

    fn nudged(&mut self, nudge: Nudge, client: Option<Link>, server: Option<ServerId>) {
        let timed = server.and_then(|id| self.pooler.servers.get(id));
        let timed = timed.is_some_and(|server| server.deadline != Tick::NEVER);
        if let (Nudge::ClientIsRead, Some(link)) = (nudge, client) {
            return self.read(link);
        }
        // Whoever has none may get any.
        let any = || self.pooler.servers.ids().into_iter().next();
        let number = |link: Option<Link>| link.and_then(|link| self.links.get(&link)).copied();
        let (client, server) = (number(client), number(server.or_else(any).map(Link::Server)));
        let faults = &self.shared.faults;
        match (nudge, client, server) {
            (Nudge::ClientLeaves, Some(client), _) if faults.departures > 0 || self.dice.chance(30) => {
                self.with_peer(client, Some(Poke::Leave));
            }
            (Nudge::ClientCancels, Some(client), _) if faults.cancels > 0 => {
                self.with_peer(client, Some(Poke::Cancel));
                // While the request is on its way, what it is about goes on slowly.
                if let (true, Some(server)) = (self.dice.chance(50), server) {
                    self.stall(server);
                }
            }
            (Nudge::ClientStalls, Some(client), _) => self.stall(client),
            (Nudge::ServerDies, _, Some(server)) if faults.deaths > 0 => {
                self.with_peer(server, Some(Poke::Die));
            }
            (Nudge::ServerIsSlow, _, Some(server)) if faults.deaths > 0 && timed => {
                self.with_peer(server, Some(Poke::Dawdle));
            }
            (Nudge::ServerStalls, _, Some(server)) => self.stall(server),
            (Nudge::ServerChokes, _, Some(server)) => self.stall_in(server, (true, false)),
            (Nudge::ClientThaws, Some(client), _) => self.thaw(client),
            (Nudge::ServerThaws, _, Some(server)) => self.thaw(server),
            (Nudge::Operator, ..) if faults.operator > 0 => self.command(),
            (Nudge::Drain, ..) if !self.shared.draining && (faults.drains > 0 || self.dice.chance(5)) => {
                self.drain()
            }
            _ => {}
        }
    }

    /// The network takes nothing more on a connection for a while, in one direction or in both.
    fn stall(&mut self, number: usize) {
        let directions = self.dice.pick(&[(true, false), (false, true), (true, true)]);
        self.stall_in(number, directions);
    }

    fn stall_in(&mut self, number: usize, directions: (bool, bool)) {
        let conn = &mut self.conns[number];
        if conn.down.stalled || conn.up.stalled {
            return;
        }
        (conn.down.stalled, conn.up.stalled) = directions;
        let mut most = 100 * MS;
        // A server that is silent for long may be taken for dead.
        if !matches!(conn.peer, Peer::Client(_)) && self.shared.faults.deaths > 0 && self.dice.chance(20) {
            most = 3 * SECOND;
            self.shared.deaths += 1;
        }
        let at = self.now + self.dice.between(1, most);
        self.at(at, Event::Thaw(number));
    }

    /// The last words to a connection that serves nobody any more seldom find it full: now and then they do.
    pub(super) fn chokes_on_last_words(&mut self, number: usize) {
        let Some(link @ Link::Server(_)) = self.conns[number].link else { return };
        let idle = cells::of(&self.pooler, link, "")
            .is_some_and(|(session, doing, _)| (session, doing) == ("nobody", "idle"));
        if idle && self.dice.below(100) < self.shared.faults.nudges {
            self.stall_in(number, (true, false));
        }
    }

    pub(super) fn thaw(&mut self, number: usize) {
        let conn = &mut self.conns[number];
        (conn.down.stalled, conn.up.stalled) = (false, false);
        self.writable(number);
        self.pump_up(number);
        self.with_peer(number, None);
    }
}
