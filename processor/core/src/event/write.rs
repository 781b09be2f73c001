//! Event → JSON: the canonical form, and the fact made of it.

use std::io::Write;

use super::{Event, Value};

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

    fn write_members(&self, out: &mut Vec<u8>, kind: &str, version: Option<u64>) {
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
            raw_member(out, "revision", revision);
        }
        if self.void {
            raw_member(out, "void", true);
        }
        for (field, value) in &self.fields {
            let name = field.row().name;
            match value {
                Value::Null => raw_member(out, name, "null"),
                Value::Text(text) => string_member(out, name, text),
                Value::Number(text) | Value::Json(text) => raw_member(out, name, text),
                Value::Bool(flag) => raw_member(out, name, flag),
                Value::Time(time) => time_member(out, name, *time),
            }
        }
        for (name, json) in &self.unknown {
            // A fact's own two columns are not the source's to set.
            if version.is_none() || !matches!(&**name, "fact" | "version") {
                member(out, name);
                out.extend_from_slice(json.as_bytes());
            }
        }
        if let Some(version) = version {
            raw_member(out, "version", version);
        }
    }
}

fn member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    json_string(out, name);
    out.push(b':');
}

/// Appends `"name":"text"`, after a comma unless it is the first member.
pub(crate) fn string_member(out: &mut Vec<u8>, name: &str, text: &str) {
    member(out, name);
    json_string(out, text);
}

/// Appends `"name":value` where the value prints as JSON.
pub(crate) fn raw_member(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    member(out, name);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends `"name":"time"` in UTC.
pub(crate) fn time_member(out: &mut Vec<u8>, name: &str, time: jiff::Timestamp) {
    member(out, name);
    let _ = write!(out, "\"{time}\"");
}

/// Appends a JSON string.
pub(crate) fn json_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail, and a string is always JSON.
    let _ = serde_json::to_writer(out, text);
}
