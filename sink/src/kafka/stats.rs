//! The few of librdkafka's statistics that the feed looks at.

use std::collections::HashMap;

use serde::Deserialize;

/// One emission.
#[derive(Debug, Deserialize)]
pub struct Stats {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<String, Ends>,
}

/// Where a partition is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Ends {
    /// What is fetched next: all before it is in the consumer's queue, or is nothing that readers see.
    pub next_offset: i64,
    /// The last stable offset; negative while unknown.
    pub ls_offset: i64,
    /// The broker that it is fetched from; negative while there is none.
    broker: i32,
    fetch_state: FetchState,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum FetchState {
    Active,
    #[serde(other)]
    Other,
}

impl Ends {
    /// Whether it is being fetched, and it is known how far it goes.
    pub fn is_fetched(&self) -> bool {
        self.fetch_state == FetchState::Active && self.broker >= 0 && self.ls_offset >= 0
    }
}

impl Stats {
    /// Whether any broker of the cluster answers.
    pub fn is_connected(&self) -> bool {
        self.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP")
    }

    /// Those of a partition.
    pub fn ends(&self, topic: &str, partition: i32) -> Option<Ends> {
        self.topics.get(topic)?.partitions.get(&partition.to_string()).copied()
    }
}
