//! As much of SQL as the model needs to read.

/// The words of a text, in lower case; literals begin with a quote, anything else is single characters.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else if rest.starts_with("E'") {
            rest = &rest[1..];
        } else if let Some(literal) = rest.strip_prefix('\'') {
            let (value, after) = literal.split_once('\'').expect("an end of a literal");
            words.push(format!("'{value}"));
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            words.push(rest[..end].to_ascii_lowercase());
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                words.push(first.into());
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    words
}

/// The statements of a text.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let (mut quoted, mut from) = (false, 0);
    let mut all = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        quoted ^= byte == b'\'';
        if byte == b';' && !quoted {
            all.push(&text[from..at]);
            from = at + 1;
        }
    }
    all.push(&text[from..]);
    all.retain(|text| !words(text).is_empty());
    all
}
