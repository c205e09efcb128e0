use std::cmp::Ordering;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::MilliValue;
use crate::quantity_text;

/// How a quantity was written, and so how it is printed back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `n u m k M G T P E`: powers of ten. What a plain number is.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`: powers of 1024.
    BinarySi,
    /// `1e3`: a power of ten as an exponent.
    DecimalExponent,
}

/// A Kubernetes quantity: a decimal number with a suffix, e.g. `500m`, `1.5Gi`, `1e3`.
///
/// Parsed, rounded and printed as `k8s.io/apimachinery` 0.36 does: finer than nano is rounded away
/// from zero when parsed, a binary value is capped at 2^63-1, and the text is kept where it is
/// already canonical. Conversions to whole and thousandth units round away from zero and
/// *saturate*, where Go wraps silently.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    /// The value is `mantissa * 10^exponent`. Kept as parsed, not reduced: the conversion to a
    /// float depends on it.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// Whether Kubernetes holds it as a big decimal in nano units, with that form's own rounding.
    big: bool,
    /// The text it was read from, if Kubernetes prints that back unchanged.
    text: Option<Box<str>>,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a sign, digits with at most one point, and a suffix.
    #[error("quantity {0:?}: want a decimal number and a suffix, such as 500m, 2 or 1.5Gi")]
    Format(String),
    /// The number has no digits.
    #[error("quantity {0:?}: the number has no digits")]
    Numeric(String),
    /// The suffix is none of Kubernetes'.
    #[error(
        "quantity {0:?}: unknown suffix; allowed are n u m k M G T P E, Ki Mi Gi Ti Pi Ei and an \
         exponent such as e3"
    )]
    Suffix(String),
    /// More digits than can be held (about 38).
    #[error("quantity {0:?}: too large")]
    TooLarge(String),
}

impl Quantity {
    pub(crate) const fn from_parts(
        mantissa: i128,
        exponent: i32,
        format: Format,
        text: Option<Box<str>>,
    ) -> Self {
        Self {
            mantissa,
            exponent,
            format,
            big: false,
            text,
        }
    }

    /// A number that Kubernetes holds as a big decimal.
    pub(crate) const fn big(mantissa: i128, exponent: i32, format: Format) -> Self {
        Self {
            mantissa,
            exponent,
            format,
            big: true,
            text: None,
        }
    }

    /// `thousandths` of one, printed as a decimal.
    #[must_use]
    pub fn from_milli(thousandths: MilliValue) -> Self {
        Self::from_parts(i128::from(thousandths.get()), -3, Format::DecimalSi, None)
    }

    /// The whole number `units`, printed in `format`.
    #[must_use]
    pub fn from_units(units: i64, format: Format) -> Self {
        Self::from_parts(i128::from(units), 0, format, None)
    }

    pub(crate) const fn mantissa(&self) -> i128 {
        self.mantissa
    }

    pub(crate) const fn exponent(&self) -> i32 {
        self.exponent
    }

    pub(crate) fn kept_text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// How it was written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether the value is 0.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// Whether the value is below 0.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// The value in whole units, rounded away from zero, held within `i64`.
    ///
    /// Negative numbers of Kubernetes' big form are cut instead, and one is added to what is cut, as
    /// Kubernetes does it.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.scaled(0).0
    }

    /// The value in thousandths, rounded as by [`Self::value`], held within `i64` (Go wraps there; see
    /// [`Self::milli_overflows`]).
    #[must_use]
    pub fn milli(&self) -> MilliValue {
        MilliValue::new(self.scaled(-3).0)
    }

    /// Whether [`Self::milli`] had to be held at the edge of its range, or Go's arithmetic wraps on the
    /// way to it.
    #[must_use]
    pub fn milli_overflows(&self) -> bool {
        self.scaled(-3).1
    }

    /// The value in units of `10^exponent`, and whether Go's arithmetic would have wrapped.
    fn scaled(&self, exponent: i32) -> (i64, bool) {
        let held = |value: Option<i128>| match value.map(i64::try_from) {
            Some(Ok(value)) => (value, false),
            _ if self.mantissa < 0 => (i64::MIN, true),
            _ => (i64::MAX, true),
        };
        let rounded = quantity_text::round_up(self.mantissa, self.exponent, exponent);
        if !self.big || self.mantissa >= 0 || self.exponent >= exponent {
            return held(rounded);
        }
        // Negative, and finer than asked for: Kubernetes cuts and then adds one.
        let divisor = 10_i128.checked_pow(exponent.abs_diff(self.exponent));
        let (value, _) =
            held(divisor.map(|by| self.mantissa / by + i128::from(self.mantissa % by != 0)));
        (value, i64::try_from(self.mantissa).is_err())
    }

    /// The value as Kubernetes approximates it: the mantissa times a power of ten, in doubles. Up to
    /// one unit in the last place off the nearest double; tolerances are compared with it.
    #[must_use]
    pub fn approximate_f64(&self) -> f64 {
        // A binary number at its cap is the one big decimal in whole units.
        let capped = self.format == Format::BinarySi && self.exponent == 0;
        if self.big && !capped && self.exponent > quantity_text::NANO {
            return quantity_text::in_nanos(self.mantissa, self.exponent)
                * quantity_text::power_of_ten(quantity_text::NANO);
        }
        if self.exponent == 0 {
            self.mantissa as f64
        } else {
            self.mantissa as f64 * quantity_text::power_of_ten(self.exponent)
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        quantity_text::parse(text)
    }
}

/// By value, however written: `1000m` equals `1`.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        quantity_text::compare(
            (self.mantissa, self.exponent),
            (other.mantissa, other.exponent),
        )
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// From a text, or from a bare number as the API server takes it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity such as \"500m\" or 2")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
