//! Names of the directories that kubelets and runtimes make in a cgroup tree.
//!
//! | driver | pod | container |
//! |---|---|---|
//! | cgroupfs | `kubepods/[burstable/|besteffort/]pod<uid>` | `<id>`, `crio-<id>` |
//! | systemd | `kubepods.slice/[kubepods-burstable.slice/]kubepods-burstable-pod<uid with _>.slice` | `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope` |
//!
//! A kubelet with a `cgroupRoot` of its own puts that name in front
//! (`kubelet.slice/kubelet-kubepods.slice`). Static pods have the 32 hexadecimal digits of
//! their config hash for a UID.

/// What made the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kubelet makes directories itself.
    Cgroupfs,
    /// The kubelet asks systemd for slices and scopes.
    Systemd,
}

/// Whether a directory is the root of a kubelet's pods, and of which driver.
pub fn kubepods_root(name: &str) -> Option<Driver> {
    match name {
        "kubepods" => Some(Driver::Cgroupfs),
        "kubepods.slice" => Some(Driver::Systemd),
        _ if name.ends_with("-kubepods.slice") => Some(Driver::Systemd),
        _ => None,
    }
}

/// Whether a directory below the kubepods root holds the pods of one QoS level.
pub fn is_qos_level(name: &str) -> bool {
    matches!(name, "burstable" | "besteffort")
        || name.ends_with("kubepods-burstable.slice")
        || name.ends_with("kubepods-besteffort.slice")
}

/// The UID (dashes, lower case) of the pod a directory stands for.
pub fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => {
            let at = slice.rfind("-pod")?;
            slice.get(at + "-pod".len()..)?
        }
        None => name.strip_prefix("pod")?,
    };
    is_uid(uid).then(|| uid.replace('_', "-").to_ascii_lowercase())
}

/// The id of the container a directory below a pod's stands for. Helpers of the runtime, such as
/// `crio-conmon-<id>`, are none.
pub fn container_id(name: &str) -> Option<&str> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    let id = bare.rsplit_once('-').map_or(bare, |(_, id)| id);
    let prefix = bare.get(..bare.len() - id.len())?;
    let known = matches!(
        prefix,
        "" | "cri-containerd-" | "crio-" | "docker-" | "containerd-"
    );
    let hexadecimal = id.bytes().all(|b| b.is_ascii_hexdigit());
    (known && hexadecimal && (32..=64).contains(&id.len())).then_some(id)
}

/// 8-4-4-4-12 hexadecimal digits parted by `-` or `_`, or 32 in a row.
fn is_uid(text: &str) -> bool {
    match text.len() {
        32 => text.bytes().all(|b| b.is_ascii_hexdigit()),
        36 => text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-' || byte == b'_',
            _ => byte.is_ascii_hexdigit(),
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f8c1d2e-3a4b-4c5d-8e6f-7a8b9c0d1e2f";
    const ID: &str = "1c2e4b57a6d98f00112233445566778899aabbccddeeff00112233445566ffee";

    #[test]
    fn pods_of_both_drivers_have_the_same_uid() {
        let underscored = UID.replace('-', "_");
        for name in [
            format!("pod{UID}"),
            format!("kubepods-pod{underscored}.slice"),
            format!("kubepods-burstable-pod{underscored}.slice"),
            format!("kubelet-kubepods-besteffort-pod{underscored}.slice"),
        ] {
            assert_eq!(pod_uid(&name).as_deref(), Some(UID), "{name}");
        }
    }

    #[test]
    fn static_pods_have_their_config_hash() {
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(pod_uid(&format!("pod{hash}")).as_deref(), Some(hash));
        assert_eq!(
            pod_uid(&format!("kubepods-burstable-pod{hash}.slice")).as_deref(),
            Some(hash)
        );
    }

    #[test]
    fn what_is_no_pod_is_none() {
        for name in [
            "burstable",
            "podman",
            "pod",
            "pod1234",
            "kubepods-burstable.slice",
            "system.slice",
            "pod../../etc",
        ] {
            assert_eq!(pod_uid(name), None, "{name}");
        }
    }

    #[test]
    fn containers_of_the_known_runtimes() {
        for name in [
            ID.to_owned(),
            format!("crio-{ID}"),
            format!("crio-{ID}.scope"),
            format!("cri-containerd-{ID}.scope"),
            format!("docker-{ID}.scope"),
        ] {
            assert_eq!(container_id(&name), Some(ID), "{name}");
        }
        for name in [
            format!("crio-conmon-{ID}.scope"),
            "init.scope".into(),
            "cgroup.procs".into(),
            String::new(),
        ] {
            assert_eq!(container_id(&name), None, "{name}");
        }
    }

    #[test]
    fn roots_and_levels() {
        assert_eq!(kubepods_root("kubepods"), Some(Driver::Cgroupfs));
        assert_eq!(kubepods_root("kubepods.slice"), Some(Driver::Systemd));
        assert_eq!(
            kubepods_root("kubelet-kubepods.slice"),
            Some(Driver::Systemd)
        );
        assert_eq!(kubepods_root("system.slice"), None);
        assert!(is_qos_level("besteffort") && is_qos_level("kubelet-kubepods-burstable.slice"));
        assert!(!is_qos_level(
            "kubepods-podd41d8cd98f00b204e9800998ecf8427e.slice"
        ));
    }
}
