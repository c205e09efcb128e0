//! A few connections to one database, kept between polls.
//!
//! The pool of sqlx tries again for as long as it may wait while a server refuses, and then says
//! only that time ran out. A poll wants the refusal at once, so that the reason reaches the user.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A connection that stayed idle for longer is not used again: servers and middleboxes cut those.
const IDLE: Duration = Duration::from_secs(300);

/// How a connection is made and used.
pub(crate) trait Connector<C> {
    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<C, sqlx::Error>> + Send;
    /// Runs the query and gives its number.
    fn query(&self, connection: &mut C) -> impl Future<Output = Result<f64, sqlx::Error>> + Send;
}

/// The connections to one database.
pub(crate) struct ConnectionPool<C> {
    permits: Semaphore,
    idle: Mutex<Vec<(C, Instant)>>,
}

impl<C: Send> ConnectionPool<C> {
    pub(crate) fn new(connections: u32) -> Self {
        Self {
            permits: Semaphore::new(connections.max(1) as usize),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs the query on an idle connection or a new one. Where an idle connection turns out to be
    /// broken the query runs once more on a new one. A dropped call closes its connection.
    pub(crate) async fn number(&self, connector: &impl Connector<C>) -> Result<f64, sqlx::Error> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        if let Some(mut connection) = self.take() {
            match connector.query(&mut connection).await {
                Err(error) if is_broken(&error) => {}
                result => return self.keep(connection, result),
            }
        }
        let mut connection = connector.connect().await?;
        let result = connector.query(&mut connection).await;
        self.keep(connection, result)
    }

    fn take(&self) -> Option<C> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: C, result: Result<f64, sqlx::Error>) -> Result<f64, sqlx::Error> {
        if !result.as_ref().is_err_and(is_broken) {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((connection, Instant::now()));
        }
        result
    }
}

/// Whether the connection is of no more use. Servers say so in SQLSTATE class 08 (connection
/// exception), and PostgreSQL in 57P0x (terminated, shut down, starting) too.
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || code.starts_with("57P")),
        _ => false,
    }
}
