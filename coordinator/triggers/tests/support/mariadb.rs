//! A MariaDB server of one's own, in a temporary directory, on its own port and socket.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{ConnectOptions, Executor};

use super::{Process, free_port, host, program};

/// A running server. It stops, and its files go, with this value.
pub(crate) struct MariaDb {
    server: PathBuf,
    process: Process,
    directory: tempfile::TempDir,
    pub(crate) port: u16,
}

impl MariaDb {
    /// Starts a server; `None`, and a line that says so, where none is installed.
    pub(crate) async fn start() -> Option<Self> {
        let (Some(server), Some(installer)) = (
            program(&["mariadbd", "mysqld"]),
            program(&["mariadb-install-db", "mysql_install_db"]),
        ) else {
            println!(
                "skipped: mariadbd and mariadb-install-db are not installed (Debian: mariadb-server)"
            );
            return None;
        };
        let directory = tempfile::tempdir().expect("temporary directory");
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        let user = String::from_utf8(user).expect("UTF-8").trim().to_owned();
        let installed = Command::new(installer)
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--user={user}"))
            .arg(format!(
                "--datadir={}",
                directory.path().join("data").display()
            ))
            .output()
            .expect("mariadb-install-db");
        assert!(
            installed.status.success(),
            "{}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let port = free_port();
        let process = spawn(&server, directory.path(), port, &user);
        let database = Self {
            server,
            process,
            directory,
            port,
        };
        database.wait().await;
        Some(database)
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.stop();
    }

    /// Starts it again on the same data and port.
    pub(crate) async fn restart(&mut self) {
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        self.process = spawn(
            &self.server,
            self.directory.path(),
            self.port,
            String::from_utf8_lossy(&user).trim(),
        );
        self.wait().await;
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Runs statements as root.
    pub(crate) async fn run(&self, sql: &'static str) {
        let mut connection = self.connect().await.expect("root connects");
        connection.execute(sqlx::raw_sql(sql)).await.expect(sql);
    }

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        MySqlConnectOptions::new()
            .socket(self.socket())
            .username("root")
            .ssl_mode(MySqlSslMode::Disabled)
            .connect()
            .await
    }

    async fn wait(&self) {
        let ready = async {
            while self.connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), ready)
            .await
            .is_err()
        {
            let log =
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            panic!("mariadbd does not answer:\n{log}");
        }
    }
}

fn spawn(server: &Path, directory: &Path, port: u16, user: &str) -> Process {
    let path = |name: &str| directory.join(name).display().to_string();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path("log"))
        .expect("log");
    let child = Command::new(server)
        .args([
            "--no-defaults",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=16M",
            "--skip-log-bin",
        ])
        .args([
            "--innodb-flush-log-at-trx-commit=2",
            "--performance-schema=off",
            "--key-buffer-size=1M",
        ])
        .arg(format!("--user={user}"))
        .arg(format!("--datadir={}", path("data")))
        .arg(format!("--socket={}", path("socket")))
        .arg(format!("--pid-file={}", path("pid")))
        .arg(format!("--bind-address={}", host()))
        .arg(format!("--port={port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("mariadbd starts");
    Process(child)
}
