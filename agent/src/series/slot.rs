//! A place for one series that may or may not be there.

use super::table::{Meaning, SeriesId, Table};
use crate::clock::BootTime;

/// Begins, reads and ends a series as its values come.
#[derive(Debug, Default)]
pub struct Slot(Option<SeriesId>);

impl Slot {
    /// Takes a reading; none means that it cannot be read, and ends the series.
    pub fn set(
        &mut self,
        table: &mut Table,
        value: Option<u64>,
        at: BootTime,
        meaning: impl FnOnce() -> Meaning,
    ) {
        match (self.0, value) {
            (Some(id), Some(value)) => table.read(id, value, at),
            (None, Some(value)) => self.0 = Some(table.begin(meaning(), value, at)),
            (_, None) => self.end(table),
        }
    }

    /// Takes the reading before once more: it is known that it would be the same.
    pub fn hold(&self, table: &mut Table, at: BootTime) {
        if let Some(id) = self.0 {
            table.hold(id, at);
        }
    }

    /// Ends the series, if there is one.
    pub fn end(&mut self, table: &mut Table) {
        if let Some(id) = self.0.take() {
            table.end(id);
        }
    }

    /// Tells how often it is read from now on.
    pub fn set_interval(&self, table: &mut Table, interval: std::time::Duration) {
        if let Some(id) = self.0 {
            table.set_interval(id, interval);
        }
    }
}
