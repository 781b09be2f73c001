//! Secrets: the configuration says where they are, never what.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::{env, fmt};

use zeroize::Zeroizing;

/// A password or key is short; a file that is longer is another file.
const BYTES: u64 = 64 << 10;

/// A value, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Here it is, and it is no secret.
    Plain(String),
    /// In a variable of the environment.
    Env(String),
    /// In a file, whose last line end does not count.
    File(PathBuf),
}

/// Why a secret could not be read. Never says what was found.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there, or is not text.
    #[error("the environment variable {name} is not set: it holds a secret that the configuration names")]
    Unset {
        /// Its name.
        name: String,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read: it holds a secret that the configuration names")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Secret {
    /// `env:NAME`, `file:PATH`, or else the text itself.
    pub fn parse(text: &str) -> Secret {
        let variable = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(name) = text.strip_prefix("env:").filter(variable) {
            Secret::Env(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            Secret::File(PathBuf::from(path))
        } else {
            Secret::Plain(text.to_owned())
        }
    }

    /// The value, which is wiped from memory once it is dropped.
    ///
    /// # Errors
    /// It is not where the configuration says.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Secret::Plain(text) => Ok(Zeroizing::new(text.clone())),
            Secret::Env(name) => {
                env::var(name).map(Zeroizing::new).map_err(|_| SecretError::Unset { name: name.clone() })
            }
            Secret::File(path) => {
                // Where it grows it would leave its beginning behind.
                let mut text = Zeroizing::new(String::with_capacity(BYTES as usize));
                let read = File::open(path).and_then(|file| file.take(BYTES).read_to_string(&mut text));
                read.map_err(|source| SecretError::Unreadable { path: path.clone(), source })?;
                let end = text.trim_end_matches(['\r', '\n']).len();
                text.truncate(end);
                Ok(text)
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Plain(text) => write!(f, "{text:?}"),
            Secret::Env(name) => write!(f, "env:{name}"),
            Secret::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
