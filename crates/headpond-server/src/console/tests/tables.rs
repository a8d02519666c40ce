//! Every `SHOW` command has the columns that scrapers know, and rows as wide.

use std::time::{Duration, SystemTime};

use headpond_core::Tick;
use headpond_pooler::config::AuthMethod;
use headpond_pooler::figures::{ClientRow, Pinned, Snapshot};
use headpond_wire::postgres::encode::ColumnType;

use super::made_up;
use crate::console::View;
use crate::console::commands::{COMMANDS, Command, Does, parse, reference};
use crate::console::table::{Cell, Row};
use crate::console::totals::{Ledger, Totals};

/// PgBouncer's columns with their types: t text, i int4, q int8, n numeric. Ours may follow.
const PGBOUNCER: &[(&str, &str)] = &[
    (
        "SHOW POOLS",
        "database:t user:t cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i \
         sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i \
         pool_mode:t load_balance_hosts:t",
    ),
    (
        "SHOW CLIENTS",
        "type:t user:t database:t replication:t state:t addr:t port:i local_addr:t local_port:i connect_time:t \
         request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t application_name:t \
         prepared_statements:i id:i",
    ),
    (
        "SHOW SERVERS",
        "type:t user:t database:t replication:t state:t addr:t port:i local_addr:t local_port:i connect_time:t \
         request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t application_name:t \
         prepared_statements:i id:i",
    ),
    (
        "SHOW SOCKETS",
        "type:t user:t database:t replication:t state:t addr:t port:i local_addr:t local_port:i connect_time:t \
         request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t application_name:t \
         prepared_statements:i id:i recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i \
         send_avail:i",
    ),
    (
        "SHOW STATS",
        "database:t total_server_assignment_count:n total_xact_count:n total_query_count:n total_received:n \
         total_sent:n total_xact_time:n total_query_time:n total_wait_time:n total_client_parse_count:n \
         total_server_parse_count:n total_bind_count:n total_client_login_count:n avg_server_assignment_count:n \
         avg_xact_count:n avg_query_count:n avg_recv:n avg_sent:n avg_xact_time:n avg_query_time:n avg_wait_time:n \
         avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n avg_client_login_count:n",
    ),
    (
        "SHOW STATS_TOTALS",
        "database:t server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
         query_time:n wait_time:n client_parse_count:n server_parse_count:n bind_count:n client_login_count:n",
    ),
    (
        "SHOW STATS_AVERAGES",
        "database:t server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
         query_time:n wait_time:n avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n \
         avg_client_login_count:n",
    ),
    ("SHOW TOTALS", "name:t value:n"),
    (
        "SHOW DATABASES",
        "name:t host:t port:i database:t force_user:t pool_size:i min_pool_size:i reserve_pool_size:i \
         server_lifetime:i pool_mode:t load_balance_hosts:t max_connections:i current_connections:i \
         max_client_connections:i current_client_connections:i paused:i disabled:i",
    ),
    (
        "SHOW USERS",
        "name:t pool_size:i reserve_pool_size:i pool_mode:t max_user_connections:i current_connections:i \
         max_user_client_connections:i current_client_connections:i",
    ),
    ("SHOW LISTS", "list:t items:i"),
    ("SHOW CONFIG", "key:t value:t default:t changeable:t"),
    ("SHOW MEM", "name:t size:i used:i free:i memtotal:i"),
    ("SHOW STATE", "key:t value:t"),
    ("SHOW VERSION", "version:t"),
    ("SHOW DNS_HOSTS", "hostname:t ttl:q addrs:t"),
    ("SHOW DNS_ZONES", "zonename:t serial:q count:i"),
    ("SHOW PEERS", "peer_id:i host:t port:i pool_size:i"),
    (
        "SHOW PEER_POOLS",
        "peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i",
    ),
];

#[test]
fn every_show_begins_with_pgbouncers_columns_in_their_order() {
    for (name, expected) in PGBOUNCER {
        let columns = command(name).columns().unwrap().iter().map(|column| {
            let of = match column.of {
                ColumnType::Text => 't',
                ColumnType::Int4 => 'i',
                ColumnType::Int8 => 'q',
                ColumnType::Numeric => 'n',
            };
            format!("{}:{of}", column.name)
        });
        let expected: Vec<_> = expected.split_whitespace().collect();
        let columns: Vec<_> = columns.take(expected.len()).collect();
        assert_eq!(columns, expected, "{name}");
    }
}

#[test]
fn every_row_is_as_wide_as_its_table_and_numbers_are_numbers() {
    for command in COMMANDS {
        let Does::Show(show) = &command.does else { continue };
        for row in shown(command.name) {
            assert_eq!(row.len(), show.columns.len(), "{}", command.name);
            for (cell, column) in row.iter().zip(show.columns) {
                let fits = match cell {
                    Cell::Null => true,
                    Cell::Text(_) => column.of == ColumnType::Text,
                    Cell::Number(_) => column.of != ColumnType::Text,
                };
                assert!(fits, "{} {}: {cell:?}", command.name, column.name);
            }
        }
    }
}

#[test]
fn pools_map_our_states_to_pgbouncers() {
    let row = shown("SHOW POOLS").remove(0);
    for (column, expected) in [
        ("cl_active", 5),
        ("cl_waiting", 4),
        ("cl_active_cancel_req", 1),
        ("sv_active", 3),
        ("sv_idle", 2),
        ("sv_tested", 2),
        ("maxwait", 2),
        ("maxwait_us", 500_000),
        ("recovering", 1),
        ("max_size", 10),
        ("high_water_wait_us", 4_000_000),
    ] {
        assert_eq!(cell("SHOW POOLS", &row, column), &Cell::Number(expected), "{column}");
    }
}

#[test]
fn clients_and_servers_link_to_each_other() {
    let (clients, servers) = (shown("SHOW CLIENTS"), shown("SHOW SERVERS"));
    let link = |row, column| cell("SHOW CLIENTS", row, column).clone();
    assert_eq!(link(&clients[0], "link"), link(&servers[0], "ptr"));
    assert_eq!(link(&servers[0], "link"), link(&clients[0], "ptr"));
    assert_eq!(link(&clients[0], "connect_time"), Cell::from("2026-11-20 23:58:30 UTC"));
    assert_eq!((link(&clients[1], "wait"), link(&clients[1], "wait_us")), (2_u32.into(), 500_000_u32.into()));
    assert_eq!(link(&clients[1], "addr"), Cell::from("unix"));
    assert_eq!(shown("SHOW ACTIVE_SOCKETS").len(), 3);
}

#[test]
fn pins_are_shown_with_their_reasons_and_those_of_the_application_with_most_come_first() {
    let mut snapshot = made_up::snapshot();
    let till = snapshot.clients[0].clone();
    let since = |application_name: &str, second: u64| ClientRow {
        tls: None,
        application_name: application_name.into(),
        pinned: till.pinned.map(|pinned| Pinned { since: Tick(second * 1_000_000_000), ..pinned }),
        ..till.clone()
    };
    snapshot.clients.extend([since("batch", 70), since("batch", 60)]);
    let rows = rows_of("SHOW PINS", &snapshot);
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            let columns = ["application_name", "pinned_s", "transactions", "remote_pid", "of_application"];
            columns.map(|column| cell("SHOW PINS", row, column).clone())
        })
        .collect();
    let row = |name: &str, [pinned, of]: [u64; 2]| {
        [name.into(), pinned.into(), 17_u32.into(), 1234_u32.into(), of.into()]
    };
    assert_eq!(shown, [row("batch", [40, 2]), row("batch", [30, 2]), row("till", [10, 1])]);
    for (column, expected) in [
        ("reasons", "temporary_objects, listen"),
        ("since", "2026-11-20 23:59:50 UTC"),
        ("addr", "192.0.2.1"),
        ("client_user", "alice"),
    ] {
        assert_eq!(cell("SHOW PINS", &rows[2], column), &Cell::from(expected), "{column}");
    }
    let pool = shown_row("SHOW POOLS");
    let of_pool = |column| cell("SHOW POOLS", &pool, column).clone();
    assert_eq!(of_pool("pins"), Cell::from("temporary_objects 2, listen 1"));
    assert_eq!((of_pool("pinned"), of_pool("efficiency")), (2_u32.into(), "0.750".into()));
    let holder = shown_row("SHOW HOLDERS");
    assert_eq!(cell("SHOW HOLDERS", &holder, "pins"), &Cell::from("temporary_objects, listen"));
}

#[test]
fn databases_show_those_made_on_demand_that_have_a_pool() {
    let rows = shown("SHOW DATABASES");
    assert_eq!(rows.len(), 1);
    assert_eq!(cell("SHOW DATABASES", &rows[0], "name"), &Cell::from("shop"));
    assert_eq!(cell("SHOW DATABASES", &rows[0], "current_connections"), &Cell::Number(7));
}

#[test]
fn only_reasons_that_occurred_are_listed() {
    let rows = shown("SHOW CLOSE_REASONS");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][3..], [Cell::from("max_lifetime"), Cell::Number(5)]);
}

#[test]
fn totals_survive_pools_that_go_away_and_come_back() {
    let mut ledger = Ledger::default();
    let mut look = |pools: &[u64], leases| {
        let pools = pools.iter().map(|n| made_up::pool("shop", *n)).collect();
        ledger.observe(&Snapshot { pools, ..Snapshot::default() });
        assert_eq!(ledger.totals().rows["shop"].0[0], leases);
    };
    look(&[7], 7);
    look(&[], 7); // the worker was busy, or the pool is gone
    look(&[9], 9); // it was busy
    look(&[], 9);
    look(&[2], 11); // it was gone, this is another
    look(&[3], 12);
}

#[test]
fn averages_are_over_the_last_minute() {
    let mut ledger = Ledger::default();
    for (second, n) in [(60, 60), (90, 90), (120, 180), (130, 500)] {
        let pools = vec![made_up::pool("shop", n)];
        ledger.observe(&Snapshot { now: Tick(second * 1_000_000_000), pools, ..Snapshot::default() });
    }
    let totals = ledger.totals();
    // Between 60 s and 120 s: 120 leases, 240 transactions of 5 µs each, 480 queries of 2 µs each.
    assert_eq!(totals.rows["shop"].1[..8], [2, 4, 8, 0, 0, 5, 2, 6]);
    assert_eq!(totals.all.1, totals.rows["shop"].1);
    assert_eq!(totals.all.0[0], 500);
}

#[test]
fn a_statement_is_read_as_pgbouncer_reads_it() {
    let read = |statement| {
        let request = parse(statement).unwrap().unwrap();
        (request.command.name, request.argument)
    };
    assert_eq!(read("  show\tpools ; "), ("SHOW POOLS", None));
    assert_eq!(read("SELECT stats"), ("SHOW STATS", None));
    assert_eq!(read("-- who?\nShow Clients"), ("SHOW CLIENTS", None));
    assert_eq!(read("pause"), ("PAUSE", None));
    assert_eq!(read("PAUSE Shop;"), ("PAUSE", Some("Shop".to_owned())));
    assert_eq!(read("resume \"my \"\"shop\"\"\";"), ("RESUME", Some("my \"shop\"".to_owned())));
    assert_eq!(read("shutdown wait_for_clients"), ("SHUTDOWN WAIT_FOR_CLIENTS", None));
    assert_eq!(read("shutdown"), ("SHUTDOWN", None));
    assert_eq!(read("set x = 'y z'"), ("SET", Some("x = y z".to_owned())));
    assert_eq!(read("SHOW transaction isolation level"), ("SHOW TRANSACTION ISOLATION LEVEL", None));
    for empty in ["", " ;; ", "-- ping"] {
        assert!(parse(empty).unwrap().is_none(), "{empty}");
    }
    for wrong in ["SHOW", "SHOW NOTHING", "SHOW POOLS; SHOW POOLS", "SHOW POOLS now", "PAUSE a b", "PAUSE 'a"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_reference_names_every_command_but_those_that_only_refuse() {
    let reference = reference();
    assert!(reference.contains("| `PAUSE [data source]` | administrators |"), "{reference}");
    assert!(reference.contains("| `SHOW MARKS` | all |"));
    assert!(!reference.contains("KILL_CLIENT"));
}

fn command(name: &str) -> &'static Command {
    COMMANDS.iter().find(|command| command.name == name).unwrap()
}

fn shown_row(name: &str) -> Row {
    shown(name).remove(0)
}

fn shown(name: &str) -> Vec<Row> {
    rows_of(name, &made_up::snapshot())
}

fn rows_of(name: &str, snapshot: &Snapshot) -> Vec<Row> {
    let Does::Show(show) = &command(name).does else { panic!("{name} shows nothing") };
    let config = made_up::config(AuthMethod::Trust);
    let totals = Totals { rows: [("shop".to_owned(), ([1; 12], [2; 12]))].into(), all: ([1; 12], [2; 12]) };
    let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(20_778 * 86_400);
    (show.rows)(&View { snapshot, config: &config, totals: &totals, wall: midnight })
}

fn cell<'a>(name: &str, row: &'a Row, column: &str) -> &'a Cell {
    let columns = command(name).columns().unwrap();
    &row[columns.iter().position(|known| known.name == column).unwrap()]
}
