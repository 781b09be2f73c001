//! Dead letters of records that came from Kafka.
//!
//! Key `TOPIC/PARTITION/OFFSET/N`, where N counts what one record holds, from 0. Headers `topic`, `partition`, `offset`,
//! `stage` and `error`, so that tools need not look inside. The value is [`DeadLetter::to_json`].

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::Value;
use touchline_core::dead_letter::DeadLetter;

use crate::dead_letter::STAGE;

/// One record, or a part of one, that is no event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Which of the record's events, from 0.
    pub(super) n: usize,
    /// What is wrong and what to do: one sentence.
    pub(super) error: &'a str,
    pub(super) raw: &'a [u8],
}

impl Letter<'_> {
    /// What names it: the same record gives the same key in every run.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}/{}", self.topic, self.partition, self.offset, self.n)
    }

    /// Its headers, behind those of the record that are kept.
    pub(super) fn headers(&self, kept: OwnedHeaders) -> OwnedHeaders {
        let (partition, offset) = (self.partition.to_string(), self.offset.to_string());
        let ours = [
            ("topic", self.topic),
            ("partition", &partition),
            ("offset", &offset),
            ("stage", STAGE),
            ("error", self.error),
        ];
        ours.into_iter().fold(kept, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
    }

    /// Its value.
    pub(super) fn value(&self) -> Vec<u8> {
        let letter = DeadLetter {
            stage: STAGE,
            topic: self.topic,
            partition: Some(self.partition),
            line: None,
            offset: self.offset.unsigned_abs(),
            error: self.error,
            raw: self.raw,
            raw_bytes: self.raw.len() as u64,
        };
        letter.to_json().to_string().into_bytes()
    }

    /// A letter's value with no more than so many of the raw bytes; `None` if it has no more, or is no letter.
    pub(super) fn shorten(value: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
        let mut json: Value = serde_json::from_slice(value).ok()?;
        let (member, text) = ["raw", "raw_base64"].into_iter().find_map(|name| Some((name, json[name].as_str()?)))?;
        let (bytes, end) = if member == "raw" {
            (text.len(), (0..=raw_bytes).rev().find(|end| text.is_char_boundary(*end))?)
        } else {
            // Four characters are three bytes.
            (text.trim_end_matches('=').len() * 3 / 4, raw_bytes / 3 * 4)
        };
        let cut = Value::from(text.get(..end).filter(|cut| cut.len() < text.len() && bytes > raw_bytes)?);
        if json["raw_bytes"].is_null() {
            json["raw_bytes"] = Value::from(bytes);
        }
        json[member] = cut;
        Some(json.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    fn value(raw: &[u8]) -> String {
        let letter = Letter { topic: "crm", partition: 2, offset: 7, n: 0, error: "no", raw };
        String::from_utf8(letter.value()).unwrap()
    }

    #[test]
    fn a_letter_says_where_what_and_why() {
        let letter = Letter { topic: "crm", partition: 2, offset: 7, n: 0, error: "no", raw: b"" };
        assert_eq!(letter.key(), "crm/2/7/0");
        let headers = letter.headers(OwnedHeaders::new());
        let told: Vec<_> = headers.iter().map(|header| (header.key, header.value.unwrap())).collect();
        let expect: [(&str, &[u8]); 5] =
            [("topic", b"crm"), ("partition", b"2"), ("offset", b"7"), ("stage", b"ingest"), ("error", b"no")];
        assert_eq!(told, expect);
        assert_eq!(
            value("{ä".as_bytes()),
            r#"{"error":"no","offset":7,"partition":2,"raw":"{ä","stage":"ingest","topic":"crm"}"#
        );
    }

    #[test]
    fn one_that_is_too_large_keeps_the_beginning() {
        let check = |raw: &[u8], expect: &str| {
            let short = Letter::shorten(value(raw).as_bytes(), 6).unwrap();
            let told = String::from_utf8(short.clone()).unwrap();
            assert!(told.contains(expect), "{told}");
            assert_eq!(Letter::shorten(&short, 6), None);
        };
        check(b"abcdefghij", r#""raw":"abcdef","raw_bytes":10"#);
        check("abcdeäöü".as_bytes(), r#""raw":"abcde","raw_bytes":11"#);
        check(b"\xff\xfecdefghij", r#""raw_base64":"//5jZGVm","raw_bytes":10"#);
        assert_eq!(Letter::shorten(value(b"abcdef").as_bytes(), 6), None);
        assert_eq!(Letter::shorten(b"[]", 6), None);
    }
}
