//! What the counters of a pool in production tell of its database, without any load of ours.

use crate::curve::Level;
use crate::measured::{Facts, Measured, Window};

/// Fewer completions at a level tell nothing of it.
const FEWEST: f64 = 100.0;

/// More logins than this for each lease: connections are not pooled.
const CHURN: f64 = 0.1;

/// The counters of a pool since it was made. Times are seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// For how long so many connections were in use, from 0.
    pub in_use_for: Vec<f64>,
    /// The most connections there may be.
    pub max_size: u32,
    /// Its `max_idle`.
    pub max_idle: u32,
    /// Requests for a connection.
    pub acquires: u64,
    /// Leases that ended.
    pub holds: u64,
    /// Their length.
    pub hold_time: f64,
    /// Logins.
    pub opened: u64,
    /// Connections closed because more than `max_idle` were idle.
    pub closed_idle: u64,
    /// Requests that were refused, or waited too long.
    pub unserved: u64,
    /// Leases that were reported as leaks.
    pub leaks: u64,
}

/// What some looks at the same pool tell, in their order.
///
/// Requests that come at random come at the same rate λ whatever is in use, so the number in use rises from n − 1 to n
/// λ·T(n − 1) times in the time T(n − 1) spent with n − 1; as often it falls again, which takes an end at n. Hence
/// X(n) = λ·T(n − 1) / T(n), the maximum-likelihood estimate for a birth-death pool, without a counter of ends by level.
/// At `max_size` all other ends happened.
///
/// # Errors
/// There is nothing to be learnt, and why.
pub fn learn(looks: &[Counters]) -> Result<Measured, String> {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else {
        return Err("two looks at least are needed".to_owned());
    };
    let since = |now: u64, before: u64| now.checked_sub(before).map(|number| number as f64);
    let counted = since(last.acquires, first.acquires).zip(since(last.holds, first.holds));
    let (acquires, holds) = counted.ok_or("the pool was made anew between the looks: counters fell")?;
    let times: Vec<f64> = (0..last.in_use_for.len()).map(|n| spent(first, last, n)).collect();
    let seconds: f64 = times.iter().sum();
    if acquires < FEWEST || seconds <= 0.0 {
        return Err(format!("{acquires:.0} requests in {seconds:.1} s tell nothing of the database"));
    }
    let rate = acquires / seconds;
    let ends = |n: usize| {
        if n < last.max_size as usize {
            rate * times[n - 1]
        } else {
            (holds - rate * times[..n - 1].iter().sum::<f64>()).max(0.0)
        }
    };
    let level = |n: usize| {
        let completions = ends(n);
        let told = completions >= FEWEST && times[n] > 0.0;
        told.then(|| Level {
            in_use: n as u32,
            seconds: times[n],
            completions: completions as u64,
            hold_p99: None,
        })
    };
    let levels: Vec<Level> = (1..times.len()).filter_map(level).collect();
    if levels.is_empty() {
        return Err(format!("no number of connections was in use for {FEWEST} requests: look for longer"));
    }
    let windows = looks.windows(2).map(|pair| window(&pair[0], &pair[1])).collect();
    let facts = Facts {
        about: Some(format!("a pool in production, for {seconds:.0} s")),
        rate: Some(rate),
        audit: audit(first, last),
        ..Facts::default()
    };
    Ok(Measured { spread: 0.01, facts, levels, windows })
}

/// Time spent with `n` in use between two looks.
fn spent(before: &Counters, after: &Counters, n: usize) -> f64 {
    let at = |look: &Counters| look.in_use_for.get(n).copied().unwrap_or(0.0);
    (at(after) - at(before)).max(0.0)
}

fn window(before: &Counters, after: &Counters) -> Window {
    let in_use = (0..after.in_use_for.len()).map(|n| n as f64 * spent(before, after, n)).sum();
    Window {
        in_use: None,
        acquires: after.acquires.saturating_sub(before.acquires),
        holds: after.holds.saturating_sub(before.holds),
        hold_time: after.hold_time - before.hold_time,
        time_in_use: in_use,
        foreign_cpu: None,
    }
}

/// What is wrong with the pool as it runs.
fn audit(first: &Counters, last: &Counters) -> Vec<String> {
    let since = |of: fn(&Counters) -> u64| of(last).saturating_sub(of(first));
    let (leases, logins) = (since(|c| c.holds).max(1), since(|c| c.opened));
    let share = logins as f64 / leases as f64;
    let mut audit = Vec::new();
    if share > CHURN {
        audit.push(format!(
            "connections are hardly pooled: {logins} logins for {leases} leases; the reasons of closed connections say why"
        ));
    }
    let idle = since(|c| c.closed_idle);
    if idle as f64 > 0.5 * logins as f64 && share > CHURN / 10.0 {
        audit.push(format!(
            "max_idle {} is below the working set: {idle} connections were closed that were needed again",
            last.max_idle
        ));
    }
    let leaks = since(|c| c.leaks);
    if leaks > 0 {
        audit.push(format!("{leaks} leases were reported as leaks"));
    }
    let unserved = since(|c| c.unserved);
    if unserved > 0 {
        audit.push(format!("{unserved} requests got no connection: X(n) is that of those that did"));
    }
    audit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Stream;

    /// Looks at a birth-death pool of `max` connections on a database of which each serves 100/s up to 4 of them.
    fn looks(max: u32, rate: f64, number: usize) -> Vec<Counters> {
        let mut chance = Stream::new(5, 5);
        let (mut now, mut there) = (0.0, 0_u32);
        let mut counters =
            Counters { in_use_for: vec![0.0; max as usize + 1], max_size: max, ..Counters::default() };
        let mut looks = vec![counters.clone()];
        while looks.len() <= number {
            let in_use = there.min(max);
            let ends = 100.0 * f64::from(in_use.min(4));
            let stay = chance.exponential() / (rate + ends);
            counters.in_use_for[in_use as usize] += stay;
            counters.hold_time += stay * f64::from(in_use);
            now += stay;
            if chance.unit() < rate / (rate + ends) {
                counters.acquires += 1;
                there += 1;
            } else {
                counters.holds += 1;
                there -= 1;
            }
            if now > 10.0 * looks.len() as f64 {
                looks.push(counters.clone());
            }
        }
        looks
    }

    /// S6, on a pool whose curve is known: within 5 % with thousands of completions at a level.
    #[test]
    fn time_at_each_level_tells_the_curve_up_to_a_full_pool() {
        for max in [3, 6, 20] {
            let measured = learn(&looks(max, 250.0, 30)).unwrap();
            assert_eq!(measured.doubts(), Vec::<String>::new());
            let told: Vec<u32> = measured.levels.iter().map(|level| level.in_use).collect();
            assert_eq!(told[..3], [1, 2, 3], "{max}");
            for level in measured.levels.iter().filter(|level| level.completions > 5000) {
                let exact = 100.0 * f64::from(level.in_use.min(4));
                assert!((level.rate() / exact - 1.0).abs() < 0.05, "{max}: {level:?}");
            }
            assert!((measured.facts.rate.unwrap() / 250.0 - 1.0).abs() < 0.03);
        }
    }

    #[test]
    fn looks_that_tell_nothing_are_refused_with_a_reason() {
        let two = looks(4, 250.0, 1);
        assert!(learn(&two[..1]).unwrap_err().contains("tell nothing"));
        let restarted = [two[1].clone(), two[0].clone()];
        assert!(learn(&restarted).unwrap_err().contains("made anew"));
    }

    #[test]
    fn a_pool_that_does_not_pool_is_told_so() {
        let mut looks = looks(4, 250.0, 2);
        let last = looks.last_mut().unwrap();
        (last.opened, last.closed_idle, last.max_idle) = (last.holds / 2, last.holds / 2, 1);
        let audit = learn(&looks).unwrap().facts.audit;
        assert!(audit[0].contains("hardly pooled") && audit[1].contains("max_idle 1"), "{audit:?}");
    }
}
