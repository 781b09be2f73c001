//! Where the changes come from: the outbox of an embedded processor, or Kafka.

use crate::sink::{Batch, BoxError, BoxFuture, Change, Cursor, Lane, SinkError, Start};

/// What a feed has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lane is ours until it is revoked. Nothing comes of it before [`Feed::start`].
    Assigned(Lane),
    /// The lane is taken away. Whoever asks for the next event has let go of it.
    Revoked(Lane),
    /// The next changes of a lane.
    Batch(Lane, Batch),
    /// All lanes are at their ends, for now. Said once, until there is more.
    Idle,
    /// There is no more to deliver, after [`Feed::finish`]. Said once; no batch follows.
    End,
}

/// One sink's own view of what is published.
///
/// Lanes are in order, each by itself, and go on from wherever [`Feed::start`] says. Changes from before that may be
/// repeated, in order and ending with the latest of each key; none behind it is left out.
pub trait Feed: Send {
    /// The next event; waits for it. `room` is how many changes a batch may have, at most [`crate::BATCH_CHANGES`] and,
    /// unless the first alone has more, [`crate::BATCH_BYTES`]; with none there is no batch, only news of lanes. A batch
    /// without changes only moves the cursor. Safe to cancel. After [`FeedError::Retry`] the feed goes on by itself: it
    /// is asked again at once.
    fn next(&mut self, room: usize) -> BoxFuture<'_, Result<Event, FeedError>>;

    /// Reads an assigned lane from here on, again if it has been started before. Returns the cursor that it starts from.
    fn start<'a>(&'a mut self, lane: &'a Lane, from: &'a Start) -> BoxFuture<'a, Result<Option<Cursor>, FeedError>>;

    /// The sink needs nothing before `cursor` any more. Remembered soon, at the latest by [`Feed::close`], for
    /// [`Start::Remembered`].
    fn remember(&mut self, lane: &Lane, cursor: &Cursor) -> Result<(), FeedError>;

    /// Makes dead letters, durable when it returns. May be called again with the same rejections, also after a crash, and
    /// must then change nothing: (sink, lane, sequence) names one. Those of a lane that is not ours any more are left to
    /// its owner.
    fn reject<'a>(&'a mut self, rejections: &'a [Rejection<'a>]) -> BoxFuture<'a, Result<(), FeedError>>;

    /// How many records of the lane lie behind `cursor`, about, as far as that is known.
    fn lag(&self, lane: &Lane, cursor: Option<&Cursor>) -> Option<u64>;

    /// Records that were lost to the sink before this process could read them (retention), since it started.
    fn missed(&self) -> u64 {
        0
    }

    /// Whether something that it is to read is not there, though it delivers the rest: what it said of that still holds.
    fn is_waiting(&self) -> bool {
        false
    }

    /// From here on only what the sink must have before it may stop: what an embedded processor has published, all of it;
    /// of Kafka, which waits, nothing more.
    fn finish(&mut self);

    /// Makes durable what has been remembered, and leaves. Nothing but another `close` follows it.
    fn close(&mut self) -> BoxFuture<'_, Result<(), FeedError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A change that a sink will never take.
#[derive(Clone, Copy, Debug)]
pub struct Rejection<'a> {
    /// The sink's name.
    pub sink: &'a str,
    /// Where the change was read.
    pub lane: &'a Lane,
    /// The change, as it was read.
    pub change: &'a Change,
    /// Why.
    pub reason: &'a str,
}

/// Why a feed could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It may work later.
    #[error("what was published cannot be read now")]
    Retry(#[source] BoxError),
    /// It will not work.
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
