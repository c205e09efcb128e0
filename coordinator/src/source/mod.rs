//! Where objects come from: the API server's watches, or a folder of manifests.
//!
//! An [`ObjectSource`] fills a [`World`](crate::world::World) and keeps it warm on every replica, follower or
//! leader. [`SecretReader`] is the one way to Secrets and ConfigMaps: by name, on demand, and
//! only for what a trigger names.

pub mod folder;
pub mod kube;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use neap_api::validate::NamespaceDefaults;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// A supplier of the objects that deciding needs.
pub trait ObjectSource: Send + Sync {
    /// Fills `world` and keeps it current until `shutdown` is cancelled.
    ///
    /// Losing the connection is not an error: the world keeps what it last knew, says through
    /// its own freshness how old that is, and the source reconnects with backoff.
    ///
    /// # Errors
    /// Only what no retry can mend, such as a kind that the source may not list at all.
    fn run(
        self: Arc<Self>,
        world: Arc<World>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// Why an object source ended.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source may not read a kind that nothing works without.
    #[error("not allowed to list and watch {kind}: {reason}")]
    Forbidden {
        /// Kind of the objects.
        kind: String,
        /// What the server answered.
        reason: String,
    },
    /// The source itself cannot be used, such as a folder that does not exist.
    #[error("object source cannot be used: {0}")]
    Unusable(String),
}

/// The keys and values of one Secret or ConfigMap.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Reads Secrets and ConfigMaps by name when a trigger's authentication or environment names
/// them. Implementations may cache as long as a poll that starts after a change sees it.
pub trait SecretReader: Send + Sync {
    /// Values of the Secret `namespace/name`; `None` when there is none.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>>;

    /// Values of the ConfigMap `namespace/name`; `None` when there is none.
    fn config_map<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>>;

    /// What the LimitRanges of `namespace` give to containers without requests. Nothing, where there are
    /// no such things.
    fn container_defaults<'a>(
        &'a self,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<NamespaceDefaults, ReadError>> {
        let _ = namespace;
        Box::pin(async { Ok(NamespaceDefaults::default()) })
    }
}

/// Why a Secret or ConfigMap could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// RBAC (or a setting such as `rbac.secrets: none`) does not allow it.
    #[error("not allowed to read {kind} {namespace}/{name}: {reason}")]
    Forbidden {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Namespace asked for.
        namespace: String,
        /// Name asked for.
        name: String,
        /// What the server answered.
        reason: String,
    },
    /// The server did not answer.
    #[error("cannot read {kind} {namespace}/{name}: {reason}")]
    Unreachable {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Namespace asked for.
        namespace: String,
        /// Name asked for.
        name: String,
        /// What went wrong.
        reason: String,
    },
}
