//! TLS of the triggers: what is trusted, who asks, and what is said where it fails.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use std::sync::Arc;

use neap_triggers::{BuiltTrigger, PollError, TriggerContext};
use neap_units::MilliValue;
use support::redis::Redis;
use support::tls::Authority;
use support::{poll, trigger};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A server that answers every request like Prometheus, and asks for a client's certificate where
/// `mutual` says so. Gives its address.
async fn serve(authority: &Authority, mutual: bool) -> String {
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificate =
        |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("certificate");
    let config = ServerConfig::builder();
    let config = if mutual {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&authority.ca)).expect("root");
        config.with_client_cert_verifier(
            WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .expect("verifier"),
        )
    } else {
        config.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(authority.server.key.as_bytes()).expect("key");
    let config = config
        .with_single_cert(vec![certificate(&authority.server.cert)], key)
        .expect("pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let body = r#"{"data":{"resultType":"vector","result":[{"value":[1,"7"]}]}}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("https://{address}")
}

fn prometheus(
    context: &TriggerContext,
    address: &str,
    more: &[(&str, &str)],
    auth: &[(&str, &str)],
) -> BuiltTrigger {
    let mut metadata = vec![
        ("serverAddress", address),
        ("query", "up"),
        ("threshold", "1"),
    ];
    metadata.extend(more);
    trigger(context, "prometheus", &metadata, auth)
}

#[tokio::test]
async fn http_trusts_what_it_is_told_to_trust() {
    let authority = Authority::new();
    let context = TriggerContext::default();
    let address = serve(&authority, false).await;
    let error = poll(&prometheus(&context, &address, &[], &[]))
        .await
        .expect_err("nobody knows this authority");
    assert!(matches!(&error, PollError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "the reason reaches the user: {error}"
    );
    let unsafe_ssl = poll(&prometheus(
        &context,
        &address,
        &[("unsafeSsl", "true")],
        &[],
    ))
    .await
    .expect("unchecked");
    assert_eq!(unsafe_ssl.values, [MilliValue::from_units(7)]);
    let own = [("authModes", "basic")];
    let auth = [("username", "u"), ("ca", authority.ca.as_str())];
    poll(&prometheus(&context, &address, &own, &auth))
        .await
        .expect("its own authority");
    let other = Authority::new();
    let auth = [("username", "u"), ("ca", other.ca.as_str())];
    poll(&prometheus(
        &context,
        &address,
        &[("authModes", "basic"), ("unsafeSsl", "true")],
        &auth,
    ))
    .await
    .expect_err("another authority");
}

#[tokio::test]
async fn http_shows_its_certificate() {
    let authority = Authority::new();
    let context = TriggerContext::default();
    let address = serve(&authority, true).await;
    let pair = [
        ("cert", authority.client.cert.as_str()),
        ("key", authority.client.key.as_str()),
        ("ca", authority.ca.as_str()),
    ];
    let reading = poll(&prometheus(
        &context,
        &address,
        &[("authModes", "tls")],
        &pair,
    ))
    .await
    .expect("mutual TLS");
    assert_eq!(reading.values, [MilliValue::from_units(7)]);
    let auth = [("username", "u"), ("ca", authority.ca.as_str())];
    poll(&prometheus(
        &context,
        &address,
        &[("authModes", "basic")],
        &auth,
    ))
    .await
    .expect_err("no certificate");
}

#[tokio::test]
async fn redis_speaks_tls() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).expect("file");
        path.display().to_string()
    };
    let (ca, cert, key) = (
        file("ca", &authority.ca),
        file("cert", &authority.server.cert),
        file("key", &authority.server.key),
    );
    let port = support::free_port().to_string();
    let words = [
        "--tls-port",
        &port,
        "--tls-ca-cert-file",
        &ca,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
    ];
    let Some(server) = Redis::start(&words).await else {
        return;
    };
    server.run(&["RPUSH", "l", "1", "2"]).await;
    let context = TriggerContext::default();
    let address = format!("{}:{port}", support::host());
    let metadata = [("address", address.as_str()), ("listName", "l")];
    let auth = [
        ("password", "s3cret"),
        ("tls", "enable"),
        ("ca", authority.ca.as_str()),
        ("cert", authority.client.cert.as_str()),
        ("key", authority.client.key.as_str()),
    ];
    assert_eq!(
        poll(&trigger(&context, "redis", &metadata, &auth))
            .await
            .expect("mutual TLS")
            .values,
        [MilliValue::from_units(2)]
    );
    let error = poll(&trigger(&context, "redis", &metadata, &auth[..2]))
        .await
        .expect_err("nobody knows this authority");
    assert!(matches!(&error, PollError::Unreachable { .. }), "{error}");
}
