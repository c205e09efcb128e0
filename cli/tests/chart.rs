//! The picture of a simulation, byte for byte. After a change that is meant, look at the new picture
//! and write it with `NEAP_UPDATE_GOLDEN=1 cargo test -p neap --test chart`.

use std::path::Path;
use std::process::Command;

const SPEC: &str = "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: worker
spec:
  scaleTargetRef:
    name: worker
  pollingInterval: 15
  cooldownPeriod: 120
  maxReplicaCount: MAX
  triggers:
    - type: prometheus
      name: queue
      metadata:
        serverAddress: http://prometheus:9090
        query: sum(queue_length)
        threshold: \"10\"
";

/// Steps, a gap and a fall to zero.
const LOAD: &str = "\
time,queue
2026-11-01T09:00:00Z,0
2026-11-01T09:05:00Z,35
2026-11-01T09:10:00Z,150
2026-11-01T09:20:00Z,
2026-11-01T09:22:00Z,60
2026-11-01T09:30:00Z,0
2026-11-01T09:50:00Z,0
";

#[test]
fn the_chart_is_the_golden_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let spec = file("spec.yaml", &SPEC.replace("MAX", "20"));
    let other = file(
        "other.yaml",
        &SPEC
            .replace("MAX", "8")
            .replace("cooldownPeriod: 120", "cooldownPeriod: 600"),
    );
    let load = file("load.csv", LOAD);
    let chart = folder.path().join("out.svg");
    let output = Command::new(env!("CARGO_BIN_EXE_neap"))
        .arg("simulate")
        .arg("-f")
        .arg(spec)
        .arg("--against")
        .arg(other)
        .arg("--load")
        .arg(load)
        .arg("--chart")
        .arg(&chart)
        .args(["-o", "csv"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let golden = Path::new("tests/golden");
    let found = [
        ("chart.svg", std::fs::read_to_string(&chart).unwrap()),
        ("chart.csv", String::from_utf8(output.stdout).unwrap()),
    ];
    for (name, found) in found {
        let path = golden.join(name);
        if std::env::var_os("NEAP_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            found == expected,
            "{name} is not the golden one, but:\n{found}"
        );
    }
}
