//! Where requests come from.

use std::collections::VecDeque;

use super::agenda::Due;
use super::draw::{Draw, SECOND, Stream};
use super::requests::{RequestId, Wish};
use super::{World, nanoseconds};
use crate::scenario::{Application, Arrivals, EventKind, Scenario};

/// One application's clients.
pub(super) struct Source {
    times: Stream,
    amounts: Stream,
    work: Draw,
    think: Draw,
    /// Rates of open arrivals: until when, in nanoseconds, and how many groups in a nanosecond.
    rates: Vec<(u64, f64)>,
    /// Entries of the trace behind us.
    replayed: usize,
    /// Who gives up when, in order of time.
    patience: VecDeque<(u64, RequestId)>,
}

impl Source {
    pub(super) fn new(scenario: &Scenario, number: u32, seed: u64) -> Self {
        let application = &scenario.applications[number as usize];
        Self {
            times: Stream::new(seed, 2 * u64::from(number) + 2),
            amounts: Stream::new(seed, 2 * u64::from(number) + 3),
            work: Draw::of(application.work),
            think: Draw::of(application.think),
            rates: rates(scenario, application),
            replayed: 0,
            patience: VecDeque::new(),
        }
    }

    /// When the next group of an open application comes: the time at which the rates since `now` add up to a draw.
    fn next_open(&mut self, now: u64) -> Option<u64> {
        let mut left = self.times.exponential();
        let mut from = now;
        for (until, rate) in self.rates.iter().filter(|(until, _)| *until > now) {
            let length = (until - from) as f64;
            if length * rate >= left {
                return Some(from + (left / rate).round() as u64);
            }
            left -= length * rate;
            from = *until;
        }
        None
    }
}

/// The rate of groups over time: the profile, times the spikes.
fn rates(scenario: &Scenario, application: &Application) -> Vec<(u64, f64)> {
    let Arrivals::Open { rate, profile, dispersion } = &application.arrivals else { return Vec::new() };
    let spikes: Vec<(f64, f64, f64)> = (scenario.events.iter())
        .filter_map(|event| match event.kind {
            EventKind::Spike(factor) => Some((event.at, event.at + event.lasts, factor)),
            _ => None,
        })
        .collect();
    let mut edges: Vec<f64> = profile.iter().map(|(at, _)| *at).collect();
    edges.extend(spikes.iter().flat_map(|(from, to, _)| [*from, *to]));
    edges.extend([0.0, scenario.duration]);
    edges.retain(|at| (0.0..=scenario.duration).contains(at));
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    let group = f64::midpoint(dispersion.max(1.0), 1.0);
    let at = |time: f64| {
        let step = profile.iter().rev().find(|(from, _)| *from <= time).map_or(1.0, |(_, factor)| *factor);
        let during = spikes.iter().filter(|(from, to, _)| (*from..*to).contains(&time));
        rate * step * during.map(|(_, _, factor)| factor).product::<f64>() / group / SECOND
    };
    edges.windows(2).map(|edge| (nanoseconds(edge[1]), at(edge[0]))).collect()
}

impl World<'_> {
    pub(super) fn schedule_first(&mut self, number: usize) {
        match &self.scenario.applications[number].arrivals {
            Arrivals::Open { .. } | Arrivals::Trace(_) => self.schedule_arrival(number),
            Arrivals::Closed { clients, .. } => {
                for _ in 0..*clients {
                    self.schedule_again(number);
                }
            }
        }
    }

    /// The next request, or group of requests, comes.
    pub(super) fn arrival(&mut self, number: usize) {
        let scenario = self.scenario;
        match &scenario.applications[number].arrivals {
            Arrivals::Open { dispersion, .. } => {
                for _ in 0..self.sources[number].times.group(*dispersion) {
                    self.asks_again(number);
                }
            }
            Arrivals::Trace(trace) => {
                let (_, hold) = trace[self.sources[number].replayed];
                self.sources[number].replayed += 1;
                self.wishes(Wish {
                    application: number as u32,
                    statements: 1,
                    work: 0.0,
                    think: hold * SECOND,
                });
            }
            Arrivals::Closed { .. } => {}
        }
        self.schedule_arrival(number);
    }

    /// One client asks for what its application asks for.
    pub(super) fn asks_again(&mut self, number: usize) {
        let statements = self.scenario.applications[number].statements.max(1);
        let source = &mut self.sources[number];
        let work = source.amounts.time(&source.work) / f64::from(statements);
        let think = source.amounts.time(&source.think) / f64::from(statements);
        self.wishes(Wish { application: number as u32, statements, work, think });
    }

    /// A client was served, or tries no more.
    pub(super) fn client_is_done(&mut self, number: usize) {
        if matches!(self.scenario.applications[number].arrivals, Arrivals::Closed { .. }) {
            self.schedule_again(number);
        }
    }

    /// A client that has just asked gives up some time.
    pub(super) fn await_patience(&mut self, number: usize, id: RequestId) {
        let Some(timeout) = self.scenario.applications[number].timeout else { return };
        let until = self.after(timeout);
        let patience = &mut self.sources[number].patience;
        patience.push_back((until, id));
        if patience.len() == 1 {
            self.agenda.add(until, Due::Impatience(number as u32));
        }
    }

    /// Some clients have waited for too long.
    pub(super) fn impatience(&mut self, number: usize) {
        while let Some((until, id)) = self.sources[number].patience.front().copied() {
            let there = self.requests.find(id).is_some();
            if there && until > self.now {
                self.agenda.add(until, Due::Impatience(number as u32));
                return;
            }
            if there {
                self.gives_up(id);
            }
            self.sources[number].patience.pop_front();
        }
    }

    fn schedule_arrival(&mut self, number: usize) {
        let source = &mut self.sources[number];
        let next = match &self.scenario.applications[number].arrivals {
            Arrivals::Open { .. } => source.next_open(self.now),
            Arrivals::Trace(trace) => trace.get(source.replayed).map(|(at, _)| nanoseconds(*at)),
            Arrivals::Closed { .. } => None,
        };
        if let Some(next) = next {
            self.agenda.add(next.max(self.now), Due::Arrival(number as u32));
        }
    }

    fn schedule_again(&mut self, number: usize) {
        if let Arrivals::Closed { pause, .. } = self.scenario.applications[number].arrivals {
            let pause = pause * self.sources[number].times.exponential();
            self.agenda.add(self.after(pause), Due::AsksAgain(number as u32));
        }
    }
}
