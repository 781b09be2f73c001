//! Erasing contacts: what they are known by afterwards, and the command that asks for it.

mod command;
mod kept;

use anyhow::{Context, Result};
use touchline_core::erasure::ErasureKey;

use crate::cli::Misconfigured;
use crate::config::Config;
pub(crate) use command::{Options, run};

/// Shorter keys can be found by trying.
const KEY_BYTES: usize = 16;

/// The key that the configuration names.
pub fn key(config: &Config) -> Result<ErasureKey> {
    let Some(secret) = &config.erasure_key else { return Ok(ErasureKey::NONE) };
    let key = secret.read().context("[erasure] key")?;
    if key.len() < KEY_BYTES {
        let why = format!(
            "[erasure] key has {} bytes: it must have {KEY_BYTES} or more; make one with  openssl rand -base64 32",
            key.len()
        );
        return Err(Misconfigured(why).into());
    }
    Ok(ErasureKey::new(key.as_bytes()))
}
