//! SQL for triggers: connection pools shared by connection settings, and queries that give one
//! number.

mod mysql_dsn;
mod number;
mod pool;
mod postgres_dsn;

use std::sync::Arc;

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;

pub(crate) use mysql_dsn::MysqlDsn;
pub(crate) use number::{mysql_number, number_error, postgres_number};
pub(crate) use pool::{ConnectionPool, Connector};
pub(crate) use postgres_dsn::{PostgresDsn, Role};

use crate::context::ContextLimits;
use crate::error::FieldError;
use crate::shared::{Digest, Shared, SharedError};

/// The pools in use.
pub(crate) struct SqlPools {
    connections: u32,
    mysql: Shared<ConnectionPool<MySqlConnection>>,
    postgres: Shared<ConnectionPool<PgConnection>>,
}

impl SqlPools {
    pub(crate) fn new(limits: ContextLimits) -> Self {
        Self {
            connections: limits.sql_connections_per_pool,
            mysql: Shared::new(limits.sql_pools),
            postgres: Shared::new(limits.sql_pools),
        }
    }

    /// The pool of the server, user and database that `key` identifies.
    pub(crate) fn mysql(
        &self,
        key: Digest,
    ) -> Result<Arc<ConnectionPool<MySqlConnection>>, FieldError> {
        self.mysql
            .get_or_make(key, || Ok(ConnectionPool::new(self.connections)))
            .map_err(full)
    }

    /// The same for PostgreSQL.
    pub(crate) fn postgres(
        &self,
        key: Digest,
    ) -> Result<Arc<ConnectionPool<PgConnection>>, FieldError> {
        self.postgres
            .get_or_make(key, || Ok(ConnectionPool::new(self.connections)))
            .map_err(full)
    }
}

fn full(error: SharedError<std::convert::Infallible>) -> FieldError {
    match error {
        SharedError::Full(limit) => FieldError::missing(
            "a connection pool",
            format!("{limit} different databases are in use, and that is the limit"),
        ),
        SharedError::Make(never) => match never {},
    }
}
