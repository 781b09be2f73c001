//! What becomes of files, through [`kit::check`] where an example says it, else as a property; and of topics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod dead_letters;
mod follow;
mod formats;
mod framing;
mod kafka;
mod kit;
mod resume;
mod rotation;
mod wrong;
