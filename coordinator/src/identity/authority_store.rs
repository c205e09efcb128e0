//! The authority in the Secret `neap-ca`. Its public half joins the bundle in the ConfigMap `neap-ca`.
//!
//! Phases of a change of authority: the next one is made and published beside the present one
//! (`stage`); once every agent had time to read it, it signs and the present one becomes the
//! former (`promote`); the former leaves the bundle when its life ends. Each step is one write that
//! carries the version it was decided on, so that of several coordinators one wins and the others
//! read what it wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};

use super::authority::{Authority, AuthorityError, CertificateFacts, renewal_time};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const FORMER: &str = "former.crt";

/// How long a next authority stands in the bundle before it signs. Kubelets refresh mounted
/// ConfigMaps within about two minutes; agents read theirs again at each connect.
const PROPAGATION: Duration = Duration::from_secs(3_600);

/// Why the authority could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server refused or did not answer.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret holds something else than an authority. It is never overwritten.
    #[error("Secret {namespace}/{name}: {source}")]
    Invalid {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// What is wrong with it.
        #[source]
        source: AuthorityError,
    },
    /// A new authority could not be made.
    #[error(transparent)]
    Make(AuthorityError),
}

/// The authority in force with what surrounds it during a change.
#[derive(Debug)]
pub struct AuthorityState {
    /// Signs now.
    pub current: Authority,
    /// Signs soon; already trusted.
    pub next: Option<Authority>,
    /// Signed before; trusted until its life ends. PEM.
    pub former: Option<String>,
    version: Option<String>,
}

/// What a Secret needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Stage,
    Promote,
    DropFormer,
}

impl AuthorityState {
    /// All certificates that are trusted, in PEM form, the one in force first: what agents get.
    pub fn bundle(&self) -> String {
        let mut bundle = self.current.certificate_pem().to_owned();
        for more in [
            self.next.as_ref().map(Authority::certificate_pem),
            self.former.as_deref(),
        ] {
            bundle.push_str(more.unwrap_or_default());
        }
        bundle
    }

    pub(super) fn step(&self, now: Timestamp) -> Step {
        if let Some(next) = &self.next {
            let staged = next.not_before() + super::authority::BACKDATE;
            return if now >= staged + PROPAGATION || now >= self.current.not_after() {
                Step::Promote
            } else {
                Step::Nothing
            };
        }
        if now >= renewal_time(self.current.not_before(), self.current.not_after()) {
            return Step::Stage;
        }
        let former_is_over = self.former.as_deref().is_some_and(|former| {
            super::authority::first_certificate(former, FORMER)
                .and_then(|certificate| CertificateFacts::read(&certificate, FORMER))
                .is_ok_and(|facts| facts.not_after <= now)
        });
        if former_is_over {
            Step::DropFormer
        } else {
            Step::Nothing
        }
    }
}

/// Reads and writes the Secret.
#[derive(Debug, Clone)]
pub(super) struct AuthorityStore {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
}

impl AuthorityStore {
    pub(super) fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Reads the authority, makes one if there is none, and takes the step that is due. Of several
    /// coordinators that do so at once one writes, and all return what it wrote.
    pub(super) async fn load(&self, now: Timestamp) -> Result<AuthorityState, StoreError> {
        // A lost race is followed by reading what the winner wrote; losing four in a row means
        // that something else keeps writing this Secret.
        let mut last = None;
        for _ in 0..4 {
            let Some(secret) = self
                .secrets
                .get_opt(&self.name)
                .await
                .map_err(|e| self.api("read Secret", e))?
            else {
                match self.create(now).await {
                    Ok(state) => return Ok(state),
                    Err(error) if is_conflict(&error) => {
                        last = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            };
            let state = self.read(&secret)?;
            let changed = match state.step(now) {
                Step::Nothing => return Ok(state),
                Step::Stage => AuthorityState {
                    next: Some(Authority::generate(now).map_err(StoreError::Make)?),
                    ..state
                },
                Step::Promote => AuthorityState {
                    former: Some(state.current.certificate_pem().to_owned()),
                    current: state.next.unwrap_or(state.current),
                    next: None,
                    version: state.version,
                },
                Step::DropFormer => AuthorityState {
                    former: None,
                    ..state
                },
            };
            match self.replace(&secret, changed).await {
                Ok(state) => return Ok(state),
                Err(error) if is_conflict(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(StoreError::Make(AuthorityError::KeyMismatch)))
    }

    async fn create(&self, now: Timestamp) -> Result<AuthorityState, StoreError> {
        let current = Authority::generate(now).map_err(StoreError::Make)?;
        let state = AuthorityState {
            current,
            next: None,
            former: None,
            version: None,
        };
        let secret = Secret {
            metadata: self.metadata(),
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data_of(&state)),
            ..Secret::default()
        };
        let made = self
            .secrets
            .create(&post_params(), &secret)
            .await
            .map_err(|error| self.api("create Secret", error))?;
        Ok(AuthorityState {
            version: made.metadata.resource_version,
            ..state
        })
    }

    async fn replace(
        &self,
        known: &Secret,
        state: AuthorityState,
    ) -> Result<AuthorityState, StoreError> {
        let mut secret = known.clone();
        secret.metadata.managed_fields = None;
        secret.metadata.resource_version.clone_from(&state.version);
        let data = secret.data.get_or_insert_default();
        for key in [CERTIFICATE, KEY, NEXT_CERTIFICATE, NEXT_KEY, FORMER] {
            data.remove(key);
        }
        data.extend(data_of(&state));
        let made = self
            .secrets
            .replace(&self.name, &post_params(), &secret)
            .await
            .map_err(|error| self.api("replace Secret", error))?;
        Ok(AuthorityState {
            version: made.metadata.resource_version,
            ..state
        })
    }

    fn read(&self, secret: &Secret) -> Result<AuthorityState, StoreError> {
        let text = |key: &str| {
            secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
        };
        let invalid = |source| StoreError::Invalid {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            source,
        };
        let current = Authority::from_pem(
            &text(CERTIFICATE).unwrap_or_default(),
            &text(KEY).unwrap_or_default(),
        )
        .map_err(invalid)?;
        let next = match (text(NEXT_CERTIFICATE), text(NEXT_KEY)) {
            (Some(certificate), Some(key)) => {
                Some(Authority::from_pem(&certificate, &key).map_err(invalid)?)
            }
            _ => None,
        };
        Ok(AuthorityState {
            current,
            next,
            former: text(FORMER),
            version: secret.metadata.resource_version.clone(),
        })
    }

    fn metadata(&self) -> ObjectMeta {
        metadata(&self.namespace, &self.name)
    }

    fn api(&self, what: &str, source: kube::Error) -> StoreError {
        api_error(what, &self.namespace, &self.name, source)
    }
}

/// Of an object that a coordinator makes.
pub(super) fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "neap".to_owned()),
            ("app.kubernetes.io/managed-by".to_owned(), "neap".to_owned()),
        ])),
        ..ObjectMeta::default()
    }
}

pub(super) fn api_error(
    what: &str,
    namespace: &str,
    name: &str,
    source: kube::Error,
) -> StoreError {
    StoreError::Api {
        what: format!("{what} {namespace}/{name}"),
        source: Box::new(source),
    }
}

fn data_of(state: &AuthorityState) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, text: &str| {
        data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    };
    put(CERTIFICATE, state.current.certificate_pem());
    put(KEY, state.current.key_pem());
    if let Some(next) = &state.next {
        put(NEXT_CERTIFICATE, next.certificate_pem());
        put(NEXT_KEY, next.key_pem());
    }
    if let Some(former) = &state.former {
        put(FORMER, former);
    }
    data
}

pub(super) fn post_params() -> PostParams {
    PostParams {
        field_manager: Some("neap".to_owned()),
        ..PostParams::default()
    }
}

pub(super) fn is_conflict(error: &StoreError) -> bool {
    matches!(error, StoreError::Api { source, .. }
        if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 409 || status.code == 404))
}

#[cfg(test)]
mod tests {
    use super::super::authority::all_certificates;
    use super::*;

    const BUNDLE: &str = "ca.crt";

    fn at(days: u64) -> Timestamp {
        "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(days * 86_400)
    }

    #[test]
    fn a_change_of_authority_goes_through_its_phases() {
        let mut state = AuthorityState {
            current: Authority::generate(at(0)).unwrap(),
            next: None,
            former: None,
            version: None,
        };
        assert_eq!(state.step(at(400)), Step::Nothing);
        let due = at(487);
        assert_eq!(state.step(due), Step::Stage);
        state.next = Some(Authority::generate(due).unwrap());
        assert_eq!(
            all_certificates(&state.bundle(), BUNDLE).unwrap().len(),
            2,
            "agents learn of the next one before it signs"
        );
        assert_eq!(
            state.step(due + PROPAGATION - Duration::from_secs(1)),
            Step::Nothing
        );
        assert_eq!(state.step(due + PROPAGATION), Step::Promote);
        state.former = Some(state.current.certificate_pem().to_owned());
        state.current = state.next.take().unwrap();
        assert_eq!(
            all_certificates(&state.bundle(), BUNDLE).unwrap().len(),
            2,
            "what the former one signed is still trusted"
        );
        assert_eq!(state.step(at(600)), Step::Nothing);
        assert_eq!(state.step(at(730)), Step::DropFormer);
    }
}
