//! Scales of local workloads.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Scale, ScaleError, Scaler, Written};
use crate::clock::{Boottime, Clock};
use crate::keys::{LeaderId, TargetKey, TargetRef};
use crate::local::{LocalObjects, WorkloadId, WorkloadKind};

/// Sets how many processes a workload of the folder has.
#[derive(Debug)]
pub struct LocalScaler {
    objects: Arc<LocalObjects>,
    clock: Arc<dyn Clock>,
}

impl LocalScaler {
    /// Scales `objects`.
    pub fn new(objects: Arc<LocalObjects>, clock: Arc<dyn Clock>) -> Self {
        Self { objects, clock }
    }
}

/// The workload that a reference names.
///
/// # Errors
/// Its kind is not run here.
pub fn workload_id(target: &TargetRef) -> Result<WorkloadId, ScaleError> {
    let kind = match (&*target.group, target.kind.to_ascii_lowercase().as_str()) {
        ("apps", "deployment") => WorkloadKind::Deployment,
        ("apps", "statefulset") => WorkloadKind::StatefulSet,
        _ => {
            return Err(ScaleError::NoScaleSubresource {
                kind: format!("{}/{}.{}", target.group, target.version, target.kind),
            });
        }
    };
    Ok(WorkloadId {
        kind,
        key: TargetKey {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
        },
    })
}

impl Scaler for LocalScaler {
    fn read<'a>(&'a self, target: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async move { self.objects.scale(&workload_id(target)?) })
    }

    fn write<'a>(
        &'a self,
        target: &'a TargetRef,
        replicas: i32,
        resource_version: &'a str,
        _: LeaderId,
        deadline: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>> {
        Box::pin(async move {
            if deadline <= self.clock.boottime() {
                // What was decided under a lease that is over is not written.
                return Err(ScaleError::Timeout);
            }
            self.objects
                .set_scale(&workload_id(target)?, replicas, resource_version)
        })
    }
}
