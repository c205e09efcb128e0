//! The client of the API server.

use std::time::Duration;

use axum::http::Request;
use axum::http::header::USER_AGENT;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use super::user_agent;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's ServiceAccount was found, or one of them is broken.
    #[error("no access to a Kubernetes API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The TLS or HTTP stack refused the configuration.
    #[error("cannot connect to the API server: {0}")]
    Client(#[from] kube::Error),
}

/// A connection attempt that takes longer is given up; a dead address must not hold up a failover.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A client by the usual places: `KUBECONFIG`, `~/.kube/config`, or the pod's ServiceAccount.
/// `pod_name` is who requests say they come from, where they do not say it themselves.
///
/// # Errors
/// [`ClientError`].
pub async fn infer_client(pod_name: &str) -> Result<Client, ClientError> {
    client(Config::infer().await?, pod_name)
}

/// A client by a configuration. One serves all: a request under way has its connection to itself, so
/// that a scale never waits behind a list, and what is written seldom finds a connection that
/// others kept open.
fn client(mut config: Config, pod_name: &str) -> Result<Client, ClientError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // kube repeats 429, 503 and 504 for minutes, and a write must not outlive the lease it was
    // decided under. Watches, status and events have their own backoff.
    config.default_retry = false;
    let agent = user_agent(pod_name, None);
    let named = MapRequestLayer::new(move |mut request: Request<Body>| {
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert_with(|| agent.clone());
        request
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&named).build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn head(stream: &mut TcpStream) -> String {
        let mut head = String::new();
        while !head.contains("\r\n\r\n") {
            let mut bytes = [0; 4_096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "{head}");
            head.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        head.to_lowercase()
    }

    #[tokio::test]
    async fn requests_say_who_asks_and_share_their_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(Config::new(url.parse().unwrap()), "neap-coordinator-2").unwrap();
        let asked = tokio::spawn(async move {
            let read = client.apiserver_version().await;
            assert!(matches!(read, Err(kube::Error::Api(status)) if status.code == 503));
            let request = Request::get("/scale")
                .header(USER_AGENT, "neap (another name)")
                .body(Body::empty());
            client.send(request.unwrap()).await.unwrap();
        });
        // One connection: a second one would not be accepted.
        let (mut stream, _) = listener.accept().await.unwrap();
        let version = env!("CARGO_PKG_VERSION");
        for agent in [
            format!("neap/{version} (neap-coordinator-2)"),
            "neap (another name)".to_owned(),
        ] {
            let head = head(&mut stream).await;
            let agents: Vec<&str> = head
                .lines()
                .filter_map(|line| line.strip_prefix("user-agent: "))
                .collect();
            assert_eq!(agents, [agent], "{head}");
            let answer = b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
        asked.await.unwrap();
    }
}
