//! Changes → messages: what is sent is a function of the change and its place in the lane alone, so that every attempt
//! and every run sends the same id and the same bytes.
//!
//! The body is what Standard Webhooks recommends: `{"type":…,"timestamp":…,"data":…}`, `data` being the record as it was
//! published, byte for byte.
//!
//! | change | `type` | `timestamp` | `data` |
//! |---|---|---|---|
//! | an alert | `<rule>.<change>`, as `lapse.opened` | its tick | the alert |
//! | a contact's erasure | `contact.erased` | the last tick; absent before the first | whom to forget: `account`, `contact` |
//! | many alerts of a backlog | `alert.digest` | their tick | see [`mod@super::digest`] |
//! | a score, a fact | `score.updated`, `fact.updated` | `as_of`, `occurred_at`, `lapsed_at`; absent without one | the record |
//! | its tombstone | `score.removed`, `fact.removed` | absent | `{"key":…}` |
//! | a dead letter | `dead_letter.created` | absent | the record |

use std::borrow::Cow;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use touchline_core::output::Topic;

use crate::sink::{Change, Lane};

/// Longest part of an id that comes from a record. Alert ids have 32.
const ID_PART_BYTES: usize = 64;

/// Something to send, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `webhook-id`.
    pub id: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// A message without the record that it is about, which need not be held twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `webhook-id`.
    pub id: String,
    /// The body up to the record, or up to the closing brace.
    head: Vec<u8>,
    is_sealed: bool,
}

impl Envelope {
    /// A body begins `{"type":…,"timestamp":…,"data":`.
    fn new(id: String, event_type: &str, moment: Option<&str>) -> Envelope {
        let mut head = format!(r#"{{"type":"{event_type}","#).into_bytes();
        if let Some(moment) = moment {
            head.extend_from_slice(format!(r#""timestamp":{},"#, serde_json::Value::from(moment)).as_bytes());
        }
        head.extend_from_slice(br#""data":"#);
        Envelope { id, head, is_sealed: false }
    }

    /// One that holds all of its data, which is JSON: no record is put into it.
    pub fn sealed(id: String, event_type: &str, moment: Option<&str>, data: &[u8]) -> Envelope {
        let mut envelope = Envelope::new(id, event_type, moment);
        envelope.head.extend_from_slice(data);
        envelope.is_sealed = true;
        envelope
    }

    /// The message with the record in it.
    pub fn around(&self, record: Option<&[u8]>) -> Message {
        let record = record.filter(|_| !self.is_sealed).unwrap_or_default();
        let mut body = Vec::with_capacity(self.head.len() + record.len() + 1);
        for part in [&self.head[..], record, b"}"] {
            body.extend_from_slice(part);
        }
        Message { id: self.id.clone(), body }
    }
}

/// An alert as far as messages depend on what is in it.
#[derive(Debug, Deserialize)]
pub struct Alert<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    rule: Cow<'a, str>,
    #[serde(borrow)]
    change: Cow<'a, str>,
    sequence: u64,
    /// All that happened before it had been read when the alert was made; RFC 3339.
    #[serde(borrow, default)]
    pub tick: Option<Cow<'a, str>>,
    /// RFC 3339.
    #[serde(borrow, default)]
    pub due: Option<Cow<'a, str>>,
    /// Told only in a digest.
    #[serde(default)]
    pub backlog: bool,
    /// 0 to 100.
    #[serde(default)]
    pub score: f64,
}

impl Alert<'_> {
    /// The alert in a change; if it is none, why.
    pub fn read(change: &Change) -> Result<Alert<'_>, String> {
        let value = change.value.as_deref().ok_or("a tombstone is no alert")?;
        let alert: Alert<'_> = serde_json::from_slice(value).map_err(|error| format!("not an alert: {error}"))?;
        match [("id", &alert.id), ("rule", &alert.rule), ("change", &alert.change)].iter().find(|(_, it)| !is_plain(it))
        {
            Some((name, _)) => Err(format!("not an alert: its {name} is not made of letters, digits and _")),
            None => Ok(alert),
        }
    }

    /// The id of its message. An alert's changes are numbered, and both come out the same in every run.
    pub fn message_id(&self) -> String {
        format!("alert_{}_{}", self.id, self.sequence)
    }

    /// What the alert is sent in.
    pub fn envelope(&self) -> Envelope {
        Envelope::new(self.message_id(), &self.event_type(), self.tick.as_deref().or(self.due.as_deref()))
    }

    /// What happened, in the form of an event type.
    pub fn event_type(&self) -> String {
        format!("{}.{}", self.rule, self.change)
    }
}

/// Whether a text can stand in an id or an event type. A full stop would let one message be signed as another.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=ID_PART_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

/// The envelope around a change's value; if it cannot be sent, why.
pub fn envelope(lane: &Lane, change: &Change) -> Result<Envelope, String> {
    let (noun, verb) = match change.topic {
        Topic::Alerts => return Ok(Alert::read(change)?.envelope()),
        Topic::Scores => ("score", "updated"),
        Topic::Facts => ("fact", "updated"),
        Topic::DeadLetters => ("dead_letter", "created"),
    };
    // A place in a feed is all that tells one score from the next.
    let id = format!("{noun}_{}", name_of(&[lane.as_str().as_bytes(), &change.sequence.to_be_bytes()]));
    match &change.value {
        Some(value) => {
            let moment = moment(value).map_err(|error| format!("not a JSON object: {error}"))?;
            Ok(Envelope::new(id, &format!("{noun}.{verb}"), moment.as_deref()))
        }
        None => {
            let key = serde_json::json!({ "key": String::from_utf8_lossy(&change.key) }).to_string();
            Ok(Envelope::sealed(id, &format!("{noun}.removed"), None, key.as_bytes()))
        }
    }
}

/// When what a record tells of happened, if it says so.
fn moment(value: &[u8]) -> serde_json::Result<Option<Cow<'_, str>>> {
    #[derive(Deserialize)]
    struct Moments<'a> {
        #[serde(borrow, default)]
        as_of: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        occurred_at: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        lapsed_at: Option<Cow<'a, str>>,
    }
    let moments: Moments<'_> = serde_json::from_slice(value)?;
    Ok(moments.as_of.or(moments.occurred_at).or(moments.lapsed_at))
}

/// A hash of the parts, in 32 digits.
pub fn name_of(parts: &[&[u8]]) -> String {
    const DIGITS: usize = 32;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}
