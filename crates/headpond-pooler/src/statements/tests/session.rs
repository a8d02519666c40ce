//! PostgreSQL's rules for prepared statements.

use std::collections::HashMap;

/// What PostgreSQL keeps of statements in one session, and of its transaction.
#[derive(Default)]
pub(super) struct Session {
    pub(super) names: HashMap<Vec<u8>, Vec<u8>>,
    portal: Option<Vec<u8>>,
    skipping: bool,
    pub(super) in_transaction: bool,
    pub(super) failed: bool,
    /// An error had it pass over something that replaces the unnamed statement. Headpond may then have forgotten that.
    pub(super) unnamed_in_doubt: bool,
}

pub(super) type Message = (u8, Vec<u8>);

fn word(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().expect("a first part")
}

impl Session {
    fn error(&mut self, code: &str) -> Vec<Message> {
        self.skipping = true;
        self.failed = self.in_transaction;
        vec![(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").into_bytes())]
    }

    fn ready(&self) -> Message {
        let status = if self.failed {
            b'E'
        } else if self.in_transaction {
            b'T'
        } else {
            b'I'
        };
        (b'Z', vec![status])
    }

    pub(super) fn take(&mut self, tag: u8, body: &[u8]) -> Vec<Message> {
        let unnames = tag == b'Q' || tag == b'P' && body[0] == 0 || tag == b'C' && body == b"S\0";
        if self.skipping && tag != b'S' {
            self.unnamed_in_doubt |= unnames;
            return Vec::new();
        }
        if unnames {
            self.names.remove(&b""[..]);
            self.unnamed_in_doubt = false;
        }
        match tag {
            b'S' => {
                self.skipping = false;
                vec![self.ready()]
            }
            b'H' => Vec::new(),
            b'Q' => self.query(word(body)),
            b'P' => {
                let name = word(body);
                let text = word(&body[name.len() + 1..]);
                match () {
                    () if self.failed && !text.is_empty() => self.error("25P02"),
                    // PostgreSQL looks at the text first; which of two errors it is is all that differs.
                    () if self.names.contains_key(name) => self.error("42P05"),
                    () if text.starts_with(b"BAD") => self.error("42601"),
                    () => {
                        self.names.insert(name.to_vec(), text.to_vec());
                        vec![(b'1', Vec::new())]
                    }
                }
            }
            b'B' => {
                let portal = word(body);
                match self.names.get(word(&body[portal.len() + 1..])).cloned() {
                    None => self.error("26000"),
                    Some(_) if self.failed => self.error("25P02"),
                    Some(text) => {
                        self.portal = Some(text);
                        vec![(b'2', Vec::new())]
                    }
                }
            }
            b'D' if body[0] == b'P' => self.error("34000"),
            b'D' => match self.names.get(word(&body[1..])).cloned() {
                None => self.error("26000"),
                Some(_) if self.failed => self.error("25P02"),
                Some(text) => {
                    let rows = [&[0, 1][..], &text, &[0; 19]].concat();
                    vec![(b't', vec![0, 0]), (b'T', rows)]
                }
            },
            b'E' => match self.portal.clone() {
                Some(text) if text.starts_with(b"FAIL") => self.error("22012"),
                Some(text) => match self.deallocates(&text) {
                    Some(false) => self.error("26000"),
                    Some(true) => vec![(b'C', b"DEALLOCATE\0".to_vec())],
                    None => vec![(b'D', text), (b'C', b"SELECT 1\0".to_vec())],
                },
                None => self.error("34000"),
            },
            b'C' => {
                self.names.remove(word(&body[1..]));
                vec![(b'3', Vec::new())]
            }
            _ => panic!("{:?}", char::from(tag)),
        }
    }

    /// Whether it did, if that is what the text wants.
    fn deallocates(&mut self, text: &[u8]) -> Option<bool> {
        let name = text.strip_prefix(b"DEALLOCATE ")?;
        if name == b"ALL" {
            self.names.retain(|name, _| name.is_empty());
            return Some(true);
        }
        Some(self.names.remove(name).is_some())
    }

    fn query(&mut self, text: &[u8]) -> Vec<Message> {
        let mut said = match text {
            b"BEGIN" => {
                self.in_transaction = true;
                vec![(b'C', b"BEGIN\0".to_vec())]
            }
            b"ROLLBACK" => {
                (self.in_transaction, self.failed) = (false, false);
                vec![(b'C', b"ROLLBACK\0".to_vec())]
            }
            _ if self.failed => self.error("25P02"),
            _ => match self.deallocates(text) {
                Some(true) => vec![(b'C', b"DEALLOCATE\0".to_vec())],
                Some(false) => self.error("26000"),
                // Whatever the pooler wants to know.
                None => self.error("42601"),
            },
        };
        self.skipping = false;
        said.push(self.ready());
        said
    }
}
