//! Kafka as all stages see it: how to reach it, and the topics that there must be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use tokio::runtime::Runtime;
use touchline_core::output::Topic;
use tracing::{info, warn};

use crate::cli::Misconfigured;
use crate::cluster::{self, Reader};
use crate::config::Config;
use crate::http::Health;
use crate::watch::Watch;

/// Between two attempts while no broker answers.
const RETRY: Duration = Duration::from_secs(1);
/// For a broker to make topics, or to tell of them: a stop waits for it.
const ASK: Duration = Duration::from_secs(5);
/// How often it is looked whether the brokers answer.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// What is in the way is said again so often: a broker may be away for hours, and the log is read afterwards.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Alerts and dead letters are kept so long.
const THIRTY_DAYS_MS: &str = "2592000000";
/// A broker's default is a little over 1 MiB: as much as an event may have, and less than its fact or its dead letter.
const LARGE: (&str, &str) = ("max.message.bytes", "8388608");
/// An erased contact's last score and facts are gone within a day.
const ONE_DAY_MS: &str = "86400000";

/// What every client is made from: the brokers, and the properties that the configuration sets.
pub fn client(config: &Config) -> Result<ClientConfig> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.bootstrap_servers);
    client.set("client.id", "touchline");
    for (name, secret) in &config.kafka.properties {
        client.set(name, secret.read().with_context(|| format!("[kafka.properties] {name}"))?.as_str());
    }
    Ok(client)
}

/// How many partitions a topic must have.
#[derive(Clone, Copy)]
enum Partitions {
    /// Another number has no meaning.
    Any,
    /// Those that it is made with, and so many more that nobody uses: an account's partition follows from their number.
    Keyed { unused: u32 },
    /// One: its records are read in the order in which they were written.
    One,
}

/// A topic as it must be.
pub(crate) struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many it has, where it is made here.
    pub partitions: u32,
    /// Its cleanup policy.
    pub cleanup: &'static str,
    /// How many it may have.
    allowed: Partitions,
    /// Further settings, where it is made here.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Wanted<'_> {
    /// What is wrong with so many partitions, and what to do.
    pub fn judge_partitions(&self, found: usize) -> Option<String> {
        let (name, said) = (self.name, self.partitions as usize);
        match self.allowed {
            Partitions::Any => None,
            Partitions::One => (found != 1).then(|| {
                format!(
                    "topic {name} has {found} partitions, and must have one, whose broker's clock dates everything: delete it \
                     while touchline is stopped; it is made again, and loses nothing"
                )
            }),
            Partitions::Keyed { unused } if found == said + unused as usize => None,
            Partitions::Keyed { .. } => {
                let mut wrong = format!(
                    "topic {name} has {found} partitions, and the configuration says {said}: an account's partition follows from \
                     their number, so it cannot be changed. Set [topics] partitions to {found}, or name another topic",
                );
                if found > said {
                    wrong += &format!(
                        "; or, if {said} were right until somebody added some, set [topics] unused to {}",
                        found - said
                    );
                }
                Some(wrong)
            }
        }
    }

    /// What is wrong with this cleanup policy, and what to do.
    pub fn judge_cleanup(&self, found: &str) -> Option<String> {
        (!found.is_empty() && found != self.cleanup).then(|| {
            format!(
                "topic {} has cleanup.policy {found}, and must have {}: change it with kafka-configs, or name another topic",
                self.name, self.cleanup
            )
        })
    }
}

/// The topics that touchline reads or writes besides its sources'.
pub(crate) fn wanted(config: &Config) -> Vec<Wanted<'_>> {
    let topics = &config.topics;
    let topic =
        |name, partitions, cleanup, settings| Wanted { name, partitions, cleanup, allowed: Partitions::Any, settings };
    let output = |topic: Topic| topics.output(topic);
    let kept = &[("retention.ms", THIRTY_DAYS_MS), LARGE];
    let latest = &[("max.compaction.lag.ms", ONE_DAY_MS), LARGE];
    // Retention counts from when a record came: by its own time, a bulk import would be eaten at once.
    let log = &[("retention.ms", THIRTY_DAYS_MS), ("message.timestamp.type", "LogAppendTime"), LARGE];
    // Several records a second, of which the newest of each key count: a new ticker reads what has not been compacted.
    let progress =
        &[("message.timestamp.type", "LogAppendTime"), ("segment.ms", "600000"), ("min.cleanable.dirty.ratio", "0.1")];
    vec![
        Wanted {
            allowed: Partitions::Keyed { unused: topics.unused },
            ..topic(&topics.events, topics.partitions, "delete", log)
        },
        Wanted { allowed: Partitions::One, ..topic(&topics.progress, 1, "compact", progress) },
        topic(output(Topic::Alerts), topics.partitions, "delete", kept),
        topic(output(Topic::Scores), topics.partitions, "compact", latest),
        topic(output(Topic::Facts), topics.partitions, "compact", latest),
        topic(output(Topic::DeadLetters), 1, "delete", kept),
    ]
}

/// Makes the topics that are missing and looks at those that are there. Whatever is in the way (no broker answers, one goes
/// away in the middle, making topics is not allowed and somebody else is to do it) is waited for, until `stop` is set. Only
/// topics that are there and cannot be used end the process.
///
/// From here on, until what it returns is dropped, `health` says whether the brokers answer, and so does the log.
pub fn prepare(
    config: &Config,
    client: &ClientConfig,
    health: &Health,
    stop: &Arc<AtomicBool>,
) -> Result<Option<Watch>> {
    let brokers = Brokers::default();
    let told = brokers.clone();
    health.watch("kafka", Box::new(move || told.lock().problem.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reader = Reader::new(client, &format!("{}.topics", config.topics.prefix))?;
    let admin: AdminClient<DefaultClientContext> =
        client.create().map_err(|error| Misconfigured(cluster::unfit(&error)))?;
    brokers.lock().problem = Some("nothing was heard of the brokers yet".to_owned());
    let mut hidden = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match attempt(config, &runtime, &reader, &admin) {
            Ok(None) => {
                brokers.tell(None);
                let topic = config.topics.events.clone();
                let look = move |_: &dyn Fn() -> bool| {
                    brokers.tell(reader.metadata(Some(&topic)).err().map(|error| format!("{error:#}")));
                };
                return Watch::start("brokers", ASK_EVERY, stop.clone(), look).map(Some);
            }
            Ok(Some(there)) => {
                // What somebody else has made just now is seen the next time.
                if !there.is_empty() && there == hidden {
                    let names = there.join(", ");
                    brokers.tell(Some(format!("{names}: there, and not to be seen: allow this user Describe on them")));
                }
                hidden = there;
            }
            Err(error) if error.is::<Misconfigured>() => return Err(error),
            Err(error) => brokers.tell(Some(format!("{error:#}"))),
        }
        thread::sleep(RETRY);
    }
    Ok(None)
}

/// Whether the brokers answer: for `/readyz`, and in the log once at the start, once at the end and seldom in between.
#[derive(Clone, Default)]
struct Brokers(Arc<Mutex<Answer>>);

#[derive(Default)]
struct Answer {
    /// Why nothing can be done.
    problem: Option<String>,
    said_at: Option<Instant>,
}

impl Brokers {
    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, problem: Option<String>) {
        let mut answer = self.lock();
        match &problem {
            Some(problem) if answer.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) => {
                warn!("{problem}. Waiting for it; nothing is lost meanwhile");
                answer.said_at = Some(Instant::now());
            }
            None if answer.said_at.take().is_some() => info!("the brokers answer again"),
            _ => {}
        }
        answer.problem = problem;
    }
}

/// Nothing if all topics are there. Makes those that are not, and is to be asked again: the names are of those that were there
/// already, and are not to be seen.
fn attempt(
    config: &Config,
    runtime: &Runtime,
    reader: &Reader,
    admin: &AdminClient<DefaultClientContext>,
) -> Result<Option<Vec<String>>> {
    let missing = missing(config, &reader.metadata(None)?)?;
    if missing.is_empty() {
        return check(config, runtime, admin).map(|()| None);
    }
    create(runtime, admin, &missing).map(Some)
}

fn missing<'c>(config: &'c Config, metadata: &Metadata) -> Result<Vec<Wanted<'c>>> {
    let found = |name: &str| metadata.topics().iter().find(|topic| topic.name() == name);
    let mut missing = Vec::new();
    for topic in wanted(config) {
        let Some(there) = found(topic.name) else {
            missing.push(topic);
            continue;
        };
        if let Some(error) = there.error() {
            bail!("topic {}: {}", topic.name, RDKafkaErrorCode::from(error));
        }
        if let Some(wrong) = topic.judge_partitions(there.partitions().len()) {
            bail!(Misconfigured(wrong));
        }
    }
    Ok(missing)
}

/// Makes topics; which of them were there already.
fn create(runtime: &Runtime, admin: &AdminClient<DefaultClientContext>, topics: &[Wanted<'_>]) -> Result<Vec<String>> {
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            // -1: as many copies as the cluster keeps of any topic.
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let new =
                NewTopic::new(topic.name, partitions, TopicReplication::Fixed(-1)).set("cleanup.policy", topic.cleanup);
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
    let (mut there, mut denied, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for made in runtime.block_on(admin.create_topics(&new, &options)).context("topics cannot be made")? {
        match made {
            Ok(name) => info!(topic = name, "made"),
            // Another stage was quicker.
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => there.push(name),
            Err((name, RDKafkaErrorCode::TopicAuthorizationFailed)) => denied.push(name),
            Err((name, error)) => refused.push(format!("topic {name} cannot be made: {error}")),
        }
    }
    if !denied.is_empty() {
        let names = denied.join(", ");
        bail!("{names}: this user may neither see nor make them. Allow Describe, and Create unless you make them");
    }
    if refused.is_empty() {
        Ok(there)
    } else {
        bail!("{}. Let touchline make topics, or make them", refused.join("; "))
    }
}

/// A cleanup policy that loses what must be kept is fatal; all else is the operator's to choose.
fn check(config: &Config, runtime: &Runtime, admin: &AdminClient<DefaultClientContext>) -> Result<()> {
    let topics = wanted(config);
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let described = runtime.block_on(admin.describe_configs(&resources, &options));
    let described = match described {
        Ok(described) => described,
        Err(error) => {
            warn!(%error, "the settings of the topics cannot be seen");
            return Ok(());
        }
    };
    let mut unseen = Vec::new();
    for (topic, settings) in topics.iter().zip(described) {
        // A refusal comes as a topic without any.
        let Some(settings) = settings.ok().filter(|settings| !settings.entries.is_empty()) else {
            unseen.push(topic.name);
            continue;
        };
        let policy = settings.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
        if let Some(wrong) = topic.judge_cleanup(&policy) {
            bail!(Misconfigured(wrong));
        }
    }
    if !unseen.is_empty() {
        let names = unseen.join(", ");
        warn!("{names}: whether their settings lose nothing cannot be seen; allow this user DescribeConfigs on them");
    }
    Ok(())
}
