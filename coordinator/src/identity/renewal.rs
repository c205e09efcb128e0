//! Keeping this coordinator's certificates fresh, wherever they come from, and those that it trusts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use neap_consensus::PeerTls;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::authority::{CertificateKind, renewal_time};
use super::authority_store::{AuthorityState, AuthorityStore, StoreError};
use super::bundle::{Bundle, Publication};
use super::credentials::Credentials;
use super::files::{CertificateFiles, CertificateSet};
use super::others::Others;
use super::process::{IdentityConfig, IdentityError};
use crate::clock::Clock;

/// How often the Secret and the ConfigMap are looked at: others may publish another authority, and
/// show it once it has stood there for `bundle::SETTLE`.
const LOOK_EACH: Duration = Duration::from_secs(60);
/// How often files are read. The kubelet takes up to two minutes to exchange them.
const READ_EACH: Duration = Duration::from_secs(10);
/// After a failure.
const RETRY_EACH: Duration = Duration::from_secs(60);

/// Where certificates come from.
pub(super) enum Source {
    /// An authority that the coordinators share, in a Secret.
    Own(Box<AuthorityStore>),
    /// Someone else, by files.
    Files(CertificateFiles),
}

pub(super) struct Renewal {
    source: Source,
    publication: Publication,
    others: Others,
    config: IdentityConfig,
    credentials: Arc<Credentials>,
    in_force: Mutex<InForce>,
    /// Why the certificates wanted are not in use, as the log was told.
    said: Mutex<Option<String>>,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewed {
    /// Certificates are in use, and none is waited for.
    InForce,
    /// Others are waited for, for the reason that the log was told.
    Waits,
}

/// What is in use, and what it was made from.
#[derive(Default)]
struct InForce {
    signer: Option<CertificateDer<'static>>,
    renew_at: Option<Timestamp>,
    /// The own authorities when they were looked at last, in PEM form.
    authorities: Option<String>,
    /// Peer certificate and key in PEM form.
    peer: Option<(String, String)>,
    expiry: Option<Expiry>,
    /// The set of files.
    set: Option<Arc<CertificateSet>>,
    /// What the ConfigMap held when it was looked at last, and when that was.
    published: Option<(Bundle, Timestamp)>,
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
        client: kube::Client,
        source: Source,
        config: IdentityConfig,
        credentials: Arc<Credentials>,
    ) -> Self {
        let (namespace, name) = (&config.namespace, &config.authority_name);
        Self {
            source,
            publication: Publication::new(client.clone(), namespace, name),
            others: Others::new(client, namespace, &config.pod_name),
            config,
            credentials,
            in_force: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Looks whether other certificates are to be used, publishes their authority, and uses them once
    /// those who know only an older one could learn of it.
    pub(super) async fn renew(&self, now: Timestamp) -> Result<Renewed, IdentityError> {
        match &self.source {
            Source::Own(store) => self.renew_own(store, now).await,
            Source::Files(files) => Ok(self.renew_files(files, now).await?),
        }
    }

    /// Takes the step that is due for the authority, and signs new certificates when the signer
    /// changed or two thirds of their life are over.
    async fn renew_own(
        &self,
        store: &AuthorityStore,
        now: Timestamp,
    ) -> Result<Renewed, IdentityError> {
        let state = match store.load(now).await {
            Ok(state) => state,
            Err(error) => {
                self.trust_published(now).await;
                return Err(error.into());
            }
        };
        // Published first: nobody is shown a certificate of an authority that agents cannot know.
        let bundle = self.publication.add(&state.bundle(), now).await?;
        self.in_force().authorities = Some(state.bundle());
        let signer = state.current.certificate();
        if self.awaits(&bundle, signer, now).await? {
            self.trust(&mut self.in_force(), &bundle, now);
            return Ok(Renewed::Waits);
        }
        let mut in_force = self.in_force();
        let signer_changed = in_force.signer.as_ref() != Some(signer);
        if signer_changed || in_force.renew_at.is_none_or(|at| now >= at) {
            self.sign(&mut in_force, &state, now)?;
        }
        self.trust(&mut in_force, &bundle, now);
        drop(in_force);
        self.say(None);
        Ok(Renewed::InForce)
    }

    fn sign(
        &self,
        in_force: &mut InForce,
        state: &AuthorityState,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
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
        Ok(())
    }

    /// Takes the set of files if it is another one and can be used; if it cannot, the last good one
    /// stays.
    async fn renew_files(
        &self,
        files: &CertificateFiles,
        now: Timestamp,
    ) -> Result<Renewed, StoreError> {
        let current = self.in_force().set.clone();
        let read = files.read().await;
        let read = read.and_then(|texts| match &current {
            Some(set) if set.texts == texts => Ok(None),
            _ => files.check(texts, now).map(|set| Some(Arc::new(set))),
        });
        let (new, refused) = match read {
            Ok(new) => (new, None),
            Err(refused) => (None, Some(refused.to_string())),
        };
        let has_refused = refused.is_some();
        if let Some(refused) = refused {
            self.say(Some(refused));
        }
        let Some(set) = new.clone().or(current) else {
            return Ok(Renewed::Waits);
        };
        let bundle = self.published_with(&set, new.is_some(), now).await?;
        if let Some(new) = new {
            if self.awaits(&bundle, &new.signer, now).await? {
                self.trust(&mut self.in_force(), &bundle, now);
                return Ok(Renewed::Waits);
            }
            self.take(new);
        }
        self.trust(&mut self.in_force(), &bundle, now);
        if has_refused {
            return Ok(Renewed::Waits);
        }
        self.say(None);
        Ok(Renewed::InForce)
    }

    fn take(&self, set: Arc<CertificateSet>) {
        self.credentials.set_server_chain(set.server.clone());
        let not_after = set.expiry.coordinator;
        let mut in_force = self.in_force();
        in_force.peer = Some((set.texts.certificate.clone(), set.texts.key.clone()));
        in_force.signer = Some(set.signer.clone());
        in_force.expiry = Some(set.expiry);
        in_force.set = Some(set);
        drop(in_force);
        tracing::info!(%not_after, "certificates taken from files");
    }

    /// The bundle with the authorities of `set` in it: as it was seen last, unless that is a while
    /// ago or the set is new. An API server that does not answer holds up no set of a known authority.
    async fn published_with(
        &self,
        set: &CertificateSet,
        is_new: bool,
        now: Timestamp,
    ) -> Result<Bundle, StoreError> {
        let known = self.in_force().published.clone();
        if let Some((bundle, at)) = &known
            && !is_new
            && (*at..*at + LOOK_EACH).contains(&now)
        {
            return Ok(bundle.clone());
        }
        match (
            self.publication.add(&set.texts.authorities, now).await,
            known,
        ) {
            (Ok(bundle), _) => Ok(bundle),
            (Err(error), Some((bundle, _))) if is_new && bundle.contains(&set.signer) => {
                tracing::warn!(%error, "the authority is not published anew; it is known");
                Ok(bundle)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Whether certificates of `signer`, if it is another one than now, are not to be shown yet:
    /// agents and coordinators that know only an older authority would refuse them, while another
    /// coordinator can still serve them.
    async fn awaits(
        &self,
        bundle: &Bundle,
        signer: &CertificateDer<'static>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if self.in_force().signer.as_ref() == Some(signer) {
            return Ok(false);
        }
        let Some(until) = bundle.settles(signer, now) else {
            return Ok(false);
        };
        if self.others.serve().await {
            self.say(Some(format!(
                "their authority was published lately: agents and coordinators learn of it until {until}"
            )));
            return Ok(true);
        }
        // The next one would find this one ready, and wait while there is no majority.
        self.publication.settle(signer).await?;
        Ok(false)
    }

    /// Trusts what others publish, while the own authority cannot be looked at: with the upgrade that
    /// brings another kind of certificates, the right to read it may be gone. What this one is known by
    /// stays published meanwhile: those that have others take it out once nobody claims it.
    async fn trust_published(&self, now: Timestamp) {
        let authorities = self.in_force().authorities.clone();
        let Some(authorities) = authorities else {
            return;
        };
        let Ok(bundle) = self.publication.keep(&authorities, now).await else {
            return;
        };
        let in_force = self.in_force();
        let (Some(signer), Some(peer)) = (&in_force.signer, &in_force.peer) else {
            return;
        };
        if bundle.contains(signer) {
            self.set_peer(peer, &bundle);
        }
    }

    /// Trusts this bundle from now on.
    fn trust(&self, in_force: &mut InForce, bundle: &Bundle, now: Timestamp) {
        if let Some(peer) = &in_force.peer {
            self.set_peer(peer, bundle);
        }
        let seen = in_force.published.as_ref();
        // The time of the look, not that of the last use of what it found.
        if seen.is_none_or(|(known, at)| known != bundle || !(*at..*at + LOOK_EACH).contains(&now))
        {
            in_force.published = Some((bundle.clone(), now));
        }
    }

    fn set_peer(&self, (certificate, key): &(String, String), bundle: &Bundle) {
        self.credentials.set_peer(PeerTls {
            ca: bundle.text(),
            certificate: certificate.clone(),
            key: key.clone(),
        });
    }

    /// Tells the log why the certificates wanted are not in use, once for each reason.
    fn say(&self, reason: Option<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said == reason {
            return;
        }
        if let Some(reason) = &reason {
            if self.in_force().signer.is_some() {
                tracing::warn!(reason, "new certificates are not used; those in use stay");
            } else {
                tracing::warn!(reason, "waits for certificates");
            }
        }
        *said = reason;
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        let in_force = self.in_force.lock();
        in_force.unwrap_or_else(PoisonError::into_inner)
    }

    /// When what is in use ends; `None` before there was anything.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        self.in_force().expiry
    }

    pub(super) async fn run(&self, clock: &dyn Clock, shutdown: CancellationToken) {
        let usual = match &self.source {
            Source::Own(_) => LOOK_EACH,
            Source::Files(_) => READ_EACH,
        };
        let mut wait = usual;
        loop {
            let sleep = clock.sleep_until(clock.boottime() + wait);
            if shutdown.run_until_cancelled(sleep).await.is_none() {
                return;
            }
            wait = match self.renew(clock.wall()).await {
                Ok(Renewed::InForce) => usual,
                Ok(Renewed::Waits) => READ_EACH,
                Err(error) => {
                    tracing::warn!(%error, "certificates are not renewed; those in use stay");
                    RETRY_EACH
                }
            };
        }
    }
}
