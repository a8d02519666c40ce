//! The lines of an ini file, as PgBouncer reads them.
//!
//! `;` and `#` begin a comment at the start of a line only; a value is the rest of its line; a key is letters, digits
//! and `_ . - *`, or anything in double quotes (doubled inside); `%include FILE` reads another file in this place.

use std::path::Path;

use super::{At, Entries, read};
use crate::config::values::echo_path;

/// The longest configuration or users file, in bytes.
pub(in crate::config) const LARGEST: u64 = 16 << 20;
/// How deep files may include each other; the bound that ends a circle.
const INCLUDES_MAX: usize = 10;
/// How many files one configuration may consist of: a circle with two branches would double ten times.
const FILES_MAX: usize = 100;

/// A `key = value` and the section it stands in. No `Debug`: it may hold a password.
pub(super) struct Line {
    pub(super) at: At,
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// Whether a text begins like a `pgbouncer.ini`.
pub(in crate::config) fn is_ini(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first =
        text.filter(|l| !l.is_empty() && !l.starts_with([';', '#'])).find(|l| !l.starts_with("%include"));
    first.is_some_and(|l| ["[databases]", "[pgbouncer]"].iter().any(|s| l.starts_with(s)))
}

/// Reads lines; what is not one becomes an error in `out`.
pub(super) struct Lines<'o> {
    out: &'o mut Entries,
    lines: Vec<Line>,
    section: Option<String>,
    files: usize,
}

impl<'o> Lines<'o> {
    pub(super) fn of(name: &str, text: &str, folder: &Path, out: &'o mut Entries) -> Vec<Line> {
        let mut reader = Self { out, lines: Vec::new(), section: None, files: 0 };
        reader.file(name, text, folder, 0);
        reader.lines
    }

    fn file(&mut self, name: &str, text: &str, folder: &Path, depth: usize) {
        self.files += 1;
        let mut at = At { file: name.into(), line: 0 };
        for line in text.trim_start_matches('\u{feff}').split('\n') {
            at.line += 1;
            let mut line = line.trim();
            // Something may follow a section on its line.
            while let Some(opened) = line.strip_prefix('[') {
                let Some((section, rest)) = opened.split_once(']') else {
                    self.out.error(&at, "", "a section without its end; [NAME]");
                    break;
                };
                self.section = Some(section.to_owned());
                line = rest.trim_start();
            }
            if line.is_empty() || line.starts_with(['#', ';', '[']) {
                continue;
            }
            match line.strip_prefix("%include").filter(|rest| rest.starts_with([' ', '\t'])) {
                Some(path) => self.include(&at, path.trim(), folder, depth),
                None => self.pair(&at, line),
            }
        }
    }

    fn include(&mut self, at: &At, path: &str, folder: &Path, depth: usize) {
        if depth == INCLUDES_MAX || self.files == FILES_MAX {
            let limits = format!("at most {INCLUDES_MAX} deep and {FILES_MAX} in all");
            return self.out.error(at, "%include", format!("too many files; {limits}"));
        }
        let path = folder.join(path);
        let name = echo_path(&path);
        match read(&path) {
            Ok(text) => self.file(&name, &text, folder, depth + 1),
            Err(why) => self.out.error(at, "%include", format!("{name} {why}")),
        }
    }

    fn pair(&mut self, at: &At, line: &str) {
        let pair = key(line).and_then(|(key, rest)| Some((key, rest.trim_start().strip_prefix('=')?.trim())));
        // The line is not repeated: it may hold a password.
        let Some((key, value)) = pair else {
            return self.out.error(at, "", "neither a section nor a setting; [NAME] or key = value");
        };
        let Some(section) = self.section.clone() else {
            return self.out.error(at, &key, "stands before any section; [pgbouncer] or [databases] first");
        };
        self.lines.push(Line { at: at.clone(), section, key, value: value.to_owned() });
    }
}

/// The key that `line` begins with, unquoted, and the rest.
fn key(line: &str) -> Option<(String, &str)> {
    if let Some(quoted) = line.strip_prefix('"') {
        return unquote(quoted, '"').filter(|(key, _)| !key.is_empty());
    }
    let end = line.find(|c: char| !(c.is_alphanumeric() || "_.-*".contains(c)))?;
    (end > 0).then(|| (line[..end].to_owned(), &line[end..]))
}

/// Text up to `quote`, a doubled one standing for itself, and what follows the end.
pub(in crate::config) fn unquote(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once(quote)?;
        value.push_str(part);
        let Some(more) = after.strip_prefix(quote) else {
            return Some((value, after));
        };
        value.push(quote);
        rest = more;
    }
}
