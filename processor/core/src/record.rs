//! What stands in the log: events, ticks and rules.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::event::{Event, RECORD_BYTES, Reject};
use crate::rules::Rules;

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// Something that happened.
    Event(Event<'a>),
    /// All sources are complete through this moment.
    Tick(Timestamp),
    /// From here on, these rules are in force.
    Rules(Box<Rules>),
}

/// A cheap look for what only ticks and rules have.
const MARKS: [&[u8]; 2] = [b"\"tick\"", b"\"rules\""];

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Control {
    Tick { through: Timestamp },
    Rules(Box<Rules>),
}

impl<'a> Record<'a> {
    /// The same record, owning its text.
    pub fn into_owned(self) -> Record<'static> {
        match self {
            Record::Event(event) => Record::Event(event.into_owned()),
            Record::Tick(through) => Record::Tick(through),
            Record::Rules(rules) => Record::Rules(rules),
        }
    }

    /// Parses a record of a log: a canonical event, `{"kind":"tick","through":…}` or `{"kind":"rules",…}`.
    /// `zone` is for bare dates.
    pub fn parse(bytes: &'a [u8], zone: &TimeZone) -> Result<Record<'a>, Reject> {
        let is_marked = || bytes.len() <= RECORD_BYTES && MARKS.iter().any(|mark| contains(bytes, mark));
        match Event::parse(bytes, zone) {
            Ok(event) => Ok(Record::Event(event)),
            // Ticks and rules are no events: the many need not be searched for the few.
            Err(reject) if is_marked() => parse_control(bytes)?.ok_or(reject),
            Err(reject) => Err(reject),
        }
    }
}

fn parse_control(bytes: &[u8]) -> Result<Option<Record<'static>>, Reject> {
    #[derive(Deserialize)]
    struct Tag<'a> {
        #[serde(borrow)]
        kind: Option<std::borrow::Cow<'a, str>>,
    }
    let is_control =
        serde_json::from_slice::<Tag<'_>>(bytes).is_ok_and(|tag| matches!(tag.kind.as_deref(), Some("tick" | "rules")));
    if !is_control {
        return Ok(None);
    }
    match serde_json::from_slice(bytes) {
        Ok(Control::Tick { through }) => Ok(Some(Record::Tick(through))),
        Ok(Control::Rules(rules)) => match rules.check() {
            Ok(()) => Ok(Some(Record::Rules(rules))),
            Err(mistake) => Err(Reject::not_json(mistake)),
        },
        Err(error) => Err(Reject::not_json(error)),
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(bytes, mark).is_some()
}

impl Rules {
    /// The record that puts these rules into the log.
    pub fn to_record(&self) -> Vec<u8> {
        #[derive(serde::Serialize)]
        struct Tagged<'a> {
            kind: &'static str,
            #[serde(flatten)]
            rules: &'a Rules,
        }
        // Rules hold nothing that JSON cannot: keys are strings, and `check` lets no NaN in.
        serde_json::to_vec(&Tagged { kind: "rules", rules: self }).unwrap_or_default()
    }
}

/// The record that says that all sources are complete through `through`.
pub fn tick_record(through: Timestamp) -> Vec<u8> {
    format!("{{\"kind\":\"tick\",\"through\":\"{through}\"}}").into_bytes()
}
