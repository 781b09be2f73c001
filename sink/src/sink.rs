//! What a sink is, and what it is given.
//!
//! Changes come in *lanes*: ordered streams with a cursor each, which a feed may take away and give back (a rebalance).
//! There is no order between lanes: a sink ends the same however they interleave.
//!
//! Invariants that the dispatcher relies on:
//! - What [`Sink::deliver`] has [stored](Delivered::Stored) is durable, and so is the batch's cursor: a feed may forget
//!   what lies before it. The same goes for what has [settled](Sink::settled), once the feed remembers it.
//! - A batch is accepted as a whole or not at all, as far as [`Sink::claim`] can tell; delivering it again after a
//!   failure, or after a crash, changes nothing that was stored.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use touchline_core::output::Topic;

/// Most changes in a batch: enough to make a transaction or a sync cheap per change, few enough to retry.
pub const BATCH_CHANGES: usize = 4096;
/// Keys and values of a batch, together; only a single change may be larger. Bounds what each sink holds in memory.
pub const BATCH_BYTES: usize = 4 << 20;
/// Longest cursor: sinks keep it in a row, a file's metadata or a header.
pub const CURSOR_BYTES: usize = 2048;
/// Longest name of a lane: a topic's name has at most 249 bytes.
pub const LANE_BYTES: usize = 300;

/// Any error, as the cause of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// What an object-safe trait returns instead of `async`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The name of a lane, for good: `outbox/<state, hexadecimal>` or `<topic>/<partition>`; at most [`LANE_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(Arc<str>);

impl Lane {
    /// The lane of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Lane {
        Lane(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A position in a lane, made and understood by the feed alone; at most [`CURSOR_BYTES`] long.
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
    /// Its number in the lane, the same whenever it is read again. Grows along a topic of which every change counts; a
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

/// Consecutive changes of a lane, and where it goes on behind them. Without changes it only moves the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the lane's order; at most [`BATCH_CHANGES`] and, if more than one, [`BATCH_BYTES`].
    pub changes: Vec<Change>,
    /// To be stored together with the changes. `None`: more of what was read at once follows, and the cursor stays where
    /// it is until then.
    pub next: Option<Cursor>,
    /// When the oldest of the changes was published, if the feed knows.
    pub published_at: Option<SystemTime>,
}

/// Where to read a lane from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind this cursor, which the sink keeps itself; without one, from the beginning.
    At(Option<Cursor>),
    /// Wherever the feed remembers for this sink.
    Remembered,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is stored, and its cursor with it.
    Stored,
    /// It is on its way; [`Sink::settled`] will tell. Only of lanes that start where the feed [remembers](Start::Remembered).
    Pending,
}

/// News of pending batches of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whose.
    pub lane: Lane,
    /// Changes that will never be delivered, and why. They become dead letters, durable, before `through` is remembered.
    pub rejected: Vec<(Change, String)>,
    /// The `next` of a batch that is settled, as is all before it: every change delivered, or rejected now or before.
    pub through: Option<Cursor>,
}

/// A place that changes go to.
pub trait Sink: Send {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// Takes a lane over, and says where to read it from: behind the `next` of the last batch that the sink stored of it,
    /// if it keeps that. From here on whatever an earlier owner still sends for the lane is refused, where the place can
    /// tell (an epoch). Asked again after every [`SinkError::Lost`], and whenever a lane comes back.
    fn claim<'a>(&'a mut self, lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>>;

    /// How many changes it takes in a batch now, at most; with none it is given no batch until something has settled.
    /// What is remembered of pending changes is remembered by the batch, so that a sink of this kind asks for few.
    fn room(&self) -> usize {
        BATCH_CHANGES
    }

    /// Takes a batch of a lane that is claimed; the batches of a lane come in order. Stores the changes and `next`
    /// together, or sets out to deliver them. Bounds its own waiting: half a minute is long. A batch that has no room
    /// left in it is never waited for here, but in [`Sink::settled`].
    fn deliver<'a>(&'a mut self, lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>>;

    /// The next news of what [`Sink::deliver`] left pending; never, if nothing is. It is polled whenever there is nothing
    /// else to do, and it is here that pending changes make progress. Safe to cancel. [`SinkError::Retry`] says that an
    /// attempt has failed which the sink repeats by itself.
    fn settled(&mut self) -> BoxFuture<'_, Result<Settled, SinkError>> {
        Box::pin(std::future::pending())
    }

    /// The lane is another process's now, or about to be: what is pending of it is dropped at once.
    fn release(&mut self, _lane: &Lane) {}

    /// Called about once a second while there is nothing to deliver: the time for what was put off.
    fn idle(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    /// Finishes what readers will find. Called once all has been delivered and has settled; nothing but another `close`
    /// follows it.
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
    /// Another process has claimed the lane. Unless the feed takes it away now, it is claimed again.
    #[error("another process has taken over {0}")]
    Lost(Lane),
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
