//! Reading and printing of quantities, and the integer arithmetic under both.

use std::cmp::Ordering;
use std::fmt;

use crate::quantity::{Format, Quantity, QuantityError};

/// The finest step a quantity keeps: 10^-9.
pub(crate) const NANO: i32 = -9;
/// As many decimal digits always fit an `i64`; longer numbers take Kubernetes' slow path, which
/// rounds at once and forgets the text.
const FAST_DIGITS: i32 = 18;

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros; "0" if there are none.
    whole: &'a str,
    /// Digits after the point.
    part: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Option<Parts<'_>> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let stripped = rest.trim_start_matches('0');
    let (digits, rest) = take_digits(stripped);
    let (part, suffix) = match rest.strip_prefix('.') {
        Some(rest) => take_digits(rest),
        None => ("", rest),
    };
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let exponent = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if !exponent.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = if digits.is_empty() { "0" } else { digits };
    Some(Parts {
        negative,
        whole,
        part,
        suffix,
    })
}

fn take_digits(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

enum Suffix {
    /// A power of ten.
    Decimal(i32, Format),
    /// A power of two.
    Binary(u32),
}

fn suffix(text: &str) -> Option<Suffix> {
    let si = |exponent| Some(Suffix::Decimal(exponent, Format::DecimalSi));
    match text {
        "" => si(0),
        "n" => si(-9),
        "u" => si(-6),
        "m" => si(-3),
        "k" => si(3),
        "M" => si(6),
        "G" => si(9),
        "T" => si(12),
        "P" => si(15),
        "E" => si(18),
        "Ki" => Some(Suffix::Binary(10)),
        "Mi" => Some(Suffix::Binary(20)),
        "Gi" => Some(Suffix::Binary(30)),
        "Ti" => Some(Suffix::Binary(40)),
        "Pi" => Some(Suffix::Binary(50)),
        "Ei" => Some(Suffix::Binary(60)),
        _ => {
            let exponent = text.strip_prefix(['e', 'E'])?.parse::<i64>().ok()?;
            // Kubernetes keeps the low 32 bits; nothing that far out is a quantity anyone means.
            let exponent = i32::try_from(exponent).ok()?;
            Some(Suffix::Decimal(exponent, Format::DecimalExponent))
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    // A text without digits, such as "m", is 0 in Kubernetes, where it takes the quick path.
    let parts = split(text).ok_or_else(|| QuantityError::Format(text.to_owned()))?;
    let found = suffix(parts.suffix).ok_or_else(|| QuantityError::Suffix(text.to_owned()))?;
    if text == "0" {
        return Ok(Quantity::from_parts(
            0,
            0,
            Format::DecimalSi,
            Some(text.into()),
        ));
    }
    if let Some(quantity) = fast(text, &parts, &found) {
        return Ok(quantity);
    }
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Numeric(text.to_owned()));
    }
    slow(&parts, &found).ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

/// Numbers that surely fit: kept exactly as written, with the text where it is canonical.
fn fast(text: &str, parts: &Parts<'_>, suffix: &Suffix) -> Option<Quantity> {
    let whole_digits = i32::try_from(parts.whole.len()).ok()?;
    let part_digits = i32::try_from(parts.part.len()).ok()?;
    let written = [parts.whole, parts.part].concat();
    let digits: i64 = written.parse().ok()?;
    let sign = if parts.negative { -1 } else { 1 };
    match *suffix {
        Suffix::Decimal(exponent, format) => {
            let scale = exponent.checked_sub(part_digits)?;
            if whole_digits + part_digits > FAST_DIGITS || scale < NANO {
                return None;
            }
            let canonical = scale % 3 == 0 && !written.ends_with("000") && parts.whole != "0";
            let kept = canonical.then(|| text.into());
            Some(Quantity::from_parts(
                sign * i128::from(digits),
                scale,
                format,
                kept,
            ))
        }
        Suffix::Binary(shift) => {
            // The width of the power of two in decimal digits, as Kubernetes estimates it.
            let width = i32::try_from(shift).ok()? * 3 / 10;
            if !parts.part.is_empty() || whole_digits + width > 14 {
                return None;
            }
            let value = digits.checked_mul(1_i64.checked_shl(shift)?)?;
            let kept = (digits & 7 != 0).then(|| text.into());
            Some(Quantity::from_parts(
                sign * i128::from(value),
                0,
                Format::BinarySi,
                kept,
            ))
        }
    }
}

/// Any number: rounded away from zero at nano, a binary one capped at 2^63-1.
fn slow(parts: &Parts<'_>, suffix: &Suffix) -> Option<Quantity> {
    let factor = match *suffix {
        Suffix::Decimal(..) => 1,
        Suffix::Binary(shift) => 1_i128 << shift,
    };
    // As many digits of the fraction as fit; the others can only round the last one up.
    let product = |kept: usize| {
        let digits: i128 = [parts.whole, &parts.part[..kept]].concat().parse().ok()?;
        Some((kept, digits.checked_mul(factor)?))
    };
    let fitting = (0..=parts.part.len()).rev().find_map(product);
    let (mut mantissa, mut exponent, mut format, sticky) = match (suffix, fitting) {
        (_, Some((kept, product))) => {
            let scale = -i32::try_from(kept).ok()?;
            let sticky = parts.part[kept..].bytes().any(|b| b != b'0');
            match *suffix {
                Suffix::Decimal(exponent, format) => {
                    (product, scale.checked_add(exponent)?, format, sticky)
                }
                Suffix::Binary(_) => (product, scale, Format::BinarySi, sticky),
            }
        }
        // Past the cap the digits no longer matter.
        (Suffix::Binary(_), None) => (i128::from(i64::MAX), 1, Format::BinarySi, false),
        (Suffix::Decimal(..), None) => return None,
    };
    if sticky && mantissa != 0 {
        mantissa = mantissa.checked_add(1)?;
    } else if sticky {
        // Not zero, but below the digits looked at: the smallest step.
        (mantissa, exponent) = (1, exponent.min(NANO));
    }
    if mantissa != 0 {
        // Kubernetes holds every number of this path in nano units, coarser ones too.
        match round_up(mantissa, exponent, NANO) {
            Some(nanos) => (mantissa, exponent) = (nanos, NANO),
            // Beyond 10^29: whole powers of ten lose nothing, and binary ones are capped below.
            None if exponent > NANO => {}
            None => return None,
        }
    }
    if format == Format::BinarySi {
        let cap = i128::from(i64::MAX);
        if compare((mantissa, exponent), (cap, 0)) == Ordering::Greater {
            (mantissa, exponent) = (cap, 0);
        }
        if mantissa > 0 && compare((mantissa, exponent), (1, 0)) == Ordering::Less {
            format = Format::DecimalSi;
        }
    }
    let mantissa = if parts.negative { -mantissa } else { mantissa };
    Some(Quantity::big(mantissa, exponent, format))
}

/// `mantissa * 10^from` in units of `10^to`, rounded away from zero; `None` if it does not fit.
pub(crate) fn round_up(mantissa: i128, from: i32, to: i32) -> Option<i128> {
    if mantissa == 0 {
        return Some(0);
    }
    let shift = from.checked_sub(to)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    if shift >= 0 {
        return mantissa.checked_mul(power?);
    }
    let Some(power) = power else {
        return Some(mantissa.signum());
    };
    let rest = mantissa % power;
    Some(mantissa / power + if rest == 0 { 0 } else { mantissa.signum() })
}

/// 10 to the power of `exponent` as Go's `math.Pow10` has it: two factors from its tables, so that
/// beyond 31 places it can be a bit off the nearest double.
pub(crate) fn power_of_ten(exponent: i32) -> f64 {
    // Parsing is correctly rounded; powi is not.
    let nearest = |exponent: i32| format!("1e{exponent}").parse().unwrap_or(f64::INFINITY);
    let (whole, rest) = (exponent / 32 * 32, exponent % 32);
    match exponent {
        ..-323 => 0.0,
        -323..0 => nearest(whole) / nearest(-rest),
        0..=308 => nearest(whole) * nearest(rest),
        309.. => f64::INFINITY,
    }
}

/// `mantissa * 10^exponent` in units of a nano, as the nearest double.
pub(crate) fn in_nanos(mantissa: i128, exponent: i32) -> f64 {
    let places = i64::from(exponent) - i64::from(NANO);
    format!("{mantissa}e{places}")
        .parse()
        .unwrap_or(f64::INFINITY)
}

/// Orders two values `mantissa * 10^exponent`.
pub(crate) fn compare(a: (i128, i32), b: (i128, i32)) -> Ordering {
    if a.0.signum() != b.0.signum() || a.0 == 0 {
        return a.0.signum().cmp(&b.0.signum());
    }
    let (low, a_shift, b_shift) = {
        let low = a.1.min(b.1);
        (
            low,
            i64::from(a.1) - i64::from(low),
            i64::from(b.1) - i64::from(low),
        )
    };
    debug_assert!(
        low <= a.1 && low <= b.1,
        "both are shifted up to the finer one"
    );
    let widen = |mantissa: i128, shift: i64| {
        let shift = u32::try_from(shift).ok()?;
        mantissa.checked_mul(10_i128.checked_pow(shift)?)
    };
    match (widen(a.0, a_shift), widen(b.0, b_shift)) {
        (Some(a), Some(b)) => a.cmp(&b),
        // Only the coarser one can overflow, and then its magnitude is the larger.
        (None, _) if a.0 > 0 => Ordering::Greater,
        (None, _) => Ordering::Less,
        (_, None) if b.0 > 0 => Ordering::Less,
        (_, None) => Ordering::Greater,
    }
}

impl fmt::Display for Quantity {
    /// The canonical form, as Kubernetes prints it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.kept_text() {
            return f.write_str(text);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format() == Format::BinarySi
            && let Some(units) = self.binary_units()
        {
            return write_binary(f, units);
        }
        write_decimal(f, self)
    }
}

impl Quantity {
    /// The value in whole units, if it is printed with a binary suffix: exact, and at least 1024.
    fn binary_units(&self) -> Option<i128> {
        let value = (self.mantissa(), self.exponent());
        let small = compare(value, (-1024, 0)) == Ordering::Greater
            && compare(value, (1024, 0)) == Ordering::Less;
        let units = round_up(value.0, value.1, 0)?;
        (!small && compare((units, 0), value) == Ordering::Equal).then_some(units)
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut units: i128) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut suffix = 0;
    while units % 1024 == 0 && suffix + 1 < SUFFIXES.len() {
        units /= 1024;
        suffix += 1;
    }
    write!(f, "{units}{}", SUFFIXES[suffix])
}

fn write_decimal(f: &mut fmt::Formatter<'_>, quantity: &Quantity) -> fmt::Result {
    let (mut mantissa, mut exponent) = (quantity.mantissa(), quantity.exponent());
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    let pad = usize::try_from(exponent.rem_euclid(3)).unwrap_or(0);
    let exponent = exponent - exponent.rem_euclid(3);
    let zeros = &"00"[..pad];
    match quantity.format() {
        Format::DecimalExponent if exponent == 0 => write!(f, "{mantissa}{zeros}"),
        Format::DecimalExponent => write!(f, "{mantissa}{zeros}e{exponent}"),
        Format::DecimalSi | Format::BinarySi => {
            const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
            let place = usize::try_from(exponent / 3 + 3).ok();
            // Kubernetes prints a number past its last suffix without any.
            let suffix = place.and_then(|place| SUFFIXES.get(place)).unwrap_or(&"");
            write!(f, "{mantissa}{zeros}{suffix}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MilliValue;

    /// Text, thousandths, canonical text; as apimachinery 0.36.3 answers.
    const KNOWN: [(&str, i64, &str); 18] = [
        ("0", 0, "0"),
        ("0.0", 0, "0"),
        ("1.", 1000, "1."),
        (".5", 500, "500m"),
        ("+1.5Gi", 1_610_612_736_000, "1536Mi"),
        ("1e3", 1_000_000, "1e3"),
        ("12E6", 12_000_000_000, "12E6"),
        ("1000m", 1000, "1"),
        ("0.5Ki", 512_000, "512"),
        ("1024Ki", 1_048_576_000, "1Mi"),
        ("0.0000000001", 1, "1n"),
        ("3.141592653589", 3142, "3141592654n"),
        ("123456789n", 124, "123456789n"),
        ("100000", 100_000_000, "100k"),
        ("m", 0, "0"),
        ("0001", 1000, "0001"),
        ("-1.5", -1500, "-1500m"),
        ("690.006Ki", 706_566_144, "706566144m"),
    ];

    #[test]
    fn reads_and_prints_as_kubernetes_does() {
        for (text, thousandths, canonical) in KNOWN {
            let quantity: Quantity = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(quantity.milli().get(), thousandths, "{text}");
            assert_eq!(quantity.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity_and_says_why() {
        let cases = [
            ("", "want a decimal number"),
            ("1.1.1", "unknown suffix"),
            ("1_000", "want a decimal number"),
            ("1Zi", "want a decimal number"),
            ("abc", "want a decimal number"),
            ("1mm", "unknown suffix"),
            ("Pi", "has no digits"),
            ("1e99999999999", "unknown suffix"),
        ];
        for (text, why) in cases {
            let error = text
                .parse::<Quantity>()
                .map(|q| q.to_string())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(why) || error.contains("quantity"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn large_values_are_held_and_it_is_said() {
        let exa: Quantity = "1E".parse().unwrap();
        assert!(exa.milli_overflows());
        assert_eq!(exa.milli(), MilliValue::MAX);
        assert_eq!(exa.value(), 1_000_000_000_000_000_000);
        let capped: Quantity = "99999999999999999999Ki".parse().unwrap();
        assert_eq!(capped.value(), i64::MAX);
        let far: Quantity = "1e300".parse().unwrap();
        assert_eq!((far.value(), far.milli()), (i64::MAX, MilliValue::MAX));
    }

    /// As apimachinery 0.36.3 answers.
    #[test]
    fn negative_numbers_of_the_big_form_are_cut_and_one_is_added() {
        for (text, thousandths, value) in [
            ("-0.0001Ki", -101, 1),
            ("-98599e-62", 1, 1),
            ("-1500m", -1500, -2),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.milli().get(), thousandths, "{text}");
            assert_eq!(quantity.value(), value, "{text}");
        }
        let wraps: Quantity = "-420336.9Ti".parse().unwrap();
        assert!(wraps.milli_overflows());
    }

    #[test]
    fn orders_by_value_however_written() {
        let of = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(of("1000m"), of("1"));
        assert!(of("1Ki") > of("1k"));
        assert!(of("-2") < of("-1") && of("-1") < of("1n"));
        assert!(of("1e30") > of("1E") && of("-1e30") < of("0"));
    }
}
