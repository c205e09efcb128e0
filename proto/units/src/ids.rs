use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("{kind}: must not be empty")]
    Empty {
        /// Which id.
        kind: &'static str,
    },
    /// Longer than Kubernetes allows for any name.
    #[error("{kind}: {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Which id.
        kind: &'static str,
        /// The length given, in bytes.
        len: usize,
        /// The length allowed, in bytes.
        max: usize,
    },
}

/// No name in Kubernetes is longer than a DNS subdomain (RFC 1123).
const MAX_ID_BYTES: usize = 253;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// Cheap to clone. Checked for length only: what the API server let in is taken as it is.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` as the id.
            ///
            /// # Errors
            /// [`IdError`] if it is empty or longer than 253 bytes.
            pub fn new(text: &str) -> Result<Self, IdError> {
                match text.len() {
                    0 => Err(IdError::Empty { kind: $kind }),
                    len if len > MAX_ID_BYTES => {
                        Err(IdError::TooLong { kind: $kind, len, max: MAX_ID_BYTES })
                    }
                    _ => Ok(Self(Arc::from(text))),
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A pod's UID, as the API server gave it and as it stands in the name of the pod's cgroup. For a
    /// static pod the kubelet's config hash.
    PodUid,
    "pod uid"
);
text_id!(
    /// A pod's name.
    PodName,
    "pod name"
);
text_id!(
    /// A container's name within its pod.
    ContainerName,
    "container name"
);
text_id!(
    /// A node's name.
    NodeName,
    "node name"
);
text_id!(
    /// One boot of one node (`/proc/sys/kernel/random/boot_id`): counters and CLOCK_BOOTTIME are
    /// comparable within it only.
    BootId,
    "boot id"
);
text_id!(
    /// A namespace's name.
    Namespace,
    "namespace"
);

text_id!(
    /// The name of an object: a ScaledObject, a workload, a Secret.
    ObjectName,
    "object name"
);

/// Namespace and name of an object, printed `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespacedName {
    /// The object's namespace.
    pub namespace: Namespace,
    /// The object's name.
    pub name: ObjectName,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_empty_and_overlong_by_name() {
        assert_eq!(
            NodeName::new("").unwrap_err().to_string(),
            "node name: must not be empty"
        );
        let long = "x".repeat(254);
        assert_eq!(
            PodUid::new(&long).unwrap_err().to_string(),
            "pod uid: 254 bytes, at most 253 are allowed"
        );
    }

    #[test]
    fn prints_as_given() {
        let id = NamespacedName {
            namespace: Namespace::new("a").unwrap(),
            name: ObjectName::new("b").unwrap(),
        };
        assert_eq!(id.to_string(), "a/b");
    }
}
