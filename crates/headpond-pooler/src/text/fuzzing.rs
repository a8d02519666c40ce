//! What must hold of the reader of texts, whatever the text.

use crate::text::lexer::{Lexer, Token};
use crate::text::stream::checks::in_pieces;
use crate::text::{Dialect, Effects, Encoding, Text, Verdict, read};

const ENCODINGS: [Encoding; 5] =
    [Encoding::Safe, Encoding::Sjis, Encoding::Pairs, Encoding::Gb18030, Encoding::Johab];

/// Reads all but the first byte of `input`, which says how.
///
/// # Panics
/// If what is skimmed over matters, if comments do, or in which pieces a text comes, or if less is said where less is known.
pub(crate) fn texts(input: &[u8]) {
    let Some((how, text)) = input.split_first() else { return };
    let encoding = ENCODINGS[usize::from(how >> 1) % ENCODINGS.len()];
    let how = Dialect { escapes: how & 1 != 0, encoding };
    let text = &encoding.plain(text);
    let quiet = Verdict::of(Effects::NONE, []);
    let said = read(text, how, &quiet);
    stream(text, how, &quiet, &said);
    // Nothing more is known, but no word is skimmed over.
    let open = Verdict::of(Effects::NONE, [(&b"\xff"[..], Effects::NONE)]);
    assert_eq!(read(text, how, &open), said);
    let unknown = read(text, how, &Verdict::unknown());
    assert!(
        unknown.effects.has(said.effects) && unknown.settings == said.settings && unknown.sole == said.sole
    );
    let more =
        [Effects::LOCKS, Effects::ANYTHING].map(|effects| Verdict::of(effects, [(&b"t"[..], effects)]));
    assert!(more.iter().all(|verdict| read(text, how, verdict).effects.has(said.effects)));
    for gap in [&b" /* ; listen x; ' */ "[..], b" -- $$ ; listen x \" /*\n"] {
        let spaced = spaced(text, how.escapes, gap);
        assert_eq!(read(&spaced, how, &quiet), said, "{}", String::from_utf8_lossy(&spaced));
    }
}

/// The text in pieces: byte by byte, and in some of sizes that depend on it.
fn stream(text: &[u8], how: Dialect, quiet: &Verdict, said: &Text) {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    // Whether a string is closed behind the end of the text does not matter.
    if text.len() > end + 1 || text.len() > 8_000 {
        return;
    }
    in_pieces(text, how, quiet, std::iter::repeat(1)).assert_is(said);
    in_pieces(text, how, quiet, text.iter().map(|byte| usize::from(byte % 32))).assert_is(said);
}

/// The text with something between all of its tokens.
fn spaced(text: &[u8], escapes: bool, gap: &[u8]) -> Vec<u8> {
    let (mut lexer, mut at, mut spaced) = (Lexer::new(text, escapes), 0, gap.to_vec());
    loop {
        let token = lexer.next();
        if matches!(token, Token::Unclosed | Token::End) {
            break;
        }
        spaced.extend_from_slice(&text[at..lexer.at]);
        // After a line break a string would go on.
        spaced.extend_from_slice(if matches!(token, Token::Literal(_)) { b" " } else { gap });
        at = lexer.at;
    }
    spaced.extend_from_slice(&text[at..]);
    spaced
}
