//! What else than its own bytes decides how a text is read.

/// How a server reads the texts of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// `standard_conforming_strings` is off: a backslash escapes in any string.
    pub(crate) escapes: bool,
    /// What `client_encoding` means for where characters end.
    pub(crate) encoding: Encoding,
}

/// Encodings by how they may hide ASCII in the second byte of a character
/// (<https://www.postgresql.org/docs/current/multibyte.html>; lengths as in `src/common/wchar.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// They do not.
    #[default]
    Safe,
    Sjis,
    /// BIG5, GBK, UHC: two bytes if the first is no ASCII.
    Pairs,
    Gb18030,
    Johab,
}

impl Dialect {
    /// By the values of `standard_conforming_strings` and `client_encoding`; `None`: as nearly everywhere.
    pub(crate) fn of(conforming: Option<&str>, encoding: Option<&str>) -> Self {
        let encoding = encoding.map(|name| Encoding::named(name.to_ascii_uppercase().as_bytes()));
        let off = |value: &str| ["off", "false", "no", "0"].iter().any(|off| value.eq_ignore_ascii_case(off));
        Self { escapes: conforming.is_some_and(off), encoding: encoding.unwrap_or_default() }
    }
}

impl Encoding {
    /// By the name that a server reports.
    pub(crate) fn named(name: &[u8]) -> Self {
        match name {
            b"SJIS" | b"SHIFT_JIS_2004" => Self::Sjis,
            b"BIG5" | b"GBK" | b"UHC" => Self::Pairs,
            b"GB18030" => Self::Gb18030,
            b"JOHAB" => Self::Johab,
            _ => Self::Safe,
        }
    }

    fn length(self, first: u8, second: u8) -> usize {
        match (self, first) {
            (Self::Safe, _) | (_, ..0x80) | (Self::Sjis, 0xa1..=0xdf) => 1,
            (Self::Gb18030, _) if second.is_ascii_digit() => 4,
            (Self::Johab, 0x8f) => 3,
            _ => 2,
        }
    }

    /// How much of a part of a text is whole characters.
    pub(super) fn whole(self, part: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let length = match part[at..] {
                [first, second, ..] => self.length(first, second),
                // What it is, its second byte tells.
                [first] if first.is_ascii() => 1,
                _ => return at,
            };
            if at + length > part.len() {
                return at;
            }
            at += length;
        }
    }

    /// The text with nothing in its characters that looks like ASCII and is not.
    pub(super) fn plain(self, text: &[u8]) -> Vec<u8> {
        let mut plain = text.to_vec();
        let mut at = 0;
        while let Some(first) = text.get(at) {
            let second = text.get(at + 1).copied().unwrap_or(0);
            let end = (at + self.length(*first, second)).min(text.len());
            plain[at + 1..end].fill(0xff);
            at = end;
        }
        plain
    }
}
