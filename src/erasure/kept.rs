//! What holds an erased contact's name for a while yet, and until when: the log, and copies of what was.

use std::time::Duration;

use jiff::Timestamp;
use rdkafka::ClientConfig;
use serde::Serialize;
use touchline_core::output::Topic;

use crate::cluster;
use crate::config::{Config, SinkKind};
use crate::kafka::wanted;

/// The files of a state are rewritten within this.
const STATE: Duration = Duration::from_secs(60 * 60);
/// A file that was in a snapshot is needed by none once so many are newer.
const SNAPSHOTS: u32 = 2;
/// After so long it goes.
const SUPERSEDED: Duration = Duration::from_secs(24 * 60 * 60);

/// A place, and how long.
#[derive(Serialize)]
pub(super) struct Kept {
    pub what: String,
    /// `None`: it is not known, or for ever.
    pub until: Option<Timestamp>,
    pub why: &'static str,
}

/// All such places that this deployment has.
pub(super) fn kept(config: &Config, client: &ClientConfig, now: Timestamp) -> Vec<Kept> {
    let later = |span: Duration| now.checked_add(span).ok();
    let mut names: Vec<&str> = config.sources.iter().flat_map(|source| &source.topics).map(String::as_str).collect();
    names.extend(wanted(config).iter().map(|topic| topic.name).filter(|name| *name != config.topics.progress));
    let settings = cluster::settings(client, &names);
    let mut kept: Vec<Kept> = names
        .into_iter()
        .map(|name| {
            let ms = |key: &str| {
                let value = settings.get(name)?.get(key)?.parse().ok()?;
                Some(Duration::from_millis(value)).filter(|span| *span < FOR_EVER)
            };
            let is_compacted =
                settings.get(name).and_then(|of| of.get("cleanup.policy")).is_some_and(|it| it.contains("compact"));
            // A record goes with its segment, once that is no longer written to.
            let (span, why) = if is_compacted {
                // Then the key of the tombstone goes as well.
                (ms("max.compaction.lag.ms").zip(ms("delete.retention.ms")).map(|(lag, kept)| lag + kept), "compaction")
            } else {
                (ms("retention.ms").zip(ms("segment.ms")).map(|(kept, segment)| kept + segment), "retention")
            };
            let until = span.and_then(later);
            Kept {
                what: format!("topic {name}"),
                until,
                why: if until.is_some() { why } else { "for how long is not known" },
            }
        })
        .collect();
    kept.push(Kept { what: "the processor's state".to_owned(), until: later(STATE), why: "its files are rewritten" });
    if let Some(snapshots) = config.snapshots.as_ref().filter(|snapshots| snapshots.url.is_some()) {
        let until = later(STATE + snapshots.every * SNAPSHOTS + SUPERSEDED);
        kept.push(Kept { what: "snapshots".to_owned(), until, why: "they are replaced" });
    }
    for sink in config.sinks.iter().filter(|sink| matches!(sink.kind, SinkKind::File(_))) {
        let what = format!("files of sink {}", sink.name);
        kept.push(Kept { what: what.clone(), until: later(SORTED), why: "the sorted ones are written anew" });
        if sink.topics.contains(&Topic::DeadLetters) {
            kept.push(Kept { what, until: None, why: "its dead letters stay: nobody knows whose they are" });
        }
    }
    kept
}

/// Sorted files of some size are written anew within this.
const SORTED: Duration = Duration::from_secs(5 * 60);

/// Topics that are told to keep records so long keep them for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
