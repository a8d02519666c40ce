//! Which events met which states: coverage of the machine, asserted against a table.

use std::collections::BTreeMap;

use headpond_core::{State, Tick};

use crate::aborted::Aborted;
use crate::client::{Client, ClientState, Discard, Lease};
use crate::exchange::{Errand, Owner};
use crate::server::{Server, ServerState};
use crate::{CancelId, ClientId, Link, Pooler, ServerId};

/// What a client's session is doing, what the server connection under it is doing, and what happens.
pub(crate) type Cell = (&'static str, &'static str, &'static str);

pub(crate) type Cells = BTreeMap<Cell, u64>;

/// The states in which an event about a link finds the machine.
pub(crate) fn of(pooler: &Pooler, link: Link, event: &'static str) -> Option<Cell> {
    match link {
        Link::Client(id) => of_client(pooler, id, event),
        Link::Server(id) => of_server(pooler, id, event),
        Link::Cancel(id) => of_cancel(pooler, id, event),
    }
}

pub(crate) fn of_client(pooler: &Pooler, id: ClientId, event: &'static str) -> Option<Cell> {
    let client = pooler.clients.get(id)?;
    let server = client.server().and_then(|id| pooler.servers.get(id));
    Some((session(client), server.map_or("none", |server| doing(pooler, server)), event))
}

pub(crate) fn of_server(pooler: &Pooler, id: ServerId, event: &'static str) -> Option<Cell> {
    let server = pooler.servers.get(id)?;
    let client = server.client.and_then(|id| pooler.clients.get(id));
    Some((client.map_or("nobody", session), doing(pooler, server), event))
}

fn of_cancel(pooler: &Pooler, id: CancelId, event: &'static str) -> Option<Cell> {
    of_server(pooler, pooler.cancels.get(id)?.server, event)
}

/// Server connections whose time is up.
pub(crate) fn overdue(pooler: &Pooler, now: Tick) -> Vec<Cell> {
    let due = pooler.servers.iter().filter(|(_, server)| server.deadline <= now);
    due.filter_map(|(id, _)| of_server(pooler, id, "overdue")).collect()
}

/// Every client as the end of the process finds it.
pub(crate) fn clients(pooler: &Pooler, event: &'static str) -> Vec<Cell> {
    pooler.clients.ids().into_iter().filter_map(|id| of_client(pooler, id, event)).collect()
}

/// Every server connection as an operator's command finds it: only its pool hears of that, no client does.
pub(crate) fn servers(pooler: &Pooler, event: &'static str) -> Vec<Cell> {
    pooler.servers.iter().map(|(_, server)| ("any", doing(pooler, server), event)).collect()
}

fn session(client: &Client) -> &'static str {
    let lost = client.aborted != Aborted::No;
    match (&client.state, client.lease) {
        (ClientState::Startup, _) => "startup",
        (ClientState::Handshake { .. }, _) => "handshake",
        (ClientState::LookedUp(_), _) => "looked up",
        (ClientState::Login(_), _) => "proving",
        (ClientState::AwaitsParameters, _) => "awaiting parameters",
        (ClientState::Refused(Discard::First(_)), _) => "refused",
        (ClientState::Refused(Discard::ToSync), _) => "skipping to sync",
        (ClientState::Ready, Lease::None) if lost => "idle, transaction lost",
        (ClientState::Ready, Lease::None) => "idle",
        (ClientState::Ready, Lease::Waiting(_)) if lost => "waiting, transaction lost",
        (ClientState::Ready, Lease::Waiting(_)) => "waiting",
        (ClientState::Ready, Lease::Active(_)) if client.streaming > 0 => "inside a message",
        (ClientState::Ready, Lease::Active(_)) => "active",
    }
}

fn doing(pooler: &Pooler, server: &Server) -> &'static str {
    let exchanges = &server.exchanges;
    let on = |errand| exchanges.is_on(Owner::Pooler(errand));
    match server.state {
        ServerState::Connecting => "connecting",
        ServerState::Tls(_) => "beginning TLS",
        ServerState::Again => "refused once",
        ServerState::Login(_) => "logging in",
        ServerState::Reopening => "reopening",
        ServerState::Closing => "closing",
        ServerState::Unconfirmed => "unconfirmed",
        ServerState::Live if server.is_control() => "control",
        ServerState::Live => match pooler.pools[server.pool as usize].policy.state(server.conn) {
            Some(State::Opening) => "surveying",
            Some(State::Idle) => "idle",
            Some(State::Checking) => "checking",
            Some(State::Resetting) => "resetting",
            Some(State::Recovering) => "recovering",
            Some(State::BeingCancelled) => "being cancelled",
            Some(State::InUse) if server.cancels > 0 => "in use, cancelling",
            Some(State::InUse) if on(Errand::Settings) => "in use, setting",
            Some(State::InUse) if on(Errand::Abort) => "in use, aborting",
            Some(State::InUse) if on(Errand::Settle) => "in use, settling",
            Some(State::InUse) if exchanges.is_copying() => "in use, copying in",
            Some(State::InUse) if exchanges.is_skipping() => "in use, skipping",
            Some(State::InUse) if server.streaming > 0 => "in use, inside a message",
            Some(State::InUse) if exchanges.has_boundary() => "in use, answering",
            Some(State::InUse) if exchanges.is_unsynced() => "in use, unsynced",
            Some(State::InUse) if server.status == b'T' => "in use, in transaction",
            Some(State::InUse) if server.status == b'E' => "in use, in failed transaction",
            Some(State::InUse) => "in use, at rest",
            Some(State::Closing) | None => "gone",
        },
    }
}

/// The cells that can be reached, and how often: at least ten times in that many schedules. In the order of the
/// file: schedules, session, server, event. `UPDATE_CELLS=1` writes it anew, from a run that should be a long one.
pub(crate) const TABLE: &str = include_str!("cells.txt");

/// The table, as so many schedules have it: each cell with margin, for what is rare comes in bursts.
pub(crate) fn table(reached: &Cells, schedules: u64) -> String {
    let per = |times: u64| [1_000, 10_000].into_iter().find(|per| times * per >= 100 * schedules);
    let mut cells: Vec<_> = reached.iter().map(|(cell, times)| (cell, per(*times))).collect();
    cells.sort_by_key(|((session, server, event), _)| (*event, *session, *server));
    let line = |((session, server, event), per): (&Cell, Option<u64>)| {
        format!("{:>7} | {session} | {server} | {event}\n", per.unwrap_or(100_000))
    };
    cells.into_iter().map(line).collect()
}

/// What is wrong with the cells reached in `schedules` schedules.
pub(crate) fn complaints(reached: &Cells, schedules: u64) -> Vec<String> {
    let table: BTreeMap<Vec<&str>, u64> = TABLE
        .lines()
        .map(|line| {
            let mut fields = line.split(" | ").map(str::trim);
            let per = fields.next().and_then(|number| number.parse().ok()).expect("a number of schedules");
            (fields.collect(), per)
        })
        .collect();
    let count = |cell: &[&str]| {
        let found = reached.iter().find(|((session, server, event), _)| [*session, *server, *event] == cell);
        found.map_or(0, |(_, count)| *count)
    };
    let missing = table.iter().filter(|(cell, per)| schedules >= **per && count(cell) < 10);
    let missing = missing.map(|(cell, per)| format!("{} times in {per}: {}", count(cell), cell.join(" | ")));
    let unknown = reached
        .iter()
        .filter(|((session, server, event), _)| !table.contains_key([*session, *server, *event].as_slice()));
    let unknown = unknown.map(|(cell, count)| format!("not in the table ({count} times): {cell:?}"));
    missing.chain(unknown).collect()
}
