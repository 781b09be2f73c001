//! A canonical event: one flat JSON object, parsed once, borrowed from its bytes where it can be.
//!
//! [`Event::parse`] accepts what the documentation of events allows and nothing else; what it returns is valid in every
//! known field. Unknown fields are kept as compact JSON. An empty string reads as absent; so does `null`, except in a
//! profile, where it clears.

mod members;
mod parse;
mod reject;
mod values;
mod write;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::field::Field;
pub use parse::{ALIAS, check_future, is_email, lower_if_email, mail_domain, owner};
pub use reject::Reject;
pub use values::parse_time;
pub(crate) use write::{json_member, json_string, json_time, member, plain, plain_member, string_member, time_member};

/// Kafka's own default limit of a record; what is larger has been refused by most brokers already.
pub const RECORD_BYTES: usize = 1024 * 1024;
/// Accounts and contacts are keys of everything.
pub const KEY_BYTES: usize = 256;
/// A source is named in every record.
pub const SOURCE_BYTES: usize = 256;
/// An id may be a URL or a compound of several ids.
pub const ID_BYTES: usize = 1024;

/// Readers downstream recurse; most stop at 128 levels.
pub const NESTING: usize = 64;

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Outbound, from us to them.
    Touch,
    /// Them taking part.
    Engagement,
    /// Them recommending us, or the opposite.
    Advocacy,
    /// Opportunities, orders, renewals, churn.
    Value,
    /// What is known of a contact or account.
    Profile,
    /// What our own people do about an alert.
    Action,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Kind; 6] =
        [Kind::Touch, Kind::Engagement, Kind::Advocacy, Kind::Value, Kind::Profile, Kind::Action];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Touch => "touch",
            Kind::Engagement => "engagement",
            Kind::Advocacy => "advocacy",
            Kind::Value => "value",
            Kind::Profile => "profile",
            Kind::Action => "action",
        }
    }

    fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How much of a conversation an engagement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interaction {
    /// A conversation.
    TwoWay,
    /// Attention without an answer.
    OneWay,
    /// Not proven to be a person's.
    Passive,
    /// A scanner, an automatic reply.
    Machine,
}

/// Whether an engagement took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It took place.
    Attended,
    /// It is to take place at `scheduled_for`.
    Planned,
    /// They did not come.
    NoShow,
    /// It was called off.
    Cancelled,
}

macro_rules! closed_list {
    ($type:ident: $($variant:ident $name:literal),*) => {
        impl $type {
            /// The names of the closed list.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Its name in JSON.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }

            /// The member of this name.
            pub fn from_name(name: &str) -> Option<$type> {
                match name { $($name => Some($type::$variant),)* _ => None }
            }
        }
    };
}
closed_list!(Interaction: TwoWay "two_way", OneWay "one_way", Passive "passive", Machine "machine");
closed_list!(Status: Attended "attended", Planned "planned", NoShow "no_show", Cancelled "cancelled");

/// The value of a known field, checked against its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null` in a profile: clears the field.
    Null,
    /// A word, text, decimal, zone or member of a closed list.
    Text(Cow<'a, str>),
    /// A number, in its own digits.
    Number(Cow<'a, str>),
    /// A flag.
    Bool(bool),
    /// A moment.
    Time(Timestamp),
    /// Compact JSON.
    Json(Cow<'a, str>),
}

/// One canonical event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// What it tells of.
    pub kind: Kind,
    /// Names the record within its source.
    pub id: Cow<'a, str>,
    /// The system that knows of it.
    pub source: Cow<'a, str>,
    /// Event time.
    pub occurred_at: Timestamp,
    /// The client company; empty until identity has been resolved.
    pub account: Cow<'a, str>,
    /// The person; empty for `value` and `profile` events of an account.
    pub contact: Cow<'a, str>,
    /// The highest of a record counts.
    pub revision: Option<i64>,
    /// Removes the record.
    pub void: bool,
    pub(crate) fields: Vec<(Field, Value<'a>)>,
    pub(crate) unknown: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Event<'a> {
    /// The value of a known field.
    pub fn get(&self, field: Field) -> Option<&Value<'a>> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// The text of a known field.
    pub fn text(&self, field: Field) -> Option<&str> {
        match self.get(field)? {
            Value::Text(text) | Value::Number(text) | Value::Json(text) => Some(text),
            _ => None,
        }
    }

    /// The moment in a known field.
    pub fn time(&self, field: Field) -> Option<Timestamp> {
        match self.get(field)? {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    /// The known fields beside the envelope, in canonical order.
    pub fn fields(&self) -> &[(Field, Value<'a>)] {
        &self.fields
    }

    /// Unknown fields as (name, compact JSON), by name.
    pub fn unknown(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.unknown
    }

    /// How an engagement's interaction counts: as given, else its vehicle's default.
    pub fn interaction(&self) -> Interaction {
        self.text(Field::Interaction)
            .and_then(Interaction::from_name)
            .unwrap_or_else(|| default_interaction(self.text(Field::Vehicle).unwrap_or_default()))
    }

    /// Whether an engagement took place; `attended` unless it says otherwise.
    pub fn status(&self) -> Status {
        self.text(Field::Status).and_then(Status::from_name).unwrap_or(Status::Attended)
    }

    /// The same event, owning its text.
    pub fn into_owned(self) -> Event<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        let value = |value| match value {
            Value::Null => Value::Null,
            Value::Text(text) => Value::Text(own(text)),
            Value::Number(text) => Value::Number(own(text)),
            Value::Json(text) => Value::Json(own(text)),
            Value::Bool(flag) => Value::Bool(flag),
            Value::Time(time) => Value::Time(time),
        };
        Event {
            kind: self.kind,
            id: own(self.id),
            source: own(self.source),
            occurred_at: self.occurred_at,
            account: own(self.account),
            contact: own(self.contact),
            revision: self.revision,
            void: self.void,
            fields: self.fields.into_iter().map(|(field, v)| (field, value(v))).collect(),
            unknown: self.unknown.into_iter().map(|(name, json)| (own(name), own(json))).collect(),
        }
    }
}

/// The interaction of an engagement that does not say: a conversation where the vehicle is one.
fn default_interaction(vehicle: &str) -> Interaction {
    match vehicle {
        "meeting" | "call" | "conference" | "roundtable" | "seminar" | "virtual_meeting" | "community" | "demo" => {
            Interaction::TwoWay
        }
        _ => Interaction::OneWay,
    }
}
