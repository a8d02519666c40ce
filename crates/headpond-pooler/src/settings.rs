//! What clients set in their startup packets, and the statements that make it true on a server connection.
//!
//! Sets are interned: most clients of a pool ask for the same, and equal sets need no statement.

use std::collections::HashMap;
use std::fmt::Write;

use crate::config::PoolMode;

/// A set of run-time parameters; [`SettingsId::NONE`] is the empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SettingsId(u32);

impl SettingsId {
    pub(crate) const NONE: Self = Self(0);
}

/// Names and values, sorted by name, names in lower case.
type Set = Box<[(Box<str>, Box<str>)]>;

/// Every set that a client has asked for.
#[derive(Debug)]
pub(crate) struct SettingsSets {
    sets: Vec<Set>,
    /// For each set, the part of it that a server connection must be opened with.
    startup_parts: Vec<SettingsId>,
    ids: HashMap<Set, SettingsId>,
}

/// Parameters that differ from client to client and that nobody resets: they are set on whatever connection the
/// client gets.
const MOVES_FREELY: [&str; 2] = ["application_name", "client_encoding"];

/// Why a startup parameter is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadParameter(pub(crate) String);

/// Sets of their own that clients can make one process remember. Beyond it a new one is refused.
const SETS_MAX: usize = 100_000;

impl SettingsSets {
    pub(crate) fn new() -> Self {
        Self {
            sets: vec![Box::default()],
            startup_parts: vec![SettingsId::NONE],
            ids: HashMap::from([(Box::default(), SettingsId::NONE)]),
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

    fn intern_sorted(&mut self, set: Vec<(Box<str>, Box<str>)>) -> Result<SettingsId, BadParameter> {
        let part: Vec<_> = set.iter().filter(|(name, _)| !MOVES_FREELY.contains(&&**name)).cloned().collect();
        let part = if part.len() == set.len() { None } else { Some(self.intern_sorted(part)?) };
        let set = set.into_boxed_slice();
        if let Some(id) = self.ids.get(&set) {
            return Ok(*id);
        }
        let index = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        if self.sets.len() >= SETS_MAX {
            return Err(BadParameter("too many different sets of startup parameters".to_owned()));
        }
        self.sets.push(set.clone());
        self.startup_parts.push(part.unwrap_or(SettingsId(index)));
        self.ids.insert(set, SettingsId(index));
        Ok(SettingsId(index))
    }

    /// The part of a set that a session-mode server connection must have been opened with: `RESET` goes back
    /// to what the startup packet said, so a later SET would not do.
    pub(crate) fn startup_part(&self, id: SettingsId) -> SettingsId {
        self.startup_parts[id.0 as usize]
    }

    /// The startup parameters with which a connection must have been opened to serve a client with `settings`.
    /// Otherwise none: there they are set whenever the connection changes hands.
    pub(crate) fn startup_of(&self, mode: PoolMode, settings: SettingsId) -> SettingsId {
        match mode {
            PoolMode::Session => self.startup_part(settings),
            PoolMode::Transaction | PoolMode::Statement => SettingsId::NONE,
        }
    }

    /// Names and values of a set.
    pub(crate) fn pairs(&self, id: SettingsId) -> impl Iterator<Item = (&str, &str)> {
        self.sets[id.0 as usize].iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of one parameter in a set.
    pub(crate) fn value(&self, id: SettingsId, name: &str) -> Option<&str> {
        let set = self.sets.get(id.0 as usize)?;
        let found = set.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// One simple query that turns set `from` into set `to`: all of it or nothing, and if nothing the session
    /// is left in a failed transaction, in which whatever follows fails too.
    pub(crate) fn change(&self, from: SettingsId, to: SettingsId) -> String {
        let (old, new) = (&self.sets[from.0 as usize], &self.sets[to.0 as usize]);
        let mut text = String::from("BEGIN;");
        for (name, _) in old.iter().filter(|(name, _)| !new.iter().any(|(other, _)| other == name)) {
            // Writing to a String cannot fail.
            let _ = write!(text, "RESET {name};");
        }
        for (name, value) in new.iter().filter(|pair| !old.contains(pair)) {
            let _ = write!(text, "SET {name} TO ");
            push_literal(&mut text, value);
            text.push(';');
        }
        text.push_str("COMMIT");
        text
    }
}

/// A parameter name that needs no quotes: letters, digits, underscores, and dots between such parts.
fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

/// An SQL literal that means the same under every `client_encoding` and `standard_conforming_strings`: bytes
/// that are not plain ASCII are escaped, so that no multi-byte character can swallow the closing quote.
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
