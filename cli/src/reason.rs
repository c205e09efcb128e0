//! Why a number changed, in one line.

use neap_engine::{Bound, Direction, Event, Step};

/// What the event of the change says, and what held the number back on its way.
pub(crate) fn of(events: &[Event], steps: &[Step]) -> String {
    let said = events.last().map(|event| {
        let message = event.message.as_str();
        message
            .split_once("; reason: ")
            .map_or(message, |(_, reason)| reason)
    });
    let said = said.filter(|said| !said.is_empty()).map(str::to_owned);
    let parts: Vec<String> = said
        .into_iter()
        .chain(steps.iter().filter_map(held))
        .collect();
    if parts.is_empty() {
        "the triggers' values".to_owned()
    } else {
        parts.join("; ")
    }
}

fn held(step: &Step) -> Option<String> {
    let by = |direction: &Direction, text: &str| {
        let name = match direction {
            Direction::Up => "scaleUp",
            Direction::Down => "scaleDown",
        };
        text.replace("{}", name)
    };
    Some(match step {
        Step::Stabilized {
            direction,
            from,
            to,
            ..
        } if from != to => {
            format!("{from} wanted, {to} {}", by(direction, "by the {} window"))
        }
        Step::Limited {
            direction,
            from,
            to,
            ..
        } => {
            format!(
                "{from} wanted, {to} {}",
                by(direction, "by the {} policies")
            )
        }
        Step::LimitedToDouble { from, to } => format!("{from} wanted, {to} at most at once"),
        Step::Clamped {
            from,
            to,
            side: Bound::Max,
        } => format!("{from} wanted, {to} is the most"),
        Step::Clamped {
            from,
            to,
            side: Bound::Min,
        } => format!("{from} wanted, {to} is the fewest"),
        Step::RaisedToMin { to, .. } => format!("{to} is the fewest"),
        _ => return None,
    })
}
