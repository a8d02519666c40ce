//! A small model of a PostgreSQL backend that shares no code with the pooler's tracking of exchanges.
//!
//! Queries are known by their first word: `SELECT`, `BEGIN`, `COMMIT`, `ROLLBACK`, `FAIL`, `COPYIN`, `COPYOUT`, `SLEEP`
//! (which only ends when the peer does); anything else is complete at once.

use headpond_wire::postgres::encode::{self, Column, ColumnType, Report, Severity};

/// Answer to every question: enough connections, and `SELECT 1`.
const VALUE: &str = "97";

#[derive(Debug)]
pub(crate) struct Backend {
    input: Vec<u8>,
    started: bool,
    status: u8,
    /// Everything is ignored up to the next Sync.
    skips: bool,
    copy: Option<Copy>,
    sleeps: bool,
    left: bool,
    /// The last statement that was parsed.
    statement: Vec<u8>,
}

/// COPY from the client, in a simple query or in the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    Simple,
    Extended,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            started: false,
            status: b'I',
            skips: false,
            copy: None,
            sleeps: false,
            left: false,
            statement: Vec::new(),
        }
    }
}

impl Backend {
    /// Whether it has closed its connection.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// Takes bytes, and gives back what it says to them.
    pub(crate) fn hears(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut out = Vec::new();
        while !self.left && !self.sleeps {
            let header = if self.started { 1 } else { 0 };
            let Some(length) = self.input.get(header..header + 4) else { break };
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if self.input.len() < header + length {
                break;
            }
            let message: Vec<u8> = self.input.drain(..header + length).collect();
            if self.started {
                self.message(message[0], &message[5..], &mut out);
            } else {
                self.started = true;
                encode::authentication_ok(&mut out);
                encode::parameter_status(&mut out, "server_version", "17.0");
                encode::backend_key_data(&mut out, 42, &[1; 4]);
                encode::ready_for_query(&mut out, self.status);
            }
        }
        out
    }

    fn message(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        match (tag, self.copy) {
            (b'X', _) => self.left = true,
            (b'd' | b'H' | b'S', Some(_)) => {}
            (b'c', Some(copy)) => {
                self.copy = None;
                encode::command_complete(out, "COPY 1");
                if copy == Copy::Simple {
                    self.ready(out);
                }
            }
            (b'f', Some(copy)) => {
                self.copy = None;
                self.fail(copy == Copy::Simple, out);
            }
            // It has read the tag, and does not find its way back.
            (_, Some(_)) => {
                encode::error_response(out, &Report::new(Severity::Error, "08P01", "unexpected message"));
                self.ends("terminating connection because protocol synchronization was lost", out);
            }
            (b'd' | b'c' | b'f' | b'H', None) => {}
            (b'S', None) => {
                self.skips = false;
                self.ready(out);
            }
            _ if self.skips => {}
            (b'Q', None) => match body.strip_suffix(b"\0") {
                Some(text) => self.run(text, true, out),
                None => self.fail(true, out),
            },
            (b'F', None) => {
                out.extend_from_slice(b"V\0\0\0\x08\xff\xff\xff\xff");
                self.ready(out);
            }
            (b'P' | b'B' | b'D' | b'C', None) if !body.contains(&0) => self.fail(false, out),
            (b'P', None) => {
                self.statement = body.split(|byte| *byte == 0).nth(1).unwrap_or_default().to_vec();
                encode::parse_complete(out);
            }
            (b'B', None) => encode::bind_complete(out),
            (b'D', None) => {
                if body[0] == b'S' {
                    encode::parameter_description(out, &[]);
                }
                encode::no_data(out);
            }
            (b'C', None) => encode::close_complete(out),
            (b'E', None) => self.run(&self.statement.clone(), false, out),
            _ => self.ends("invalid frontend message type", out),
        }
    }

    fn ends(&mut self, message: &str, out: &mut Vec<u8>) {
        encode::error_response(out, &Report::new(Severity::Fatal, "08P01", message));
        self.left = true;
    }

    fn run(&mut self, text: &[u8], simple: bool, out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(text).into_owned();
        let word = |text: &str| text.split([' ', ';']).next().unwrap_or("").to_owned();
        let last = text.split(';').map(str::trim).rfind(|part| !part.is_empty()).unwrap_or("");
        match word(last).as_str() {
            _ if last.contains("rolled back on another connection") => {
                self.status = b'E';
                return self.fail(simple, out);
            }
            "FAIL" => return self.fail(simple, out),
            "SLEEP" => return self.sleeps = true,
            "COPYIN" => {
                out.extend_from_slice(b"G\0\0\0\x07\0\0\0");
                return self.copy = Some(if simple { Copy::Simple } else { Copy::Extended });
            }
            "COPYOUT" => out.extend_from_slice(b"H\0\0\0\x07\0\0\0d\0\0\0\x07row"),
            "BEGIN" => self.status = b'T',
            "COMMIT" | "ROLLBACK" => self.status = b'I',
            "SELECT" => {
                let column = Column { name: "v", of: ColumnType::Int4, binary: false };
                if simple {
                    encode::row_description(out, [column].into_iter());
                }
                encode::data_row(out, [Some(VALUE)].into_iter());
            }
            _ => {}
        }
        if word(last) == "COPYOUT" {
            out.extend_from_slice(b"c\0\0\0\x04");
        }
        encode::command_complete(out, "DONE");
        if simple {
            self.ready(out);
        }
    }

    fn fail(&mut self, simple: bool, out: &mut Vec<u8>) {
        encode::error_response(out, &Report::new(Severity::Error, "22000", "it failed"));
        self.status = if self.status == b'I' { b'I' } else { b'E' };
        self.skips = !simple;
        if simple {
            self.ready(out);
        }
    }

    fn ready(&self, out: &mut Vec<u8>) {
        encode::ready_for_query(out, self.status);
    }
}
