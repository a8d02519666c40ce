//! `SHOW` commands about what went through.

use super::View;
use super::table::{Cell, Column, Row, numeric, row, text};
use super::totals::Counters;

pub(crate) const STATS: &[Column] = &[
    text("database"),
    numeric("total_server_assignment_count"),
    numeric("total_xact_count"),
    numeric("total_query_count"),
    numeric("total_received"),
    numeric("total_sent"),
    numeric("total_xact_time"),
    numeric("total_query_time"),
    numeric("total_wait_time"),
    numeric("total_client_parse_count"),
    numeric("total_server_parse_count"),
    numeric("total_bind_count"),
    numeric("total_client_login_count"),
    numeric("avg_server_assignment_count"),
    numeric("avg_xact_count"),
    numeric("avg_query_count"),
    numeric("avg_recv"),
    numeric("avg_sent"),
    numeric("avg_xact_time"),
    numeric("avg_query_time"),
    numeric("avg_wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
    numeric("avg_client_login_count"),
];

pub(crate) fn stats(view: &View<'_>) -> Vec<Row> {
    rows(view, |(total, average)| total.iter().chain(average).copied().map(Cell::from).collect())
}

pub(crate) const STATS_TOTALS: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("client_parse_count"),
    numeric("server_parse_count"),
    numeric("bind_count"),
    numeric("client_login_count"),
];

pub(crate) fn stats_totals(view: &View<'_>) -> Vec<Row> {
    rows(view, |(total, _)| total.map(Cell::from).to_vec())
}

/// Four names begin with `avg_` and the others do not: so they do in PgBouncer.
pub(crate) const STATS_AVERAGES: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
    numeric("avg_client_login_count"),
];

pub(crate) fn stats_averages(view: &View<'_>) -> Vec<Row> {
    rows(view, |(_, average)| average.map(Cell::from).to_vec())
}

pub(crate) const TOTALS: &[Column] = &[text("name"), numeric("value")];

const TOTALS_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

pub(crate) fn totals(view: &View<'_>) -> Vec<Row> {
    let (total, average) = &view.totals.all;
    let named = |prefix: &'static str, counters: &Counters| {
        let rows = TOTALS_NAMES.iter().zip(*counters);
        rows.map(|(name, value)| row![format!("{prefix}_{name}"), value]).collect::<Vec<_>>()
    };
    [named("total", total), named("avg", average)].concat()
}

fn rows(view: &View<'_>, cells: impl Fn(&(Counters, Counters)) -> Vec<Cell>) -> Vec<Row> {
    let rows = view.totals.rows.iter();
    rows.map(|(name, counters)| [row![name.as_str()], cells(counters)].concat()).collect()
}
