//! touchline notices when nobody has engaged a contact for three months, and says so.
//!
//! This crate puts the stages together: [`pipeline`] is the whole corridor at a glance, [`cli`] what people type,
//! [`config`] what they configure. What happens inside of a stage is in the crate of that name.

pub mod check;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dead_letters;
pub mod erasure;
pub mod generate;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod owners;
pub mod pipeline;
pub mod process;
pub mod replay;
pub mod report;
pub mod signals;
pub mod sinks;
pub mod stages;
pub mod state;
pub mod telemetry;
pub mod watch;

/// For RocksDB, too, where the platform lets it: with both on one heap, what one gives back the other can use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
