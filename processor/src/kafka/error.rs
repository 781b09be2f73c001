//! Why the processor cannot go on.

use std::path::PathBuf;

use rdkafka::error::KafkaError;
use touchline_core::codec::Corrupt;
use touchline_core::step::StepError;

use super::position::ForeignOffset;
use crate::{SnapshotError, StoreError};

/// Fatal to the process: going on without a look at the cause could only do harm. A broker that is away is not among
/// these.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The clients cannot be made: a property is wrong.
    #[error("the Kafka client cannot be set up: look at [kafka] in the configuration")]
    Client(#[source] KafkaError),
    /// Kafka says something that waiting does not change.
    #[error("Kafka refuses to go on")]
    Refused(#[source] KafkaError),
    /// Kafka does not allow what the processor does.
    #[error("the brokers refuse to go on: this user needs {needs}")]
    Denied {
        /// The rights, and what on.
        needs: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state machine could not go on.
    #[error("partition {partition} cannot go on")]
    Step {
        /// Which.
        partition: i32,
        /// Why.
        source: StepError<StoreError>,
    },
    /// Another process uses the state directory.
    #[error(
        "another process works as {stage} in the state directory {path}: stop that one, or give this one a [state] dir of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What that process does.
        stage: String,
    },
    /// The state directory does not work.
    #[error("the state directory {path} cannot be used")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state is of another topic, or of another number of partitions.
    #[error(
        "the state in {path} was made from {was}, and this is {is}: use that topic again, or another state directory, \
         which is then made from the log's beginning"
    )]
    OtherLog {
        /// The state.
        path: PathBuf,
        /// What it was made from.
        was: String,
        /// What it is asked to go on with.
        is: String,
    },
    /// The position in the state does not read.
    #[error("the position in the state {path} does not read")]
    Position {
        /// The state.
        path: PathBuf,
        /// What it should have been.
        source: Corrupt,
    },
    /// The state knows more than the log.
    #[error(
        "partition {partition}: the state in {path} stands at offset {state}, and the group has committed {committed}: its \
         offsets were set back, or the topic was made again. Set them as they were, or move the state directory away to make \
         the state again"
    )]
    Ahead {
        /// The partition.
        partition: i32,
        /// The state.
        path: PathBuf,
        /// Where the state stands.
        state: i64,
        /// Where the group stands.
        committed: String,
    },
    /// The log has lost what is needed.
    #[error(
        "partition {partition}: {what}, and the log now begins at offset {begin}: what lies between is gone. Restore a \
         snapshot that reaches offset {begin}; or, to make the state again from what is left of the log, start once with \
         `touchline process --from-log-start`"
    )]
    Gap {
        /// The partition.
        partition: i32,
        /// What there is.
        what: String,
        /// The first offset of the log.
        begin: i64,
    },
    /// The log has lost, while it was read, what comes next.
    #[error(
        "the broker has removed from {topic} what a state goes on with: its retention is shorter than the processor is behind, \
         or somebody has deleted records. Raise the topic's retention.ms. Then start again: the state goes on from a snapshot \
         that reaches what is left of the log, or the start says which partition has none"
    )]
    Truncated {
        /// The topic.
        topic: String,
        /// What the broker says.
        source: KafkaError,
    },
    /// Another version wrote the committed offset.
    #[error("partition {partition} cannot be taken over")]
    Foreign {
        /// The partition.
        partition: i32,
        /// Why.
        source: ForeignOffset,
    },
    /// The state cannot be brought back from its copy.
    #[error("partition {partition} cannot be restored")]
    Restore {
        /// The partition.
        partition: i32,
        /// Why.
        source: SnapshotError,
    },
    /// Copies cannot be made.
    #[error("snapshots cannot be made")]
    Snapshots(#[source] SnapshotError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}
