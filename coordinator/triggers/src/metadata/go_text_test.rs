use std::time::Duration;

use super::*;

#[test]
fn numbers_are_json() {
    for text in [
        "5.0",
        "1e3",
        "+5",
        "0x10",
        "007",
        "",
        "-",
        "null",
        "true",
        "\"5\"",
        "5 5",
        "1_0",
        "9223372036854775808",
    ] {
        assert_eq!(parse_integer(text, i64::MIN, i64::MAX), None, "{text}");
    }
    assert_eq!(parse_integer("-7", i64::MIN, i64::MAX), Some(-7));
    assert_eq!(parse_integer("-0", i64::MIN, i64::MAX), Some(0));
    assert_eq!(parse_integer("65536", 1, 65535), None);
    for text in [
        "NaN", "Infinity", "inf", ".5", "5.", "1e", "1e+", "00.5", "0x1p4", "1e400", "null", "1,5",
    ] {
        assert_eq!(parse_float(text), None, "{text}");
    }
    for (text, expected) in [
        ("1e3", 1000.0),
        ("-0.5", -0.5),
        ("1.5E-2", 0.015),
        ("0", 0.0),
        ("1e-400", 0.0),
    ] {
        assert_eq!(parse_float(text), Some(expected), "{text}");
    }
}

#[test]
fn durations_are_go_or_milliseconds() {
    for (text, nanos) in [
        ("5s", 5_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("1us2\u{b5}s3\u{3bc}s4ns", 6_004),
        ("+5s", 5_000_000_000),
        ("0", 0),
        ("-0", 0),
        ("-0s", 0),
        ("250", 250_000_000),
        ("+250", 250_000_000),
        ("0.100000000000000000000h", 360_000_000_000),
        ("2562047h47m16.854775807s", 9_223_372_036_854_775_807),
    ] {
        assert_eq!(
            parse_duration(text),
            Some(Duration::from_nanos(nanos)),
            "{text}"
        );
    }
    for text in [
        "",
        "-1",
        "-5s",
        "5",
        "1d",
        "s",
        ".s",
        "1.5",
        "a",
        "1 s",
        "++5",
        "+-5",
        "3000000h",
        "9223372036855",
    ] {
        let expected = if text == "5" {
            Some(Duration::from_millis(5))
        } else {
            None
        };
        assert_eq!(parse_duration(text), expected, "{text}");
    }
}

#[test]
fn truth_values_are_those_of_go() {
    for text in ["1", "t", "T", "TRUE", "true", "True"] {
        assert_eq!(parse_bool(text), Some(true), "{text}");
    }
    for text in ["0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(parse_bool(text), Some(false), "{text}");
    }
    for text in ["", "yes", "tRUE", "on", "2"] {
        assert_eq!(parse_bool(text), None, "{text}");
    }
}

#[test]
fn queries_are_read_and_written_as_in_a_url() {
    let query = parse_query("a=1&b=x+y&a=%32&c&&d=e=f").expect("valid");
    assert_eq!(query["a"], ["1", "2"]);
    assert_eq!(query["b"], ["x y"]);
    assert_eq!(query["c"], [""]);
    assert_eq!(query["d"], ["e=f"]);
    assert_eq!(parse_query("a=%2"), None);
    assert_eq!(parse_query("a=%zz"), None);
    assert_eq!(parse_query("a=1;b=2"), None);
    assert_eq!(
        query_escape("sum(rate(x{a=\"b\"}[1m])) + ä~"),
        "sum%28rate%28x%7Ba%3D%22b%22%7D%5B1m%5D%29%29+%2B+%C3%A4~"
    );
}
