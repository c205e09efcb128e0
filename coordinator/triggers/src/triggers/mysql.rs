//! `mysql`: a query of MySQL or MariaDB that gives one number.

use std::sync::Arc;

use neap_units::MilliValue;
use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions, Executor};

use super::polled::{external_kind, external_metric, reading};
use crate::built::{
    Activation, BuiltTrigger, PollCall, PollFuture, PolledTrigger, QueryKey, Reading, Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::metadata::{self, Field, Origin, Settings, Value};
use crate::name::metric_name;
use crate::registry::Checked;
use crate::shared::Digest;
use crate::sql::{ConnectionPool, Connector, MysqlDsn, mysql_number, number_error};

const NAME: &str = "mysql";
const AUTH_OR_ENV: &[Origin] = &[Origin::Auth, Origin::Env];
const METADATA_OR_AUTH: &[Origin] = &[Origin::Metadata, Origin::Auth];

const FIELDS: &[Field] = &[
    Field::text("connectionString").from(AUTH_OR_ENV).secret(),
    Field::text("username").from(&[Origin::Metadata, Origin::Auth, Origin::Env]),
    Field::text("password").from(AUTH_OR_ENV).secret(),
    Field::text("host").from(METADATA_OR_AUTH),
    Field::text("port").from(METADATA_OR_AUTH),
    Field::text("dbName").from(METADATA_OR_AUTH),
    Field::text("query").required(),
    Field::float("queryValue").required(),
    Field::float("activationQueryValue").or_default("0"),
    Field::text("metricName"),
];

/// A query with the pool that it runs on.
struct Mysql {
    target: Result<(Server, Arc<ConnectionPool<MySqlConnection>>), FieldError>,
    key: Digest,
    activation: f64,
}

/// What a connection needs to be made and used.
struct Server {
    dsn: MysqlDsn,
    query: String,
}

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS], config);
    let kind = external_kind(config, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let connection = settings.text("connectionString");
    if !connection.is_empty() {
        // All that follows the last slash, parameters included: KEDA's rule, and so the metric's name.
        let database = connection.rsplit('/').next().unwrap_or_default().to_owned();
        settings.set("dbName", Value::Text(database), false);
    }
    let base = format!("mysql-{}", settings.text("dbName"));
    settings.replace("metricName", Value::Text(metric_name(config.index, &base)));
    let trigger = Mysql::new(&settings, config);
    let metrics = external_metric(
        config,
        kind,
        &base,
        MilliValue::from_metric_f64(settings.float("queryValue")),
    );
    let activation = Activation::Above(trigger.activation);
    let warnings = trigger.target.as_ref().err().cloned();
    let mut built = BuiltTrigger::new(
        NAME,
        config,
        metrics,
        activation,
        Source::Polled(Arc::new(trigger)),
        settings,
    );
    built.warnings.extend(warnings);
    Ok(built)
}

impl Mysql {
    fn new(settings: &Settings, config: &TriggerConfig) -> Self {
        let activation = settings.float("activationQueryValue");
        let query = settings.text("query").to_owned();
        let dsn = match settings.text("connectionString") {
            "" => {
                let [host, port, user, password, database] =
                    ["host", "port", "username", "password", "dbName"]
                        .map(|name| settings.text(name));
                MysqlDsn::from_parts(host, port, user, password, database)
            }
            text => MysqlDsn::parse(text),
        };
        let mut parts = vec![NAME.to_owned(), query.clone(), activation.to_string()];
        let target = dsn.and_then(|dsn| {
            let server = dsn.digest_parts();
            let pool = config.context.sql.mysql(Digest::of(&server))?;
            parts.extend(server);
            Ok((Server { dsn, query }, pool))
        });
        Self {
            target,
            key: Digest::of(parts),
            activation,
        }
    }

    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let (server, pool) = self
            .target
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let timed_out = || PollError::Timeout {
            source_name: NAME,
            waited: call.timeout,
        };
        let value = tokio::time::timeout(call.timeout, pool.number(server))
            .await
            .map_err(|_| timed_out())?;
        Ok(reading(
            value.map_err(|error| number_error(NAME, &error))?,
            self.activation,
        ))
    }
}

impl Connector<MySqlConnection> for Server {
    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let options = self.dsn.options();
        let connecting = options.connect();
        let mut connection = if self.dsn.timeout.is_zero() {
            connecting.await?
        } else {
            tokio::time::timeout(self.dsn.timeout, connecting)
                .await
                .map_err(|_| sqlx::Error::PoolTimedOut)??
        };
        for (name, value) in &self.dsn.variables {
            connection
                .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
                    "SET {name} = {value}"
                ))))
                .await?;
        }
        Ok(connection)
    }

    async fn query(&self, connection: &mut MySqlConnection) -> Result<f64, sqlx::Error> {
        mysql_number(connection, &self.query).await
    }
}

impl PolledTrigger for Mysql {
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key.0)
    }
}

impl std::fmt::Debug for Mysql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = self.target.as_ref().ok().map(|(server, _)| &server.dsn);
        f.debug_struct("Mysql")
            .field("server", &server)
            .finish_non_exhaustive()
    }
}
