//! The fields by which the Redis triggers find and reach their servers.

use std::sync::Arc;

use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::http::TlsOptions;
use crate::metadata::{Field, Origin, Settings, Value, parse_bool};
use crate::redis_link::{Deployment, RedisLink, RedisSettings};

const METADATA_AUTH_ENV: &[Origin] = &[Origin::Metadata, Origin::Auth, Origin::Env];
const METADATA_ENV_AUTH: &[Origin] = &[Origin::Metadata, Origin::Env, Origin::Auth];
const AUTH: &[Origin] = &[Origin::Auth];

/// The fields.
pub(super) const CONNECTION_FIELDS: &[Field] = &[
    Field::list("address")
        .or_named(&["addresses"])
        .from(METADATA_AUTH_ENV),
    Field::text("username").from(METADATA_ENV_AUTH),
    Field::text("password").from(METADATA_ENV_AUTH).secret(),
    Field::text("sentinelUsername").from(METADATA_AUTH_ENV),
    Field::text("sentinelPassword")
        .from(METADATA_AUTH_ENV)
        .secret(),
    Field::text("sentinelMaster").from(METADATA_AUTH_ENV),
    Field::list("host")
        .or_named(&["hosts"])
        .from(METADATA_ENV_AUTH),
    Field::list("port")
        .or_named(&["ports"])
        .from(METADATA_ENV_AUTH),
    Field::boolean("unsafeSsl").or_default("false"),
    Field::text("Cert").or_named(&["cert"]).from(AUTH).secret(),
    Field::text("key").from(AUTH).secret(),
    Field::text("keyPassword").from(AUTH).secret(),
    Field::text("ca").from(AUTH).secret(),
];

/// Joins hosts and ports to addresses, and `enableTLS` and `tls` to one truth value under
/// `enableTLS`. Faults are added to `errors`.
pub(super) fn read_connection(settings: &mut Settings, errors: &mut Vec<FieldError>) {
    let (hosts, ports) = (settings.list("host"), settings.list("port"));
    let mut addresses = settings.list("address").to_vec();
    if !hosts.is_empty() && !ports.is_empty() {
        if hosts.len() != ports.len() {
            let given = format!("{} hosts and {} ports", hosts.len(), ports.len());
            errors.push(FieldError::invalid(
                "host and port",
                given,
                "there must be as many ports as hosts",
            ));
        }
        addresses.extend(hosts.iter().zip(ports).map(|(host, port)| join(host, port)));
    }
    if addresses.first().is_none_or(String::is_empty) {
        let allowed =
            "it must be a list of host:port separated by commas, or host and port must be given";
        errors.push(FieldError::missing("address", allowed));
    }
    let secret = ["address", "host", "port"]
        .iter()
        .any(|name| settings.is_secret(name));
    settings.set("address", Value::List(addresses), secret);
    let enable = match (settings.text("enableTLS"), settings.text("tls")) {
        ("", "") => false,
        ("", "enable") => true,
        ("", "disable") => false,
        ("", _) => {
            errors.push(FieldError::invalid(
                "tls",
                "<redacted>",
                "it must be enable or disable",
            ));
            false
        }
        (text, "") => parse_bool(text).unwrap_or_else(|| {
            errors.push(FieldError::invalid(
                "enableTLS",
                text,
                "it must be true or false",
            ));
            false
        }),
        (text, _) => {
            errors.push(FieldError::invalid(
                "enableTLS",
                text,
                "it cannot be set together with tls of the TriggerAuthentication",
            ));
            false
        }
    };
    settings.set("enableTLS", Value::Bool(enable), false);
    settings.replace("tls", Value::Text(String::new()));
}

fn join(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The link that the settings describe, and what tells it from others.
pub(super) fn link(
    settings: &Settings,
    deployment: Deployment,
    config: &TriggerConfig,
) -> (Result<Arc<RedisLink>, FieldError>, u128) {
    match redis_settings(settings, deployment) {
        Ok(redis) => {
            let identity = redis.digest().0;
            (config.context.redis.link(redis), identity)
        }
        Err(error) => (Err(error), 0),
    }
}

fn redis_settings(
    settings: &Settings,
    deployment: Deployment,
) -> Result<RedisSettings, FieldError> {
    let enabled = settings.boolean("enableTLS");
    if enabled && !settings.text("keyPassword").is_empty() {
        return Err(FieldError::invalid(
            "keyPassword",
            "<redacted>",
            "an encrypted key cannot be read; give the key unencrypted",
        ));
    }
    let tls = enabled.then(|| TlsOptions {
        insecure: settings.boolean("unsafeSsl"),
        ca: settings.text("ca").to_owned(),
        cert: settings.text("Cert").to_owned(),
        key: settings.text("key").to_owned(),
    });
    let redis = RedisSettings::new(deployment, settings.list("address"))
        .map_err(|fault| settings.redacted(fault))?
        .with_database(settings.integer("databaseIndex"))
        .with_login(settings.text("username"), settings.text("password"))
        .with_tls(tls);
    redis.with_sentinel(
        settings.text("sentinelMaster"),
        settings.text("sentinelUsername"),
        settings.text("sentinelPassword"),
    )
}
