//! A dead letter as it stands in its topic, whichever stage has written it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Message};
use serde::Deserialize;

use super::Origin;

/// What a sink's stage begins with; its name follows.
const SINK: &str = "sink ";

/// See `touchline_core::dead_letter`, and `key`, which sinks add.
#[derive(Deserialize)]
struct Shape {
    topic: String,
    partition: Option<i32>,
    offset: u64,
    stage: String,
    error: String,
    key: Option<String>,
    raw: Option<String>,
    raw_base64: Option<String>,
    raw_bytes: Option<u64>,
}

/// One dead letter.
pub(super) struct Letter {
    /// When it was written.
    pub at: Option<Timestamp>,
    pub stage: String,
    pub topic: String,
    pub partition: Option<i32>,
    pub offset: u64,
    pub error: String,
    /// The record's key, where the stage has kept it.
    pub key: Option<Vec<u8>>,
    /// What there is of its bytes.
    pub raw: Vec<u8>,
    /// How many it had, where some are missing.
    pub raw_bytes: Option<u64>,
}

impl Letter {
    /// Reads one; `None` if it is something else.
    pub fn read(message: &BorrowedMessage<'_>) -> Option<Letter> {
        let at = message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        Letter::parse(message.payload()?, at)
    }

    fn parse(value: &[u8], at: Option<Timestamp>) -> Option<Letter> {
        let Shape { topic, partition, offset, stage, error, key, raw, raw_base64, raw_bytes } =
            serde_json::from_slice(value).ok()?;
        let raw = match (raw, raw_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(bytes)) => STANDARD.decode(bytes).ok()?,
            (None, None) => return None,
        };
        let raw_bytes = raw_bytes.filter(|all| *all > raw.len() as u64);
        Some(Letter { at, stage, topic, partition, offset, error, key: key.map(String::into_bytes), raw, raw_bytes })
    }

    /// Whose it is, if a sink's.
    pub fn sink(&self) -> Option<&str> {
        self.stage.strip_prefix(SINK)
    }

    pub fn is_from(&self, origin: &Origin) -> bool {
        (&*self.topic, self.partition, self.offset) == (&*origin.topic, Some(origin.partition), origin.offset)
    }

    /// Where it came from, as `--from` takes it.
    pub fn origin(&self) -> String {
        match self.partition {
            Some(partition) => format!("{}/{partition}/{}", self.topic, self.offset),
            None => format!("{}:{}", self.topic, self.offset),
        }
    }

    /// What it says to people when it is not whole.
    pub fn cut(&self) -> Option<String> {
        let all = self.raw_bytes?;
        Some(format!("only {} of its {all} bytes were kept", self.raw.len()))
    }
}

#[cfg(test)]
mod tests {
    use touchline_core::dead_letter::DeadLetter;

    use super::*;

    #[test]
    fn letters_come_back_as_they_were_written() {
        let check = |raw: &[u8], raw_bytes: u64, cut: Option<&str>| {
            let written = DeadLetter {
                stage: "sink lake",
                topic: "a.b",
                partition: Some(3),
                line: None,
                offset: 7,
                error: "odd",
                raw,
                raw_bytes,
            };
            let letter = Letter::parse(written.to_json().to_string().as_bytes(), None).unwrap();
            assert_eq!((letter.sink(), letter.error.as_str()), (Some("lake"), "odd"));
            assert!(letter.is_from(&letter.origin().parse().unwrap()));
            assert_eq!((letter.raw.as_slice(), letter.cut().as_deref()), (raw, cut));
        };
        check(b"{}", 2, None);
        check(b"\xff", 1, None);
        check(b"\xff", 9, Some("only 1 of its 9 bytes were kept"));
    }

    #[test]
    fn what_is_no_letter_is_none() {
        for value in ["", "[]", "{}", r#"{"topic":"t","offset":1,"stage":"ingest","error":"no"}"#] {
            assert!(Letter::parse(value.as_bytes(), None).is_none(), "{value}");
        }
    }
}
