//! Messages a server sends, appended to a buffer
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>; each function writes the message
//! whose name it carries).
//!
//! Strings end at a zero byte on the wire, so zero bytes inside them are left out. Nothing written here comes
//! near the protocol's limit of 2 GiB to a message; a caller that gets there panics.

/// How bad a [`Report`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// Something to look at.
    Warning,
    /// For information, shown by default.
    Notice,
    /// For information, always shown.
    Info,
}

impl Severity {
    /// The word on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Info => "INFO",
        }
    }
}

/// What an error or a notice says (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// Five characters (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
    pub sqlstate: &'a str,
    /// One line: what happened.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

impl<'a> Report<'a> {
    /// A report without detail and hint.
    #[must_use]
    pub fn new(severity: Severity, sqlstate: &'a str, message: &'a str) -> Self {
        Self { severity, sqlstate, message, detail: None, hint: None }
    }

    /// The same, with more about it.
    #[must_use]
    pub fn detail(self, detail: &'a str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(self, hint: &'a str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

/// The types of columns that are written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `text`.
    Text,
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `numeric`.
    Numeric,
}

impl ColumnType {
    /// The object id in `pg_type`.
    #[must_use]
    pub fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Numeric => 1700,
        }
    }

    /// Bytes of the type on the server (`pg_type.typlen`); negative: it varies.
    #[must_use]
    pub fn size(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Text | Self::Numeric => -1,
        }
    }
}

/// The client is in (`AuthenticationOk`).
pub fn authentication_ok(out: &mut Vec<u8>) {
    message(out, b'R', |out| int4(out, 0));
}

/// Asks for the password in clear (`AuthenticationCleartextPassword`).
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    message(out, b'R', |out| int4(out, 3));
}

/// Asks for the password, hashed with a salt (`AuthenticationMD5Password`).
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    message(out, b'R', |out| {
        int4(out, 5);
        out.extend_from_slice(&salt);
    });
}

/// Asks for SASL by one of `mechanisms`, best first (`AuthenticationSASL`).
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    message(out, b'R', |out| {
        int4(out, 10);
        mechanisms.iter().for_each(|name| string(out, name));
        out.push(0);
    });
}

/// The challenge (`AuthenticationSASLContinue`).
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    message(out, b'R', |out| {
        int4(out, 11);
        out.extend_from_slice(data);
    });
}

/// The outcome (`AuthenticationSASLFinal`); `AuthenticationOk` follows.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    message(out, b'R', |out| {
        int4(out, 12);
        out.extend_from_slice(data);
    });
}

/// What a cancel request must show. `key` has 4 bytes in protocol 3.0, up to 256 in 3.2.
pub fn backend_key_data(out: &mut Vec<u8>, process: u32, key: &[u8]) {
    message(out, b'K', |out| {
        int4(out, process);
        out.extend_from_slice(key);
    });
}

/// `newest` is the whole version as in a startup packet, major in the upper half (as PostgreSQL sends it and
/// libpq compares it); `unknown` are the options that will be ignored.
pub fn negotiate_protocol_version<'a>(
    out: &mut Vec<u8>,
    newest: u32,
    unknown: impl ExactSizeIterator<Item = &'a str>,
) {
    message(out, b'v', |out| {
        int4(out, newest);
        int4(out, length(unknown.len()));
        unknown.for_each(|name| string(out, name));
    });
}

/// The value of a setting the client is told about.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        string(out, name);
        string(out, value);
    });
}

/// `status` is `I` (idle), `T` (in a transaction) or `E` (in a failed one).
pub fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    message(out, b'Z', |out| out.push(status));
}

/// The request failed; severity `Fatal`: the connection ends.
pub fn error_response(out: &mut Vec<u8>, report: &Report<'_>) {
    message(out, b'E', |out| fields(out, report));
}

/// Something the client may show to its user.
pub fn notice_response(out: &mut Vec<u8>, report: &Report<'_>) {
    message(out, b'N', |out| fields(out, report));
}

/// A column of the rows that follow; it belongs to no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub of: ColumnType,
    /// Whether its values come in binary format, else in text.
    pub binary: bool,
}

/// The columns of the rows that follow.
pub fn row_description<'a>(out: &mut Vec<u8>, columns: impl ExactSizeIterator<Item = Column<'a>>) {
    message(out, b'T', |out| {
        int2(out, count(columns.len()));
        for Column { name, of, binary } in columns {
            string(out, name);
            int4(out, 0); // table
            int2(out, 0); // column of that table
            int4(out, of.oid());
            out.extend_from_slice(&of.size().to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes()); // type modifier
            int2(out, u16::from(binary));
        }
    });
}

/// One row, each value in the format of its column; `None` is NULL.
pub fn data_row<V: AsRef<[u8]>>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Option<V>>) {
    message(out, b'D', |out| {
        int2(out, count(values.len()));
        for value in values {
            match value {
                Some(value) => {
                    int4(out, length(value.as_ref().len()));
                    out.extend_from_slice(value.as_ref());
                }
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
    });
}

/// A statement is done; `tag` says what it was.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| string(out, tag));
}

/// There was no statement.
pub fn empty_query_response(out: &mut Vec<u8>) {
    message(out, b'I', |_| ());
}

/// Parse is done.
pub fn parse_complete(out: &mut Vec<u8>) {
    message(out, b'1', |_| ());
}

/// Bind is done.
pub fn bind_complete(out: &mut Vec<u8>) {
    message(out, b'2', |_| ());
}

/// Close is done.
pub fn close_complete(out: &mut Vec<u8>) {
    message(out, b'3', |_| ());
}

/// What was described returns no rows.
pub fn no_data(out: &mut Vec<u8>) {
    message(out, b'n', |_| ());
}

/// The object ids of a statement's parameter types.
pub fn parameter_description(out: &mut Vec<u8>, oids: &[u32]) {
    message(out, b't', |out| {
        int2(out, count(oids.len()));
        oids.iter().for_each(|oid| int4(out, *oid));
    });
}

/// Type, length, body. The length counts itself and not the type.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    int4(out, 0);
    body(out);
    let size = length(out.len() - start);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

fn fields(out: &mut Vec<u8>, report: &Report<'_>) {
    // `S` may be translated, `V` never is: drivers read either.
    let always = [
        (b'S', report.severity.name()),
        (b'V', report.severity.name()),
        (b'C', report.sqlstate),
        (b'M', report.message),
    ];
    let sometimes = [report.detail.map(|text| (b'D', text)), report.hint.map(|text| (b'H', text))];
    for (kind, text) in always.into_iter().chain(sometimes.into_iter().flatten()) {
        out.push(kind);
        string(out, text);
    }
    out.push(0);
}

fn string(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    if text.contains(&0) {
        out.extend(text.iter().filter(|byte| **byte != 0));
    } else {
        out.extend_from_slice(text);
    }
    out.push(0);
}

fn int4(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn int2(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn length(bytes: usize) -> u32 {
    i32::try_from(bytes).expect("a message of ours is shorter than 2 GiB").cast_unsigned()
}

fn count(columns: usize) -> u16 {
    i16::try_from(columns).expect("a row of ours has fewer than 32,768 columns").cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        // Bytes before the message must not count into its length.
        let mut out = b"before".to_vec();
        write(&mut out);
        let message = out.split_off(6);
        assert_eq!(out, b"before");
        let length = u32::from_be_bytes(message[1..5].try_into().unwrap());
        assert_eq!(length as usize, message.len() - 1, "{message:?}");
        message
    }

    #[test]
    fn fixed_messages_are_byte_for_byte_what_postgresql_sends() {
        assert_eq!(encoded(authentication_ok), b"R\0\0\0\x08\0\0\0\0");
        assert_eq!(encoded(|out| ready_for_query(out, b'I')), b"Z\0\0\0\x05I");
        assert_eq!(encoded(|out| command_complete(out, "SHOW")), b"C\0\0\0\x09SHOW\0");
        assert_eq!(encoded(empty_query_response), b"I\0\0\0\x04");
        assert_eq!(encoded(parse_complete), b"1\0\0\0\x04");
        assert_eq!(encoded(bind_complete), b"2\0\0\0\x04");
        assert_eq!(encoded(close_complete), b"3\0\0\0\x04");
        assert_eq!(encoded(no_data), b"n\0\0\0\x04");
        assert_eq!(encoded(|out| parameter_description(out, &[23])), b"t\0\0\0\x0a\0\x01\0\0\0\x17");
        assert_eq!(encoded(|out| parameter_status(out, "a", "b")), b"S\0\0\0\x08a\0b\0");
    }

    #[test]
    fn login_messages_carry_their_payload() {
        let sasl = encoded(|out| authentication_sasl(out, &["SCRAM-SHA-256"]));
        assert_eq!(&sasl[5..], b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        assert_eq!(encoded(authentication_cleartext_password), b"R\0\0\0\x08\0\0\0\x03");
        assert_eq!(encoded(|out| authentication_md5_password(out, *b"salt")), b"R\0\0\0\x0c\0\0\0\x05salt");
        assert_eq!(&encoded(|out| authentication_sasl_continue(out, b"r=x"))[5..], b"\0\0\0\x0br=x");
        assert_eq!(&encoded(|out| authentication_sasl_final(out, b"v=y"))[5..], b"\0\0\0\x0cv=y");
        assert_eq!(&encoded(|out| backend_key_data(out, 7, b"keys"))[5..], b"\0\0\0\x07keys");
        let negotiate = encoded(|out| negotiate_protocol_version(out, 3 << 16, ["_pq_.x"].into_iter()));
        assert_eq!(&negotiate[5..], b"\0\x03\0\0\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn rows_carry_lengths_and_null_is_minus_one() {
        let columns = [
            Column { name: "a", of: ColumnType::Text, binary: false },
            Column { name: "b", of: ColumnType::Int8, binary: true },
        ];
        let described = encoded(|out| row_description(out, columns.into_iter()));
        let text = b"a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        let int8 = b"b\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01";
        assert_eq!(described[5..], [&b"\0\x02"[..], text, int8].concat());
        let row = encoded(|out| data_row(out, [Some("xyz"), None, Some("")].into_iter()));
        assert_eq!(&row[5..], b"\0\x03\0\0\0\x03xyz\xff\xff\xff\xff\0\0\0\0");
    }

    #[test]
    fn reports_leave_out_what_they_do_not_say_and_zero_bytes() {
        let report = Report::new(Severity::Error, "42601", "bad\0 news");
        let short = encoded(|out| error_response(out, &report));
        assert_eq!(&short[5..], b"SERROR\0VERROR\0C42601\0Mbad news\0\0");
        let long = encoded(|out| notice_response(out, &report.detail("d").hint("h")));
        assert_eq!((long[0], &long[5..]), (b'N', &b"SERROR\0VERROR\0C42601\0Mbad news\0Dd\0Hh\0\0"[..]));
    }
}
