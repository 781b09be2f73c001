//! Who may ask for what: bearer tokens, each of a role.

use anyhow::{Context, Result};
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::cli::Misconfigured;
use crate::config;

/// Shorter ones can be found by trying.
const TOKEN_BYTES: usize = 16;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Read,
    /// Look, and change things.
    Operate,
}

type Hash = [u8; 32];

/// The tokens that are known, as hashes: what is compared tells nothing of them by the time that it takes, and nothing of
/// them is left in memory.
#[derive(Clone, Default)]
pub struct Tokens(Vec<(Role, Hash)>);

impl Tokens {
    /// Reads those of the configuration.
    pub fn read(http: &config::Http) -> Result<Tokens> {
        let mut tokens = Vec::new();
        for (role, name, secrets) in
            [(Role::Read, "read", &http.tokens.read), (Role::Operate, "operate", &http.tokens.operate)]
        {
            for secret in secrets {
                let token = secret.read().with_context(|| format!("[http.tokens] {name}"))?;
                if token.len() < TOKEN_BYTES {
                    let why = format!(
                        "[http.tokens] {name} has {} bytes: it must have {TOKEN_BYTES} or more; make one with  openssl rand -hex 32",
                        token.len()
                    );
                    return Err(Misconfigured(why).into());
                }
                tokens.push((role, hash(&token)));
            }
        }
        Ok(Tokens(tokens))
    }

    /// What whoever sends these headers may do; everything, where there are no tokens.
    pub fn role(&self, headers: &HeaderMap) -> Option<Role> {
        if self.0.is_empty() {
            return Some(Role::Operate);
        }
        let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = sent.split_once(' ')?;
        let sent = hash(token.trim());
        let known = self.0.iter().filter(|(_, hash)| scheme.eq_ignore_ascii_case("bearer") && *hash == sent);
        known.map(|(role, _)| *role).max()
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}
