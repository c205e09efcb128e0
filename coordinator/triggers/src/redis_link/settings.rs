//! Where a Redis is and how to log in.

use crate::error::FieldError;
use crate::http::TlsOptions;
use crate::shared::Digest;

/// How the servers work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// One server.
    Single,
    /// A cluster; any address is an entry to it.
    Cluster,
    /// Servers watched by sentinels; the addresses are those of the sentinels.
    Sentinel,
}

/// Where a Redis is and how to log in.
#[derive(Clone)]
pub(crate) struct RedisSettings {
    pub(super) deployment: Deployment,
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) database: i64,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) sentinel_username: String,
    pub(super) sentinel_password: String,
    pub(super) sentinel_master: String,
    pub(super) tls: Option<TlsOptions>,
}

impl RedisSettings {
    /// Settings for the servers at `addresses` (`host:port`), without login, TLS or database.
    pub(crate) fn new(deployment: Deployment, addresses: &[String]) -> Result<Self, FieldError> {
        let used = if deployment == Deployment::Single {
            &addresses[..addresses.len().min(1)]
        } else {
            addresses
        };
        let addresses = used
            .iter()
            .map(|text| {
                address(text)
                    .ok_or_else(|| FieldError::invalid("address", text, "it must be host:port"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            deployment,
            addresses,
            database: 0,
            username: String::new(),
            password: String::new(),
            sentinel_username: String::new(),
            sentinel_password: String::new(),
            sentinel_master: String::new(),
            tls: None,
        })
    }

    pub(crate) fn with_database(mut self, database: i64) -> Self {
        self.database = database;
        self
    }

    pub(crate) fn with_login(mut self, username: &str, password: &str) -> Self {
        (self.username, self.password) = (username.to_owned(), password.to_owned());
        self
    }

    /// Name of the watched servers, and the login to the sentinels themselves.
    pub(crate) fn with_sentinel(
        mut self,
        master: &str,
        username: &str,
        password: &str,
    ) -> Result<Self, FieldError> {
        if master.is_empty() && self.deployment == Deployment::Sentinel {
            return Err(FieldError::missing(
                "sentinelMaster",
                "it must be the name of the servers that the sentinels watch",
            ));
        }
        self.sentinel_master = master.to_owned();
        (self.sentinel_username, self.sentinel_password) =
            (username.to_owned(), password.to_owned());
        Ok(self)
    }

    pub(crate) fn with_tls(mut self, tls: Option<TlsOptions>) -> Self {
        self.tls = tls;
        self
    }

    /// Everything that makes two connections different.
    pub(crate) fn digest(&self) -> Digest {
        let tls = self.tls.as_ref().map(|tls| tls.digest().0);
        let plain = format!(
            "{:?}{:?}{}{tls:?}",
            self.deployment, self.addresses, self.database
        );
        Digest::of([
            &plain,
            &self.username,
            &self.password,
            &self.sentinel_username,
            &self.sentinel_password,
            &self.sentinel_master,
        ])
    }
}

/// `host:port`, `[v6]:port` or `:port`, which is this machine.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let host = if host.is_empty() { "localhost" } else { host };
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_port() {
        for (text, host, port) in [
            ("redis:6379", "redis", 6379),
            ("[::1]:7", "::1", 7),
            (":7001", "localhost", 7001),
        ] {
            assert_eq!(address(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in ["redis", "redis:", "redis:REDIS_PORT", "redis:70000"] {
            let error = RedisSettings::new(Deployment::Single, &[text.to_owned()])
                .err()
                .expect(text);
            assert!(error.to_string().contains("host:port"), "{error}");
        }
        assert!(
            RedisSettings::new(
                Deployment::Single,
                &["a:1".to_owned(), "nonsense".to_owned()]
            )
            .is_ok(),
            "only the first is used"
        );
    }
}
