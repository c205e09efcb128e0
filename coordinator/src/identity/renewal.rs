//! Keeping the authority and this coordinator's certificates fresh.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use neap_consensus::PeerTls;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::authority::{CertificateKind, renewal_time};
use super::authority_store::AuthorityStore;
use super::credentials::Credentials;
use super::process::{IdentityConfig, IdentityError};
use crate::clock::Clock;

/// How often the Secret is looked at. A new authority stands in it for an hour before it signs.
const LOOK_EACH: Duration = Duration::from_secs(600);
/// After a failure.
const RETRY_EACH: Duration = Duration::from_secs(60);

pub(super) struct Renewal {
    store: AuthorityStore,
    config: IdentityConfig,
    credentials: Arc<Credentials>,
    in_force: Mutex<InForce>,
}

/// What is in use, and what it was made from.
#[derive(Default)]
struct InForce {
    signer: Option<CertificateDer<'static>>,
    renew_at: Option<Timestamp>,
    /// Peer certificate and key in PEM form.
    peer: Option<(String, String)>,
    expiry: Option<Expiry>,
}

/// When the certificates in use end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// This coordinator's own.
    pub coordinator: Timestamp,
    /// The authority's.
    pub authority: Timestamp,
}

impl Renewal {
    pub(super) fn new(
        store: AuthorityStore,
        config: IdentityConfig,
        credentials: Arc<Credentials>,
    ) -> Self {
        Self {
            store,
            config,
            credentials,
            in_force: Mutex::default(),
        }
    }

    /// Looks at the authority, takes the step that is due for it, publishes it, and signs new
    /// certificates when the signer changed or two thirds of their life are over.
    pub(super) async fn renew(&self, now: Timestamp) -> Result<(), IdentityError> {
        let state = self.store.load(now).await?;
        // Published first: nobody is shown a certificate of an authority that agents cannot know.
        self.store.publish(&state).await?;
        let bundle = state.bundle();
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let signer_changed = in_force.signer.as_ref() != Some(state.current.certificate());
        if signer_changed || in_force.renew_at.is_none_or(|at| now >= at) {
            let names = self.config.dns_names();
            let addresses = IdentityConfig::addresses();
            let sign = |kind| state.current.sign(kind, &names, &addresses, now);
            let (server, peer) = (sign(CertificateKind::Server)?, sign(CertificateKind::Peer)?);
            let (not_before, not_after) = (server.not_before, server.not_after);
            self.credentials.set_server(server)?;
            in_force.peer = Some((peer.certificate_pem, peer.key_pem));
            in_force.signer = Some(state.current.certificate().clone());
            in_force.renew_at = Some(renewal_time(not_before, not_after));
            in_force.expiry = Some(Expiry {
                coordinator: not_after,
                authority: state.current.not_after(),
            });
            tracing::info!(%not_after, names = names.join(","), "certificates signed");
        }
        if let Some((certificate, key)) = in_force.peer.clone() {
            self.credentials.set_peer(PeerTls {
                ca: bundle,
                certificate,
                key,
            });
        }
        Ok(())
    }

    /// When what is in use ends; `None` before anything was signed.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        let in_force = self.in_force.lock();
        in_force.unwrap_or_else(PoisonError::into_inner).expiry
    }

    pub(super) async fn run(&self, clock: &dyn Clock, shutdown: CancellationToken) {
        let mut wait = LOOK_EACH;
        loop {
            let sleep = clock.sleep_until(clock.boottime() + wait);
            if shutdown.run_until_cancelled(sleep).await.is_none() {
                return;
            }
            wait = match self.renew(clock.wall()).await {
                Ok(()) => LOOK_EACH,
                Err(error) => {
                    tracing::warn!(%error, "certificates are not renewed; those in use stay");
                    RETRY_EACH
                }
            };
        }
    }
}
