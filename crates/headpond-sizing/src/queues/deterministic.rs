//! Holds that are not exponential: of equal length, or of any distribution.

use super::erlang::mmc;

/// M/G/1, Pollaczek 1930 and Khinchine 1932: mean wait at one connection, exact. `cv2` is the variance of holds over
/// the square of their mean.
#[must_use]
pub fn mg1_mean_wait(arrivals: f64, hold: f64, cv2: f64) -> f64 {
    let load = arrivals * hold;
    if load >= 1.0 { f64::INFINITY } else { load * hold * (1.0 + cv2) / (2.0 * (1.0 - load)) }
}

/// M/G/c, Allen and Cunneen 1978 (and Lee and Longton 1959): mean wait, that of M/M/c times `(1 + cv2) / 2`.
///
/// Exact for one connection, good in heavy traffic, up to tens of percent off in light traffic.
#[must_use]
pub fn mgc_mean_wait(connections: u32, arrivals: f64, hold: f64, cv2: f64) -> f64 {
    mmc(connections, arrivals, hold).mean() * f64::midpoint(1.0, cv2)
}

/// M/D/c, Crommelin 1932: mean wait when all holds have the same length, exact:
/// `D · Σᵢ [ P(Nᵢ ≥ ic) − c/a · P(Nᵢ ≥ ic + 1) ]` with `Nᵢ` Poisson of mean `i·a`, `a` = arrivals × `hold`.
#[must_use]
pub fn mdc_mean_wait(connections: u32, arrivals: f64, hold: f64) -> f64 {
    let offered = arrivals * hold;
    let c = f64::from(connections);
    if offered >= c {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for i in 1..=MOST_TERMS {
        let (at_least, exactly) = poisson_tail(f64::from(i) * offered, i.saturating_mul(connections));
        let term = at_least - c / offered * (at_least - exactly);
        sum += term;
        if term < 1e-13 * sum {
            break;
        }
    }
    hold * sum
}

/// Terms of Crommelin's sum at most: enough for a load of 99.9 %.
const MOST_TERMS: u32 = 200_000;

/// `P(N ≥ from)` and `P(N = from)` of a Poisson number with a mean below `from`.
fn poisson_tail(mean: f64, from: u32) -> (f64, f64) {
    let exactly = libm::exp(f64::from(from) * libm::log(mean) - mean - libm::lgamma(f64::from(from) + 1.0));
    let (mut term, mut sum, mut k) = (exactly, exactly, f64::from(from));
    while term > 1e-17 * sum {
        k += 1.0;
        term *= mean / k;
        sum += term;
    }
    (sum, exactly)
}
