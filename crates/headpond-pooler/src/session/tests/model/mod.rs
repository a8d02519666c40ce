//! What PostgreSQL keeps in one session, and what statements do to it. It shares nothing with what the pooler tracks.

mod settings;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::settings::Impossible;
use self::settings::{CUSTOM, DEFAULTS, Settings, list, unquoted};
use crate::session::tests::words::words;

/// What a rollback undoes.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    set: Settings,
    /// SET LOCAL: until the transaction ends.
    local: Settings,
    /// Temporary tables: who made them, and whether they go with the transaction.
    temporary: BTreeMap<String, (String, bool)>,
    /// Done at commit: LISTEN and UNLISTEN.
    channels: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Cursor {
    made_by: String,
    /// In the transaction, within so many savepoints; none once it is held.
    depth: Option<usize>,
}

/// One session.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// What its startup packet said.
    pub(super) layer: Settings,
    state: State,
    /// In a transaction: what it began with.
    before: Option<State>,
    savepoints: Vec<(String, State)>,
    /// BEGIN was said.
    in_block: bool,
    pub(super) failed: bool,
    locks: BTreeMap<String, u32>,
    cursors: BTreeMap<String, Cursor>,
    prepared: BTreeMap<String, String>,
    drawn: BTreeMap<String, String>,
    last: Option<String>,
    /// Parameters of the application that were set at some time.
    pub(super) known: BTreeSet<String>,
}

/// Rows, and then the tag of completion; or the code of an error.
pub(super) type Outcome = Result<(Vec<Option<String>>, &'static str), &'static str>;

fn row(value: impl Into<String>) -> Outcome {
    Ok((vec![Some(value.into())], "SELECT 1"))
}

fn done(tag: &'static str) -> Outcome {
    Ok((Vec::new(), tag))
}

impl Session {
    /// All that statements may depend on, but for what was drawn from sequences.
    pub(super) fn seen(&self) -> Vec<String> {
        let names = DEFAULTS.iter().map(|(name, _)| *name).chain(CUSTOM);
        let mut seen: Vec<_> = names.map(|name| format!("{name} = {}", self.value(name))).collect();
        seen.extend(self.holds());
        seen.push(format!("block {} failed {}", self.in_block, self.failed));
        seen
    }

    /// What no other connection has.
    pub(super) fn holds(&self) -> Vec<String> {
        let State { temporary, channels, .. } = &self.state;
        let temporary = temporary.iter().map(|(name, (by, _))| format!("table {name} of {by}"));
        let channels = channels.iter().map(|name| format!("channel {name}"));
        let locks = self.locks.iter().map(|(key, count)| format!("lock {key} {count} times"));
        let cursors =
            self.cursors.iter().map(|(name, cursor)| format!("cursor {name} of {}", cursor.made_by));
        let prepared = self.prepared.iter().map(|(name, text)| format!("prepared {name}: {text}"));
        temporary.chain(channels).chain(locks).chain(cursors).chain(prepared).collect()
    }

    pub(super) fn status(&self) -> u8 {
        match (self.failed, self.in_block) {
            (true, _) => b'E',
            (_, true) => b'T',
            _ => b'I',
        }
    }

    /// Runs one statement, said by `who`. `alone`: nothing else is in its request.
    pub(super) fn run(&mut self, text: &str, who: &str, alone: bool, impossible: &Impossible) -> Outcome {
        let words = words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words.is_empty() {
            return done("");
        }
        let outcome = match self.ends(&words) {
            Some(outcome) => outcome,
            None if self.failed => Err("25P02"),
            None => {
                self.before.get_or_insert_with(|| self.state.clone());
                self.does(&words, text, who, alone, impossible)
            }
        };
        if outcome.is_err() {
            self.fails();
        }
        outcome
    }

    fn does(
        &mut self,
        words: &[&str],
        text: &str,
        who: &str,
        alone: bool,
        impossible: &Impossible,
    ) -> Outcome {
        match *words {
            ["set", "time", "zone", value] => self.set("timezone", value, false, impossible),
            ["set", "session", "authorization", "default"] | ["reset", "session", "authorization"] => {
                self.reset("session_authorization")
            }
            ["set", "session", "authorization", value] => {
                self.set("session_authorization", value, false, impossible)
            }
            ["set", "role", "none"] | ["reset", "role"] => self.reset("role"),
            ["set", "role", value] => self.set("role", value, false, impossible),
            ["set", "local", "role", value] => self.set("role", value, true, impossible),
            ["set", name, "to", "default"] | ["reset", name] if name != "all" => self.reset(name),
            ["set", name, "to" | "=", ref value @ ..] => self.set(name, &list(value), false, impossible),
            ["set", "session", name, "to" | "=", ref value @ ..] => {
                self.set(name, &list(value), false, impossible)
            }
            ["set", "local", name, "to" | "=", ref value @ ..] => {
                self.set(name, &list(value), true, impossible)
            }
            ["reset", "all"] => {
                self.reset_all();
                done("RESET")
            }
            ["show", name] | ["select", "current_setting", "(", name, ",", "true", ")"] => {
                row(self.value(unquoted(name)))
            }
            ["select", "pg_catalog.set_config" | "set_config", "(", ref arguments @ .., ")"] => {
                self.set_config(arguments, impossible)
            }
            ["select", "set_tenant", "(", value, ")"] => {
                self.set("app.tenant", unquoted(value), false, impossible)?;
                row("")
            }
            ["select", "take_lock", "(", key, ")"] | ["select", "pg_advisory_lock", "(", key, ")"] => {
                *self.locks.entry(key.to_owned()).or_default() += 1;
                row("")
            }
            ["select", "pg_advisory_unlock", "(", key, ")"] => match self.locks.remove(key) {
                None => row("f"),
                Some(count) => {
                    self.locks.extend((count > 1).then(|| (key.to_owned(), count - 1)));
                    row("t")
                }
            },
            ["select", "pg_advisory_unlock_all", "(", ")"] => {
                self.locks.clear();
                row("")
            }
            ["create", "temp", "table", name, "(", "a", "int", ")", ref on_commit @ ..] => {
                if self.state.temporary.contains_key(name) {
                    return Err("42P07");
                }
                let made = (who.to_owned(), !on_commit.is_empty());
                self.state.temporary.insert(name.to_owned(), made);
                done("CREATE TABLE")
            }
            ["drop", "table", name] => match self.state.temporary.remove(name) {
                None => Err("42P01"),
                Some(_) => done("DROP TABLE"),
            },
            ["select", "*", "from", name] => match self.state.temporary.get(name) {
                None => Err("42P01"),
                Some((by, _)) => row(by.clone()),
            },
            ["listen", name] => {
                self.state.channels.insert(name.to_owned());
                done("LISTEN")
            }
            ["unlisten", "*"] => {
                self.state.channels.clear();
                done("UNLISTEN")
            }
            ["unlisten", name] => {
                self.state.channels.remove(name);
                done("UNLISTEN")
            }
            ["declare", name, "cursor", "with", "hold", ..] if self.cursors.contains_key(name) => {
                Err("42P03")
            }
            ["declare", name, "cursor", "with", "hold", ..] => {
                let cursor = Cursor { made_by: who.to_owned(), depth: Some(self.savepoints.len()) };
                self.cursors.insert(name.to_owned(), cursor);
                done("DECLARE CURSOR")
            }
            ["fetch", name] => match self.cursors.get(name) {
                None => Err("34000"),
                Some(cursor) => row(cursor.made_by.clone()),
            },
            ["close", name] => match self.cursors.remove(name) {
                None => Err("34000"),
                Some(_) => done("CLOSE CURSOR"),
            },
            ["prepare", name, "as", ..] if self.prepared.contains_key(name) => Err("42P05"),
            ["prepare", name, "as", ..] => {
                let body = text.split_once(" AS ").map_or("", |(_, body)| body);
                self.prepared.insert(name.to_owned(), body.to_owned());
                done("PREPARE")
            }
            ["execute", name] => match self.prepared.get(name).cloned() {
                None => Err("26000"),
                Some(body) => {
                    let body_words = super::words::words(&body);
                    let body_words: Vec<&str> = body_words.iter().map(String::as_str).collect();
                    self.does(&body_words, &body, who, alone, impossible)
                }
            },
            ["deallocate", "all"] => {
                self.prepared.clear();
                done("DEALLOCATE ALL")
            }
            ["deallocate", name] => match self.prepared.remove(name) {
                None => Err("26000"),
                Some(_) => done("DEALLOCATE"),
            },
            ["select", "nextval", "(", name, ")"] => self.draws(name, who.to_owned()),
            ["select", "setval", "(", name, ",", value, ")"] => self.draws(name, value.to_owned()),
            ["select", "currval", "(", name, ")"] => self.drawn.get(name).cloned().map_or(Err("55000"), row),
            ["select", "lastval", "(", ")"] => self.last.clone().map_or(Err("55000"), row),
            ["select", "1"] => row("1"),
            ["select", "1", "/", "0"] => Err("22012"),
            ["discard", "sequences"] => {
                self.drawn.clear();
                self.last = None;
                done("DISCARD SEQUENCES")
            }
            ["discard", "temp"] => {
                self.state.temporary.clear();
                done("DISCARD TEMP")
            }
            ["discard", "all"] if self.in_block || !alone => Err("25001"),
            ["discard", "all"] => {
                self.cursors.clear();
                self.reset("session_authorization")?;
                self.reset_all();
                (self.prepared, self.locks, self.drawn, self.last) = Default::default();
                self.state.temporary.clear();
                self.state.channels.clear();
                done("DISCARD ALL")
            }
            _ => panic!("{text}"),
        }
    }

    fn draws(&mut self, name: &str, value: String) -> Outcome {
        self.drawn.insert(name.to_owned(), value.clone());
        self.last = Some(value.clone());
        row(value)
    }
}
