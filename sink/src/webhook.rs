//! The `webhook` sink: each change in a signed HTTP request, as [Standard Webhooks] says.
//!
//! Contract with the receiver:
//! - *At least once.* `webhook-id` is the same in every attempt, also after a crash, and for alerts made of the alert's id
//!   and sequence: whoever remembers ids for as long as the schedule lasts sees each change once.
//! - *In order* by key: the changes of one alert come one after the other, the next once the former is settled. A change
//!   that is refused holds up its own key only.
//! - Signed with every configured secret, so that one can be replaced without a moment in which none fits. What is signed
//!   is what is sent: a function of the change alone.
//! - 2xx is success. 410 ends the sink, with nothing lost. Everything else is tried again by the schedule, and after it
//!   becomes a dead letter. `Retry-After` is honoured for up to an hour. Redirects are not followed.
//! - When nothing gets through at all, one message at a time is tried, at least twice a minute.
//! - Alerts of a backlog come as digests ([`mod@digest`]).
//!
//! The lanes start where the feed remembers, which is before the oldest pending change: after a crash the window
//! ([`mod@window`]) is sent again at most.
//!
//! Decisions are pure ([`mod@window`], [`mod@endpoint`], [`mod@schedule`], [`mod@message`]); [`mod@client`] makes one
//! attempt; here the two meet. Attempts are tasks of their own, so that they go on whatever the dispatcher does.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

mod address;
mod client;
mod digest;
mod endpoint;
mod error;
mod lane;
mod message;
mod schedule;
mod signature;
mod window;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::select;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::sink::{Batch, BoxFuture, Delivered, Lane, Settled, Sink, SinkError, Start};
pub use address::AddressError;
use client::{Answer, Client};
use endpoint::{Endpoint, Ticket};
pub use error::{UrlError, WebhookError};
pub use schedule::STANDARD_SCHEDULE;
use schedule::Schedule;
pub use signature::{Secret, SecretError};
use window::Window;

/// For an answer, from the first byte of the connection to the last of the body: what Standard Webhooks recommends.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// For a name to be resolved, a connection to be made and its TLS to be agreed on: then it is not the receiver that is slow.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages on their way at once: with an answer in a tenth of a second, 80 a second, and no load to speak of.
pub const CONCURRENCY: usize = 8;

/// What a webhook sink is made of.
#[derive(Clone)]
pub struct WebhookConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Where the messages go. All but its host is taken for secret.
    pub url: String,
    /// To sign with, each; at least one.
    pub secrets: Vec<Secret>,
    /// The pauses between attempts; with none there is one attempt.
    pub schedule: Vec<Duration>,
    /// For a whole attempt.
    pub timeout: Duration,
    /// For a connection.
    pub connect_timeout: Duration,
    /// Most messages on their way at once; at least one.
    pub concurrency: usize,
    /// Whether addresses that are not public, and plain HTTP, are fine.
    pub allow_private: bool,
    /// Whether plain HTTP is fine.
    pub allow_http: bool,
    /// The URL of a proxy; what the environment says of proxies does not count.
    pub proxy: Option<String>,
    /// Certificates in PEM of authorities to trust beside the system's.
    pub ca: Option<Vec<u8>>,
}

impl WebhookConfig {
    /// All defaults.
    pub fn new(name: impl Into<String>, url: impl Into<String>, secrets: Vec<Secret>) -> WebhookConfig {
        WebhookConfig {
            name: name.into(),
            url: url.into(),
            secrets,
            schedule: STANDARD_SCHEDULE.to_vec(),
            timeout: TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            concurrency: CONCURRENCY,
            allow_private: false,
            allow_http: false,
            proxy: None,
            ca: None,
        }
    }

    /// Makes a connection and a HEAD request, whose answer may be any: returns its status. Sends no message.
    pub async fn probe(&self) -> Result<u16, WebhookError> {
        let client = Client::new(self)?;
        let unreachable = |failure: endpoint::Failure| WebhookError::Unreachable {
            endpoint: client.endpoint(),
            reason: failure.reason,
        };
        client.probe().await.map(|status| status.as_u16()).map_err(unreachable)
    }
}

/// The URL, if webhooks may be sent to it, as far as that can be told before its name is resolved.
pub fn parse_url(url: &str, allow_private: bool, allow_http: bool) -> Result<Url, UrlError> {
    let url = Url::parse(url.trim()).map_err(|error| UrlError::Malformed(error.to_string()))?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private || allow_http => {}
        "http" => return Err(UrlError::Plain),
        other => return Err(UrlError::Scheme(other.to_owned())),
    }
    // Resolvers are not asked about addresses.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(address) if !allow_private => address::check(address)?,
        _ => {}
    }
    Ok(url)
}

/// The sink; see the module.
pub struct WebhookSink {
    name: String,
    client: Arc<Client>,
    window: Window,
    attempts: JoinSet<(Ticket, Answer)>,
    on_their_way: HashMap<Ticket, AbortHandle>,
}

impl WebhookSink {
    /// Connects to nothing yet. Fails if something in the configuration makes no sense.
    pub fn new(config: WebhookConfig) -> Result<WebhookSink, WebhookError> {
        let client = Arc::new(Client::new(&config)?);
        let window = Window::new(Schedule::new(config.schedule), Endpoint::new(config.concurrency.max(1)));
        let (attempts, on_their_way) = (JoinSet::new(), HashMap::new());
        Ok(WebhookSink { name: config.name, client, window, attempts, on_their_way })
    }

    /// Starts what can be started now.
    fn start(&mut self) {
        while let Some(attempt) = self.window.start(Instant::now()) {
            let (client, ticket) = (self.client.clone(), attempt.ticket);
            let sending = async move { (ticket, client.send(&attempt.message).await) };
            self.on_their_way.insert(ticket, self.attempts.spawn(sending));
        }
    }

    /// Takes in what became of an attempt.
    fn finish(&mut self, ended: Result<(Ticket, Answer), JoinError>) -> Result<(), WebhookError> {
        let (ticket, answer) = match ended {
            Ok(ended) => ended,
            // Its lane is gone.
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(error) => return Err(WebhookError::Broken(error.into())),
        };
        self.on_their_way.remove(&ticket);
        let outcome = match answer {
            Answer::Accepted => Ok(()),
            Answer::Failed(failure) => Err(failure),
            Answer::Gone => {
                return Err(WebhookError::Gone { endpoint: self.client.endpoint(), waiting: self.window.waiting() });
            }
        };
        let was_down = self.window.is_down();
        let failed = self.window.finish(ticket, outcome, Instant::now());
        let (endpoint, is_down, waiting) = (self.client.endpoint(), self.window.is_down(), self.window.waiting());
        match (was_down, is_down) {
            (false, true) => warn!(sink = self.name, endpoint, waiting, "nothing gets through; trying one at a time"),
            (true, false) => info!(sink = self.name, endpoint, waiting, "messages get through again"),
            _ => {}
        }
        match failed {
            Some(reason) => Err(WebhookError::NotTaken { endpoint, reason, is_down, waiting }),
            None => Ok(()),
        }
    }

    async fn next_news(&mut self) -> Result<Settled, SinkError> {
        loop {
            self.start();
            if let Some(news) = self.window.news() {
                return Ok(news);
            }
            let wakes_at = self.window.wakes_at();
            let wake = async {
                match wakes_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                Some(ended) = self.attempts.join_next() => self.finish(ended)?,
                () = wake => {}
            }
        }
    }
}

impl Sink for WebhookSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn claim<'a>(&'a mut self, lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>> {
        self.release(lane);
        Box::pin(async { Ok(Start::Remembered) })
    }

    fn room(&self) -> usize {
        self.window.room()
    }

    fn deliver<'a>(&'a mut self, lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async {
            self.window.admit(lane, batch, Instant::now());
            self.start();
            // The attempts are on their way before anything else is done on this thread.
            tokio::task::yield_now().await;
            Ok(Delivered::Pending)
        })
    }

    fn settled(&mut self) -> BoxFuture<'_, Result<Settled, SinkError>> {
        Box::pin(self.next_news())
    }

    fn release(&mut self, lane: &Lane) {
        for ticket in self.window.release(lane) {
            if let Some(attempt) = self.on_their_way.remove(&ticket) {
                attempt.abort();
            }
        }
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}
