//! Targets read one by one: where no watch covers them, or a watch cannot tell their scale.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::Api;
use kube::core::DynamicObject;
use tokio_util::sync::CancellationToken;

use super::facts::{scale_facts, template_of, workload_facts};
use super::follow::Targets;
use super::shared::{Shared, lock};
use crate::keys::TargetRef;
use crate::source::kube::lean::LeanWorkload;
use crate::source::kube::scope::covers;
use crate::world::{TargetProblem, TargetState};

/// How often a target that cannot be watched is read.
const READ_EACH: Duration = Duration::from_secs(15);
/// Reads at once.
const READS: usize = 8;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

impl Targets {
    /// Reads objects one by one: those asked for, and each 15 s those that no watch covers.
    pub(super) async fn read(&self, shared: Arc<Shared>, stop: CancellationToken) {
        let mut next_round = self.clock.boottime() + READ_EACH;
        loop {
            let due = async {
                tokio::select! {
                    () = shared.read_now.notified() => false,
                    () = self.clock.sleep_until(next_round) => true,
                }
            };
            let Some(round) = stop.run_until_cancelled(due).await else {
                return;
            };
            if round {
                next_round = self.clock.boottime() + READ_EACH;
                let unwatched = lock(&shared.unwatched).clone();
                let objects: Vec<_> = lock(&shared.wanted).keys().cloned().collect();
                let uncovered = objects.into_iter().filter(|(namespace, _)| {
                    unwatched
                        .iter()
                        .any(|part| covers(part.as_deref(), namespace))
                });
                lock(&shared.to_read).extend(uncovered);
            }
            let objects = std::mem::take(&mut *lock(&shared.to_read));
            let reads = futures::stream::iter(objects)
                .map(|(namespace, name)| self.read_one(&shared, namespace, name))
                .buffer_unordered(READS)
                .for_each(|()| std::future::ready(()));
            if stop.run_until_cancelled(reads).await.is_none() {
                return;
            }
        }
    }

    async fn read_one(&self, shared: &Shared, namespace: Arc<str>, name: Arc<str>) {
        let ids = shared.wanted(&namespace, &name);
        let Some(first) = ids.first() else { return };
        let reference = TargetRef {
            namespace: namespace.clone(),
            group: shared.resource.group.clone(),
            version: shared.resource.version.clone(),
            kind: shared.resource.kind.clone(),
            name: name.clone(),
        };
        let known_template = match self.world.target(&reference) {
            TargetState::Found(facts) => facts.template.clone(),
            _ => None,
        };
        let reading = async {
            let resource = shared.api_resource();
            if shared.is_workload() {
                let api: Api<LeanWorkload> =
                    Api::namespaced_with(self.client.clone(), &namespace, &resource);
                api.get(&name)
                    .await
                    .map(|object| workload_facts(&shared.resource, &object))
            } else {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.client.clone(), &namespace, &resource);
                let scale = api.get_scale(&name).await?;
                // The object itself need not be readable; then variables of its template are unknown.
                let template = match known_template {
                    Some(template) => Some(template),
                    None => api
                        .get_opt(&name)
                        .await
                        .ok()
                        .flatten()
                        .and_then(|object| template_of(&object)),
                };
                Ok(Some(scale_facts(&shared.resource, &scale, template)))
            }
        };
        let seen = match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(Some(mut facts))) => {
                facts.last_writer = shared.last_writer(&(namespace, name), facts.last_writer);
                TargetState::Found(Arc::new(facts))
            }
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                let problem = problem_of(shared, &namespace, &name, &error);
                let passing = matches!(problem, TargetProblem::Unreadable { .. });
                if passing && !matches!(self.world.target(&reference), TargetState::Pending) {
                    return;
                }
                TargetState::Unavailable(Arc::new(problem))
            }
            Err(_) => TargetState::Unavailable(Arc::new(TargetProblem::Unreadable {
                target: first.to_string(),
                reason: format!("no answer within {} s", READ_TIMEOUT.as_secs()),
            })),
        };
        for id in &ids {
            self.world.apply_target(id, seen.clone());
        }
    }
}

fn problem_of(shared: &Shared, namespace: &str, name: &str, error: &kube::Error) -> TargetProblem {
    match error {
        kube::Error::Api(status) if status.code == 404 => shared.not_found(namespace, name),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => TargetProblem::Forbidden {
            resource: format!("{}.{}", shared.resource.plural, shared.resource.group),
            reason: status.message.clone(),
        },
        error => TargetProblem::Unreadable {
            target: format!("{} {namespace}/{name}", shared.resource.kind),
            reason: error.to_string(),
        },
    }
}
