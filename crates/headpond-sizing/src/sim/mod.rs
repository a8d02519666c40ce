//! The simulator: the pool's own policy in virtual time, in front of a model of a database.
//!
//! Every pool is a [`headpond_core::Pool`], so what is simulated is what runs in production: queue, floors, shrinking,
//! pace of logins, time-outs. Around it are models: nodes that their statements share (`node`), logins that are work
//! on the same node and so slow the traffic, pauses of a whole node, clients that give up and try again while what
//! they asked for runs on. Not modelled: locks between statements, sessions that pin their connection, a pooler's CPU.

mod agenda;
mod draw;
mod happenings;
mod node;
mod outcome;
mod pools;
mod report;
mod requests;
mod source;

#[cfg(test)]
mod tests;

use headpond_core::{Action, Pool};

pub(crate) use draw::Stream;
pub use outcome::{Figures, Outcome, Recovery};
pub use report::{ApplicationReport, EventReport, Level, ObjectiveReport, Report};

use crate::scenario::Scenario;
use agenda::{Agenda, Due};
use draw::SECOND;
use node::{Job, Node};
use outcome::Tally;
use pools::Site;
use requests::Requests;
use source::Source;

/// Runs a scenario from its beginning to its end. The same scenario and seed have the same outcome.
#[must_use]
pub fn simulate(scenario: &Scenario, seed: u64) -> Outcome {
    World::new(scenario, seed).run()
}

/// Everything there is, at one moment.
struct World<'a> {
    scenario: &'a Scenario,
    /// Nanoseconds.
    now: u64,
    end: u64,
    agenda: Agenda,
    nodes: Vec<Node>,
    sites: Vec<Site>,
    sources: Vec<Source>,
    requests: Requests,
    tally: Tally,
    /// For what is no application's: pauses of nodes, back-off.
    chance: Stream,
    seed: u64,
    /// Sites are asked in turn.
    turn: u32,
    /// What a pool has said, until it is carried out.
    out: Vec<Action>,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let end = nanoseconds(scenario.duration);
        let nodes = scenario.database.nodes.max(1);
        let site = |number: u32| Site::new(number % nodes, pool_of(scenario, seed, number, 0));
        Self {
            scenario,
            now: 0,
            end,
            agenda: Agenda::default(),
            nodes: (0..nodes).map(|_| Node::new(&scenario.database.speed)).collect(),
            sites: (0..scenario.servers.max(1).saturating_mul(nodes)).map(site).collect(),
            sources: (0..).zip(&scenario.applications).map(|(i, _)| Source::new(scenario, i, seed)).collect(),
            requests: Requests::default(),
            tally: Tally::new(scenario),
            chance: Stream::new(seed, 1),
            seed,
            turn: 0,
            out: Vec::new(),
        }
    }

    fn run(mut self) -> Outcome {
        self.begin();
        loop {
            let (node, job_ends) = self.next_job();
            let due = self.agenda.next();
            if due.min(job_ends) > self.end {
                break;
            }
            if job_ends <= due {
                self.now = job_ends;
                if let Some(job) = self.nodes[node].take_ended(job_ends) {
                    self.job_ended(job);
                }
            } else {
                self.now = due;
                if let Some(due) = self.agenda.take() {
                    self.happens(due);
                }
            }
        }
        self.now = self.end;
        self.tally.finish(self.scenario, self.end)
    }

    fn begin(&mut self) {
        for site in 0..self.sites.len() {
            self.start_pool(site);
        }
        for application in 0..self.sources.len() {
            self.schedule_first(application);
        }
        for node in 0..self.nodes.len() {
            self.schedule_stall(node);
        }
        self.schedule_events();
    }

    /// So many seconds from now, or at the end of time.
    fn after(&self, seconds: f64) -> u64 {
        self.now.saturating_add(nanoseconds(seconds))
    }

    fn next_job(&self) -> (usize, u64) {
        let ends = self.nodes.iter().map(Node::next_end).enumerate();
        ends.min_by_key(|(_, ends)| *ends).unwrap_or((0, u64::MAX))
    }

    fn job_ended(&mut self, job: Job) {
        match job {
            Job::Statement(id) => self.step(id),
            Job::Login(site, life, conn) => self.logged_in(site as usize, life, conn),
        }
    }

    fn happens(&mut self, due: Due) {
        match due {
            Due::Arrival(application) => self.arrival(application as usize),
            Due::AsksAgain(application) => self.asks_again(application as usize),
            Due::Impatience(application) => self.impatience(application as usize),
            Due::Retry(id) => self.ask(id),
            Due::Timer(site) => self.timer(site as usize),
            Due::Thought(id) => self.step(id),
            Due::Login(site, life, conn) => self.login_arrives(site as usize, life, conn),
            Due::Checked(site, life, conn) => self.checked(site as usize, life, conn),
            Due::Closed(site, life, conn) => self.closed(site as usize, life, conn),
            Due::Stall(node) => self.stalls(node as usize),
            Due::GoOn(node) => self.nodes[node as usize].go_on(self.now),
            Due::Begins(event) => self.event_begins(event as usize),
            Due::Ends(event) => self.event_ends(event as usize),
        }
    }
}

fn pool_of(scenario: &Scenario, seed: u64, site: u32, life: u32) -> Pool {
    let mut pool = Pool::new(scenario.pool.clone(), seed ^ (u64::from(site) << 32) ^ u64::from(life));
    for (number, application) in (0..).zip(&scenario.applications) {
        pool.set_weight(number, application.weight);
    }
    pool
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND).round() as u64
}
