//! Sinks made from the configuration.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use touchline_core::output::Topic;
use touchline_sink::Sink;
use touchline_sink::file::{FileConfig, FileSink};
use touchline_sink::postgres::{PostgresConfig, PostgresSink};
use touchline_sink::webhook::{self, WebhookConfig, WebhookSink};

use crate::cli::Misconfigured;
use crate::config::{self, SinkKind};

/// A sink to be.
pub struct SinkPlan {
    /// Its name.
    pub name: String,
    /// Where to.
    pub kind: SinkKind,
    /// What it is sent.
    pub topics: Vec<Topic>,
    /// Whether the state is a new one in each run.
    pub replaces: bool,
}

impl SinkPlan {
    /// What the configuration says, of a state that stays.
    pub fn of(sink: &config::Sink) -> SinkPlan {
        SinkPlan {
            name: sink.name.clone(),
            kind: sink.kind.clone(),
            topics: sink.topics.iter().copied().collect(),
            replaces: false,
        }
    }

    /// Makes the sink. `feed` names what it is fed from; `following`: for long.
    pub fn open(&self, feed: &[u8], following: bool) -> Result<Box<dyn Sink>> {
        let named = || format!("sink {}", self.name);
        Ok(match &self.kind {
            SinkKind::File(dir) => Box::new(FileSink::open(self.file(dir.clone(), feed, following))?),
            SinkKind::Webhook(webhook) => {
                let config = webhook_config(&self.name, webhook).with_context(named)?;
                Box::new(WebhookSink::new(config).map_err(unfit).with_context(named)?)
            }
            SinkKind::Postgres(postgres) => {
                let config = postgres_config(&self.name, postgres).with_context(named)?;
                Box::new(PostgresSink::new(&config).map_err(unfit).with_context(named)?)
            }
        })
    }

    fn file(&self, dir: PathBuf, feed: &[u8], following: bool) -> FileConfig {
        FileConfig { name: self.name.clone(), dir, feed: feed.to_vec(), following, replaces: self.replaces }
    }
}

/// What is wrong with a value that only the sink can judge.
fn unfit(error: impl std::error::Error) -> Misconfigured {
    Misconfigured(error.to_string())
}

/// A receiver, with its secrets.
pub fn webhook_config(name: &str, webhook: &config::Webhook) -> Result<WebhookConfig> {
    let secret = |secret: &config::Secret| webhook::Secret::parse(&secret.read()?).map_err(|error| unfit(error).into());
    let secrets = webhook.secrets.iter().map(secret).collect::<Result<Vec<_>>>()?;
    let default = WebhookConfig::new(name, webhook.url.read()?.as_str(), secrets);
    let certificates = |path: &PathBuf| fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    Ok(WebhookConfig {
        schedule: webhook.schedule.clone().unwrap_or(default.schedule),
        timeout: webhook.timeout.unwrap_or(default.timeout),
        concurrency: webhook.concurrency.unwrap_or(default.concurrency),
        allow_private: webhook.allow_private,
        allow_http: webhook.allow_http,
        proxy: webhook.proxy.as_ref().map(|proxy| proxy.read().map(|proxy| proxy.to_string())).transpose()?,
        ca: webhook.ca.as_ref().map(certificates).transpose()?,
        ..default
    })
}

/// A database, with its password.
pub fn postgres_config(name: &str, postgres: &config::Postgres) -> Result<PostgresConfig> {
    Ok(PostgresConfig {
        name: name.to_owned(),
        url: postgres.url.read()?.to_string(),
        password: postgres.password.as_ref().map(config::Secret::read).transpose()?,
        schema: postgres.schema.clone(),
    })
}
