//! `postgresql`: a query of PostgreSQL that gives one number.

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;

use super::polled::external_kind;
use super::sql_query::SqlQuery;
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::metadata::{self, Field, Origin, Settings, Value};
use crate::registry::Checked;
use crate::shared::Digest;
use crate::sql::{Connector, PostgresDsn, Role, postgres_number};

const NAME: &str = "postgresql";
const AUTH_OR_ENV: &[Origin] = &[Origin::Auth, Origin::Env];
const AUTH_OR_METADATA: &[Origin] = &[Origin::Auth, Origin::Metadata];

const FIELDS: &[Field] = &[
    Field::float("targetQueryValue"),
    Field::float("activationTargetQueryValue"),
    Field::text("connection").from(AUTH_OR_ENV).secret(),
    Field::text("query").required(),
    Field::text("host").from(AUTH_OR_METADATA),
    Field::text("port").from(AUTH_OR_METADATA),
    Field::text("userName").from(AUTH_OR_METADATA),
    Field::text("dbName").from(AUTH_OR_METADATA),
    Field::text("sslmode").from(AUTH_OR_METADATA),
    Field::text("password").from(AUTH_OR_ENV).secret(),
];

const PARTS: [(&str, &str); 5] = [
    ("host", "host"),
    ("port", "port"),
    ("user", "userName"),
    ("dbname", "dbName"),
    ("sslmode", "sslmode"),
];

/// What a connection needs to be made and used.
struct Server {
    dsn: PostgresDsn,
    query: String,
}

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS], config);
    let kind = external_kind(config, &mut errors);
    if settings.text("connection").is_empty() {
        for (_, field) in PARTS
            .iter()
            .filter(|(_, field)| settings.text(field).is_empty())
        {
            let allowed = "give connection, or host, port, userName, dbName, sslmode and password";
            errors.push(FieldError::missing(*field, allowed));
        }
    }
    let target = settings.float("targetQueryValue");
    if target == 0.0
        && !config.as_metric_source
        && !errors.iter().any(|error| error.field == "targetQueryValue")
    {
        errors.push(FieldError::missing(
            "targetQueryValue",
            "it must be a number other than 0",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let unusable = match config.pod_identity.provider.as_str() {
        "" | "none" => {
            if settings.text("connection").is_empty() {
                let text = format!(
                    "{} password={}",
                    parts(&settings),
                    quoted(settings.text("password"))
                );
                settings.replace("connection", Value::Text(text));
            }
            None
        }
        provider => {
            if provider == "azure-workload" {
                let text = format!("{} %PASSWORD%", parts(&settings));
                settings.replace("connection", Value::Text(text));
            }
            let allowed =
                "Neap cannot yet log in to PostgreSQL with a pod identity; use a password";
            Some(FieldError::invalid(
                "podIdentity.provider",
                provider,
                allowed,
            ))
        }
    };
    Ok(query(&settings, config, unusable).built(config, kind, NAME, target, settings))
}

fn query(
    settings: &Settings,
    config: &TriggerConfig,
    unusable: Option<FieldError>,
) -> SqlQuery<Server, PgConnection> {
    let activation = settings.float("activationTargetQueryValue");
    let query = settings.text("query").to_owned();
    let mut parts = vec![NAME.to_owned(), query.clone(), activation.to_string()];
    let dsn = unusable.map_or_else(|| PostgresDsn::parse(settings.text("connection")), Err);
    let target = dsn.and_then(|dsn| {
        let server = dsn.digest_parts();
        let pool = config.context.sql.postgres(Digest::of(&server))?;
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

/// The fields as a connection text, but for the password.
fn parts(settings: &Settings) -> String {
    PARTS
        .map(|(key, field)| format!("{key}={}", quoted(settings.text(field))))
        .join(" ")
}

/// A value of a connection text, in quotes where it needs them.
fn quoted(text: &str) -> String {
    if !text.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Connector<PgConnection> for Server {
    /// The first server that answers and has the role wanted; the last one's error where none has.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut last = sqlx::Error::Configuration("no server is named".into());
        for (host, port) in &self.dsn.servers {
            match self.connect_to(host, *port).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn query(&self, connection: &mut PgConnection) -> Result<f64, sqlx::Error> {
        postgres_number(connection, &self.query).await
    }
}

impl Server {
    async fn connect_to(&self, host: &str, port: u16) -> Result<PgConnection, sqlx::Error> {
        let options = self.dsn.options(host, port);
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
            let set = sqlx::query("SELECT set_config($1, $2, false)")
                .bind(name)
                .bind(value)
                .persistent(false);
            set.execute(&mut connection).await?;
        }
        let test = match self.dsn.role {
            Role::Any => return Ok(connection),
            Role::ReadWrite => "SELECT current_setting('transaction_read_only') = 'off'",
            Role::ReadOnly => "SELECT current_setting('transaction_read_only') = 'on'",
            Role::Primary => "SELECT NOT pg_is_in_recovery()",
            Role::Standby => "SELECT pg_is_in_recovery()",
        };
        if sqlx::query_scalar::<_, bool>(test)
            .persistent(false)
            .fetch_one(&mut connection)
            .await?
        {
            return Ok(connection);
        }
        Err(sqlx::Error::Configuration(
            format!("{host}:{port} is not what target_session_attrs asks for").into(),
        ))
    }
}
