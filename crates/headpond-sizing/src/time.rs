//! Times as people write them: `2.2ms`, `10s`, `20min`, `24h`.

use serde::{Deserialize, Deserializer, de::Error};

const UNITS: [(&str, f64); 7] =
    [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// A hundred years: longer times are slips of the pen, and nanoseconds could not count them.
const MOST: f64 = 100.0 * 366.0 * 86_400.0;

/// Seconds of a time with its unit, up to a hundred years.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number = text[..unit].trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let unit = UNITS.iter().find(|(name, _)| *name == &text[unit..]);
    match (number, unit) {
        (Some(number), Some((_, scale))) if number * scale <= MOST => Ok(number * scale),
        (Some(0.0), None) => Ok(0.0),
        _ => Err(format!("`{text}` is no time; write it with its unit: 500us, 2.2ms, 10s, 20min, 24h, 7d")),
    }
}

/// A time for people: three digits, in the unit that suits it.
#[must_use]
pub fn text(seconds: f64) -> String {
    let (scale, unit) = match seconds {
        s if !s.is_finite() => return "without end".to_owned(),
        s if s < 5e-9 => return "0".to_owned(),
        s if s < 0.000_999_5 => (1e-6, "us"),
        s if s < 0.9995 => (1e-3, "ms"),
        s if s < 120.0 => (1.0, "s"),
        s if s < 7200.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    };
    let value = seconds / scale;
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// For serde: a time that is written with its unit.
pub(crate) fn required<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    seconds(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// For serde: a time that may be left out.
pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    required(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit_and_refused_without() {
        for (text, expected) in
            [("2.2ms", 0.0022), ("8 s", 8.0), ("20min", 1200.0), ("0", 0.0), ("1h", 3600.0)]
        {
            assert!((seconds(text).unwrap() - expected).abs() < 1e-12, "{text}");
        }
        for wrong in ["8", "", "s", "-1s", "nans", "1 fortnight", "1e999s", "1e9d"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_shown_with_three_digits() {
        for (seconds, expected) in [
            (0.0, "0"),
            (0.000_05, "50 us"),
            (0.0123, "12.3 ms"),
            (1.5, "1.5 s"),
            (600.0, "10 min"),
            (86_400.0, "24 h"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }
}
