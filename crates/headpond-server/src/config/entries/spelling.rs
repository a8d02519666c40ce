//! What a mistyped key was probably meant to be.

/// The known word nearest to `word`, as the end of a sentence; empty when none is near.
pub(super) fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let word = word.to_ascii_lowercase();
    // No key is longer; and the comparison takes time by the product of both lengths.
    if word.len() > 40 {
        return String::new();
    }
    // At least the difference of their lengths has to be inserted or removed.
    let reach = |k: &str| k.len().max(3) / 3;
    let comparable = known.filter(|k| k.len().abs_diff(word.len()) <= reach(k));
    let near = comparable.map(|k| (distance(&word, k), k)).min();
    near.filter(|(d, k)| *d <= reach(k)).map(|(_, k)| format!("; did you mean {k}?")).unwrap_or_default()
}

/// How many characters to insert, remove or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
