//! Which targets live on which signals of which pods.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use neap_units::PodUid;

use super::key::{PressureKind, PressureResource, Signal};
use super::spools::Spool;
use crate::keys::TargetKey;

/// A set of kinds of signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u32);

impl SignalSet {
    /// Nothing.
    pub const EMPTY: Self = Self(0);

    /// The set of one signal; the port or path of a queue does not tell sets apart.
    pub fn of(signal: &Signal) -> Self {
        let bit = match signal {
            Signal::CpuUsage => 0,
            Signal::CpuThrottledTime => 1,
            Signal::CpuThrottledPeriods => 2,
            Signal::CpuPeriods => 3,
            Signal::MemoryWorkingSet => 4,
            Signal::MemoryOomKills => 5,
            Signal::AcceptBacklog(_) => 6,
            Signal::AcceptLimit(_) => 7,
            Signal::AcceptDrops(_) => 8,
            Signal::PassiveOpens => 9,
            Signal::UnixBacklog(_) => 10,
            Signal::UnixLimit(_) => 11,
            Signal::NodeCpuUsage => 12,
            Signal::NodeMemoryWorkingSet => 13,
            Signal::NodeLoad => 14,
            Signal::SpoolFiles(_) => 15,
            Signal::Pressure(resource, kind) => {
                16 + 2 * match resource {
                    PressureResource::Cpu => 0,
                    PressureResource::Memory => 1,
                    PressureResource::Io => 2,
                } + match kind {
                    PressureKind::Some => 0,
                    PressureKind::Full => 1,
                }
            }
        };
        Self(1 << bit)
    }

    /// True when both have a signal in common.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for SignalSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for SignalSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The targets that live on one pod, and on which of its signals.
pub(super) type PodWatch = Arc<[(TargetKey, SignalSet)]>;

/// For each watched pod its targets. A pod is hardly ever in more than one.
#[derive(Debug, Default)]
pub(super) struct Watches {
    pods: RwLock<HashMap<PodUid, PodWatch>>,
    spools: RwLock<HashMap<Spool, Vec<TargetKey>>>,
}

impl Watches {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashMap<PodUid, PodWatch>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The targets that live on a spool.
    pub(super) fn of_spool(&self, spool: &Spool) -> Vec<TargetKey> {
        let spools = self.spools.read().unwrap_or_else(PoisonError::into_inner);
        spools.get(spool).cloned().unwrap_or_default()
    }

    /// Replaces the spools that `target` lives on.
    pub(super) fn set_spools(&self, target: &TargetKey, wanted: &[Spool]) {
        let mut spools = self.spools.write().unwrap_or_else(PoisonError::into_inner);
        spools.retain(|_, targets| {
            targets.retain(|key| key != target);
            !targets.is_empty()
        });
        for spool in wanted {
            spools
                .entry(spool.clone())
                .or_default()
                .push(target.clone());
        }
    }

    /// Adds or replaces what `target` wants of `pod`; the empty set ends it.
    pub(super) fn set(&self, pod: &PodUid, target: &TargetKey, signals: SignalSet) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = pods.get(pod).map_or_else(Vec::new, |watch| watch.to_vec());
        list.retain(|(key, _)| key != target);
        if signals != SignalSet::EMPTY {
            list.push((target.clone(), signals));
        }
        if list.is_empty() {
            pods.remove(pod);
        } else {
            pods.insert(pod.clone(), list.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_signal_is_its_own_set() {
        let mut all = vec![
            Signal::CpuUsage,
            Signal::CpuThrottledTime,
            Signal::CpuThrottledPeriods,
            Signal::CpuPeriods,
            Signal::MemoryWorkingSet,
            Signal::MemoryOomKills,
            Signal::AcceptBacklog(80),
            Signal::AcceptLimit(80),
            Signal::AcceptDrops(80),
            Signal::PassiveOpens,
            Signal::UnixBacklog("/a".into()),
            Signal::UnixLimit("/a".into()),
            Signal::NodeCpuUsage,
            Signal::NodeMemoryWorkingSet,
            Signal::NodeLoad,
            Signal::SpoolFiles(Spool {
                path: "/a".into(),
                max_age: None,
            }),
        ];
        for resource in [
            PressureResource::Cpu,
            PressureResource::Memory,
            PressureResource::Io,
        ] {
            for kind in [PressureKind::Some, PressureKind::Full] {
                all.push(Signal::Pressure(resource, kind));
            }
        }
        for (at, signal) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert!(
                    !SignalSet::of(signal).intersects(SignalSet::of(other)),
                    "{signal:?} {other:?}"
                );
            }
        }
        assert_eq!(
            SignalSet::of(&Signal::AcceptLimit(80)),
            SignalSet::of(&Signal::AcceptLimit(81))
        );
    }

    #[test]
    fn a_pod_without_targets_is_forgotten() {
        let watches = Watches::default();
        let pod = PodUid::new("p").unwrap();
        let (a, b) = (TargetKey::new("ns", "a"), TargetKey::new("ns", "b"));
        watches.set(&pod, &a, SignalSet::of(&Signal::CpuUsage));
        watches.set(&pod, &b, SignalSet::of(&Signal::PassiveOpens));
        watches.set(&pod, &a, SignalSet::of(&Signal::MemoryWorkingSet));
        assert_eq!(watches.read()[&pod].len(), 2);
        watches.set(&pod, &a, SignalSet::EMPTY);
        watches.set(&pod, &b, SignalSet::EMPTY);
        assert!(watches.read().is_empty());
    }
}
