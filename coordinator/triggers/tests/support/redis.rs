//! A Redis server of one's own, in a temporary directory, on its own port.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Process, free_port, host, program};

/// A running server. It stops, and its files go, with this value.
pub(crate) struct Redis {
    process: Process,
    directory: tempfile::TempDir,
    extra: Vec<String>,
    pub(crate) port: u16,
}

impl Redis {
    /// Starts a server with `extra` settings (`--name value`); `None`, and a line that says so,
    /// where none is installed.
    pub(crate) async fn start(extra: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let port = free_port();
        let extra: Vec<String> = extra.iter().map(|word| (*word).to_owned()).collect();
        let process = spawn(&directory, port, &extra)?;
        let redis = Self {
            process,
            directory,
            extra,
            port,
        };
        redis.wait().await;
        Some(redis)
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.stop();
    }

    /// Starts it again on the same port, without its data.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.directory, self.port, &self.extra).expect("it was there before");
        self.wait().await;
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", host(), self.port)
    }

    /// Sends one command, given as words.
    pub(crate) async fn run(&self, words: &[&str]) {
        let client =
            redis::Client::open(format!("redis://:s3cret@{}", self.address())).expect("URL");
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("connects");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query_async::<redis::Value>(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    async fn wait(&self) {
        let ready = async {
            while tokio::net::TcpStream::connect((host(), self.port))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .expect("redis-server listens");
    }
}

fn spawn(directory: &tempfile::TempDir, port: u16, extra: &[String]) -> Option<Process> {
    let Some(server) = program(&["redis-server"]) else {
        println!("skipped: redis-server is not installed (Debian: redis-server)");
        return None;
    };
    let child = Command::new(server)
        .args([
            "--bind",
            &host().to_string(),
            "--save",
            "",
            "--requirepass",
            "s3cret",
            "--port",
        ])
        .arg(port.to_string())
        .arg("--dir")
        .arg(directory.path())
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts");
    Some(Process(child))
}
