//! A PostgreSQL server of one's own, in a temporary directory, on its own port.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};

use super::{Process, free_port, host, program};

/// A running server with the superuser `neap`, password `s3cret/@: '\`. It stops, and its files
/// go, with this value.
pub(crate) struct Postgres {
    _process: Process,
    directory: tempfile::TempDir,
    pub(crate) port: u16,
}

pub(crate) const PASSWORD: &str = r"s3cret/@: '\";

impl Postgres {
    /// Starts a server; `None`, and a line that says so, where none is installed.
    pub(crate) async fn start() -> Option<Self> {
        let Some((initdb, server)) = programs() else {
            println!("skipped: initdb and postgres are not installed (Debian: postgresql)");
            return None;
        };
        let directory = tempfile::tempdir().expect("temporary directory");
        // The server refuses to run as root.
        let owner = directory.path().metadata().expect("metadata").uid();
        let user = if owner == 0 { nobody() } else { owner };
        chown(directory.path(), Some(user), Some(user)).expect("the directory is ours");
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("password"), PASSWORD).expect("password file");
        chown(path("password"), Some(user), Some(user)).expect("the file is ours");
        let installed = Command::new(initdb)
            .args([
                "--username=neap",
                "--auth=scram-sha-256",
                "--no-sync",
                "--encoding=UTF8",
                "--no-locale",
                "--no-instructions",
            ])
            .arg(format!("--pwfile={}", path("password")))
            .arg(format!("--pgdata={}", path("data")))
            .uid(user)
            .gid(user)
            .current_dir(directory.path())
            .output()
            .expect("initdb");
        assert!(
            installed.status.success(),
            "{}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let port = free_port();
        let child = Command::new(server)
            .args([
                "-D",
                &path("data"),
                "-p",
                &port.to_string(),
                "-k",
                &path(""),
                "-h",
                &host().to_string(),
            ])
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .uid(user)
            .gid(user)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts");
        let server = Self {
            _process: Process(child),
            directory,
            port,
        };
        let ready = async {
            while server.connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), ready)
            .await
            .expect("postgres answers");
        Some(server)
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs statements as the superuser.
    pub(crate) async fn run(&self, sql: &'static str) {
        let mut connection = self.connect().await.expect("connects");
        connection.execute(sqlx::raw_sql(sql)).await.expect(sql);
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&host().to_string())
            .port(self.port);
        options
            .username("neap")
            .password(PASSWORD)
            .database("postgres")
            .connect()
            .await
    }
}

/// `initdb` and `postgres`, in the path or where Debian keeps them.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let mut places: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .filter_map(Result::ok)
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    places.sort();
    let installed = places
        .into_iter()
        .rev()
        .map(|place| (place.join("initdb"), place.join("postgres")));
    program(&["initdb"])
        .zip(program(&["postgres"]))
        .or_else(|| {
            installed
                .into_iter()
                .find(|(initdb, server)| initdb.is_file() && server.is_file())
        })
}

fn nobody() -> u32 {
    let output = Command::new("id")
        .args(["-u", "nobody"])
        .output()
        .expect("id");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a user id")
}
