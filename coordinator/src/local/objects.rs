//! What the folder holds besides what is decided on: workloads with their scale, Services, Secrets
//! and ConfigMaps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Service;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::report::Place;
use super::workload::{Workload, WorkloadId};
use crate::keys::TargetKey;
use crate::scaler::{Scale, ScaleError, Written};
use crate::source::{Data, ReadError, SecretReader};

/// The file in the state folder that keeps scales over a restart, as an API server would.
const SCALES: &str = "scales.json";

/// A workload and its scale.
#[derive(Debug, Clone)]
pub struct Scaled {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The replicas it should have.
    pub replicas: i32,
    /// Changes with every change of the scale.
    pub version: u64,
    /// Changes with every change of the manifest.
    pub generation: i64,
    /// Pods that exist.
    pub existing: i32,
}

#[derive(Debug, Default)]
struct State {
    workloads: BTreeMap<WorkloadId, Scaled>,
    services: BTreeMap<TargetKey, (Arc<Service>, Place)>,
    secrets: BTreeMap<TargetKey, Data>,
    config_maps: BTreeMap<TargetKey, Data>,
    kept: BTreeMap<String, KeptScale>,
    next_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptScale {
    replicas: i32,
    declared: Option<i32>,
}

/// The objects, shared by the folder, the supervisor and the scaler.
#[derive(Debug)]
pub struct LocalObjects {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    file: PathBuf,
}

impl LocalObjects {
    /// None yet. Scales are kept in `state_dir`; those of an earlier run are taken up.
    ///
    /// # Errors
    /// What is kept there cannot be read.
    pub fn open(state_dir: &Path) -> std::io::Result<Arc<Self>> {
        let file = state_dir.join(SCALES);
        let kept = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("{}: {error}; remove the file to start anew", file.display()),
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Arc::new(Self {
            state: Mutex::new(State {
                kept,
                ..State::default()
            }),
            changed: watch::Sender::new(0),
            file,
        }))
    }

    // A panic under this lock leaves one object unchanged; going on is better than ending every reader.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Changes whenever an object or a scale does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Adds or replaces a workload. Its scale stays, unless the manifest now declares another one.
    pub fn apply_workload(&self, workload: Workload) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.next_version += 1;
        let name = workload.id.to_string();
        let kept = state.kept.get(&name);
        let replicas = match kept {
            Some(kept) if kept.declared == workload.declared => kept.replicas,
            _ => workload.declared.unwrap_or(1),
        };
        let generation = state
            .workloads
            .get(&workload.id)
            .map_or(1, |known| known.generation + 1);
        let existing = state
            .workloads
            .get(&workload.id)
            .map_or(0, |known| known.existing);
        let kept = KeptScale {
            replicas,
            declared: workload.declared,
        };
        state.kept.insert(name, kept);
        let scaled = Scaled {
            replicas,
            version: state.next_version,
            generation,
            existing,
            workload: Arc::new(workload),
        };
        state.workloads.insert(scaled.workload.id.clone(), scaled);
        self.keep(state);
        drop(guard);
        self.tell();
    }

    /// Removes a workload, and its scale with it.
    pub fn remove_workload(&self, id: &WorkloadId) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.workloads.remove(id);
        state.kept.remove(&id.to_string());
        self.keep(state);
        drop(guard);
        self.tell();
    }

    /// Adds or replaces a Service.
    pub fn apply_service(&self, key: TargetKey, service: Service, place: Place) {
        self.state()
            .services
            .insert(key, (Arc::new(service), place));
        self.tell();
    }

    /// Removes a Service.
    pub fn remove_service(&self, key: &TargetKey) {
        self.state().services.remove(key);
        self.tell();
    }

    /// Sets or removes a Secret.
    pub fn set_secret(&self, key: TargetKey, data: Option<Data>) {
        let mut state = self.state();
        match data {
            Some(data) => state.secrets.insert(key, data),
            None => state.secrets.remove(&key),
        };
        drop(state);
        self.tell();
    }

    /// Sets or removes a ConfigMap.
    pub fn set_config_map(&self, key: TargetKey, data: Option<Data>) {
        let mut state = self.state();
        match data {
            Some(data) => state.config_maps.insert(key, data),
            None => state.config_maps.remove(&key),
        };
        drop(state);
        self.tell();
    }

    /// All workloads, by kind and name.
    pub fn workloads(&self) -> Vec<Scaled> {
        self.state().workloads.values().cloned().collect()
    }

    /// One workload.
    pub fn workload(&self, id: &WorkloadId) -> Option<Scaled> {
        self.state().workloads.get(id).cloned()
    }

    /// All Services, by name, with where they stand.
    pub fn services(&self) -> Vec<(TargetKey, Arc<Service>, Place)> {
        let state = self.state();
        let services = state.services.iter();
        services
            .map(|(key, (service, place))| (key.clone(), service.clone(), place.clone()))
            .collect()
    }

    /// Values of a Secret.
    pub fn secret_of(&self, key: &TargetKey) -> Option<Data> {
        self.state().secrets.get(key).cloned()
    }

    /// Values of a ConfigMap.
    pub fn config_map_of(&self, key: &TargetKey) -> Option<Data> {
        self.state().config_maps.get(key).cloned()
    }

    /// Notes how many pods of a workload exist: its `status.replicas`.
    pub fn set_existing(&self, id: &WorkloadId, existing: i32) {
        // No new version: a write that was decided on a moment ago does not contradict it.
        if let Some(scaled) = self.state().workloads.get_mut(id) {
            scaled.existing = existing;
        }
    }

    /// The scale of a workload.
    ///
    /// # Errors
    /// There is none.
    pub fn scale(&self, id: &WorkloadId) -> Result<Scale, ScaleError> {
        let scaled = self.workload(id).ok_or(ScaleError::NotFound)?;
        Ok(Scale {
            replicas: scaled.replicas,
            status_replicas: scaled.existing,
            selector: None,
            resource_version: scaled.version.to_string(),
        })
    }

    /// Sets the scale of a workload, if it has not changed since `version`.
    ///
    /// # Errors
    /// There is none, or it has.
    pub fn set_scale(
        &self,
        id: &WorkloadId,
        replicas: i32,
        version: &str,
    ) -> Result<Written, ScaleError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let scaled = state.workloads.get_mut(id).ok_or(ScaleError::NotFound)?;
        if scaled.version.to_string() != version {
            return Err(ScaleError::Conflict);
        }
        if replicas < 0 {
            return Err(ScaleError::Forbidden(format!(
                "spec.replicas: {replicas} is below 0"
            )));
        }
        state.next_version += 1;
        scaled.version = state.next_version;
        scaled.replicas = replicas;
        let written = Written {
            replicas,
            resource_version: scaled.version.to_string(),
        };
        if let Some(kept) = state.kept.get_mut(&id.to_string()) {
            kept.replicas = replicas;
        }
        self.keep(state);
        drop(guard);
        self.tell();
        Ok(written)
    }

    /// Writes the scales. A disk that takes no more costs what is kept, not what runs.
    fn keep(&self, state: &State) {
        let bytes = serde_json::to_vec_pretty(&state.kept).unwrap_or_default();
        if let Err(error) = replace(&self.file, &bytes) {
            tracing::warn!(file = %self.file.display(), %error, "scales are not kept over a restart");
        }
    }
}

/// Writes a file whole or not at all.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, file)
}

impl SecretReader for LocalObjects {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async move { Ok(self.secret_of(&TargetKey::new(namespace, name))) })
    }

    fn config_map<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async move { Ok(self.config_map_of(&TargetKey::new(namespace, name))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::workload::{Parts, WorkloadKind};

    fn workload(replicas: Option<i32>) -> Workload {
        let object = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "app", "command": ["web"]}]},
                },
            },
        }))
        .unwrap();
        Workload::new(
            Parts::of_deployment(object),
            TargetKey::new("default", "web"),
            Place::default(),
            Place::default(),
            PathBuf::new(),
        )
        .unwrap()
    }

    #[test]
    fn a_scale_outlives_the_process_until_the_manifest_declares_another() {
        let dir = tempfile::tempdir().unwrap();
        let id = WorkloadId {
            kind: WorkloadKind::Deployment,
            key: TargetKey::new("default", "web"),
        };
        let objects = LocalObjects::open(dir.path()).unwrap();
        objects.apply_workload(workload(Some(2)));
        let scale = objects.scale(&id).unwrap();
        assert_eq!(scale.replicas, 2);
        assert_eq!(
            objects.set_scale(&id, 5, "0"),
            Err(ScaleError::Conflict),
            "another version"
        );
        let written = objects.set_scale(&id, 5, &scale.resource_version).unwrap();
        assert_eq!(written.replicas, 5);
        assert_eq!(
            objects.set_scale(&id, 6, &scale.resource_version),
            Err(ScaleError::Conflict)
        );

        let again = LocalObjects::open(dir.path()).unwrap();
        again.apply_workload(workload(Some(2)));
        assert_eq!(again.scale(&id).unwrap().replicas, 5);
        again.apply_workload(workload(Some(3)));
        assert_eq!(again.scale(&id).unwrap().replicas, 3, "declared anew");
        again.remove_workload(&id);
        assert_eq!(again.scale(&id), Err(ScaleError::NotFound));

        std::fs::write(dir.path().join(SCALES), "x").unwrap();
        let error = LocalObjects::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(SCALES) && error.contains("remove the file"),
            "{error}"
        );
    }
}
