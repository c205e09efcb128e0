//! An explanation for people.

use std::io::Write;

use jiff::Timestamp as Wall;

use crate::answers::{Decision, Explained, Gap};
use crate::error::CliError;
use crate::table::Table;
use crate::{age, reason};

/// Writes what is known of a target, and its last `changes` changes.
pub(super) fn write(
    explained: &Explained,
    changes: usize,
    now: Wall,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut table = Table::new();
    let mut line = |name: &str, value: String| table.row([format!("{name}:"), value]);
    line("Name", explained.name.clone());
    line("Namespace", explained.namespace.clone());
    if let Some(owner) = &explained.owner {
        line("Scaled by", owner.clone());
    }
    if let Some(fault) = &explained.fault {
        line("Fault", fault.clone());
    }
    if let Some(latest) = &explained.latest {
        let ago = age::human(age::since(latest.at, now));
        let at = latest.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let written = if latest.scaled {
            ""
        } else {
            ", shown and not written"
        };
        line("Decided", format!("{at} ({ago} ago{written})"));
    }
    table.write(out)?;
    match &explained.latest {
        None => writeln!(out, "\nNothing has been decided yet.")?,
        Some(latest) => {
            // The engine's own words; its times are told from the moment of the decision.
            writeln!(out)?;
            for line in latest.evaluation.why.to_string().lines() {
                writeln!(out, "{line}")?;
            }
            conditions(latest, out)?;
        }
    }
    last_changes(&explained.changes, changes, now, out)?;
    gaps(&explained.gaps, now, out)
}

fn conditions(latest: &Decision, out: &mut dyn Write) -> Result<(), CliError> {
    if latest.evaluation.conditions.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nConditions:")?;
    let mut table = Table::new();
    table.row(["  TYPE", "STATUS", "REASON", "MESSAGE"]);
    for condition in &latest.evaluation.conditions {
        table.row([
            format!("  {}", condition.kind),
            condition.status.name().to_owned(),
            condition.reason.to_string(),
            condition.message.to_string(),
        ]);
    }
    table.write(out)?;
    Ok(())
}

fn last_changes(
    changes: &[Decision],
    shown: usize,
    now: Wall,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if changes.is_empty() || shown == 0 {
        return Ok(());
    }
    writeln!(out, "\nChanges:")?;
    let mut table = Table::new();
    table.row(["  AGE", "REPLICAS", "WHY"]);
    for change in changes.iter().take(shown) {
        let evaluation = &change.evaluation;
        let why = &evaluation.why;
        let only_shown = if change.scaled { "" } else { " (not written)" };
        let replicas = if evaluation.write.is_some() {
            format!("{} -> {}{only_shown}", why.current, why.desired)
        } else {
            format!("stays at {}", why.current)
        };
        table.row([
            format!("  {}", age::human(age::since(change.at, now))),
            replicas,
            reason::of(&evaluation.events, &why.steps),
        ]);
    }
    table.write(out)?;
    if changes.len() > shown {
        let all = changes.len();
        writeln!(
            out,
            "  {} more are kept; --changes {all} shows them",
            all - shown
        )?;
    }
    Ok(())
}

/// Says where changes may be missing.
fn gaps(gaps: &[Gap], now: Wall, out: &mut dyn Write) -> Result<(), CliError> {
    for gap in gaps {
        writeln!(
            out,
            "  Changes of {:.1} s, {} ago, may be missing: this replica was not told of them",
            gap.to.duration_since(gap.from).as_secs_f64(),
            age::human(age::since(gap.to, now)),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLAINED: &str = r#"{
        "namespace": "shop", "name": "web", "owner": "Neap", "fault": null, "news": 1,
        "latest": {
            "at": "2026-11-22T02:31:00Z", "scaled": true,
            "evaluation": {"desired": 6, "write": null, "unknown": [], "conditions": [
                {"kind": "AbleToScale", "status": "True", "reason": "ScaleDownStabilized", "message": "held"}],
                "why": {"at": 1000000, "current": 6, "desired": 6,
                    "triggers": [
                        {"metric_name": "s0-prometheus", "kind": "prometheus", "active": true, "outcome":
                            {"Proposed": {"replicas": 4, "value": {"Average": 6000}, "target": {"Average": 10000},
                             "ratio": 0.6, "pods": null, "within_tolerance": false, "raised_by_floor": null, "saturated": false}}}],
                    "steps": [
                        {"Aggregated": {"replicas": 4, "trigger": 0}},
                        {"Stabilized": {"direction": "Down", "from": 4, "to": 6, "held_by": 6,
                            "recorded": 940000, "window": {"secs": 300, "nanos": 0}}}],
                    "next": null}}},
        "changes": [
            {"at": "2026-11-22T02:30:00Z", "scaled": false,
             "evaluation": {"write": 6, "why": {"at": 940000, "current": 3, "desired": 6, "triggers": [], "steps":
                [{"Clamped": {"from": 9, "to": 6, "side": "Max"}}], "next": null},
                "events": [{"kind": "Normal", "reason": "SuccessfulRescale", "message": "New size: 6; reason: cpu resource above target"}]}},
            {"at": "2026-11-22T02:00:00Z", "scaled": true,
             "evaluation": {"why": {"at": 0, "current": 3, "desired": 3, "triggers": [], "steps": [], "next": null}}}],
        "gaps": [{"from": "2026-11-22T02:20:00Z", "to": "2026-11-22T02:20:01.25Z"}]}"#;

    fn explain(changes: usize) -> String {
        let explained: Explained = serde_json::from_str(EXPLAINED).unwrap();
        let mut out = Vec::new();
        let now: Wall = "2026-11-22T02:31:10Z".parse().unwrap();
        write(&explained, changes, now, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_explanation_says_what_held_the_number() {
        let text = explain(10);
        let mut lines = text.lines();
        let head: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let expected = [
            "Name:        web",
            "Namespace:   shop",
            "Scaled by:   Neap",
            "Decided:     2026-11-22T02:31:00Z (10s ago)",
        ];
        assert_eq!(head, expected);
        let why: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        assert_eq!(why[0], "stays at 6 replicas");
        assert!(
            why[1].contains("s0-prometheus") && why.len() == 4,
            "{why:?}"
        );
        let rest: Vec<&str> = lines.collect();
        let expected = [
            "Conditions:",
            "  TYPE          STATUS   REASON                MESSAGE",
            "  AbleToScale   True     ScaleDownStabilized   held",
            "",
            "Changes:",
            "  AGE   REPLICAS               WHY",
            "  70s   3 -> 6 (not written)   cpu resource above target; 9 wanted, 6 is the most",
            "  31m   stays at 3             the triggers' values",
            "  Changes of 1.2 s, 11m ago, may be missing: this replica was not told of them",
        ];
        assert_eq!(rest, expected);
    }

    #[test]
    fn changes_that_are_not_shown_are_counted() {
        assert!(
            explain(1).contains("\n  1 more are kept; --changes 2 shows them\n"),
            "{}",
            explain(1)
        );
    }
}
