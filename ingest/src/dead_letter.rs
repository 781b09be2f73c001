//! What could not be taken, with all that a person needs to mend it.

use serde_json::Value;
use touchline_core::dead_letter;
pub use touchline_core::dead_letter::RAW_BYTES;

/// The stage that writes these dead letters.
pub const STAGE: &str = "ingest";

/// One input that is no record, or a part of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The stage that refused it.
    pub stage: &'static str,
    /// The file.
    pub path: String,
    /// The line on which it starts, from 1.
    pub line: u64,
    /// Where it starts: bytes from the beginning, after decompression.
    pub offset: u64,
    /// What is wrong and what to do: one sentence.
    pub error: String,
    /// The first [`RAW_BYTES`] of it.
    pub raw: Vec<u8>,
    /// How many bytes it has in all.
    pub raw_bytes: u64,
}

impl DeadLetter {
    /// What names it: the same input gives the same key in every run.
    pub fn key(&self) -> String {
        format!("{}:{}", self.path, self.offset)
    }

    /// Its record in `dead_letters`.
    pub fn to_json(&self) -> Value {
        let letter = dead_letter::DeadLetter {
            stage: self.stage,
            topic: &self.path,
            partition: None,
            line: Some(self.line),
            offset: self.offset,
            error: &self.error,
            raw: &self.raw,
            raw_bytes: self.raw_bytes,
        };
        letter.to_json()
    }
}
