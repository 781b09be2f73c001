//! The sinks, driven as the pipeline drives them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod crash;
mod dispatcher;
mod file;
mod kafka;
mod kit;
mod postgres;
mod webhook;
