//! Objects read by name, on demand: Secrets, ConfigMaps and LimitRanges.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Secret};
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use neap_api::validate::NamespaceDefaults;
use serde::de::DeserializeOwned;

use crate::source::{Data, ReadError, SecretReader};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads from the API server at each call. Nothing is kept: a rotated Secret is seen by the next
/// poll, and no value stays in memory longer than the poll that needs it.
#[derive(Clone)]
pub struct KubeReader {
    client: Client,
}

impl Debug for KubeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeReader")
    }
}

impl KubeReader {
    /// Reads through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The LimitRanges of a namespace: what they give to containers without requests.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn limit_ranges(&self, namespace: &str) -> Result<Vec<LimitRange>, ReadError> {
        let api: Api<LimitRange> = Api::namespaced(self.client.clone(), namespace);
        let params = ListParams::default().limit(100);
        let listed = tokio::time::timeout(TIMEOUT, api.list(&params)).await;
        match listed {
            Ok(Ok(list)) => Ok(list.items),
            Ok(Err(error)) => Err(read_error("LimitRange", namespace, "*", &error)),
            Err(_) => Err(no_answer("LimitRange", namespace, "*")),
        }
    }

    async fn get<K>(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ReadError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match tokio::time::timeout(TIMEOUT, api.get_opt(name)).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(error)) => Err(read_error(kind, namespace, name, &error)),
            Err(_) => Err(no_answer(kind, namespace, name)),
        }
    }
}

fn read_error(kind: &'static str, namespace: &str, name: &str, error: &kube::Error) -> ReadError {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => ReadError::Forbidden {
            kind,
            namespace,
            name,
            reason: status.message.clone(),
        },
        error => ReadError::Unreachable {
            kind,
            namespace,
            name,
            reason: error.to_string(),
        },
    }
}

fn no_answer(kind: &'static str, namespace: &str, name: &str) -> ReadError {
    ReadError::Unreachable {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        reason: format!("no answer within {} s", TIMEOUT.as_secs()),
    }
}

impl SecretReader for KubeReader {
    fn container_defaults<'a>(
        &'a self,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<NamespaceDefaults, ReadError>> {
        Box::pin(async move { Ok(self.limit_ranges(namespace).await?.iter().collect()) })
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async move {
            let secret: Option<Secret> = self.get("Secret", namespace, name).await?;
            Ok(secret.map(|secret| {
                secret
                    .data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.0))
                    .collect()
            }))
        })
    }

    fn config_map<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async move {
            let config_map: Option<ConfigMap> = self.get("ConfigMap", namespace, name).await?;
            Ok(config_map.map(|config_map| {
                let text = config_map
                    .data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.into_bytes()));
                let binary = config_map
                    .binary_data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.0));
                text.chain(binary).collect()
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api_server::{ApiServer, status};
    use axum::http::Method;
    use serde_json::json;

    #[tokio::test]
    async fn a_secret_is_read_by_name_each_time() {
        let (api, client) = ApiServer::new();
        let reader = KubeReader::new(client);
        let path = "/api/v1/namespaces/db/secrets/mysql";
        let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mysql"}, "data": {"password": value}});
        api.get(path, secret("b25l"));
        assert_eq!(
            reader
                .secret("db", "mysql")
                .await
                .unwrap()
                .unwrap()
                .get("password")
                .unwrap(),
            b"one"
        );
        api.get(path, secret("dHdv"));
        assert_eq!(
            reader
                .secret("db", "mysql")
                .await
                .unwrap()
                .unwrap()
                .get("password")
                .unwrap(),
            b"two"
        );
        assert!(reader.secret("db", "other").await.unwrap().is_none());
        api.handle(Method::GET, path, |_| {
            (
                403,
                vec![],
                status(403, "Forbidden", "secrets \"mysql\" is forbidden"),
            )
        });
        let error = reader.secret("db", "mysql").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "not allowed to read Secret db/mysql: secrets \"mysql\" is forbidden"
        );
    }

    #[tokio::test]
    async fn a_config_map_has_text_and_bytes() {
        let (api, client) = ApiServer::new();
        api.get(
            "/api/v1/namespaces/db/configmaps/settings",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
                   "data": {"host": "mysql.db"}, "binaryData": {"blob": "AAE="}}),
        );
        let data = KubeReader::new(client)
            .config_map("db", "settings")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(data.get("host").unwrap(), b"mysql.db");
        assert_eq!(data.get("blob").unwrap(), &[0, 1]);
    }
}
