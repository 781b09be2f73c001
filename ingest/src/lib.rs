//! Input: bytes from files, pipes and (in time) topics become records of the log, or dead letters that say why not.
//!
//! What a record becomes is a pure function of its bytes, its arrival and the configuration ([`formats`], [`identity`]);
//! everything around that only finds the bytes and remembers how far it has read. Nothing is dropped silently: every
//! line is a record, a dead letter, an event of our own people that is counted, or blank.
//!
//! In reading order: [`files`] goes through the files of a command, [`input`] through one of them, [`lines`] cuts it into
//! records, [`formats`] decode them, [`identity`] says whose they are.

pub mod counts;
pub mod dead_letter;
pub mod files;
pub mod formats;
pub mod identity;
pub mod input;
pub mod kafka;
pub mod lines;
pub mod position;

mod metrics;
mod open;

pub use counts::Counts;
pub use dead_letter::DeadLetter;
pub use files::{Ends, Files, Item, Options};
pub use formats::Format;
pub use formats::canonical::{Decoder, Zones};
pub use identity::Identity;
pub use input::InputError;
pub use position::FilesPosition;
