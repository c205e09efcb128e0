//! The StatefulSet that this pod belongs to. It is asked for what may change while pods run: in the
//! pod template, each change would restart every pod, and without claims take its disk.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;

/// Annotation of the StatefulSet itself: the survivor to go on from after a lost majority.
pub const RECOVER: &str = "neap.dev/recover";
/// Bound of one question.
const ASK: Duration = Duration::from_secs(3);
/// Between two looks whether something else is wanted.
const LOOK: Duration = Duration::from_secs(5);
/// The coordinators' pods.
const PODS: &str = "app.kubernetes.io/name=neap-coordinator";
/// More pods than a StatefulSet of coordinators has.
const MAX_PODS: u32 = 100;
/// Wait before the next question where the first answer is waited for.
const PAUSE: Duration = Duration::from_secs(2);

/// What the StatefulSet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Ordinals of the pods that are wanted.
    pub ordinals: Range<i32>,
    /// It is being deleted, and its cluster with it.
    pub is_deleted: bool,
    /// The annotation [`RECOVER`], as it stands there.
    pub recover: Option<String>,
}

/// Who may be there when a pod starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// Ordinals of the pods that are wanted.
    pub ordinals: Range<i32>,
    /// Names of the pods that are there and not wanted any more.
    pub leaving: Vec<String>,
}

/// The StatefulSet said nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is none of this name.
    #[error("it is not there")]
    Gone,
    /// No answer in time.
    #[error("the API server did not answer within {0:?}")]
    Silent(Duration),
    /// The API server refused, or cannot be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// Asks for this pod's StatefulSet.
#[derive(Clone)]
pub struct OwnSet {
    sets: Api<StatefulSet>,
    pods: Api<Pod>,
    name: String,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for OwnSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnSet")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl OwnSet {
    /// Of the pod that `config` names.
    pub fn new(client: Client, clock: Arc<dyn Clock>, config: &Config) -> Self {
        Self {
            sets: Api::namespaced(client.clone(), &config.namespace),
            pods: Api::namespaced(client, &config.namespace),
            name: config.stateful_set().to_owned(),
            clock,
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(&self) -> Result<Wanted, AskError> {
        let set = self.bounded(self.sets.get_opt(&self.name)).await?;
        set.as_ref().and_then(wanted).ok_or(AskError::Gone)
    }

    async fn bounded<T>(
        &self,
        asking: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, AskError> {
        tokio::select! {
            answer = asking => Ok(answer?),
            () = self.clock.sleep_until(self.clock.boottime() + ASK) => Err(AskError::Silent(ASK)),
        }
    }

    async fn beginning(&self) -> Result<Beginning, AskError> {
        let Wanted { ordinals, .. } = self.ask().await?;
        let params = ListParams::default().labels(PODS).limit(MAX_PODS);
        let pods = self.bounded(self.pods.list(&params)).await?;
        let names = pods.items.iter().map(ResourceExt::name_any);
        let leaving = names.filter(|name| {
            let ordinal = self.ordinal(name);
            ordinal.is_some_and(|ordinal| !ordinals.contains(&ordinal))
        });
        Ok(Beginning {
            leaving: leaving.collect(),
            ordinals,
        })
    }

    /// Asks until it is known who may be there; `None` if `shutdown` is cancelled before.
    pub async fn wait(&self, shutdown: &CancellationToken) -> Option<Beginning> {
        let asking = async {
            let mut said = String::new();
            loop {
                let error = match self.beginning().await {
                    Ok(beginning) => return beginning,
                    Err(error) => error.to_string(),
                };
                if error != said {
                    tracing::warn!(set = self.name, %error, retry_in = ?PAUSE, "cannot read the StatefulSet and its pods yet");
                    said = error;
                }
                self.clock.sleep_until(self.clock.boottime() + PAUSE).await;
            }
        };
        shutdown.run_until_cancelled(asking).await
    }

    /// Ends once other pods are wanted than `ordinals`. Asks each 5 s, and says nothing of questions in vain.
    pub async fn changes(&self, ordinals: &Range<i32>) -> Range<i32> {
        loop {
            self.clock.sleep_until(self.clock.boottime() + LOOK).await;
            match self.ask().await {
                Ok(wanted) if wanted.ordinals != *ordinals => return wanted.ordinals,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Ordinal of the pod `name`, where it is one of this set.
    pub fn ordinal(&self, name: &str) -> Option<i32> {
        let ordinal = name.strip_prefix(&self.name)?.strip_prefix('-')?;
        ordinal.parse().ok()
    }
}

/// `None` for one without a spec, which the API server never gives.
fn wanted(set: &StatefulSet) -> Option<Wanted> {
    let spec = set.spec.as_ref()?;
    let first = spec.ordinals.as_ref().and_then(|from| from.start);
    let first = first.unwrap_or(0);
    Some(Wanted {
        ordinals: first..first.saturating_add(spec.replicas.unwrap_or(1)),
        is_deleted: set.metadata.deletion_timestamp.is_some(),
        recover: set.annotations().get(RECOVER).cloned(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::{Boottime, ManualClock, SystemClock};
    use crate::testing::api_server::ApiServer;

    /// Where it is asked for.
    pub(crate) const SET: &str = "/apis/apps/v1/namespaces/neap/statefulsets/neap-coordinator";
    const PODS_PATH: &str = "/api/v1/namespaces/neap/pods";

    /// A StatefulSet with this spec.
    pub(crate) fn set(spec: Value) -> Value {
        json!({"metadata": {"name": "neap-coordinator"}, "spec": spec})
    }

    /// What a pod of this ordinal is told.
    pub(crate) fn config(ordinal: u32) -> Config {
        let pod = format!("neap-coordinator-{ordinal}");
        Config::try_parse_from(["x", "--namespace", "neap", "--pod-name", &pod]).unwrap()
    }

    fn own(clock: Arc<dyn Clock>) -> (ApiServer, OwnSet) {
        let (server, client) = ApiServer::new();
        (server, OwnSet::new(client, clock, &config(0)))
    }

    #[tokio::test]
    async fn it_says_which_pods_are_wanted_and_what_to_recover_from() {
        let (server, own) = own(Arc::new(SystemClock));
        for (spec, ordinals) in [
            (json!({"replicas": 3}), 0..3),
            (json!({"replicas": 0}), 0..0),
            (json!({}), 0..1),
            (json!({"replicas": 3, "ordinals": {"start": 2}}), 2..5),
        ] {
            server.get(SET, set(spec.clone()));
            let said = Wanted {
                ordinals,
                is_deleted: false,
                recover: None,
            };
            assert_eq!(own.ask().await.unwrap(), said, "{spec}");
        }
        let mut going = set(json!({"replicas": 3, "template": {
            "metadata": {"annotations": {RECOVER: "of the pods, not of the set"}},
        }}));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        server.get(SET, going.clone());
        let said = own.ask().await.unwrap();
        assert_eq!((said.is_deleted, said.recover), (true, None));
        going["metadata"]["annotations"] = json!({RECOVER: "a.1@neap-coordinator-1"});
        server.get(SET, going);
        let said = own.ask().await.unwrap();
        assert_eq!(said.recover.as_deref(), Some("a.1@neap-coordinator-1"));
    }

    #[tokio::test]
    async fn pods_of_other_sets_have_no_ordinal_here() {
        let (_server, own) = own(Arc::new(SystemClock));
        assert_eq!(own.ordinal("neap-coordinator-12"), Some(12));
        for name in ["neap-coordinator", "neap-coordinator-x", "other-1", ""] {
            assert_eq!(own.ordinal(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn the_first_answer_is_waited_for() {
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let (server, own) = own(Arc::new(clock.clone()));
        assert!(matches!(own.ask().await, Err(AskError::Gone)));
        let shutdown = CancellationToken::new();
        let waiting = {
            let (own, shutdown) = (own.clone(), shutdown.clone());
            tokio::spawn(async move { own.wait(&shutdown).await })
        };
        server.asked(SET, 2).await;
        let pod = |name: &str| json!({"metadata": {"name": name}});
        let pods = ["neap-coordinator-4", "neap-coordinator-5", "other-9"].map(pod);
        server.get(PODS_PATH, json!({"metadata": {}, "items": pods}));
        server.get(SET, set(json!({"replicas": 5})));
        while !waiting.is_finished() {
            clock.advance(PAUSE);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let beginning = Beginning {
            ordinals: 0..5,
            leaving: vec!["neap-coordinator-5".to_owned()],
        };
        assert_eq!(waiting.await.unwrap(), Some(beginning));

        server.fail(SET, 403);
        shutdown.cancel();
        assert_eq!(own.wait(&shutdown).await, None);
    }
}
