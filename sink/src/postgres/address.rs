//! Where the server is, and how it is talked to: a connection URL of libpq's, with TLS as its `sslmode` says.
//!
//! | `sslmode` | encrypted | certificate |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` (the default) | if the server can | not checked |
//! | `require` | yes | not checked, unless `sslrootcert` is given: then as `verify-ca` |
//! | `verify-ca` | yes | signed by `sslrootcert`, or by an authority that the system trusts |
//! | `verify-full` | yes | the same, and made out to the host of the URL |
//!
//! Nothing here ever shows a password: not in an error, not in `Debug`.

use std::fmt;
use std::fs;
use std::time::Duration;

use native_tls::{Certificate, TlsConnector};
use postgres_native_tls::MakeTlsConnector;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, config::SslMode};

use super::PostgresConfig;
use super::error::PostgresError;

/// Long enough for a distant server that is busy; another attempt follows anyway.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A connection on which nothing comes back for so long is given up: less than a deadline of the sink.
const UNANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How long an idle connection is not looked after: routers forget connections after minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVES: u32 = 3;
/// What PostgreSQL keeps of a name.
const NAME_BYTES: usize = 63;

/// A server, and how to connect to it.
#[derive(Clone)]
pub struct Address {
    config: Config,
    tls: MakeTlsConnector,
    shown: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Which servers are believed, fewer and fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// There is no certificate.
    Plain,
    Anybody,
    Signed,
    SignedForHost,
}

impl Address {
    /// The address that a configuration gives. Reads the root certificate, if it names one.
    pub fn of(config: &PostgresConfig) -> Result<Address, PostgresError> {
        let url = Url::parse(&config.url)?;
        // What the parser says of a wrong URL may repeat a piece of a password: a `?` in one begins the parameters.
        let mut parsed: Config = url.rest.parse().map_err(|_| {
            PostgresError::Url(
                "cannot be read: it must be like postgresql://user@host:5432/database?sslmode=verify-full, with \
                 %-escapes for special characters, and with no parameters but those of libpq"
                    .to_owned(),
            )
        })?;
        if parsed.get_hosts().is_empty() {
            return Err(PostgresError::Url("names no host".to_owned()));
        }
        if let Some(password) = &config.password {
            parsed.password(password.as_bytes());
        }
        if parsed.get_user().is_none() {
            return Err(PostgresError::Url("names no user: postgresql://user@host/database".to_owned()));
        }
        parsed.ssl_mode(url.mode);
        if parsed.get_application_name().is_none() {
            let name = format!("touchline {}", config.name);
            let end = (0..=NAME_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
            parsed.application_name(name.get(..end).unwrap_or_default());
        }
        if parsed.get_connect_timeout().is_none() {
            parsed.connect_timeout(CONNECT_WITHIN);
        }
        if parsed.get_tcp_user_timeout().is_none() {
            parsed.tcp_user_timeout(UNANSWERED_WITHIN);
        }
        parsed.keepalives_idle(KEEPALIVE_AFTER).keepalives_interval(KEEPALIVE_EVERY).keepalives_retries(KEEPALIVES);
        let (tls, shown) = (connector(&url)?, shown(&parsed));
        Ok(Address { config: parsed, tls, shown })
    }

    /// How to connect.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What makes a connection a safe one.
    pub fn tls(&self) -> MakeTlsConnector {
        self.tls.clone()
    }
}

/// A URL without what the client does not know of TLS.
struct Url {
    rest: String,
    mode: SslMode,
    trust: Trust,
    root: Option<String>,
}

impl Url {
    fn parse(url: &str) -> Result<Url, PostgresError> {
        let wrong = |sentence: &str| PostgresError::Url(sentence.to_owned());
        if !["postgresql://", "postgres://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("must begin with postgresql://"));
        }
        // A password may have a `?` in it; it ends at the first `@`.
        let behind = url.find('@').unwrap_or(0);
        let end = url[behind..].find('?').map_or(url.len(), |at| behind + at);
        let (base, parameters) = (&url[..end], url[end..].trim_start_matches('?'));
        let (mut kept, mut mode, mut root) = (Vec::new(), "prefer", None);
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                Some(("sslrootcert", value)) => {
                    root = Some(decoded(value).ok_or_else(|| wrong("has a wrong `sslrootcert`"))?)
                }
                _ => kept.push(parameter),
            }
        }
        let (mode, trust) = match (mode, &root) {
            ("disable", _) => (SslMode::Disable, Trust::Plain),
            ("prefer", None) => (SslMode::Prefer, Trust::Anybody),
            ("prefer", Some(_)) => {
                return Err(wrong(
                    "has `sslrootcert`, which nothing is checked with unless `sslmode` is verify-full or verify-ca",
                ));
            }
            ("require", None) => (SslMode::Require, Trust::Anybody),
            ("require" | "verify-ca", _) => (SslMode::Require, Trust::Signed),
            ("verify-full", _) => (SslMode::Require, Trust::SignedForHost),
            _ => {
                return Err(wrong(
                    "has a wrong `sslmode`: it must be disable, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        let rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        Ok(Url { rest, mode, trust, root })
    }
}

fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn connector(url: &Url) -> Result<MakeTlsConnector, PostgresError> {
    let mut builder = TlsConnector::builder();
    if let Some(path) = &url.root {
        let broken = |source| PostgresError::RootCertificate { path: path.clone(), source };
        let pem = fs::read(path).map_err(|error| broken(error.into()))?;
        let certificates = Certificate::stack_from_pem(&pem).map_err(|error| broken(error.into()))?;
        if certificates.is_empty() {
            return Err(broken("it holds no certificate in PEM form".into()));
        }
        builder.disable_built_in_roots(true);
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    }
    builder.danger_accept_invalid_certs(url.trust <= Trust::Anybody);
    builder.danger_accept_invalid_hostnames(url.trust <= Trust::Signed);
    Ok(MakeTlsConnector::new(builder.build().map_err(PostgresError::Tls)?))
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate().map(|(place, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(place)),
        Host::Unix(path) => format!("{}:{}", path.display(), port(place)),
    });
    hosts.collect::<Vec<_>>().join(", ")
}
