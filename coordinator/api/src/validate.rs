//! What an object must be for Neap to act on it: KEDA's admission rules, with its reasons and
//! texts, as pure functions over the object and what stands beside it in its namespace. The
//! controller applies them to every object it reads; admission webhooks answer with the same.
//!
//! Rules are applied in a fixed order and all refusals are given, first the one to show.

mod authentication;
mod behavior;
mod fallback;
mod names;
mod owners;
mod refusal;
mod replicas;
mod requests;
mod scaling_modifiers;
mod surroundings;
mod triggers;
mod warnings;

pub use authentication::trigger_authentication;
pub use names::MAX_LABEL_VALUE_LENGTH;
pub use refusal::{Reason, Refusal};
pub use requests::never_from_zero;
pub use surroundings::{
    ContainerResources, HpaSummary, NamespaceDefaults, ScaledObjectSummary, Surroundings, Workload,
};
pub use warnings::scaled_object as scaled_object_warnings;

use kube::Resource;
use kube::core::object::HasSpec;

use crate::scaled_job::ScaledJob;
use crate::scaled_object::ScaledObject;

/// Which of the rules apply to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// A dry run: the target need not exist yet, so its containers are not looked at.
    pub dry_run: bool,
}

/// Everything that is wrong with a ScaledObject; empty if it can be acted on.
pub fn scaled_object(so: &ScaledObject, around: &Surroundings, request: Request) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    triggers::check(&so.spec.triggers, &mut refusals);
    replicas::check(&so.spec, &mut refusals);
    names::check(so, &mut refusals);
    fallback::check(&so.spec, &mut refusals);
    scaling_modifiers::check(&so.spec, &mut refusals);
    behavior::check(&so.spec, &mut refusals);
    owners::check(so, around, &mut refusals);
    if !request.dry_run {
        requests::check(so, around, &mut refusals);
    }
    refusals
}

/// Everything that is wrong with a ScaledJob; empty if it can be acted on.
pub fn scaled_job(sj: &ScaledJob) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    triggers::check(&sj.spec.triggers, &mut refusals);
    refusals
}

/// Whether an update only takes finalizers away. It is let through unchecked, so that an object
/// that has become wrong can still be deleted.
pub fn only_removes_finalizers<K>(old: &K, new: &K) -> bool
where
    K: Resource + HasSpec,
    K::Spec: PartialEq,
{
    let count = |object: &K| object.meta().finalizers.as_ref().map_or(0, Vec::len);
    count(new) < count(old) && new.spec() == old.spec()
}

#[cfg(test)]
mod validate_test;
