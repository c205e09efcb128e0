//! min, max and idle replicas against each other.

use super::{Reason, Refusal};
use crate::scaled_object::ScaledObjectSpec;

pub(super) fn check(spec: &ScaledObjectSpec, refusals: &mut Vec<Refusal>) {
    let max = spec.max_replicas();
    // KEDA compares an explicit 0 as 1, the floor of its HPA, but an absent minimum as 0: with
    // idleReplicaCount 0 the first passes and the second does not.
    let min = match spec.min_replica_count {
        Some(_) => spec.hpa_min_replicas(),
        None => 0,
    };
    if min > max {
        refusals.push(Refusal::new(
            Reason::IncorrectReplicas,
            format!("MinReplicaCount={min} must be less than MaxReplicaCount={max}"),
            "spec.minReplicaCount",
            min,
            format!("0 to spec.maxReplicaCount ({max})"),
        ));
    }
    if let Some(idle) = spec.idle_replica_count
        && idle >= min
    {
        refusals.push(Refusal::new(
            Reason::IncorrectReplicas,
            format!("IdleReplicaCount={idle} must be less than MinReplicaCount={min}"),
            "spec.idleReplicaCount",
            idle,
            "0 or more, and less than spec.minReplicaCount",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(idle: Option<i32>, min: Option<i32>, max: Option<i32>) -> Vec<String> {
        let spec = ScaledObjectSpec {
            idle_replica_count: idle,
            min_replica_count: min,
            max_replica_count: max,
            ..Default::default()
        };
        let mut refusals = Vec::new();
        check(&spec, &mut refusals);
        refusals.into_iter().map(|r| r.message).collect()
    }

    #[test]
    fn bounds() {
        assert!(refusals(None, None, None).is_empty());
        assert!(refusals(None, Some(3), Some(3)).is_empty());
        assert!(refusals(Some(0), Some(0), None).is_empty());
        assert_eq!(
            refusals(Some(0), None, None),
            ["IdleReplicaCount=0 must be less than MinReplicaCount=0"]
        );
        assert_eq!(
            refusals(None, Some(101), None),
            ["MinReplicaCount=101 must be less than MaxReplicaCount=100"]
        );
        assert_eq!(refusals(Some(5), Some(5), Some(4)).len(), 2);
    }
}
