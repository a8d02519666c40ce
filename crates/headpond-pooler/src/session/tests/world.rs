//! Clients, the pooler, and processes of the server. What a client's statement finds, does and answers on the pool's
//! connection is compared with a session of its own, at the moment in which it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use headpond_core::PoolSettings;

use crate::action::Link;
use crate::config::{DataSource, NodeAddress, OpaqueFunctions, PoolMode, PoolerConfig};
use crate::session::tests::client::Customer;
use crate::session::tests::model::Impossible;
use crate::session::tests::script::Style;
use crate::session::tests::server::Process;
use crate::sim::dice::Dice;
use crate::sim::direct::{Direct, Key, key};

/// What servers may refuse from some moment on, and what nobody's startup packet asks for.
const REVOKED: [(&str, &str); 4] =
    [("role", "clerk"), ("role", "boss"), ("session_authorization", "anna"), ("app.tenant", "common")];

pub(super) struct World {
    pub(super) direct: Direct,
    pub(super) dice: Dice,
    pub(super) style: Style,
    pub(super) customers: Vec<Customer>,
    /// How many are to come, and how many there are at once.
    pub(super) to_come: u64,
    pub(super) at_once: usize,
    pub(super) processes: BTreeMap<Key, Process>,
    pub(super) impossible: Impossible,
    pub(super) ever_impossible: Impossible,
    pub(super) faults: bool,
    pub(super) seen: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let size = dice.between(2, 3) as u32;
        let pool = PoolSettings {
            max_size: size,
            acquire_timeout: Duration::ZERO,
            check: false,
            statement_cache_size: dice.pick(&[2, 200]),
            ..PoolSettings::on_demand()
        };
        let node = NodeAddress::Tcp { host: "server".to_owned(), port: 5432 };
        let mode = if dice.chance(15) { PoolMode::Statement } else { PoolMode::Transaction };
        let functions = dice.chance(70);
        let source = DataSource {
            user: Some("service".to_owned()),
            opaque_functions: if functions { OpaqueFunctions::Pin } else { OpaqueFunctions::Trust },
            ..DataSource::new("app", node, mode, pool)
        };
        let at_once = if dice.chance(25) { 8 } else { 4 };
        let blocks = mode == PoolMode::Transaction;
        Self {
            direct: Direct::new(PoolerConfig::new(vec![source])),
            style: Style { blocks, functions, names: dice.pick(&[10, 20, 70]), taste: dice.below(6) },
            customers: Vec::new(),
            to_come: at_once as u64 + dice.below(5),
            at_once,
            processes: BTreeMap::new(),
            impossible: Impossible::new(),
            ever_impossible: Impossible::new(),
            faults: dice.chance(70),
            seen: BTreeMap::new(),
            dice,
        }
    }

    /// Runs until all have left. Panics at the first violation.
    pub(super) fn run(&mut self) {
        let mut waited = 0;
        while self.to_come > 0 || self.customers.iter().any(|customer| !customer.gone) {
            if self.faults && self.dice.chance(2) {
                self.fault();
            }
            if self.step() {
                waited = 0;
            } else {
                waited += 1;
                assert!(self.direct.wait() && waited < 100, "nothing goes on: {:#?}", self.stories());
            }
            self.hear();
        }
    }

    pub(super) fn seen(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn stories(&self) -> Vec<String> {
        let there = self.customers.iter().filter(|customer| !customer.gone);
        there.map(|customer| self.story(customer.script.number)).collect()
    }

    pub(super) fn story(&self, place: usize) -> String {
        let customer = &self.customers[place];
        let skipped = customer.story.len().saturating_sub(40);
        format!("client {place}:\n  {}", customer.story[skipped..].join("\n  "))
    }

    /// Somebody does something. Whether there was anything to do.
    pub(super) fn step(&mut self) -> bool {
        let here = self.customers.iter().filter(|customer| !customer.gone).count();
        if self.to_come > 0 && here < self.at_once {
            self.come();
        }
        let can_speak = |customer: &Customer| {
            let idle = customer.requests.is_empty() && customer.unsent.is_empty();
            !customer.gone && (!customer.unsent.is_empty() || customer.logged_in && idle)
        };
        let speakers: Vec<_> =
            (0..self.customers.len()).filter(|place| can_speak(&self.customers[*place])).collect();
        let hearers = self.direct.hearers();
        let drawn = self.dice.below((speakers.len() + hearers.len()) as u64) as usize;
        if let Some(place) = speakers.get(drawn) {
            self.speaks(*place);
        } else if let Some(link) = hearers.get(drawn - speakers.len()) {
            self.works(*link);
        }
        !speakers.is_empty() || !hearers.is_empty()
    }

    /// One of the things that go wrong.
    pub(super) fn fault(&mut self) {
        match self.dice.below(4) {
            0 => {
                let place = self.dice.below(self.customers.len().max(1) as u64) as usize;
                if self.customers.get(place).is_some_and(|customer| !customer.gone) {
                    self.seen("a client leaves at any time");
                    self.leaves(place);
                }
            }
            1 => self.loses(),
            _ => {
                let revoked = self.dice.pick(&REVOKED);
                if !self.impossible.remove(&revoked) {
                    self.impossible.insert(revoked);
                    self.ever_impossible.insert(revoked);
                }
            }
        }
    }

    /// A process of the server ends.
    pub(super) fn loses(&mut self) {
        let links: Vec<_> = self.direct.ends.values().map(|end| end.link).collect();
        let servers: Vec<_> = links.into_iter().filter(|link| matches!(link, Link::Server(_))).collect();
        if servers.is_empty() {
            return;
        }
        let link = self.dice.pick(&servers);
        let place = self.client_on(link);
        self.processes.remove(&key(link));
        self.seen("a connection is lost");
        if let Some(customer) =
            place.map(|place| &mut self.customers[place]).filter(|customer| !customer.gone)
        {
            customer.story.push("its connection is lost".to_owned());
            customer.oracle = customer.heard_of.clone();
            (customer.shaken, customer.was_shaken) = (true, true);
        }
        self.direct.close(link);
        self.hear();
        if let Some(place) = place.filter(|place| !self.customers[*place].gone) {
            let kept = self.customers[place].heard_of.holds();
            assert!(kept.is_empty(), "{kept:?} is lost, and it was not told: {}", self.story(place));
        }
    }

    /// Whom a connection serves.
    pub(super) fn client_on(&self, link: Link) -> Option<usize> {
        let Link::Server(id) = link else { return None };
        let client = self.direct.pooler.servers.get(id)?.client?;
        self.customers.iter().rposition(|customer| customer.id == client)
    }
}
