//! A custom resource with a scale subresource, and nothing behind it.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{Bed, until, within};

impl Bed {
    /// Defines `fleets.e2e.neap.dev`, whose spec.replicas is all that scaling it changes.
    ///
    /// # Errors
    /// When it is not served within half a minute.
    pub async fn apply_crd(&self) -> Result<()> {
        let name = "fleets.e2e.neap.dev";
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {
                "group": "e2e.neap.dev",
                "scope": "Namespaced",
                "names": {"kind": "Fleet", "plural": "fleets", "singular": "fleet"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                        "status": {"type": "object", "properties": {
                            "replicas": {"type": "integer"}, "selector": {"type": "string"}}},
                    }}},
                    "subresources": {"scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    }},
                }],
            },
        });
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        api.patch(
            name,
            &PatchParams::apply("e2e").force(),
            &Patch::Apply(&definition),
        )
        .await?;
        until("the CRD being served", Duration::from_secs(30), || async {
            let seen = api
                .get(name)
                .await?
                .status
                .and_then(|s| s.conditions)
                .unwrap_or_default();
            within(seen, |all| {
                all.iter()
                    .any(|c| c.type_ == "Established" && c.status == "True")
            })
        })
        .await?;
        Ok(())
    }

    /// Waits until a Fleet asks for `want` replicas.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn await_fleet(
        &self,
        namespace: &str,
        name: &str,
        limit: Duration,
        want: i64,
    ) -> Result<()> {
        let api = self.objects("e2e.neap.dev/v1", "Fleet", namespace)?;
        until(
            &format!("replicas of fleet {namespace}/{name}"),
            limit,
            || async {
                within(
                    api.get(name).await?.data["spec"]["replicas"].as_i64(),
                    |n| *n == Some(want),
                )
            },
        )
        .await?;
        Ok(())
    }
}
