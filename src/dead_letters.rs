//! `touchline dead-letters`: what could not be taken, seen and given back.
//!
//! Letters are read where they stand, without a group: nothing is marked, so a command that is interrupted is repeated.
//! What is given back twice is known by its id, and dropped.

mod feed;
mod letter;
mod list;
mod replay;
pub(crate) mod returns;
mod rounds;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use clap::Subcommand;
use rdkafka::ClientConfig;
use rdkafka::message::BorrowedMessage;

use crate::cli::Misconfigured;
use crate::cluster::Reader;
use crate::config::{self, Config};
use crate::kafka;
use letter::Letter;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the newest, and count them all by stage and reason
    List(ListArgs),
    /// Give them to where they failed, once more
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "touchline.toml")]
    config: PathBuf,
    /// Only of this stage: ingest, process, sink (of all sinks), or "sink NAME"
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    stage: Option<String>,
    /// Show so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=list::MOST))]
    limit: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "touchline.toml")]
    config: PathBuf,
    /// Only of this stage: ingest, process, sink (of all sinks), or "sink NAME"
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    stage: Option<String>,
    /// Only what came from there; may be repeated
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET")]
    from: Vec<Origin>,
    /// Say what would be given back, and give nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn stage(text: &str) -> Result<String, String> {
    let is_one =
        ["ingest", "process", "sink"].contains(&text) || text.strip_prefix("sink ").is_some_and(|it| !it.is_empty());
    if is_one { Ok(text.to_owned()) } else { Err("it is ingest, process, sink, or \"sink NAME\"".to_owned()) }
}

/// Where a record was that became a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    topic: String,
    partition: i32,
    offset: u64,
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Origin, Self::Err> {
        let mut parts = text.rsplitn(3, '/');
        let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
        let origin = offset.and_then(|it| it.parse().ok()).zip(partition.and_then(|it| it.parse().ok())).zip(topic);
        let ((offset, partition), topic) =
            origin.ok_or("it is TOPIC/PARTITION/OFFSET, as `dead-letters list` shows it")?;
        Ok(Origin { topic: topic.to_owned(), partition, offset })
    }
}

/// Which letters are meant.
struct Choice {
    stage: Option<String>,
    from: Vec<Origin>,
}

impl Choice {
    fn takes(&self, letter: &Letter) -> bool {
        let is_stage = self
            .stage
            .as_ref()
            .is_none_or(|stage| *stage == letter.stage || stage == "sink" && letter.sink().is_some());
        is_stage && (self.from.is_empty() || self.from.iter().any(|origin| letter.is_from(origin)))
    }
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List(args) => list::run(&args),
        Command::Replay(args) => replay::run(&args),
    }
}

/// The letters of a deployment.
struct Office {
    config: Config,
    client: ClientConfig,
    reader: Reader,
}

impl Office {
    fn open(path: &std::path::Path) -> Result<Office> {
        let config = config::load(path)?;
        let client = kafka::client(&config)?;
        let reader = reader(&config, &client)?;
        Ok(Office { config, client, reader })
    }

    /// Hands out all letters that there are now, those of a partition in their order.
    fn read(&self, each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>) -> Result<()> {
        let topic = &self.config.topics.dead_letters;
        let partitions = self.reader.partitions(topic)?;
        if partitions.is_empty() {
            let servers = &self.config.kafka.bootstrap_servers;
            let why = "nothing has run with this configuration yet, or [topics] means another";
            return Err(Misconfigured(format!("there is no topic {topic} at {servers}: {why}")).into());
        }
        let from: BTreeMap<i32, i64> = partitions.into_iter().map(|partition| (partition, 0)).collect();
        self.reader.read(topic, &from, each).map(drop)
    }
}

/// A reader that brokers know by the deployment's prefix, as they know the stages.
fn reader(config: &Config, client: &ClientConfig) -> Result<Reader> {
    Reader::new(client, &format!("{}.dead-letters", config.topics.prefix))
}
