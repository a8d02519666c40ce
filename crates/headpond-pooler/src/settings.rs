//! What clients set, in their startup packets and later, and the statements that make it true on a server connection.
//!
//! Sets are interned: most clients of a pool ask for the same, and equal sets need no statement. Those that nobody has
//! any more are given up from time to time.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::config::PoolMode;
use crate::text::Dialect;

/// A set of run-time parameters; [`SettingsId::NONE`] is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SettingsId(u32);

impl SettingsId {
    pub(crate) const NONE: Self = Self(0);
}

/// Names and values, sorted by name, names in lower case.
type Set = Box<[(Box<str>, Box<str>)]>;

/// Every set that a client has.
#[derive(Debug)]
pub(crate) struct SettingsSets {
    sets: Vec<Entry>,
    ids: HashMap<Set, SettingsId>,
    /// Places of sets that were given up.
    free: Vec<SettingsId>,
    /// With this many sets it is looked for some to be given up.
    full: usize,
}

#[derive(Debug, Default)]
struct Entry {
    set: Set,
    /// The part of it that a server connection must be opened with.
    startup_part: SettingsId,
    /// How statements are to be read under it.
    dialect: Dialect,
    /// Tells sets apart under which the same text may be parsed into another statement.
    environment: u64,
}

/// Parameters that differ from client to client and that nobody resets: they are set on whatever connection the
/// client gets.
const MOVES_FREELY: [&str; 2] = ["application_name", "client_encoding"];

/// Whether a parameter is set on whatever connection the client gets, in session mode too.
pub(crate) fn moves_freely(name: &str) -> bool {
    MOVES_FREELY.contains(&name)
}

/// Parameters whose value is a list of names in quotes, where they need them.
const LISTS: [&str; 4] =
    ["local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"];

/// Why a startup parameter is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadParameter(pub(crate) String);

/// Sets in use at once that clients can make one process remember. Beyond it a new one is refused.
const SETS_MAX: usize = 100_000;

/// The fewest sets among which it pays to look for some that nobody has.
const SETS_FEW: usize = 1_000;

/// Identity, in the order in which they are restored: it decides what else may be set.
pub(crate) const IDENTITY: [&str; 2] = ["session_authorization", "role"];

impl SettingsSets {
    pub(crate) fn new() -> Self {
        Self {
            sets: vec![Entry::default()],
            ids: HashMap::from([(Box::default(), SettingsId::NONE)]),
            free: Vec::new(),
            full: SETS_FEW,
        }
    }

    /// The set of these startup parameters; those that are not run-time parameters have been taken out.
    pub(crate) fn intern(&mut self, parameters: Vec<(String, String)>) -> Result<SettingsId, BadParameter> {
        let mut set = Vec::<(Box<str>, Box<str>)>::new();
        for (name, value) in parameters {
            if !is_name(&name) {
                return Err(BadParameter(format!("invalid name of a startup parameter: {name:?}")));
            }
            let name = name.to_ascii_lowercase().into_boxed_str();
            set.retain(|(other, _)| *other != name);
            set.push((name, value.into_boxed_str()));
        }
        set.sort();
        self.intern_sorted(set)
    }

    /// The set that `base` becomes with `changes`: names in lower case, and their values, `None` for those that are not
    /// set at all.
    pub(crate) fn with(
        &mut self,
        base: SettingsId,
        changes: Vec<(Box<str>, Option<Box<str>>)>,
    ) -> Result<SettingsId, BadParameter> {
        let mut set = self.sets[base.0 as usize].set.to_vec();
        for (name, value) in changes {
            set.retain(|(other, _)| *other != name);
            set.extend(value.map(|value| (name, value)));
        }
        set.sort();
        self.intern_sorted(set)
    }

    /// What is left of `of` when everything is reset but who the client is, and goes back to `layer`.
    pub(crate) fn reset(&mut self, of: SettingsId, layer: SettingsId) -> Result<SettingsId, BadParameter> {
        let kept = self.sets[of.0 as usize].set.iter().filter(|(name, _)| IDENTITY.contains(&&**name));
        let kept = kept.map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        self.with(layer, kept)
    }

    fn intern_sorted(&mut self, set: Vec<(Box<str>, Box<str>)>) -> Result<SettingsId, BadParameter> {
        if let Some(id) = self.ids.get(set.as_slice()) {
            return Ok(*id);
        }
        let part: Vec<_> = set.iter().filter(|(name, _)| !MOVES_FREELY.contains(&&**name)).cloned().collect();
        let part = if part.len() == set.len() { None } else { Some(self.intern_sorted(part)?) };
        if self.free.is_empty() && self.sets.len() >= SETS_MAX {
            return Err(BadParameter("too many different sets of run-time parameters".to_owned()));
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.sets.push(Entry::default());
            SettingsId(u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX))
        });
        let set = set.into_boxed_slice();
        self.sets[id.0 as usize] = Entry {
            dialect: dialect_of(&set),
            environment: environment(&set),
            set: set.clone(),
            startup_part: part.unwrap_or(id),
        };
        self.ids.insert(set, id);
        Ok(id)
    }

    /// Whether there are so many sets that those which nobody has should be given up.
    pub(crate) fn is_full(&self) -> bool {
        self.ids.len() >= self.full
    }

    /// Gives up all sets but those `in_use`.
    pub(crate) fn keep_only(&mut self, in_use: impl Iterator<Item = SettingsId>) {
        let mut kept = vec![false; self.sets.len()];
        kept[0] = true;
        for id in in_use {
            kept[id.0 as usize] = true;
            kept[self.sets[id.0 as usize].startup_part.0 as usize] = true;
        }
        self.ids.retain(|_, id| {
            let stays = kept[id.0 as usize];
            if !stays {
                self.sets[id.0 as usize] = Entry::default();
                self.free.push(*id);
            }
            stays
        });
        self.full = SETS_FEW.max(self.ids.len() * 2);
    }

    /// How statements are to be read under a set.
    #[inline]
    pub(crate) fn dialect(&self, id: SettingsId) -> Dialect {
        self.sets[id.0 as usize].dialect
    }

    /// The part of a set that a session-mode server connection must have been opened with: `RESET` goes back
    /// to what the startup packet said, so a later SET would not do.
    pub(crate) fn startup_part(&self, id: SettingsId) -> SettingsId {
        self.sets[id.0 as usize].startup_part
    }

    /// The startup parameters with which a connection must have been opened to serve a client with `settings`.
    /// Otherwise none: there they are set whenever the connection changes hands.
    pub(crate) fn startup_of(&self, mode: PoolMode, settings: SettingsId) -> SettingsId {
        match mode {
            PoolMode::Session => self.startup_part(settings),
            PoolMode::Transaction | PoolMode::Statement => SettingsId::NONE,
        }
    }

    /// Tells sets apart under which the same text may be parsed into another statement.
    pub(crate) fn environment(&self, id: SettingsId) -> u64 {
        self.sets[id.0 as usize].environment
    }

    /// Names and values of a set.
    pub(crate) fn pairs(&self, id: SettingsId) -> impl Iterator<Item = (&str, &str)> {
        self.sets[id.0 as usize].set.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of one parameter in a set.
    pub(crate) fn value(&self, id: SettingsId, name: &str) -> Option<&str> {
        let entry = self.sets.get(id.0 as usize)?;
        let found = entry.set.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// One simple query that turns set `from` into set `to`: all of it or nothing, and if nothing the session
    /// is left in a failed transaction, in which whatever follows fails too.
    ///
    /// Whoever the session was is given up before anything is set, and whoever it is to be comes last: only the login's
    /// own user is sure to be allowed all of it.
    pub(crate) fn change(&self, from: SettingsId, to: SettingsId) -> String {
        let (old, new) = (&self.sets[from.0 as usize].set, &self.sets[to.0 as usize].set);
        let is_identity = |name: &str| IDENTITY.contains(&name);
        let mut text = String::from("BEGIN;");
        // Writing to a String cannot fail.
        for name in IDENTITY.iter().filter(|name| old.iter().any(|(other, _)| &&**other == *name)) {
            let _ = write!(text, "RESET {name};");
        }
        let gone = |name: &str| !is_identity(name) && !new.iter().any(|(other, _)| &**other == name);
        for (name, _) in old.iter().filter(|(name, _)| gone(name)) {
            let _ = write!(text, "RESET {name};");
        }
        let who = |name: &&str| new.iter().find(|(other, _)| &**other == *name);
        if planted!(RoleBeforeSettings) {
            IDENTITY.iter().filter_map(who).for_each(|(name, value)| push_set(&mut text, name, value));
        }
        for (name, value) in new.iter().filter(|pair| !is_identity(&pair.0) && !old.contains(pair)) {
            push_set(&mut text, name, value);
        }
        for (name, value) in IDENTITY.iter().filter_map(who) {
            push_set(&mut text, name, value);
        }
        text.push_str("COMMIT");
        text
    }

    /// The statements that set again what of `layer` was reset. Empty if there is nothing to be set.
    pub(crate) fn layer(&self, layer: SettingsId, is_reset: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        for (name, value) in self.pairs(layer).filter(|(name, _)| is_reset(name)) {
            push_set(&mut text, name, value);
        }
        text
    }
}

/// How statements are to be read under these settings.
fn dialect_of(set: &[(Box<str>, Box<str>)]) -> Dialect {
    let value = |name: &str| set.iter().find(|(other, _)| &**other == name).map(|(_, value)| &**value);
    Dialect::of(value("standard_conforming_strings"), value("client_encoding"))
}

/// One statement that sets a parameter.
fn push_set(text: &mut String, name: &str, value: &str) {
    let by_function = LISTS.contains(&name) || !value.is_ascii();
    if !by_function {
        let _ = write!(text, "SET {name} TO ");
        push_literal(text, value);
        text.push(';');
        return;
    }
    // A list is one word to SET where it is one literal, and is to be in the server's encoding, not the client's.
    let _ = write!(text, "SELECT pg_catalog.set_config('{name}', ");
    if value.is_ascii() {
        push_literal(text, value);
    } else {
        text.push_str("pg_catalog.convert_from(pg_catalog.decode('");
        for byte in value.bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("', 'hex'), 'UTF8')");
    }
    text.push_str(", false);");
}

/// What the parser looks at: literals become constants there, and names are looked up.
const PARSED_UNDER: [&str; 14] = [
    "array_nulls",
    "backslash_quote",
    "client_encoding",
    "datestyle",
    "default_text_search_config",
    "intervalstyle",
    "lc_monetary",
    "role",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
    "timezone",
    "transform_null_equals",
    "xmloption",
];

fn environment(set: &[(Box<str>, Box<str>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut parsed_under = set.iter().filter(|(name, _)| PARSED_UNDER.contains(&&**name)).peekable();
    if parsed_under.peek().is_none() {
        return 0;
    }
    parsed_under.for_each(|pair| pair.hash(&mut hasher));
    hasher.finish()
}

/// A parameter name that needs no quotes: letters, digits, underscores, and dots between such parts.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

/// An SQL literal of ASCII that means the same under every `client_encoding` and `standard_conforming_strings`.
fn push_literal(text: &mut String, value: &str) {
    text.push_str("E'");
    for byte in value.bytes() {
        match byte {
            b'\'' => text.push_str("''"),
            b' '..=b'~' if byte != b'\\' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push('\'');
}

/// Splits the startup parameter `options` as the server would split a command line: words separated by blanks,
/// backslash escapes; only `-c name=value` and `--name=value` are taken.
pub(crate) fn options(text: &str) -> Result<Vec<(String, String)>, BadParameter> {
    let mut words = Vec::new();
    let (mut word, mut begun) = (String::new(), false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            '\\' => {
                begun = true;
                word.extend(characters.next());
            }
            _ => {
                begun = true;
                word.push(character);
            }
        }
    }
    if begun {
        words.push(word);
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned)
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = pair else {
            return Err(BadParameter(format!("unsupported in startup options: {word:?}")));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sets: &mut SettingsSets, application: &str) -> SettingsId {
        let parameters = [("application_name", application), ("work_mem", "5MB")];
        sets.intern(parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
            .expect("a set")
    }

    #[test]
    fn sets_that_nobody_has_are_given_up_and_the_others_stay_what_they_are() {
        let mut sets = SettingsSets::new();
        let kept = named(&mut sets, "kept");
        let part = sets.startup_part(kept);
        for number in 0..10 * SETS_FEW {
            named(&mut sets, &number.to_string());
            if sets.is_full() {
                sets.keep_only([kept].into_iter());
            }
        }
        assert!(sets.sets.len() <= SETS_FEW + 4, "{}", sets.sets.len());
        assert_eq!((named(&mut sets, "kept"), sets.startup_part(kept)), (kept, part));
        assert_eq!(sets.value(kept, "application_name"), Some("kept"));
        assert_eq!(sets.pairs(part).collect::<Vec<_>>(), [("work_mem", "5MB")]);
    }

    #[test]
    fn who_a_session_was_is_given_up_first_and_who_it_is_to_be_comes_last() {
        let mut sets = SettingsSets::new();
        let set = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect::<Vec<_>>()
        };
        let old = sets.with(SettingsId::NONE, set(&[("role", "a"), ("timezone", "UTC")])).expect("a set");
        let new = set(&[("role", "b"), ("search_path", "it's"), ("session_authorization", "c")]);
        let new = sets.with(SettingsId::NONE, new).expect("a set");
        assert_eq!(
            sets.change(old, new),
            "BEGIN;RESET role;RESET timezone;SELECT pg_catalog.set_config('search_path', E'it''s', false);\
             SET session_authorization TO E'c';SET role TO E'b';COMMIT"
        );
    }
}
