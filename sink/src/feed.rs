//! Where the changes come from: the outbox of an embedded processor, or Kafka.

use tokio::sync::watch;
use touchline_core::output::Topic;

use crate::sink::{Batch, BoxError, Change, Cursor, SinkError};

/// Published changes in order, readable by any number of sinks, each from its own cursor.
///
/// Reading may block for as long as a disk takes: every sink calls it on its own thread. Whoever waits for news does so
/// with [`Feed::news`].
pub trait Feed: Send + Sync {
    /// The changes of `topics` behind `cursor`, or from the beginning, in order; `None` if there are none now.
    ///
    /// At most `limit` changes, which is at least one and at most [`crate::BATCH_CHANGES`], and not more than
    /// [`crate::BATCH_BYTES`] unless the first alone is. A batch without changes only moves the cursor, past changes of
    /// other topics. Changes from before the cursor may be repeated, in order and ending with the latest of each key;
    /// none behind it is left out. If that cannot be kept, it is [`FeedError::Fatal`].
    fn read(&self, cursor: Option<&Cursor>, topics: &[Topic], limit: usize) -> Result<Option<Batch>, FeedError>;

    /// Changes whenever there may be more to read. It is marked as seen before reading, so that no news is missed.
    fn news(&self) -> watch::Receiver<u64>;

    /// Makes dead letters, durable when it returns. May be called again with the same rejections after a crash, and
    /// must then change nothing: (sink, sequence) names one.
    fn reject(&self, rejections: &[Rejection<'_>]) -> Result<(), FeedError>;
}

/// A change that a sink will never take.
#[derive(Clone, Copy, Debug)]
pub struct Rejection<'a> {
    /// The sink's name.
    pub sink: &'a str,
    /// The change, as it was read.
    pub change: &'a Change,
    /// Why.
    pub reason: &'a str,
}

/// Why a feed could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It may work later.
    #[error("what was published cannot be read now")]
    Retry(#[source] BoxError),
    /// It will not work from this cursor.
    #[error("what was published cannot be read")]
    Fatal(#[source] BoxError),
}

impl From<FeedError> for SinkError {
    fn from(error: FeedError) -> SinkError {
        match error {
            FeedError::Retry(_) => SinkError::Retry(error.into()),
            FeedError::Fatal(_) => SinkError::Fatal(error.into()),
        }
    }
}
