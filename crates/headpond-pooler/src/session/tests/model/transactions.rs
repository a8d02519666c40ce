//! Transactions and savepoints.

use crate::session::tests::model::{Outcome, Session, done};

impl Session {
    /// An error of a statement.
    pub(in crate::session::tests) fn fails(&mut self) {
        if self.in_block {
            self.failed = true;
        } else {
            self.roll_back();
        }
    }

    /// The end of a request: a transaction that nobody began ends with it.
    pub(in crate::session::tests) fn request_over(&mut self) {
        if !self.in_block {
            self.commit();
        }
    }

    fn roll_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.state = before;
        }
        self.cursors.retain(|_, cursor| cursor.depth.is_none());
        self.savepoints.clear();
        (self.in_block, self.failed) = (false, false);
    }

    fn commit(&mut self) {
        self.before = None;
        self.state.local.clear();
        self.state.temporary.retain(|_, (_, goes)| !*goes);
        self.cursors.values_mut().for_each(|cursor| cursor.depth = None);
        self.savepoints.clear();
        self.in_block = false;
    }

    /// Begins, ends, and what is within transactions.
    pub(super) fn ends(&mut self, words: &[&str]) -> Option<Outcome> {
        Some(match words {
            ["begin"] if self.failed => return None,
            ["begin"] => {
                self.before.get_or_insert_with(|| self.state.clone());
                self.in_block = true;
                done("BEGIN")
            }
            ["commit"] if self.failed => {
                self.roll_back();
                done("ROLLBACK")
            }
            ["commit"] => {
                self.commit();
                done("COMMIT")
            }
            ["rollback"] => {
                self.roll_back();
                done("ROLLBACK")
            }
            ["savepoint", name] if self.in_block && !self.failed => {
                self.savepoints.push(((*name).to_owned(), self.state.clone()));
                done("SAVEPOINT")
            }
            ["rollback", "to", name] if self.in_block => match self.savepoint(name) {
                None => Err("3B001"),
                Some(at) => {
                    self.savepoints.truncate(at + 1);
                    self.state = self.savepoints[at].1.clone();
                    self.cursors.retain(|_, cursor| cursor.depth.is_none_or(|depth| depth <= at));
                    self.failed = false;
                    done("ROLLBACK")
                }
            },
            ["release", name] if self.in_block && !self.failed => match self.savepoint(name) {
                None => Err("3B001"),
                Some(at) => {
                    self.savepoints.truncate(at);
                    let depths = self.cursors.values_mut().filter_map(|cursor| cursor.depth.as_mut());
                    depths.for_each(|depth| *depth = (*depth).min(at));
                    done("RELEASE")
                }
            },
            ["savepoint", _] | ["release", _] | ["rollback", "to", _] if !self.failed => Err("25P01"),
            _ => return None,
        })
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(other, _)| other == name)
    }
}
