//! What happens to the database and to the application servers.

use headpond_core::{CloseReason, FailureClass, Tick};

use super::agenda::Due;
use super::{World, nanoseconds};
use crate::scenario::EventKind;

impl World<'_> {
    pub(super) fn schedule_events(&mut self) {
        for (number, event) in (0..).zip(&self.scenario.events) {
            self.agenda.add(nanoseconds(event.at), Due::Begins(number));
            self.agenda.add(nanoseconds(event.at + event.lasts), Due::Ends(number));
        }
    }

    pub(super) fn schedule_stall(&mut self, node: usize) {
        if let Some(stalls) = self.scenario.database.stalls.filter(|stalls| stalls.rate > 0.0) {
            let pause = self.chance.exponential() / stalls.rate;
            let next = self.after(pause);
            self.agenda.add(next, Due::Stall(node as u32));
        }
    }

    /// A node pauses, as it does now and then.
    pub(super) fn stalls(&mut self, node: usize) {
        if let Some(stalls) = self.scenario.database.stalls {
            let length = self.chance.exponential() * stalls.mean;
            self.nodes[node].pause(self.now);
            self.agenda.add(self.after(length), Due::GoOn(node as u32));
        }
        self.schedule_stall(node);
    }

    pub(super) fn event_begins(&mut self, number: usize) {
        match self.scenario.events[number].kind {
            // The sources know of it from the start.
            EventKind::Spike(_) => {}
            EventKind::Stall(node) => {
                if let Some(node) = self.nodes.get_mut(node as usize) {
                    node.pause(self.now);
                }
            }
            EventKind::NodeLoss(node) => self.node_lost(node as usize),
            EventKind::FleetRestart => {
                for site in 0..self.sites.len() {
                    for (id, _) in self.requests.at(site) {
                        self.connection_lost(id);
                    }
                    self.restart_pool(site);
                }
            }
        }
    }

    pub(super) fn event_ends(&mut self, number: usize) {
        match self.scenario.events[number].kind {
            EventKind::Spike(_) | EventKind::FleetRestart => {}
            EventKind::Stall(node) => {
                if let Some(node) = self.nodes.get_mut(node as usize) {
                    node.go_on(self.now);
                }
            }
            EventKind::NodeLoss(node) => {
                if let Some(node) = self.nodes.get_mut(node as usize) {
                    node.up = true;
                }
            }
        }
    }

    /// A node is gone with its connections: who held one has lost it, who waits there waits elsewhere, if there is an
    /// elsewhere.
    fn node_lost(&mut self, number: usize) {
        let Some(node) = self.nodes.get_mut(number) else { return };
        node.crash(self.now);
        let elsewhere = self.nodes.iter().any(|node| node.up);
        let here = |site: &usize| self.sites[*site].node == number;
        let sites: Vec<usize> = (0..self.sites.len()).filter(here).collect();
        for site in sites {
            let now = Tick(self.now);
            self.sites[site].admitted.clear();
            self.sites[site].pool.server_gone(now, &mut self.out);
            self.carry_out(site);
            for conn in std::mem::take(&mut self.sites[site].opening) {
                self.login_failed(site, conn, FailureClass::Unreachable);
            }
            for (id, request) in self.requests.at(site) {
                if let Some(conn) = request.conn {
                    self.connection_lost(id);
                    self.sites[site].pool.close(now, conn, CloseReason::MassDeath, &mut self.out);
                    self.carry_out(site);
                } else if elsewhere {
                    self.moves_on(id);
                    self.carry_out(site);
                }
            }
        }
    }
}
