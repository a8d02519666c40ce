//! Files as entries: where each value stands, which setting it is for, and what it says.

mod ini;
mod pgbouncer;
mod spelling;
mod toml;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{At, Diagnostic};
use super::table::{Field, SETTINGS, Setting};
use super::values::Raw;

pub(super) use self::ini::{LARGEST, is_ini, unquote};
#[cfg(test)]
pub(super) use self::pgbouncer::TRANSLATED;
pub(super) use self::pgbouncer::from_ini;
use self::spelling::did_you_mean;
pub(super) use self::toml::from_toml;

/// One value of a file.
pub(super) struct Entry {
    pub(super) at: At,
    pub(super) scope: Scope,
    pub(super) setting: &'static Setting,
    /// The setting's name as the file has it.
    pub(super) key: String,
    pub(super) raw: Raw,
}

/// What a value is for.
pub(super) enum Scope {
    Top,
    Pool,
    /// The data source with this index.
    Source(usize),
    /// The application with this name.
    Application(String),
}

/// A file, read: what it says, and what was wrong with how it says it.
#[derive(Default)]
pub(super) struct Entries {
    /// The file's name in messages.
    pub(super) file: Arc<str>,
    /// In the order of the file; a later one for the same setting counts.
    pub(super) entries: Vec<Entry>,
    /// The data sources by name, and where each begins.
    pub(super) sources: Vec<(String, At)>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) errors: Vec<Diagnostic>,
}

impl Entries {
    fn push(&mut self, at: &At, scope: Scope, key: &str, setting: &'static Setting, raw: Raw) {
        self.entries.push(Entry { at: at.clone(), scope, setting, key: key.to_owned(), raw });
    }

    /// A setting of the top level or of `[pool]` that counts instead of the file's.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let at = At { file: "SET".into(), line: 0 };
        let all = || SETTINGS.iter().filter(|s| matches!(s.field, Field::Top(_) | Field::Pool(_)));
        // PgBouncer's test has a notation of its own.
        let is = |s: &&Setting| s.name == key || s.pgbouncer == key && key != "server_check_query";
        match all().find(is) {
            Some(setting) if setting.reload => {
                self.push(&at, scope(setting), key, setting, Raw::Bare(value.to_owned()));
            }
            Some(_) => self.error(&at, key, "takes effect at a start only; change the file and restart"),
            None => {
                let meant = did_you_mean(key, all().map(|s| s.name));
                self.error(&at, key, format!("no such setting{meant}"));
            }
        }
    }

    fn error(&mut self, at: &At, key: &str, message: impl Into<String>) {
        self.errors.push(at.says(key, message));
    }

    fn warn(&mut self, at: &At, key: &str, message: impl Into<String>) {
        self.warnings.push(at.says(key, message));
    }
}

/// What a setting of no single data source is for.
fn scope(setting: &Setting) -> Scope {
    if matches!(setting.field, Field::Pool(_)) { Scope::Pool } else { Scope::Top }
}

/// Reads a whole text file of sensible size. The error says what is wrong.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let why = |e: std::io::Error| format!("cannot be read: {e}");
    let mut bytes = Vec::new();
    // Bounded while reading: a device has no size to ask for.
    File::open(path).map_err(why)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(why)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is too long; at most {LARGEST} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        format!("is not UTF-8 text: line {line}")
    })
}
