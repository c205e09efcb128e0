//! What all triggers share: HTTP clients, SQL connection pools and links to Redis.

use std::fmt;
use std::sync::Arc;

use crate::http::HttpClients;
use crate::redis_link::RedisLinks;
use crate::sql::SqlPools;

/// How much the shared clients and pools may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLimits {
    /// HTTP clients with different TLS settings. Beyond it a poll fails and says so.
    pub http_clients: usize,
    /// Idle connections that one HTTP client keeps to one host.
    pub http_idle_per_host: usize,
    /// Redis servers or clusters with an open connection. Beyond it a poll fails and says so.
    pub redis_links: usize,
    /// Databases with open pools. Beyond it a poll fails and says so.
    pub sql_pools: usize,
    /// Connections to one database.
    pub sql_connections_per_pool: u32,
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self {
            http_clients: 1_000,
            http_idle_per_host: 4,
            redis_links: 1_000,
            sql_pools: 1_000,
            sql_connections_per_pool: 2,
        }
    }
}

/// Clients and pools shared by all triggers. Cheap to clone; what no trigger uses any more is
/// closed.
#[derive(Clone)]
pub struct TriggerContext {
    pub(crate) http: Arc<HttpClients>,
    pub(crate) redis: Arc<RedisLinks>,
    pub(crate) sql: Arc<SqlPools>,
}

impl TriggerContext {
    /// A context that holds nothing yet.
    #[must_use]
    pub fn new(limits: ContextLimits) -> Self {
        Self {
            http: Arc::new(HttpClients::new(limits)),
            redis: Arc::new(RedisLinks::new(limits)),
            sql: Arc::new(SqlPools::new(limits)),
        }
    }
}

impl Default for TriggerContext {
    fn default() -> Self {
        Self::new(ContextLimits::default())
    }
}

impl fmt::Debug for TriggerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TriggerContext").finish_non_exhaustive()
    }
}
