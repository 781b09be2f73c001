//! Ingest on a real Kafka.

mod clock;
mod faults;
mod kit;
mod records;
