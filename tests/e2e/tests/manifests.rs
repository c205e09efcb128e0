//! Show 5: manifests that users have, applied as they are, against a real MariaDB.
//! The manifests lie in `../shared/manifests` beside the checkout; without them the test says so.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use neap_e2e::{Bed, Workload, until, within};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

fn manifest(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("NEAP_MANIFESTS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("../../../shared/manifests"));
    let path = shared.join(name);
    if path.is_file() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there (NEAP_MANIFESTS names the folder)",
        path.display()
    );
    None
}

fn kubectl_apply(path: &std::path::Path) -> Result<()> {
    let kubectl = std::env::var("NEAP_BED_KUBECTL")
        .context("NEAP_BED_KUBECTL is not set: run tests/run main-path")?;
    let done = Command::new("sh")
        .arg("-c")
        .arg(format!("{kubectl} apply -f {}", path.display()))
        .output()?;
    if !done.status.success() {
        bail!("kubectl apply: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// A MariaDB of the test's own on the node's address; stopped when dropped.
struct MariaDb {
    server: Child,
    dir: PathBuf,
}

impl MariaDb {
    fn start(address: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("neap-e2e-mariadb-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let data = dir.join("data");
        let installed = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--user=root",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
            ])
            .arg(format!("--datadir={}", data.display()))
            .output()
            .context("mariadb-install-db: is mariadb-server installed?")?;
        ensure!(
            installed.status.success(),
            "{}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let server = Command::new("mariadbd")
            .args([
                "--no-defaults",
                "--user=root",
                "--port=3306",
                "--skip-name-resolve",
            ])
            .arg(format!("--bind-address={address}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", dir.join("sock").display()))
            .arg(format!("--pid-file={}", dir.join("pid").display()))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()?;
        Ok(Self { server, dir })
    }

    /// Runs statements as root over the socket; gives what they print.
    fn sql(&self, statements: &str) -> Result<String> {
        let done = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--skip-column-names",
            ])
            .arg(format!("--socket={}", self.dir.join("sock").display()))
            .args(["-e", statements])
            .output()?;
        ensure!(
            done.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Ends every connection that came over TCP.
    fn end_connections(&self) -> Result<()> {
        let over_tcp = "SELECT id FROM information_schema.processlist WHERE host LIKE '%:%'";
        for id in self.sql(over_tcp)?.lines() {
            // One that ended by itself meanwhile is as well.
            let _ = self.sql(&format!("KILL {id}"));
        }
        Ok(())
    }

    fn rows(&self, count: u32) -> Result<String> {
        let values: Vec<String> = (0..count).map(|n| format!("({n})")).collect();
        self.sql(&format!(
            "DELETE FROM test_db.test; INSERT INTO test_db.test VALUES {}",
            values.join(",")
        ))
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_5_mysql_statefulset() -> Result<()> {
    let Some(manifest) = manifest("mysql-statefulset.yaml") else {
        return Ok(());
    };
    let bed = Bed::connect().await?;
    let node = std::env::var("NEAP_BED_NODE_IP")
        .context("NEAP_BED_NODE_IP is not set: run tests/run main-path")?;
    let database = MariaDb::start(&node)?;
    until("MariaDB answering", MINUTE, || async {
        within(database.sql("SELECT 1").is_ok(), |up| *up)
    })
    .await?;
    database.sql(
        "CREATE DATABASE test_db; CREATE TABLE test_db.test (id INT);
         CREATE USER 'root'@'%' IDENTIFIED BY 'mqvdFamQiW'; GRANT ALL ON test_db.* TO 'root'@'%'",
    )?;
    database.rows(3)?;

    let ns = "mysql";
    bed.namespace(ns).await?;
    let target = Workload {
        name: "mysql",
        kind: "StatefulSet",
        args: &["wait"],
        replicas: 0,
        cpu_request: None,
    };
    bed.apply(ns, &target.object()).await?;
    bed.apply(
        ns,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mysql"},
        "spec": {"ports": [{"name": "mysql", "port": 3306}]}}),
    )
    .await?;
    bed.apply(ns, &json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "mysql-1", "labels": {"kubernetes.io/service-name": "mysql"}},
        "addressType": "IPv4", "ports": [{"name": "mysql", "port": 3306}], "endpoints": [{"addresses": [node]}]})).await?;
    kubectl_apply(&manifest)?;
    bed.await_condition(ns, "mysql-scaledobject", "Ready", "True")
        .await?;
    bed.await_replicas("StatefulSet", ns, "mysql", MINUTE, |n| n == 1)
        .await?;
    println!("saw: mysql: 3 rows -> 1 replica");
    database.rows(8)?;
    bed.await_replicas("StatefulSet", ns, "mysql", 2 * MINUTE, |n| n == 2)
        .await?;
    println!("saw: mysql: 8 rows -> 2 replicas");

    // A rotated Secret is used at the next poll. The old connections are ended, so that none of
    // them can answer in its place.
    let dsn = "root:rotated@tcp(mysql.mysql.svc.cluster.local:3306)/test_db";
    bed.merge(
        "v1",
        "Secret",
        ns,
        "mysql-secrets",
        json!({"stringData": {"mysql_conn_str": dsn}}),
    )
    .await?;
    database.sql("ALTER USER 'root'@'%' IDENTIFIED BY 'rotated'")?;
    database.rows(12)?;
    let rotated = Timestamp::now();
    database.end_connections()?;
    bed.await_replicas("StatefulSet", ns, "mysql", 2 * MINUTE, |n| n == 3)
        .await?;
    println!(
        "saw: mysql: rotated Secret in use {:.0} s after it was written (polling interval 30 s)",
        Timestamp::now().duration_since(rotated).as_secs_f64()
    );
    bed.drop_namespace(ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_5_cpu_and_cron() -> Result<()> {
    let Some(manifest) = manifest("cpu-and-cron.yaml") else {
        return Ok(());
    };
    let bed = Bed::connect().await?;
    let target = Workload {
        name: "keda-test",
        kind: "Deployment",
        args: &["wait"],
        replicas: 1,
        cpu_request: Some("10m"),
    };
    bed.apply("default", &target.object()).await?;
    kubectl_apply(&manifest)?;
    // The ten replicas at an injected 00:16 are asserted in the coordinator's own tests.
    let (reason, _) = bed
        .await_condition("default", "scaledobject-nginx", "Ready", "True")
        .await?;
    ensure!(reason == "ScaledObjectReady", "reason {reason}");
    let so = bed
        .objects("keda.sh/v1alpha1", "ScaledObject", "default")?
        .get("scaledobject-nginx")
        .await?;
    ensure!(
        so.data["status"]["triggersTypes"] == "cpu,cron",
        "status: {}",
        so.data["status"]
    );
    for (kind, version, name) in [
        ("ScaledObject", "keda.sh/v1alpha1", "scaledobject-nginx"),
        ("Deployment", "apps/v1", "keda-test"),
    ] {
        bed.objects(version, kind, "default")?
            .delete(name, &kube::api::DeleteParams::default())
            .await?;
    }
    Ok(())
}
