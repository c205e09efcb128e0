//! `--json`: an object a line.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use neap_coordinator::local::Report;
use serde::Serialize;
use serde_json::{Value, json};

use super::figures::resident;
use super::rows::Row;
use super::view::{Begun, View};
use crate::error::CliError;

/// Prints each change as JSON.
pub(super) struct Json<'a> {
    out: &'a mut dyn Write,
    shown: BTreeMap<String, Row>,
}

impl<'a> Json<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            shown: BTreeMap::new(),
        }
    }

    fn line(&mut self, at: Duration, mut object: Value) -> Result<(), CliError> {
        if let Some(fields) = object.as_object_mut() {
            let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            fields.insert("ms".to_owned(), millis.into());
        }
        writeln!(self.out, "{object}")?;
        Ok(self.out.flush()?)
    }
}

/// `value` with its `type` first.
fn typed(kind: &str, value: &impl Serialize) -> Value {
    let mut object = json!({"type": kind});
    if let (Some(fields), Ok(Value::Object(more))) =
        (object.as_object_mut(), serde_json::to_value(value))
    {
        fields.extend(more);
    }
    object
}

impl View for Json<'_> {
    fn begun(&mut self, begun: &Begun) -> Result<(), CliError> {
        let begun = json!({
            "type": "started",
            "folder": begun.folder,
            "state": begun.state,
            "http": begun.http,
            "pid": std::process::id(),
            "orphansStopped": begun.orphans,
        });
        self.line(Duration::ZERO, begun)
    }

    fn first_decision(&mut self, at: Duration) -> Result<(), CliError> {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let rss = resident().map(|(now, _)| now);
        self.line(
            at,
            json!({"type": "firstDecision", "afterMs": millis, "rssBytes": rss}),
        )
    }

    fn report(&mut self, at: Duration, report: &Report) -> Result<(), CliError> {
        let object = serde_json::to_value(report)
            .map_err(|error| CliError::client(format!("a report cannot be written: {error}")))?;
        self.line(at, object)
    }

    fn rows(&mut self, at: Duration, rows: &[Row]) -> Result<(), CliError> {
        for row in rows {
            let former = self.shown.get(&row.scaled_object);
            if former.is_none_or(|former| row.changed_since(former)) {
                self.shown.insert(row.scaled_object.clone(), row.clone());
                self.line(at, typed("target", row))?;
            }
        }
        Ok(())
    }

    fn stopping(&mut self, at: Duration) -> Result<(), CliError> {
        self.line(at, json!({"type": "stopping"}))
    }

    fn stopped(&mut self, at: Duration) -> Result<(), CliError> {
        let most = resident().map(|(_, most)| most);
        self.line(at, json!({"type": "stopped", "peakRssBytes": most}))
    }
}
