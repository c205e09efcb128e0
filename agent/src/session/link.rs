//! One stream to one replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::node_service_client::NodeServiceClient;
use neap_proto::node::{AgentMessage, Directives, Hello, LeaderHint};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use super::credentials::{Credentials, CredentialsError};
use super::pool::LinkId;
use crate::config::Config;
use crate::sampler::Outlet;

/// From the first packet to the first LeaderHint.
const CONNECT: Duration = Duration::from_secs(5);
/// A replica that leaves Samples unanswered for this long is gone.
const UNANSWERED: Duration = Duration::from_secs(10);
const WATCHDOG: Duration = Duration::from_secs(1);
/// Without an answer to an HTTP/2 ping for this long, at this pace, the connection is gone.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Messages that wait to be sent. A second's worth at 10 Hz, and the replay.
const QUEUE: usize = 16;
/// Largest message that is taken: a full set of directives for 1,024 pods is well below.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// What a stream reports.
#[derive(Debug)]
pub(super) enum Event {
    Hint(LeaderHint),
    Directives(Directives),
    Ended(Ended),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("no answer within {CONNECT:?}")]
    NoAnswer,
    #[error("the replica ended the stream: {} ({})", .0.message(), reason(.0.code()))]
    Status(#[source] Box<tonic::Status>),
    #[error("the replica closed the stream")]
    Closed,
    #[error("samples were not acknowledged for {UNANSWERED:?}")]
    Silent,
}

impl Ended {
    /// For the metric's label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials",
            Self::Connect(_) | Self::NoAnswer => "connect",
            Self::Status(status) => reason(status.code()),
            Self::Closed => "closed",
            Self::Silent => "silent",
        }
    }
}

fn reason(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Unauthenticated => "unauthenticated",
        tonic::Code::PermissionDenied => "permission_denied",
        tonic::Code::FailedPrecondition => "failed_precondition",
        tonic::Code::ResourceExhausted => "resource_exhausted",
        tonic::Code::Unavailable => "unavailable",
        _ => "other",
    }
}

/// A running stream; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outlet: Outlet,
    _cancel: DropGuard,
}

impl Link {
    /// Starts a task that opens a stream to `address` and reports to `events`.
    pub(super) fn start(
        id: LinkId,
        address: String,
        config: Arc<Config>,
        hello: Hello,
        events: mpsc::Sender<(LinkId, Event)>,
    ) -> Self {
        let (messages, queue) = mpsc::channel(QUEUE);
        let sent = Arc::new(AtomicU64::new(0));
        let cancel = CancellationToken::new();
        let outlet = Outlet {
            messages: messages.clone(),
            sent: sent.clone(),
        };
        let guard = cancel.clone().drop_guard();
        tokio::spawn(async move {
            let stream = Stream {
                id,
                config,
                events: events.clone(),
                sent,
            };
            // The sender moves in, so that the queue lives as long as the task.
            let run = stream.run(&address, hello, messages, queue);
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = run => ended,
            };
            // Fails when the agent stops.
            let _ = events.send((id, Event::Ended(ended))).await;
        });
        Self {
            outlet,
            _cancel: guard,
        }
    }
}

struct Stream {
    id: LinkId,
    config: Arc<Config>,
    events: mpsc::Sender<(LinkId, Event)>,
    sent: Arc<AtomicU64>,
}

impl Stream {
    async fn run(
        &self,
        address: &str,
        hello: Hello,
        messages: mpsc::Sender<AgentMessage>,
        queue: mpsc::Receiver<AgentMessage>,
    ) -> Ended {
        let opened = tokio::time::timeout(CONNECT, async {
            // The queue is new and empty, so there is room.
            let _ = messages
                .send(AgentMessage {
                    message: Some(Up::Hello(hello)),
                })
                .await;
            let (authorization, channel) = self.connect(address).await?;
            let mut request = Request::new(ReceiverStream::new(queue));
            request
                .metadata_mut()
                .insert("authorization", authorization);
            let mut client = NodeServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
            let mut answers = client
                .connect(request)
                .await
                .map_err(|status| Ended::Status(Box::new(status)))?
                .into_inner();
            let first = next(&mut answers).await?;
            Ok((answers, first))
        });
        match opened.await {
            Err(_) => Ended::NoAnswer,
            Ok(Err(ended)) => ended,
            Ok(Ok((answers, first))) => self.follow(answers, first).await,
        }
    }

    async fn connect(
        &self,
        address: &str,
    ) -> Result<
        (
            tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
            Channel,
        ),
        Ended,
    > {
        let Credentials { ca, authorization } =
            Credentials::read(&self.config.ca_file, &self.config.token_file)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = self
            .config
            .server_name
            .as_deref()
            .unwrap_or(host.trim_matches(['[', ']']));
        let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(name);
        let channel = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(Ended::Connect)?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(Ended::Connect)?;
        Ok((authorization, channel))
    }

    async fn follow(
        &self,
        mut answers: Streaming<neap_proto::node::CoordinatorMessage>,
        first: Down,
    ) -> Ended {
        let mut acknowledged = 0;
        let mut progress = Instant::now();
        let mut watchdog = tokio::time::interval(WATCHDOG);
        let mut message = first;
        loop {
            match message {
                Down::Leader(hint) => self.report(Event::Hint(hint)).await,
                Down::Directives(directives) => self.report(Event::Directives(directives)).await,
                Down::Ack(ack) => {
                    acknowledged = ack.sequence;
                    progress = Instant::now();
                }
            }
            message = loop {
                tokio::select! {
                    answer = next(&mut answers) => match answer {
                        Ok(answer) => break answer,
                        Err(ended) => return ended,
                    },
                    _ = watchdog.tick() => {
                        if self.sent.load(Ordering::Acquire) <= acknowledged {
                            progress = Instant::now();
                        } else if progress.elapsed() >= UNANSWERED {
                            return Ended::Silent;
                        }
                    }
                }
            };
        }
    }

    async fn report(&self, event: Event) {
        // Fails when the agent stops.
        let _ = self.events.send((self.id, event)).await;
    }
}

/// The next message of a kind that is known.
async fn next(
    answers: &mut Streaming<neap_proto::node::CoordinatorMessage>,
) -> Result<Down, Ended> {
    loop {
        let answer = answers
            .message()
            .await
            .map_err(|status| Ended::Status(Box::new(status)))?;
        if let Some(message) = answer.ok_or(Ended::Closed)?.message {
            return Ok(message);
        }
    }
}
