//! Kafka, as a worker meets it. [`client`](super::client) does it with librdkafka; the tests do it without Kafka, time or
//! chance ([`simulation`](super::simulation)).

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};

use super::error::ProcessError;
use super::open::{Opened, Wanted};
use super::transaction::{Failure, Offsets};
use crate::outputs::OutputBatch;

/// The brokers, as far as one process is concerned.
pub(super) trait Cluster: Send + Sync + 'static {
    type Member: Member;
    type Producer: Transactional<Self::Member>;
    type Opener: Opening;

    /// Fails if a property is wrong.
    fn member(&self, worker: usize) -> Result<Self::Member, KafkaError>;

    /// Fails if a property is wrong. Another of the same worker can do nothing more once this one is let in.
    fn producer(&self, worker: usize) -> Result<Self::Producer, KafkaError>;

    fn opener(&self, member: &Arc<Self::Member>, worker: usize) -> Result<Self::Opener, ProcessError>;
}

/// A member of the group, which reads the log of events.
pub(super) trait Member: Send + Sync + 'static {
    type Message<'m>: Message
    where
        Self: 'm;

    /// Joins the group.
    fn subscribe(&self) -> Result<(), KafkaError>;

    /// The next message of the partitions that are assigned and not paused. What the group does happens in here, and is then
    /// told by [`Member::rebalance`].
    fn poll(&self, within: Duration) -> Option<Result<Self::Message<'_>, KafkaError>>;

    fn detach(message: &Self::Message<'_>) -> OwnedMessage;

    /// What the group has done, oldest first.
    fn rebalance(&self) -> Option<Rebalance>;

    fn has_rebalance(&self) -> bool;

    /// Takes partitions over, paused.
    fn assign(&self, partitions: &[i32]) -> Result<(), KafkaError>;

    /// Gives partitions back: others may have them from here on.
    fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError>;

    /// What is there of a partition is read from `offset`, whether it was paused or not.
    fn seek(&self, partition: i32, offset: i64) -> Result<(), KafkaError>;

    fn pause(&self, partition: i32) -> Result<(), KafkaError>;

    fn resume(&self, partition: i32) -> Result<(), KafkaError>;

    /// The offset behind all that was polled or passed over, of each partition of which it is known.
    fn positions(&self) -> Result<Vec<(i32, i64)>, KafkaError>;

    /// What the group has committed for these partitions, and what stands beside it. What an open transaction would change
    /// is waited for, or an error.
    fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, Option<CommittedOffset>)>, KafkaError>;

    /// The first offset that is still there, and the one that the next record gets.
    fn bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError>;

    /// From here on partitions are given back at once: the worker has let go of them.
    fn close(&self);
}

/// An offset, and its metadata.
pub(super) type CommittedOffset = (i64, String);

/// A producer of transactions.
pub(super) trait Transactional<M> {
    /// Settles what a predecessor of the same name has left open, and shuts it out.
    fn enter(&self) -> Result<(), KafkaError>;

    /// Publishes what partitions of the log have come to, and commits offsets: all or nothing. What comes of one partition
    /// goes to one partition of each topic, in order.
    fn commit<'a>(
        &self,
        batches: impl Iterator<Item = (i32, &'a OutputBatch)>,
        offsets: &Offsets,
        member: &M,
    ) -> Result<(), Failure>;
}

/// Opens partitions, beside the worker.
pub(super) trait Opening {
    fn want(&self, wanted: Wanted);

    fn opened(&self) -> Option<Opened>;
}

/// A change of what a worker owns.
#[derive(Clone, Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<i32>),
    Revoked {
        partitions: Vec<i32>,
        /// They are another's already.
        lost: bool,
    },
}
