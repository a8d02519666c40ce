//! Erlang's formulas of 1917: holds of any length that do not depend on how many connections are in use.

use super::Waits;

/// Erlang B: the share of requests refused by `connections` when none may wait. `offered` is arrivals × mean hold.
///
/// Holds for holds of any distribution. The recursion `B(k) = aB(k−1) / (k + aB(k−1))` is stable for any size.
#[must_use]
pub fn erlang_b(connections: u32, offered: f64) -> f64 {
    (1..=connections).fold(1.0, |b, k| offered * b / (f64::from(k) + offered * b))
}

/// Erlang C: the share of requests that wait when all may. 1 if the load is more than the connections can serve.
///
/// Exact for holds that are exponential (M/M/c).
#[must_use]
pub fn erlang_c(connections: u32, offered: f64) -> f64 {
    let c = f64::from(connections);
    if offered >= c {
        return 1.0;
    }
    let b = erlang_b(connections, offered);
    b * c / (c - offered * (1.0 - b))
}

/// M/M/c: Poisson `arrivals` (1/s), exponential holds with mean `hold` (s).
#[must_use]
pub fn mmc(connections: u32, arrivals: f64, hold: f64) -> Waits {
    let decay = (f64::from(connections) / hold - arrivals).max(0.0);
    Waits { p_wait: erlang_c(connections, arrivals * hold), decay }
}
