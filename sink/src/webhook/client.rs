//! One attempt: a signed request, and what the answer to it means.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Proxy, Response, StatusCode, Url, retry, tls};
use tokio::time::{Instant, timeout_at};

use super::address::{PublicOnly, System};
use super::endpoint::{Failure, Fault};
use super::message::Message;
use super::schedule::retry_after;
use super::signature::{Secret, signatures};
use super::{WebhookConfig, WebhookError, parse_url};

/// Told to receivers.
const USER_AGENT: &str = concat!("touchline/", env!("CARGO_PKG_VERSION"));
/// An answer is read to its end so that the connection can be used again; one longer than this costs the connection.
const DRAINED_BYTES: usize = 64 << 10;
/// As much of an answer as explains a refusal.
const EXCERPT_BYTES: usize = 200;
/// Connections rest no longer: what lies between keeps none for less than a minute.
const POOL_IDLE: Duration = Duration::from_secs(45);

/// What became of an attempt.
#[derive(Debug)]
pub enum Answer {
    /// The receiver has it.
    Accepted,
    /// The receiver wants nothing any more.
    Gone,
    /// It may work later.
    Failed(Failure),
}

/// Sends to one URL.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    secrets: Vec<Secret>,
    timeout: Duration,
    /// Whether a connection may be waiting to be used again, which the receiver may just be closing.
    has_rested: AtomicBool,
}

impl Client {
    /// Fails if something in the configuration makes no sense.
    pub fn new(config: &WebhookConfig) -> Result<Client, WebhookError> {
        Client::with(config, System)
    }

    /// The same, with names resolved by `resolver`.
    fn with(config: &WebhookConfig, resolver: impl Resolve + 'static) -> Result<Client, WebhookError> {
        let url = parse_url(&config.url, config.allow_private, config.allow_http)?;
        let wrong =
            |setting| move |source: reqwest::Error| WebhookError::Unusable { setting, source: source.without_url() };
        if config.secrets.is_empty() {
            return Err(WebhookError::NoSecret);
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_native()
            .tls_version_min(tls::Version::TLS_1_2)
            .http1_only()
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .referer(false)
            .retry(retry::never())
            .no_proxy()
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(config.concurrency);
        if let Some(proxy) = &config.proxy {
            // The proxy resolves the name, and says what it lets through.
            builder = builder.proxy(Proxy::all(proxy).map_err(wrong("proxy"))?);
        } else if config.allow_private {
            builder = builder.dns_resolver(resolver);
        } else {
            builder = builder.dns_resolver(PublicOnly(resolver));
        }
        if let Some(ca) = &config.ca {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(ca).map_err(wrong("ca"))?);
        }
        let http = builder.build().map_err(wrong("url"))?;
        let (secrets, has_rested) = (config.secrets.clone(), AtomicBool::new(false));
        Ok(Client { http, url, secrets, timeout: config.timeout, has_rested })
    }

    /// The receiver's host and port: the rest of a URL may be secret.
    pub fn endpoint(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    /// Asks the receiver for no more than an answer.
    pub async fn probe(&self) -> Result<StatusCode, Failure> {
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, self.http.head(self.url.clone()).send()).await {
            Ok(Ok(response)) => Ok(response.status()),
            Ok(Err(error)) => Err(unavailable(describe(error))),
            Err(_) => Err(unavailable(self.no_answer())),
        }
    }

    /// Makes one attempt, within the configured time.
    pub async fn send(&self, message: &Message) -> Answer {
        let deadline = Instant::now() + self.timeout;
        let mut response = match timeout_at(deadline, self.post(message)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Answer::Failed(unavailable(describe(error))),
            Err(_) => return Answer::Failed(unavailable(self.no_answer())),
        };
        let status = response.status();
        if status == StatusCode::GONE {
            return Answer::Gone;
        }
        let body = timeout_at(deadline, drain(&mut response)).await;
        self.has_rested.store(true, Ordering::Relaxed);
        if !status.is_success() {
            let beginning = body.ok().and_then(Result::ok).unwrap_or_default();
            return Answer::Failed(self.refusal(&response, &beginning));
        }
        match body {
            Ok(Ok(_)) => Answer::Accepted,
            Ok(Err(error)) => Answer::Failed(unavailable(format!("{status}, but {}", describe(error)))),
            Err(_) => {
                Answer::Failed(unavailable(format!("{status}, but not the whole answer within {:?}", self.timeout)))
            }
        }
    }

    async fn post(&self, message: &Message) -> reqwest::Result<Response> {
        let result = self.post_once(message).await;
        match result {
            // The receiver may close a connection that rests just when it is used again. That is no failed attempt.
            Err(error) if is_broken(&error) && self.has_rested.swap(false, Ordering::Relaxed) => {
                self.post_once(message).await
            }
            result => result,
        }
    }

    async fn post_once(&self, message: &Message) -> reqwest::Result<Response> {
        // A clock before 1970 is off by so much that no receiver would take its word.
        let timestamp = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let Message { id, body } = message;
        self.http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures(&self.secrets, id, timestamp, body))
            .body(body.clone())
            .send()
            .await
    }

    fn refusal(&self, response: &Response, body: &[u8]) -> Failure {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header(RETRY_AFTER).and_then(|value| retry_after(value, Timestamp::now()));
        let fault = match status {
            StatusCode::TOO_MANY_REQUESTS => Fault::Throttled,
            StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Fault::Throttled,
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Fault::Unavailable,
            _ if status.is_redirection() => Fault::Unavailable,
            _ => Fault::Refused,
        };
        let reason = match header(LOCATION).filter(|_| status.is_redirection()) {
            Some(location) => {
                format!("{status} to {}: redirects are not followed, set url to where it is", self.place(location))
            }
            None => status.to_string(),
        };
        Failure { fault, reason, said: excerpt(body), retry_after }
    }

    /// A place without what may be secret of it.
    fn place(&self, location: &str) -> String {
        let url = self.url.join(location).ok().filter(Url::has_host);
        url.map_or("nowhere".to_owned(), |url| excerpt(url.origin().ascii_serialization().as_bytes()).split_off(2))
    }

    fn no_answer(&self) -> String {
        format!("no answer within {:?}", self.timeout)
    }
}

fn unavailable(reason: String) -> Failure {
    Failure { fault: Fault::Unavailable, reason, said: String::new(), retry_after: None }
}

/// Whether a connection that had been made broke before there was an answer.
fn is_broken(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// Reads the answer, as far as that is worth the connection. Its beginning.
async fn drain(response: &mut Response) -> reqwest::Result<Vec<u8>> {
    let (mut beginning, mut read) = (Vec::new(), 0);
    while let Some(chunk) = response.chunk().await? {
        let room = EXCERPT_BYTES - beginning.len();
        beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
        read += chunk.len();
        if read > DRAINED_BYTES {
            break;
        }
    }
    Ok(beginning)
}

/// `: ` and the text on one line, if there is any.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_BYTES)]);
    let text = text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty());
    let text = text.collect::<Vec<_>>().join(" ");
    if text.is_empty() { text } else { format!(": {text}") }
}

/// What went wrong, without the URL, which may be secret. The innermost cause says it best; but of TLS, the one that
/// knows what is wrong with the certificate.
fn describe(error: reqwest::Error) -> String {
    let kind = match &error {
        _ if error.is_connect() => "no connection",
        _ if error.is_builder() => "no request can be made",
        _ => "the connection broke",
    };
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source().filter(|_| !cause.is::<native_tls::Error>()) {
        cause = source;
    }
    format!("{kind}: {cause}")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::super::address::Rebinding;
    use super::*;

    /// Sends once for each answer to a receiver on this machine, and gives what came of it. The receiver refuses, and closes.
    fn send(answers: &[&[&str]], allow_private: bool) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.incoming().for_each(drop));
        let secret = Secret::parse("whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0").unwrap();
        let url = format!("http://crm.example.com:{port}/");
        let config = WebhookConfig { allow_private, allow_http: true, ..WebhookConfig::new("crm", url, vec![secret]) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::with(&config, Rebinding::new(answers)).unwrap();
            let message = Message { id: "1".to_owned(), body: b"{}".to_vec() };
            let mut told = Vec::new();
            for _ in answers {
                told.push(format!("{:?}", client.send(&message).await));
            }
            told
        })
    }

    #[test]
    fn a_name_that_changes_its_mind_leads_nowhere() {
        let answers: [&[&str]; 4] =
            [&["127.0.0.1"], &["::ffff:127.0.0.1"], &["10.0.0.1", "127.0.0.1"], &["169.254.169.254"]];
        for told in send(&answers, false) {
            assert!(told.contains("no connection") && told.contains("which no webhook is sent to"), "{told}");
        }
        // The same answers lead there where they are allowed to.
        for told in send(&answers[..1], true) {
            assert!(told.contains("the connection broke"), "{told}");
        }
    }
}
