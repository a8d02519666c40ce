use super::*;
use crate::sim::{Recovery, simulate};

const SMALL: &str = r#"
duration = "1min"
[database]
cores = 2
[[application]]
name = "web"
rate = 100
work = "2ms"
"#;

#[test]
fn what_is_not_stated_follows_what_is() {
    let scenario = Scenario::from_toml(&format!("{SMALL}\n[pool]\nmax_size = 6")).unwrap();
    let pool = &scenario.pool;
    assert_eq!([pool.min_idle, pool.initial_size, pool.min_size, pool.max_idle], [6; 4]);
    assert!((scenario.warm_up - 6.0).abs() < 1e-9);
    assert_eq!(scenario.objective, Objective::USUAL);
}

#[test]
fn what_is_wrong_is_refused_with_what_would_be_right() {
    let with = |more: &str| Scenario::from_toml(&format!("{SMALL}\n{more}")).unwrap_err();
    let without = |from: &str, to: &str| Scenario::from_toml(&SMALL.replace(from, to)).unwrap_err();
    for (error, says) in [
        (with("[pool]\nmax_siz = 6"), "max_siz"),
        (with("[pool]\nmax_size = 6\nmin_idle = 7"), "no size may be more"),
        (with("[[event]]\nkind = \"spike\"\nat = \"1s\"\nfor = \"1s\""), "factor"),
        (with("[[event]]\nkind = \"stall\"\nat = \"1s\""), "event.for"),
        (with("[[event]]\nkind = \"node_loss\"\nnode = 1\nat = \"1s\"\nfor = \"1s\""), "no such node"),
        (with("[objective]\nlate = 1.5"), "share"),
        (without("\"1min\"", "\"60\""), "with its unit"),
        (without("cores = 2", "cores = 0"), "cores"),
        (without("cores = 2", "curve = [[2, 10], [1, 5]]"), "rising"),
        (without("rate = 100", ""), "rate"),
        (without("rate = 100", "rate = nan"), "rate"),
        (without("work = \"2ms\"", ""), "work or think"),
    ] {
        assert!(error.contains(says), "`{error}` does not say `{says}`");
    }
}

#[test]
fn a_curve_is_a_line_between_its_points_and_level_beyond_them() {
    let curve = Speed::Curve(vec![(1, 100.0), (3, 240.0)]);
    let each = |running| curve.of_each(running) * 100.0 * f64::from(running);
    for (running, rate) in [(1, 100.0), (2, 170.0), (3, 240.0), (12, 240.0)] {
        assert!((each(running) - rate).abs() < 1e-9, "{running}");
    }
}

/// The scenarios that come with Headpond say what their first lines promise.
#[test]
fn the_scenarios_that_are_shown_hold_what_they_say() {
    let run = |text: &str| {
        let scenario = Scenario::from_toml(text).unwrap();
        simulate(&scenario, scenario.seed)
    };
    let recovers = |outcome: &crate::sim::Outcome, within: f64| matches!(outcome.recoveries[..], [Recovery::After(time)] if time < within);
    assert!(recovers(&run(include_str!("../../scenarios/spike.toml")), 10.0));
    assert!(recovers(&run(include_str!("../../scenarios/node-loss.toml")), 1.0));
    let restart = include_str!("../../scenarios/fleet-restart.toml");
    let (paced, storm) = (run(restart), run(&restart.replace("max_logins = 2", "max_logins = 20")));
    assert!(storm.total.late > 2 * paced.total.late, "{} {}", storm.total.late, paced.total.late);
    let stall = include_str!("../../scenarios/stall.toml");
    assert!(recovers(&run(stall), 30.0));
    let unbound = stall.replace("max_size = 8", "max_size = 400").replace("max_waiters = 40", "");
    assert_eq!(run(&unbound).recoveries, [Recovery::Never]);
}

/// The day at a tenth of its length.
#[test]
fn over_a_day_the_pool_grows_and_shrinks() {
    let day = include_str!("../../scenarios/day.toml");
    let peak = Scenario::from_toml(&day.replace("24h", "12h").replace("\"1h\"", "\"11h\"")).unwrap();
    let night = Scenario::from_toml(&day.replace("24h", "6h").replace("\"1h\"", "\"2h\"")).unwrap();
    let (peak, night) = (simulate(&peak, 1), simulate(&night, 1));
    assert!(peak.mean_open > night.mean_open + 3.0, "{} {}", peak.mean_open, night.mean_open);
    assert!(night.mean_open < 8.0);
}
