//! The configuration: one `touchline.toml`, parsed and validated as a whole, then only built from.
//!
//! [`load`] and [`parse`] give either a [`Config`] in which everything is valid, or all [`Mistakes`] at once. They look at
//! nothing but the text: no clock, no environment, no network. Every setting has a default; a file says what differs.
//!
//! Settings of stages that this version does not have (`[kafka]`, `[topics]`, `[snapshots]`, `[http]`) are checked, so that
//! one file serves all commands, and not kept.

mod mistakes;
mod sections;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use toml::de::DeTable;
pub use touchline_core::output::Topic;
use touchline_core::rules::{LapseRules, Rules, ScoreRules};

use mistakes::Finding;
pub use mistakes::Mistakes;

/// A configuration is written by hand; more than this is another file.
const FILE_BYTES: u64 = 1 << 20;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
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
    /// `[processor]`.
    pub processor: Processor,
    /// `[[sink]]`, in the order of the file; names are unique.
    pub sinks: Vec<Sink>,
}

/// Where events come from: what their `source` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The `source` of its events.
    pub name: String,
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
    /// The topics that it writes besides dead letters.
    pub publish: BTreeSet<Topic>,
}

/// A sink of kind `file`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name, which is also its cursor's.
    pub name: String,
    /// What it reads; never empty.
    pub topics: BTreeSet<Topic>,
    /// The directory that it writes to, as written; no two sinks share one.
    pub dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sources: Vec::new(),
            lapse: LapseRules::default(),
            score: ScoreRules::default(),
            since: None,
            internal: BTreeSet::new(),
            state: State { dir: PathBuf::from("state"), memory: 1 << 30 },
            processor: Processor {
                commit_interval: Duration::from_millis(100),
                publish: BTreeSet::from([Topic::Alerts, Topic::Scores, Topic::Facts]),
            },
            sinks: Vec::new(),
        }
    }
}

impl Config {
    /// The rules that go into the log. Configurations that mean the same give equal rules, whatever their order.
    pub fn rules(&self) -> Rules {
        let prioritised = self.sources.iter().filter(|source| source.priority != 0);
        let required: BTreeSet<&String> = self.sources.iter().filter(|s| s.required).map(|s| &s.name).collect();
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
