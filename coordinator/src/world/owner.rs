//! Who may scale a target: Neap, a living KEDA, an HPA, or another ScaledObject.

use std::fmt;
use std::sync::Arc;

use super::target::TargetId;
use crate::keys::TargetKey;

/// Whether a KEDA operator lives in this cluster, by its leader-election Lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KedaPresence {
    /// The Leases could not be read yet, may not be read, or cannot be read at present. An HPA that
    /// KEDA made is then the sign of a living one.
    #[default]
    Unknown,
    /// A Lease that is being renewed, in this namespace.
    Alive {
        /// The operator's namespace.
        namespace: Arc<str>,
    },
    /// No Lease, or one that nobody renews any more.
    Gone,
}

/// What deciding needs of a HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HpaFacts {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// UID.
    pub uid: Arc<str>,
    /// Version of the object.
    pub resource_version: Arc<str>,
    /// What it scales.
    pub target: TargetId,
    /// Name and UID of the ScaledObject that controls it.
    pub scaled_object: Option<(Arc<str>, Arc<str>)>,
    /// Its annotations ask that it is not taken for an owner.
    pub is_no_owner: bool,
    /// It has external metrics and they are being answered.
    pub external_metrics_answered: bool,
    /// It has a deletion timestamp.
    pub deleting: bool,
}

impl HpaFacts {
    /// True when both say the same, whatever their version.
    pub(super) fn same_but_version(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.target == other.target
            && self.scaled_object == other.scaled_object
            && self.is_no_owner == other.is_no_owner
            && self.external_metrics_answered == other.external_metrics_answered
            && self.deleting == other.deleting
    }
}

/// How it is known that KEDA lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KedaEvidence {
    /// Its operator renews its Lease in this namespace.
    Lease {
        /// The operator's namespace.
        namespace: Arc<str>,
    },
    /// The external metrics of the HPA that it made for this very object are being answered.
    Hpa {
        /// The HPA's name.
        name: Arc<str>,
    },
    /// It made an HPA for this very object, and whether its operator lives is not known.
    Unrefuted {
        /// The HPA's name.
        hpa: Arc<str>,
    },
}

/// An HPA that stands in the way and may be removed, as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovableHpa {
    /// Name, in the ScaledObject's namespace.
    pub name: Arc<str>,
    /// UID: the removal must name it.
    pub uid: Arc<str>,
    /// Version: the removal must name it.
    pub resource_version: Arc<str>,
}

/// Who scales the target of a ScaledObject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Neap.
    Neap,
    /// A living KEDA: neither the target nor the ScaledObject is touched.
    Keda(KedaEvidence),
    /// Neap, once this HPA is removed: KEDA made it for this very ScaledObject and is gone, or the
    /// ScaledObject's annotation transfers it.
    NeapAfterRemoving(RemovableHpa),
    /// An HPA of somebody else: decide and explain only.
    Hpa {
        /// The HPA's name.
        name: Arc<str>,
    },
    /// An older ScaledObject of the same target: decide and explain only.
    ScaledObject {
        /// Its name.
        name: Arc<str>,
    },
}

impl Owner {
    /// True when the target may be scaled now.
    pub fn is_neap(&self) -> bool {
        matches!(self, Self::Neap)
    }

    /// What kind of owner it is, for programs: `neap`, `keda`, `leftoverHpa` (one that KEDA left, or that is
    /// handed over), `hpa` or `scaledObject`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Neap => "neap",
            Self::Keda(_) => "keda",
            Self::NeapAfterRemoving(_) => "leftoverHpa",
            Self::Hpa { .. } => "hpa",
            Self::ScaledObject { .. } => "scaledObject",
        }
    }

    /// The name of the object that owns the target; `None` where the owner is Neap or KEDA.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Neap | Self::Keda(_) => None,
            Self::NeapAfterRemoving(hpa) => Some(&hpa.name),
            Self::Hpa { name } | Self::ScaledObject { name } => Some(name),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neap => f.write_str("Neap"),
            Self::Keda(KedaEvidence::Lease { namespace }) => {
                write!(
                    f,
                    "KEDA (its operator renews its Lease in namespace '{namespace}')"
                )
            }
            Self::Keda(KedaEvidence::Hpa { name }) => {
                write!(
                    f,
                    "KEDA (it answers the external metrics of the HPA '{name}')"
                )
            }
            Self::Keda(KedaEvidence::Unrefuted { hpa }) => {
                write!(
                    f,
                    "KEDA (its HPA '{hpa}' is there, and whether its operator lives cannot be read: see rbac.kedaNamespace of the chart)"
                )
            }
            Self::NeapAfterRemoving(hpa) => {
                write!(f, "the HPA '{}' that KEDA left behind", hpa.name)
            }
            Self::Hpa { name } => write!(f, "the HPA '{name}'"),
            Self::ScaledObject { name } => write!(f, "the ScaledObject '{name}'"),
        }
    }
}

/// What of a ScaledObject decides who owns its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) key: TargetKey,
    pub(super) uid: Arc<str>,
    pub(super) created: Option<jiff::Timestamp>,
    pub(super) deleting: bool,
    /// The HPA that the annotation hands over, by name.
    pub(super) transfers: Option<Arc<str>>,
}

/// Decides who owns the target of `claim`, given all claims on that target and all HPAs on it.
pub(super) fn owner_of<'a>(
    claim: &Claim,
    claims: impl Iterator<Item = &'a Claim>,
    hpas: impl Iterator<Item = &'a HpaFacts>,
    keda: &KedaPresence,
) -> Owner {
    if let KedaPresence::Alive { namespace } = keda {
        return Owner::Keda(KedaEvidence::Lease {
            namespace: namespace.clone(),
        });
    }
    let rank = |claim: &Claim| (claim.deleting, claim.created, claim.key.name.clone());
    let first = claims.min_by_key(|other| rank(other));
    if let Some(first) = first
        && first.key != claim.key
        && rank(first) < rank(claim)
    {
        return Owner::ScaledObject {
            name: first.key.name.clone(),
        };
    }
    let mut removable = None;
    for hpa in hpas {
        let ours = hpa
            .scaled_object
            .as_ref()
            .is_some_and(|(_, uid)| *uid == claim.uid);
        if ours && hpa.external_metrics_answered {
            return Owner::Keda(KedaEvidence::Hpa {
                name: hpa.name.clone(),
            });
        }
        let unknown = *keda == KedaPresence::Unknown;
        if ours && unknown {
            return Owner::Keda(KedaEvidence::Unrefuted {
                hpa: hpa.name.clone(),
            });
        }
        if ours || (claim.transfers.as_ref() == Some(&hpa.name) && !unknown) {
            removable = Some(hpa);
        } else if !hpa.is_no_owner {
            return Owner::Hpa {
                name: hpa.name.clone(),
            };
        }
    }
    match removable {
        None => Owner::Neap,
        Some(hpa) => Owner::NeapAfterRemoving(RemovableHpa {
            name: hpa.name.clone(),
            uid: hpa.uid.clone(),
            resource_version: hpa.resource_version.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::TargetRef;

    fn claim(name: &str, second: i64) -> Claim {
        Claim {
            key: TargetKey::new("shop", name),
            uid: format!("uid-{name}").into(),
            created: Some(jiff::Timestamp::from_second(second).unwrap()),
            deleting: false,
            transfers: None,
        }
    }

    fn hpa(name: &str, of: Option<&str>) -> HpaFacts {
        HpaFacts {
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}").into(),
            resource_version: "7".into(),
            target: TargetId::from(&TargetRef::new("shop", "apps/v1", "Deployment", "web")),
            scaled_object: of.map(|of| (of.into(), format!("uid-{of}").into())),
            is_no_owner: false,
            external_metrics_answered: false,
            deleting: false,
        }
    }

    fn owner(of: &Claim, claims: &[&Claim], hpas: &[&HpaFacts], keda: &KedaPresence) -> Owner {
        owner_of(of, claims.iter().copied(), hpas.iter().copied(), keda)
    }

    #[test]
    fn a_fresh_lease_of_keda_owns_everything() {
        let web = claim("web", 1);
        let keda = KedaPresence::Alive {
            namespace: "keda".into(),
        };
        let seen = owner(&web, &[&web], &[&hpa("keda-hpa-web", Some("web"))], &keda);
        assert_eq!(
            seen,
            Owner::Keda(KedaEvidence::Lease {
                namespace: "keda".into()
            })
        );
        assert!(!seen.is_neap());
    }

    #[test]
    fn the_hpa_that_a_gone_keda_left_is_removed_first() {
        let web = claim("web", 1);
        let left = hpa("keda-hpa-web", Some("web"));
        let seen = owner(&web, &[&web], &[&left], &KedaPresence::Gone);
        let Owner::NeapAfterRemoving(removable) = seen else {
            panic!("{seen:?}")
        };
        assert_eq!(
            (removable.uid.as_ref(), removable.resource_version.as_ref()),
            ("uid-keda-hpa-web", "7")
        );

        // Without a Lease to read, an HPA whose external metrics are answered proves a living KEDA.
        let answered = HpaFacts {
            external_metrics_answered: true,
            ..left
        };
        assert_eq!(
            owner(&web, &[&web], &[&answered], &KedaPresence::Unknown),
            Owner::Keda(KedaEvidence::Hpa {
                name: "keda-hpa-web".into()
            })
        );
    }

    #[test]
    fn nothing_is_removed_while_nobody_knows_whether_keda_lives() {
        let web = claim("web", 1);
        let (of_keda, plain) = (hpa("keda-hpa-web", Some("web")), hpa("web", None));
        let unknown = KedaPresence::default();
        assert_eq!(
            owner(&web, &[&web], &[&of_keda], &unknown),
            Owner::Keda(KedaEvidence::Unrefuted {
                hpa: "keda-hpa-web".into()
            })
        );
        let transfers = Claim {
            transfers: Some("web".into()),
            ..web.clone()
        };
        assert_eq!(
            owner(&transfers, &[&transfers], &[&plain], &unknown),
            Owner::Hpa { name: "web".into() }
        );
        assert_eq!(owner(&web, &[&web], &[], &unknown), Owner::Neap);
    }

    #[test]
    fn an_hpa_of_an_earlier_object_of_that_name_is_somebody_elses() {
        let web = claim("web", 1);
        let mut stale = hpa("keda-hpa-web", Some("web"));
        stale.scaled_object = Some(("web".into(), "uid-of-the-first-web".into()));
        assert_eq!(
            owner(&web, &[&web], &[&stale], &KedaPresence::Gone),
            Owner::Hpa {
                name: "keda-hpa-web".into()
            }
        );
    }

    #[test]
    fn a_plain_hpa_owns_unless_it_says_otherwise_or_is_transferred() {
        let web = claim("web", 1);
        let plain = hpa("web", None);
        assert_eq!(
            owner(&web, &[&web], &[&plain], &KedaPresence::Gone),
            Owner::Hpa { name: "web".into() }
        );
        let no_owner = HpaFacts {
            is_no_owner: true,
            ..plain.clone()
        };
        assert_eq!(
            owner(&web, &[&web], &[&no_owner], &KedaPresence::Gone),
            Owner::Neap
        );
        let transfers = Claim {
            transfers: Some("web".into()),
            ..web
        };
        assert!(matches!(
            owner(&transfers, &[&transfers], &[&plain], &KedaPresence::Gone),
            Owner::NeapAfterRemoving(_)
        ));
    }

    #[test]
    fn of_two_scaled_objects_the_older_owns() {
        let (old, new) = (claim("old", 1), claim("new", 2));
        let both = [&new, &old];
        assert_eq!(owner(&old, &both, &[], &KedaPresence::Gone), Owner::Neap);
        assert_eq!(
            owner(&new, &both, &[], &KedaPresence::Gone),
            Owner::ScaledObject { name: "old".into() }
        );
        let leaving = Claim {
            deleting: true,
            ..old
        };
        let both = [&new, &leaving];
        assert_eq!(owner(&new, &both, &[], &KedaPresence::Gone), Owner::Neap);
    }
}
