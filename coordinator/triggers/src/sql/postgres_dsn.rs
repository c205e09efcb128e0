//! The connection text of PostgreSQL: `postgres://user:password@host:port/database?key=value`, or
//! `host=.. port=.. user=.. password=.. dbname=.. sslmode=..`, with one host or several.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::error::FieldError;
use crate::metadata::unescape;

/// Where and how to connect. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PostgresDsn {
    /// Tried in this order until one answers with the role wanted.
    pub(crate) servers: Vec<(String, u16)>,
    user: String,
    password: Option<String>,
    database: String,
    ssl: SslMode,
    /// Longest time to connect to one server; zero means no limit of its own.
    pub(crate) timeout: Duration,
    /// Which servers will do.
    pub(crate) role: Role,
    /// Set for each new connection.
    pub(crate) variables: Vec<(String, String)>,
}

/// Which servers will do (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// All.
    Any,
    /// Those that take writes.
    ReadWrite,
    /// Those that take no writes.
    ReadOnly,
    /// Those that do not follow another.
    Primary,
    /// Those that follow another.
    Standby,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Keys that steer KEDA's driver itself and mean nothing here.
const DRIVER_ONLY: &[&str] = &[
    "client_encoding",
    "datestyle",
    "default_query_exec_mode",
    "description_cache_capacity",
    "krbspn",
    "krbsrvname",
    "min_read_buffer_size",
    "sslsni",
    "statement_cache_capacity",
];

/// Keys that name files, which a coordinator has not got.
const FILES: &[&str] = &[
    "passfile",
    "service",
    "servicefile",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
];

impl PostgresDsn {
    /// Reads either form.
    pub(crate) fn parse(text: &str) -> Result<Self, FieldError> {
        let url = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let pairs = match url {
            Some(rest) => url_pairs(rest),
            None => keyword_pairs(text),
        };
        pairs
            .and_then(|pairs| Self::from_pairs(&pairs))
            .map_err(|allowed| FieldError::invalid("connection", "<redacted>", allowed))
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut dsn = Self {
            servers: Vec::new(),
            user: String::new(),
            password: None,
            database: String::new(),
            ssl: SslMode::Prefer,
            timeout: Duration::ZERO,
            role: Role::Any,
            variables: Vec::new(),
        };
        let (mut hosts, mut ports) = ("localhost", "5432");
        for (key, value) in pairs {
            match key.as_str() {
                "host" => hosts = value,
                "port" => ports = value,
                "user" => dsn.user.clone_from(value),
                "password" => {
                    dsn.password = Some(value.clone()).filter(|password| !password.is_empty())
                }
                "dbname" | "database" => dsn.database.clone_from(value),
                "sslmode" => dsn.ssl = ssl_mode(value)?,
                "connect_timeout" => {
                    let seconds = value
                        .parse()
                        .map_err(|_| "its connect_timeout must be a whole number of seconds")?;
                    dsn.timeout = Duration::from_secs(seconds);
                }
                "target_session_attrs" => dsn.role = role(value)?,
                "options" => dsn.variables.extend(command_line(value)?),
                key if FILES.contains(&key) => {
                    return Err(format!("its {key} names a file, which cannot be read here"));
                }
                key if DRIVER_ONLY.contains(&key) => {}
                key => dsn.variables.push((key.to_owned(), value.clone())),
            }
        }
        dsn.servers = servers(hosts, ports)?;
        if dsn.user.is_empty() {
            return Err("it must name a user".to_owned());
        }
        if dsn.database.is_empty() {
            dsn.database.clone_from(&dsn.user);
        }
        Ok(dsn)
    }

    /// The options of sqlx for one of the servers. Everything is set, so that nothing is taken from
    /// the process's environment.
    pub(crate) fn options(&self, host: &str, port: u16) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .port(port)
            .username(&self.user)
            .database(&self.database)
            .statement_cache_capacity(0)
            .ssl_mode(match self.ssl {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Allow => PgSslMode::Allow,
                SslMode::Prefer => PgSslMode::Prefer,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            });
        let options = if host.starts_with('/') {
            options.socket(host)
        } else {
            options.host(host)
        };
        match &self.password {
            Some(password) => options.password(password),
            None => options,
        }
    }

    /// Everything that makes two connections different.
    pub(crate) fn digest_parts(&self) -> Vec<String> {
        let mut parts = vec![
            self.user.clone(),
            self.password.clone().unwrap_or_default(),
            self.database.clone(),
            format!(
                "{:?}{:?}{:?}{:?}",
                self.servers, self.ssl, self.timeout, self.role
            ),
        ];
        parts.extend(
            self.variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        parts
    }
}

impl fmt::Debug for PostgresDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDsn")
            .field("servers", &self.servers)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

fn ssl_mode(text: &str) -> Result<SslMode, String> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            return Err(
                "its sslmode must be disable, allow, prefer, require, verify-ca or verify-full"
                    .to_owned(),
            );
        }
    })
}

fn role(text: &str) -> Result<Role, String> {
    Ok(match text {
        // A standby is preferred only where several servers are named; the first that answers will do.
        "any" | "prefer-standby" => Role::Any,
        "read-write" => Role::ReadWrite,
        "read-only" => Role::ReadOnly,
        "primary" => Role::Primary,
        "standby" => Role::Standby,
        _ => return Err("its target_session_attrs must be any, read-write, read-only, primary, standby or prefer-standby".to_owned()),
    })
}

/// `host1,host2` with one port for all or one for each.
fn servers(hosts: &str, ports: &str) -> Result<Vec<(String, u16)>, String> {
    let ports: Result<Vec<u16>, _> = ports.split(',').map(str::parse).collect();
    let ports = ports
        .ok()
        .filter(|ports| !ports.contains(&0))
        .ok_or("its port must be a TCP port from 1 to 65535")?;
    let port = |position: usize| {
        ports
            .get(position)
            .or(ports.first())
            .copied()
            .unwrap_or(5432)
    };
    Ok(hosts
        .split(',')
        .enumerate()
        .map(|(position, host)| (host.to_owned(), port(position)))
        .collect())
}

/// `-c name=value` and `--name=value`, as PostgreSQL's own command line.
fn command_line(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let pair = match (
            word,
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
        ) {
            ("-c", _) => words.next(),
            (_, pair) => pair,
        };
        let (name, value) = pair
            .and_then(|pair| pair.split_once('='))
            .ok_or("its options must be of the form -c name=value")?;
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

fn url_pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let decode =
        |text: &str| unescape(text, false).ok_or_else(|| "it has a bad percent escape".to_owned());
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, servers) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut pairs = Vec::new();
    let mut add = |key: &str, value: String| pairs.push((key.to_owned(), value));
    if !user.is_empty() {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        add("user", decode(user)?);
        add("password", decode(password)?);
    }
    if !servers.is_empty() {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for server in servers.split(',') {
            let (host, port) = split_port(server).ok_or("its address must be host or host:port")?;
            hosts.push(decode(host)?);
            ports.push(port.filter(|port| !port.is_empty()).unwrap_or("5432"));
        }
        add("host", hosts.join(","));
        add("port", ports.join(","));
    }
    if !database.is_empty() {
        add("dbname", decode(database)?);
    }
    for (key, values) in
        crate::metadata::parse_query(query).ok_or("its parameters must be key=value")?
    {
        add(&key, values.into_iter().next().unwrap_or_default());
    }
    Ok(pairs)
}

fn split_port(server: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = server.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return if rest.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(rest.strip_prefix(':')?)))
        };
    }
    match server.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((server, None)),
    }
}

/// `key = value` pairs; a value in single quotes may hold blanks, and a backslash takes the next
/// character as it is.
fn keyword_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    const SHAPE: &str = "it must be postgres://user:password@host:port/database, or host=.. port=.. user=.. dbname=.. sslmode=.. password=..";
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or(SHAPE)?;
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(SHAPE.to_owned());
        }
        let (value, after) = value(after.trim_start()).ok_or(SHAPE)?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// One value and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '\'' if quoted => return Some((value, &text[position + 1..])),
            character if !quoted && character.is_whitespace() => {
                return Some((value, &text[position..]));
            }
            character => value.push(character),
        }
    }
    (!quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let dsn = PostgresDsn::parse("postgres://us%40er:p%3Ass@h1:5433,[::1],h3/db%2F1?sslmode=verify-full&connect_timeout=3&search_path=a,b")
            .expect("valid");
        let servers =
            [("h1", 5433), ("::1", 5432), ("h3", 5432)].map(|(host, port)| (host.to_owned(), port));
        assert_eq!(dsn.servers, servers);
        assert_eq!(
            (
                dsn.user.as_str(),
                dsn.password.as_deref(),
                dsn.database.as_str()
            ),
            ("us@er", Some("p:ss"), "db/1")
        );
        assert_eq!(
            (dsn.ssl, dsn.timeout),
            (SslMode::VerifyFull, Duration::from_secs(3))
        );
        assert_eq!(
            dsn.variables,
            [("search_path".to_owned(), "a,b".to_owned())]
        );
        let dsn = PostgresDsn::parse("postgresql://test@localhost").expect("valid");
        assert_eq!(
            (dsn.database.as_str(), dsn.password, dsn.ssl),
            ("test", None, SslMode::Prefer)
        );
    }

    #[test]
    fn reads_keywords() {
        let dsn = PostgresDsn::parse(
            r"host=h1,h2 port=1234 user = 'us er' dbname=d\ b sslmode=require password='it\'s a \\secret' options='-c a.b=1 --c=2' target_session_attrs=read-write",
        )
        .expect("valid");
        assert_eq!(
            dsn.servers,
            [("h1".to_owned(), 1234), ("h2".to_owned(), 1234)]
        );
        assert_eq!((dsn.user.as_str(), dsn.database.as_str()), ("us er", "d b"));
        assert_eq!(dsn.password.as_deref(), Some(r"it's a \secret"));
        assert_eq!((dsn.ssl, dsn.role), (SslMode::Require, Role::ReadWrite));
        assert_eq!(
            dsn.variables,
            [("a.b", "1"), ("c", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let dsn = PostgresDsn::parse("host=h port=1 user=u dbname=d sslmode=disable password=")
            .expect("valid");
        assert_eq!(dsn.password, None);
    }

    #[test]
    fn refuses_what_cannot_work_and_shows_no_secret() {
        for text in [
            "host=h user=u password=s3cret port=test_port",
            "host=h user=u password=s3cret sslmode=required",
            "host=h user=u password='s3cret",
            "host=h user=u password=s3cret sslrootcert=/etc/passwd",
            "host=h password=s3cret",
            "user=u password=s3cret words",
            "postgres://u:s3cret@h:0/db",
            "postgres://u:s3cret@h/db?target_session_attrs=some",
            "postgres://u:s3cret%@h/db",
        ] {
            let error = PostgresDsn::parse(text).expect_err(text).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let shown = format!(
            "{:?}",
            PostgresDsn::parse("postgres://u:s3cret@h/d").expect("valid")
        );
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
