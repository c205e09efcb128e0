//! What handing back reads and writes on the API server.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Resource, ResourceExt, discovery};
use neap_api::{ScaledObject, TargetKind};
use serde::de::DeserializeOwned;

use super::convert::HANDED_BACK;
use crate::cluster::{Scope, from_api};
use crate::error::CliError;

/// Who writes: the same as every other write of Neap.
const FIELD_MANAGER: &str = "neap";
/// Lists come in pages of so many.
const PAGE: u32 = 500;

/// The part of the API server that is needed.
pub(super) struct Server {
    client: Client,
    /// The resources of kinds that were looked up.
    kinds: HashMap<GroupVersionKind, ApiResource>,
}

/// All HPAs of a namespace by what they scale.
pub(super) type HpasByTarget = BTreeMap<(String, TargetName), Vec<HorizontalPodAutoscaler>>;

/// Group, kind and name of a target; versions of one group are one target.
pub(super) type TargetName = (String, String, String);

/// Reduces a reference to what tells targets apart.
pub(super) fn target_name(reference: &CrossVersionObjectReference) -> TargetName {
    let kind = TargetKind::parse(
        reference.api_version.as_deref().unwrap_or_default(),
        &reference.kind,
    );
    (kind.group, kind.kind, reference.name.clone())
}

/// Whether an HPA was made by handing back.
pub(super) fn is_handed_back(hpa: &HorizontalPodAutoscaler) -> bool {
    hpa.labels().contains_key(HANDED_BACK)
}

impl Server {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            kinds: HashMap::new(),
        }
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// The ScaledObjects of `scope`. A name that is not there is an error, as with kubectl.
    pub(super) async fn scaled_objects(
        &self,
        scope: &Scope,
    ) -> Result<Vec<ScaledObject>, CliError> {
        let api = self.api::<ScaledObject>(scope.namespace.as_deref());
        if scope.names.is_empty() {
            return list(&api, scope.selector.as_deref()).await;
        }
        let mut found = Vec::new();
        for name in &scope.names {
            found.push(api.get(name).await.map_err(from_api)?);
        }
        Ok(found)
    }

    /// The HPAs of `scope` that were handed back, and of these names only where names are given.
    pub(super) async fn handed_back(
        &self,
        scope: &Scope,
    ) -> Result<Vec<HorizontalPodAutoscaler>, CliError> {
        let api = self.api::<HorizontalPodAutoscaler>(scope.namespace.as_deref());
        let selector = match &scope.selector {
            Some(selector) => format!("{HANDED_BACK},{selector}"),
            None => HANDED_BACK.to_owned(),
        };
        let all = list(&api, Some(&selector)).await?;
        let of = |hpa: &HorizontalPodAutoscaler| {
            hpa.labels()
                .get(neap_api::keys::SCALED_OBJECT_NAME)
                .cloned()
        };
        let wanted = all.into_iter().filter(|hpa| {
            scope.names.is_empty() || of(hpa).is_some_and(|name| scope.names.contains(&name))
        });
        Ok(wanted.collect())
    }

    /// Every HPA of the namespace, or of all.
    pub(super) async fn hpas(&self, namespace: Option<&str>) -> Result<HpasByTarget, CliError> {
        let mut by_target = HpasByTarget::new();
        for hpa in list(&self.api::<HorizontalPodAutoscaler>(namespace), None).await? {
            let key = (
                hpa.namespace().unwrap_or_default(),
                target_name(&hpa.spec.scale_target_ref),
            );
            by_target.entry(key).or_default().push(hpa);
        }
        Ok(by_target)
    }

    /// The replicas that the target of `object` is to have now.
    pub(super) async fn replicas(&mut self, object: &ScaledObject) -> Result<i32, CliError> {
        let resource = self.resource(object).await?;
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &namespace, &resource);
        let name = &object.spec.scale_target_ref.name;
        let path = format!("{}/{name}/scale", api.resource_url());
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| CliError::client(format!("scaleTargetRef.name {name:?}: {error}")))?;
        let scale: Scale = self.client.request(request).await.map_err(from_api)?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))
    }

    /// The resource of the target's kind: as its status says it, or as the API server does.
    async fn resource(&mut self, object: &ScaledObject) -> Result<ApiResource, CliError> {
        let kind = object.spec.scale_target_ref.group_version_kind();
        let kind = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
        if let Some(known) = self.kinds.get(&kind) {
            return Ok(known.clone());
        }
        let of_status = object
            .status
            .as_ref()
            .and_then(|status| status.scale_target_gvkr.as_ref());
        let resource = match (kind.group.as_str(), of_status) {
            ("apps", _) => ApiResource::from_gvk(&kind),
            (_, Some(known))
                if known.kind == kind.kind
                    && known.group == kind.group
                    && !known.resource.is_empty() =>
            {
                ApiResource::from_gvk_with_plural(&kind, &known.resource)
            }
            _ => {
                discovery::pinned_kind(&self.client, &kind)
                    .await
                    .map_err(from_api)?
                    .0
            }
        };
        self.kinds.insert(kind, resource.clone());
        Ok(resource)
    }

    /// Creates `hpa`; it never takes the place of one that is there.
    pub(super) async fn create(
        &self,
        hpa: &HorizontalPodAutoscaler,
        dry_run: bool,
    ) -> Result<(), CliError> {
        let parameters = PostParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
        };
        let api = self.api::<HorizontalPodAutoscaler>(hpa.namespace().as_deref());
        api.create(&parameters, hpa)
            .await
            .map(|_| ())
            .map_err(from_api)
    }

    /// Deletes `hpa` as it was seen; one that is gone already is deleted.
    pub(super) async fn delete(
        &self,
        hpa: &HorizontalPodAutoscaler,
        dry_run: bool,
    ) -> Result<(), CliError> {
        let parameters = DeleteParams {
            dry_run,
            preconditions: Some(Preconditions {
                uid: hpa.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.api::<HorizontalPodAutoscaler>(hpa.namespace().as_deref());
        match api.delete(&hpa.name_any(), &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(from_api(error)),
        }
    }
}

/// All pages of a list.
async fn list<K>(api: &Api<K>, selector: Option<&str>) -> Result<Vec<K>, CliError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut parameters = ListParams::default().limit(PAGE);
    if let Some(selector) = selector {
        parameters = parameters.labels(selector);
    }
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await.map_err(from_api)?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}
