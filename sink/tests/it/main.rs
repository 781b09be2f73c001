//! The sinks, driven as the pipeline drives them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod crash;
mod dispatcher;
mod file;
mod kit;
mod postgres;
