//! Where results go: is it there, does it let us in?

use anyhow::Result;
use tokio::runtime;
use tokio::time;
use touchline_sink::postgres::PostgresSink;
use touchline_sink::webhook::WebhookConfig;

use super::{Finding, WITHIN, directory, unreadable};
use crate::config::{self, SinkKind};
use crate::sinks::{postgres_config, webhook_config};

/// Looks at one sink. A receiver gets no message, a database no change.
pub(super) fn probe(sink: &config::Sink) -> Vec<Finding> {
    let what = format!("sink {}", sink.name);
    let missing = match &sink.kind {
        SinkKind::File(dir) => return vec![directory::probe(&what, dir)],
        SinkKind::Webhook(webhook) => {
            let secrets = webhook.secrets.iter().map(|secret| ("secret", secret));
            let proxy = webhook.proxy.iter().map(|proxy| ("proxy", proxy));
            unreadable(&what, [("url", &webhook.url)].into_iter().chain(secrets).chain(proxy))
        }
        SinkKind::Postgres(postgres) => {
            let password = postgres.password.iter().map(|password| ("password", password));
            unreadable(&what, [("url", &postgres.url)].into_iter().chain(password))
        }
    };
    if !missing.is_empty() {
        return missing;
    }
    let looked = match &sink.kind {
        SinkKind::File(_) => return Vec::new(),
        SinkKind::Webhook(webhook) => knock(&what, &sink.name, webhook),
        SinkKind::Postgres(postgres) => log_in(&what, &sink.name, postgres),
    };
    vec![looked.unwrap_or_else(|error| Finding::failed(what, format!("{error:#}")))]
}

fn knock(what: &str, name: &str, webhook: &config::Webhook) -> Result<Finding> {
    let config = webhook_config(name, webhook)?;
    let (timeout, connect_timeout) = (config.timeout.min(WITHIN), config.connect_timeout.min(WITHIN));
    let config = WebhookConfig { timeout, connect_timeout, ..config };
    let status = within(config.probe())??;
    Ok(match status {
        // Anything else is an answer to HEAD, which a receiver of POST need not know.
        404 | 410 => Finding::warning(what, format!("the receiver answers {status} to HEAD: is the url's path right?")),
        _ => Finding::ok(what, format!("the receiver answers ({status} to HEAD)")),
    })
}

fn log_in(what: &str, name: &str, postgres: &config::Postgres) -> Result<Finding> {
    let sink = PostgresSink::new(&postgres_config(name, postgres)?)?;
    let found = within(sink.probe())??;
    let schema = match (found.pending, found.may_migrate) {
        (0, _) => format!("schema {} is up to date", postgres.schema),
        (pending, true) => format!("{pending} migrations of schema {} are applied at the start", postgres.schema),
        (pending, false) => {
            let (schema, server) = (&postgres.schema, &found.server);
            let todo = format!(
                "grant it create on the database, or on schema {schema}, or let an administrator start touchline once"
            );
            let found = format!(
                "PostgreSQL {server}: schema {schema} needs {pending} migrations, and the role may not apply them: {todo}"
            );
            return Ok(Finding::failed(what, found));
        }
    };
    let wire = if found.is_encrypted { "encrypted" } else { "not encrypted" };
    Ok(Finding::ok(what, format!("PostgreSQL {}, {wire}; {schema}", found.server)))
}

/// What comes of it, if it comes in time.
fn within<T>(look: impl Future<Output = T>) -> Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let looked = runtime.block_on(async { time::timeout(WITHIN, look).await });
    // A resolver may hang on.
    runtime.shutdown_background();
    looked.map_err(|_| {
        anyhow::anyhow!("no answer within {} s: is it there, and does a firewall let us through?", WITHIN.as_secs())
    })
}
