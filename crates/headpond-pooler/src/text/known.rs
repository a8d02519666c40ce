//! The words that mean something: of SQL itself, and of what is built into PostgreSQL.
//!
//! The functions are those of PostgreSQL 12 to 18 whose effects outlive a transaction. Locks of a transaction, large
//! object descriptors, snapshots and the like end with it.

use crate::text::effects::Effects;
use crate::text::skim::Filters;
use crate::text::words::{Filter, exact_key, slot};

/// What is to be done at a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing beyond its effects.
    None,
    Set,
    Reset,
    Discard,
    Deallocate,
    Prepare,
    Execute,
    Do,
    Show,
    /// LISTEN, UNLISTEN, LOAD, CLOSE, NOTIFY: a name or two follow.
    Named,
    Create,
    Alter,
    /// DROP, IMPORT, COPY, TRUNCATE: has its effects as the first word only.
    First,
    /// INSERT, MERGE, WITHOUT: the word after it belongs to it.
    Joined,
    SetConfig,
    /// In PL/pgSQL, a statement comes after it.
    Opens,
}

/// What is known of a word.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) effects: Effects,
    pub(super) act: Act,
    /// It is a name rather than a keyword: it means the same in quotes.
    pub(super) is_name: bool,
    /// Before anything is known of a database: it is not the name of anything that has effects.
    pub(super) is_safe: bool,
}

const UNKNOWN: Word = Word { effects: Effects::NONE, act: Act::None, is_name: false, is_safe: false };

const fn keyword(word: &str, act: Act, effects: Effects) -> (&str, Word) {
    (word, Word { effects, act, is_name: false, is_safe: true })
}

const fn safe(word: &str) -> (&str, Word) {
    keyword(word, Act::None, Effects::NONE)
}

const fn name(word: &str, effects: Effects) -> (&str, Word) {
    (word, Word { effects, act: Act::None, is_name: true, is_safe: false })
}

const fn opaque(word: &str) -> (&str, Word) {
    name(word, Effects::OPAQUE)
}

/// Words and functions that do something.
pub(super) const WORDS: &[(&str, Word)] = &[
    keyword("set", Act::Set, Effects::NONE),
    keyword("reset", Act::Reset, Effects::NONE),
    keyword("discard", Act::Discard, Effects::NONE),
    keyword("deallocate", Act::Deallocate, Effects::DEALLOCATES),
    keyword("prepare", Act::Prepare, Effects::NONE),
    keyword("execute", Act::Execute, Effects::EXECUTES),
    keyword("do", Act::Do, Effects::NONE),
    keyword("show", Act::Show, Effects::NONE),
    keyword("listen", Act::Named, Effects::LISTENS),
    keyword("unlisten", Act::Named, Effects::LISTENS),
    keyword("load", Act::Named, Effects::LOADS),
    keyword("close", Act::Named, Effects::CURSORS),
    keyword("create", Act::Create, Effects::TEMP.and(Effects::DDL)),
    keyword("alter", Act::Alter, Effects::DDL.and(Effects::CAN_NEXTVAL)),
    keyword("drop", Act::First, Effects::TEMP.and(Effects::DDL)),
    keyword("import", Act::First, Effects::DDL),
    keyword("copy", Act::First, Effects::CAN_NEXTVAL),
    keyword("insert", Act::Joined, Effects::CAN_NEXTVAL),
    keyword("merge", Act::Joined, Effects::CAN_NEXTVAL),
    keyword("default", Act::None, Effects::CAN_NEXTVAL),
    keyword("call", Act::First, Effects::CAN_NEXTVAL),
    keyword("into", Act::None, Effects::TEMP),
    keyword("without", Act::Joined, Effects::NONE),
    keyword("hold", Act::None, Effects::CURSORS),
    keyword("begin", Act::Opens, Effects::NONE),
    keyword("then", Act::Opens, Effects::NONE),
    keyword("else", Act::Opens, Effects::NONE),
    keyword("loop", Act::Opens, Effects::NONE),
    safe("select"),
    safe("null"),
    safe("true"),
    safe("false"),
    safe("as"),
    safe("commit"),
    safe("end"),
    safe("rollback"),
    safe("abort"),
    safe("start"),
    safe("savepoint"),
    safe("release"),
    safe("to"),
    safe("and"),
    safe("no"),
    safe("not"),
    safe("chain"),
    safe("work"),
    safe("transaction"),
    safe("isolation"),
    safe("level"),
    safe("read"),
    safe("write"),
    safe("only"),
    safe("committed"),
    safe("uncommitted"),
    safe("repeatable"),
    safe("serializable"),
    safe("deferrable"),
    safe("prepared"),
    ("set_config", Word { effects: Effects::NONE, act: Act::SetConfig, is_name: true, is_safe: false }),
    name("pg_settings", Effects::SETTINGS_VIEW),
    name("pg_prepared_statements", Effects::EXECUTES),
    name("pg_prepared_statement", Effects::EXECUTES),
    name("nextval", Effects::CAN_NEXTVAL),
    name("setval", Effects::CAN_NEXTVAL),
    name("currval", Effects::CURRVAL),
    name("lastval", Effects::CURRVAL),
    name("setseed", Effects::SEED),
    name("pg_advisory_lock", Effects::LOCKS),
    name("pg_advisory_lock_shared", Effects::LOCKS),
    name("pg_try_advisory_lock", Effects::LOCKS),
    name("pg_try_advisory_lock_shared", Effects::LOCKS),
    name("pg_advisory_unlock", Effects::LOCKS),
    name("pg_advisory_unlock_shared", Effects::LOCKS),
    name("pg_advisory_unlock_all", Effects::LOCKS),
    // Output plugins are libraries.
    name("pg_logical_slot_get_changes", Effects::LOADS),
    name("pg_logical_slot_get_binary_changes", Effects::LOADS),
    name("pg_logical_slot_peek_changes", Effects::LOADS),
    name("pg_logical_slot_peek_binary_changes", Effects::LOADS),
    // Of the session: a backup, a replication origin, temporary slots.
    opaque("pg_backup_start"),
    opaque("pg_start_backup"),
    opaque("pg_replication_origin_session_setup"),
    opaque("pg_replication_origin_session_reset"),
    opaque("pg_create_physical_replication_slot"),
    opaque("pg_create_logical_replication_slot"),
    opaque("pg_copy_physical_replication_slot"),
    opaque("pg_copy_logical_replication_slot"),
    // They run queries, or read relations, that are given as values.
    opaque("query_to_xml"),
    opaque("query_to_xmlschema"),
    opaque("query_to_xml_and_xmlschema"),
    opaque("cursor_to_xml"),
    opaque("cursor_to_xmlschema"),
    opaque("table_to_xml"),
    opaque("table_to_xmlschema"),
    opaque("table_to_xml_and_xmlschema"),
    opaque("schema_to_xml"),
    opaque("schema_to_xmlschema"),
    opaque("schema_to_xml_and_xmlschema"),
    opaque("database_to_xml"),
    opaque("database_to_xmlschema"),
    opaque("database_to_xml_and_xmlschema"),
    opaque("ts_stat"),
    opaque("ts_rewrite"),
];

const BITS: u32 = 9;
const SLOTS: usize = 1 << BITS;

/// In which slots the words are: at their own or, where it is taken, after it.
static TABLE: ([u64; SLOTS], [Word; SLOTS]) = {
    let (mut keys, mut words) = ([0; SLOTS], [UNKNOWN; SLOTS]);
    let mut index = 0;
    while index < WORDS.len() {
        let key = exact_key(WORDS[index].0.as_bytes());
        let mut at = slot(key, BITS);
        while keys[at] != 0 {
            assert!(keys[at] != key, "no word is there twice");
            at = (at + 1) % SLOTS;
        }
        (keys[at], words[at]) = (key, WORDS[index].1);
        index += 1;
    }
    (keys, words)
};

/// Pass the words that mean something where no PL/pgSQL is.
pub(super) const fn filters() -> Filters {
    let (mut first, mut later, mut index) = (Filter::new(), Filter::new(), 0);
    while index < WORDS.len() {
        let (name, word) = WORDS[index];
        let starts = !matches!(word.act, Act::None | Act::Opens);
        if starts || word.effects.0 != 0 {
            first = first.with(name.as_bytes());
            if !starts || matches!(word.act, Act::Execute | Act::Create | Act::Joined | Act::SetConfig) {
                later = later.with(name.as_bytes());
            }
        }
        index += 1;
    }
    Filters { first, later }
}

/// What is known of the word with this key.
pub(super) fn find(key: u64) -> Option<&'static Word> {
    let mut at = slot(key, BITS);
    loop {
        match TABLE.0[at] {
            0 => return None,
            found if found == key => return Some(&TABLE.1[at]),
            _ => at = (at + 1) % SLOTS,
        }
    }
}
