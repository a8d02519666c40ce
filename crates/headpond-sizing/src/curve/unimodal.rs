//! The best curve that rises and then falls: isotonic regression up to a peak, antitonic from there.

/// The values nearest to `values` (least squares with `weights`) that rise up to some place, and fall from there on.
#[must_use]
pub fn unimodal(values: &[f64], weights: &[f64]) -> Vec<f64> {
    let candidates = (0..=values.len()).map(|peak| {
        let mut fit = rising(values[..peak].iter().copied(), weights[..peak].iter().copied());
        let back = |all: &'_ [f64]| all[peak..].iter().rev().copied().collect::<Vec<f64>>();
        fit.extend(rising(back(values).into_iter(), back(weights).into_iter()).into_iter().rev());
        let error = fit.iter().zip(values).zip(weights).map(|((f, v), w)| w * (f - v) * (f - v)).sum::<f64>();
        (error, fit)
    });
    candidates.min_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(Vec::new, |(_, fit)| fit)
}

/// Pool adjacent violators: neighbours that fall are replaced by their mean.
fn rising(values: impl Iterator<Item = f64>, weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (value, weight) in values.zip(weights) {
        let mut block = (value, weight, 1);
        while let Some(&(before, heavy, count)) = blocks.last()
            && before >= block.0
        {
            blocks.pop();
            let sum = heavy + block.1;
            block = ((before * heavy + block.0 * block.1) / sum, sum, count + block.2);
        }
        blocks.push(block);
    }
    blocks.into_iter().flat_map(|(value, _, count)| std::iter::repeat_n(value, count)).collect()
}
