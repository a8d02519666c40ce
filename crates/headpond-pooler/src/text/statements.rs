//! The statements whose words have to be understood. They are read up to their end.
//! (<https://www.postgresql.org/docs/current/sql-set.html>; `src/backend/parser/gram.y`, from `VariableSetStmt` on)

use crate::text::effects::Effects;
use crate::text::known::Act;
use crate::text::lexer::Token;
use crate::text::reader::Reader;
use crate::text::words::NAME_MAX;
use crate::text::{Setting, Sole};

impl<'a> Reader<'a> {
    /// What comes after the first word of a statement. Whether the word has the effects it is known for.
    pub(super) fn statement(&mut self, act: Act) -> bool {
        match act {
            Act::Set => self.set(),
            Act::Reset => self.reset(),
            Act::Discard => self.discard(),
            Act::Deallocate => self.deallocate(),
            Act::Prepare => self.prepare(),
            Act::Do => self.run_block(),
            Act::Show | Act::Named => _ = self.skip(),
            Act::Alter if self.lexer.peek().is("extension") => self.text.effects |= Effects::CODE,
            _ => {}
        }
        true
    }

    /// To the end of the statement. Whether the word DEFAULT is on the way.
    fn skip(&mut self) -> bool {
        let mut defaults = false;
        loop {
            if self.lexer.peek().ends() {
                return defaults;
            }
            defaults |= self.lexer.next().is("default");
        }
    }

    fn set(&mut self) {
        let (mut token, mut is_local) = (self.lexer.next(), false);
        loop {
            let next = self.lexer.peek();
            // `SET local.a = 1` sets `local.a`.
            let is_name = matches!(next, Token::Mark(b'.' | b'=')) || next.is_any(&["to", "from"]);
            if !is_name && token.is("local") {
                is_local = true;
            } else if is_name || !token.is("session") || next.is_any(&["authorization", "characteristics"]) {
                return self.set_one(token, is_name, is_local);
            }
            token = self.lexer.next();
        }
    }

    fn set_one(&mut self, token: Token<'a>, is_name: bool, is_local: bool) {
        let next = self.lexer.peek();
        let mut resets = false;
        let name: &[u8] = match () {
            () if is_name => {
                let name = self.setting(token);
                let resets = self.skip();
                return self.settles(name.as_deref(), is_local, resets);
            }
            () if token.is_any(&["transaction", "constraints", "catalog"]) => {
                self.skip();
                return;
            }
            () if token.is("session") && next.is("authorization") => b"session_authorization",
            () if token.is("session") => {
                self.skip();
                for name in ["isolation", "read_only", "deferrable"] {
                    self.settles(Some(format!("default_transaction_{name}").as_bytes()), is_local, false);
                }
                return;
            }
            () if token.is("time") && next.is("zone") => {
                self.lexer.next();
                resets = self.lexer.peek().is("local");
                b"timezone"
            }
            () if token.is("names") => {
                resets = next.ends();
                b"client_encoding"
            }
            () if token.is("schema") => b"search_path",
            () if token.is("role") => b"role",
            () if token.is("xml") => b"xmloption",
            () => {
                self.text.effects |= Effects::OPAQUE;
                self.skip();
                return;
            }
        };
        resets |= self.skip();
        self.settles(Some(name), is_local, resets);
    }

    fn reset(&mut self) {
        let token = self.lexer.next();
        let next = self.lexer.peek();
        let name = match () {
            () if token.is("all") => {
                self.text.effects |= Effects::RESETS | Effects::RESET_ALL;
                self.text.settings.push(Setting { name: Box::default(), resets: true });
                self.skip();
                return;
            }
            () if token.is("time") && next.is("zone") => Some(b"timezone".to_vec()),
            () if token.is("session") && next.is("authorization") => Some(b"session_authorization".to_vec()),
            () if token.is("transaction") && next.is("isolation") => Some(b"transaction_isolation".to_vec()),
            () => self.setting(token),
        };
        self.skip();
        self.settles(name.as_deref(), false, true);
    }

    /// The name of a setting from its first part on, in lower case; none if it cannot be told.
    fn setting(&mut self, first: Token<'a>) -> Option<Vec<u8>> {
        let mut name = name_of(first)?.to_ascii_lowercase();
        while self.lexer.peek() == Token::Mark(b'.') {
            self.lexer.next();
            name.push(b'.');
            name.extend(name_of(self.lexer.next())?.to_ascii_lowercase());
        }
        Some(name)
    }

    /// A setting gets another value, or its default.
    fn settles(&mut self, name: Option<&[u8]>, is_local: bool, resets: bool) {
        let effects = if resets { Effects::SETTINGS | Effects::RESETS } else { Effects::SETTINGS };
        match name {
            None if is_local => {}
            None => self.text.effects |= effects | Effects::OPAQUE,
            // These end with their transaction.
            Some(b"transaction_isolation" | b"transaction_read_only" | b"transaction_deferrable") => {}
            Some(b"seed") => self.text.effects |= Effects::SEED,
            Some(_) if is_local => {}
            Some(name) => {
                self.text.effects |= effects;
                self.text.settings.push(Setting { name: name.into(), resets });
                if name == b"session_authorization" {
                    self.text.settings.push(Setting { name: (*b"role").into(), resets: true });
                }
            }
        }
    }

    /// The arguments of `set_config`: name, value, whether it is for this transaction only.
    pub(super) fn set_config(&mut self) -> bool {
        let mut ahead = self.lexer.clone();
        let name = match (ahead.next(), ahead.next()) {
            (Token::Mark(b'('), Token::Literal(name)) => name.filter(|name| name.is_ascii()),
            _ => None,
        };
        let mut token = ahead.next();
        if token == Token::Mark(b':') && ahead.next() == Token::Mark(b':') && ahead.next().is("text") {
            token = ahead.next();
        }
        let name = name.filter(|_| token == Token::Mark(b','));
        let mut depth = 0_usize;
        let ends = loop {
            match ahead.next() {
                Token::Mark(b',') if depth == 0 => break false,
                Token::Mark(b'(' | b'[') => depth += 1,
                Token::Mark(b')' | b']') if depth > 0 => depth -= 1,
                Token::Mark(b')') | Token::Unclosed | Token::End => break true,
                _ => {}
            }
        };
        let is_true = |token: Token<'_>| {
            token.is("true") || matches!(token, Token::Literal(Some(b"t" | b"true" | b"on" | b"1")))
        };
        let is_local = !ends && is_true(ahead.next()) && ahead.next() == Token::Mark(b')');
        let name = name.map(<[u8]>::to_ascii_lowercase);
        self.settles(name.as_deref(), is_local, false);
        self.named |= if is_local { Effects::NONE } else { Effects::SETTINGS };
        true
    }

    fn discard(&mut self) {
        let token = self.lexer.next();
        if token.is("all") {
            self.text.effects |= Effects::DISCARD_ALL
                | Effects::RESET_ALL
                | Effects::RESETS
                | Effects::TEMP
                | Effects::LOCKS
                | Effects::LISTENS
                | Effects::CURSORS
                | Effects::DEALLOCATES;
            self.text.settings.push(Setting { name: Box::default(), resets: true });
            if self.lexer.peek().ends() {
                self.text.sole = Sole::DiscardAll;
            }
        } else if token.is_any(&["temp", "temporary"]) {
            self.text.effects |= Effects::TEMP;
        } else if token.is("sequences") {
            // Values elsewhere are outdated, as after a newer one.
            self.text.effects |= Effects::CAN_NEXTVAL;
        }
        self.skip();
    }

    fn deallocate(&mut self) {
        let mut token = self.lexer.next();
        if token.is("prepare") && !self.lexer.peek().ends() {
            token = self.lexer.next();
        }
        if self.lexer.peek().ends() {
            self.text.sole = match (token, name_of(token)) {
                _ if token.is("all") => Sole::DeallocateAll,
                (Token::Word(_), Some(name)) => Sole::Deallocate(name.to_ascii_lowercase().into()),
                (_, Some(name)) => Sole::Deallocate(name.into()),
                _ => Sole::Other,
            };
        }
        self.skip();
    }

    fn prepare(&mut self) {
        let mut ahead = self.lexer.clone();
        let ends_transaction = ahead.next().is("transaction")
            && matches!(ahead.next(), Token::Literal(_) | Token::Unclosed | Token::End);
        if ends_transaction {
            self.skip();
            return;
        }
        self.text.effects |= Effects::PREPARES;
        // The statement itself is read on.
        self.lexer.next();
    }

    /// DO: its text is read, if it is PL/pgSQL and what is written is what is run.
    fn run_block(&mut self) {
        let (mut body, mut is_plain) = (None, true);
        loop {
            let token = self.lexer.peek();
            if token.ends() {
                break;
            }
            match self.lexer.next() {
                Token::Literal(Some(text)) if body.is_none() => body = Some(text),
                token if token.is("language") => {
                    is_plain &= match self.lexer.next() {
                        Token::Literal(Some(name)) | Token::Quoted(name) => name == b"plpgsql",
                        token => token.is("plpgsql"),
                    }
                }
                _ => is_plain = false,
            }
        }
        match body {
            Some(body) if is_plain => self.block(body),
            _ => self.text.effects |= Effects::ANYTHING,
        }
    }
}

/// An identifier as the server knows it but for its case; none if that depends on the client's encoding.
fn name_of(token: Token<'_>) -> Option<&[u8]> {
    let (Token::Word(text) | Token::Quoted(text)) = token else { return None };
    let plain = !text.is_empty() && text.is_ascii() && !text.contains(&b'"');
    plain.then(|| &text[..text.len().min(NAME_MAX)])
}
