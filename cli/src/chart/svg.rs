//! Writing SVG. Numbers have at most two decimals, so that the same drawing gives the same bytes.

use std::fmt::Write;

/// A drawing under way.
#[derive(Debug, Default)]
pub(super) struct Svg {
    text: String,
}

/// Where a text is anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// A drawing of `width` by `height`, with a title and a description for those who do not see it.
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self::default();
        let (width, height) = (number(width), number(height));
        svg.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">"
        ));
        svg.line(format_args!("<title>{}</title>", escape(title)));
        svg.line(format_args!("<desc>{}</desc>", escape(description)));
        svg.line(format_args!(
            "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
        ));
        svg
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// A text at a point.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.line(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" {style}>{}</text>",
            number(x),
            number(y),
            escape(text)
        ));
    }

    /// A filled rectangle.
    pub(super) fn rectangle(&mut self, [x, y, width, height]: [f64; 4], style: &str) {
        self.line(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {style}/>",
            number(x),
            number(y),
            number(width),
            number(height)
        ));
    }

    /// A straight line.
    pub(super) fn segment(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        self.line(format_args!(
            "<path d=\"M{} {}L{} {}\" {style}/>",
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        ));
    }

    /// A path of points; nothing for none.
    pub(super) fn path(&mut self, points: &[(f64, f64)], closed: bool, style: &str) {
        let Some(((x, y), rest)) = points.split_first() else {
            return;
        };
        let mut path = format!("M{} {}", number(*x), number(*y));
        let mut last = (number(*x), number(*y));
        for (x, y) in rest {
            let next = (number(*x), number(*y));
            // Steps are horizontal and vertical, and short commands keep the file small.
            if next == last {
                continue;
            } else if next.0 == last.0 {
                let _ = write!(path, "V{}", next.1);
            } else if next.1 == last.1 {
                let _ = write!(path, "H{}", next.0);
            } else {
                let _ = write!(path, "L{} {}", next.0, next.1);
            }
            last = next;
        }
        let end = if closed { "Z" } else { "" };
        self.line(format_args!("<path d=\"{path}{end}\" {style}/>"));
    }

    /// The finished drawing.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// At most two decimals, without trailing zeros.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no place for other control characters.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (1.0, "1"),
            (1.5, "1.5"),
            (0.004, "0"),
            (-0.001, "0"),
            (12.345_6, "12.35"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(escape("</svg>&\"\u{7}"), "&lt;/svg&gt;&amp;&quot; ");
    }
}
