//! What the text of a client's statements may leave behind in the session that runs it.
//!
//! Only what it *may* do is said, and in doubt it may: what is really left is asked of the server afterwards. A text is
//! cut into tokens, its words are looked up, and a few statements are understood: those that set settings, and those
//! that name what they prepare or give up. Names of functions and relations that have effects in this database come
//! from its catalogue, as a [`Verdict`].

pub(crate) mod catalogue;
mod dialect;
mod effects;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod known;
mod lexer;
mod reader;
mod skim;
mod statements;
mod stream;
#[cfg(test)]
mod tests;
mod words;

use crate::text::lexer::Lexer;
use crate::text::reader::Reader;
use crate::text::skim::{Filters, Place};
use crate::text::words::{Filter, ODD, Table, exact_key};

pub(crate) use crate::text::dialect::{Dialect, Encoding};
pub(crate) use crate::text::effects::Effects;
pub(crate) use crate::text::stream::Stream;

/// What a text may do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) effects: Effects,
    /// The settings that it sets or resets beyond its transaction, in its order, each perhaps more than once.
    pub(crate) settings: Vec<Setting>,
    pub(crate) sole: Sole,
}

/// A setting that gets another value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// In lower case. Empty for all there are, when they are reset.
    pub(crate) name: Box<[u8]>,
    /// It is its default.
    pub(crate) resets: bool,
}

/// A text that is a single statement of a kind that may be answered, or changed, without being executed as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Sole {
    #[default]
    Other,
    /// DEALLOCATE of this name.
    Deallocate(Box<[u8]>),
    DeallocateAll,
    DiscardAll,
}

/// What the catalogue of a database says of names that texts may mention.
#[derive(Debug)]
pub(crate) struct Verdict {
    is_known: bool,
    /// What any text may do: through operators, casts, types.
    everything: Effects,
    names: Table,
    filters: Filters,
}

impl Verdict {
    /// Before anything is known: whatever calls a function or touches a relation may do anything.
    pub(crate) fn unknown() -> Self {
        Self {
            is_known: false,
            everything: Effects::NONE,
            names: Table::default(),
            filters: Filters { first: Filter::OPEN, later: Filter::OPEN },
        }
    }

    /// What any text may do, and what those may that mention one of these names.
    pub(crate) fn of<'a>(everything: Effects, names: impl IntoIterator<Item = (&'a [u8], Effects)>) -> Self {
        let (mut keys, mut filters) = (Vec::new(), known::filters());
        for (name, effects) in names {
            keys.push((exact_key(name), effects));
            // What a client calls by a longer name may have been cut within a character that is not ASCII.
            if name.len() > words::NAME_MAX - 4 {
                keys.push((ODD, effects));
            }
            filters = Filters { first: filters.first.with(name), later: filters.later.with(name) };
        }
        if keys.iter().any(|(key, _)| *key == ODD) {
            filters = Filters { first: Filter::OPEN, later: Filter::OPEN };
        }
        Self { is_known: true, everything, names: Table::of(keys), filters }
    }

    fn word(&self, key: u64, is_safe: bool) -> Effects {
        match self.is_known {
            true => self.names.get(key),
            false if is_safe => Effects::NONE,
            false => Effects::ANYTHING,
        }
    }
}

/// What a text may do. It ends at its first null byte, or with the slice.
pub(crate) fn read(text: &[u8], how: Dialect, verdict: &Verdict) -> Text {
    if how.encoding == Encoding::Safe {
        read_plain(text, how, verdict)
    } else {
        read_plain(&how.encoding.plain(text), how, verdict)
    }
}

fn read_plain(text: &[u8], how: Dialect, verdict: &Verdict) -> Text {
    let (mut lexer, mut place) = (Lexer::new(text, how.escapes), Place::START);
    if verdict.is_known && !lexer.skim(&verdict.filters, &mut place) {
        return Text { effects: verdict.everything, ..Text::default() };
    }
    Reader::new(lexer, place, verdict).read()
}
