//! Spools on the wire.

use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::{self, Capabilities};

use crate::signals::{Spool, is_below_any};

/// Bounds of the contract.
const MAX_PATH: usize = 1_024;
const MAX_ROOTS: usize = 64;
const MAX_SPOOLS: usize = 64;
const MAX_PROBLEM: usize = 256;

/// A spool as it is named on the wire; none where the path is out of bounds.
pub(super) fn spool(path: &str, max_age_ms: u64) -> Option<Spool> {
    (path.starts_with('/') && path.len() <= MAX_PATH).then(|| Spool {
        path: path.into(),
        max_age: Some(Duration::from_millis(max_age_ms)).filter(|age| !age.is_zero()),
    })
}

/// The spools that an agent is asked for, which reads those below `roots`; and those that it would be
/// asked for, were there not too many.
pub(super) fn allowed(wanted: &[Spool], roots: &[Arc<str>]) -> (Vec<node::Spool>, Vec<Spool>) {
    let mut below = wanted
        .iter()
        .filter(|spool| is_below_any(&spool.path, roots));
    let asked = below.by_ref().take(MAX_SPOOLS).map(|spool| node::Spool {
        path: spool.path.to_string(),
        max_age_ms: spool
            .max_age
            .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        interval_ms: 0,
    });
    (asked.collect(), below.cloned().collect())
}

/// What is wrong with those that are too many.
pub(super) fn too_many() -> Arc<str> {
    format!("the node is asked for {MAX_SPOOLS} spools already: at most that many are allowed")
        .into()
}

/// Roots of one agent, as the contract bounds them; the rest is left out.
pub(super) fn roots(capabilities: Capabilities) -> Arc<[Arc<str>]> {
    capabilities
        .spool_roots
        .iter()
        .filter(|root| root.starts_with('/') && root.len() <= MAX_PATH)
        .take(MAX_ROOTS)
        .map(|root| Arc::from(root.as_str()))
        .collect()
}

/// What is wrong with a spool, for people, at most 256 bytes; none if nothing is.
pub(super) fn problem(text: &str) -> Option<Arc<str>> {
    let end = text.floor_char_boundary(MAX_PROBLEM);
    text.get(..end)
        .filter(|text| !text.is_empty())
        .map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_asked_for_the_spools_that_it_may_read() {
        let spool = |path: &str, max_age| Spool {
            path: path.into(),
            max_age,
        };
        let wanted = [
            spool("/srv/in", None),
            spool("/srv/inbox", None),
            spool("/srv/in/a", Some(Duration::from_secs(60))),
        ];
        let asked = |roots: &[&str]| -> Vec<(String, u64)> {
            let roots: Vec<Arc<str>> = roots.iter().map(|root| Arc::from(*root)).collect();
            let spools = allowed(&wanted, &roots).0.into_iter();
            spools.map(|spool| (spool.path, spool.max_age_ms)).collect()
        };
        assert_eq!(asked(&[]), []);
        assert_eq!(
            asked(&["/var", "/srv/in"]),
            [("/srv/in".into(), 0), ("/srv/in/a".into(), 60_000)]
        );
        let many: Vec<Spool> = (0..70).map(|n| spool(&format!("/{n}"), None)).collect();
        let (asked, beyond) = allowed(&many, &["/".into()]);
        assert_eq!(
            (asked.len(), beyond),
            (MAX_SPOOLS, many[MAX_SPOOLS..].to_vec())
        );
    }

    #[test]
    fn what_an_agent_says_is_bounded() {
        let long = format!("/{}", "x".repeat(MAX_PATH));
        assert_eq!(spool("relative", 0), None);
        assert_eq!(spool(&long, 0), None);
        assert_eq!(
            spool("/a", 1).and_then(|spool| spool.max_age),
            Some(Duration::from_millis(1))
        );
        let mut spool_roots = vec!["relative".to_owned(), long];
        spool_roots.extend((0..100).map(|n| format!("/{n}")));
        let capabilities = Capabilities {
            spool_roots,
            ..Capabilities::default()
        };
        let roots = roots(capabilities);
        assert_eq!((roots.len(), &*roots[0]), (MAX_ROOTS, "/0"));
        assert_eq!(problem(""), None);
        assert_eq!(problem(&"é".repeat(200)).map(|text| text.len()), Some(256));
    }
}
