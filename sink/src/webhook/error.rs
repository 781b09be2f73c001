//! Why a webhook sink could not be made, or cannot go on.

use std::error::Error;

use super::address::AddressError;
use crate::sink::SinkError;

/// Why a URL is none that webhooks are sent to. It repeats no more of it than the host.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It cannot be read.
    #[error("this is not a URL ({0}): write it as https://host/path")]
    Malformed(String),
    /// Something else than HTTP.
    #[error("a webhook goes to an https:// URL, and this one begins {0}://")]
    Scheme(String),
    /// Alerts would cross the network for anybody to read.
    #[error(
        "http:// would let anybody on the way read the alerts: use https://, or set allow_http = true (or allow_private = true for a receiver in your own network)"
    )]
    Plain,
    /// An address that nothing is sent to.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Why a webhook sink could not be made, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It has nowhere to send to.
    #[error("the webhook's url cannot be used")]
    Url(#[from] UrlError),
    /// It could not sign.
    #[error("a webhook needs a secret to sign with: set secret")]
    NoSecret,
    /// The HTTP client does not take it.
    #[error("the webhook's {setting} cannot be used")]
    Unusable {
        /// The setting.
        setting: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// The receiver has ended it.
    #[error(
        "{endpoint} answered 410 Gone: it wants no more messages, and gets none. {waiting} changes wait, and nothing is lost: give the sink another url, or remove it, and start again"
    )]
    Gone {
        /// Host and port.
        endpoint: String,
        /// Changes that have not settled.
        waiting: usize,
    },
    /// An attempt failed, and will be repeated.
    #[error("{endpoint} did not take a message: {reason}{}", if *.is_down { format!("; nothing gets through, and {waiting} changes wait") } else { String::new() })]
    NotTaken {
        /// Host and port.
        endpoint: String,
        /// What happened.
        reason: String,
        /// Whether nothing gets through at all.
        is_down: bool,
        /// Changes that have not settled.
        waiting: usize,
    },
    /// The receiver could not be reached by a probe.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// Something in touchline is broken.
    #[error("an attempt ended without an outcome, which is a mistake in touchline")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

impl From<WebhookError> for SinkError {
    fn from(error: WebhookError) -> SinkError {
        match error {
            WebhookError::NotTaken { .. } => SinkError::Retry(error.into()),
            _ => SinkError::Fatal(error.into()),
        }
    }
}
