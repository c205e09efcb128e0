//! The bundle in the ConfigMap `neap-ca`: whom agents and coordinators trust.
//!
//! Authorities of coordinators that do not take theirs from the same place stand in it side by side,
//! so that old and new pods know each other while one way of making certificates follows another. A
//! coordinator adds its own authority before it shows a certificate of it, and takes another's out
//! only after a day. When one was added stands before it as text, which readers of PEM pass over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::authority::CertificateFacts;
use super::authority_store::{StoreError, api_error, is_conflict, metadata, post_params};

const BUNDLE: &str = "ca.crt";
/// Stands before a certificate that joined others, with the time.
const SINCE: &str = "# since ";
/// How long a new authority stands in the bundle before it is shown to those who may know only an
/// older one: other coordinators look each minute, kubelets refresh mounted ConfigMaps within two.
pub(super) const SETTLE: Duration = Duration::from_secs(150);
/// How long the authorities of others stay that nobody claims: longer than any upgrade takes.
const KEEP_OTHERS: Duration = Duration::from_secs(86_400);
/// More authorities than a change in the midst of a change needs. Those of others beyond it go first.
pub(super) const MAX_AUTHORITIES: usize = 16;

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    certificate: CertificateDer<'static>,
    pem: String,
    /// When it joined others and was in use nowhere; `None` for what was in use from the beginning.
    since: Option<Timestamp>,
}

/// Authorities that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bundle {
    entries: Vec<Entry>,
}

impl Bundle {
    /// Reads a PEM text. What is no certificate is passed over: the next write leaves it out.
    pub(super) fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut since: Option<Timestamp> = None;
        let mut block: Option<String> = None;
        for line in text.lines().map(str::trim) {
            if let Some(time) = line.strip_prefix(SINCE) {
                since = time.parse().ok();
            } else if line == "-----BEGIN CERTIFICATE-----" {
                block = Some(format!("{line}\n"));
            } else if let Some(mut pem) = block.take() {
                pem.push_str(line);
                pem.push('\n');
                if line != "-----END CERTIFICATE-----" {
                    block = Some(pem);
                    continue;
                }
                let since = since.take();
                let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
                    continue;
                };
                if entries.iter().all(|known| known.certificate != certificate) {
                    entries.push(Entry {
                        certificate,
                        pem,
                        since,
                    });
                }
            }
        }
        Self { entries }
    }

    /// The PEM text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            if let Some(since) = entry.since {
                text.push_str(&format!("{SINCE}{since}\n"));
            }
            text.push_str(&entry.pem);
        }
        text
    }

    /// Whether this authority is in it.
    pub(super) fn contains(&self, authority: &CertificateDer<'_>) -> bool {
        self.find(authority).is_some()
    }

    fn find(&self, authority: &CertificateDer<'_>) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.certificate == *authority)
    }

    /// When everyone can know this authority, if that is later than `now`.
    pub(super) fn settles(
        &self,
        authority: &CertificateDer<'_>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let since = self.find(authority)?.since?;
        // Written by a clock that is far ahead, or by hand: nothing to wait for.
        let latest = now.checked_add(SETTLE).ok()?;
        let at = since.checked_add(SETTLE).ok()?;
        (since <= latest && at > now).then_some(at)
    }

    /// This bundle with `own` in it, in its order, and without what `stale` names of the others.
    fn with(self, own: &Self, now: Timestamp, stale: impl Fn(&Entry) -> bool) -> Self {
        // Where nobody is, there is nobody who could know an older one only.
        let joined = (!self.entries.is_empty()).then_some(now);
        let in_order = self
            .entries
            .iter()
            .filter(|entry| own.contains(&entry.certificate))
            .map(|entry| &entry.certificate)
            .eq(own.entries.iter().map(|entry| &entry.certificate));
        if in_order {
            // Several coordinators with other authorities of their own would else go on putting theirs first.
            let entries = self.entries.into_iter();
            return Self {
                entries: entries.filter(|entry| !stale(entry)).collect(),
            };
        }
        let mut entries: Vec<Entry> = own
            .entries
            .iter()
            .map(|entry| Entry {
                since: self
                    .find(&entry.certificate)
                    .map_or(joined, |known| known.since),
                ..entry.clone()
            })
            .collect();
        let others = self.entries.into_iter();
        entries.extend(others.filter(|entry| !own.contains(&entry.certificate) && !stale(entry)));
        entries.truncate(MAX_AUTHORITIES.max(own.entries.len()));
        Self { entries }
    }
}

/// Reads and writes the ConfigMap.
pub(super) struct Publication {
    config_maps: Api<ConfigMap>,
    namespace: String,
    name: String,
    /// Authorities of others, by certificate, and since when this process has seen them there.
    others: Mutex<BTreeMap<Vec<u8>, Timestamp>>,
}

impl Publication {
    pub(super) fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self {
            config_maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            others: Mutex::default(),
        }
    }

    /// Publishes `own` (PEM) beside what others have published, and gives the whole.
    pub(super) async fn add(&self, own: &str, now: Timestamp) -> Result<Bundle, StoreError> {
        let own = Bundle::parse(own);
        self.update(|present| self.merged(present, &own, now)).await
    }

    /// Publishes `own` (PEM) as [`add`](Self::add) does, and takes nobody else's out: for one that
    /// cannot look at its own authority, and may be the one that is out of date.
    pub(super) async fn keep(&self, own: &str, now: Timestamp) -> Result<Bundle, StoreError> {
        let own = Bundle::parse(own);
        self.update(|present| present.with(&own, now, |_| false))
            .await
    }

    /// Publishes that this authority is in use, so that nobody else waits for it to settle.
    pub(super) async fn settle(
        &self,
        authority: &CertificateDer<'static>,
    ) -> Result<Bundle, StoreError> {
        let settled = |mut present: Bundle| {
            for entry in &mut present.entries {
                if entry.certificate == *authority {
                    entry.since = None;
                }
            }
            present
        };
        self.update(settled).await
    }

    /// Writes what `change` makes of the bundle, if that is something else, and gives it.
    async fn update(&self, change: impl Fn(Bundle) -> Bundle) -> Result<Bundle, StoreError> {
        let params = post_params();
        let mut tries = 0;
        loop {
            tries += 1;
            let known = self.get().await?;
            let present = known.as_ref().map_or("", text);
            let bundle = change(Bundle::parse(present));
            if known.is_some() && bundle.text() == present {
                return Ok(bundle);
            }
            let data = (BUNDLE.to_owned(), bundle.text());
            let written = match known {
                None => {
                    let config_map = ConfigMap {
                        metadata: self.metadata(),
                        data: Some(BTreeMap::from([data])),
                        ..ConfigMap::default()
                    };
                    self.config_maps.create(&params, &config_map).await
                }
                Some(mut known) => {
                    known.data.get_or_insert_default().extend([data]);
                    self.config_maps.replace(&self.name, &params, &known).await
                }
            };
            match written.map_err(|error| self.api("write ConfigMap", error)) {
                Ok(_) => return Ok(bundle),
                // Someone else was first: what it wrote is changed in turn. Four times in a row,
                // something else keeps writing it.
                Err(error) if is_conflict(&error) && tries < 4 => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn merged(&self, present: Bundle, own: &Bundle, now: Timestamp) -> Bundle {
        let mut seen = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut *seen);
        for entry in &present.entries {
            if !own.contains(&entry.certificate) {
                let key = entry.certificate.to_vec();
                let since = known.get(&key).copied().unwrap_or(now);
                seen.insert(key, since);
            }
        }
        present.with(own, now, |entry| {
            let Some(since) = seen.get(&*entry.certificate) else {
                return false;
            };
            let lives = CertificateFacts::read(&entry.certificate, BUNDLE)
                .is_ok_and(|facts| facts.not_after > now);
            !lives || *since + KEEP_OTHERS <= now
        })
    }

    async fn get(&self) -> Result<Option<ConfigMap>, StoreError> {
        let known = self.config_maps.get_opt(&self.name).await;
        known.map_err(|error| self.api("read ConfigMap", error))
    }

    fn metadata(&self) -> ObjectMeta {
        metadata(&self.namespace, &self.name)
    }

    fn api(&self, what: &str, source: kube::Error) -> StoreError {
        api_error(what, &self.namespace, &self.name, source)
    }
}

fn text(config_map: &ConfigMap) -> &str {
    let data = config_map.data.as_ref();
    data.and_then(|data| data.get(BUNDLE))
        .map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::authority::Authority;
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(seconds)
    }

    fn authority() -> Authority {
        Authority::generate(at(0)).unwrap()
    }

    fn publication() -> Publication {
        let (_, client) = crate::testing::api_server::ApiServer::new();
        Publication::new(client, "neap", "neap-ca")
    }

    #[tokio::test]
    async fn one_joins_another_and_settles() {
        let (old, new) = (authority(), authority());
        let first = Bundle::default().with(&Bundle::parse(old.certificate_pem()), at(0), |_| false);
        assert_eq!(first.text(), old.certificate_pem());
        assert_eq!(
            first.settles(old.certificate(), at(0)),
            None,
            "nobody knew another"
        );

        let own = Bundle::parse(new.certificate_pem());
        let both = publication().merged(first.clone(), &own, at(10));
        assert_eq!(
            both.text(),
            format!(
                "# since 2026-11-22T10:00:10Z\n{}{}",
                new.certificate_pem(),
                old.certificate_pem()
            )
        );
        assert_eq!(Bundle::parse(&both.text()), both);
        let settled = at(10) + SETTLE;
        assert_eq!(both.settles(new.certificate(), at(10)), Some(settled));
        assert_eq!(both.settles(new.certificate(), settled), None);
        assert_eq!(both.settles(old.certificate(), at(10)), None);
        // The one that was there before leaves all as it is.
        let again =
            publication().merged(both.clone(), &Bundle::parse(old.certificate_pem()), at(20));
        assert_eq!(again, both);
    }

    #[tokio::test]
    async fn what_nobody_claims_goes_after_a_day() {
        let (old, new) = (authority(), authority());
        let publication = publication();
        let own = Bundle::parse(new.certificate_pem());
        let present = Bundle::parse(old.certificate_pem());
        let both = publication.merged(present, &own, at(0));
        let day = KEEP_OTHERS.as_secs();
        let later = publication.merged(both.clone(), &own, at(day - 1));
        assert!(later.contains(old.certificate()));
        let later = publication.merged(both, &own, at(day));
        assert!(!later.contains(old.certificate()) && later.contains(new.certificate()));
    }

    #[tokio::test]
    async fn there_is_a_limit_and_those_of_others_go_first() {
        let many: Vec<Authority> = (0..MAX_AUTHORITIES).map(|_| authority()).collect();
        let text: String = many.iter().map(Authority::certificate_pem).collect();
        let new = authority();
        let own = Bundle::parse(new.certificate_pem());
        let made = publication().merged(Bundle::parse(&text), &own, at(0));
        assert_eq!(made.entries.len(), MAX_AUTHORITIES);
        assert!(made.contains(new.certificate()));
        assert!(!made.contains(many[MAX_AUTHORITIES - 1].certificate()));
    }

    #[test]
    fn what_is_no_certificate_is_passed_over() {
        let one = authority();
        let junk = format!(
            "hello\n# since never\n-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n{}-----BEGIN CERTIFICATE-----\n",
            one.certificate_pem()
        );
        assert_eq!(Bundle::parse(&junk).text(), one.certificate_pem());
    }
}
