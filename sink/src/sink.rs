//! What a sink is, and what it is given.
//!
//! Invariants that the dispatcher relies on:
//! - What [`Sink::deliver`] has accepted is durable, and so is the batch's cursor: a feed may forget what lies before it.
//! - A batch is accepted as a whole or not at all, as far as [`Sink::cursor`] can tell; delivering it again after a
//!   failure, or after a crash, changes nothing that was stored.

use std::pin::Pin;

use touchline_core::output::Topic;

/// Most changes in a batch: enough to make a transaction or a sync cheap per change, few enough to retry.
pub const BATCH_CHANGES: usize = 4096;
/// Keys and values of a batch, together; only a single change may be larger. Bounds what each sink holds in memory.
pub const BATCH_BYTES: usize = 4 << 20;
/// Longest cursor: sinks keep it in a row, a file's metadata or a header.
pub const CURSOR_BYTES: usize = 2048;

/// Any error, as the cause of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// What an object-safe trait returns instead of `async`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A position in a feed, made and understood by the feed alone; at most [`CURSOR_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    /// The cursor of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Cursor {
        Cursor(bytes.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One published record on its way to a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number in the feed, the same whenever it is read again. Grows along a topic of which every change counts; a
    /// feed that has to repeat itself goes back, and a sink that appends tells by this what it has.
    pub sequence: u64,
    /// Where it was published.
    pub topic: Topic,
    /// Its key, UTF-8.
    pub key: Vec<u8>,
    /// JSON on one line; `None` is a tombstone: what stood under the key is undone.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// What it counts towards [`BATCH_BYTES`].
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Consecutive changes, and where the feed goes on behind them. Without changes it only moves the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In the feed's order; at most [`BATCH_CHANGES`] and, if more than one, [`BATCH_BYTES`].
    pub changes: Vec<Change>,
    /// To be stored together with the changes.
    pub next: Cursor,
}

/// A place that changes go to.
pub trait Sink: Send {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// The `next` of the last batch that it accepted; `None` if it has none and wants the feed from its beginning.
    fn cursor(&mut self) -> BoxFuture<'_, Result<Option<Cursor>, SinkError>>;

    /// Stores the changes and `next` together.
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>>;

    /// Called about once a second while there is nothing to deliver: the time for what was put off.
    fn idle(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    /// Finishes what readers will find. Called once all has been delivered; nothing but another `close` follows it.
    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// A change that the sink will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its index in the batch.
    pub position: usize,
    /// Why, in words for whoever looks through the dead letters.
    pub reason: String,
}

/// Why a sink did not do what was asked; the variant says what can be done about it. In every case nothing of the batch
/// counts as delivered.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may work later; asked again until it does.
    #[error("it may work later")]
    Retry(#[source] BoxError),
    /// These go to the dead letters; the others are delivered again without them.
    #[error("{} changes can never be delivered", .0.len())]
    RejectThese(Vec<Rejected>),
    /// At least one can never be delivered, and it is not known which: found out with smaller batches.
    #[error("a change can never be delivered")]
    RejectSome(#[source] BoxError),
    /// The sink stops where it is; starting again goes on from there.
    #[error("the sink cannot go on")]
    Fatal(#[source] BoxError),
}

impl SinkError {
    /// A fatal error told in a sentence.
    pub fn fatal(sentence: impl Into<String>) -> SinkError {
        SinkError::Fatal(sentence.into().into())
    }
}
