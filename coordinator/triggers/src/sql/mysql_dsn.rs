//! The connection text of Go's MySQL driver: `user:password@tcp(host:port)/database?param=value`.

use std::fmt;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use crate::error::FieldError;
use crate::metadata::{parse_bool, parse_go_duration, unescape};

/// Where and how to connect. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MysqlDsn {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) address: Address,
    pub(crate) database: String,
    tls: Tls,
    /// Longest time to connect; zero means no limit of its own.
    pub(crate) timeout: Duration,
    /// `SET name = value` for each new connection.
    pub(crate) variables: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Off,
    Preferred,
    Unchecked,
    Verified,
}

/// Parameters that steer the Go driver itself and mean nothing here.
const DRIVER_ONLY: &[&str] = &[
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "timeTruncate",
    "writeTimeout",
];

impl MysqlDsn {
    /// Reads the text by the rules of `go-sql-driver/mysql`: the database follows the last slash,
    /// the user ends at the last `@` before it, the password follows the user's first colon.
    pub(crate) fn parse(text: &str) -> Result<Self, FieldError> {
        let fault = |allowed: &str| {
            FieldError::invalid("connectionString", "<redacted>", allowed.to_owned())
        };
        let shape = "it must have the form user:password@tcp(host:port)/database?param=value";
        let (server, rest) = text.rsplit_once('/').ok_or_else(|| fault(shape))?;
        let (user, password, server) = match server.rsplit_once('@') {
            Some((user, server)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                (user, password, server)
            }
            None => ("", "", server),
        };
        let (network, address) = match server.split_once('(') {
            Some((network, address)) => (
                network,
                Some(address.strip_suffix(')').ok_or_else(|| fault(shape))?),
            ),
            None => (server, None),
        };
        let address = match (network, address.filter(|address| !address.is_empty())) {
            ("" | "tcp", None) => Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 3306,
            },
            ("" | "tcp", Some(address)) => {
                tcp(address).ok_or_else(|| fault("its address must be host or host:port"))?
            }
            ("unix", address) => Address::Unix(address.unwrap_or("/tmp/mysql.sock").to_owned()),
            _ => return Err(fault("its network must be tcp or unix")),
        };
        let (database, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut dsn = Self {
            user: user.to_owned(),
            password: password.to_owned(),
            address,
            database: unescape(database, false)
                .ok_or_else(|| fault("its database has a bad percent escape"))?,
            tls: Tls::Off,
            timeout: Duration::ZERO,
            variables: Vec::new(),
        };
        for parameter in parameters.split('&') {
            if let Some((name, value)) = parameter.split_once('=') {
                dsn.set(name, value).map_err(|allowed| fault(&allowed))?;
            }
        }
        Ok(dsn)
    }

    /// The settings given one by one.
    pub(crate) fn from_parts(
        host: &str,
        port: &str,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, FieldError> {
        if host.is_empty() {
            return Err(FieldError::missing(
                "host",
                "give connectionString, or host, port, username, password and dbName",
            ));
        }
        let port = match port {
            "" => {
                return Err(FieldError::missing(
                    "port",
                    "it must be a TCP port from 1 to 65535",
                ));
            }
            port => port.parse().map_err(|_| {
                FieldError::invalid("port", port, "it must be a TCP port from 1 to 65535")
            })?,
        };
        Ok(Self {
            user: user.to_owned(),
            password: password.to_owned(),
            address: Address::Tcp {
                host: host.to_owned(),
                port,
            },
            database: database.to_owned(),
            tls: Tls::Off,
            timeout: Duration::ZERO,
            variables: Vec::new(),
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "tls" => {
                self.tls = match (value, parse_bool(value)) {
                    (_, Some(true)) => Tls::Verified,
                    (_, Some(false)) => Tls::Off,
                    ("skip-verify", None) => Tls::Unchecked,
                    ("preferred", None) => Tls::Preferred,
                    _ => return Err("its tls must be true, false, skip-verify or preferred".to_owned()),
                }
            }
            "timeout" => {
                let (negative, nanos) = parse_go_duration(value).ok_or("its timeout must be a duration such as 5s")?;
                self.timeout = if negative { Duration::ZERO } else { Duration::from_nanos(nanos) };
            }
            "serverPubKey" => return Err("its serverPubKey names a key registered inside a Go program, which cannot be had here".to_owned()),
            name if DRIVER_ONLY.contains(&name) => {}
            name => {
                let value = unescape(value, true).ok_or_else(|| format!("its parameter {name} has a bad percent escape"))?;
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.@".contains(c)) {
                    return Err(format!("its parameter {name:?} must be the name of a system variable"));
                }
                self.variables.push((name.to_owned(), value));
            }
        }
        Ok(())
    }

    /// The options of sqlx. The session is left as the server makes it, as Go's driver leaves it.
    pub(crate) fn options(&self) -> MySqlConnectOptions {
        let options = MySqlConnectOptions::new()
            .username(&self.user)
            .statement_cache_capacity(0)
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .set_names(false)
            .timezone(None)
            .ssl_mode(match self.tls {
                Tls::Off => MySqlSslMode::Disabled,
                Tls::Preferred => MySqlSslMode::Preferred,
                Tls::Unchecked => MySqlSslMode::Required,
                Tls::Verified => MySqlSslMode::VerifyIdentity,
            });
        // An empty password is no password: servers tell the two apart.
        let options = if self.password.is_empty() {
            options
        } else {
            options.password(&self.password)
        };
        let options = match &self.address {
            Address::Tcp { host, port } => options.host(host).port(*port),
            Address::Unix(path) => options.socket(path),
        };
        if self.database.is_empty() {
            options
        } else {
            options.database(&self.database)
        }
    }

    /// Everything that makes two connections different.
    pub(crate) fn digest_parts(&self) -> Vec<String> {
        let mut parts = vec![
            self.user.clone(),
            self.password.clone(),
            format!("{:?}", self.address),
            self.database.clone(),
            format!("{:?}{:?}", self.tls, self.timeout),
        ];
        parts.extend(
            self.variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        parts
    }
}

impl fmt::Debug for MysqlDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlDsn")
            .field("address", &self.address)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; the port is 3306 where absent.
fn tcp(text: &str) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => 3306,
        Some(port) => port.parse().ok()?,
    };
    Some(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_at(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn reads_the_forms_of_the_go_driver() {
        let dsn = MysqlDsn::parse("root:p@ss:w/ord@tcp(db.example:3307)/app%2Fone?tls=skip-verify&timeout=2s&parseTime=true&sql_mode=%27ANSI%27")
            .expect("valid");
        assert_eq!(
            (dsn.user.as_str(), dsn.password.as_str()),
            ("root", "p@ss:w/ord")
        );
        assert_eq!(dsn.address, tcp_at("db.example", 3307));
        assert_eq!(dsn.database, "app/one");
        assert_eq!(
            (dsn.tls, dsn.timeout),
            (Tls::Unchecked, Duration::from_secs(2))
        );
        assert_eq!(
            dsn.variables,
            [("sql_mode".to_owned(), "'ANSI'".to_owned())]
        );
        for (text, address, user, database) in [
            ("/", tcp_at("127.0.0.1", 3306), "", ""),
            ("user@/db", tcp_at("127.0.0.1", 3306), "user", "db"),
            (
                "user@tcp(localhost)/db",
                tcp_at("localhost", 3306),
                "user",
                "db",
            ),
            ("user@tcp([::1]:3308)/", tcp_at("::1", 3308), "user", ""),
            (
                "user@unix(/run/mysqld.sock)/db",
                Address::Unix("/run/mysqld.sock".to_owned()),
                "user",
                "db",
            ),
        ] {
            let dsn = MysqlDsn::parse(text).expect(text);
            assert_eq!(
                (dsn.address, dsn.user.as_str(), dsn.database.as_str()),
                (address, user, database),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_cannot_work_and_shows_no_secret() {
        for text in [
            "user:secret@tcp(host:3306)",
            "user:secret@tcp(host:3306/db",
            "user:secret@udp(host:3306)/db",
            "user:secret@tcp(http://host:3306)/db",
            "user:secret@tcp(host:port)/db",
            "user:secret@tcp(host)/db?tls=custom",
            "user:secret@tcp(host)/db?a b=1",
            "user:secret@tcp(host)/%zz",
        ] {
            let error = MysqlDsn::parse(text).expect_err(text).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let shown = format!(
            "{:?}",
            MysqlDsn::parse("user:secret@tcp(host:1)/db").expect("valid")
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
