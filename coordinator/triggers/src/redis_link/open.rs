//! Opening a connection.

use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode,
};

use super::{Connection, Deployment, RedisSettings};

pub(super) async fn connect(settings: &RedisSettings) -> RedisResult<Connection> {
    if settings.tls.is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only where another thread installed one in between, which serves as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    match settings.deployment {
        Deployment::Single => {
            let info = info(settings, settings.addresses.first())?;
            let client = match certificates(settings) {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            };
            Ok(Connection::One(
                client
                    .get_multiplexed_async_connection_with_config(&patient())
                    .await?,
            ))
        }
        Deployment::Cluster => {
            let nodes: Vec<ConnectionInfo> = settings
                .addresses
                .iter()
                .map(|address| info(settings, Some(address)))
                .collect::<RedisResult<_>>()?;
            // The caller's deadline ends a request; these only keep the driver from waiting longer.
            let mut builder = ClusterClientBuilder::new(nodes)
                .connection_timeout(LONGEST)
                .response_timeout(LONGEST)
                .retries(2);
            if let Some(tls) = &settings.tls {
                builder = builder.tls(mode(tls.insecure));
            }
            if let Some(certificates) = certificates(settings) {
                builder = builder.certs(certificates);
            }
            Ok(Connection::Cluster(
                builder.build()?.get_async_connection().await?,
            ))
        }
        Deployment::Sentinel => Ok(Connection::One(sentinel(settings).await?)),
    }
}

const LONGEST: std::time::Duration = std::time::Duration::from_secs(30);

/// No deadlines of the driver's own: the caller has one.
fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

async fn sentinel(settings: &RedisSettings) -> RedisResult<redis::aio::MultiplexedConnection> {
    let addresses = settings
        .addresses
        .iter()
        .map(|address| place(settings, address));
    let mut builder = SentinelClientBuilder::new(
        addresses,
        &settings.sentinel_master,
        SentinelServerType::Master,
    )?
    .set_client_to_redis_db(settings.database);
    if !settings.password.is_empty() {
        builder = builder.set_client_to_redis_password(&settings.password);
        if !settings.username.is_empty() {
            builder = builder.set_client_to_redis_username(&settings.username);
        }
    }
    if !settings.sentinel_password.is_empty() {
        builder = builder.set_client_to_sentinel_password(&settings.sentinel_password);
        if !settings.sentinel_username.is_empty() {
            builder = builder.set_client_to_sentinel_username(&settings.sentinel_username);
        }
    }
    if let Some(tls) = &settings.tls {
        builder = builder
            .set_client_to_redis_tls_mode(mode(tls.insecure))
            .set_client_to_sentinel_tls_mode(mode(tls.insecure));
    }
    if let Some(certificates) = certificates(settings) {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder
        .build()?
        .get_async_connection_with_config(&patient())
        .await
}

fn info(settings: &RedisSettings, address: Option<&(String, u16)>) -> RedisResult<ConnectionInfo> {
    let address = address
        .cloned()
        .unwrap_or_else(|| ("localhost".to_owned(), 6379));
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if settings.deployment != Deployment::Cluster {
        login = login.set_db(settings.database);
    }
    if !settings.password.is_empty() {
        login = login.set_password(&settings.password);
        if !settings.username.is_empty() {
            login = login.set_username(&settings.username);
        }
    }
    Ok(place(settings, &address)
        .into_connection_info()?
        .set_redis_settings(login))
}

fn place(settings: &RedisSettings, (host, port): &(String, u16)) -> ConnectionAddr {
    match &settings.tls {
        Some(tls) => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: tls.insecure,
            tls_params: None,
        },
        None => ConnectionAddr::Tcp(host.clone(), *port),
    }
}

fn mode(insecure: bool) -> TlsMode {
    if insecure {
        TlsMode::Insecure
    } else {
        TlsMode::Secure
    }
}

/// The certificates given; `None` where there are none.
fn certificates(settings: &RedisSettings) -> Option<TlsCertificates> {
    let tls = settings.tls.as_ref()?;
    let client_tls = (!tls.cert.is_empty() && !tls.key.is_empty()).then(|| ClientTlsConfig {
        client_cert: tls.cert.clone().into_bytes(),
        client_key: tls.key.clone().into_bytes(),
    });
    let root_cert = Some(&tls.ca)
        .filter(|ca| !ca.is_empty())
        .map(|ca| ca.clone().into_bytes());
    (client_tls.is_some() || root_cert.is_some()).then_some(TlsCertificates {
        client_tls,
        root_cert,
    })
}
