//! HTTP clients, shared by triggers with the same TLS settings.

use std::sync::Arc;
use std::time::Duration;

use crate::context::ContextLimits;
use crate::error::FieldError;
use crate::shared::{Digest, Shared, SharedError};

const IDLE: Duration = Duration::from_secs(90);
const CONNECT: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("neap/", env!("CARGO_PKG_VERSION"));

/// TLS settings of a trigger, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// Accept any server certificate.
    pub(crate) insecure: bool,
    /// Certificates trusted besides the system's; may be empty.
    pub(crate) ca: String,
    /// Client certificate chain; may be empty.
    pub(crate) cert: String,
    /// Key of the client certificate; may be empty.
    pub(crate) key: String,
}

impl TlsOptions {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of([
            if self.insecure { "1" } else { "0" },
            &self.ca,
            &self.cert,
            &self.key,
        ])
    }
}

/// The clients in use.
pub(crate) struct HttpClients {
    idle_per_host: usize,
    clients: Shared<reqwest::Client>,
}

impl HttpClients {
    pub(crate) fn new(limits: ContextLimits) -> Self {
        Self {
            idle_per_host: limits.http_idle_per_host,
            clients: Shared::new(limits.http_clients),
        }
    }

    /// The client for `tls`.
    pub(crate) fn client(&self, tls: &TlsOptions) -> Result<Arc<reqwest::Client>, FieldError> {
        self.clients
            .get_or_make(tls.digest(), || self.make(tls))
            .map_err(|error| match error {
                SharedError::Full(limit) => FieldError::missing(
                    "an HTTP client",
                    format!("{limit} different TLS settings are in use, and that is the limit"),
                ),
                SharedError::Make(error) => error,
            })
    }

    fn make(&self, tls: &TlsOptions) -> Result<reqwest::Client, FieldError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only where another thread installed one in between, which serves as well.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let roots = certificates("ca", &tls.ca)?;
        let identity = if tls.cert.is_empty() || tls.key.is_empty() {
            None
        } else {
            let pem = format!("{}\n{}", tls.cert.trim_end(), tls.key);
            let identity = reqwest::Identity::from_pem(pem.as_bytes())
                .map_err(|_| pem_error("cert and key"))?;
            Some(identity)
        };
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .connect_timeout(CONNECT)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(self.idle_per_host)
                .tls_danger_accept_invalid_certs(tls.insecure);
            if let Some(identity) = identity.clone() {
                builder = builder.identity(identity);
            }
            builder
        };
        let with_system = if roots.is_empty() {
            builder()
        } else {
            builder().tls_certs_merge(roots.clone())
        };
        // An image without any system certificates must still be able to speak plain HTTP, and
        // TLS with the certificates given.
        with_system
            .build()
            .or_else(|_| builder().tls_certs_only(roots).build())
            .map_err(|_| pem_error("cert and key"))
    }
}

fn certificates(field: &str, pem: &str) -> Result<Vec<reqwest::Certificate>, FieldError> {
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    match reqwest::Certificate::from_pem_bundle(pem.as_bytes()) {
        Ok(bundle) if !bundle.is_empty() => Ok(bundle),
        _ => Err(pem_error(field)),
    }
}

fn pem_error(field: &str) -> FieldError {
    FieldError::invalid(
        field,
        "<redacted>",
        "it must hold certificates, and a key that fits, in PEM",
    )
}
