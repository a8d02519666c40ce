//! What is asked of a database about names that have effects, and what its answer means.
//!
//! The server itself follows its dependencies: from functions whose text does something to all that call them, to views,
//! and to tables whose triggers, rules, policies, constraints or defaults use them. Texts of functions in PL/pgSQL are
//! not recorded as dependencies: there, mentioning a name counts.

use crate::text::Verdict;
use crate::text::effects::Effects;
use crate::text::known::WORDS;

/// So many names are kept at most. With more, no text is taken to be harmless.
const NAMES_MAX: usize = 10_000;

/// How effects are spelt in questions and answers.
const LETTERS: &[(char, Effects)] = &[
    ('T', Effects::TEMP),
    ('L', Effects::LOCKS),
    ('N', Effects::LISTENS),
    ('C', Effects::CURSORS),
    ('P', Effects::PREPARES),
    ('E', Effects::EXECUTES),
    ('X', Effects::DEALLOCATES),
    ('Q', Effects::CAN_NEXTVAL),
    ('V', Effects::CURRVAL),
    ('S', Effects::SEED),
    ('B', Effects::LOADS),
    ('O', Effects::OPAQUE),
    ('D', Effects::DDL),
    ('Z', Effects::CODE),
    ('W', Effects::SETTINGS_VIEW),
    ('*', Effects::ANYTHING),
];

/// Extensions whose functions in C leave nothing in their session but caches. Missing are those that run SQL they are
/// given (`tablefunc`, `dblink`, `xml2`), and those that nobody has looked at.
const HARMLESS: &[&str] = &[
    "address_standardizer",
    "adminpack",
    "amcheck",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "file_fdw",
    "fuzzystrmatch",
    "hstore",
    "insert_username",
    "intagg",
    "intarray",
    "isn",
    "lo",
    "ltree",
    "moddatetime",
    "pageinspect",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_trgm",
    "pg_visibility",
    "pg_walinspect",
    "pgaudit",
    "pgcrypto",
    "pgrowlocks",
    "pgstattuple",
    "plpgsql",
    "postgis",
    "postgis_raster",
    "postgis_topology",
    "postgres_fdw",
    "seg",
    "sslinfo",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Functions of those that do leave something: a threshold, a mode.
const NOT_HARMLESS: &[&str] = &["set_limit", "isn_weak"];

/// The question: a row for each name, with whether bytes of it were replaced, and its effects; and one with no name for
/// what any text may do. PostgreSQL 12 and later.
pub(crate) fn verdict_question() -> String {
    let letters =
        |effects: Effects| LETTERS.iter().filter(move |(_, one)| one.any(effects) && effects.has(*one));
    let built_in: Vec<_> = WORDS
        .iter()
        .filter(|(_, word)| word.is_name)
        .flat_map(|(name, word)| {
            let effects = if *name == "set_config" { Effects::OPAQUE } else { word.effects };
            letters(effects).map(move |(letter, _)| format!("('{name}', '{letter}')"))
        })
        .collect();
    let harmless: Vec<_> = HARMLESS.iter().map(|name| format!("('{name}')")).collect();
    include_str!("catalogue.sql")
        .replace("{built_in}", &built_in.join(", "))
        .replace("{harmless}", &harmless.join(", "))
        .replace("{not_harmless}", &format!("'{}'", NOT_HARMLESS.join("', '")))
        .replace("{limit}", &(NAMES_MAX + 1).to_string())
}

/// The cheap question: as long as its answer is the same, so is that to the other.
pub(crate) fn fingerprint_question() -> &'static str {
    include_str!("fingerprint.sql")
}

/// An answer to [`verdict_question`], as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    everything: Effects,
    names: Vec<(Box<[u8]>, Effects)>,
}

impl Catalogue {
    /// One row of it. Effects that nobody knows might be any.
    pub(crate) fn row(&mut self, name: &str, is_odd: bool, effects: &str) {
        let known = |letter| LETTERS.iter().find(|(known, _)| *known == letter);
        let effects = effects
            .chars()
            .map(|letter| known(letter).map_or(Effects::ANYTHING, |(_, effects)| *effects))
            .fold(Effects::NONE, |all, effects| all | effects);
        match name {
            "" => self.everything |= effects,
            _ if self.names.len() == NAMES_MAX => self.everything |= Effects::ANYTHING,
            // All names that are not ASCII are one.
            _ if is_odd => self.names.push(([0xff].into(), effects)),
            _ => self.names.push((name.as_bytes().into(), effects)),
        }
    }

    pub(crate) fn verdict(self) -> Verdict {
        Verdict::of(self.everything, self.names.iter().map(|(name, effects)| (&**name, *effects)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Dialect, read};

    fn effects(catalogue: Catalogue, text: &str) -> Effects {
        read(text.as_bytes(), Dialect::default(), &catalogue.verdict()).effects
    }

    fn catalogue(rows: &[(&str, bool, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        rows.iter().for_each(|(name, is_odd, effects)| catalogue.row(name, *is_odd, effects));
        catalogue
    }

    #[test]
    fn an_answer_says_what_names_do() {
        let rows = [("", false, "S"), ("locks", false, "LQ"), ("h?t", true, "T"), ("new", false, "?")];
        let read = |text| effects(catalogue(&rows), text);
        assert_eq!(read("select 1"), Effects::SEED);
        assert_eq!(read("select locks()"), Effects::SEED | Effects::LOCKS | Effects::CAN_NEXTVAL);
        assert_eq!(read("select \"h\u{f6}t\""), Effects::SEED | Effects::TEMP);
        assert!(read("table new").has(Effects::ANYTHING), "an effect that is not known");
    }

    #[test]
    fn with_too_many_names_no_text_is_harmless() {
        let mut many = Catalogue::default();
        (0..=NAMES_MAX).for_each(|number| many.row(&format!("f{number}"), false, "L"));
        assert!(effects(many, "select 1").has(Effects::ANYTHING));
    }

    #[test]
    fn the_question_has_all_words_that_are_names() {
        let question = verdict_question();
        assert!(question.contains("('set_config', 'O')") && question.contains("('lastval', 'V')"));
        assert!(question.contains("('uuid-ossp')") && !question.contains('{'));
    }
}
