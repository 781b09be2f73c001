//! What could not be taken, with all that a person needs to mend it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::event::RECORD_BYTES;

/// How much of the raw bytes a dead letter keeps: what a record may have, and so what a topic takes.
pub const RAW_BYTES: usize = RECORD_BYTES;

/// One input that is no record, or a change that a sink will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The stage that refused it.
    pub stage: &'a str,
    /// The topic or file.
    pub topic: &'a str,
    /// The topic's partition.
    pub partition: Option<i32>,
    /// The file's line on which it starts, from 1.
    pub line: Option<u64>,
    /// Its offset in the partition; in a file, where it starts: bytes from the beginning, after decompression.
    pub offset: u64,
    /// What is wrong and what to do: one sentence.
    pub error: &'a str,
    /// It, or the first [`RAW_BYTES`] of it.
    pub raw: &'a [u8],
    /// How many bytes it has in all.
    pub raw_bytes: u64,
}

impl DeadLetter<'_> {
    /// Its record in `dead_letters`: the bytes as `raw`, or as `raw_base64` where they are not UTF-8, and their true
    /// length as `raw_bytes` where some were left out.
    pub fn to_json(&self) -> Value {
        let mut json = json!({ "topic": self.topic });
        if let Some(partition) = self.partition {
            json["partition"] = Value::from(partition);
        }
        if let Some(line) = self.line {
            json["line"] = Value::from(line);
        }
        json["offset"] = Value::from(self.offset);
        json["stage"] = Value::from(self.stage);
        json["error"] = Value::from(self.error);
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
