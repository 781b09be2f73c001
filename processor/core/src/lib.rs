//! The pure model of touchline: what happened between a company and its contacts, and when silence is a lapse.
//!
//! A [`step::Machine`] takes the [`record::Record`]s of a log in order (events, ticks, rules), keeps what it knows in a
//! [`state::State`], and publishes alerts, scores and facts into [`output::Outputs`]. The result is a function of the log and
//! of nothing else: no clock, no I/O, no randomness, no iteration in hash order.

pub mod account;
pub mod codec;
pub mod contact;
pub mod coverage;
pub mod dead_letter;
pub mod decay;
mod entry;
pub mod erasure;
pub mod event;
pub mod field;
pub mod keys;
pub mod lapse;
mod moment;
pub mod notice;
pub mod output;
pub mod profile;
mod publish;
pub mod record;
pub mod rules;
pub mod spans;
pub mod state;
pub mod step;
mod tail;
mod timeline;
mod words;
