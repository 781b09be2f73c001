//! What could not be taken, with all that a person needs to mend it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use touchline_core::event::RECORD_BYTES;

/// The stage that writes these dead letters.
pub const STAGE: &str = "ingest";
/// How much of the raw bytes a dead letter keeps: what a record may have, and so what a topic takes.
pub const RAW_BYTES: usize = RECORD_BYTES;

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

    /// Its record in `dead_letters`: the bytes as `raw`, or as `raw_base64` where they are not UTF-8, and their true
    /// length as `raw_bytes` where some were left out.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "topic": self.path,
            "line": self.line,
            "offset": self.offset,
            "stage": self.stage,
            "error": self.error,
        });
        let kept = &self.raw[..self.raw.len().min(RAW_BYTES)];
        let is_cut = (kept.len() as u64) < self.raw_bytes;
        match text_of(kept, is_cut) {
            Some(text) => json["raw"] = Value::from(text),
            None => json["raw_base64"] = Value::from(STANDARD.encode(kept)),
        }
        if is_cut {
            json["raw_bytes"] = Value::from(self.raw_bytes);
        }
        json
    }
}

/// The bytes as text; where they were cut, without the part of a character at the end.
fn text_of(bytes: &[u8], is_cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}
