//! The schema: each table's keys with their defaults, limits and meaning, and what must agree between them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use touchline_core::rules::{Counts, LapseRules, MONTHS, RoleWeights, ScoreRules};

use super::table::Table;
use super::value::{
    address, built_in, domain, duration, flag, int, list, name, one_of, one_or_more, path, positive, property,
    reference, seconds, secret, size, snapshot_url, text, timestamp, topic, url, weight, zone,
};
use super::{
    Config, Http, Kafka, Postgres, Processor, Secret, Sink, SinkKind, Snapshots, Source, State, Tokens, Topic, Topics,
    Webhook,
};

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

/// A calendar month is never shorter, so a warning below this many days a month is always after the engagement.
const SHORTEST_MONTH: Duration = days(28);
/// A century: beyond any relationship, and far from where time stamps end.
pub(super) const SPAN: RangeInclusive<Duration> = Duration::ZERO..=days(36_500);
/// Below an hour decay would be noise of arrival.
pub(super) const HALF_LIFE: RangeInclusive<Duration> = Duration::from_secs(3_600)..=days(36_500);
/// A source may be late by a year, an annual import.
pub(super) const MAX_DELAY: RangeInclusive<Duration> = Duration::ZERO..=days(365);
/// More often, commits are all that is done; more seldom, an alert comes a minute late.
pub(super) const COMMIT_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// More often than every ten seconds uploads never rest; more seldom than daily a restore takes too long.
pub(super) const SNAPSHOT_EVERY: RangeInclusive<Duration> = Duration::from_secs(10)..=days(1);
/// What a restore has to apply of the log at the most, about.
const SNAPSHOTS: Duration = Duration::from_secs(300);
/// Block cache and write buffers below 64 MiB thrash; the upper end catches a slip of the unit.
pub(super) const MEMORY: RangeInclusive<u64> = 64 << 20..=16 << 40;
/// A state directory per partition: more than this is a slip of the hand.
pub(super) const PARTITIONS: RangeInclusive<u32> = 1..=4_096;
pub(super) const UNUSED: RangeInclusive<u32> = 0..=4_096;
/// Sooner is at once; a receiver that is away for a month is gone.
pub(super) const RETRY_AFTER: RangeInclusive<Duration> = Duration::from_millis(1)..=days(31);
/// What answers slower than in five minutes does not answer.
pub(super) const REQUEST: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// More at once is an attack.
pub(super) const CONCURRENCY: RangeInclusive<u32> = 1..=256;
/// More workers than partitions have nothing to do.
pub(super) const THREADS: RangeInclusive<u32> = 1..=4_096;

pub(super) const COUNTS: [(&str, Counts); 3] =
    [("two_way", Counts::TwoWay), ("one_way", Counts::OneWay), ("advocacy", Counts::Advocacy)];
pub(super) const PUBLISHED: [(&str, Topic); 3] =
    [("alerts", Topic::Alerts), ("scores", Topic::Scores), ("facts", Topic::Facts)];
pub(super) const OUTPUTS: [(&str, Topic); 4] = [
    ("alerts", Topic::Alerts),
    ("scores", Topic::Scores),
    ("facts", Topic::Facts),
    ("dead_letters", Topic::DeadLetters),
];
pub(super) const FORMATS: [(&str, ()); 1] = [("canonical", ())];
const FORMATS_LATER: [&str; 8] =
    ["segment", "rudderstack", "cloudevents", "snowplow", "debezium", "salesforce", "hubspot", "marketo"];
pub(super) const SINK_KINDS: [(&str, Kind); 3] =
    [("file", Kind::File), ("webhook", Kind::Webhook), ("postgres", Kind::Postgres)];
const SINK_KINDS_LATER: [&str; 4] = ["slack", "clickhouse", "parquet", "iceberg"];

/// The kinds of sinks that there are.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    File,
    Webhook,
    Postgres,
}

/// The whole file.
pub(super) fn root(t: &mut Table<'_, '_>) -> Config {
    let kafka = t.table("kafka", kafka);
    let topics = t.table("topics", topics);
    let sources = sources(t, &topics);
    let lapse = t.table("lapse", lapse);
    let since = t.table("alerts", |t| t.opt("since", timestamp));
    let internal = t.table("internal", |t| t.set("domains", domain)).unwrap_or_default();
    let score = t.table("score", score);
    let state = t.table("state", state);
    let snapshots = t.table("snapshots", snapshots);
    let processor = t.table("processor", processor);
    let erasure_key = t.table("erasure", |t| t.opt("key", reference));
    let sinks = sinks(t, &processor.publish);
    let http = t.table("http", http);
    Config {
        kafka,
        topics,
        sources,
        lapse,
        since,
        internal,
        score,
        state,
        snapshots,
        processor,
        erasure_key,
        http,
        sinks,
    }
}

fn kafka(t: &mut Table<'_, '_>) -> Kafka {
    let default = Config::default().kafka;
    Kafka {
        is_named: t.is_there(),
        bootstrap_servers: t.or("bootstrap_servers", default.bootstrap_servers, text),
        properties: t.table("properties", |t| {
            t.open();
            t.leaves(property)
        }),
    }
}

fn topics(t: &mut Table<'_, '_>) -> Topics {
    let default = Topics::of(&t.or("prefix", Config::default().topics.prefix, topic));
    Topics {
        partitions: t.or("partitions", default.partitions, int(PARTITIONS)),
        unused: t.or("unused", default.unused, int(UNUSED)),
        events: t.or("events", default.events, topic),
        progress: t.or("progress", default.progress, topic),
        alerts: t.or("alerts", default.alerts, topic),
        scores: t.or("scores", default.scores, topic),
        facts: t.or("facts", default.facts, topic),
        dead_letters: t.or("dead_letters", default.dead_letters, topic),
        prefix: default.prefix,
    }
}

fn snapshots(t: &mut Table<'_, '_>) -> Option<Snapshots> {
    let url = t.opt("url", snapshot_url);
    let every = t.or("every", SNAPSHOTS, duration(SNAPSHOT_EVERY));
    url.map(|url| Snapshots { url: Some(url).filter(|url| url != "none"), every })
}

fn sources(t: &mut Table<'_, '_>, own: &Topics) -> Vec<Source> {
    let own = [&own.events, &own.progress, &own.alerts, &own.scores, &own.facts, &own.dead_letters];
    let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
    t.tables("source", |t| {
        let topics = t.set("topics", topic).unwrap_or_default();
        if let Some(topic) = topics.iter().find(|topic| !taken.insert((*topic).clone())) {
            t.wrong("topics", format!("`{topic}` is another source's already: what comes from it would be read twice"));
        }
        if let Some(topic) = topics.iter().find(|topic| own.contains(topic)) {
            t.wrong("topics", format!("`{topic}` is written by touchline itself: what it reads there would never end"));
        }
        t.check("format", built_in(&FORMATS, &FORMATS_LATER));
        Source {
            name: unique_name(t, &mut names),
            topics,
            timezone: t.or("timezone", TimeZone::UTC, zone),
            priority: t.or("priority", 0, int(i32::MIN..=i32::MAX)),
            max_delay: t.or("max_delay", Duration::ZERO, duration(MAX_DELAY)),
            required: t.or("required", true, flag),
        }
    })
}

/// The required `name` of a repeated table, which no other one has.
fn unique_name(t: &mut Table<'_, '_>, taken: &mut BTreeSet<String>) -> String {
    let name = t.need("name", name).unwrap_or_default();
    if !name.is_empty() && !taken.insert(name.clone()) {
        t.wrong("name", format!("the name `{name}` is taken already"));
    }
    name
}

fn lapse(t: &mut Table<'_, '_>) -> LapseRules {
    let default = LapseRules::default();
    let counts = t.set("counts", one_of(&COUNTS));
    let lapse = LapseRules {
        months: t.or("months", default.months, int(MONTHS)),
        segments: t.map("segments", int(MONTHS)),
        warn_s: t.or("warn", default.warn_s, seconds(SPAN)),
        escalate_s: t.or("escalate", default.escalate_s, seconds(SPAN)),
        counts: counts.map_or(default.counts, Vec::from_iter),
    };
    if lapse.counts.is_empty() {
        t.wrong("counts", "must not be empty: nothing would ever end a silence".to_owned());
    }
    let months = lapse.segments.values().copied().fold(lapse.months, u32::min);
    // Gaps of a week are not kept apart, so nobody is warned of one.
    let most = SHORTEST_MONTH * months - days(7);
    if lapse.warn_s > most.as_secs() {
        let most = most.as_secs() / days(1).as_secs();
        t.wrong(
            "warn",
            format!("must be at most {most}d: it comes a week after an engagement at the soonest (months = {months})"),
        );
    }
    lapse
}

fn score(t: &mut Table<'_, '_>) -> ScoreRules {
    let default = ScoreRules::default();
    ScoreRules {
        half_life_s: t.or("half_life", default.half_life_s, seconds(HALF_LIFE)),
        k: t.or("k", default.k, positive),
        two_way: t.or("two_way", default.two_way, weight),
        one_way: t.or("one_way", default.one_way, weight),
        advocacy: t.or("advocacy", default.advocacy, weight),
        vehicles: t.map("vehicles", weight),
        roles: t.table("roles", roles),
    }
}

fn roles(t: &mut Table<'_, '_>) -> RoleWeights {
    let default = RoleWeights::default();
    RoleWeights {
        decision_maker: t.or("decision_maker", default.decision_maker, weight),
        line_of_business: t.or("line_of_business", default.line_of_business, weight),
        functional: t.or("functional", default.functional, weight),
        user: t.or("user", default.user, weight),
        unknown: t.or("unknown", default.unknown, weight),
    }
}

fn state(t: &mut Table<'_, '_>) -> State {
    let default = Config::default().state;
    State { dir: t.or("dir", default.dir, path), memory: t.or("memory", default.memory, size(MEMORY)) }
}

fn http(t: &mut Table<'_, '_>) -> Http {
    let listen = t.or("listen", Config::default().http.listen, address);
    let (certificate, key) = (t.opt("certificate", path), t.opt("key", path));
    if certificate.is_some() != key.is_some() {
        let (given, missing) = if key.is_some() { ("key", "certificate") } else { ("certificate", "key") };
        t.wrong(given, format!("is nothing without `{missing}`"));
    }
    let tokens = t.table("tokens", |t| {
        let tokens = |t: &mut Table<'_, '_>, name| t.opt(name, one_or_more(reference)).unwrap_or_default();
        Tokens { read: tokens(t, "read"), operate: tokens(t, "operate") }
    });
    let http = Http { listen, certificate: certificate.zip(key), tokens, insecure: t.or("insecure", false, flag) };
    if let Some(wrong) = http.judge(http.listen) {
        t.wrong("listen", wrong);
    }
    http
}

fn processor(t: &mut Table<'_, '_>) -> Processor {
    let default = Config::default().processor;
    let publish = t.set("publish", one_of(&PUBLISHED));
    Processor {
        threads: t.or("threads", default.threads, int(THREADS)),
        commit_interval: t.or("commit_interval", default.commit_interval, duration(COMMIT_INTERVAL)),
        publish: publish.unwrap_or(default.publish),
    }
}

fn sinks(t: &mut Table<'_, '_>, published: &BTreeSet<Topic>) -> Vec<Sink> {
    let (mut names, mut dirs) = (BTreeSet::new(), BTreeSet::new());
    t.tables("sink", |t| {
        t.leaves(secret);
        let name = unique_name(t, &mut names);
        let kind = t.need("kind", built_in(&SINK_KINDS, &SINK_KINDS_LATER));
        let topics = sink_topics(t, published);
        let kind = match kind {
            Some(Kind::File) => SinkKind::File(dir(t, &mut dirs)),
            Some(Kind::Webhook) => SinkKind::Webhook(webhook(t)),
            Some(Kind::Postgres) => {
                if topics.contains(&Topic::DeadLetters) {
                    let why = "`dead_letters` have no table: `touchline dead-letters` shows them";
                    t.wrong("topics", why.to_owned());
                }
                SinkKind::Postgres(postgres(t))
            }
            None => {
                // What keys an unknown kind has is unknown too.
                t.open();
                SinkKind::File(PathBuf::new())
            }
        };
        Sink { name, topics, kind }
    })
}

fn dir(t: &mut Table<'_, '_>, dirs: &mut BTreeSet<PathBuf>) -> PathBuf {
    let dir = t.need("dir", path).unwrap_or_default();
    if !dir.as_os_str().is_empty() && !dirs.insert(dir.clone()) {
        t.wrong("dir", "another sink writes there: give each a directory of its own".to_owned());
    }
    dir
}

fn webhook(t: &mut Table<'_, '_>) -> Webhook {
    Webhook {
        url: t.need("url", url(&["https://", "http://"])).unwrap_or_else(nowhere),
        secrets: t.need("secret", one_or_more(reference)).unwrap_or_default(),
        schedule: t.opt("schedule", list(duration(RETRY_AFTER))),
        timeout: t.opt("timeout", duration(REQUEST)),
        concurrency: t.opt("concurrency", int(CONCURRENCY)).map(|most| most as usize),
        allow_private: t.or("allow_private", false, flag),
        allow_http: t.or("allow_http", false, flag),
        proxy: t.opt("proxy", url(&["https://", "http://"])),
        ca: t.opt("ca", path),
    }
}

fn postgres(t: &mut Table<'_, '_>) -> Postgres {
    Postgres {
        url: t.need("url", url(&["postgresql://", "postgres://"])).unwrap_or_else(nowhere),
        password: t.opt("password", reference),
        schema: t.or("schema", "touchline".to_owned(), text),
    }
}

/// In the place of one that is missing, which was noted.
fn nowhere() -> Secret {
    Secret::Plain(String::new())
}

fn sink_topics(t: &mut Table<'_, '_>, published: &BTreeSet<Topic>) -> BTreeSet<Topic> {
    t.require("topics");
    let topics = t.set("topics", |value| {
        let topic = one_of(&OUTPUTS)(value)?;
        let exists = topic == Topic::DeadLetters || published.contains(&topic);
        if exists { Ok(topic) } else { Err("is not published: add it to [processor] publish".to_owned()) }
    });
    if topics.as_ref().is_some_and(BTreeSet::is_empty) {
        t.wrong("topics", "must not be empty".to_owned());
    }
    topics.unwrap_or_default()
}
