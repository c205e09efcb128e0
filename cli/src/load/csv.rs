//! A load from a CSV file.
//!
//! The first line names the columns; the first of them is `time`: RFC 3339 (`2026-11-01T09:00:00Z`)
//! or seconds from the start. Every further column is a series. A cell is a number or a Kubernetes
//! quantity (`12`, `0.5`, `500m`, `2Gi`); an empty one, or `error`, is a source that gave no answer.
//! Blank lines and lines that start with `#` are skipped.

use std::io::BufRead;

use neap_units::{MilliValue, Quantity, Timestamp};

use super::series::{Column, Load, MAX_POINTS, Point, Series};

/// A line with more bytes than this is no load.
const MAX_LINE: usize = 64 << 10;

/// Why a CSV file is no load. Names the file, the line and the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// One cell, or one line as a whole.
    #[error("{file}:{line}: {field}{fault}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column with its value, and a colon; empty for the whole line.
        field: String,
        /// What is wrong and what is allowed.
        fault: String,
    },
    /// The file as a whole.
    #[error("{file}: {fault}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        fault: String,
    },
}

/// Reads a load; `file` is its name for messages.
///
/// # Errors
/// [`CsvError`] for the first fault.
pub fn parse_csv(file: &str, reader: impl BufRead) -> Result<Load, CsvError> {
    let mut parser = Parser {
        file,
        names: Vec::new(),
        columns: Vec::new(),
        calendar: None,
        last: None,
    };
    let mut reader = reader;
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        buffer.clear();
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE as u64 + 1);
        let read = limited.read_until(b'\n', &mut buffer);
        let read = read.map_err(|error| parser.file_fault(format!("cannot be read: {error}")))?;
        if read == 0 {
            break;
        }
        if buffer.len() > MAX_LINE {
            return Err(parser.fault(number, "", format!("is longer than {MAX_LINE} bytes")));
        }
        let line = std::str::from_utf8(&buffer)
            .map_err(|_| parser.fault(number, "", "is not UTF-8 text"))?
            .trim_start_matches('\u{feff}')
            .trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if parser.names.is_empty() {
            parser.header(number, line)?;
        } else {
            parser.row(number, line)?;
        }
    }
    parser.finish()
}

struct Parser<'a> {
    file: &'a str,
    names: Vec<String>,
    columns: Vec<Vec<Point>>,
    calendar: Option<bool>,
    last: Option<(usize, Timestamp)>,
}

impl Parser<'_> {
    fn fault(&self, line: usize, field: &str, fault: impl Into<String>) -> CsvError {
        CsvError::Line {
            file: self.file.to_owned(),
            line,
            field: field.to_owned(),
            fault: fault.into(),
        }
    }

    fn file_fault(&self, fault: impl Into<String>) -> CsvError {
        CsvError::File {
            file: self.file.to_owned(),
            fault: fault.into(),
        }
    }

    fn header(&mut self, number: usize, line: &str) -> Result<(), CsvError> {
        let names: Vec<String> = cells(line).map(|cell| cell.trim().to_owned()).collect();
        if !names[0].eq_ignore_ascii_case("time") || names.len() < 2 {
            let fault = format!(
                "the first line must name the columns: \"time\", then one or more of load, as in \"time,value\"; it is {line:?}"
            );
            return Err(self.fault(number, "", fault));
        }
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() || names[..at].contains(name) {
                let fault = "each column must have a name of its own";
                return Err(self.fault(number, &format!("column {} ({name:?}): ", at + 1), fault));
            }
        }
        self.columns = vec![Vec::new(); names.len() - 1];
        self.names = names;
        Ok(())
    }

    fn row(&mut self, number: usize, line: &str) -> Result<(), CsvError> {
        let mut found = 0;
        let mut at = Timestamp::MIN;
        for (place, cell) in cells(line).enumerate() {
            let cell = cell.trim();
            found = place + 1;
            let Some(name) = self.names.get(place) else {
                continue;
            };
            if place == 0 {
                at = self.time(number, cell)?;
                continue;
            }
            let value = value(cell).map_err(|allowed| {
                self.fault(
                    number,
                    &format!("{name}: "),
                    format!("{cell:?} is not allowed: {allowed}"),
                )
            })?;
            self.columns[place - 1].push(Point { at, value });
        }
        if found != self.names.len() {
            let fault = format!(
                "{found} fields, but the first line names {}",
                self.names.len()
            );
            return Err(self.fault(number, "", fault));
        }
        if self.columns[0].len().saturating_mul(self.columns.len()) > MAX_POINTS {
            return Err(self.fault(
                number,
                "",
                format!("the file has more than {MAX_POINTS} values"),
            ));
        }
        Ok(())
    }

    fn time(&mut self, number: usize, cell: &str) -> Result<Timestamp, CsvError> {
        let wrong = |fault: String| self.fault(number, "time: ", fault);
        let (at, calendar) = match seconds(cell) {
            Some(millis) => (Timestamp::from_millis(millis), false),
            None => match cell.parse::<jiff::Timestamp>() {
                Ok(wall) => (Timestamp::from_millis(wall.as_millisecond()), true),
                Err(_) => {
                    return Err(wrong(format!(
                        "{cell:?} is not allowed: it must be a time like 2026-11-01T09:00:00Z or a number of seconds"
                    )));
                }
            },
        };
        if *self.calendar.get_or_insert(calendar) != calendar {
            let fault = format!(
                "{cell:?} is not allowed: all times of a file must be of one kind, dates or seconds"
            );
            return Err(self.fault(number, "time: ", fault));
        }
        if let Some((line, last)) = self.last
            && at <= last
        {
            let fault =
                format!("{cell:?} is not allowed: it must be later than the time on line {line}");
            return Err(self.fault(number, "time: ", fault));
        }
        self.last = Some((number, at));
        Ok(at)
    }

    fn finish(self) -> Result<Load, CsvError> {
        let (file, calendar) = (self.file, self.calendar.unwrap_or(false));
        let columns = self.names.into_iter().skip(1).zip(self.columns);
        let columns: Result<Vec<Column>, CsvError> = columns
            .map(|(name, points)| {
                let series = Series::new(points).map_err(|error| CsvError::File {
                    file: file.to_owned(),
                    fault: error.to_string(),
                })?;
                Ok(Column { name, series })
            })
            .collect();
        let columns = columns?;
        if columns.is_empty() {
            let fault = "is empty; the first line must name the columns, as in \"time,value\"";
            return Err(CsvError::File {
                file: file.to_owned(),
                fault: fault.to_owned(),
            });
        }
        Ok(Load { columns, calendar })
    }
}

/// The cells of a line. Quotes around a cell are taken off.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| {
        let cell = cell.trim();
        cell.strip_prefix('"')
            .and_then(|cell| cell.strip_suffix('"'))
            .unwrap_or(cell)
    })
}

/// Seconds with up to three decimals, as milliseconds.
fn seconds(cell: &str) -> Option<i64> {
    let digits = cell
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !digits || cell.is_empty() {
        return None;
    }
    let seconds: f64 = cell.parse().ok()?;
    (seconds < 1e12).then_some((seconds * 1000.0).round() as i64)
}

fn value(cell: &str) -> Result<Option<MilliValue>, String> {
    const ALLOWED: &str = "it must be a number of 0 or more, such as 12, 0.5, 500m or 2Gi, or empty where the source gave no answer";
    if cell.is_empty() || cell.eq_ignore_ascii_case("error") {
        return Ok(None);
    }
    // Nearly every cell is a plain whole number.
    if cell.len() <= 15 && cell.bytes().all(|byte| byte.is_ascii_digit()) {
        return cell
            .parse()
            .map(|units| Some(MilliValue::from_units(units)))
            .map_err(|_| ALLOWED.to_owned());
    }
    // A long fraction, as programs write floats, is rounded as KEDA rounds it.
    if let Ok(number) = cell.parse::<f64>() {
        if number.is_finite() && number >= 0.0 {
            return Ok(Some(MilliValue::from_metric_f64(number)));
        }
        return Err(ALLOWED.to_owned());
    }
    match cell.parse::<Quantity>() {
        Ok(quantity) if !quantity.is_negative() => Ok(Some(quantity.milli())),
        _ => Err(ALLOWED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Load, CsvError> {
        parse_csv("load.csv", text.as_bytes())
    }

    fn fault(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn columns_become_series() {
        let load =
            parse("# a day\ntime, queue ,cpu\n0,5,500m\n\n60.5,,1.5\r\n120,error,2\n").unwrap();
        assert!(!load.calendar);
        let names: Vec<&str> = load
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        assert_eq!(names, ["queue", "cpu"]);
        let values = |column: usize| -> Vec<(i64, Option<i64>)> {
            let points = load.columns[column].series.points().iter();
            points
                .map(|p| (p.at.as_millis(), p.value.map(MilliValue::get)))
                .collect()
        };
        assert_eq!(
            values(0),
            [(0, Some(5_000)), (60_500, None), (120_000, None)]
        );
        assert_eq!(
            values(1),
            [
                (0, Some(500)),
                (60_500, Some(1_500)),
                (120_000, Some(2_000))
            ]
        );
    }

    #[test]
    fn times_may_be_dates() {
        let load =
            parse("\u{feff}Time,\"value\"\n2026-11-01T00:00:00Z,1\n2026-11-01T01:01:00+01:00,2\n")
                .unwrap();
        assert!(load.calendar);
        assert_eq!(load.columns[0].name, "value");
        assert_eq!(load.start().as_millis(), 1_793_491_200_000);
        assert_eq!(load.end().since(load.start()).as_secs(), 120);
    }

    #[test]
    fn every_fault_names_file_line_and_field() {
        let cases = [
            ("", "load.csv: is empty"),
            (
                "a,b\n1,2\n",
                "load.csv:1: the first line must name the columns",
            ),
            (
                "time\n1\n",
                "load.csv:1: the first line must name the columns",
            ),
            ("time,a,a\n", "load.csv:1: column 3 (\"a\"): each column"),
            ("time,a\n", "load.csv: there are no values"),
            (
                "time,a\n0,1\n\n5,1,2\n",
                "load.csv:4: 3 fields, but the first line names 2",
            ),
            (
                "time,a\n0\n",
                "load.csv:2: 1 fields, but the first line names 2",
            ),
            (
                "time,a\nnoon,1\n",
                "load.csv:2: time: \"noon\" is not allowed",
            ),
            ("time,a\n-1,1\n", "load.csv:2: time: \"-1\" is not allowed"),
            (
                "time,a\n5,1\n5,1\n",
                "load.csv:3: time: \"5\" is not allowed: it must be later than the time on line 2",
            ),
            (
                "time,a\n5,1\n2026-11-01T00:00:00Z,1\n",
                "load.csv:3: time: \"2026-11-01T00:00:00Z\" is not allowed: all times",
            ),
            (
                "time,queue\n0,1\n1,many\n",
                "load.csv:3: queue: \"many\" is not allowed: it must be a number",
            ),
            (
                "time,queue\n0,-4\n",
                "load.csv:2: queue: \"-4\" is not allowed",
            ),
            (
                "time,queue\n0,NaN\n",
                "load.csv:2: queue: \"NaN\" is not allowed",
            ),
        ];
        for (text, start) in cases {
            let fault = fault(text);
            assert!(fault.starts_with(start), "{text:?}: {fault}");
        }
        let fault = parse_csv("x", &b"time,a\n0,\xff\n"[..])
            .unwrap_err()
            .to_string();
        assert_eq!(fault, "x:2: is not UTF-8 text");
        let long = format!("time,a\n0,{}\n", "1".repeat(MAX_LINE));
        assert!(
            parse(&long)
                .unwrap_err()
                .to_string()
                .starts_with("load.csv:2: is longer than")
        );
    }
}
