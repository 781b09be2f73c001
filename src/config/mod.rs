//! The configuration: one `touchline.toml`, parsed and validated as a whole, then only built from.
//!
//! [`load`] and [`parse`] give either a [`Config`] in which everything is valid, or all [`Mistakes`] at once. They look at
//! nothing but the text: no clock, no environment, no network. Every setting has a default; a file says what differs.
//!
//! One file serves all commands: each takes what concerns it. Secrets stay references until [`Secret::read`].

mod mistakes;
pub mod reference;
mod secret;
mod sections;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use toml::de::DeTable;
pub use touchline_core::output::Topic;
use touchline_core::rules::{LapseRules, Rules, ScoreRules};

use mistakes::Finding;
pub use mistakes::Mistakes;
pub use secret::{Secret, SecretError};

/// A configuration is written by hand; more than this is another file.
const FILE_BYTES: u64 = 1 << 20;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[kafka]`.
    pub kafka: Kafka,
    /// `[topics]`.
    pub topics: Topics,
    /// `[[source]]`, in the order of the file; names are unique.
    pub sources: Vec<Source>,
    /// `[lapse]`.
    pub lapse: LapseRules,
    /// `[score]`.
    pub score: ScoreRules,
    /// `[alerts] since`: alerts due before it are backlog. Unset, it is whatever the first rules record says.
    pub since: Option<Timestamp>,
    /// `[internal] domains`: mail domains, in lower case, whose people are not tracked.
    pub internal: BTreeSet<String>,
    /// `[state]`.
    pub state: State,
    /// `[snapshots]`; unset, there has been no decision.
    pub snapshots: Option<Snapshots>,
    /// `[processor]`.
    pub processor: Processor,
    /// `[erasure] key`.
    pub erasure_key: Option<Secret>,
    /// `[http]`.
    pub http: Http,
    /// `[[sink]]`, in the order of the file; names are unique.
    pub sinks: Vec<Sink>,
}

/// How to reach Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// Whether the file says anything about it: what is for `replay` alone need not.
    pub is_named: bool,
    /// Where to begin to look for brokers.
    pub bootstrap_servers: String,
    /// Any of librdkafka's.
    pub properties: BTreeMap<String, Secret>,
}

/// What topics are called, and how many partitions the one of events has.
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    /// In front of the names of topics and groups.
    pub prefix: String,
    /// Of `events`, and of what is written.
    pub partitions: u32,
    /// What `events` has beyond those.
    pub unused: u32,
    /// Canonical events, ticks and rules, by account.
    pub events: String,
    /// How complete each source is, and the rules.
    pub progress: String,
    /// Alert changes.
    pub alerts: String,
    /// The latest scores.
    pub scores: String,
    /// Events as processed, and episodes.
    pub facts: String,
    /// What could not be processed.
    pub dead_letters: String,
}

impl Topics {
    /// The names that follow from a prefix.
    pub fn of(prefix: &str) -> Topics {
        let name = |topic: &str| format!("{prefix}.{topic}");
        Topics {
            prefix: prefix.to_owned(),
            partitions: 64,
            unused: 0,
            events: name("events"),
            progress: name("progress"),
            alerts: name(Topic::Alerts.name()),
            scores: name(Topic::Scores.name()),
            facts: name(Topic::Facts.name()),
            dead_letters: name(Topic::DeadLetters.name()),
        }
    }

    /// The name of what is written.
    pub fn output(&self, topic: Topic) -> &str {
        match topic {
            Topic::Alerts => &self.alerts,
            Topic::Scores => &self.scores,
            Topic::Facts => &self.facts,
            Topic::DeadLetters => &self.dead_letters,
        }
    }
}

/// Copies of states, for when a disk is lost or a partition moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshots {
    /// Where to; `None`: told to do without.
    pub url: Option<String>,
    /// How often.
    pub every: Duration,
}

/// Where events come from: what their `source` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The `source` of its events.
    pub name: String,
    /// The topics that they come from.
    pub topics: BTreeSet<String>,
    /// The zone of its bare dates.
    pub timezone: TimeZone,
    /// The greater one wins where profiles of the same time disagree.
    pub priority: i32,
    /// How long after it happened an event may arrive.
    pub max_delay: Duration,
    /// Whether the clock waits for it.
    pub required: bool,
}

/// Where state is kept, and what it may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The directory, as written: a relative one is relative to the working directory.
    pub dir: PathBuf,
    /// Bytes for the block cache and write buffers of all partitions together.
    pub memory: u64,
}

/// How the processor works.
#[derive(Clone, Debug, PartialEq)]
pub struct Processor {
    /// Time between commits.
    pub commit_interval: Duration,
    /// Workers.
    pub threads: u32,
    /// The topics that it writes besides dead letters.
    pub publish: BTreeSet<Topic>,
}

/// The port that operations ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Files of a chain of certificates and of its key, in PEM; unset: plain HTTP.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who may ask.
    pub tokens: Tokens,
    /// Whether anybody who reaches it may ask in the clear, also from other machines.
    pub insecure: bool,
}

/// Bearer tokens by role, some of each while one takes another's place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// May look.
    pub read: Vec<Secret>,
    /// May look and change things.
    pub operate: Vec<Secret>,
}

impl Http {
    /// Why it must not listen there as it is protected, and what to do.
    pub fn judge(&self, listen: SocketAddr) -> Option<String> {
        let is_protected = self.certificate.is_some() && !self.tokens.read.is_empty();
        (!listen.ip().is_loopback() && !is_protected && !self.insecure).then(|| {
            format!(
                "{listen} is reached from other machines: give [http] a `certificate` with its `key`, and [http.tokens] `read`; \
                 or say `insecure = true` if whoever reaches it may ask"
            )
        })
    }
}

/// A sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name, which is also its cursor's.
    pub name: String,
    /// What it reads; never empty.
    pub topics: BTreeSet<Topic>,
    /// Where to.
    pub kind: SinkKind,
}

/// Where a sink brings what it reads.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// Files in a directory, as written; no two sinks share one.
    File(PathBuf),
    /// Requests to a URL.
    Webhook(Webhook),
    /// Tables.
    Postgres(Postgres),
}

/// A receiver of signed requests (<https://www.standardwebhooks.com>).
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Where to; it may hold a token of the receiver's.
    pub url: Secret,
    /// To sign with, each.
    pub secrets: Vec<Secret>,
    /// The pauses between attempts; unset: the standard's.
    pub schedule: Option<Vec<Duration>>,
    /// For a whole attempt; unset: the sink's default.
    pub timeout: Option<Duration>,
    /// Most requests at once; unset: the sink's default.
    pub concurrency: Option<usize>,
    /// Whether addresses that are not public are fine.
    pub allow_private: bool,
    /// Whether plain HTTP is fine.
    pub allow_http: bool,
    /// The URL of a proxy.
    pub proxy: Option<Secret>,
    /// A file of certificates, in PEM, of authorities to trust beside the system's.
    pub ca: Option<PathBuf>,
}

/// A PostgreSQL database.
#[derive(Clone, Debug, PartialEq)]
pub struct Postgres {
    /// `postgresql://user@host:5432/database?sslmode=verify-full`.
    pub url: Secret,
    /// In the place of one in the URL.
    pub password: Option<Secret>,
    /// The schema that the tables are in.
    pub schema: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            kafka: Kafka {
                is_named: false,
                bootstrap_servers: "127.0.0.1:9092".to_owned(),
                properties: BTreeMap::new(),
            },
            topics: Topics::of("touchline"),
            sources: Vec::new(),
            lapse: LapseRules::default(),
            score: ScoreRules::default(),
            since: None,
            internal: BTreeSet::new(),
            state: State { dir: PathBuf::from("state"), memory: 1 << 30 },
            snapshots: None,
            processor: Processor {
                commit_interval: Duration::from_millis(100),
                threads: 2,
                publish: BTreeSet::from([Topic::Alerts, Topic::Scores, Topic::Facts]),
            },
            erasure_key: None,
            http: Http {
                listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
                certificate: None,
                tokens: Tokens::default(),
                insecure: false,
            },
            sinks: Vec::new(),
        }
    }
}

impl Config {
    /// The rules that go into the log. Configurations that mean the same give equal rules, whatever their order.
    pub fn rules(&self) -> Rules {
        let prioritised = self.sources.iter().filter(|source| source.priority != 0);
        // One without topics says something of events that come elsewhere: there is nothing to wait for.
        let required = self.sources.iter().filter(|source| source.required && !source.topics.is_empty());
        let required: BTreeSet<&String> = required.map(|source| &source.name).collect();
        Rules {
            lapse: self.lapse.clone(),
            score: self.score.clone(),
            priorities: prioritised.map(|source| (source.name.clone(), source.priority)).collect(),
            required: required.into_iter().cloned().collect(),
            since: self.since,
        }
    }
}

/// Reads and validates a file.
///
/// # Errors
/// The file cannot be read, or all that is wrong with it. Either is for exit code 78.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    let name = path.display().to_string();
    let text = read_bounded(path).map_err(|error| Mistakes::unreadable(&name, &error))?;
    parse(&text, &name)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > FILE_BYTES { Err(io::Error::other("it is larger than 1 MiB")) } else { Ok(text) }
}

/// Validates a text; `name` is what mistakes call it.
///
/// # Errors
/// All that is wrong with it. A text that is not TOML has one mistake: what follows it would be guessed.
pub fn parse(text: &str, name: &str) -> Result<Config, Mistakes> {
    let (config, findings) = match DeTable::parse(text) {
        Ok(document) => table::read(document.get_ref(), sections::root),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            // The error's Display would repeat the line, which may hold a secret; its message does not.
            let what = format!("not TOML: {}", error.message());
            (Config::default(), vec![Finding { at, key: String::new(), what }])
        }
    };
    if findings.is_empty() { Ok(config) } else { Err(Mistakes::locate(name, text, findings)) }
}
