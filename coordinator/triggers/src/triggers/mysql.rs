//! `mysql`: a query of MySQL or MariaDB that gives one number.

use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions, Executor};

use super::polled::external_kind;
use super::sql_query::SqlQuery;
use crate::config::TriggerConfig;
use crate::metadata::{self, Field, Origin, Settings, Value};
use crate::name::metric_name;
use crate::registry::Checked;
use crate::shared::Digest;
use crate::sql::{Connector, MysqlDsn, mysql_number};

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
        settings.set("dbName", Value::Text(database), true);
    }
    let base = format!("mysql-{}", settings.text("dbName"));
    let secret = settings.is_secret("dbName");
    settings.set(
        "metricName",
        Value::Text(metric_name(config.index, &base)),
        secret,
    );
    let target = settings.float("queryValue");
    Ok(query(&settings, config).built(config, kind, &base, target, settings))
}

fn query(settings: &Settings, config: &TriggerConfig) -> SqlQuery<Server, MySqlConnection> {
    let activation = settings.float("activationQueryValue");
    let query = settings.text("query").to_owned();
    let dsn = match settings.text("connectionString") {
        "" => {
            let [host, port, user, password, database] =
                ["host", "port", "username", "password", "dbName"].map(|name| settings.text(name));
            MysqlDsn::from_parts(host, port, user, password, database)
                .map_err(|fault| settings.redacted(fault))
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
    SqlQuery {
        source_name: NAME,
        target,
        key: Digest::of(parts),
        activation,
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
                .map_err(|_| {
                    sqlx::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
                })??
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
