//! [`FolderSource`]: the folder as a source of objects.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio_util::sync::CancellationToken;

use super::object::{Kind, Manifest, ObjectId};
use super::read::{Changed, Folder, FolderError};
use crate::clock::{Boottime, Clock};
use crate::keys::TargetKey;
use crate::local::{LocalObjects, Place, Reports};
use crate::source::{ObjectSource, SourceError};
use crate::world::{ObjectKind, World};

/// How often the folder is looked at. Every file system tells of changes this way.
const LOOK_EACH: Duration = Duration::from_millis(500);

/// The kinds that a folder gives, or never has.
const KINDS: [ObjectKind; 5] = [
    ObjectKind::ScaledObjects,
    ObjectKind::TriggerAuthentications,
    ObjectKind::ClusterTriggerAuthentications,
    ObjectKind::Hpas,
    ObjectKind::KedaLease,
];

/// Fills a world, and the objects beside it, from a folder of manifests.
pub struct FolderSource {
    path: PathBuf,
    objects: Arc<LocalObjects>,
    reports: Reports,
    clock: Arc<dyn Clock>,
    /// Where each ScaledObject stands.
    places: Mutex<std::collections::BTreeMap<TargetKey, Place>>,
    began: jiff::Timestamp,
}

impl std::fmt::Debug for FolderSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderSource")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FolderSource {
    /// Reads `path`. Workloads, Services, Secrets and ConfigMaps go to `objects`, faults to `reports`.
    ///
    /// # Errors
    /// The folder cannot be read, or holds no manifests: said before anything is started.
    pub fn new(
        path: PathBuf,
        objects: Arc<LocalObjects>,
        reports: Reports,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FolderError> {
        Folder::new(path.clone()).look()?;
        Ok(Self {
            path,
            objects,
            reports,
            began: clock.wall(),
            clock,
            places: Mutex::default(),
        })
    }

    /// Where a ScaledObject stands.
    pub fn place(&self, key: &TargetKey) -> Option<Place> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(key).cloned()
    }

    fn apply(&self, world: &World, changed: Changed) {
        for id in changed.removed {
            self.remove(world, &id);
        }
        for subject in changed.mended {
            self.reports.mended(&subject);
        }
        for (id, (object, place)) in changed.applied {
            self.apply_one(world, &id, object, place);
            self.reports.mended(&id.to_string());
        }
        for (id, fault) in changed.faults {
            if let Some(id) = id.filter(|id| id.kind == Kind::ScaledObject) {
                world.apply_unreadable_scaled_object(&id.key, &fault.to_string());
            }
            self.reports.fault(fault);
        }
    }

    fn apply_one(&self, world: &World, id: &ObjectId, object: Manifest, place: Place) {
        let key = id.key.clone();
        match object {
            Manifest::Secret(data) => self.objects.set_secret(key, Some(data)),
            Manifest::ConfigMap(data) => self.objects.set_config_map(key, Some(data)),
            Manifest::Service(service) => self.objects.apply_service(key, *service, place),
            Manifest::Workload(workload) => {
                for field in workload.without_effect() {
                    self.reports
                        .note(format!("{place}: {id}: {field} has no effect here"));
                }
                self.objects.apply_workload(*workload);
            }
            Manifest::TriggerAuthentication(object) => world.apply_authentication(*object),
            Manifest::ClusterTriggerAuthentication(object) => {
                world.apply_cluster_authentication(*object);
            }
            Manifest::ScaledObject(mut object) => {
                object.metadata.creation_timestamp = Some(Time(self.began));
                let known = world.scaled_object(&key);
                let generation = known.map_or(1, |known| {
                    let former = known.object.metadata.generation.unwrap_or(0);
                    former + i64::from(known.object.spec != object.spec)
                });
                object.metadata.generation = Some(generation);
                let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
                places.insert(key, place);
                drop(places);
                world.apply_scaled_object(*object);
            }
        }
    }

    fn remove(&self, world: &World, id: &ObjectId) {
        let key = &id.key;
        self.reports.mended(&id.to_string());
        if let Some(workload) = id.workload() {
            return self.objects.remove_workload(&workload);
        }
        match id.kind {
            Kind::Secret => self.objects.set_secret(key.clone(), None),
            Kind::ConfigMap => self.objects.set_config_map(key.clone(), None),
            Kind::Service => self.objects.remove_service(key),
            Kind::TriggerAuthentication => world.remove_authentication(key),
            Kind::ClusterTriggerAuthentication => world.remove_cluster_authentication(&key.name),
            Kind::ScaledObject => world.remove_scaled_object(key),
            Kind::Deployment | Kind::StatefulSet => {}
        }
    }

    async fn follow(&self, world: &World, shutdown: CancellationToken) {
        let mut folder = Folder::new(self.path.clone());
        let mut failing: Option<Boottime> = None;
        loop {
            match folder.look() {
                Ok(changed) => {
                    self.apply(world, changed);
                    if failing.take().is_some() {
                        self.reports.mended("folder");
                    }
                    KINDS.into_iter().for_each(|kind| world.mark_synced(kind));
                }
                Err(error) => {
                    let since = *failing.get_or_insert_with(|| self.clock.boottime());
                    for kind in KINDS {
                        world.mark_failing(kind, since, &error.to_string());
                    }
                    self.reports.fault(crate::local::Fault {
                        subject: "folder".to_owned(),
                        place: Place {
                            file: self.path.display().to_string(),
                            line: None,
                        },
                        field: None,
                        message: error.to_string(),
                        advice: "what stood in it stays in force until it can be read again"
                            .to_owned(),
                    });
                }
            }
            let until = self.clock.boottime() + LOOK_EACH;
            if shutdown
                .run_until_cancelled(self.clock.sleep_until(until))
                .await
                .is_none()
            {
                return;
            }
        }
    }
}

impl ObjectSource for FolderSource {
    fn run(
        self: Arc<Self>,
        world: Arc<World>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            self.follow(&world, shutdown).await;
            Ok(())
        })
    }
}
