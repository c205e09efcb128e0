//! Connections to Redis: one server, a cluster, or a server found through sentinels. Triggers with
//! equal settings share one, over which their commands are interleaved.

mod open;
mod settings;

use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue, RedisError, RedisFuture, Value};
use tokio::sync::Mutex;

pub(crate) use settings::{Deployment, RedisSettings};

use crate::context::ContextLimits;
use crate::error::{FieldError, PollError};
use crate::shared::{Shared, SharedError};

/// The links in use.
pub(crate) struct RedisLinks {
    links: Shared<RedisLink>,
}

impl RedisLinks {
    pub(crate) fn new(limits: ContextLimits) -> Self {
        Self {
            links: Shared::new(limits.redis_links),
        }
    }

    /// The link for `settings`; nothing is connected yet.
    pub(crate) fn link(&self, settings: RedisSettings) -> Result<Arc<RedisLink>, FieldError> {
        let made = self.links.get_or_make(settings.digest(), || {
            Ok(RedisLink {
                settings,
                connection: Mutex::new(None),
            })
        });
        made.map_err(|error: SharedError<std::convert::Infallible>| match error {
            SharedError::Full(limit) => FieldError::missing(
                "a Redis connection",
                format!("{limit} different servers are in use, and that is the limit"),
            ),
            SharedError::Make(never) => match never {},
        })
    }
}

/// A connection that is made when it is first needed, and again after it broke.
pub(crate) struct RedisLink {
    settings: RedisSettings,
    connection: Mutex<Option<Connection>>,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl RedisLink {
    /// Sends a command. Where the kept connection turns out to be broken it is sent once more on a
    /// new one.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let kept = self.connection.lock().await.clone();
        if let Some(mut connection) = kept {
            match command.query_async(&mut connection).await {
                Err(error) if is_broken(&error) => {}
                result => return result,
            }
        }
        let mut connection = open::connect(&self.settings).await?;
        let result = command.query_async(&mut connection).await;
        *self.connection.lock().await =
            Some(connection).filter(|_| !result.as_ref().is_err_and(is_broken));
        result
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// What an error of Redis means for a poll.
pub(crate) fn redis_error(error: &RedisError) -> PollError {
    const NAME: &str = "redis";
    let reason = error.to_string();
    match error.kind() {
        redis::ErrorKind::UnexpectedReturnType | redis::ErrorKind::Parse => PollError::Answer {
            source_name: NAME,
            reason,
        },
        redis::ErrorKind::Server(_)
        | redis::ErrorKind::Extension
        | redis::ErrorKind::AuthenticationFailed => PollError::Refused {
            source_name: NAME,
            reason,
        },
        _ => PollError::Unreachable {
            source_name: NAME,
            reason,
        },
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
