//! Brokers, topics, sources.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::{Finding, unreadable};
use crate::cluster::{self, Reader, Settings};
use crate::config::{Config, Snapshots, Source};
use crate::kafka::{self, Wanted};
use crate::report::counted;

/// The brokers' name among the findings.
const WHAT: &str = "kafka";
/// The setting that says whose clock dates a topic's records.
const TIMESTAMPS: &str = "message.timestamp.type";
/// A state is restored from the newest snapshot or, where that is damaged, from the one before.
const SNAPSHOTS_KEPT: u32 = 2;

/// Looks at the cluster. Nothing is made.
pub(super) fn probe(config: &Config) -> Vec<Finding> {
    let properties = config.kafka.properties.iter();
    let missing = unreadable(WHAT, properties.map(|(name, secret)| (&**name, secret)));
    if !missing.is_empty() {
        return missing;
    }
    let failed = |found: String| vec![Finding::failed(WHAT, found)];
    let client = match kafka::client(config) {
        Ok(client) => client,
        Err(error) => return failed(format!("{error:#}")),
    };
    let reader = Reader::new(&client, &format!("{}.check", config.topics.prefix));
    let asked = reader.and_then(|reader| reader.metadata(None).map(|metadata| (reader, metadata)));
    let (reader, metadata) = match asked {
        Ok(asked) => asked,
        Err(error) => return failed(format!("{error:#}")),
    };
    let protocol = client.get("security.protocol").unwrap_or("plaintext").to_lowercase();
    let wanted = kafka::wanted(config);
    let there: Vec<&str> =
        wanted.iter().map(|topic| topic.name).filter(|name| partitions(&metadata, name).is_some()).collect();
    let settings = cluster::settings(&client, &there);
    let mut findings = vec![Finding::ok(WHAT, greeting(&metadata, &config.kafka.bootstrap_servers, &protocol))];
    findings.extend(wanted.iter().map(|topic| {
        hidden(&reader, topic, &metadata).unwrap_or_else(|| judge(config, topic, &metadata, settings.get(topic.name)))
    }));
    findings.extend(config.sources.iter().flat_map(|source| look_at_source(source, &metadata)));
    findings
}

fn greeting(metadata: &Metadata, servers: &str, protocol: &str) -> String {
    let brokers = counted(metadata.brokers().len() as u64, "broker", "brokers");
    let let_in = if protocol.starts_with("sasl") { ", logged in" } else { "" };
    format!("{brokers} at {servers}, over {protocol}{let_in}")
}

/// How many partitions a topic has, if it exists.
fn partitions(metadata: &Metadata, name: &str) -> Option<usize> {
    let found = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
    found.map(|topic| topic.partitions().len())
}

/// Whether this user may not know of a topic, which a list of all of them leaves out.
fn hidden(reader: &Reader, topic: &Wanted<'_>, metadata: &Metadata) -> Option<Finding> {
    let is_listed = metadata.topics().iter().any(|found| found.name() == topic.name);
    let asked = if is_listed { None } else { reader.metadata(Some(topic.name)).ok() }?;
    let is_denied = |code: RDKafkaErrorCode| code == RDKafkaErrorCode::TopicAuthorizationFailed;
    let is_hidden = asked.topics().iter().any(|found| found.error().is_some_and(|error| is_denied(error.into())));
    let what = format!("topic {}", topic.name);
    is_hidden.then(|| Finding::failed(what, "this user may not see it: allow Describe on it"))
}

/// What is to be said of one of touchline's own topics.
fn judge(config: &Config, topic: &Wanted<'_>, metadata: &Metadata, settings: Option<&Settings>) -> Finding {
    let what = format!("topic {}", topic.name);
    let Some(found) = partitions(metadata, topic.name) else {
        return Finding::ok(
            what,
            format!(
                "is not there yet; will be made, with {}",
                counted(topic.partitions.into(), "partition", "partitions")
            ),
        );
    };
    if let Some(wrong) = topic.judge_partitions(found) {
        return Finding::failed(what, wrong);
    }
    let count = counted(found as u64, "partition", "partitions");
    let Some(settings) = settings else {
        return Finding::warning(what, format!("{count}; its settings cannot be seen: allow DescribeConfigs on it"));
    };
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let cleanup = setting("cleanup.policy");
    if let Some(wrong) = topic.judge_cleanup(cleanup) {
        return Finding::failed(what, wrong);
    }
    if let Some(finding) = judge_clock(config, &what, topic, setting(TIMESTAMPS)) {
        return finding;
    }
    let kept = retention(setting("retention.ms")).filter(|_| cleanup == "delete");
    if let Some(finding) =
        kept.filter(|_| topic.name == config.topics.events).and_then(|kept| judge_log(config, &what, kept))
    {
        return finding;
    }
    let kept = kept.map(|kept| format!(", kept for {}", span(kept))).unwrap_or_default();
    Finding::ok(what, format!("{count}, {cleanup}{kept}"))
}

/// Whose clock dates the records, where that matters.
fn judge_clock(config: &Config, what: &str, topic: &Wanted<'_>, found: &str) -> Option<Finding> {
    let (_, needed) =
        topic.settings.iter().find(|(name, value)| *name == TIMESTAMPS && !found.is_empty() && *value != found)?;
    let mend = format!("set it to {needed} with kafka-configs");
    Some(if topic.name == config.topics.progress {
        Finding::failed(what, format!("has {TIMESTAMPS} {found}, so that no moment can be told by it: {mend}"))
    } else {
        Finding::warning(
            what,
            format!("has {TIMESTAMPS} {found}: retention takes what is imported with old dates; {mend}"),
        )
    })
}

/// Whether the log outlasts what a lost state is made again from.
fn judge_log(config: &Config, what: &str, kept: Duration) -> Option<Finding> {
    let kept_for = span(kept);
    match &config.snapshots {
        Some(Snapshots { url: Some(_), every }) if kept <= *every * SNAPSHOTS_KEPT => Some(Finding::failed(
            what,
            format!(
                "keeps events for {kept_for}, and a state may be restored from a snapshot that is {} old: raise retention.ms",
                span(*every * SNAPSHOTS_KEPT)
            ),
        )),
        Some(Snapshots { url: None, .. }) => Some(Finding::warning(
            what,
            format!(
                "keeps events for {kept_for} and there are no snapshots: a state that is lost later cannot be made again"
            ),
        )),
        _ => None,
    }
}

fn look_at_source(source: &Source, metadata: &Metadata) -> Vec<Finding> {
    let what = format!("source {}", source.name);
    let look = |topic: &String| match partitions(metadata, topic) {
        Some(count) => {
            Finding::ok(&*what, format!("topic {topic} has {}", counted(count as u64, "partition", "partitions")))
        }
        None => Finding::warning(
            &*what,
            format!(
                "topic {topic} is not there, or may not be seen: it is waited for. If that is its name, allow Read on it"
            ),
        ),
    };
    source.topics.iter().map(look).collect()
}

/// `None`: for ever, or not told.
fn retention(ms: &str) -> Option<Duration> {
    ms.parse().ok().map(Duration::from_millis)
}

/// In the largest unit that it has two of.
fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let seconds = span.as_secs();
    match UNITS.iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} seconds"),
    }
}
