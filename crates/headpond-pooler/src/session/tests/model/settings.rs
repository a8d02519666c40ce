//! Parameters: what they are, and who may set them.

use std::collections::{BTreeMap, BTreeSet};

use crate::session::tests::model::{Outcome, Session, State, done, row};

/// What servers refuse to set from now on: names and values.
pub(in crate::session::tests) type Impossible = BTreeSet<(&'static str, &'static str)>;

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

pub(super) type Settings = BTreeMap<String, String>;

impl Session {
    pub(super) fn value(&self, name: &str) -> String {
        let State { set, local, .. } = &self.state;
        local.get(name).or_else(|| set.get(name)).cloned().unwrap_or_else(|| self.reset_value(name))
    }

    /// As `current_setting` with `missing_ok` says it: NULL is for what was never set in this process.
    pub(in crate::session::tests) fn shown(&self, name: &str) -> Option<String> {
        let is_there = !CUSTOM.contains(&name) || self.known.contains(name) || self.layer.contains_key(name);
        is_there.then(|| self.value(name))
    }

    fn reset_value(&self, name: &str) -> String {
        let default = DEFAULTS.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| *value);
        self.layer.get(name).map_or(default, String::as_str).to_owned()
    }

    fn may_set(&self, name: &str) -> bool {
        let is_superuser = self.value("role") == "none" && self.value("session_authorization") == "service";
        name != "log_statement" || is_superuser
    }

    pub(super) fn set(
        &mut self,
        name: &str,
        value: &str,
        is_local: bool,
        impossible: &Impossible,
    ) -> Outcome {
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

    pub(super) fn reset(&mut self, name: &str) -> Outcome {
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

    pub(super) fn reset_all(&mut self) {
        self.state.set.retain(|name, _| IDENTITY.contains(&name.as_str()));
        self.state.local.retain(|name, _| IDENTITY.contains(&name.as_str()));
    }

    /// The name may be computed from two parts.
    pub(super) fn set_config(&mut self, arguments: &[&str], impossible: &Impossible) -> Outcome {
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

pub(super) fn unquoted(word: &str) -> &str {
    word.strip_prefix('\'').unwrap_or(word)
}

/// What SET makes of a list.
pub(super) fn list(words: &[&str]) -> String {
    let values: Vec<_> = words.iter().filter(|word| **word != ",").map(|word| unquoted(word)).collect();
    values.join(", ")
}
