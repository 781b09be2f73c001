//! The consumer: each method is one thing that the feed asks of librdkafka.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use tokio::task;
use tracing::debug;

use super::config::{KafkaFeedConfig, KafkaFeedError};
use super::context::{Context, lane_of};
use super::partition::{Committed, Partition};
use crate::sink::Lane;

/// For a question to the cluster. The sink waits meanwhile, and asks again.
const WITHIN: Duration = Duration::from_secs(5);

/// What delivery depends on.
const FIXED: [(&str, &str); 8] = [
    ("isolation.level", "read_committed"),
    // What is delivered is remembered, and nothing else.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Where a sink has no offset is decided here, and told.
    ("auto.offset.reset", "error"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.partition.eof", "false"),
    ("allow.auto.create.topics", "false"),
    ("statistics.interval.ms", "1000"),
];

/// What people may set otherwise.
const DEFAULTS: [(&str, &str); 8] = [
    // A process that is gone without a word is missed after this long; one that comes back sooner was never away.
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1500"),
    // By default a partition whose queue was full is not fetched for a second.
    ("fetch.queue.backoff.ms", "10"),
    // Memory: the queue of all partitions, and one answer of a broker.
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.max.bytes", "4194304"),
    // Topics that appear, or are made anew, are seen within this time instead of five minutes.
    ("topic.metadata.refresh.interval.ms", "5000"),
    ("topic.metadata.propagation.max.ms", "1000"),
    // A broker that is back is found within this time.
    ("reconnect.backoff.max.ms", "2000"),
];

/// What a poll has brought.
pub enum Polled<'a> {
    Record(BorrowedMessage<'a>),
    /// A partition is read from where nothing is.
    Astray,
    /// A topic is not there.
    Missing,
    /// The client is of no more use.
    Fatal(KafkaError),
    /// Nothing now; the context is told when there is something.
    Nothing,
}

/// A member of the group.
pub struct Client {
    consumer: Arc<BaseConsumer<Context>>,
    is_committing: bool,
}

impl Client {
    /// Joins the group.
    pub fn new(config: &KafkaFeedConfig) -> Result<Client, KafkaFeedError> {
        let wrong = |source| KafkaFeedError::Config { group: config.group.clone(), source };
        let mut client = config.client.clone();
        for (key, value) in DEFAULTS {
            if client.get(key).is_none() {
                client.set(key, value);
            }
        }
        for (key, value) in FIXED {
            client.set(key, value);
        }
        client.set("group.id", &config.group).set("group.instance.id", &config.instance);
        let context = Context::default();
        let wake = context.wake.clone();
        let mut consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(wrong)?;
        consumer.set_nonempty_callback(move || wake.notify_one());
        let topics: Vec<&str> = config.topics.iter().map(|(_, name)| name.as_str()).collect();
        consumer.subscribe(&topics).map_err(wrong)?;
        Ok(Client { consumer: Arc::new(consumer), is_committing: false })
    }

    pub fn context(&self) -> &Arc<Context> {
        self.consumer.context()
    }

    /// What there is now, without waiting for it.
    pub fn poll(&self) -> Polled<'_> {
        loop {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => return Polled::Record(message),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Polled::Fatal(error),
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => return Polled::Astray,
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ))) => return Polled::Missing,
                // The context has been told the same, and more of it.
                Some(Err(error)) => debug!(%error, "the Kafka client"),
                None if self.context().take_served() => {}
                None => return Polled::Nothing,
            }
        }
    }

    /// How the commit under way has ended, once.
    pub fn committed(&mut self) -> Option<KafkaResult<()>> {
        let result = self.context().take_commit();
        self.is_committing &= result.is_none();
        result
    }

    pub fn is_committing(&self) -> bool {
        self.is_committing
    }

    /// Acknowledges an assignment, without reading any of it.
    pub fn assigned(&self) -> Result<(), KafkaFeedError> {
        let nothing = TopicPartitionList::new();
        self.consumer.incremental_assign(&nothing).map_err(|error| failed("take partitions over", error))
    }

    /// Reads a partition from `offset`.
    pub fn read(&self, partition: &Partition, offset: i64) -> Result<(), KafkaFeedError> {
        let doing = |error| failed(&format!("read {}", lane_of(&partition.name, partition.number)), error);
        if partition.is_started {
            self.consumer.incremental_unassign(&list([partition])).map_err(doing)?;
        }
        let mut from = TopicPartitionList::new();
        let place = from.add_partition_offset(&partition.name, partition.number, Offset::Offset(offset));
        place.and_then(|()| self.consumer.incremental_assign(&from)).map_err(doing)
    }

    /// Commits what is remembered of the partitions, and gives them back.
    pub fn give_back<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition> + Clone,
    ) -> Result<(), KafkaFeedError> {
        let is_dirty = |partition: &&Partition| partition.is_dirty && partition.committed.is_some();
        if !self.consumer.assignment_lost() && partitions.clone().into_iter().any(|partition| is_dirty(&partition)) {
            // It is sent before the group is joined again; whether it arrives, the next owner finds out.
            let offsets = remembered(partitions.clone().into_iter().filter(is_dirty))?;
            let committed = self.consumer.commit(&offsets, CommitMode::Async);
            committed.unwrap_or_else(|error| debug!(%error, "leaving partitions"));
        }
        let started = list(partitions.into_iter().filter(|partition| partition.is_started));
        self.consumer.incremental_unassign(&started).map_err(|error| failed("give partitions back", error))
    }

    pub fn pause<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> Result<(), KafkaFeedError> {
        let started = list(partitions.into_iter().filter(|partition| partition.is_started));
        self.consumer.pause(&started).map_err(|error| failed("pause", error))
    }

    pub fn resume<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> Result<(), KafkaFeedError> {
        let started = list(partitions.into_iter().filter(|partition| partition.is_started));
        self.consumer.resume(&started).map_err(|error| failed("go on after a pause", error))
    }

    /// Whether there is a topic of this name.
    pub fn exists(&self, topic: &str) -> Result<bool, KafkaFeedError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), WITHIN);
        let metadata = metadata.map_err(|error| failed(&format!("ask for the topic {topic}"), error))?;
        Ok(metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none()))
    }

    /// The first offset that is left, and the one behind the last that is committed.
    pub fn bounds(&self, partition: &Partition) -> Result<(i64, i64), KafkaFeedError> {
        let bounds = self.consumer.fetch_watermarks(&partition.name, partition.number, WITHIN);
        bounds
            .map_err(|error| failed(&format!("find the ends of {}", lane_of(&partition.name, partition.number)), error))
    }

    /// Sets out to commit what is remembered of the partitions, one commit at a time. librdkafka tells the outcome only to
    /// who waits for it, which is done elsewhere.
    pub fn commit<'a>(&mut self, partitions: impl IntoIterator<Item = &'a Partition>) -> Result<(), KafkaFeedError> {
        let (offsets, consumer) = (remembered(partitions)?, self.consumer.clone());
        self.is_committing = true;
        task::spawn_blocking(move || {
            let result = consumer.commit(&offsets, CommitMode::Sync);
            consumer.context().committed(result);
        });
        Ok(())
    }

    /// What to commit together with letters that make these offsets the rejected ones, and as whom.
    pub fn letters_commit<'a>(
        &self,
        partitions: impl IntoIterator<Item = (&'a Partition, &'a BTreeSet<i64>)>,
    ) -> Result<(TopicPartitionList, ConsumerGroupMetadata), KafkaFeedError> {
        let offsets = offsets(partitions.into_iter().map(|(partition, rejected)| (partition, Some(rejected))))?;
        let group = self.consumer.group_metadata();
        Ok((offsets, group.ok_or_else(|| KafkaFeedError::Client("the group is not joined".to_owned()))?))
    }

    /// What the group has committed for the partitions.
    pub fn read_committed<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition>,
    ) -> Result<Vec<(Lane, Committed)>, KafkaFeedError> {
        let asked = list(partitions);
        if asked.count() == 0 {
            return Ok(Vec::new());
        }
        let doing = |error| failed("read the committed offsets", error);
        let found = self.consumer.committed_offsets(asked, WITHIN).map_err(doing)?;
        let elements = found.elements();
        let committed = elements.iter().map(|element| {
            element.error().map_err(doing)?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok((lane_of(element.topic(), element.partition()), Committed::new(offset, element.metadata())))
        });
        committed.collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.context().close();
        // Whatever the group waits for from us, it has it.
        for left in [
            self.assigned(),
            self.consumer
                .assignment()
                .map_err(|error| failed("leave", error))
                .and_then(|all| self.consumer.incremental_unassign(&all).map_err(|error| failed("leave", error))),
        ] {
            left.unwrap_or_else(|error| debug!(%error, "leaving the group"));
        }
    }
}

fn list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.name, partition.number);
    }
    list
}

fn remembered<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Result<TopicPartitionList, KafkaFeedError> {
    let rejected = |partition: &'a Partition| partition.committed.as_ref().map(|committed| &committed.rejected);
    offsets(partitions.into_iter().map(|partition| (partition, rejected(partition))))
}

fn offsets<'a>(
    partitions: impl IntoIterator<Item = (&'a Partition, Option<&'a BTreeSet<i64>>)>,
) -> Result<TopicPartitionList, KafkaFeedError> {
    let mut list = TopicPartitionList::new();
    for (partition, rejected) in partitions {
        let needed = partition.needed();
        let mut place = list.add_partition(&partition.name, partition.number);
        place.set_offset(Offset::Offset(needed)).map_err(|error| failed("commit an offset", error))?;
        let metadata = rejected.map(Committed::metadata).unwrap_or_default();
        if !metadata.is_empty() {
            place.set_metadata(metadata);
        }
    }
    Ok(list)
}

fn failed(action: &str, source: KafkaError) -> KafkaFeedError {
    KafkaFeedError::Cluster { action: action.to_owned(), source }
}
