//! Headpond's TOML.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::spelling::did_you_mean;
use super::{At, Entries, Scope};
use crate::config::table::{Field, SETTINGS, Setting};
use crate::config::values::Raw;

type Pair<'a, 'i> = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// Reads `text`; `name` stands in messages.
pub(in crate::config) fn from_toml(name: &str, text: &str) -> Entries {
    let line_ends = text.match_indices('\n').map(|(end, _)| end).collect();
    let mut reader = Reader { line_ends, out: Entries { file: name.into(), ..Entries::default() } };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = reader.at(error.span().unwrap_or_default());
        reader.out.error(&at, "", format!("not TOML: {}", error.message().replace('\n', ", ")));
    }
    // What was recovered from a broken file is a guess: complaints about it would mislead.
    if reader.out.errors.is_empty() {
        reader.document(document.get_ref());
    }
    reader.out
}

struct Reader {
    line_ends: Vec<usize>,
    out: Entries,
}

impl Reader {
    fn document(&mut self, document: &DeTable<'_>) {
        for (key, value) in in_order(document) {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("pool", DeValue::Table(pool)) => self.block(pool, || Scope::Pool),
                ("data_source", DeValue::Table(sources)) => self.sources(sources),
                ("application", DeValue::Table(applications)) => self.applications(applications),
                (name @ ("pool" | "data_source" | "application"), _) => {
                    let at = self.at(key.span());
                    let right = "[pool], [data_source.NAME] or [application.NAME]";
                    self.out.error(&at, name, format!("must be a table; {right}"));
                }
                _ => self.setting((key, value), Scope::Top),
            }
        }
    }

    fn sources(&mut self, sources: &DeTable<'_>) {
        for (name, value) in in_order(sources) {
            let at = self.at(name.span());
            let DeValue::Table(source) = value.get_ref() else {
                self.out.error(
                    &at,
                    name.get_ref(),
                    "must be a table; [data_source.NAME] with host and others",
                );
                continue;
            };
            if name.get_ref().is_empty() {
                self.out.error(&at, "data_source", "has an empty name; [data_source.NAME]");
            }
            let index = self.out.sources.len();
            self.out.sources.push((name.get_ref().to_string(), at));
            self.block(source, || Scope::Source(index));
        }
    }

    fn applications(&mut self, applications: &DeTable<'_>) {
        for (name, value) in in_order(applications) {
            match value.get_ref() {
                DeValue::Table(block) => self.block(block, || Scope::Application(name.get_ref().to_string())),
                _ => {
                    let at = self.at(name.span());
                    self.out.error(&at, name.get_ref(), "must be a table; [application.NAME] with weight");
                }
            }
        }
    }

    fn block(&mut self, block: &DeTable<'_>, scope: impl Fn() -> Scope) {
        for pair in in_order(block) {
            self.setting(pair, scope());
        }
    }

    fn setting(&mut self, (key, value): Pair<'_, '_>, scope: Scope) {
        let at = self.at(key.span());
        let name = key.get_ref().as_ref();
        match SETTINGS.iter().find(|s| s.name == name && stands_in(s, &scope)) {
            Some(setting) => self.out.push(&at, scope, name, setting, raw(value.get_ref())),
            None => self.out.error(&at, name, unknown(name, &scope)),
        }
    }

    fn at(&self, span: Range<usize>) -> At {
        At {
            file: Arc::clone(&self.out.file),
            line: 1 + self.line_ends.partition_point(|end| *end < span.start),
        }
    }
}

/// Tables are sorted by key; a reader of messages expects the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Pair<'a, 'i>> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

fn stands_in(setting: &Setting, scope: &Scope) -> bool {
    match setting.field {
        Field::Top(_) => matches!(scope, Scope::Top),
        Field::Pool(_) => matches!(scope, Scope::Pool | Scope::Source(_)),
        Field::Source(_) => matches!(scope, Scope::Source(_)),
        Field::Application(_) => matches!(scope, Scope::Application(_)),
    }
}

fn unknown(name: &str, scope: &Scope) -> String {
    let place = SETTINGS.iter().find(|s| s.name == name).map(|s| match s.field {
        Field::Top(_) => "at the top of the file",
        Field::Pool(_) => "in [pool] or [data_source.NAME]",
        Field::Source(_) => "in [data_source.NAME]",
        Field::Application(_) => "in [application.NAME]",
    });
    if let Some(place) = place {
        return format!("cannot stand here; it belongs {place}");
    }
    // Who comes from PgBouncer is told our name for it.
    let renamed = SETTINGS.iter().find(|s| s.pgbouncer == name || s.database == name);
    let meant = match renamed {
        Some(setting) => format!("; did you mean {}?", setting.name),
        None => did_you_mean(name, SETTINGS.iter().filter(|s| stands_in(s, scope)).map(|s| s.name)),
    };
    format!("no such setting{meant}")
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => Raw::Number(decimal(number)),
        DeValue::Float(number) => Raw::Number(number.to_string()),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
            items
                .iter()
                .map(text)
                .collect::<Option<_>>()
                .map_or(Raw::Other("a list of other things"), Raw::List)
        }
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// TOML has hexadecimal, octal and binary numbers too.
fn decimal(number: &DeInteger<'_>) -> String {
    let value = u64::from_str_radix(number.as_str(), number.radix());
    value.map_or_else(|_| number.to_string(), |n| n.to_string())
}
