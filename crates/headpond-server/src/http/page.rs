//! The page at `/`: every pool at a glance. Pure HTML that refreshes itself; nothing is loaded, nothing runs.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use headpond_core::{CloseReason, State, Tick, Windows};
use headpond_pooler::figures::{PoolRow, Snapshot};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::names;

const STYLE: &str = include_str!("page.css");

/// Pools shown at most: those with an alarm, then those with most waiters, then the largest.
const POOLS_MAX: usize = 100;

/// Holders shown at most, of each pool.
const HOLDERS_MAX: usize = 5;

/// States in the order of the bar: what works, what is ready, what is on its way.
const BAR: [State; 8] = [
    State::InUse,
    State::Idle,
    State::Opening,
    State::Checking,
    State::Resetting,
    State::Recovering,
    State::BeingCancelled,
    State::Closing,
];

/// The page of a snapshot; `unready`: why new clients are not welcome.
pub(crate) fn render(snapshot: &Snapshot, uptime: Duration, unready: Option<&str>) -> Markup {
    // The busiest are shown, but in an order that stays from one refresh to the next.
    let mut pools: Vec<_> = snapshot.pools.iter().collect();
    pools.sort_by_key(|row| Reverse((row.pool.alarms.contains(&true), row.pool.waiting, row.pool.open())));
    pools.truncate(POOLS_MAX);
    pools.sort_by_key(|row| (&row.data_source, &row.user));
    let hidden = snapshot.pools.len() - pools.len();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="2";
                title { "Headpond" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Headpond" }
                    span { "version " (env!("CARGO_PKG_VERSION")) }
                    span { "up " (long(uptime)) }
                    @match unready {
                        Some(why) => span.bad { "not ready: " (why) },
                        None => span { "ready" },
                    }
                }
                (totals(snapshot))
                @for row in &pools { (pool(row, snapshot.now)) }
                @if pools.is_empty() { section { "No pool yet: one is made when its first client comes." } }
                @if hidden > 0 { section { (hidden) " more pools are not shown." } }
                footer {
                    a href="/metrics" { "metrics" }
                    a href="/api/v1/snapshot" { "snapshot" }
                    a href="/healthz" { "health" }
                    a href="/readyz" { "readiness" }
                }
            }
        }
    }
}

fn totals(snapshot: &Snapshot) -> Markup {
    let pools = || snapshot.pools.iter();
    let count = |state| pools().map(|row| row.pool.count(state)).sum::<u32>();
    html! {
        dl.figures.totals {
            (figure("clients", snapshot.clients_logged_in))
            (figure("logging in", snapshot.clients_logging_in))
            (figure("waiting", pools().map(|row| row.pool.waiting).sum::<u32>()))
            (figure("in use", count(State::InUse)))
            (figure("idle", count(State::Idle)))
            (figure("opening", count(State::Opening)))
            (figure("server connections", pools().map(|row| row.pool.open()).sum::<u32>()))
            (figure("pools", snapshot.pools.len()))
            @if snapshot.reply_mismatches > 0 { (figure("reply mismatches", snapshot.reply_mismatches)) }
        }
    }
}

fn pool(row: &PoolRow, now: Tick) -> Markup {
    let pool = &row.pool;
    html! {
        section {
            h2 {
                (row.data_source) " "
                small { "for " (row.user) " at " (names::node(&row.node)) ", " (names::mode(row.mode)) " mode" }
                @if row.paused { " " span.bad { "paused" } }
                @if row.awaiting_credentials { " " span.bad { "awaiting credentials" } }
            }
            @for (alarm, cause) in pool.raised() {
                p.bad {
                    "Alarm " (alarm.name()) ": " (names::advice(alarm)) "."
                    @if let Some(cause) = cause { " Most connections were closed for " (cause.name()) "." }
                }
            }
            (bar(row))
            dl.figures {
                (figure("waiting", pool.waiting))
                (figure("oldest wait", waited(row.oldest_wait)))
                (figure("in use", pool.count(State::InUse)))
                (figure("idle", pool.count(State::Idle)))
                (figure("opening", pool.count(State::Opening)))
                (figure("max_size", pool.settings.max_size))
                @if let Some(budget) = row.budget {
                    (figure("of the budget", format!("{} of {budget}", row.budget_used)))
                }
                (figure("clients active", row.clients_active))
                (figure("clients idle", row.clients_idle))
                (figure("pinned", row.pinned.connections))
                @if let Some(share) = row.efficiency() {
                    (figure("multiplexing efficiency", format!("{:.1} %", 100.0 * share)))
                }
            }
            (marks(&pool.marks))
            @if row.pinned.connections > 0 {
                p {
                    "Pinned to their clients:"
                    @for (reason, connections) in row.pinned.reasons() { " " (connections) " for " (reason) ";" }
                    " SHOW PINS says by whom."
                }
            }
            @if !row.holders.is_empty() { (holders(row, now)) }
            p {
                (pool.counts.opened) " opened"
                @for (reason, closed) in CloseReason::ALL.into_iter().zip(pool.counts.closed) {
                    @if closed > 0 { ", " (closed) " closed: " (reason.name()) }
                }
                "."
            }
            @if let Some(error) = &row.last_error { p.bad { "Last error: " (error) } }
        }
    }
}

/// The states against `max_size`, with their numbers in words below.
fn bar(row: &PoolRow) -> Markup {
    // After `max_size` was lowered there may be more than that for a while.
    let full = row.pool.settings.max_size.max(row.pool.open()).max(1);
    let states =
        || BAR.into_iter().map(|state| (state, row.pool.count(state))).filter(|(_, count)| *count > 0);
    let color = |state: State| format!("background:var(--{})", state.name());
    html! {
        div.bar aria-hidden="true" {
            @for (state, count) in states() {
                i style={ (color(state)) ";width:" (100.0 * f64::from(count) / f64::from(full)) "%" } {}
            }
        }
        ul.legend {
            @for (state, count) in states() {
                li { i style=(color(state)) {} (count) " " (state.name().replace('_', " ")) }
            }
            li {
                (row.pool.open()) " of " (row.pool.settings.max_size)
                @if row.pool.effective_max < row.pool.settings.max_size {
                    ", " (row.pool.effective_max) " allowed now"
                }
            }
        }
    }
}

/// The largest values of all windows.
fn marks(marks: &Windows) -> Markup {
    let titles = ["since the start", "since the reset", "last hour", "last day"];
    html! {
        table {
            tr {
                th { "High-water marks" } th { "in use" } th { "waiting" } th { "open" } th { "longest wait" }
            }
            @for (title, (_, marks)) in titles.into_iter().zip(names::windows(marks)) {
                tr {
                    th { (title) } td { (marks.in_use) } td { (marks.waiting) } td { (marks.open) }
                    td { (waited(marks.wait)) }
                }
            }
        }
    }
}

/// Who has held a connection for longest.
fn holders(row: &PoolRow, now: Tick) -> Markup {
    html! {
        table.holders {
            tr { th { "Held for" } th { "by" } th { "at" } th { "backend" } th { "which is" } }
            @for holder in row.holders.iter().take(HOLDERS_MAX) {
                tr {
                    td { (waited(now.0.saturating_sub(holder.since.0))) }
                    td {
                        (holder.user)
                        @if !holder.application_name.is_empty() { " (" (holder.application_name) ")" }
                    }
                    td { (holder.address.map_or_else(|| "unix".to_owned(), |at| SocketAddr::from(at).to_string())) }
                    td { (holder.backend_pid) }
                    td {
                        (names::holding(holder.holding))
                        @if holder.pinned.is_some() { ", pinned: " (names::pins(holder.pinned)) }
                    }
                }
            }
        }
    }
}

fn figure(name: &str, value: impl maud::Render) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn waited(nanoseconds: u64) -> String {
    short(Duration::from_nanos(nanoseconds))
}

/// A wait, to three figures or so.
fn short(time: Duration) -> String {
    match time.as_micros() {
        0 => "0".to_owned(),
        us @ 1..1000 => format!("{us} µs"),
        us @ 1000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// An age, in its two largest units.
fn long(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::made_up;

    #[test]
    fn the_page_shows_a_pool_and_escapes_what_others_chose() {
        let mut snapshot = made_up::snapshot();
        snapshot.pools[0].data_source = "<script>alert(1)</script>".to_owned();
        snapshot.pools[0].last_error = Some("\"><img src=x>".to_owned());
        let page = render(&snapshot, Duration::from_secs(90), Some("a < b")).into_string();
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        for expected in [
            "&lt;script&gt;",
            "not ready: a &lt; b",
            "up 1 min 30 s",
            "background:var(--in_use);width:30%",
            "5 closed: max_lifetime",
            "<th>since the reset</th><td>8</td><td>6</td><td>10</td><td>4.0 s</td>",
            "<th>last day</th><td>9</td>",
            "7 of 10, 8 allowed now",
            "Alarm max_idle_churn: ",
            "<tr><td>60.0 s</td><td>alice (till)</td><td>192.0.2.1:4711</td><td>1234</td>\
                <td>idle in transaction, pinned: temporary_objects, listen</td>",
            "Pinned to their clients: 2 for temporary_objects; 1 for listen;",
            "<dt>multiplexing efficiency</dt><dd>75.0 %</dd>",
            "&lt;b&gt;batch&lt;/b&gt;",
            "raise max_idle. Most connections were closed for max_idle.",
            "content=\"2\"",
        ] {
            assert!(page.contains(expected), "{expected}\nin\n{page}");
        }
    }

    #[test]
    fn a_pool_with_an_alarm_is_among_those_shown() {
        let mut snapshot = made_up::snapshot();
        for number in 0..POOLS_MAX {
            let mut busy = made_up::pool(&format!("busy {number}"), 1);
            (busy.pool.waiting, busy.pool.alarms) = (1000, Default::default());
            snapshot.pools.push(busy);
        }
        let page = render(&snapshot, Duration::ZERO, None).into_string();
        assert!(page.contains("Alarm max_idle_churn: ") && page.contains("1 more pools are not shown"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(short(Duration::from_nanos(999)), "0");
        assert_eq!(short(Duration::from_micros(7)), "7 µs");
        assert_eq!(short(Duration::from_micros(1500)), "1 ms");
        assert_eq!(short(Duration::from_millis(2500)), "2.5 s");
        assert_eq!(long(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
