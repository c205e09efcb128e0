//! Deciding without scaling.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Scale, ScaleError, Scaler, Written};
use crate::clock::Boottime;
use crate::keys::{LeaderId, TargetRef};

/// Reads what another scaler reads and refuses every write: all targets are decided and explained,
/// and none is scaled.
pub struct ObserveScaler {
    reads: Arc<dyn Scaler>,
}

impl std::fmt::Debug for ObserveScaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObserveScaler")
    }
}

impl ObserveScaler {
    /// Reads through `reads`.
    pub fn new(reads: Arc<dyn Scaler>) -> Self {
        Self { reads }
    }
}

impl Scaler for ObserveScaler {
    fn read<'a>(&'a self, target: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        self.reads.read(target)
    }

    fn write<'a>(
        &'a self,
        target: &'a TargetRef,
        replicas: i32,
        _: &'a str,
        _: LeaderId,
        _: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>> {
        Box::pin(async move {
            Err(ScaleError::Forbidden(format!(
                "{target} is observed; it would be set to {replicas} replicas"
            )))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neap_consensus::NodeId;

    struct Fixed;

    impl Scaler for Fixed {
        fn read<'a>(&'a self, _: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
            let scale = Scale {
                replicas: 3,
                status_replicas: 3,
                selector: None,
                resource_version: "1".into(),
            };
            Box::pin(async move { Ok(scale) })
        }

        fn write<'a>(
            &'a self,
            _: &'a TargetRef,
            _: i32,
            _: &'a str,
            _: LeaderId,
            _: Boottime,
        ) -> BoxFuture<'a, Result<Written, ScaleError>> {
            panic!("an observed target was written");
        }
    }

    #[tokio::test]
    async fn reads_pass_and_writes_do_not() {
        let scaler = ObserveScaler::new(Arc::new(Fixed));
        let target = TargetRef::new("shop", "apps/v1", "Deployment", "web");
        assert_eq!(scaler.read(&target).await.unwrap().replicas, 3);
        let leader = LeaderId {
            term: 1,
            node: NodeId(1),
        };
        let refused = scaler
            .write(&target, 5, "1", leader, Boottime::from_micros(1))
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("would be set to 5 replicas"),
            "{refused}"
        );
    }
}
