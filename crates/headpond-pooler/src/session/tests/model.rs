//! What PostgreSQL keeps in one session, and what statements do to it. It shares nothing with what the pooler tracks.

use std::collections::{BTreeMap, BTreeSet};

use crate::session::tests::words::words;

/// What servers refuse to set from now on: names and values.
pub(super) type Impossible = BTreeSet<(&'static str, &'static str)>;

/// Parameters and their values in a new session; others exist once they were set.
pub(super) const DEFAULTS: [(&str, &str); 7] = [
    ("application_name", ""),
    ("log_statement", "none"),
    ("role", "none"),
    ("search_path", "\"$user\", public"),
    ("session_authorization", "service"),
    ("timezone", "GMT"),
    ("work_mem", "4MB"),
];

/// Those of the application.
pub(super) const CUSTOM: [&str; 2] = ["app.tenant", "app.user"];

/// RESET ALL leaves them.
const IDENTITY: [&str; 2] = ["role", "session_authorization"];

type Settings = BTreeMap<String, String>;

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
    pub(super) fn value(&self, name: &str) -> String {
        let State { set, local, .. } = &self.state;
        local.get(name).or_else(|| set.get(name)).cloned().unwrap_or_else(|| self.reset_value(name))
    }

    /// As `current_setting` with `missing_ok` says it: NULL is for what was never set in this process.
    pub(super) fn shown(&self, name: &str) -> Option<String> {
        let is_there = !CUSTOM.contains(&name) || self.known.contains(name) || self.layer.contains_key(name);
        is_there.then(|| self.value(name))
    }

    fn reset_value(&self, name: &str) -> String {
        let default = DEFAULTS.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| *value);
        self.layer.get(name).map_or(default, String::as_str).to_owned()
    }

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

    /// An error of a statement.
    pub(super) fn fails(&mut self) {
        if self.in_block {
            self.failed = true;
        } else {
            self.roll_back();
        }
    }

    /// The end of a request: a transaction that nobody began ends with it.
    pub(super) fn request_over(&mut self) {
        if !self.in_block {
            self.commit();
        }
    }

    pub(super) fn roll_back(&mut self) {
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

    /// Begins, ends, and what is within transactions.
    fn ends(&mut self, words: &[&str]) -> Option<Outcome> {
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

    fn may_set(&self, name: &str) -> bool {
        let is_superuser = self.value("role") == "none" && self.value("session_authorization") == "service";
        name != "log_statement" || is_superuser
    }

    fn set(&mut self, name: &str, value: &str, is_local: bool, impossible: &Impossible) -> Outcome {
        let value = unquoted(value);
        if !self.may_set(name) {
            return Err("42501");
        }
        if impossible.contains(&(name, value)) {
            return Err("22023");
        }
        if CUSTOM.contains(&name) {
            self.known.insert(name.to_owned());
        }
        let State { set, local, .. } = &mut self.state;
        if is_local {
            local.insert(name.to_owned(), value.to_owned());
            return done("SET");
        }
        local.remove(name);
        set.insert(name.to_owned(), value.to_owned());
        if name == "session_authorization" {
            set.remove("role");
            local.remove("role");
        }
        done("SET")
    }

    fn reset(&mut self, name: &str) -> Outcome {
        if !self.may_set(name) {
            return Err("42501");
        }
        if CUSTOM.contains(&name) {
            self.known.insert(name.to_owned());
        }
        let State { set, local, .. } = &mut self.state;
        set.remove(name);
        local.remove(name);
        if name == "session_authorization" {
            set.remove("role");
            local.remove("role");
        }
        done("RESET")
    }

    fn reset_all(&mut self) {
        self.state.set.retain(|name, _| IDENTITY.contains(&name.as_str()));
        self.state.local.retain(|name, _| IDENTITY.contains(&name.as_str()));
    }

    /// The name may be computed from two parts.
    fn set_config(&mut self, arguments: &[&str], impossible: &Impossible) -> Outcome {
        let (name, value, is_local) = match *arguments {
            [name, ",", value, ",", is_local] => (unquoted(name).to_owned(), value, is_local),
            [first, "|", "|", second, ",", value, ",", is_local] => {
                ([first, second].map(unquoted).concat(), value, is_local)
            }
            _ => panic!("{arguments:?}"),
        };
        self.set(&name, value, is_local == "true", impossible)?;
        row(unquoted(value))
    }
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix('\'').unwrap_or(word)
}

/// What SET makes of a list.
fn list(words: &[&str]) -> String {
    let values: Vec<_> = words.iter().filter(|word| **word != ",").map(|word| unquoted(word)).collect();
    values.join(", ")
}
