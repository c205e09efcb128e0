//! What people should hear of: faults, with where they are and what to do, and what happens to
//! replicas and Services.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

/// Reports that wait for a slow reader; beyond them the oldest are lost to it.
const WAITING: usize = 1_024;

/// Where something stands in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What it is about: an object, a pod or a file.
    pub subject: String,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The field, where it is one field's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do, and what happens meanwhile.
    pub advice: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.subject)?;
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// What became of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplicaChange {
    /// A container's process was started.
    Started,
    /// It may get connections.
    Ready,
    /// It may not get connections any more.
    NotReady,
    /// A container's process ended without being asked to.
    Exited,
    /// It is being stopped.
    Stopping,
    /// It is gone.
    Stopped,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Report {
    /// A new fault, or one that reads differently now.
    Fault(Fault),
    /// A fault is over.
    Mended {
        /// What it was about.
        subject: String,
    },
    /// A replica changed.
    Replica {
        /// `KIND/NAMESPACE/NAME` of the workload.
        workload: String,
        /// Name of the pod.
        pod: String,
        /// What became of it.
        change: ReplicaChange,
        /// More about it: a process id, an exit status.
        #[serde(skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A Service's port is listened on.
    Listening {
        /// `NAMESPACE/NAME` of the Service.
        service: String,
        /// Where.
        address: String,
    },
    /// An event about a ScaledObject, as the API server would get it.
    #[serde(rename_all = "camelCase")]
    Event {
        /// `NAMESPACE/NAME`.
        scaled_object: String,
        /// A person should look.
        warning: bool,
        /// Reason in CamelCase.
        reason: String,
        /// What was done or found.
        message: String,
    },
    /// Something to know, such as what this machine does not allow.
    Note {
        /// What.
        message: String,
    },
}

/// Takes reports, and remembers which faults stand. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Reports {
    faults: Arc<Mutex<BTreeMap<String, Fault>>>,
    sender: broadcast::Sender<Report>,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            faults: Arc::default(),
            sender: broadcast::Sender::new(WAITING),
        }
    }
}

impl Reports {
    // Each change under this lock is one insertion or removal: a panic leaves nothing half done.
    fn faults(&self) -> MutexGuard<'_, BTreeMap<String, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, everything that is reported.
    pub fn subscribe(&self) -> broadcast::Receiver<Report> {
        self.sender.subscribe()
    }

    /// The faults that stand, by subject.
    pub fn standing(&self) -> Vec<Fault> {
        self.faults().values().cloned().collect()
    }

    /// `fault` stands. Said once as long as it reads the same.
    pub fn fault(&self, fault: Fault) {
        let former = self.faults().insert(fault.subject.clone(), fault.clone());
        if former.as_ref() != Some(&fault) {
            tracing::warn!("{fault}");
            self.say(Report::Fault(fault));
        }
    }

    /// Nothing is wrong with `subject` (any more).
    pub fn mended(&self, subject: &str) {
        if self.faults().remove(subject).is_some() {
            self.say(Report::Mended {
                subject: subject.to_owned(),
            });
        }
    }

    /// Reports.
    pub fn say(&self, report: Report) {
        // Fails while nobody listens.
        let _ = self.sender.send(report);
    }

    /// Reports something to know.
    pub fn note(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::info!("{message}");
        self.say(Report::Note { message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_said_once_and_mended_once() {
        let reports = Reports::default();
        let mut heard = reports.subscribe();
        let fault = Fault {
            subject: "Deployment default/web".into(),
            place: Place {
                file: "web.yaml".into(),
                line: Some(7),
            },
            field: Some("spec.replicas".into()),
            message: "it is below 0".into(),
            advice: "write 0 or more".into(),
        };
        reports.fault(fault.clone());
        reports.fault(fault.clone());
        assert_eq!(
            fault.to_string(),
            "web.yaml:7: Deployment default/web: spec.replicas: it is below 0; write 0 or more"
        );
        assert_eq!(heard.try_recv().unwrap(), Report::Fault(fault));
        assert!(heard.try_recv().is_err(), "said twice");
        assert_eq!(reports.standing().len(), 1);
        reports.mended("Deployment default/web");
        reports.mended("Deployment default/web");
        assert!(matches!(heard.try_recv(), Ok(Report::Mended { .. })));
        assert!(heard.try_recv().is_err() && reports.standing().is_empty());
    }
}
