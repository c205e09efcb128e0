//! `--plain`: a line for each change.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use neap_coordinator::local::{ReplicaChange, Report};

use super::figures::resident;
use super::rows::{Row, TriggerRow};
use super::view::{Begun, View};
use crate::error::CliError;

/// Prints lines.
pub(super) struct Plain<'a> {
    out: &'a mut dyn Write,
    shown: BTreeMap<String, Row>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            shown: BTreeMap::new(),
        }
    }

    fn line(&mut self, at: Duration, text: &str) -> Result<(), CliError> {
        writeln!(self.out, "{:7.1} s  {text}", at.as_secs_f64())?;
        Ok(self.out.flush()?)
    }
}

/// A report in a line, and whether it is one of trouble. None for what the rows show already.
pub(super) fn line(report: &Report) -> Option<(String, bool)> {
    Some(match report {
        Report::Fault(fault) => (fault.to_string(), true),
        Report::Mended { subject } => (format!("{subject}: in order again"), false),
        Report::Replica {
            pod,
            change,
            detail,
            ..
        } => match change {
            ReplicaChange::Started => (format!("pod {pod}: started ({detail})"), false),
            ReplicaChange::Exited => (format!("pod {pod}: ended by itself ({detail})"), true),
            ReplicaChange::Stopped => (format!("pod {pod}: stopped"), false),
            ReplicaChange::Ready | ReplicaChange::NotReady | ReplicaChange::Stopping => {
                return None;
            }
        },
        Report::Listening { service, address } => {
            (format!("Service {service}: listens on {address}"), false)
        }
        Report::Event {
            scaled_object,
            warning,
            reason,
            message,
        } => (format!("{scaled_object}: {reason}: {message}"), *warning),
        Report::Note { message } => (message.clone(), false),
    })
}

/// A trigger as `NAME VALUE/TARGET`.
pub(super) fn trigger(trigger: &TriggerRow) -> String {
    let TriggerRow {
        name,
        value,
        target,
        error,
        ..
    } = trigger;
    match (value, target, error) {
        (_, _, Some(error)) => format!("{name}: {error}"),
        (Some(value), Some(target), None) => format!("{name} {value}/{target}"),
        (Some(value), None, None) => format!("{name} {value}"),
        (None, ..) => format!("{name} <unknown>"),
    }
}

/// A target in a line.
fn row_line(row: &Row, former: Option<&Row>) -> String {
    let number = |number: Option<i32>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let replicas = match former {
        Some(former) if former.replicas != row.replicas => {
            format!("{} -> {}", number(former.replicas), number(row.replicas))
        }
        _ => number(row.replicas),
    };
    let triggers: Vec<String> = row.triggers.iter().map(trigger).collect();
    let mut text = format!(
        "{} ({}): {replicas} replicas, {} running, {} ready",
        row.scaled_object, row.target, row.running, row.ready
    );
    for more in [triggers.join(", "), row.why.clone()] {
        if !more.is_empty() {
            text.push_str("; ");
            text.push_str(&more);
        }
    }
    text
}

impl View for Plain<'_> {
    fn begun(&mut self, begun: &Begun) -> Result<(), CliError> {
        let Begun {
            folder,
            state,
            http,
            orphans,
        } = begun;
        self.line(
            Duration::ZERO,
            &format!("runs {folder}, state in {state}, API at {http}"),
        )?;
        if *orphans > 0 {
            let text = format!("stopped {orphans} processes that a killed neap up left behind");
            self.line(Duration::ZERO, &text)?;
        }
        Ok(())
    }

    fn first_decision(&mut self, at: Duration) -> Result<(), CliError> {
        let rss = resident().map_or(0, |(now, _)| now >> 20);
        let millis = at.as_millis();
        self.line(
            at,
            &format!("first decision after {millis} ms; coordinator and agent use {rss} MiB"),
        )
    }

    fn report(&mut self, at: Duration, report: &Report) -> Result<(), CliError> {
        match line(report) {
            Some((text, _)) => self.line(at, &text),
            None => Ok(()),
        }
    }

    fn rows(&mut self, at: Duration, rows: &[Row]) -> Result<(), CliError> {
        for row in rows {
            let former = self.shown.get(&row.scaled_object);
            if former.is_none_or(|former| row.changed_since(former)) {
                let text = row_line(row, former);
                self.shown.insert(row.scaled_object.clone(), row.clone());
                self.line(at, &text)?;
            }
        }
        Ok(())
    }

    fn stopping(&mut self, at: Duration) -> Result<(), CliError> {
        self.line(at, "stopping all replicas; once more kills them")
    }

    fn stopped(&mut self, at: Duration) -> Result<(), CliError> {
        self.line(at, "stopped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_from_what_to_what_and_why() {
        let mut row = Row {
            scaled_object: "default/web".into(),
            target: "Deployment/web".into(),
            replicas: Some(1),
            desired: Some(1),
            running: 1,
            ready: 1,
            min: 1,
            max: 8,
            triggers: vec![TriggerRow {
                name: "s0-node-accept-queue".into(),
                kind: "node-accept-queue".into(),
                value: Some("15".into()),
                target: Some("3".into()),
                active: None,
                error: None,
            }],
            why: "above target".into(),
            fault: None,
        };
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out);
        plain
            .rows(Duration::from_millis(500), &[row.clone()])
            .unwrap();
        row.triggers[0].value = Some("16".into());
        plain.rows(Duration::from_secs(1), &[row.clone()]).unwrap();
        row.replicas = Some(5);
        plain.rows(Duration::from_secs(2), &[row]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "    0.5 s  default/web (Deployment/web): 1 replicas, 1 running, 1 ready; s0-node-accept-queue 15/3; above target\n    2.0 s  default/web (Deployment/web): 1 -> 5 replicas, 1 running, 1 ready; s0-node-accept-queue 16/3; above target\n"
        );
    }
}
