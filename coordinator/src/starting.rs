//! Port 9702 before there is anything to tell: alive and not ready. A coordinator may wait long for
//! certificates, or for the API server, and a restart would not bring them.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

/// Answers at `address` until `wait` is over, and gives what that gives. A port that cannot be used is
/// for the server that comes after to report.
pub(crate) async fn answer_while<T>(address: SocketAddr, wait: impl Future<Output = T>) -> T {
    let answers = async {
        if let Ok(listener) = TcpListener::bind(address).await {
            // Ends only when it is dropped.
            let _ = axum::serve(listener, Router::new().fallback(answer)).await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        given = wait => given,
        never = answers => match never {},
    }
}

async fn answer(uri: Uri) -> Response {
    let (status, text) = match uri.path() {
        "/healthz" => (StatusCode::OK, "ok: not started yet\n"),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not started yet: the log says what is waited for\n",
        ),
    };
    // A connection that stayed open would go on being answered from here.
    (status, [(header::CONNECTION, "close")], text).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = loop {
            // The listener is bound a moment after the wait begins.
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_is_alive_and_not_ready_and_frees_the_port() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let asked = async {
            let alive = ask(address, "/healthz").await;
            assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
            let ready = ask(address, "/readyz").await;
            assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
            7
        };
        assert_eq!(answer_while(address, asked).await, 7);
        TcpListener::bind(address).await.unwrap();
    }
}
