//! How old an answer is that another replica than the leader gives.

use std::time::Duration;

use crate::answers::AsOf;
use crate::duration;

/// A leader tells the others each second; an answer that is older than this is worth a word.
const FRESH: Duration = Duration::from_secs(5);

/// Says on standard error that an answer is old, or that nothing was known to give one from.
pub(crate) fn warn(as_of: Option<&AsOf>) {
    if let Some(text) = warning(as_of) {
        eprintln!("{text}");
    }
}

fn warning(as_of: Option<&AsOf>) -> Option<String> {
    match as_of {
        None => Some(
            "warning: the replica that answers has heard of no leader yet; what was decided is not known to it"
                .to_owned(),
        ),
        Some(as_of) if age(as_of) > FRESH => Some(format!(
            "warning: this is what {} told {} ago, and nothing was heard of it since",
            leader(as_of),
            duration::format(age(as_of))
        )),
        Some(_) => None,
    }
}

/// How old it is.
pub(crate) fn age(as_of: &AsOf) -> Duration {
    Duration::from_millis(as_of.age_millis)
}

/// Who told it: `the leader NAME`.
pub(crate) fn leader(as_of: &AsOf) -> String {
    let name = as_of.name.as_deref().filter(|name| !name.is_empty());
    format!("the leader {}", name.unwrap_or(&as_of.leader))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_answer_is_said_to_be_old() {
        let of = |age_millis| AsOf {
            leader: "3.1".to_owned(),
            name: Some("neap-coordinator-1".to_owned()),
            age_millis,
        };
        assert_eq!(warning(Some(&of(0))), None);
        assert_eq!(warning(Some(&of(4_000))), None);
        let old = warning(Some(&of(95_000))).unwrap();
        assert!(
            old.contains("the leader neap-coordinator-1 told 1m35s ago"),
            "{old}"
        );
        let never = warning(None).unwrap();
        assert!(never.contains("heard of no leader yet"), "{never}");
    }
}
