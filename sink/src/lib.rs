//! Brings what touchline publishes to where people want it.
//!
//! A [`Feed`] offers the published changes in order, from any cursor. The [`Dispatcher`] carries them to each [`Sink`] on
//! a thread of its own, so that no sink waits for another: its own cursor, its own retries, its own lag. A sink stores a
//! batch and the cursor behind it together, which makes delivery effectively once; how it does so is all that it has to
//! know. There is one file a sink: [`mod@file`].

mod dispatcher;
mod feed;
pub mod file;
mod retry;
mod sink;
pub mod webhook;

pub use dispatcher::{Dispatcher, End, Outcome, Progress, Route};
pub use feed::{Feed, FeedError, Rejection};
pub use sink::{
    BATCH_BYTES, BATCH_CHANGES, Batch, BoxError, BoxFuture, CURSOR_BYTES, Change, Cursor, Delivered, LANE_BYTES, Lane,
    Rejected, Settled, Sink, SinkError, Start,
};
