//! Quantities: text to numbers and back.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

use neap_units::Quantity;
use serde::Deserialize;

use super::report::Report;
use super::vectors::VectorFile;

#[derive(Deserialize)]
struct Case {
    s: String,
    valid: bool,
    milli: Option<i64>,
    value: Option<i64>,
    canonical: Option<String>,
}

/// The float of a line, rounded correctly; serde_json's quick reading can be off by a bit.
fn float_of(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("\"approximate_float\":")?;
    let end = rest.find([',', '}'])?;
    rest[..end].trim().parse().ok()
}

#[derive(Debug, PartialEq)]
struct Numbers {
    milli: i64,
    value: i64,
    approximate_float: f64,
    canonical: String,
}

pub(crate) fn run(file: &VectorFile, report: &mut Report) {
    for (line, case) in file.lines.iter().zip(file.cases::<Case>()) {
        let expected = case.valid.then(|| Numbers {
            milli: case.milli.unwrap(),
            value: case.value.unwrap(),
            approximate_float: float_of(line).unwrap(),
            canonical: case.canonical.clone().unwrap(),
        });
        let found = case.s.parse::<Quantity>().ok();
        let numbers = found.as_ref().map(|quantity| Numbers {
            milli: quantity.milli().get(),
            value: quantity.value(),
            approximate_float: quantity.approximate_f64(),
            canonical: quantity.to_string(),
        });
        if numbers == expected {
            report.pass();
            continue;
        }
        // Thousandths that do not fit 64 bits wrap in Go; here they are held, and it is said.
        let overflows = found.as_ref().is_some_and(Quantity::milli_overflows);
        let rest_is_equal = match (&numbers, &expected) {
            (Some(found), Some(expected)) => {
                // A negative number past 2^63 nano wraps as a whole.
                let value_fits = found.value > 0 && found.value < i64::MAX;
                found.canonical == expected.canonical
                    && found.approximate_float == expected.approximate_float
                    && (found.value == expected.value || !value_fits)
            }
            _ => false,
        };
        if overflows && rest_is_equal {
            report.apart("int64_overflow");
        } else {
            report.differ(
                &format!("{:?}", case.s),
                &format!("{numbers:?}"),
                &format!("{expected:?}"),
            );
        }
    }
}
