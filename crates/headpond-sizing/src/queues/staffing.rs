//! First guesses: how many connections, before anything is searched or simulated.

use std::f64::consts::{PI, SQRT_2};

/// `z = (ca² + cs²) / 2` of Kingman 1961: 1 when arrivals and holds are both random (Poisson, exponential).
#[must_use]
pub fn variability(arrivals_cv2: f64, holds_cv2: f64) -> f64 {
    f64::midpoint(arrivals_cv2, holds_cv2)
}

/// Halfin and Whitt 1981: the share that waits at `a + β√a` connections, `α = 1 / (1 + βΦ(β)/φ(β))`.
#[must_use]
pub fn halfin_whitt(beta: f64) -> f64 {
    let density = libm::exp(-beta * beta / 2.0) / libm::sqrt(2.0 * PI);
    let below = 0.5 * libm::erfc(-beta / SQRT_2);
    1.0 / (1.0 + beta * below / density)
}

/// The `β` at which the share `p_wait` waits: the inverse of [`halfin_whitt`], for shares from 1e-9 to 1.
#[must_use]
pub fn quality_for(p_wait: f64) -> f64 {
    let (mut low, mut high) = (0.0, 7.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if halfin_whitt(middle) > p_wait { low = middle } else { high = middle }
    }
    high
}

/// Square-root staffing: `a + β√(a·z)` connections for an `offered` load `a`, before rounding.
#[must_use]
pub fn square_root_staffing(offered: f64, beta: f64, z: f64) -> f64 {
    offered + beta * libm::sqrt(offered * z)
}

/// What it costs to split one pool into `pools` equal ones that cannot help each other, in connections:
/// `β√a · (√N − 1)`.
#[must_use]
pub fn splitting_tax(offered: f64, beta: f64, pools: u32) -> f64 {
    beta * libm::sqrt(offered) * (libm::sqrt(f64::from(pools)) - 1.0)
}

/// The fewest connections with which `threads` cannot wait for each other for ever when each may hold `nested` at once:
/// `T·(m − 1) + 1` (HikariCP, "About Pool Sizing").
#[must_use]
pub fn connections_for_nesting(threads: u32, nested: u32) -> u32 {
    threads.saturating_mul(nested.saturating_sub(1)).saturating_add(1)
}
