//! The prepared statements of one pool: equal ones are known under one number, whoever prepared them.
//!
//! A statement is there for as long as a client has a name for it or a server connection has it prepared.

use std::collections::HashMap;
use std::sync::Arc;

use crate::endings;
use crate::text::{Dialect, Text};

/// A statement of a pool. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StatementId(u64);

/// The beginning of the names that statements have on server connections.
pub(crate) const PREFIX: &[u8] = b"_headpond_";

impl StatementId {
    /// Its name on every server connection that has it.
    pub(crate) fn write_name(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(PREFIX);
        bytes.extend_from_slice(self.0.to_string().as_bytes());
    }
}

/// What is known of a statement.
#[derive(Debug)]
pub(crate) struct Statement {
    /// A Parse message behind the name: text, zero byte, parameter types. `None`: it is too large, or not
    /// complete yet.
    pub(crate) parse: Option<Arc<[u8]>>,
    /// Settings that the parser looked at, as [`crate::settings::SettingsSets::environment`] tells them apart.
    pub(crate) environment: u64,
    /// Executing it might end a transaction.
    pub(crate) ends: bool,
    /// What it may do, by the catalogue and the dialect of then.
    pub(crate) judged: Option<(Judgement, Arc<Text>)>,
    /// Others may find it.
    shared: bool,
    /// Clients that have a name for it, and server connections that have it.
    holders: u32,
}

/// What a text's reading depends on: which answer of the catalogue, and which settings.
pub(crate) type Judgement = (u32, Dialect);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_environment: HashMap<u64, HashMap<Arc<[u8]>, StatementId>>,
    statements: HashMap<StatementId, Statement>,
    last: u64,
    /// How often a result was found to have another form than it had: what was prepared before is prepared anew.
    pub(crate) epoch: u32,
    /// The most statements of one server connection; 0: they are not carried over.
    pub(crate) size: usize,
}

impl Registry {
    pub(crate) fn new(size: u32) -> Self {
        Self { size: size as usize, ..Self::default() }
    }

    /// What a statement was found to do.
    pub(crate) fn judge(&mut self, id: StatementId, by: Judgement, text: Arc<Text>) {
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.judged = Some((by, text));
        }
    }

    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The statement of a Parse message that is known from behind its name on, and its first holder.
    pub(crate) fn hold_parsed(&mut self, parse: &[u8], environment: u64) -> StatementId {
        let known = self.by_environment.get(&environment).and_then(|known| known.get(parse)).copied();
        if let Some(id) = known {
            self.hold(id);
            return id;
        }
        let id = StatementId(self.number());
        let text = text_of(parse);
        let (shared, ends) = (!depends_on_now(text), endings::begins_with_ending(text));
        let parse = Arc::<[u8]>::from(parse);
        if shared {
            self.by_environment.entry(environment).or_default().insert(Arc::clone(&parse), id);
        }
        let statement = Statement { parse: Some(parse), environment, ends, shared, judged: None, holders: 1 };
        self.statements.insert(id, statement);
        id
    }

    /// A statement that is too large to be looked at in one piece: nobody else finds it, and until it is complete no other
    /// connection can have it.
    pub(crate) fn hold_unseen(&mut self, environment: u64, ends: bool) -> StatementId {
        let id = StatementId(self.number());
        let statement = Statement { parse: None, environment, ends, shared: false, judged: None, holders: 1 };
        self.statements.insert(id, statement);
        id
    }

    /// All of a statement is known now.
    pub(crate) fn complete(&mut self, id: StatementId, parse: &[u8]) {
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.parse = Some(parse.into());
        }
    }

    pub(crate) fn get(&self, id: StatementId) -> Option<&Statement> {
        self.statements.get(&id)
    }

    /// One more holder.
    pub(crate) fn hold(&mut self, id: StatementId) {
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.holders += 1;
        }
    }

    /// One holder less; without any the statement is forgotten.
    pub(crate) fn release(&mut self, id: StatementId) {
        let Some(statement) = self.statements.get_mut(&id) else { return };
        statement.holders -= 1;
        if statement.holders > 0 {
            return;
        }
        let Some(Statement { parse: Some(parse), environment, shared: true, .. }) =
            self.statements.remove(&id)
        else {
            return;
        };
        if let Some(known) = self.by_environment.get_mut(&environment) {
            known.remove(&parse);
            if known.is_empty() {
                self.by_environment.remove(&environment);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn holders(&self) -> HashMap<StatementId, u32> {
        self.statements.iter().map(|(id, statement)| (*id, statement.holders)).collect()
    }
}

/// The text of a Parse message that is known from behind its name on.
pub(crate) fn text_of(parse: &[u8]) -> &[u8] {
    memchr::memchr(0, parse).map_or(parse, |end| &parse[..end])
}

/// Whether a text may have a literal whose meaning is that of the moment it is parsed at: `'now'` and its kin become
/// constants then. Where such a word is no literal nothing is lost but that the statement is not shared.
fn depends_on_now(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut rest = text;
    while let Some(at) = rest.iter().position(is_word) {
        let end = rest[at..].iter().position(|byte| !is_word(byte)).map_or(rest.len(), |len| at + len);
        let word = &rest[at..end];
        rest = &rest[end..];
        // The function is another matter: it is called when the statement runs.
        let called = rest.trim_ascii_start().first() == Some(&b'(');
        if !called && WORDS.iter().any(|other| word.eq_ignore_ascii_case(other)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_statements_are_one_unless_they_were_parsed_under_other_settings() {
        let mut registry = Registry::new(10);
        let [a, b] = [0, 0].map(|environment| registry.hold_parsed(b"select 1\0\0\0", environment));
        let other = registry.hold_parsed(b"select 1\0\0\0", 1);
        let types = registry.hold_parsed(b"select 1\0\0\x01\0\0\0\x17", 0);
        assert_eq!(a, b);
        assert!(a != other && a != types && other != types);
        for id in [a, b, other, types] {
            registry.release(id);
        }
        assert!(registry.statements.is_empty() && registry.by_environment.is_empty());
        assert_ne!(registry.hold_parsed(b"select 1\0\0\0", 0), a, "numbers are not used again");
    }

    #[test]
    fn a_text_whose_literals_mean_the_moment_of_its_parsing_is_not_shared() {
        let moments = ["select 'now'::timestamptz", "select date 'Tomorrow'", "values (' today 10:00')"];
        assert!(moments.iter().all(|text| depends_on_now(text.as_bytes())));
        let others = ["select now()", "select NOW ()", "select nowhere, now_at, 'today_'", ""];
        assert!(!others.iter().any(|text| depends_on_now(text.as_bytes())));
        let mut registry = Registry::new(10);
        let [a, b] = [0, 0].map(|_| registry.hold_parsed(b"select 'now'::date\0\0\0", 0));
        assert_ne!(a, b);
        registry.release(a);
        assert!(registry.get(b).is_some());
    }
}
