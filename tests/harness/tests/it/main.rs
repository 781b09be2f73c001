//! What other tests rely on: what the servers do when they are killed, and that none is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod kafka;
mod left_behind;
mod postgres;
