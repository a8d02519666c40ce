//! Values: as they stand in a file, as they are kept, as they are shown.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headpond_pooler::config::{
    ChannelBinding, NodeAddress, OpaqueFunctions, PoolMode, Secret, SessionState, TlsMode, TlsNegotiation,
};

use super::sources::Source;
use super::{AuthType, ListenAddress, LogFormat, LogLevel, Sends};
use crate::tls::Protocols;

/// The longest time a setting may state.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A value as it stands in a file. No `Debug`: it may be a password.
pub(super) enum Raw {
    /// A quoted string of TOML.
    Text(String),
    /// A number of TOML.
    Number(String),
    /// A list of strings of TOML.
    List(Vec<String>),
    /// True or false in TOML.
    Switch(bool),
    /// Anything else of TOML, by name.
    Other(&'static str),
    /// The rest of a line of an ini file: it is what the setting takes it for.
    Bare(String),
}

/// Where a value is kept, with what it must obey.
pub(super) enum Slot<'a> {
    Number(&'a mut dyn Number, RangeInclusive<u32>),
    /// A number, or the word "auto": none.
    Auto(&'a mut Option<u32>, RangeInclusive<u32>),
    Switch(&'a mut bool),
    /// With the least time that makes sense.
    Time(&'a mut Duration, Duration),
    Choice(&'a mut dyn Choice),
    Text(&'a mut String),
    /// Empty: none.
    Name(&'a mut Option<String>),
    Names(&'a mut Vec<String>),
    Password(&'a mut Option<Secret>),
    Path(&'a mut Option<PathBuf>),
    Listen(&'a mut Vec<ListenAddress>),
    Address(&'a mut Option<SocketAddr>),
    Host(&'a mut NodeAddress),
}

impl Slot<'_> {
    /// Takes the value. The error says what is wrong and what would be right.
    pub(super) fn read(self, raw: &Raw) -> Result<(), String> {
        match self {
            Self::Number(slot, range) => slot.set(number(raw, &range)?),
            Self::Auto(slot, range) => *slot = number_or_auto(raw, &range)?,
            Self::Switch(slot) => *slot = switch(raw)?,
            Self::Time(slot, least) => *slot = time(raw, least)?,
            Self::Choice(slot) => {
                let word = text(raw)?;
                if !slot.choose(&word.to_ascii_lowercase()) {
                    return Err(format!("{} is unknown; one of {}", echo(word), quoted(slot.words())));
                }
            }
            Self::Text(slot) => *slot = text(raw)?.to_owned(),
            Self::Name(slot) => *slot = some(text(raw)?).map(str::to_owned),
            Self::Names(slot) => *slot = list(raw)?,
            Self::Password(slot) => *slot = some(text(raw)?).map(|p| Secret(p.to_owned())),
            Self::Path(slot) => *slot = some(text(raw)?).map(PathBuf::from),
            Self::Listen(slot) => {
                let all: Vec<_> = list(raw)?.iter().map(|a| listen_address(a)).collect::<Result<_, _>>()?;
                if all.is_empty() {
                    return Err("nothing to listen on; at least one \"host:port\"".into());
                }
                *slot = all;
            }
            Self::Address(slot) => *slot = some(text(raw)?).map(socket_address).transpose()?,
            Self::Host(node) => *node = on_host(text(raw)?, port_of(node))?,
        }
        Ok(())
    }

    /// The value in TOML.
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Number(..) | Self::Auto(Some(_), _) | Self::Switch(_) => self.plain(),
            Self::Time(time, _) => format!("\"{}\"", time_text(**time)),
            Self::Names(names) => format!("[{}]", quoted(names)),
            Self::Listen(all) => {
                format!("[{}]", quoted(&all.iter().map(ToString::to_string).collect::<Vec<_>>()))
            }
            _ => format!("{:?}", self.plain()),
        }
    }

    /// The value as we show it: times with their unit.
    pub(super) fn notation(&self) -> String {
        if let Self::Time(time, _) = self { time_text(**time) } else { self.plain() }
    }

    /// The value as PgBouncer shows it: times in seconds, lists with commas. A password is not shown, nor a command, which
    /// may have one among its arguments.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Number(number, _) => number.value().to_string(),
            Self::Auto(number, _) => number.map_or_else(|| "auto".to_owned(), |n| n.to_string()),
            Self::Switch(on) => on.to_string(),
            Self::Time(time, _) => time.as_secs_f64().to_string(),
            Self::Choice(choice) => choice.word().to_owned(),
            Self::Text(text) => (*text).clone(),
            Self::Name(name) => name.as_deref().unwrap_or_default().to_owned(),
            Self::Names(names) => names.join(", "),
            Self::Password(_) => String::new(),
            Self::Path(path) => path.as_deref().map(shown_path).unwrap_or_default(),
            Self::Listen(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Self::Address(address) => address.map(|a| a.to_string()).unwrap_or_default(),
            Self::Host(NodeAddress::Tcp { host, .. }) => host.clone(),
            Self::Host(NodeAddress::Unix { folder, .. }) => folder.clone(),
        }
    }
}

/// A whole number of any width; the slot's range keeps it within its own.
pub(super) trait Number {
    fn set(&mut self, value: u32);
    fn value(&self) -> u64;
}

macro_rules! numbers {
    ($($type:ty)+) => {$(
        impl Number for $type {
            fn set(&mut self, value: u32) {
                *self = Self::try_from(value).unwrap_or(Self::MAX);
            }
            fn value(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }
        }
    )+};
}
numbers!(u16 u32 usize);

/// One of a few words.
pub(super) trait Choice {
    fn words(&self) -> &'static [&'static str];
    fn word(&self) -> &'static str;
    /// False: no such word, nothing changed.
    fn choose(&mut self, word: &str) -> bool;
}

macro_rules! choice {
    ($type:ty { $($word:literal = $variant:ident),+ }) => {
        impl Choice for $type {
            fn words(&self) -> &'static [&'static str] {
                &[$($word),+]
            }
            fn word(&self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            fn choose(&mut self, word: &str) -> bool {
                *self = match word {
                    $($word => Self::$variant,)+
                    _ => return false,
                };
                true
            }
        }
    };
}
choice!(SessionState { "follow" = Follow, "ignore" = Ignore });
choice!(OpaqueFunctions { "pin" = Pin, "trust" = Trust });
choice!(PoolMode { "session" = Session, "transaction" = Transaction, "statement" = Statement });
choice!(AuthType {
    "trust" = Trust, "password" = Password, "md5" = Md5, "scram-sha-256" = ScramSha256, "hba" = Hba
});
choice!(TlsMode {
    "disable" = Disable, "allow" = Allow, "prefer" = Prefer, "require" = Require, "verify-ca" = VerifyCa,
    "verify-full" = VerifyFull
});
choice!(TlsNegotiation { "postgres" = Postgres, "direct" = Direct });
choice!(ChannelBinding { "disable" = Disable, "prefer" = Prefer, "require" = Require });
choice!(Protocols { "secure" = Secure, "tlsv1.2" = Tls12, "tlsv1.3" = Tls13 });
choice!(Sends { "auto" = Auto, "batched" = Batched, "plain" = Plain });
choice!(LogLevel { "error" = Error, "warn" = Warn, "info" = Info, "debug" = Debug });
choice!(LogFormat { "auto" = Auto, "text" = Text, "json" = Json });

fn text(raw: &Raw) -> Result<&str, String> {
    match raw {
        // PostgreSQL's messages end strings with a zero byte: one inside would end them early.
        Raw::Text(text) | Raw::Bare(text) if text.contains('\0') => {
            Err("holds a zero byte; text only".into())
        }
        Raw::Text(text) | Raw::Bare(text) => Ok(text),
        other => Err(format!("{} where a string in quotes belongs", other.noun())),
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn list(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(items) if items.iter().any(|i| i.contains('\0')) => {
            Err("holds a zero byte; text only".into())
        }
        Raw::List(items) => Ok(items.clone()),
        Raw::Bare(_) => {
            let items = text(raw)?.split(',').map(str::trim);
            Ok(items.filter_map(some).map(str::to_owned).collect())
        }
        other => Err(format!("{} where a list of strings belongs, like [\"one\", \"two\"]", other.noun())),
    }
}

fn number(raw: &Raw, range: &RangeInclusive<u32>) -> Result<u32, String> {
    let (least, most) = (range.start(), range.end());
    let (Raw::Number(digits) | Raw::Bare(digits)) = raw else {
        return Err(format!("{} where a number belongs; {least} to {most}", raw.noun()));
    };
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !whole {
        return Err(format!("{} is not a whole number; {least} to {most}", echo(digits)));
    }
    let within = digits.parse().ok().filter(|n| range.contains(n));
    within.ok_or_else(|| format!("{} is out of range; {least} to {most}", echo(digits)))
}

fn number_or_auto(raw: &Raw, range: &RangeInclusive<u32>) -> Result<Option<u32>, String> {
    match raw {
        Raw::Text(word) | Raw::Bare(word) if word.eq_ignore_ascii_case("auto") => Ok(None),
        _ => number(raw, range).map(Some).map_err(|why| format!("{why}, or \"auto\"")),
    }
}

fn switch(raw: &Raw) -> Result<bool, String> {
    match raw {
        Raw::Switch(on) => Ok(*on),
        Raw::Bare(word) => {
            word.to_ascii_lowercase().parse().map_err(|_| format!("{} is neither true nor false", echo(word)))
        }
        other => Err(format!("{} where true or false belongs", other.noun())),
    }
}

fn time(raw: &Raw, least: Duration) -> Result<Duration, String> {
    let example = "a number with ms, s, m or h, like \"30s\"";
    let time = match raw {
        Raw::Text(text) => {
            time_with_unit(text).ok_or_else(|| format!("{} is not a time; {example}", echo(text)))?
        }
        Raw::Number(digits) => return Err(format!("{} has no unit; {example}", echo(digits))),
        // PgBouncer's rule, seconds with an optional fraction, and ours too.
        Raw::Bare(text) => time_with_unit(text)
            .or_else(|| text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()))
            .ok_or_else(|| format!("{} is not a time; seconds, like 30 or 0.5", echo(text)))?,
        other => return Err(format!("{} where a time belongs; {example}", other.noun())),
    };
    if time > TIME_MAX {
        return Err(format!("longer than a year; at most \"{}\"", time_text(TIME_MAX)));
    }
    if time < least {
        return Err(format!("too short; at least \"{}\"", time_text(least)));
    }
    Ok(time)
}

fn time_with_unit(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let number: u64 = digits.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if time.subsec_nanos() > 0 => format!("{}ms", time.as_secs_f64() * 1000.0),
        _ if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds > 60 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let wrong = || format!("{} is not an address; \"host:port\", \"[::1]:port\" or \"*:port\"", echo(text));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = inside.or_else(|| (!host.contains([':', '[', ']'])).then_some(host)).ok_or_else(wrong)?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(ListenAddress { host: host.to_owned(), port })
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = |_| format!("{} is not an address; \"127.0.0.1:6480\", or \"\" for none", echo(text));
    text.parse().map_err(wrong)
}

fn port_of(node: &NodeAddress) -> u16 {
    let (NodeAddress::Tcp { port, .. } | NodeAddress::Unix { port, .. }) = node;
    *port
}

fn on_host(host: &str, port: u16) -> Result<NodeAddress, String> {
    if host.starts_with('/') {
        return Ok(NodeAddress::Unix { folder: host.to_owned(), port });
    }
    if host.starts_with('@') {
        return Err("abstract Unix sockets are not supported yet; the folder of an ordinary one".into());
    }
    if host.contains(',') {
        return Err("several hosts are not supported yet; one host".into());
    }
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "[]/".contains(c)) {
        return Err(format!("{} is not a host; a name, an address or a folder beginning with /", echo(host)));
    }
    Ok(NodeAddress::Tcp { host: host.to_owned(), port })
}

impl Raw {
    fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::List(_) => "a list",
            Self::Switch(_) => "true or false",
            Self::Other(noun) => noun,
            Self::Bare(_) => "this",
        }
    }
}

fn shown_path(path: &Path) -> String {
    match path.to_str().and_then(Source::parse) {
        Some(Source::Command(_)) => "command: (hidden)".to_owned(),
        _ => path.display().to_string(),
    }
}

/// The value in quotes, unless it may hold a whole connection string, and a password with it.
pub(super) fn echo(value: &str) -> String {
    if value.len() > 40 || value.contains('=') { "the value".into() } else { format!("{value:?}") }
}

/// The same for the name of a file, which may be long.
pub(super) fn echo_path(path: &Path) -> String {
    let name = path.display().to_string();
    if name.contains('=') { "the file".into() } else { name }
}

/// `"a", "b"`
fn quoted(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|w| format!("{:?}", w.as_ref())).collect::<Vec<_>>().join(", ")
}
