//! SQL cut into tokens as PostgreSQL does it (`src/backend/parser/scan.l`), for whoever only looks for words.
//!
//! What PostgreSQL would refuse is cut somehow: it has no effect there but an error.

use std::cell::Cell;

use memchr::{memchr, memchr2, memmem};

use crate::text::words::{ODD, exact_key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Without quotes.
    Word(&'a [u8]),
    /// What stands between double quotes, doubled ones still doubled.
    Quoted(&'a [u8]),
    /// A string, and its value if that is what is written.
    Literal(Option<&'a [u8]>),
    /// U&"…": it may spell any name.
    Unicode,
    /// Any other byte; of a number or parameter the first.
    Mark(u8),
    /// A string or a name that is never closed: nothing comes after it.
    Unclosed,
    End,
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub(super) fn is(self, keyword: &str) -> bool {
        matches!(self, Token::Word(text) if text.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    /// Whether it is one of these keywords.
    pub(super) fn is_any(self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// Whether a statement ends here.
    pub(super) fn ends(self) -> bool {
        matches!(self, Token::Mark(b';') | Token::Unclosed | Token::End)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Space,
    Word,
    Digit,
    Quote,
    DoubleQuote,
    Dollar,
    Minus,
    Slash,
    Semicolon,
    End,
    Mark,
}

pub(super) static CLASSES: [Class; 256] = {
    let mut classes = [Class::Mark; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0 => Class::End,
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Class::Word,
            b'0'..=b'9' => Class::Digit,
            b'\'' => Class::Quote,
            b'"' => Class::DoubleQuote,
            b'$' => Class::Dollar,
            b'-' => Class::Minus,
            b'/' => Class::Slash,
            b';' => Class::Semicolon,
            _ => Class::Mark,
        };
        byte += 1;
    }
    classes
};

static CONTINUES: [bool; 256] = {
    let mut continues = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        continues[byte] = matches!(CLASSES[byte], Class::Word | Class::Digit | Class::Dollar);
        byte += 1;
    }
    continues
};

/// How many bytes of a word a text begins with.
#[inline(always)]
pub(super) fn word_length(text: &[u8]) -> usize {
    let continues = |byte: &u8| CONTINUES[usize::from(*byte)];
    let mut length = 1;
    while let Some([a, b, c, d]) = text.get(length..).and_then(<[u8]>::first_chunk) {
        match () {
            () if !continues(a) => return length,
            () if !continues(b) => return length + 1,
            () if !continues(c) => return length + 2,
            () if !continues(d) => return length + 3,
            () => length += 4,
        }
    }
    while text.get(length).is_some_and(continues) {
        length += 1;
    }
    length
}

#[derive(Clone)]
pub(super) struct Lexer<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
    pub(super) escapes: bool,
    /// Of a text that may go on after this part of it: set once a token could be another one then.
    pub(super) more: Option<&'a Cell<bool>>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8], escapes: bool) -> Self {
        Self { text, at: 0, escapes, more: None }
    }

    /// The next token. After the end there is always the end.
    #[inline]
    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.token();
        if self.at >= self.text.len() {
            self.ask_for_more();
        }
        token
    }

    fn token(&mut self) -> Token<'a> {
        loop {
            let Some(&byte) = self.text.get(self.at) else { return Token::End };
            match CLASSES[byte as usize] {
                Class::Space => self.at += 1,
                Class::Word => return self.word(),
                Class::Mark | Class::Semicolon => {
                    self.at += 1;
                    return Token::Mark(byte);
                }
                Class::End => {
                    self.at = self.text.len();
                    return Token::End;
                }
                Class::Digit => {
                    self.digits();
                    return Token::Mark(b'0');
                }
                Class::Minus if self.follows(b'-') => self.line_comment(),
                Class::Slash if self.follows(b'*') => self.comment(),
                Class::Minus | Class::Slash => {
                    self.at += 1;
                    return Token::Mark(byte);
                }
                Class::Quote => return self.string(self.escapes),
                Class::DoubleQuote => return self.quoted().map_or(Token::Unclosed, Token::Quoted),
                Class::Dollar => return self.dollar(),
            }
        }
    }

    /// The token after this one.
    pub(super) fn peek(&self) -> Token<'a> {
        self.clone().next()
    }

    fn ask_for_more(&self) {
        if let Some(more) = self.more {
            more.set(true);
        }
    }

    /// Whether it depends on what follows this part of the text how it is cut.
    pub(super) fn asks_for_more(&self) -> bool {
        self.more.is_some_and(Cell::get)
    }

    fn follows(&self, byte: u8) -> bool {
        self.text.get(self.at + 1) == Some(&byte)
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        let rest = &self.text[start..];
        let length = word_length(rest);
        self.at += length;
        if length == 1
            && let Some(token) = self.prefix(rest[0])
        {
            return token;
        }
        Token::Word(&rest[..length])
    }

    /// What one letter begins together with a quote right after it.
    fn prefix(&mut self, letter: u8) -> Option<Token<'a>> {
        match (letter | 0x20, self.text.get(self.at)?) {
            (b'e', b'\'') => Some(self.string(true)),
            (b'b' | b'x', b'\'') => Some(self.string(false)),
            (b'n', b'\'') => Some(self.string(self.escapes)),
            (b'u', b'&') if self.follows(b'\'') => {
                self.at += 1;
                Some(match self.string(false) {
                    Token::Literal(_) => Token::Literal(None),
                    end => end,
                })
            }
            (b'u', b'&') if self.follows(b'"') => {
                self.at += 1;
                Some(self.quoted().map_or(Token::Unclosed, |_| Token::Unicode))
            }
            (b'u', b'&') if self.at + 1 == self.text.len() => {
                self.ask_for_more();
                None
            }
            _ => None,
        }
    }

    fn digits(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    }

    pub(super) fn line_comment(&mut self) {
        self.at = memchr2(b'\n', b'\r', &self.text[self.at..]).map_or(self.text.len(), |end| self.at + end);
    }

    pub(super) fn comment(&mut self) {
        if !self.comment_end(&mut 0) {
            self.at = self.text.len();
        }
    }

    /// From within comments, or from where one begins, to behind the outermost. False if that is not there.
    pub(super) fn comment_end(&mut self, depth: &mut usize) -> bool {
        loop {
            let Some(found) = memchr2(b'*', b'/', &self.text[self.at..]) else {
                self.at = self.text.len();
                return false;
            };
            self.at += found;
            match self.text[self.at..] {
                [_] => return false,
                [b'/', b'*', ..] => {
                    *depth += 1;
                    self.at += 2;
                }
                [b'*', b'/', ..] => {
                    *depth -= 1;
                    self.at += 2;
                    if *depth == 0 {
                        return true;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// From the opening quote to the closing one, and on where a string goes on in another line.
    pub(super) fn string(&mut self, escapes: bool) -> Token<'a> {
        let start = self.at + 1;
        self.at = start;
        match self.string_end(escapes) {
            Some((end, exact)) => Token::Literal(exact.then_some(&self.text[start..end])),
            None => {
                self.at = self.text.len();
                Token::Unclosed
            }
        }
    }

    /// From within a string to behind it: where its closing quote is, and whether its value is what is written. None if
    /// that is not there, or not known to be: it goes no further than all is known.
    pub(super) fn string_end(&mut self, escapes: bool) -> Option<(usize, bool)> {
        let mut exact = true;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let found = if escapes { memchr2(b'\'', b'\\', rest) } else { memchr(b'\'', rest) };
            let Some(found) = found else {
                self.at = self.text.len();
                return None;
            };
            let end = self.at + found;
            match self.text.get(end + 1) {
                None if self.more.is_some() => {
                    self.at = end;
                    return None;
                }
                _ if self.text[end] == b'\\' => self.at = end + 2,
                Some(b'\'') => self.at = end + 2,
                // A further part is read as the first was: only with escapes in one of them does it matter which.
                _ if escapes || self.escapes => match self.continued(end + 1) {
                    Some(at) => self.at = at,
                    None => {
                        let unsure = self.asks_for_more();
                        self.at = if unsure { end } else { end + 1 };
                        return (!unsure).then_some((end, exact));
                    }
                },
                _ => {
                    self.at = end + 1;
                    return Some((end, exact));
                }
            }
            exact = false;
        }
    }

    /// Where a string that just ended goes on: after a line break, with nothing but space and comments between.
    fn continued(&self, mut at: usize) -> Option<usize> {
        let mut breaks = false;
        loop {
            match self.text.get(at).or_else(|| self.none_yet())? {
                b'\'' if breaks => return Some(at + 1),
                b'\n' | b'\r' => breaks = true,
                byte if CLASSES[*byte as usize] == Class::Space => {}
                b'-' if self.text.get(at + 1).or_else(|| self.none_yet())? == &b'-' => {
                    at += memchr2(b'\n', b'\r', &self.text[at..]).or_else(|| self.none_yet())?;
                    breaks = true;
                }
                _ => return None,
            }
            at += 1;
        }
    }

    /// What is looked for would be after this part of the text.
    fn none_yet<T>(&self) -> Option<T> {
        self.ask_for_more();
        None
    }

    /// What stands between double quotes; none if they are never closed.
    pub(super) fn quoted(&mut self) -> Option<&'a [u8]> {
        let start = self.at + 1;
        self.at = start;
        loop {
            let Some(found) = memchr(b'"', &self.text[self.at..]) else {
                self.at = self.text.len();
                return None;
            };
            let end = self.at + found;
            self.at = end + 1;
            if self.text.get(self.at) != Some(&b'"') {
                return Some(&self.text[start..end]);
            }
            self.at += 1;
        }
    }

    /// A parameter, a string in dollar quotes, or a dollar that means nothing.
    pub(super) fn dollar(&mut self) -> Token<'a> {
        let start = self.at;
        self.at += 1;
        let rest = &self.text[self.at..];
        let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        let length = rest.iter().take_while(|byte| is_tag(byte)).count();
        if rest.first().is_some_and(u8::is_ascii_digit) {
            self.digits();
            return Token::Mark(b'$');
        }
        if rest.get(length).or_else(|| self.none_yet()) != Some(&b'$') {
            return Token::Mark(b'$');
        }
        let body = self.at + length + 1;
        self.at = body;
        match self.dollar_end(&self.text[start..body]) {
            Some(end) => Token::Literal(Some(&self.text[body..end])),
            None => {
                self.at = self.text.len();
                Token::Unclosed
            }
        }
    }

    /// From within dollar quotes to behind them: where the closing ones are. None if they are not there: it goes no
    /// further than all is known.
    pub(super) fn dollar_end(&mut self, tag: &[u8]) -> Option<usize> {
        let rest = &self.text[self.at..];
        let Some(found) = memmem::find(rest, tag) else {
            self.at += rest.len().saturating_sub(tag.len() - 1);
            return None;
        };
        let end = self.at + found;
        self.at = end + tag.len();
        Some(end)
    }
}

/// The key of a name that stands in double quotes.
pub(super) fn quoted_key(name: &[u8]) -> u64 {
    if memchr(b'"', name).is_some() { ODD } else { exact_key(name) }
}
