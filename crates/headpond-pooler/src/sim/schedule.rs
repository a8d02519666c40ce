//! One run: its settings, faults and clients are drawn, then it runs to its end and is looked over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::Pooler;
use crate::config::{
    AuthMethod, DataSource, LookupBy, NodeAddress, OpaqueFunctions, PoolMode, PoolerConfig, Secret,
    ServerTls, SessionState, Timeouts, User, Users,
};
use headpond_core::{PoolSettings, State, Tick};

use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::StoredSecret;

use crate::sim::cells::Cells;
use crate::sim::client::{Client, PATIENCE, SOMEONES};
use crate::sim::dice::Dice;
use crate::sim::net::Weather;
use crate::sim::peer::{Faults, MS, SECOND, Settings, Shared};
use crate::sim::script;
use crate::sim::server::{IMPOSSIBLE, SERVICES};
use crate::sim::world::World;

/// What a schedule came to.
pub(crate) struct Seen {
    /// How often each kind of thing happened.
    pub(crate) coverage: BTreeMap<&'static str, u64>,
    /// Which events met which states.
    pub(crate) cells: Cells,
    /// Requests that were answered to their end.
    pub(crate) exchanges: u64,
    /// The most server connections that served at once.
    pub(crate) serving: u32,
}

/// The least that a schedule is about: clients, exchanges that they intend, server connections that there may be.
const CLIENTS: u64 = 8;
const EXCHANGES: usize = 80;
const SERVERS: u32 = 2;

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64) -> Seen {
    let mut dice = Dice::new(seed);
    let faults = faults(&mut dice);
    let mut config = config(&mut dice);
    let slots = u32::try_from(dice.between(SERVERS.into(), 9)).expect("small");
    let mut shared = Shared { faults: faults.clone(), slots, ..Shared::default() };
    shared.trusting = config.auth == AuthMethod::Trust;
    if seed.is_multiple_of(2) {
        let trusted = |source: &mut DataSource| source.opaque_functions = OpaqueFunctions::Trust;
        config.data_sources.iter_mut().for_each(trusted);
        shared.readable = true;
    }
    shared.server_asks = dice.pick(&[0, 0, 3, 5]);
    // Without one that was told, the first logins may go beyond what the server is then found to have.
    let told: Option<Vec<_>> = config.data_sources.iter().map(|source| source.budget).collect();
    shared.budget = told.and_then(|budgets| budgets.into_iter().max());
    shared.verifies = config.verify_reset;
    for source in &config.data_sources {
        let timeout = u64::try_from(source.pool.acquire_timeout.as_nanos()).expect("short");
        shared.acquire_timeouts.insert(source.name.clone(), (timeout > 0).then_some(timeout));
        shared.session_limits.insert(source.name.clone(), source.pool.max_size);
        if source.mode == PoolMode::Transaction {
            shared.stays.insert(source.name.clone());
        }
        if source.mode == PoolMode::Session && !config.reset_query.is_empty() {
            shared.resets.insert(source.name.clone());
        }
    }
    let weather = Weather {
        piece: dice.pick(&[3, 50, 50, 1_000, 1_000, 100_000]),
        delay: dice.pick(&[100, 1_000, 30_000]) * 1_000,
        room: dice.pick(&[
            if faults.large > 0 { (10_000, 20_000) } else { (200, 2_000) },
            (5_000, 50_000),
            (1_000_000, 1_000_000),
        ]),
    };
    let count = dice.between(CLIENTS, 14);
    let mut clients: Vec<_> = (0..count).map(|_| client(&config, &shared, &mut dice)).collect();
    while clients.iter().map(Client::intended).sum::<usize>() < EXCHANGES {
        clients.push(client(&config, &shared, &mut dice));
    }
    let pooler = Pooler::new(Arc::new(config), 0, 1, [dice.below(256) as u8; 32]);
    let arrivals: Vec<_> = clients.iter().map(|_| dice.skewed(300 * MS)).collect();
    let drains_at = (faults.operator > 0 && dice.chance(50)).then(|| dice.skewed(400 * MS));
    let mut world = World::new(dice, weather, pooler, shared);
    world.start();
    for (client, at) in clients.into_iter().zip(arrivals) {
        world.client_comes(at, client);
    }
    if let Some(at) = drains_at {
        world.run(at, World::clients_are_gone);
        if !world.shared.draining {
            world.drain();
        }
    }
    world.run(PATIENCE, World::clients_are_gone);
    assert!(world.clients_are_gone(), "stuck: {:#?}", world.stuck());
    comes_to_rest(&mut world);
    Seen {
        coverage: world.shared.coverage,
        cells: world.shared.cells,
        exchanges: world.shared.exchanges,
        serving: world.shared.most_serving,
    }
}

/// After the last client everything is given back, and after a drain nothing is left.
fn comes_to_rest(world: &mut World) {
    world.shared.faults = Faults::default();
    let at_rest = |world: &World| {
        let busy =
            [State::InUse, State::Checking, State::Resetting, State::Recovering, State::BeingCancelled];
        let snapshot = world.pooler.snapshot(Tick(world.now), false);
        snapshot
            .pools
            .iter()
            .all(|row| row.pool.waiting == 0 && busy.iter().all(|state| row.pool.count(*state) == 0))
    };
    // What is still on its way arrives first; after that a pool may be busy with nothing but lifetimes.
    world.run(world.now + PATIENCE, |world| world.pooler.clients() == 0);
    world.run(world.now + 10 * SECOND, |_| false);
    world.run(world.now + 20 * SECOND, at_rest);
    let snapshot = world.pooler.snapshot(Tick(world.now), true);
    assert!(snapshot.clients.is_empty() && world.pooler.clients() == 0, "clients are left: {snapshot:#?}");
    assert!(at_rest(world), "not at rest: {snapshot:#?}");
    if !world.shared.draining {
        world.drain();
    }
    world.run(world.now + 20 * SECOND, |_| false);
    assert!(world.pooler.is_empty(), "something is left after a drain");
    assert_eq!(world.backends(), 0, "the server has connections left");
    let used = snapshot_budgets(world);
    assert!(used.iter().all(|used| *used == 0), "permits are not given back: {used:?}");
}

fn snapshot_budgets(world: &World) -> Vec<u32> {
    world.pooler.snapshot(Tick(world.now), false).pools.iter().map(|row| row.budget_used).collect()
}

/// Half of the runs are honest: there, nobody may lose anything.
fn faults(dice: &mut Dice) -> Faults {
    let mut sometimes =
        |percent: u64, most: u64| if dice.chance(percent) { dice.between(1, most) } else { 0 };
    let mut faults = Faults {
        deaths: sometimes(40, 20),
        logins: sometimes(30, 50),
        connects: sometimes(20, 40),
        checks: sometimes(20, 30),
        departures: sometimes(50, 60),
        cancels: sometimes(50, 30),
        asides: sometimes(50, 30),
        slow_readers: sometimes(30, 50),
        large: sometimes(30, 10),
        operator: sometimes(40, 1),
        drains: sometimes(20, 1),
        copies: 0,
        transactions: 30,
        nudges: sometimes(50, 100),
    };
    for _ in 0..dice.below(5) {
        themed(&mut faults, dice);
    }
    faults
}

/// Makes some of what may go wrong likely, so that it meets what else is rare.
fn themed(faults: &mut Faults, dice: &mut Dice) {
    match dice.below(9) {
        0 => (faults.large, faults.slow_readers) = (dice.between(5, 20), dice.between(10, 80)),
        1 => faults.copies = dice.between(10, 80),
        2 => (faults.large, faults.copies) = (dice.between(5, 25), dice.between(30, 80)),
        3 => (faults.deaths, faults.transactions) = (dice.between(5, 40), dice.between(30, 90)),
        4 => (faults.large, faults.deaths, faults.transactions) = (dice.between(20, 40), 20, 70),
        5 => (faults.cancels, faults.connects) = (dice.between(20, 80), dice.between(0, 50)),
        6 => (faults.departures, faults.checks) = (dice.between(20, 60), dice.between(0, 30)),
        _ => (faults.operator, faults.drains) = (1, dice.below(2)),
    }
    faults.nudges = faults.nudges.max(dice.between(20, 100));
}

fn config(dice: &mut Dice) -> PoolerConfig {
    let mut data_sources: Vec<_> =
        (0..dice.between(1, 2)).map(|number| data_source(&format!("app{number}"), dice)).collect();
    if data_sources.len() == 1 {
        data_sources[0].pool.max_size = data_sources[0].pool.max_size.max(SERVERS);
    }
    let second = Duration::from_secs(1);
    PoolerConfig {
        auth: dice.pick(&[
            AuthMethod::Trust,
            AuthMethod::Trust,
            AuthMethod::Password,
            AuthMethod::Md5,
            AuthMethod::ScramSha256,
        ]),
        users: users(dice),
        client_login_timeout: Duration::ZERO,
        connect_timeout: second,
        recover_timeout: 2 * second,
        close_timeout: second,
        cancel_timeout: second,
        check_query: dice.pick(&["", "CHECK"]).to_owned(),
        reset_query: dice.pick(&["DISCARD ALL", "DISCARD ALL", ""]).to_owned(),
        verify_reset: dice.chance(50),
        ..PoolerConfig::new(data_sources)
    }
}

/// Someone, whose secret is of any kind that lets in by any method, or stored for SCRAM. Few iterations are enough.
fn users(dice: &mut Dice) -> Users {
    let scram = Some(StoredSecret::derive(SOMEONES, b"salt and pepper!", 2));
    let user = if dice.chance(50) {
        let md5 = Some(Md5Secret::derive(SOMEONES.as_bytes(), "someone"));
        User { password: Some(Secret(SOMEONES.to_owned())), md5, scram }
    } else {
        User { scram, ..User::default() }
    };
    let mut users = Users::default();
    users.insert("someone".to_owned(), user);
    users
}

fn data_source(name: &str, dice: &mut Dice) -> DataSource {
    let milliseconds = |number| Duration::from_millis(number);
    let budget = dice.pick(&[None, Some(2), Some(5)]);
    DataSource {
        session_state: SessionState::Follow,
        opaque_functions: OpaqueFunctions::Pin,
        credentials: None,
        lookup: LookupBy::default(),
        budget,
        reserve: Some(0),
        members: 1,
        name: name.to_owned(),
        node: NodeAddress::Tcp { host: "server".to_owned(), port: 5432 },
        database: None,
        user: Some("service".to_owned()),
        password: Some(Secret(SERVICES.to_owned())),
        timeouts: Timeouts::default(),
        tls: ServerTls::NONE,
        mode: dice.pick(&[PoolMode::Session, PoolMode::Transaction, PoolMode::Transaction]),
        pool: PoolSettings {
            idle_timeout: milliseconds(dice.pick(&[0, 30, 1_000])),
            acquire_timeout: milliseconds(dice.pick(&[0, 30, 300, 5_000])),
            max_waiters: dice.pick(&[2, 1_000, 1_000]) as u32,
            max_lifetime: milliseconds(dice.pick(&[0, 50, 5_000])),
            max_logins: dice.between(1, 3) as u32,
            login_retry: milliseconds(dice.pick(&[20, 200])),
            login_delay: milliseconds(dice.pick(&[0, 0, 5])),
            shrink_interval: milliseconds(dice.pick(&[0, 40, 1_000])),
            check: dice.pick(&[1, 1, 0]) == 1,
            trust_window: dice.pick(&[Duration::ZERO, Duration::from_millis(20), Duration::MAX]),
            check_interval: milliseconds(dice.pick(&[0, 25, 1_000])),
            leak_after: milliseconds(dice.pick(&[0, 50])),
            leak_reclaim: dice.chance(20),
            statement_cache_size: dice.pick(&[0, 1, 2, 200]) as u32,
            ..sized(dice)
        },
    }
}

fn sized(dice: &mut Dice) -> PoolSettings {
    let mut pool = PoolSettings::on_demand();
    draw_sizes(&mut pool, dice);
    pool
}

/// Draws how many connections a pool may have, and how many it keeps.
pub(crate) fn draw_sizes(pool: &mut PoolSettings, dice: &mut Dice) {
    let most = dice.between(1, 4);
    pool.max_size = most as u32;
    pool.min_idle = dice.below(most + 1) as u32;
    pool.max_idle = dice.between(pool.min_idle.into(), most) as u32;
    pool.initial_size = dice.below(most + 1) as u32;
    pool.min_size = dice.below(most + 1) as u32;
}

fn client(config: &PoolerConfig, shared: &Shared, dice: &mut Dice) -> Client {
    let database = config.data_sources[dice.below(config.data_sources.len() as u64) as usize].name.clone();
    let mut settings = Settings::new();
    for (name, values) in [("application_name", ["a", "b"]), ("search_path", ["one, two", "public"])] {
        if dice.chance(30) {
            settings.insert(name.to_owned(), dice.pick(&values).to_owned());
        }
    }
    let impossible = dice.chance(6);
    if impossible {
        settings.insert("search_path".to_owned(), IMPOSSIBLE.to_owned());
    }
    let dirty = shared.resets.contains(&database);
    let escapes = impossible && dice.chance(50);
    let flights = script::flights(dice.between(4, 13), &shared.faults, (dirty, escapes), dice);
    let mut client = Client::new(database, settings, flights);
    if dice.chance(shared.faults.departures) {
        client.leaves_at = dice.skewed(1_000 * MS);
    }
    client.stranger = dice.chance(5);
    client.sluggish = dice.chance(shared.faults.slow_readers);
    client
}
