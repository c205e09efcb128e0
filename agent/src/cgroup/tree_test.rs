use super::*;

const A: &str = "0f8c1d2e-3a4b-4c5d-8e6f-7a8b9c0d1e2f";
const B: &str = "11111111-2222-4333-8444-555555555555";

fn id(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

fn mkdir(root: &Path, path: &str) {
    std::fs::create_dir_all(root.join(path)).unwrap();
}

fn v2() -> (tempfile::TempDir, Tree) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("cgroup.controllers"), "cpu io memory pids").unwrap();
    mkdir(root.path(), "kubepods/burstable");
    mkdir(root.path(), "kubepods/besteffort");
    let tree = Tree::new(Hierarchies::detect(root.path()).unwrap(), None);
    (root, tree)
}

fn scan(tree: &mut Tree) -> Vec<Change> {
    let mut changes = Vec::new();
    tree.scan(&mut changes);
    changes
}

fn follow(tree: &mut Tree) -> Vec<Change> {
    let mut changes = Vec::new();
    tree.follow(&mut changes);
    changes
}

fn appeared(pod: &str, container: &str, path: String) -> Change {
    Change::ContainerAppeared {
        pod: pod.into(),
        container: container.into(),
        path: path.into(),
    }
}

#[test]
fn pods_of_every_qos_level_and_their_containers() {
    let (root, mut tree) = v2();
    mkdir(root.path(), &format!("kubepods/pod{A}/{}", id(1)));
    mkdir(root.path(), &format!("kubepods/burstable/pod{B}/{}", id(2)));
    mkdir(root.path(), &format!("kubepods/burstable/pod{B}/{}", id(3)));
    mkdir(
        root.path(),
        "kubepods/burstable/pod99999999-2222-4333-8444-555555555555",
    );
    let mut changes = scan(&mut tree);
    changes.sort_by_key(|change| format!("{change:?}"));
    let mut expected = vec![
        appeared(A, &id(1), format!("kubepods/pod{A}/{}", id(1))),
        appeared(B, &id(2), format!("kubepods/burstable/pod{B}/{}", id(2))),
        appeared(B, &id(3), format!("kubepods/burstable/pod{B}/{}", id(3))),
    ];
    expected.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(changes, expected);
    assert_eq!(tree.driver(), Some(Driver::Cgroupfs));
    assert_eq!(scan(&mut tree), [], "a second look finds nothing new");
}

#[test]
fn inotify_sees_what_comes_and_goes_between_scans() {
    let (root, mut tree) = v2();
    assert_eq!(scan(&mut tree), []);
    let pod = format!("kubepods/burstable/pod{A}");
    mkdir(root.path(), &pod);
    assert_eq!(follow(&mut tree), [], "no container yet");
    mkdir(root.path(), &format!("{pod}/{}", id(1)));
    mkdir(root.path(), &format!("{pod}/{}", id(2)));
    let mut changes = follow(&mut tree);
    changes.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(
        changes,
        [1, 2].map(|n| appeared(A, &id(n), format!("{pod}/{}", id(n))))
    );

    std::fs::remove_dir(root.path().join(&pod).join(id(1))).unwrap();
    assert_eq!(
        follow(&mut tree),
        [Change::ContainerVanished {
            pod: A.into(),
            container: id(1).as_str().into()
        }]
    );
    std::fs::remove_dir_all(root.path().join(&pod)).unwrap();
    assert_eq!(follow(&mut tree), [Change::PodVanished { pod: A.into() }]);
    assert_eq!(follow(&mut tree), []);
    assert_eq!(scan(&mut tree), []);
}

#[test]
fn systemd_names_and_a_level_that_appears_later() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("cgroup.controllers"), "").unwrap();
    mkdir(root.path(), "kubepods.slice");
    let mut tree = Tree::new(Hierarchies::detect(root.path()).unwrap(), None);
    assert_eq!(scan(&mut tree), []);
    let pod = format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
        A.replace('-', "_")
    );
    let path = format!("{pod}/cri-containerd-{}.scope", id(7));
    mkdir(root.path(), &path);
    mkdir(root.path(), &format!("{pod}/crio-conmon-{}.scope", id(7)));
    assert_eq!(follow(&mut tree), [appeared(A, &id(7), path)]);
    assert_eq!(tree.driver(), Some(Driver::Systemd));
}

#[test]
fn a_kubelet_that_starts_after_the_agent_is_found_by_the_scan() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("unified")).unwrap();
    std::fs::write(root.path().join("unified/cgroup.controllers"), "").unwrap();
    mkdir(root.path(), "memory");
    let mut tree = Tree::new(Hierarchies::detect(root.path()).unwrap(), None);
    assert_eq!(scan(&mut tree), []);
    // The v1 tree first, as a kubelet does; the runtime makes the cgroup2 one later.
    let path = format!("kubepods/pod{A}/{}", id(1));
    mkdir(root.path(), &format!("memory/{path}"));
    assert_eq!(scan(&mut tree), [appeared(A, &id(1), path.clone())]);
    mkdir(root.path(), &format!("unified/{path}"));
    for _ in 0..=LEVELS_PAUSE {
        assert_eq!(scan(&mut tree), [], "the same pod, seen in the other tree");
    }
    std::fs::remove_dir_all(root.path().join("unified/kubepods").join(format!("pod{A}"))).unwrap();
    assert_eq!(follow(&mut tree), [Change::PodVanished { pod: A.into() }]);
}

#[test]
fn churn_leaves_no_watch_behind() {
    let (root, mut tree) = v2();
    scan(&mut tree);
    let before = tree.watcher.as_ref().unwrap().len();
    for n in 0..50u32 {
        let pod = format!("kubepods/pod{n:08x}-2222-4333-8444-555555555555");
        mkdir(root.path(), &format!("{pod}/{}", id(1)));
        assert_eq!(follow(&mut tree).len(), 1);
        std::fs::remove_dir_all(root.path().join(&pod)).unwrap();
        assert_eq!(follow(&mut tree).len(), 1);
    }
    scan(&mut tree);
    assert_eq!(tree.watcher.as_ref().unwrap().len(), before);
    assert!(tree.pods.is_empty());
}

#[test]
fn without_inotify_the_scan_finds_all() {
    let (root, mut tree) = v2();
    tree.watcher = None;
    let pod = format!("kubepods/pod{A}");
    mkdir(root.path(), &format!("{pod}/{}", id(1)));
    assert_eq!(scan(&mut tree).len(), 1);
    mkdir(root.path(), &format!("{pod}/{}", id(2)));
    assert_eq!(
        scan(&mut tree),
        [appeared(A, &id(2), format!("{pod}/{}", id(2)))]
    );
    std::fs::remove_dir(root.path().join(&pod).join(id(2))).unwrap();
    assert_eq!(
        scan(&mut tree),
        [Change::ContainerVanished {
            pod: A.into(),
            container: id(2).as_str().into()
        }]
    );
    std::fs::remove_dir_all(root.path().join(&pod)).unwrap();
    assert_eq!(scan(&mut tree), [Change::PodVanished { pod: A.into() }]);
}
