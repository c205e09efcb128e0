//! From a series as an agent defines it to the key under which it is kept.

use std::sync::Arc;

use neap_proto::node::{SeriesDefinition, SeriesKind};
use neap_units::{NodeName, PodUid};

use super::spools::spool;
use crate::signals::{
    ContainerId, PressureKind, PressureResource, SeriesKey, Signal, Spool, Subject,
};

/// Longest text in a definition, in bytes.
const MAX_TEXT: usize = 256;
/// Longest path of a unix socket (`sun_path`).
const MAX_SOCKET_PATH: usize = 108;

/// Why a definition is not understood. It is left out and counted; an agent that is newer than this
/// coordinator may send kinds that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SeriesError {
    /// A kind this coordinator does not know or has no use for.
    #[error("series kind {0} is not used")]
    Kind(i32),
    /// A field is missing, too long or out of range.
    #[error("{field} of a {kind:?} series: {reason}")]
    Field {
        field: &'static str,
        kind: SeriesKind,
        reason: &'static str,
    },
}

/// The key of a series of `node`.
pub(super) fn series_key(
    definition: &SeriesDefinition,
    node: &NodeName,
) -> Result<SeriesKey, SeriesError> {
    use SeriesKind as Kind;
    let kind = Kind::try_from(definition.kind).map_err(|_| SeriesError::Kind(definition.kind))?;
    let fields = Fields { definition, kind };
    let pod = |signal| {
        Ok(SeriesKey {
            subject: Subject::Pod(fields.pod()?),
            signal,
        })
    };
    let container = |signal| {
        Ok(SeriesKey {
            subject: Subject::Container(fields.pod()?, fields.container()?),
            signal,
        })
    };
    let of_node = |signal| {
        Ok(SeriesKey {
            subject: Subject::Node(node.clone()),
            signal,
        })
    };
    match kind {
        Kind::CpuUsage => container(Signal::CpuUsage),
        Kind::CpuPeriods => container(Signal::CpuPeriods),
        Kind::CpuThrottledPeriods => container(Signal::CpuThrottledPeriods),
        Kind::CpuThrottled => container(Signal::CpuThrottledTime),
        Kind::MemoryEventsOomKill => container(Signal::MemoryOomKills),
        Kind::MemoryWorkingSet => container(Signal::MemoryWorkingSet),
        Kind::PressureCpuSome => pod(Signal::Pressure(PressureResource::Cpu, PressureKind::Some)),
        Kind::PressureCpuFull => pod(Signal::Pressure(PressureResource::Cpu, PressureKind::Full)),
        Kind::PressureMemorySome => pod(Signal::Pressure(
            PressureResource::Memory,
            PressureKind::Some,
        )),
        Kind::PressureMemoryFull => pod(Signal::Pressure(
            PressureResource::Memory,
            PressureKind::Full,
        )),
        Kind::PressureIoSome => pod(Signal::Pressure(PressureResource::Io, PressureKind::Some)),
        Kind::PressureIoFull => pod(Signal::Pressure(PressureResource::Io, PressureKind::Full)),
        Kind::AcceptBacklog => pod(Signal::AcceptBacklog(fields.port()?)),
        Kind::AcceptLimit => pod(Signal::AcceptLimit(fields.port()?)),
        Kind::AcceptDrops => pod(Signal::AcceptDrops(fields.port()?)),
        Kind::PassiveOpens => pod(Signal::PassiveOpens),
        Kind::UnixBacklog => pod(Signal::UnixBacklog(fields.socket_path()?)),
        Kind::UnixLimit => pod(Signal::UnixLimit(fields.socket_path()?)),
        Kind::SpoolFiles => of_node(Signal::SpoolFiles(fields.spool()?)),
        Kind::NodeCpuUsage => of_node(Signal::NodeCpuUsage),
        Kind::NodeMemoryWorkingSet => of_node(Signal::NodeMemoryWorkingSet),
        Kind::NodeLoad1 => of_node(Signal::NodeLoad),
        Kind::NodePressureCpuSome => {
            of_node(Signal::Pressure(PressureResource::Cpu, PressureKind::Some))
        }
        Kind::NodePressureCpuFull => {
            of_node(Signal::Pressure(PressureResource::Cpu, PressureKind::Full))
        }
        Kind::NodePressureMemorySome => of_node(Signal::Pressure(
            PressureResource::Memory,
            PressureKind::Some,
        )),
        Kind::NodePressureMemoryFull => of_node(Signal::Pressure(
            PressureResource::Memory,
            PressureKind::Full,
        )),
        Kind::NodePressureIoSome => {
            of_node(Signal::Pressure(PressureResource::Io, PressureKind::Some))
        }
        Kind::NodePressureIoFull => {
            of_node(Signal::Pressure(PressureResource::Io, PressureKind::Full))
        }
        Kind::Unspecified
        | Kind::MemoryEventsHigh
        | Kind::MemoryEventsMax
        | Kind::MemoryEventsOom
        | Kind::NodeMemoryAvailable => Err(SeriesError::Kind(definition.kind)),
    }
}

struct Fields<'a> {
    definition: &'a SeriesDefinition,
    kind: SeriesKind,
}

impl Fields<'_> {
    fn refuse(&self, field: &'static str, reason: &'static str) -> SeriesError {
        SeriesError::Field {
            field,
            kind: self.kind,
            reason,
        }
    }

    fn pod(&self) -> Result<PodUid, SeriesError> {
        PodUid::new(&self.definition.pod_uid)
            .map_err(|_| self.refuse("pod_uid", "1 to 253 bytes are required"))
    }

    fn container(&self) -> Result<ContainerId, SeriesError> {
        let id = self.definition.container_id.as_str();
        if id.is_empty() || id.len() > MAX_TEXT {
            return Err(self.refuse("container_id", "1 to 256 bytes are required"));
        }
        Ok(ContainerId::new(id))
    }

    fn port(&self) -> Result<u16, SeriesError> {
        u16::try_from(self.definition.port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| self.refuse("port", "1 to 65535 is required"))
    }

    fn spool(&self) -> Result<Spool, SeriesError> {
        let definition = self.definition;
        spool(&definition.spool_path, definition.spool_max_age_ms).ok_or_else(|| {
            self.refuse(
                "spool_path",
                "1 to 1024 bytes that begin with / are required",
            )
        })
    }

    fn socket_path(&self) -> Result<Arc<str>, SeriesError> {
        let path = self.definition.socket_path.as_str();
        if path.is_empty() || path.len() > MAX_SOCKET_PATH {
            return Err(self.refuse("socket_path", "1 to 108 bytes are required"));
        }
        Ok(path.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn definition(kind: SeriesKind) -> SeriesDefinition {
        SeriesDefinition {
            id: 1,
            kind: kind.into(),
            pod_uid: "pod-1".into(),
            container_id: "c-1".into(),
            port: 8080,
            socket_path: "/run/app.sock".into(),
            interval_ms: 1_000,
            since_agent_start: false,
            spool_path: "/var/spool/jobs".into(),
            spool_max_age_ms: 60_000,
        }
    }

    #[test]
    fn each_kind_has_its_subject() {
        let node = NodeName::new("n1").unwrap();
        let key = |kind| series_key(&definition(kind), &node).unwrap();
        let pod = PodUid::new("pod-1").unwrap();
        assert_eq!(
            key(SeriesKind::CpuUsage),
            SeriesKey::container(&pod, &ContainerId::new("c-1"), Signal::CpuUsage)
        );
        assert_eq!(
            key(SeriesKind::AcceptBacklog),
            SeriesKey::pod(&pod, Signal::AcceptBacklog(8080))
        );
        assert_eq!(
            key(SeriesKind::NodeLoad1).subject,
            Subject::Node(node.clone())
        );
        let spool = Spool {
            path: "/var/spool/jobs".into(),
            max_age: Some(Duration::from_secs(60)),
        };
        assert_eq!(
            key(SeriesKind::SpoolFiles).signal,
            Signal::SpoolFiles(spool)
        );
        assert_eq!(
            key(SeriesKind::NodePressureIoFull).subject,
            Subject::Node(node)
        );
    }

    #[test]
    fn what_is_missing_or_new_is_named() {
        let node = NodeName::new("n1").unwrap();
        let refused = |change: &dyn Fn(&mut SeriesDefinition), kind| {
            let mut definition = definition(kind);
            change(&mut definition);
            series_key(&definition, &node).unwrap_err().to_string()
        };
        assert!(
            refused(&|d| d.pod_uid.clear(), SeriesKind::CpuUsage)
                .contains("pod_uid of a CpuUsage series")
        );
        assert!(
            refused(&|d| d.container_id = "x".repeat(257), SeriesKind::CpuUsage)
                .contains("container_id")
        );
        assert!(refused(&|d| d.port = 70_000, SeriesKind::AcceptLimit).contains("port"));
        assert!(
            refused(&|d| d.socket_path = "x".repeat(109), SeriesKind::UnixLimit)
                .contains("socket_path")
        );
        assert!(
            refused(&|d| d.spool_path = "x".into(), SeriesKind::SpoolFiles).contains("spool_path")
        );
        assert!(refused(&|d| d.kind = 9_999, SeriesKind::CpuUsage).contains("9999"));
    }
}
