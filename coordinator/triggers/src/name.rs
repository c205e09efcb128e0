//! Metric names as KEDA builds them.

/// `s<index>-<base>`, with the characters that KEDA replaces.
#[must_use]
pub fn metric_name(index: u32, base: &str) -> String {
    format!("s{index}-{}", normalize(base))
}

/// Slashes, dots, colons, percent signs and round brackets become dashes.
#[must_use]
pub fn normalize(text: &str) -> String {
    text.chars()
        .map(|c| {
            if matches!(c, '/' | '.' | ':' | '%' | '(' | ')') {
                '-'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_keda_replaces() {
        assert_eq!(metric_name(3, "a/b.c:d%e(f)g-h_i"), "s3-a-b-c-d-e-f-g-h_i");
    }
}
