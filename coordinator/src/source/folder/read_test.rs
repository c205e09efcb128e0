use std::path::Path;

use super::*;

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: app
          command: [web]
---
apiVersion: v1
kind: Secret
metadata: {name: db}
stringData: {password: x}
";

struct Bench {
    dir: tempfile::TempDir,
    folder: Folder,
    writes: u64,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        Self {
            dir,
            folder,
            writes: 0,
        }
    }

    /// Writes a file with a time of its own, so that no two writes look the same.
    fn write(&mut self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        self.writes += 1;
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(self.writes);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    fn look(&mut self) -> Changed {
        self.folder.look().unwrap()
    }
}

fn names<'a>(ids: impl Iterator<Item = &'a ObjectId>) -> Vec<String> {
    ids.map(ToString::to_string).collect()
}

#[test]
fn objects_come_change_and_go() {
    let mut bench = Bench::new();
    assert!(
        bench
            .folder
            .look()
            .unwrap_err()
            .to_string()
            .contains(".yaml, .yml or .json"),
        "an empty folder says what it should hold"
    );
    bench.write("web.yaml", WEB);
    let changed = bench.look();
    assert_eq!(
        names(changed.applied.keys()),
        ["Secret default/db", "Deployment default/web"],
        "what others name comes first"
    );
    assert!(bench.look().applied.is_empty(), "read once");

    bench.write("web.yaml", WEB.split("---").next().unwrap());
    let changed = bench.look();
    assert_eq!(names(changed.removed.iter()), ["Secret default/db"]);

    // From one file to another: it never goes.
    bench.write("a.yaml", WEB.split("---").next().unwrap());
    std::fs::remove_file(bench.dir.path().join("web.yaml")).unwrap();
    let changed = bench.look();
    assert!(changed.removed.is_empty(), "{changed:?}");
    assert_eq!(names(changed.applied.keys()), ["Deployment default/web"]);
}

#[test]
fn a_bad_edit_names_file_line_and_field_and_loses_nothing() {
    let mut bench = Bench::new();
    bench.write("web.yaml", WEB);
    bench.look();
    for (bad, line, expected) in [
        (WEB.replace("command: [web]", "command: [web"), 12, ""),
        (
            WEB.replace("          command: [web]\n", ""),
            9,
            "containers[0].command",
        ),
        (
            WEB.replace("{app: web}}\n  template", "{app: x}}\n  template"),
            5,
            "spec.selector",
        ),
        (
            WEB.replace("spec:\n  selector", "spec:\n  replicas: many\n  selector"),
            5,
            "replicas",
        ),
        (
            WEB.replace("metadata: {name: web}", "metadata: {}"),
            3,
            "metadata.name",
        ),
    ] {
        bench.write("web.yaml", &bad);
        let changed = bench.look();
        assert!(changed.removed.is_empty(), "{bad}\n{changed:?}");
        let [(_, fault)] = &changed.faults[..] else {
            panic!("{bad}\n{changed:?}");
        };
        let text = fault.to_string();
        assert!(
            text.contains("web.yaml:") && text.contains(expected) && !fault.advice.is_empty(),
            "{bad}\n{text}"
        );
        if line != 12 {
            assert_eq!(fault.place.line, Some(line), "{bad}\n{text}");
        }
    }
    bench.write("web.yaml", WEB);
    let changed = bench.look();
    assert_eq!(changed.applied.len(), 2);
    assert!(changed.faults.is_empty());
}

#[test]
fn the_second_of_two_and_an_unknown_kind_are_let_pass_and_said() {
    let mut bench = Bench::new();
    bench.write("a.yaml", WEB);
    bench.write("b.yaml", WEB);
    bench.write(
        "c.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
    );
    let changed = bench.look();
    assert_eq!(changed.applied.len(), 2);
    let said: Vec<String> = changed.faults.iter().map(|(_, f)| f.to_string()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].contains("b.yaml:1") && said[0].contains("a.yaml already"),
        "{said:?}"
    );
    assert!(
        said[2].contains("c.yaml:2") && said[2].contains("ScaledObject"),
        "{said:?}"
    );
    assert!(Path::new(&changed.faults[2].1.place.file).ends_with("c.yaml"));
}
