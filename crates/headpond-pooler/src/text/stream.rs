//! A text that is too large to be held, read piece by piece as it comes.
//!
//! What a piece ends in is kept as it is until more is there, if what it means may depend on that: a word, or a statement
//! like SET up to its end. Of a string or a comment only is kept that the text is in it, however long it is.

use std::cell::Cell;

use crate::text::lexer::{CLASSES, Class, Lexer};
use crate::text::reader::Reader;
use crate::text::skim::Place;
use crate::text::{Dialect, Effects, Encoding, Text, Verdict};

/// So much may be kept at the end of a piece. Nobody reads a text that would need more.
const KEPT_MAX: usize = 16 * 1024;

/// What has been read of a text.
#[derive(Debug)]
pub(crate) struct Stream {
    how: Dialect,
    /// The end of what came, which is not read yet; of that, the beginning of a character comes before it is `plain`.
    kept: Vec<u8>,
    cut: Vec<u8>,
    /// With less than this nothing new would come out.
    enough: usize,
    inside: Inside,
    text: Text,
    named: Effects,
    stated: Effects,
    place: Place,
    end: End,
}

/// What a text is inside of.
#[derive(Debug, Default)]
enum Inside {
    #[default]
    Nothing,
    String {
        escapes: bool,
    },
    Dollar {
        tag: Box<[u8]>,
    },
    LineComment,
    Comment {
        depth: usize,
    },
}

/// Whether a text goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ahead,
    /// Its null byte has come.
    Here,
    /// It cannot be read.
    Never,
}

impl Stream {
    /// Before the first piece. None if nothing is known of the database: then no text is worth reading.
    pub(crate) fn new(how: Dialect, verdict: &Verdict) -> Option<Self> {
        verdict.is_known.then(|| Self {
            how,
            kept: Vec::new(),
            cut: Vec::new(),
            enough: 0,
            inside: Inside::Nothing,
            text: Text { effects: verdict.everything, ..Text::default() },
            named: Effects::NONE,
            stated: Effects::NONE,
            place: Place::START,
            end: End::Ahead,
        })
    }

    /// The next piece.
    pub(crate) fn read(&mut self, piece: &[u8], verdict: &Verdict) {
        if self.end != End::Ahead {
            return;
        }
        let end = memchr::memchr(0, piece);
        self.end = if end.is_some() { End::Here } else { End::Ahead };
        let piece = &piece[..end.unwrap_or(piece.len())];
        if self.how.encoding == Encoding::Safe {
            return self.read_plain(piece, verdict);
        }
        self.cut.extend_from_slice(piece);
        let whole = if end.is_some() { self.cut.len() } else { self.how.encoding.whole(&self.cut) };
        let plain = self.how.encoding.plain(&self.cut[..whole]);
        self.cut.drain(..whole);
        self.read_plain(&plain, verdict);
    }

    /// What the text may do, after its last piece. None if it could not be read.
    pub(crate) fn conclude(mut self, verdict: &Verdict) -> Option<Text> {
        self.read(b"\0", verdict);
        if self.end == End::Never {
            return None;
        }
        // Whether it has the word UPDATE was not looked for.
        Some(self.resumed(Lexer::new(b"", false), verdict).conclude(true))
    }

    fn read_plain(&mut self, piece: &[u8], verdict: &Verdict) {
        let is_last = self.end == End::Here;
        if self.kept.is_empty() {
            let read = self.advance(piece, is_last, verdict);
            self.kept.extend_from_slice(&piece[read..]);
        } else {
            self.kept.extend_from_slice(piece);
            if self.kept.len() < self.enough && !is_last {
                return;
            }
            let mut kept = std::mem::take(&mut self.kept);
            let read = self.advance(&kept, is_last, verdict);
            kept.drain(..read);
            self.kept = kept;
        }
        self.kept.shrink_to(KEPT_MAX);
        // However small pieces are, nothing is read more than a few times.
        self.enough = 2 * self.kept.len();
        if self.kept.len() > KEPT_MAX {
            self.end = End::Never;
            self.kept = Vec::new();
        }
    }

    /// Reads on. Returns how much is done with.
    fn advance(&mut self, part: &[u8], is_last: bool, verdict: &Verdict) -> usize {
        let more = Cell::new(false);
        let mut lexer = Lexer::new(part, self.how.escapes);
        lexer.more = (!is_last).then_some(&more);
        while self.inside.leave(&mut lexer) {
            more.set(false);
            let mut reader = self.resumed(lexer, verdict);
            if is_last {
                reader.run();
            } else {
                reader.run_part();
            }
            let Reader { lexer: at, text, named, stated, place, .. } = reader;
            lexer = at;
            (self.text, self.named, self.stated, self.place) = (text, named, stated, place);
            if is_last || !self.enter(&mut lexer) {
                break;
            }
            more.set(false);
        }
        if is_last { part.len() } else { lexer.at }
    }

    fn resumed<'a>(&mut self, lexer: Lexer<'a>, verdict: &'a Verdict) -> Reader<'a> {
        let mut reader = Reader::new(lexer, self.place, verdict);
        (reader.text, reader.named, reader.stated) =
            (std::mem::take(&mut self.text), self.named, self.stated);
        reader
    }

    /// What cannot be read to its end, from where the lexer is: whether it is a string or a comment.
    fn enter(&mut self, lexer: &mut Lexer<'_>) -> bool {
        let rest = &lexer.text[lexer.at..];
        let (inside, begun) = match *rest {
            [b'\'', ..] => (Inside::String { escapes: lexer.escapes }, 1),
            [b'n' | b'N', b'\'', ..] => (Inside::String { escapes: lexer.escapes }, 2),
            [b'e' | b'E', b'\'', ..] => (Inside::String { escapes: true }, 2),
            [b'b' | b'B' | b'x' | b'X', b'\'', ..] => (Inside::String { escapes: false }, 2),
            [b'u' | b'U', b'&', b'\'', ..] => (Inside::String { escapes: false }, 3),
            [b'-', b'-', ..] => (Inside::LineComment, 2),
            [b'/', b'*', ..] => (Inside::Comment { depth: 0 }, 0),
            [b'$', ref rest @ ..] => {
                let is_tag = |byte: &&u8| matches!(CLASSES[usize::from(**byte)], Class::Word | Class::Digit);
                let length = rest.iter().take_while(is_tag).count();
                let is_number = rest.first().is_some_and(u8::is_ascii_digit);
                if is_number || length > KEPT_MAX || rest.get(length) != Some(&b'$') {
                    return false;
                }
                (Inside::Dollar { tag: lexer.text[lexer.at..][..length + 2].into() }, length + 2)
            }
            _ => return false,
        };
        lexer.at += begun;
        if !matches!(inside, Inside::LineComment | Inside::Comment { .. }) {
            self.place.statements += usize::from(self.place.begins);
            self.place.begins = false;
        }
        self.inside = inside;
        true
    }
}

impl Inside {
    /// Goes to where the text is no more inside of this, or as far as what it is inside of is known.
    fn leave(&mut self, lexer: &mut Lexer<'_>) -> bool {
        let left = match self {
            Self::Nothing => true,
            Self::String { escapes } => lexer.string_end(*escapes).is_some(),
            Self::Dollar { tag } => lexer.dollar_end(tag).is_some(),
            Self::LineComment => {
                lexer.line_comment();
                lexer.at < lexer.text.len()
            }
            Self::Comment { depth } => lexer.comment_end(depth),
        };
        if left {
            *self = Self::Nothing;
        }
        left
    }
}

impl Reader<'_> {
    /// As far as it does not matter what comes after this part of the text.
    fn run_part(&mut self) {
        while self.lexer.skim_part(&self.verdict.filters, &mut self.place) {
            let (at, place, named, stated) = (self.lexer.at, self.place, self.named, self.stated);
            let (effects, settings) = (self.text.effects, self.text.settings.len());
            self.step();
            if self.lexer.asks_for_more() {
                (self.lexer.at, self.place, self.named, self.stated) = (at, place, named, stated);
                self.text.effects = effects;
                self.text.settings.truncate(settings);
                self.text.sole = Default::default();
                return;
            }
        }
    }
}

/// That it makes no difference in which pieces a text comes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod checks {
    use super::*;

    /// What a text comes to that was read in pieces.
    pub(crate) struct InPieces(Option<Text>, Vec<usize>);

    /// Reads a text in pieces of these sizes, and the rest of it as one.
    pub(crate) fn in_pieces(
        text: &[u8],
        how: Dialect,
        verdict: &Verdict,
        sizes: impl IntoIterator<Item = usize>,
    ) -> InPieces {
        let (mut rest, mut cuts, mut sizes) = (text, Vec::new(), sizes.into_iter());
        let mut stream = Stream::new(how, verdict).expect("the verdict is known");
        while !rest.is_empty() {
            let piece =
                rest.split_off(..sizes.next().unwrap_or(rest.len()).min(rest.len())).unwrap_or_default();
            cuts.push(piece.len());
            stream.read(piece, verdict);
        }
        InPieces(stream.conclude(verdict), cuts)
    }

    impl InPieces {
        /// # Panics
        /// If it is not what the whole text comes to, but for what is said of `pg_settings` in doubt.
        pub(crate) fn assert_is(self, whole: &Text) {
            let Self(text, cuts) = self;
            let text = text.expect("nothing in it is that long");
            let doubt =
                if whole.effects.any(Effects::SETTINGS_VIEW) { Effects::OPAQUE } else { Effects::NONE };
            assert_eq!(text.effects | doubt, whole.effects | doubt, "{cuts:?}");
            assert_eq!((&text.settings, &text.sole), (&whole.settings, &whole.sole), "{cuts:?}");
        }
    }
}

#[cfg(test)]
mod tests;
