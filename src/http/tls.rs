//! The certificate that the port shows, read again when its files change: who renews it restarts nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use native_tls::{Identity, Protocol, TlsAcceptor};
use tracing::{info, warn};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// When the files were last changed.
type Stamps = [Option<SystemTime>; 2];

/// A chain of certificates and its key, both in PEM.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    shown: Mutex<Shown>,
}

struct Shown {
    acceptor: tokio_native_tls::TlsAcceptor,
    stamps: Stamps,
    looked_at: Instant,
}

impl Certificate {
    /// Reads them.
    pub fn open(chain: PathBuf, key: PathBuf) -> Result<Certificate> {
        let stamps = stamps(&chain, &key);
        let acceptor = load(&chain, &key)?;
        Ok(Certificate { chain, key, shown: Mutex::new(Shown { acceptor, stamps, looked_at: Instant::now() }) })
    }

    /// What to shake hands with now. Files that cannot be used leave it as it was.
    pub fn acceptor(&self) -> tokio_native_tls::TlsAcceptor {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.looked_at.elapsed() >= LOOK_EVERY {
            shown.looked_at = Instant::now();
            let stamps = stamps(&self.chain, &self.key);
            if stamps != shown.stamps {
                match load(&self.chain, &self.key) {
                    Ok(acceptor) => {
                        (shown.acceptor, shown.stamps) = (acceptor, stamps);
                        info!(path = %self.chain.display(), "the certificate has been renewed");
                    }
                    Err(error) => warn!("{error:#}: the certificate of before is shown for now"),
                }
            }
        }
        shown.acceptor.clone()
    }
}

fn stamps(chain: &PathBuf, key: &PathBuf) -> Stamps {
    [chain, key].map(|path| fs::metadata(path).and_then(|found| found.modified()).ok())
}

fn load(chain: &PathBuf, key: &PathBuf) -> Result<tokio_native_tls::TlsAcceptor> {
    let read = |name: &str, path: &PathBuf| {
        fs::read(path).with_context(|| format!("[http] {name}: {} cannot be read", path.display()))
    };
    let (certificates, secret) = (read("certificate", chain)?, read("key", key)?);
    let identity = Identity::from_pkcs8(&certificates, &secret).with_context(|| {
        format!(
            "[http] certificate and key: {} must hold a chain of certificates in PEM, and {} its key as \
             BEGIN PRIVATE KEY (openssl pkcs8 -topk8 -nodes makes that of others)",
            chain.display(),
            key.display()
        )
    })?;
    let acceptor = TlsAcceptor::builder(identity).min_protocol_version(Some(Protocol::Tlsv12)).build();
    Ok(acceptor.context("[http] certificate and key do not belong together")?.into())
}
