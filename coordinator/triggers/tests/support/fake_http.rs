//! An HTTP server that answers what a test tells it, and records what it is asked (a fake).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The path with its query, and the headers.
pub(crate) type Asked = (String, BTreeMap<String, String>);

/// What the fake answers with, and what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Starts the server and gives its address.
    pub(crate) async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// What it answers from now on; status 0 means never.
    pub(crate) fn answers(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().expect("lock") = (status, body.into());
    }

    /// How many questions there were.
    pub(crate) fn count(&self) -> usize {
        self.asked.lock().expect("lock").len()
    }

    /// The last question.
    pub(crate) fn last(&self) -> Asked {
        self.asked
            .lock()
            .expect("lock")
            .last()
            .cloned()
            .expect("asked")
    }
}

async fn answer(State(fake): State<Fake>, request: Request) -> Response {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    fake.asked
        .lock()
        .expect("lock")
        .push((request.uri().to_string(), headers));
    let (status, body) = fake.answer.lock().expect("lock").clone();
    if status == 0 {
        std::future::pending::<()>().await;
    }
    (StatusCode::from_u16(status).expect("status"), body).into_response()
}
