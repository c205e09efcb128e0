//! From the kind that a ScaledObject names to the resource that the API server serves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList};

use crate::clock::{Boottime, Clock};
use crate::keys::TargetRef;
use crate::world::{ScaleResource, TargetProblem};

/// A kind that is missing is looked for again at most this often: a CRD may come later.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Group versions that are remembered at once; beyond it the oldest answers are dropped.
const MAX_GROUP_VERSIONS: usize = 256;

/// Remembers the resources of each group version that was asked for.
pub struct Discovery {
    client: kube::Client,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    kinds: Result<Arc<Vec<Kind>>, TargetProblem>,
    asked: Boottime,
}

#[derive(Debug)]
struct Kind {
    resource: Arc<ScaleResource>,
    singular: String,
    short_names: Vec<String>,
    namespaced: bool,
    has_scale: bool,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Discovery")
    }
}

impl Discovery {
    /// Nothing is known yet.
    pub fn new(client: kube::Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            clock,
            known: Mutex::default(),
        }
    }

    /// The resource of a target's kind. Kinds are found whatever their case, and by their plural,
    /// singular and short names.
    ///
    /// # Errors
    /// [`TargetProblem`]: the group version or the kind is unknown, or has no scale subresource.
    pub async fn resolve(&self, target: &TargetRef) -> Result<Arc<ScaleResource>, TargetProblem> {
        let api_version = if target.group.is_empty() {
            target.version.to_string()
        } else {
            format!("{}/{}", target.group, target.version)
        };
        let now = self.clock.boottime();
        let entry = self
            .known()
            .get(&api_version)
            .map(|entry| (entry.kinds.clone(), entry.asked));
        if let Some((kinds, asked)) = entry {
            let found = kinds.and_then(|kinds| find(&kinds, &api_version, target));
            if found.is_ok() || now.since(asked) < LOOK_AGAIN {
                return found;
            }
        }
        // Nobody waits for this answer but those who need it.
        let kinds = self.ask(&api_version).await;
        let found = kinds
            .clone()
            .and_then(|kinds| find(&kinds, &api_version, target));
        // An answer that did not come is no knowledge: the next caller asks again.
        if !matches!(kinds, Err(TargetProblem::Unreadable { .. })) {
            let mut known = self.known();
            if known.len() >= MAX_GROUP_VERSIONS
                && let Some(oldest) = known
                    .iter()
                    .min_by_key(|(_, entry)| entry.asked)
                    .map(|(key, _)| key.clone())
            {
                known.remove(&oldest);
            }
            known.insert(api_version, Known { kinds, asked: now });
        }
        found
    }

    // Each change under this lock is one removal or insertion: a panic leaves nothing half done.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, api_version: &str) -> Result<Arc<Vec<Kind>>, TargetProblem> {
        let list = if api_version.contains('/') {
            self.client.list_api_group_resources(api_version).await
        } else {
            self.client.list_core_api_resources(api_version).await
        };
        match list {
            Ok(list) => Ok(Arc::new(kinds_of(api_version, &list))),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(TargetProblem::UnknownApiVersion {
                    api_version: api_version.to_owned(),
                })
            }
            Err(error) => Err(TargetProblem::Unreadable {
                target: format!("the kinds of {api_version}"),
                reason: error.to_string(),
            }),
        }
    }
}

fn kinds_of(api_version: &str, list: &APIResourceList) -> Vec<Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let has_scale = |resource: &APIResource| {
        let scale = format!("{}/scale", resource.name);
        list.resources.iter().any(|other| other.name == scale)
    };
    list.resources
        .iter()
        .filter(|resource| !resource.name.contains('/'))
        .map(|resource| Kind {
            resource: Arc::new(ScaleResource {
                group: group.into(),
                version: version.into(),
                kind: resource.kind.as_str().into(),
                plural: resource.name.as_str().into(),
            }),
            singular: resource.singular_name.clone(),
            short_names: resource.short_names.clone().unwrap_or_default(),
            namespaced: resource.namespaced,
            has_scale: has_scale(resource),
        })
        .collect()
}

fn find(
    kinds: &[Kind],
    api_version: &str,
    target: &TargetRef,
) -> Result<Arc<ScaleResource>, TargetProblem> {
    let asked = target.kind.as_ref();
    let is = |name: &str| name.eq_ignore_ascii_case(asked);
    let found = kinds
        .iter()
        .find(|kind| is(&kind.resource.kind))
        .or_else(|| {
            kinds.iter().find(|kind| {
                is(&kind.resource.plural)
                    || is(&kind.singular)
                    || kind.short_names.iter().any(|name| is(name))
            })
        });
    let allowed = || {
        let mut names: Vec<&str> = kinds
            .iter()
            .filter(|kind| kind.has_scale)
            .map(|kind| kind.resource.kind.as_ref())
            .collect();
        names.sort_unstable();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let api_version = api_version.to_owned();
    match found {
        None => Err(TargetProblem::UnknownKind {
            api_version,
            kind: asked.to_owned(),
            allowed: allowed(),
        }),
        Some(kind) if !kind.namespaced => Err(TargetProblem::NotNamespaced {
            api_version,
            kind: kind.resource.kind.to_string(),
        }),
        Some(kind) if !kind.has_scale => Err(TargetProblem::NoScaleSubresource {
            api_version,
            kind: kind.resource.kind.to_string(),
            allowed: allowed(),
        }),
        Some(kind) => Ok(kind.resource.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::testing::api_server::ApiServer;
    use serde_json::json;

    fn apps() -> serde_json::Value {
        let resource = |name: &str, kind: &str, namespaced: bool| {
            json!({"name": name, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind, "verbs": ["get"],
                   "shortNames": if name == "statefulsets" { json!(["sts"]) } else { json!(null) }})
        };
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [
            resource("deployments", "Deployment", true), resource("deployments/scale", "Scale", true),
            resource("statefulsets", "StatefulSet", true), resource("statefulsets/scale", "Scale", true),
            resource("daemonsets", "DaemonSet", true), resource("clusterthings", "ClusterThing", false),
        ]})
    }

    fn target(kind: &str) -> TargetRef {
        TargetRef::new("shop", "apps/v1", kind, "web")
    }

    #[tokio::test]
    async fn kinds_are_found_whatever_their_case() {
        let (api, client) = ApiServer::new();
        api.get("/apis/apps/v1", apps());
        let clock = ManualClock::new(Boottime::from_micros(1), jiff::Timestamp::UNIX_EPOCH);
        let discovery = Discovery::new(client, Arc::new(clock.clone()));
        for kind in ["StatefulSet", "statefulset", "statefulsets", "sts"] {
            let found = discovery.resolve(&target(kind)).await.unwrap();
            assert_eq!(
                (found.plural.as_ref(), found.kind.as_ref()),
                ("statefulsets", "StatefulSet")
            );
        }
        let refused = |problem: TargetProblem| problem.to_string();
        assert_eq!(
            refused(discovery.resolve(&target("DaemonSet")).await.unwrap_err()),
            "scaleTargetRef.kind: DaemonSet of apps/v1 has no scale subresource; kinds with one there: Deployment, StatefulSet"
        );
        assert!(
            refused(discovery.resolve(&target("Rocket")).await.unwrap_err())
                .contains("\"Rocket\" is not a kind of apps/v1")
        );
        assert!(
            refused(
                discovery
                    .resolve(&target("ClusterThing"))
                    .await
                    .unwrap_err()
            )
            .contains("is not namespaced")
        );
        assert_eq!(api.count("/apis/apps/v1"), 1, "asked once");

        clock.advance(LOOK_AGAIN);
        discovery.resolve(&target("Rocket")).await.unwrap_err();
        discovery.resolve(&target("Rocket")).await.unwrap_err();
        discovery.resolve(&target("Deployment")).await.unwrap();
        assert_eq!(
            api.count("/apis/apps/v1"),
            2,
            "what is missing is looked for again, at a bounded rate"
        );
    }

    #[tokio::test]
    async fn an_unknown_version_is_named_and_a_silent_server_is_not_remembered() {
        let (api, client) = ApiServer::new();
        let clock = ManualClock::new(Boottime::from_micros(1), jiff::Timestamp::UNIX_EPOCH);
        let discovery = Discovery::new(client, Arc::new(clock));
        let problem = discovery
            .resolve(&TargetRef::new("x", "apps/v9", "Deployment", "web"))
            .await
            .unwrap_err();
        assert_eq!(
            problem,
            TargetProblem::UnknownApiVersion {
                api_version: "apps/v9".into()
            }
        );

        api.fail("/apis/apps/v1", 500);
        let problem = discovery.resolve(&target("Deployment")).await.unwrap_err();
        assert!(
            matches!(problem, TargetProblem::Unreadable { .. }),
            "{problem}"
        );
        api.get("/apis/apps/v1", apps());
        discovery.resolve(&target("Deployment")).await.unwrap();
    }
}
