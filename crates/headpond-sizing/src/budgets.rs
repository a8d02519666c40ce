//! One budget of connections, divided among applications.

/// What one application asks of a budget.
#[derive(Clone, Debug)]
pub struct Claim {
    /// How much its late requests matter.
    pub weight: f64,
    /// It gets no fewer: enough not to wait for itself, and what it was promised.
    pub floor: u32,
    /// The share of its requests that are late with 0, 1, 2, … connections; with more as many as with the last.
    pub late: Vec<f64>,
}

impl Claim {
    fn cost(&self, connections: u32) -> f64 {
        let last = self.late.len().saturating_sub(1);
        self.weight * self.late.get((connections as usize).min(last)).copied().unwrap_or(0.0)
    }
}

/// The division of `budget` connections with the least `Σ weight · late`; of equal ones the one that gives out fewest.
/// `None` if the floors alone are more than the budget.
///
/// Dynamic programming rather than giving each connection to whoever gains most by it: that is only optimal where gains
/// fall with each connection, and the first that makes an overloaded application bearable may gain less than the second.
#[must_use]
pub fn divide(budget: u32, claims: &[Claim]) -> Option<Vec<u32>> {
    let floors = claims.iter().try_fold(0_u32, |sum, claim| sum.checked_add(claim.floor))?;
    let spare = budget.checked_sub(floors)? as usize;
    // best[b]: the least cost of the applications so far with at most b connections above their floors.
    let mut best = vec![0.0; spare + 1];
    let mut choices = Vec::with_capacity(claims.len());
    for claim in claims {
        let useful = (claim.late.len() as u32).saturating_sub(claim.floor) as usize;
        let mut next = vec![f64::INFINITY; spare + 1];
        let mut choice = vec![0_u32; spare + 1];
        for all in 0..=spare {
            for mine in 0..=all.min(useful) {
                let cost = best[all - mine] + claim.cost(claim.floor + mine as u32);
                if cost < next[all] {
                    (next[all], choice[all]) = (cost, mine as u32);
                }
            }
        }
        best = next;
        choices.push(choice);
    }
    let mut left = (0..=spare).find(|b| best[*b] <= best[spare]).unwrap_or(spare);
    let mut shares: Vec<u32> = Vec::with_capacity(claims.len());
    for (claim, choice) in claims.iter().zip(&choices).rev() {
        let mine = choice[left];
        left -= mine as usize;
        shares.push(claim.floor + mine);
    }
    shares.reverse();
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queues::mmc;
    use crate::sim::Stream;

    fn claim(chance: &mut Stream) -> Claim {
        let rate = 20.0 + 400.0 * chance.unit();
        let hold = 0.001 + 0.02 * chance.unit();
        let late = |c: u32| if c == 0 { 1.0 } else { mmc(c, rate, hold).later_than(0.01).min(1.0) };
        Claim {
            weight: (0.2 + chance.unit()).round() + 0.5,
            floor: u32::from(chance.unit() < 0.3) * 2,
            late: (0..=14).map(late).collect(),
        }
    }

    fn brute(budget: u32, claims: &[Claim]) -> f64 {
        let Some((first, others)) = claims.split_first() else { return 0.0 };
        (first.floor..=budget)
            .map(|mine| first.cost(mine) + brute(budget - mine, others))
            .fold(f64::INFINITY, f64::min)
    }

    /// S13: as good as the best of all divisions, and never more than there is.
    #[test]
    fn a_budget_is_divided_as_well_as_by_trying_all_divisions() {
        let mut chance = Stream::new(13, 13);
        for _ in 0..60 {
            let claims: Vec<Claim> = (0..3).map(|_| claim(&mut chance)).collect();
            let budget = (chance.unit() * 24.0) as u32;
            let floors: u32 = claims.iter().map(|claim| claim.floor).sum();
            let Some(shares) = divide(budget, &claims) else {
                assert!(floors > budget);
                continue;
            };
            assert!(shares.iter().sum::<u32>() <= budget);
            assert!(shares.iter().zip(&claims).all(|(share, claim)| *share >= claim.floor));
            let cost: f64 = shares.iter().zip(&claims).map(|(share, claim)| claim.cost(*share)).sum();
            assert!((cost - brute(budget, &claims)).abs() < 1e-9, "{cost}");
        }
    }

    /// Where giving each connection to whoever gains most by it ends with nobody served.
    #[test]
    fn connections_that_help_only_together_are_given_together() {
        let claims = [
            Claim { weight: 1.0, floor: 0, late: vec![1.0, 1.0, 0.0] },
            Claim { weight: 1.0, floor: 0, late: vec![1.0, 0.9, 0.8] },
        ];
        assert_eq!(divide(2, &claims), Some(vec![2, 0]));
        assert_eq!(divide(0, &claims), Some(vec![0, 0]));
    }

    #[test]
    fn what_helps_nobody_is_given_to_nobody() {
        let claims = [Claim { weight: 1.0, floor: 1, late: vec![1.0, 0.5, 0.0] }];
        assert_eq!(divide(50, &claims), Some(vec![2]));
    }
}
