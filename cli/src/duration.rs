//! Durations as people write and read them: `90s`, `1h30m`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads `1h30m`, `250ms`, `1.5h`, `7d`; a bare number is seconds.
///
/// # Errors
/// A text that says what is allowed.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write one like 250ms, 90s, 1h30m or 7d");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    let mut rest = text;
    let mut millis = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (_, unit) = UNITS
            .iter()
            .find(|(name, _)| *name == &rest[..letters])
            .ok_or_else(wrong)?;
        millis += number * *unit as f64;
        rest = &rest[letters..];
    }
    if text.is_empty() || !millis.is_finite() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(millis / 1000.0).map_err(|_| wrong())
}

/// The two largest units that are not zero: `1h30m`, `7d`, `1.5s`, `20ms`.
pub(crate) fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    if millis < 10_000 && millis % 1_000 != 0 {
        return format!("{}s", millis as f64 / 1000.0);
    }
    let mut left = millis;
    let mut parts = Vec::new();
    for (name, unit) in UNITS.iter().skip(1).rev() {
        let count = left / unit;
        left %= unit;
        if count > 0 {
            parts.push(format!("{count}{name}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            ("15", 15_000),
            ("0", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5 s", "5x", "-1s", "1h-5m", "inf", "NaN"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("90s"), "{text}: {error}");
        }
    }

    #[test]
    fn prints_two_units() {
        let cases = [
            (0, "0s"),
            (20, "20ms"),
            (1_500, "1.5s"),
            (61_000, "1m1s"),
            (3_600_000, "1h"),
            (3_605_000, "1h"),
            (90_061_000, "1d1h"),
        ];
        for (millis, text) in cases {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
    }
}
