//! Texts as Go's libraries read them: KEDA's metadata is defined by them.

use std::collections::BTreeMap;
use std::time::Duration;

/// A whole number as `encoding/json` reads it into an integer: no fraction, no exponent, no plus
/// sign, no leading zeros.
pub(super) fn parse_integer(text: &str, low: i64, high: i64) -> Option<i64> {
    let text = text.trim_matches(JSON_SPACE);
    if !is_json_number(text) {
        return None;
    }
    text.parse()
        .ok()
        .filter(|number| (low..=high).contains(number))
}

/// A number as `encoding/json` reads it into a double; one too large for a double is refused.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(JSON_SPACE);
    if !is_json_number(text) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn is_json_number(text: &str) -> bool {
    let mut rest = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let digits = |rest: &mut &[u8]| {
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (taken, left) = rest.split_at(count);
        *rest = left;
        taken.to_vec()
    };
    let whole = digits(&mut rest);
    if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
        return false;
    }
    if let [b'.', after @ ..] = rest {
        rest = after;
        if digits(&mut rest).is_empty() {
            return false;
        }
    }
    if let [b'e' | b'E', after @ ..] = rest {
        rest = match after {
            [b'+' | b'-', after @ ..] => after,
            after => after,
        };
        if digits(&mut rest).is_empty() {
            return false;
        }
    }
    rest.is_empty()
}

/// A truth value as `strconv.ParseBool` reads it.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as KEDA reads it: Go's syntax, or a whole number of milliseconds. Negative ones and
/// those beyond Go's range (292 years) are refused.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Some((negative, nanos)) = parse_go_duration(text) {
        return (!negative || nanos == 0).then(|| Duration::from_nanos(nanos));
    }
    let millis: u64 = text.strip_prefix('+').unwrap_or(text).parse().ok()?;
    if text.starts_with("++") {
        return None;
    }
    let nanos = millis
        .checked_mul(1_000_000)
        .filter(|nanos| i64::try_from(*nanos).is_ok())?;
    Some(Duration::from_nanos(nanos))
}

/// `time.ParseDuration`: whether it is negative, and its nanoseconds.
pub(crate) fn parse_go_duration(text: &str) -> Option<(bool, u64)> {
    const LIMIT: u64 = i64::MAX.unsigned_abs();
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some((negative, 0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_len);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_len = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit: u64 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let mut part = whole.checked_mul(unit)?;
        part = part.checked_add(fraction_of(fraction, unit))?;
        total = total.checked_add(part).filter(|total| *total <= LIMIT)?;
        rest = after;
    }
    Some((negative, total))
}

/// `0.<digits>` of `unit`, cut to whole nanoseconds the way Go does: digits beyond what fits 63
/// bits are dropped.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0_u64, 1.0_f64);
    for digit in digits.bytes().map(|byte| u64::from(byte - b'0')) {
        match value
            .checked_mul(10)
            .and_then(|value| value.checked_add(digit))
        {
            Some(next) if next <= i64::MAX.unsigned_abs() => value = next,
            _ => break,
        }
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

/// A URL query as `url.ParseQuery` reads it; `None` where it has a bad escape or a semicolon.
#[must_use]
pub fn parse_query(text: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        if part.contains(';') {
            return None;
        }
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        query
            .entry(unescape(key, true)?)
            .or_default()
            .push(unescape(value, true)?);
    }
    Some(query)
}

/// Undoes percent escapes; with `plus`, a plus sign stands for a space. `None` where an escape is
/// not two hexadecimal digits or the result is not UTF-8.
pub(crate) fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                bytes.push(high << 4 | low);
            }
            b'+' if plus => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// `url.QueryEscape`: letters, digits and `-_.~` stay, a space becomes a plus sign.
pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            byte => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "go_text_test.rs"]
mod tests;
