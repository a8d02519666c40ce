//! The page for who comes from another pool: each of its rows names a setting of ours with its default, and is tried.

use std::time::Duration;

use headpond::Builder;

use crate::server::{Server, ToServer};

const PAGE: &str = include_str!("../../docs/coming-from.md");

/// A setting to another value than its default, by name.
fn change(builder: Builder<ToServer>, name: &str) -> (Builder<ToServer>, &'static str) {
    let time = Duration::from_millis(7_654);
    match name {
        "max_size" => (builder.max_size(77), "77"),
        "initial_size" => (builder.initial_size(77), "77"),
        "min_size" => (builder.min_size(77), "77"),
        "min_idle" => (builder.min_idle(77), "77"),
        "max_idle" => (builder.max_idle(77), "77"),
        "max_waiters" => (builder.max_waiters(77), "77"),
        "max_logins" => (builder.max_logins(77), "77"),
        "login_attempts" => (builder.login_attempts(77), "77"),
        "check" => (builder.check(false), "false"),
        "round_robin" => (builder.round_robin(true), "true"),
        "acquire_timeout" => (builder.acquire_timeout(time), "7.654s"),
        "connect_timeout" => (builder.connect_timeout(time), "7.654s"),
        "check_timeout" => (builder.check_timeout(time), "7.654s"),
        "login_delay" => (builder.login_delay(time), "7.654s"),
        "login_retry" => (builder.login_retry(time), "7.654s"),
        "trust_window" => (builder.trust_window(time), "7.654s"),
        "check_interval" => (builder.check_interval(time), "7.654s"),
        "idle_timeout" => (builder.idle_timeout(time), "7.654s"),
        "shrink_interval" => (builder.shrink_interval(time), "7.654s"),
        "max_lifetime" => (builder.max_lifetime(time), "7.654s"),
        "leak_after" => (builder.leak_after(time), "7.654s"),
        other => panic!("{other} is no setting"),
    }
}

fn has(builder: &Builder<ToServer>, name: &str, value: &str) -> bool {
    let shown = format!("{builder:?}");
    [",", " }"].iter().any(|end| shown.contains(&format!(" {name}: {value}{end}")))
}

#[test]
fn each_row_names_a_setting_with_its_default_and_every_pool_has_a_column() {
    let rows: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| ")).collect();
    assert_eq!(rows[0].matches('|').count(), 11);
    let mut settings = 0;
    for row in &rows[2..] {
        assert_eq!(row.matches('|').count(), rows[0].matches('|').count(), "{row}");
        let ours = row.trim_end_matches(" |").rsplit_once("| ").unwrap().1.trim_matches('`');
        let (name, default) = ours.trim_end_matches(')').split_once('(').unwrap();
        let builder = headpond::Pool::builder(ToServer(Server::new()));
        assert!(has(&builder, name, default), "{name} is not {default} by default");
        let (changed, value) = change(builder, name);
        assert!(has(&changed, name, value), "{name} was not set");
        settings += 1;
    }
    assert_eq!(settings, 21);
}
