//! Objects that are given whole rather than by a watch: the same facts of them.

use std::sync::Arc;

use serde_json::Value;

use super::lean::{LeanPod, LeanWorkload};
use super::pod_facts::PodTrimmer;
use super::targets::workload_facts;
use crate::world::{PodFacts, ScaleResource, TargetFacts};

/// Makes facts of objects.
#[derive(Debug, Default)]
pub(crate) struct Given {
    trimmer: PodTrimmer,
}

impl Given {
    /// The facts of a Pod as an API server would show it; `None` for what is none.
    pub(crate) fn pod(&mut self, pod: Value) -> Option<PodFacts> {
        let pod: LeanPod = serde_json::from_value(pod).ok()?;
        self.trimmer.trim(&pod)
    }

    /// The facts of a Deployment or StatefulSet; `None` for what is none.
    pub(crate) fn workload(
        &self,
        resource: &Arc<ScaleResource>,
        workload: Value,
    ) -> Option<TargetFacts> {
        let workload: LeanWorkload = serde_json::from_value(workload).ok()?;
        workload_facts(resource, &workload)
    }
}
