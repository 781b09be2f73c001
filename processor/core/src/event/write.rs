//! Event → JSON: the canonical form, and the fact made of it.

use jiff::Timestamp;
use serde::Serialize;

use super::{Event, Value};
use crate::moment::put_moment;

impl Event<'_> {
    /// Appends the canonical bytes: known fields in table order, then unknown ones by name, times in UTC.
    /// Of two records with the same identity the one with the smaller canonical bytes stands.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out, "kind", None);
        out.push(b'}');
    }

    /// Appends the fact: the canonical event with `fact` in the place of `kind`, and its version.
    pub fn write_fact(&self, version: u64, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out, "fact", Some(version));
        out.push(b'}');
    }

    fn write_members(&self, out: &mut Vec<u8>, kind: &'static str, version: Option<u64>) {
        string_member(out, "id", &self.id);
        string_member(out, "source", &self.source);
        string_member(out, kind, self.kind.name());
        time_member(out, "occurred_at", self.occurred_at);
        if !self.account.is_empty() {
            string_member(out, "account", &self.account);
        }
        if !self.contact.is_empty() {
            string_member(out, "contact", &self.contact);
        }
        if let Some(revision) = self.revision {
            plain_member(out, "revision", revision);
        }
        if self.void {
            json_member(out, "void", "true");
        }
        for (field, value) in &self.fields {
            let name = field.row().name;
            match value {
                Value::Null => json_member(out, name, "null"),
                Value::Text(text) => string_member(out, name, text),
                Value::Number(text) | Value::Json(text) => json_member(out, name, text),
                Value::Bool(flag) => plain_member(out, name, flag),
                Value::Time(time) => time_member(out, name, *time),
            }
        }
        for (name, json) in &self.unknown {
            // A fact's own two columns are not the source's to set.
            if version.is_none() || !matches!(&**name, "fact" | "version") {
                foreign_member(out, name);
                out.extend_from_slice(json.as_bytes());
            }
        }
        if let Some(version) = version {
            plain_member(out, "version", version);
        }
    }
}

/// Appends `"name":`, after a comma unless it is the first member. The name is one of ours.
pub(crate) fn member(out: &mut Vec<u8>, name: &'static str) {
    out.extend_from_slice(if out.last() == Some(&b'{') { b"\"" } else { b",\"" });
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// The same with a name that came from outside.
fn foreign_member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    json_string(out, name);
    out.push(b':');
}

/// Appends `"name":"text"`.
pub(crate) fn string_member(out: &mut Vec<u8>, name: &'static str, text: &str) {
    member(out, name);
    json_string(out, text);
}

/// Appends `"name":json`.
pub(crate) fn json_member(out: &mut Vec<u8>, name: &'static str, json: &str) {
    member(out, name);
    out.extend_from_slice(json.as_bytes());
}

/// Appends `"name":value` of a number or a flag.
pub(crate) fn plain_member(out: &mut Vec<u8>, name: &'static str, value: impl Serialize) {
    member(out, name);
    plain(out, value);
}

/// Appends a number or a flag.
pub(crate) fn plain(out: &mut Vec<u8>, value: impl Serialize) {
    // Writing to a vector cannot fail, and these are always JSON.
    let _ = serde_json::to_writer(out, &value);
}

/// Appends `"name":"time"` in UTC.
pub(crate) fn time_member(out: &mut Vec<u8>, name: &'static str, time: Timestamp) {
    member(out, name);
    json_time(out, Some(time));
}

/// Appends a moment as a JSON string, or `null`.
pub(crate) fn json_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    match time {
        Some(time) => {
            out.push(b'"');
            put_moment(out, time);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a JSON string.
pub(crate) fn json_string(out: &mut Vec<u8>, text: &str) {
    // Nearly all text is as it stands.
    if is_plain(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to a vector cannot fail, and a string is always JSON.
        let _ = serde_json::to_writer(out, text);
    }
}

/// Whether there is nothing in a text that JSON escapes; eight bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is smaller than `limit`, and of none before the first that is.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH_BITS;
    let is_plain = |word: u64| {
        let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        below(word, b' ') | equal(b'"') | equal(b'\\') == 0
    };
    let (words, rest) = text.as_chunks();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).all(|word| is_plain(u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) {
        let mut out = Vec::new();
        json_string(&mut out, text);
        assert_eq!(out, serde_json::to_vec(text).unwrap());
    }

    #[test]
    fn every_character_in_every_place() {
        for character in ('\0'..='\u{100}').chain(['\u{2028}', '\u{10ffff}']) {
            for place in 0..20 {
                let mut text = "a name of 20 letters".to_owned();
                text.insert(place, character);
                check(&text);
                check(&text[..place + character.len_utf8()]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_is_written_as_json(text in ".*") {
            check(&text);
        }
    }
}
