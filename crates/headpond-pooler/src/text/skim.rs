//! The fast way over what means nothing: most of any text.

use crate::text::lexer::{CLASSES, Class, Lexer, word_length};
use crate::text::words::Filter;

/// Where in a text a reader is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The next word is the first of a statement.
    pub(super) begins: bool,
    /// How many statements have begun.
    pub(super) statements: usize,
}

impl Place {
    pub(super) const START: Self = Self { begins: true, statements: 0 };
}

/// Which words may mean something.
#[derive(Debug)]
pub(super) struct Filters {
    /// As the first word of a statement.
    pub(super) first: Filter,
    /// Anywhere else.
    pub(super) later: Filter,
}

impl Lexer<'_> {
    /// Goes on to a word that may mean something. False at the end of the text.
    pub(super) fn skim(&mut self, filters: &Filters, place: &mut Place) -> bool {
        self.skim_to::<false>(filters, place)
    }

    /// As [`Lexer::skim`], in a part of a text: its end is where the last token begins, which may go on after it.
    pub(super) fn skim_part(&mut self, filters: &Filters, place: &mut Place) -> bool {
        self.skim_to::<true>(filters, place)
    }

    #[inline(always)]
    fn skim_to<const PART: bool>(&mut self, filters: &Filters, place: &mut Place) -> bool {
        let (text, mut at) = (self.text, self.at);
        let Place { mut begins, mut statements } = *place;
        let mut last = (at, *place);
        let stops = loop {
            if PART && at < text.len() {
                last = (at, Place { begins, statements });
            }
            let Some(&byte) = text.get(at) else { break false };
            let filter = if begins { &filters.first } else { &filters.later };
            let start = at;
            match CLASSES[usize::from(byte)] {
                Class::Space => {
                    at += 1;
                    continue;
                }
                Class::Word => {
                    at += word_length(&text[start..]);
                    let word = &text[start..at];
                    let is_prefix = word.len() == 1 && matches!(text.get(at), Some(b'\'' | b'&'));
                    if is_prefix || filter.passes(word) {
                        at = start;
                        break true;
                    }
                    // After most words there is a single space.
                    at += usize::from(text.get(at) == Some(&b' '));
                }
                Class::Mark => at += 1,
                Class::Digit => {
                    at += 1;
                    while text.get(at).is_some_and(u8::is_ascii_digit) {
                        at += 1;
                    }
                }
                Class::Semicolon => {
                    at += 1;
                    begins = true;
                    continue;
                }
                Class::End => break false,
                Class::Minus if text.get(at + 1) != Some(&b'-') => at += 1,
                Class::Slash if text.get(at + 1) != Some(&b'*') => at += 1,
                class @ (Class::Minus | Class::Slash) => {
                    self.at = at;
                    if class == Class::Minus {
                        self.line_comment()
                    } else {
                        self.comment()
                    }
                    at = self.at;
                    continue;
                }
                Class::DoubleQuote => {
                    self.at = at;
                    let name = self.quoted();
                    at = self.at;
                    if name.is_some_and(|name| filter.passes(name)) {
                        at = start;
                        break true;
                    }
                }
                Class::Dollar if text.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
                class @ (Class::Quote | Class::Dollar) => {
                    self.at = at;
                    _ = if class == Class::Quote { self.string(self.escapes) } else { self.dollar() };
                    at = self.at;
                    if PART && self.asks_for_more() {
                        break false;
                    }
                }
            }
            statements += usize::from(begins);
            begins = false;
        };
        (self.at, *place) = if PART && !stops { last } else { (at, Place { begins, statements }) };
        stops
    }
}
