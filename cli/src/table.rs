//! Tables as kubectl prints them: columns of the width of their widest cell, three blanks between.

use std::io::{self, Write};

/// Rows of cells.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// No rows yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a row.
    pub(crate) fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Writes the rows. The last cell of a row is not padded.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_under(&mut Vec::new(), out)
    }

    /// Writes the rows in columns at least as wide as `widths`, and keeps there how wide they became: for rows
    /// that follow under an earlier table.
    pub(crate) fn write_under(
        &self,
        widths: &mut Vec<usize>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    let blanks = widths[column] - cell.chars().count() + 3;
                    line.extend(std::iter::repeat_n(' ', blanks));
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new();
        table.row(["NAME", "AGE"]);
        table.row(["a-long-name", "5d"]);
        table.row(["b", ""]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME          AGE\na-long-name   5d\nb\n"
        );
    }

    #[test]
    fn rows_that_follow_stay_under_their_columns() {
        let (mut widths, mut out) = (Vec::new(), Vec::new());
        for rows in [
            [["NAME", "AGE"], ["a-long-name", "5d"]],
            [["b", "6d"], ["c", "7d"]],
        ] {
            let mut table = Table::new();
            rows.into_iter().for_each(|row| table.row(row));
            table.write_under(&mut widths, &mut out).unwrap();
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME          AGE\na-long-name   5d\nb             6d\nc             7d\n"
        );
    }
}
