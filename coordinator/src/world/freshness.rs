//! How current each kind of object is.

use crate::clock::Boottime;

/// The kinds of object that a world is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// ScaledObjects.
    ScaledObjects,
    /// TriggerAuthentications.
    TriggerAuthentications,
    /// ClusterTriggerAuthentications.
    ClusterTriggerAuthentications,
    /// Pods.
    Pods,
    /// HorizontalPodAutoscalers.
    Hpas,
    /// KEDA's Lease.
    KedaLease,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ScaledObjects,
        Self::TriggerAuthentications,
        Self::ClusterTriggerAuthentications,
        Self::Pods,
        Self::Hpas,
        Self::KedaLease,
    ];

    /// Name for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScaledObjects => "scaledobjects",
            Self::TriggerAuthentications => "triggerauthentications",
            Self::ClusterTriggerAuthentications => "clustertriggerauthentications",
            Self::Pods => "pods",
            Self::Hpas => "horizontalpodautoscalers",
            Self::KedaLease => "leases",
        }
    }
}

/// How current one kind is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freshness {
    /// A whole list was taken in at least once.
    pub synced: bool,
    /// Since when reading fails, on this machine's clock; `None` while it works.
    pub failing_since: Option<Boottime>,
    /// Why it fails.
    pub error: Option<String>,
}
