//! The command as people type it: files in, files and exit codes out.
//!
//! Everything goes through the binary. A test is a few files, a few command lines and what must come of them; each module
//! has one `check` for that. What is random has a seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test kit")]

mod as_of;
mod check;
mod commands;
mod community;
mod corridor;
mod crash;
mod dead_letters;
mod discreet;
mod documented;
mod erasure;
mod faults;
mod follow;
mod generated;
mod group;
mod harness;
mod http;
mod kafka;
mod log;
mod operations;
mod oracle;
mod outputs;
mod receiver;
mod refused;
mod rights;
mod rotation;
mod rules;
mod secured;
mod signals;
mod sinks;
mod state;
mod truth;
mod wrong;
