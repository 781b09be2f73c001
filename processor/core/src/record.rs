//! What stands in the log: events, ticks and rules.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

use crate::event::{Event, RECORD_BYTES, Reject};
use crate::rules::Rules;

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// Something that happened.
    Event(Event<'a>),
    /// All sources are complete through a moment.
    Tick {
        /// The moment.
        through: Timestamp,
        /// The revision of the rules that whoever wrote it knew; `None`: whichever are in force.
        rules: Option<u64>,
    },
    /// From here on, these rules are in force.
    Rules {
        /// They.
        rules: Box<Rules>,
        /// Of rules with revisions, those of the highest are in force; ones without are whenever they come.
        revision: Option<u64>,
    },
}

/// A cheap look for what only ticks and rules have.
const MARKS: [&[u8]; 2] = [b"\"tick\"", b"\"rules\""];

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Control {
    Tick {
        through: Timestamp,
        #[serde(default)]
        rules: Option<u64>,
    },
    Rules(serde_json::Map<String, Value>),
}

impl<'a> Record<'a> {
    /// A tick that says nothing of rules.
    pub fn tick(through: Timestamp) -> Record<'a> {
        Record::Tick { through, rules: None }
    }

    /// Rules without a revision.
    pub fn rules(rules: Rules) -> Record<'a> {
        Record::Rules { rules: Box::new(rules), revision: None }
    }

    /// The same record, owning its text.
    pub fn into_owned(self) -> Record<'static> {
        match self {
            Record::Event(event) => Record::Event(event.into_owned()),
            Record::Tick { through, rules } => Record::Tick { through, rules },
            Record::Rules { rules, revision } => Record::Rules { rules, revision },
        }
    }

    /// Parses a record of a log: a canonical event, `{"kind":"tick","through":…,"rules":…}` or
    /// `{"kind":"rules","revision":…,…}`, the revisions optional. `zone` is for bare dates.
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
        Ok(Control::Tick { through, rules }) => Ok(Some(Record::Tick { through, rules })),
        Ok(Control::Rules(fields)) => parse_rules(fields).map(Some),
        Err(error) => Err(Reject::not_json(error)),
    }
}

fn parse_rules(mut fields: serde_json::Map<String, Value>) -> Result<Record<'static>, Reject> {
    let revision = fields.remove("revision").map_or(Ok(None), serde_json::from_value).map_err(Reject::not_json)?;
    let rules: Rules = serde_json::from_value(Value::Object(fields)).map_err(Reject::not_json)?;
    rules.check().map_err(Reject::not_json)?;
    Ok(Record::Rules { rules: Box::new(rules), revision })
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(bytes, mark).is_some()
}

impl Rules {
    /// The record that puts these rules into the log.
    pub fn to_record(&self, revision: Option<u64>) -> Vec<u8> {
        #[derive(serde::Serialize)]
        struct Tagged<'a> {
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            revision: Option<u64>,
            #[serde(flatten)]
            rules: &'a Rules,
        }
        // Rules hold nothing that JSON cannot: keys are strings, and `check` lets no NaN in.
        serde_json::to_vec(&Tagged { kind: "rules", revision, rules: self }).unwrap_or_default()
    }
}

/// The record that says that all sources are complete through `through`, by somebody who knows the rules of this revision.
pub fn tick_record(through: Timestamp, rules: Option<u64>) -> Vec<u8> {
    let rules = rules.map_or(String::new(), |revision| format!(",\"rules\":{revision}"));
    format!("{{\"kind\":\"tick\",\"through\":\"{through}\"{rules}}}").into_bytes()
}
