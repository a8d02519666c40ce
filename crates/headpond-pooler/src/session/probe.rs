//! The question that tells what a transaction left in its session, and its answer.

use headpond_wire::postgres::frame::Fields;

use crate::session::pins::Pins;

/// What a probe under way asks for.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(super) doubtful: Pins,
    pub(super) names: Vec<Box<str>>,
    pub(super) answer: Option<Answer>,
}

/// What it was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) pins: Pins,
    /// In the order of the names; `None`: there is no such setting.
    pub(super) values: Vec<Option<Box<str>>>,
}

impl Probe {
    /// One statement with one row: what is there, and then the values, in UTF-8 with everything escaped that is not
    /// ASCII, for nobody knows what `client_encoding` is.
    pub(super) fn question(&self) -> String {
        let found = Pins::PROBED.iter().filter(|(pin, _)| self.doubtful.has(*pin));
        let found = found.map(|(_, question)| (*question).to_owned());
        let values = self.names.iter().map(|name| {
            format!(
                "pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting('{name}', true), 'UTF8'), \
                 'escape')"
            )
        });
        let columns: Vec<_> = found.chain(values).collect();
        format!("SELECT {}", columns.join(", "))
    }

    /// Takes note of the row. One that makes no sense is none.
    pub(super) fn answered(&mut self, row: &[u8]) {
        self.answer = self.read(row);
    }

    fn read(&self, row: &[u8]) -> Option<Answer> {
        let mut columns = Fields(row.get(2..)?);
        let mut pins = Pins::NONE;
        for (pin, _) in Pins::PROBED.iter().filter(|(pin, _)| self.doubtful.has(*pin)) {
            if column(&mut columns)?? == b"t" {
                pins = pins.with(*pin);
            }
        }
        let mut values = Vec::with_capacity(self.names.len());
        for _ in &self.names {
            values.push(match column(&mut columns)? {
                None => None,
                Some(escaped) => Some(unescape(escaped)?),
            });
        }
        Some(Answer { pins, values })
    }
}

/// One column; inside, whether it is NULL.
fn column<'a>(fields: &mut Fields<'a>) -> Option<Option<&'a [u8]>> {
    match fields.int32()? {
        u32::MAX => Some(None),
        length => fields.bytes(length as usize).map(Some),
    }
}

/// Undoes `encode(…, 'escape')`: `\\` is a backslash, `\nnn` a byte
/// (<https://www.postgresql.org/docs/current/functions-binarystring.html>).
fn unescape(text: &[u8]) -> Option<Box<str>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => break,
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(bytes).ok().map(String::into_boxed_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Option<&[u8]>]) -> Vec<u8> {
        let mut row = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
        for column in columns {
            let length = column.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
            row.extend_from_slice(&length.to_be_bytes());
            row.extend_from_slice(column.unwrap_or_default());
        }
        row
    }

    fn probe() -> Probe {
        let names = ["app.tenant", "search_path"].map(Box::from).to_vec();
        Probe { doubtful: Pins::TEMP.with(Pins::LISTENS), names, answer: None }
    }

    #[test]
    fn a_probe_asks_for_what_is_in_doubt_and_reads_its_answer() {
        let mut probe = probe();
        let question = probe.question();
        assert!(question.contains("pg_my_temp_schema") && question.contains("pg_listening_channels"));
        assert!(!question.contains("pg_locks") && question.contains("current_setting('app.tenant', true)"));
        probe.answered(&row(&[Some(b"f"), Some(b"t"), None, Some(br"\303\244, a\\b")]));
        let values = vec![None, Some(Box::from(r"ä, a\b"))];
        assert_eq!(probe.answer, Some(Answer { pins: Pins::LISTENS, values }));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_none() {
        let rows = [
            row(&[Some(b"t")]),
            row(&[None, Some(b"t"), None, None]),
            row(&[Some(b"f"), Some(b"f"), Some(br"\9"), None]),
            row(&[Some(b"f"), Some(b"f"), Some(br"\377"), None]),
            vec![0],
        ];
        for row in rows {
            let mut probe = probe();
            probe.answered(&row);
            assert_eq!(probe.answer, None, "{row:?}");
        }
    }
}
