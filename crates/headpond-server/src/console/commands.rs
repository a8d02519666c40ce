//! Every command of the console: one table for dispatch, `SHOW HELP` and the documentation.

use std::fmt::Write as _;

use Argument::DataSource;

use super::table::{Column, Row};
use super::{View, connections, pins, pools, process, traffic};
use crate::control::Shutdown;

/// A command.
pub(crate) struct Command {
    /// Its words, in capitals.
    pub(crate) name: &'static str,
    /// What may follow them.
    pub(crate) argument: Argument,
    /// One line for `SHOW HELP`.
    pub(crate) what: &'static str,
    pub(crate) does: Does,
}

/// What may follow a command's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    None,
    /// The name of a data source; without it: all of them.
    DataSource,
    /// `key = value`.
    Assignment,
    /// Anything; it is not looked at.
    Any,
}

/// What a command does.
pub(crate) enum Does {
    /// Renders figures.
    Show(Show),
    /// Lists the commands.
    Help,
    /// Answers with a constant, as drivers ask for it.
    Say(&'static str),
    /// Changes something: for administrators only.
    Act(Act),
    /// PgBouncer can do it and Headpond cannot; the text says what to do instead.
    Refuse(&'static str),
}

/// A table.
#[derive(Clone, Copy)]
pub(crate) struct Show {
    /// Needs the figures of every client and server connection.
    pub(crate) detail: bool,
    pub(crate) columns: &'static [Column],
    pub(crate) rows: fn(&View<'_>) -> Vec<Row>,
}

/// What administrators can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pause,
    Resume,
    Reconnect,
    Kill,
    Set,
    Reload,
    ResetMarks,
    Shutdown(Shutdown),
}

const fn command(name: &'static str, argument: Argument, what: &'static str, does: Does) -> Command {
    Command { name, argument, what, does }
}

const fn show(
    name: &'static str,
    columns: &'static [Column],
    rows: fn(&View<'_>) -> Vec<Row>,
    what: &'static str,
) -> Command {
    command(name, Argument::None, what, Does::Show(Show { detail: false, columns, rows }))
}

const fn list(
    name: &'static str,
    columns: &'static [Column],
    rows: fn(&View<'_>) -> Vec<Row>,
    what: &'static str,
) -> Command {
    command(name, Argument::None, what, Does::Show(Show { detail: true, columns, rows }))
}

const fn say(name: &'static str, value: &'static str) -> Command {
    command(name, Argument::None, "constant, for drivers that ask", Does::Say(value))
}

const fn act(name: &'static str, argument: Argument, act: Act, what: &'static str) -> Command {
    command(name, argument, what, Does::Act(act))
}

const fn refuse(name: &'static str, instead: &'static str) -> Command {
    command(name, Argument::Any, "not supported", Does::Refuse(instead))
}

/// PgBouncer keeps facts of this kind; here there are none, and the table is empty.
fn nothing(_: &View<'_>) -> Vec<Row> {
    Vec::new()
}

/// The commands. Where the words of one begin those of another, the longer one is meant.
pub(crate) const COMMANDS: &[Command] = &[
    command("SHOW HELP", Argument::None, "this list", Does::Help),
    show("SHOW POOLS", pools::POOLS, pools::pools, "clients, server connections and waiting by pool"),
    show("SHOW MARKS", pools::MARKS, pools::marks, "high-water marks, in four windows"),
    show("SHOW ALARMS", pools::ALARMS, pools::alarms, "what is wrong, and what to change"),
    show("SHOW CLOSE_REASONS", pools::CLOSE_REASONS, pools::close_reasons, "why connections were closed"),
    show("SHOW HOLDERS", connections::HOLDERS, connections::holders, "who has held a connection for longest"),
    list("SHOW PINS", pins::PINS, pins::pins, "which connections are kept, why and by which application"),
    list("SHOW CLIENTS", connections::CONNECTIONS, connections::clients, "every client"),
    list("SHOW SERVERS", connections::CONNECTIONS, connections::servers, "every server connection"),
    list("SHOW SOCKETS", connections::SOCKETS, connections::sockets, "both"),
    list("SHOW ACTIVE_SOCKETS", connections::SOCKETS, connections::active_sockets, "those not idle"),
    show("SHOW STATS", traffic::STATS, traffic::stats, "totals and averages by data source"),
    show("SHOW STATS_TOTALS", traffic::STATS_TOTALS, traffic::stats_totals, "totals by data source"),
    show("SHOW STATS_AVERAGES", traffic::STATS_AVERAGES, traffic::stats_averages, "averages by data source"),
    show("SHOW TOTALS", traffic::TOTALS, traffic::totals, "totals and averages of all together"),
    show("SHOW DATABASES", pools::DATABASES, pools::databases, "data sources"),
    show("SHOW USERS", pools::USERS, pools::users, "users"),
    show("SHOW LISTS", process::LISTS, process::lists, "how many there are of everything"),
    show("SHOW CONFIG", process::CONFIG, process::config, "the settings"),
    show("SHOW CERTIFICATES", process::CERTIFICATES, process::certificates, "until when certificates hold"),
    show("SHOW STATE", process::STATE, process::state, "whether the pools are paused"),
    show("SHOW VERSION", process::VERSION, process::version, "the version"),
    show("SHOW MEM", process::MEM, nothing, "empty: there are no caches to show"),
    show("SHOW DNS_HOSTS", process::DNS_HOSTS, nothing, "empty: names are looked up at each login"),
    show("SHOW DNS_ZONES", process::DNS_ZONES, nothing, "empty"),
    show("SHOW PEERS", process::PEERS, nothing, "empty"),
    show("SHOW PEER_POOLS", process::PEER_POOLS, nothing, "empty"),
    act("PAUSE", DataSource, Act::Pause, "give out no connections; answers when all are closed"),
    act("RESUME", DataSource, Act::Resume, "end a pause"),
    act("RECONNECT", DataSource, Act::Reconnect, "replace every connection when next at rest"),
    act("KILL", DataSource, Act::Kill, "drop every client and connection; who comes next waits for RESUME"),
    act("RELOAD", Argument::None, Act::Reload, "read the configuration again"),
    act("SET", Argument::Assignment, Act::Set, "change a setting until the next RELOAD"),
    act("RESET MARKS", Argument::None, Act::ResetMarks, "start the high-water marks anew"),
    act("SHUTDOWN", Argument::None, Act::Shutdown(Shutdown::Now), "end now"),
    act(
        "SHUTDOWN WAIT_FOR_SERVERS",
        Argument::None,
        Act::Shutdown(Shutdown::WaitForServers),
        "end when every server connection is at rest",
    ),
    act(
        "SHUTDOWN WAIT_FOR_CLIENTS",
        Argument::None,
        Act::Shutdown(Shutdown::WaitForClients),
        "end when every client has left",
    ),
    refuse("SUSPEND", "use PAUSE"),
    refuse("KILL_CLIENT", "end the client on its side, or its backend with pg_terminate_backend"),
    refuse("DISABLE", "remove the data source from the configuration file and use RELOAD"),
    refuse("ENABLE", "add the data source to the configuration file and use RELOAD"),
    refuse("WAIT_CLOSE", "watch SHOW SERVERS after RECONNECT"),
    refuse("SHOW FDS", "nothing: sockets are never handed to another process"),
    say("SHOW CLIENT_ENCODING", "UTF8"),
    say("SHOW STANDARD_CONFORMING_STRINGS", "on"),
    say("SHOW DATESTYLE", "ISO"),
    say("SHOW TIMEZONE", "UTC"),
    say("SHOW DEFAULT_TRANSACTION_ISOLATION", "read committed"),
    say("SHOW TRANSACTION ISOLATION LEVEL", "read committed"),
];

/// A statement that was understood.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) command: &'static Command,
    pub(crate) argument: Option<String>,
}

/// Finds the command of a statement; `None` for an empty one. Words may be in any case, names are taken as they
/// are, in quotes if they must; `SELECT x` is `SHOW x`, as exporters send it.
///
/// # Errors
/// What is wrong with the statement.
pub(crate) fn parse(statement: &str) -> Result<Option<Request>, String> {
    let words = words(statement)?;
    if words.is_empty() {
        return Ok(None);
    }
    let is = |word: &str, name: &str| {
        word.eq_ignore_ascii_case(name) || name == "SHOW" && word.eq_ignore_ascii_case("SELECT")
    };
    let matching = |command: &Command| {
        let names = command.name.split(' ');
        let length = names.clone().count();
        let all = words.len() >= length && names.zip(&words).all(|(name, word)| is(word, name));
        all.then_some(length)
    };
    let found = COMMANDS.iter().filter_map(|command| Some((matching(command)?, command)));
    let Some((length, command)) = found.max_by_key(|(length, _)| *length) else {
        return Err(format!("invalid command '{}', use SHOW HELP;", statement.trim()));
    };
    let argument = match (&words[length..], command.argument) {
        (assignment, Argument::Assignment) => Some(assignment.join(" ")),
        ([], _) | (_, Argument::Any) => None,
        ([name], Argument::DataSource) => Some(name.clone()),
        ([more, ..], _) => return Err(format!("unexpected '{more}' after {}", command.name)),
    };
    Ok(Some(Request { command, argument }))
}

/// The words of one statement: comments and the semicolon at its end left out, quotes taken off.
fn words(statement: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = statement.trim_start();
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, next)| next);
        } else if first == ';' {
            let after = rest.trim_start_matches(|c: char| c == ';' || c.is_whitespace());
            return if after.is_empty() { Ok(words) } else { Err("one command at a time".to_owned()) };
        } else if first == '"' || first == '\'' {
            let (word, after) = quoted(&rest[1..], first).ok_or("a quote is not closed")?;
            words.push(word);
            rest = after;
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

/// The text up to the closing quote, where two of them stand for one; and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once(quote)?;
        word.push_str(part);
        let Some(more) = after.strip_prefix(quote) else { return Some((word, after)) };
        word.push(quote);
        rest = more;
    }
}

/// The text of `SHOW HELP`.
pub(crate) fn help() -> String {
    let mut help = "Console usage\n".to_owned();
    for command in COMMANDS.iter().filter(|command| command.is_listed()) {
        // Writing to a string cannot fail.
        let _ = writeln!(help, "\t{:<28} {}", command.usage(), command.what);
    }
    help
}

/// The commands as a table in Markdown, for the documentation.
#[must_use]
pub fn reference() -> String {
    let mut table = "| command | who | what |\n| --- | --- | --- |\n".to_owned();
    for command in COMMANDS.iter().filter(|command| command.is_listed()) {
        let who = if command.is_for_all() { "all" } else { "administrators" };
        let _ = writeln!(table, "| `{}` | {who} | {} |", command.usage(), command.what);
    }
    table
}

impl Command {
    /// Whether users who may only look can use it.
    pub(crate) fn is_for_all(&self) -> bool {
        !matches!(self.does, Does::Act(_) | Does::Refuse(_))
    }

    /// The columns of its answer; `None` if it answers without rows.
    pub(crate) fn columns(&self) -> Option<&'static [Column]> {
        match &self.does {
            Does::Show(show) => Some(show.columns),
            Does::Say(_) => Some(process::SAID),
            Does::Help | Does::Act(_) | Does::Refuse(_) => None,
        }
    }

    /// What `CommandComplete` says.
    pub(crate) fn tag(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or(self.name)
    }

    fn is_listed(&self) -> bool {
        !matches!(self.does, Does::Say(_) | Does::Refuse(_))
    }

    fn usage(&self) -> String {
        let argument = match self.argument {
            Argument::DataSource => " [data source]",
            Argument::Assignment => " key = value",
            Argument::None | Argument::Any => "",
        };
        format!("{}{argument}", self.name)
    }
}
