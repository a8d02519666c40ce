//! Reads a text word by word.

use crate::text::effects::Effects;
use crate::text::known::{self, Act};
use crate::text::lexer::{Lexer, Token, quoted_key};
use crate::text::skim::Place;
use crate::text::words::folded_key;
use crate::text::{Sole, Text, Verdict};

/// Blocks within blocks are read so deep.
const DEPTH_MAX: u8 = 4;

pub(super) struct Reader<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) text: Text,
    /// What the names in it do, and what its statements do.
    pub(super) named: Effects,
    pub(super) stated: Effects,
    pub(super) verdict: &'a Verdict,
    pub(super) place: Place,
    /// How many blocks of PL/pgSQL it is in.
    depth: u8,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lexer: Lexer<'a>, place: Place, verdict: &'a Verdict) -> Self {
        let text = Text { effects: verdict.everything, ..Text::default() };
        Self { lexer, text, named: Effects::NONE, stated: Effects::NONE, verdict, place, depth: 0 }
    }

    pub(super) fn read(mut self) -> Text {
        self.run();
        let updates = |all: &[u8]| all.windows(6).any(|word| word.eq_ignore_ascii_case(b"update"));
        let may_update = self.text.effects.any(Effects::SETTINGS_VIEW) && updates(self.lexer.text);
        self.conclude(may_update)
    }

    /// All was read. `may_update`: it has the word UPDATE, or may have it.
    pub(super) fn conclude(self, may_update: bool) -> Text {
        let Self { mut text, place, named, stated, .. } = self;
        if text.effects.any(Effects::SETTINGS_VIEW) && may_update {
            text.effects |= Effects::OPAQUE;
        }
        if place.statements != 1 {
            text.sole = Sole::Other;
            // What the first statement makes, the second may use.
            if text.effects.any(Effects::CODE) {
                text.effects |= Effects::ANYTHING;
            }
        }
        // What it makes of names that have effects will have them too.
        if stated.any(Effects::DDL) && named.without(Effects::CAN_NEXTVAL) != Effects::NONE {
            text.effects |= Effects::CODE;
        }
        text
    }

    pub(super) fn run(&mut self) {
        // In PL/pgSQL, and where nothing is known, more than words counts.
        let skims = self.verdict.is_known && self.depth == 0;
        loop {
            if skims && !self.lexer.skim(&self.verdict.filters, &mut self.place) {
                return;
            }
            if !self.step() {
                return;
            }
        }
    }

    /// The next token, and what belongs to it. False at the end.
    #[inline]
    pub(super) fn step(&mut self) -> bool {
        let token = self.lexer.next();
        if token == Token::End {
            return false;
        }
        let begins = self.place.begins;
        self.place.begins = token == Token::Mark(b';');
        self.place.statements += usize::from(begins && !self.place.begins);
        match token {
            Token::Word(word) => {
                let key = folded_key(word);
                let known = known::find(key);
                self.name(self.verdict.word(key, known.is_some_and(|word| word.is_safe)));
                if let Some(word) = known {
                    self.place.begins = self.known(word, begins);
                }
            }
            Token::Quoted(name) => {
                let key = quoted_key(name);
                self.name(self.verdict.word(key, false));
                if let Some(word) = known::find(key).filter(|word| word.is_name) {
                    self.known(word, false);
                }
            }
            Token::Mark(mark) => {
                // A label of PL/pgSQL ends so.
                self.place.begins |= mark == b'>' && self.depth > 0;
                if !self.verdict.is_known && !matches!(mark, b',' | b'0' | b'$' | b';') {
                    self.text.effects |= Effects::ANYTHING;
                }
            }
            Token::Unicode => self.text.effects |= Effects::ANYTHING,
            Token::Literal(_) | Token::Unclosed | Token::End => {}
        }
        true
    }

    /// Whether a statement begins after this word.
    fn known(&mut self, word: &known::Word, begins: bool) -> bool {
        let happens = match word.act {
            Act::None => true,
            Act::Joined => {
                if self.lexer.peek().is_any(&["into", "hold"]) {
                    self.lexer.next();
                }
                true
            }
            Act::Execute => self.executes(),
            Act::SetConfig => self.set_config(),
            Act::Create => self.creates(begins),
            Act::Opens => return self.depth > 0,
            _ => begins && self.statement(word.act),
        };
        if happens {
            self.text.effects |= word.effects;
            *(if word.is_name { &mut self.named } else { &mut self.stated }) |= word.effects;
        }
        false
    }

    fn name(&mut self, effects: Effects) {
        self.text.effects |= effects;
        self.named |= effects;
    }

    /// Reads a block of PL/pgSQL.
    pub(super) fn block(&mut self, body: &'a [u8]) {
        if self.depth == DEPTH_MAX {
            self.text.effects |= Effects::ANYTHING;
            return;
        }
        let escapes = self.lexer.escapes;
        let outer = std::mem::replace(&mut self.lexer, Lexer::new(body, escapes));
        self.depth += 1;
        self.place.begins = true;
        self.run();
        self.depth -= 1;
        self.lexer = outer;
    }

    /// EXECUTE, but for that of CREATE TRIGGER. In PL/pgSQL it runs any text.
    fn executes(&mut self) -> bool {
        let executes = !self.lexer.peek().is_any(&["function", "procedure"]);
        if executes && self.depth > 0 {
            self.text.effects |= Effects::ANYTHING;
        }
        executes
    }

    fn creates(&mut self, begins: bool) -> bool {
        let mut ahead = self.lexer.clone();
        let mut token = ahead.next();
        while token.is_any(&["or", "replace", "trusted", "procedural"]) {
            token = ahead.next();
        }
        if begins && token.is_any(&["function", "procedure", "extension", "language"]) {
            self.text.effects |= Effects::CODE;
        }
        true
    }
}
