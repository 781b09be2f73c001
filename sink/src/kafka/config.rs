//! What a Kafka feed is made of, and why it cannot do what it is asked.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use touchline_core::output::Topic;

use crate::feed::FeedError;
use crate::sink::Lane;

/// What a Kafka feed is made of.
#[derive(Clone, Debug)]
pub struct KafkaFeedConfig {
    /// How to reach the cluster, and whatever people want to set; what delivery depends on is set here.
    pub client: ClientConfig,
    /// The consumer group: one for each sink, `<prefix>.sink.<name>`.
    pub group: String,
    /// Names this process within the group, for good: a restart takes its partitions back at once.
    pub instance: String,
    /// What to read, and the topics' names on the cluster.
    pub topics: Vec<(Topic, String)>,
    /// The topic of dead letters.
    pub dead_letters: String,
}

/// Why the feed cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum KafkaFeedError {
    /// The client could not be made.
    #[error("the Kafka client of {group} cannot be made: correct [kafka]")]
    Config {
        /// Of which group.
        group: String,
        /// What is wrong.
        source: KafkaError,
    },
    /// The cluster does not do it now.
    #[error("cannot {action}")]
    Cluster {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: KafkaError,
    },
    /// The cluster does not let the group be joined.
    #[error("this user may not read as the group {0}: allow it Read on that group")]
    Denied(String),
    /// A topic does not exist.
    #[error("there is no topic {0}: it is waited for. Whoever publishes it makes it; otherwise look at [topics]")]
    Missing(String),
    /// The client says so by itself.
    #[error("{0}")]
    Client(String),
    /// The sink's cursor is not an offset.
    #[error("the sink's cursor of {0} is not of Kafka: let the sink start anew, with nothing stored")]
    Cursor(Lane),
}

/// It may work later.
pub(super) fn retry(error: KafkaFeedError) -> FeedError {
    FeedError::Retry(error.into())
}

/// It will not.
pub(super) fn fatal(error: KafkaFeedError) -> FeedError {
    FeedError::Fatal(error.into())
}

/// The client is being made again; its lanes are told of next.
pub(super) fn gone() -> FeedError {
    retry(KafkaFeedError::Client("the Kafka client is being made again".to_owned()))
}
