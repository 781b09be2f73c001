//! Brings what touchline publishes to where people want it.
//!
//! A [`Feed`] offers a sink the published changes in *lanes*, each in order and from any cursor: the outbox of an embedded
//! processor is one lane, a partition in Kafka is another. The [`Dispatcher`] carries them to each [`Sink`] on a thread of
//! its own, so that no sink waits for another: its own cursors, its own retries, its own lag. A sink stores a batch and the
//! cursor behind it together, which makes delivery effectively once; or it delivers at least once, and the feed remembers
//! how far it has come. How it does so is all that it has to know. There is one file a sink: [`mod@file`], [`postgres`].

mod dispatcher;
mod feed;
pub mod file;
pub mod kafka;
mod metrics;
pub mod postgres;
mod retry;
mod sink;
pub mod webhook;

pub use dispatcher::{Dispatcher, End, LaneProgress, Outcome, Progress, Route};
pub use feed::{Event, Feed, FeedError, Rejection};
pub use metrics::{Metrics, SinkMetrics};
pub use sink::{
    BATCH_BYTES, BATCH_CHANGES, Batch, BoxError, BoxFuture, CURSOR_BYTES, Change, Cursor, Delivered, LANE_BYTES, Lane,
    Rejected, Settled, Sink, SinkError, Start,
};
