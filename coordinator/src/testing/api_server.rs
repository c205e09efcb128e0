//! An API server at the HTTP layer: answers by method and path, and keeps what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Whatever is waited for takes at most so long, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Sent {
    /// The text of a header, empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

/// An answer: code, headers, body.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, Value);
type Handler = Arc<dyn Fn(&Sent) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    handlers: HashMap<(Method, String), Handler>,
    watches: HashMap<String, Watched>,
    sent: Vec<Sent>,
}

/// A collection that is watched: what it holds, and who looks.
#[derive(Default)]
struct Watched {
    objects: Vec<Value>,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<Result<Bytes, Infallible>>>,
}

/// The server; what has no answer yet is 404.
#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<State>>);

/// A failure in the form of the API server.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
           "code": code, "reason": reason, "message": message})
}

impl Watched {
    fn serve(&mut self, initial: bool) -> Response<axum::body::Body> {
        let (send, lines) = mpsc::unbounded_channel();
        self.watchers.push(send);
        if initial {
            for object in self.objects.clone() {
                self.send_to_last("ADDED", &object);
            }
            let bookmark = json!({"kind": "Any", "apiVersion": "v1", "metadata": {
                "resourceVersion": self.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}});
            self.send_to_last("BOOKMARK", &bookmark);
        }
        let body = axum::body::Body::from_stream(UnboundedReceiverStream::new(lines));
        Response::builder().status(200).body(body).unwrap()
    }

    fn send_to_last(&self, event: &str, object: &Value) {
        let _ = self.watchers.last().unwrap().send(Ok(line(event, object)));
    }

    fn send(&mut self, event: &str, object: &Value) {
        self.watchers
            .retain(|watcher| watcher.send(Ok(line(event, object))).is_ok());
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": event, "object": object})))
}

impl ApiServer {
    /// A server without answers, and a client of it.
    pub(crate) fn new() -> (Self, kube::Client) {
        let server = Self::default();
        let service = {
            let server = server.clone();
            tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { Ok::<_, tower::BoxError>(server.serve(request).await) }
            })
        };
        (server, kube::Client::new(service, "neap"))
    }

    async fn serve(&self, request: Request<Body>) -> Response<axum::body::Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap();
        let sent = Sent {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        };
        let handler = {
            let mut state = self.0.lock().unwrap();
            state.sent.push(sent.clone());
            if sent.query.contains("watch=true")
                && let Some(watched) = state.watches.get_mut(&sent.path)
            {
                return watched.serve(sent.query.contains("sendInitialEvents=true"));
            }
            state
                .handlers
                .get(&(sent.method.clone(), sent.path.clone()))
                .cloned()
        };
        let (code, headers, body) = match handler {
            Some(handler) => handler(&sent),
            None => (
                404,
                Vec::new(),
                status(
                    404,
                    "NotFound",
                    &format!("{} {} not found", sent.method, sent.path),
                ),
            ),
        };
        let mut response = Response::builder().status(StatusCode::from_u16(code).unwrap());
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response
            .body(axum::body::Body::from(serde_json::to_vec(&body).unwrap()))
            .unwrap()
    }

    /// Answers `method path` by this function.
    pub(crate) fn handle(
        &self,
        method: Method,
        path: &str,
        handler: impl Fn(&Sent) -> Answer + Send + Sync + 'static,
    ) {
        self.0
            .lock()
            .unwrap()
            .handlers
            .insert((method, path.to_owned()), Arc::new(handler));
    }

    /// Answers GET with this body.
    pub(crate) fn get(&self, path: &str, body: Value) {
        self.handle(Method::GET, path, move |_| (200, Vec::new(), body.clone()));
    }

    /// Answers POST with this body.
    pub(crate) fn post(&self, path: &str, body: Value) {
        self.handle(Method::POST, path, move |_| (201, Vec::new(), body.clone()));
    }

    /// Answers every method with this code.
    pub(crate) fn fail(&self, path: &str, code: u16) {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            self.handle(method, path, move |_| {
                (
                    code,
                    Vec::new(),
                    status(code, "Failed", "as the test asked"),
                )
            });
        }
    }

    /// Serves a collection that is listed as a stream and then watched.
    pub(crate) fn watch(&self, path: &str, objects: Vec<Value>) {
        let watched = Watched {
            objects,
            version: 100,
            watchers: Vec::new(),
        };
        self.0
            .lock()
            .unwrap()
            .watches
            .insert(path.to_owned(), watched);
    }

    /// Tells the watchers of a collection of an event: `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) fn tell(&self, path: &str, event: &str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        let watched = state.watches.get_mut(path).unwrap();
        watched.version += 1;
        object["metadata"]["resourceVersion"] = json!(watched.version.to_string());
        let same = |known: &Value| {
            known["metadata"]["name"] == object["metadata"]["name"]
                && known["metadata"]["namespace"] == object["metadata"]["namespace"]
        };
        watched.objects.retain(|known| !same(known));
        if event != "DELETED" {
            watched.objects.push(object.clone());
        }
        watched.send(event, &object);
    }

    /// Ends all watches of a collection, as a restart of the server does.
    pub(crate) fn cut(&self, path: &str) {
        self.0
            .lock()
            .unwrap()
            .watches
            .get_mut(path)
            .unwrap()
            .watchers
            .clear();
    }

    /// Waits until `count` requests for this path have come. Their answers are settled by then: an
    /// answer that is changed afterwards is for later requests.
    pub(crate) async fn asked(&self, path: &str, count: usize) {
        let asked = async {
            while self.count(path) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| panic!("{path}: fewer than {count} requests in {PATIENCE:?}"));
    }

    /// How many requests of any method came for this path.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .sent
            .iter()
            .filter(|sent| sent.path == path)
            .count()
    }

    /// The last request for this path.
    pub(crate) fn last(&self, path: &str) -> Sent {
        let state = self.0.lock().unwrap();
        state
            .sent
            .iter()
            .rev()
            .find(|sent| sent.path == path)
            .cloned()
            .unwrap()
    }

    /// All requests of this method, in order.
    pub(crate) fn all(&self, method: &Method) -> Vec<Sent> {
        self.0
            .lock()
            .unwrap()
            .sent
            .iter()
            .filter(|sent| sent.method == *method)
            .cloned()
            .collect()
    }
}
