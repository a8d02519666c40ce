//! Claims about one server in fair weather: its control connection, and what its pools have of it.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Lease;
use crate::config::{DataSource, NodeAddress, PoolMode, PoolerConfig};
use crate::{Actions, Link, Pooler};
use headpond_core::{Alarm, CloseReason, PoolFigures, PoolSettings, Tick};

use crate::sim::client::{Ask, Client, Flight, Kind, Statement};
use crate::sim::dice::Dice;
use crate::sim::marked::{message, text_message};
use crate::sim::net::Weather;
use crate::sim::peer::{MS, SECOND, Settings, Shared};
use crate::sim::world::World;

const CALM: Weather = Weather { piece: 100_000, delay: 100_000, room: (1_000_000, 1_000_000) };

/// A pool of so many connections, all of them open.
fn world(size: u32, budget: Option<u32>) -> World {
    before(size, budget, Shared { slots: 100, ..Shared::default() })
}

fn before(size: u32, budget: Option<u32>, shared: Shared) -> World {
    of(vec![source("app", size, budget)], shared)
}

fn source(name: &str, size: u32, budget: Option<u32>) -> DataSource {
    let node = NodeAddress::Tcp { host: "server".to_owned(), port: 5432 };
    let pool = PoolSettings {
        max_size: size.max(1),
        min_idle: size,
        initial_size: size,
        acquire_timeout: Duration::ZERO,
        ..PoolSettings::on_demand()
    };
    let user = Some("service".to_owned());
    DataSource { budget, reserve: Some(0), user, ..DataSource::new(name, node, PoolMode::Transaction, pool) }
}

fn of(data_sources: Vec<DataSource>, shared: Shared) -> World {
    let second = Duration::from_secs(1);
    let config = PoolerConfig {
        client_login_timeout: Duration::ZERO,
        connect_timeout: second,
        recover_timeout: second,
        close_timeout: second,
        cancel_timeout: second,
        reset_query: String::new(),
        ..PoolerConfig::new(data_sources)
    };
    let pooler = Pooler::new(Arc::new(config), 0, 1, [7; 32]);
    let mut world = World::new(Dice::new(7), CALM, pooler, shared);
    world.start();
    pass(&mut world, SECOND);
    world
}

fn pass(world: &mut World, time: u64) {
    world.run(world.now + time, |_| false);
}

/// A client comes, runs one statement, and leaves.
fn client(world: &mut World, number: u32, kind: Kind) {
    client_of("app", world, number, kind);
}

fn client_of(name: &str, world: &mut World, number: u32, kind: Kind) {
    let flight = query(&format!("k{number}"), kind);
    let client = Client::new(name.to_owned(), Settings::new(), [flight].into());
    world.client_comes(world.now, client);
}

const ECHO: Kind = Kind::Echo { rows: 1, size: 10, wait: 0 };
const FAIL: Kind = Kind::Fail { wait: 0 };

fn figures(world: &World) -> PoolFigures {
    world.pooler.snapshot(Tick(world.now), false).pools[0].pool.clone()
}

fn closed(world: &World, reason: CloseReason) -> u64 {
    figures(world).counts.closed[reason as usize]
}

/// The processes of the pool, and how many control connections there are.
fn processes(world: &World) -> (Vec<usize>, usize) {
    (world.serving(false), world.serving(true).len())
}

#[test]
fn nothing_is_asked_of_a_server_that_nobody_uses() {
    let mut world = world(0, None);
    pass(&mut world, 60 * SECOND);
    assert_eq!(world.backends(), 0);
    assert!(world.shared.coverage.is_empty());
}

#[test]
fn a_server_in_use_has_one_control_connection_that_asks_every_ten_seconds() {
    let mut world = world(3, None);
    let [control] = world.serving(true)[..] else { panic!("one control connection") };
    assert_eq!((world.serving(false).len(), world.shared.coverage["control asks"]), (3, 1));
    pass(&mut world, 60 * SECOND);
    assert_eq!((world.serving(true), world.shared.coverage["control asks"]), (vec![control], 7));
    assert_eq!(world.shared.coverage["survey"], 1, "a pooled connection is asked before anything is known");
    pass(&mut world, 600 * SECOND);
    assert!(world.serving(true).len() == 1 && world.serving(true) != [control], "it does not grow old");
    let row = world.pooler.snapshot(Tick(world.now), true);
    assert_eq!((row.pools[0].budget, row.pools[0].budget_used, row.servers.len()), (Some(100), 4, 3));
}

#[test]
fn the_control_connection_goes_with_the_last_of_its_pools() {
    let mut world = world(3, None);
    world.suspend();
    pass(&mut world, SECOND);
    assert_eq!(world.backends(), 0);
}

#[test]
fn a_budget_keeps_one_permit_for_control_unless_it_is_the_only_one() {
    for (budget, pooled, control) in [(1, 1, 0), (2, 1, 1), (3, 2, 1), (5, 3, 1)] {
        let world = world(3, Some(budget));
        assert_eq!((world.serving(false).len(), world.serving(true).len()), (pooled, control), "of {budget}");
    }
}

#[test]
fn a_client_that_waits_has_one_place_in_the_queue_though_it_is_heard_again() {
    let mut world = world(1, None);
    client(&mut world, 1, Kind::Echo { rows: 1, size: 10, wait: 10 * SECOND });
    pass(&mut world, SECOND);
    client(&mut world, 2, ECHO);
    pass(&mut world, SECOND);
    let waits = |client: &crate::client::Client| matches!(client.lease, Lease::Waiting(_));
    let found = world.pooler.clients.iter().find(|(_, client)| waits(client)).map(|(id, _)| id);
    let waiter = Link::Client(found.expect("the second client"));
    let query = text_message(b'Q', "ECHO k3 1 10 0");
    let consumed = world.pooler.received(Tick(world.now), waiter, &query, &mut Actions::default());
    assert_eq!((consumed, figures(&world).waiting), (0, 1));
}

#[test]
fn one_process_that_an_administrator_ends_costs_no_other() {
    let mut world = world(4, None);
    let (before, _) = processes(&world);
    world.terminate(before[1]);
    pass(&mut world, SECOND);
    let (after, controls) = processes(&world);
    assert_eq!(after[..3], [before[0], before[2], before[3]]);
    assert_eq!((after.len(), controls), (4, 1));
    assert_eq!(closed(&world, CloseReason::MassDeath), 0);
}

#[test]
fn one_farewell_of_a_server_that_takes_no_logins_speaks_for_all_connections() {
    let mut world = world(4, None);
    let (before, _) = processes(&world);
    world.shared.going_down = true;
    world.terminate(before[1]);
    pass(&mut world, SECOND);
    assert_eq!((closed(&world, CloseReason::MassDeath), world.backends()), (3, 0));
    world.shared.going_down = false;
    pass(&mut world, 20 * SECOND);
    assert_eq!((world.serving(false).len(), world.serving(true).len()), (4, 1));
}

#[test]
fn the_control_connection_s_own_farewell_is_a_suspicion_like_any_other() {
    for (going_down, lost) in [(false, 0), (true, 3)] {
        let mut world = world(3, None);
        let control = world.serving(true)[0];
        world.shared.going_down = going_down;
        world.terminate(control);
        pass(&mut world, 500 * MS);
        assert_eq!(closed(&world, CloseReason::MassDeath), lost);
        assert_ne!(world.serving(true), [control]);
    }
}

#[test]
fn a_primary_that_became_a_standby_is_fenced_when_a_write_fails_until_it_is_a_primary_again() {
    let mut world = world(3, None);
    world.shared.in_recovery = true;
    pass(&mut world, 20 * SECOND);
    client(&mut world, 1, ECHO);
    pass(&mut world, SECOND);
    assert!(world.clients_are_gone() && world.serving(false).len() == 3, "who reads is served");
    client(&mut world, 2, FAIL);
    pass(&mut world, SECOND);
    assert!(figures(&world).is_raised(Alarm::Fenced));
    assert_eq!((closed(&world, CloseReason::Fenced), world.serving(false).len()), (3, 0));
    client(&mut world, 3, ECHO);
    pass(&mut world, 30 * SECOND);
    assert!(!world.clients_are_gone() && world.serving(false).is_empty(), "who comes waits");
    world.shared.in_recovery = false;
    pass(&mut world, 6 * SECOND);
    assert!(world.clients_are_gone() && !figures(&world).is_raised(Alarm::Fenced));
    pass(&mut world, 10 * SECOND);
    assert_eq!((world.serving(false).len(), world.serving(true).len()), (3, 1));
}

#[test]
fn a_read_only_transaction_and_a_server_that_was_always_a_standby_fence_nothing() {
    for in_recovery in [false, true] {
        let mut world = before(3, None, Shared { slots: 100, in_recovery, ..Shared::default() });
        // On the model server some of what fails is read-only at any time.
        (0..100).for_each(|number| client(&mut world, number, FAIL));
        pass(&mut world, SECOND);
        assert!(world.clients_are_gone() && !figures(&world).is_raised(Alarm::Fenced));
        let asked = world.shared.coverage["control asks"];
        assert!((1..=3).contains(&asked), "{asked} questions in two seconds");
        assert_eq!((closed(&world, CloseReason::Fenced), asked == 1), (0, in_recovery));
    }
}

#[test]
fn changed_login_time_defaults_renew_the_pools_they_apply_to_and_no_others() {
    let applies = [["", "", "x=2"], ["app", "", "x=2"], ["", "service", "x=2"], ["app", "service", "x=2"]];
    let others = [["app", "other", "x=2"], ["other", "", "x=2"]];
    let changes = applies.map(|change| (change, 3)).into_iter().chain(others.map(|change| (change, 0)));
    for ([database, user, settings], renewed) in changes {
        // Defaults that are there from the start are those the connections have.
        let defaults = vec![[database, user, "x=1"], ["yet another", "", "y=1"]];
        let mut world = before(3, None, Shared { slots: 100, defaults, ..Shared::default() });
        pass(&mut world, 30 * SECOND);
        assert_eq!(closed(&world, CloseReason::Outdated), 0);
        world.shared.defaults[0] = [database, user, settings];
        pass(&mut world, 12 * SECOND);
        assert_eq!(closed(&world, CloseReason::Outdated), renewed, "{database:?} {user:?}");
        world.shared.defaults.clear();
        pass(&mut world, 12 * SECOND);
        assert_eq!(closed(&world, CloseReason::Outdated), 2 * renewed, "RESET ALL");
        pass(&mut world, 60 * SECOND);
        assert_eq!((closed(&world, CloseReason::Outdated), world.serving(false).len()), (2 * renewed, 3));
    }
}

#[test]
fn two_pools_that_share_one_permit_take_turns_and_each_turn_serves_somebody() {
    let sources = ["one", "two"].map(|name| {
        let source = source(name, 2, Some(1));
        // Every connection is tested before it serves.
        let pool = PoolSettings { check: true, trust_window: Duration::ZERO, min_idle: 0, ..source.pool };
        DataSource { pool: PoolSettings { initial_size: 0, ..pool }, ..source }
    });
    let mut world = of(sources.into(), Shared { slots: 100, ..Shared::default() });
    for number in 0..10 {
        client_of("one", &mut world, 2 * number, ECHO);
        client_of("two", &mut world, 2 * number + 1, ECHO);
    }
    pass(&mut world, 30 * SECOND);
    assert!(world.clients_are_gone(), "{:?}", world.stuck());
}

/// A statement of the extended protocol, with a Flush in place of the Sync.
fn flushed(number: u32, think: u64) -> Flight {
    let statement = Statement { token: format!("k{number}"), kind: ECHO };
    let parse = [b"\0", statement.text(0).as_bytes(), b"\0\0\0"].concat();
    let messages = [(b'P', &parse[..]), (b'B', &[0; 8]), (b'E', &[0; 5]), (b'H', &[])];
    let bytes = messages.map(|(tag, body)| message(tag, body)).concat();
    let asks = [Ask::Parse, Ask::Bind, Ask::Execute].map(|ask| ask(statement.clone()));
    Flight { bytes, asks: asks.into(), think }
}

fn query(token: &str, kind: Kind) -> Flight {
    let statement = Statement { token: token.to_owned(), kind };
    Flight {
        bytes: text_message(b'Q', &statement.text(0)),
        asks: vec![Ask::Query(vec![statement])],
        think: 0,
    }
}

fn sync() -> Flight {
    Flight { bytes: message(b'S', b""), asks: vec![Ask::Sync], think: SECOND }
}

#[test]
fn who_has_all_answers_but_no_sync_hears_of_a_loss_when_it_goes_on() {
    let alone = vec![flushed(1, 0), sync()];
    let inside = vec![query("k0", Kind::Begin), flushed(1, 0), sync(), query("k2", ECHO)];
    let goes_on = vec![flushed(1, 0), flushed(2, SECOND), sync()];
    for (flights, told) in
        [(alone, "outcome unknown"), (goes_on, "outcome unknown"), (inside, "transaction lost")]
    {
        let mut world = world(1, None);
        world.shared.stays.insert("app".to_owned());
        world.client_comes(world.now, Client::new("app".to_owned(), Settings::new(), flights.into()));
        pass(&mut world, 500 * MS);
        world.shared.deaths = 1;
        world.terminate(world.serving(false)[0]);
        pass(&mut world, 5 * SECOND);
        assert_eq!(world.shared.coverage.get(told), Some(&1), "{:?}", world.shared.coverage);
    }
}

#[test]
fn nothing_follows_half_a_message() {
    for lacks in 1..=5 {
        let session = DataSource { mode: PoolMode::Session, ..source("app", 1, None) };
        let mut world = of(vec![session], Shared { slots: 100, ..Shared::default() });
        // Data that no COPY asked for, which a server reads over.
        let mut bytes = message(b'd', &[0; 70_000]);
        bytes.truncate(bytes.len() - lacks);
        let half = Flight { bytes, ..Flight::default() };
        let never = Flight { think: 60 * SECOND, ..Flight::default() };
        let flights = [query("k1", ECHO), half, never];
        let mut client = Client::new("app".to_owned(), Settings::new(), flights.into());
        client.leaves_at = world.now + SECOND;
        world.client_comes(world.now, client);
        pass(&mut world, 5 * SECOND);
        assert!(world.clients_are_gone() && closed(&world, CloseReason::ClientLost) == 1);
    }
}
