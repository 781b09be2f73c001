//! What is known of a contact or an account: profile events merged field by field.
//!
//! For each field the latest `occurred_at` wins, then the source's priority, then the greater id (then source and value,
//! so that the result never depends on the order of arrival). An absent field keeps, `null` clears. `consent` is merged
//! channel by channel. `last_engagement_at` is not merged: each is news of an engagement.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::codec::{Corrupt, Reader, put_bytes, put_time, put_uint};
use crate::event::{Event, Value};
use crate::field::Field;

/// The buying roles, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Signs.
    DecisionMaker,
    /// Line-of-business influencer.
    LineOfBusiness,
    /// Functional manager.
    Functional,
    /// Uses what is bought.
    User,
    /// Not known, or none of these.
    Unknown,
}

/// How many roles there are.
pub const ROLES: usize = 5;

impl Role {
    /// All roles, by number.
    pub const ALL: [Role; ROLES] =
        [Role::DecisionMaker, Role::LineOfBusiness, Role::Functional, Role::User, Role::Unknown];

    /// Its name in profiles and in an account's parts.
    pub fn name(self) -> &'static str {
        match self {
            Role::DecisionMaker => "decision_maker",
            Role::LineOfBusiness => "line_of_business",
            Role::Functional => "functional",
            Role::User => "user",
            Role::Unknown => "unknown",
        }
    }

    /// Whether an account's silence is theirs.
    pub fn is_line(self) -> bool {
        matches!(self, Role::DecisionMaker | Role::LineOfBusiness)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    at: Timestamp,
    source: Box<str>,
    id: Box<str>,
}

/// A merged value: text, with moments and flags in their JSON form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    field: Field,
    channel: Box<str>,
    stamp: usize,
    value: Option<Box<str>>,
}

/// A merged profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    stamps: Vec<Stamp>,
    known: Vec<Known>,
}

impl Profile {
    /// Merges a profile event.
    pub fn merge(&mut self, event: &Event<'_>, priorities: &BTreeMap<String, i32>) {
        let stamp = Stamp { at: event.occurred_at, source: (*event.source).into(), id: (*event.id).into() };
        let mut own = None;
        for (field, value) in event.fields() {
            for (channel, text) in values(*field, value) {
                self.learn(*field, &channel, text, &stamp, &mut own, priorities);
            }
        }
        self.forget_unused_stamps();
    }

    fn learn(
        &mut self,
        field: Field,
        channel: &str,
        value: Option<Box<str>>,
        stamp: &Stamp,
        own: &mut Option<usize>,
        priorities: &BTreeMap<String, i32>,
    ) {
        let place = self.known.iter().position(|known| known.field == field && &*known.channel == channel);
        if let Some(known) = place.map(|place| &self.known[place]) {
            let rank = |stamp: &Stamp, value: &Option<Box<str>>| {
                let priority = priorities.get(&*stamp.source).copied().unwrap_or(0);
                (stamp.at, priority, stamp.id.clone(), stamp.source.clone(), value.clone())
            };
            if rank(&self.stamps[known.stamp], &known.value) >= rank(stamp, &value) {
                return;
            }
        }
        let stamp = *own.get_or_insert_with(|| {
            self.stamps.push(stamp.clone());
            self.stamps.len() - 1
        });
        let known = Known { field, channel: channel.into(), stamp, value };
        match place {
            Some(place) => self.known[place] = known,
            None => self.known.push(known),
        }
    }

    fn forget_unused_stamps(&mut self) {
        let mut place = 0;
        while place < self.stamps.len() {
            if self.known.iter().any(|known| known.stamp == place) {
                place += 1;
                continue;
            }
            self.stamps.remove(place);
            for known in self.known.iter_mut().filter(|known| known.stamp > place) {
                known.stamp -= 1;
            }
        }
        // One order for equal profiles, however they came about.
        self.known.sort_by(|a, b| (a.field, &a.channel).cmp(&(b.field, &b.channel)));
    }

    fn known(&self, field: Field) -> Option<&Known> {
        self.known.iter().find(|known| known.field == field)
    }

    /// The text of a field, if it is known.
    pub fn text(&self, field: Field) -> Option<&str> {
        self.known(field)?.value.as_deref()
    }

    /// The contact's buying role.
    pub fn role(&self) -> Role {
        let name = self.text(Field::Role);
        Role::ALL.into_iter().find(|role| Some(role.name()) == name).unwrap_or(Role::Unknown)
    }

    /// The contact's time zone.
    pub fn zone(&self) -> Option<TimeZone> {
        self.text(Field::Timezone).and_then(|name| TimeZone::get(name).ok())
    }

    /// Alerts wait until then.
    pub fn paused_until(&self) -> Option<Timestamp> {
        self.text(Field::PausedUntil).and_then(|text| text.parse().ok())
    }

    /// Since when the contact is known to have left.
    pub fn left_at(&self) -> Option<Timestamp> {
        let known = self.known(Field::Employment)?;
        (known.value.as_deref() == Some("left")).then(|| self.stamps[known.stamp].at)
    }

    /// Appends the profile to a stored value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_uint(out, self.stamps.len() as u64);
        for stamp in &self.stamps {
            put_time(out, stamp.at);
            put_bytes(out, stamp.source.as_bytes());
            put_bytes(out, stamp.id.as_bytes());
        }
        put_uint(out, self.known.len() as u64);
        for known in &self.known {
            out.push(known.field as u8);
            put_bytes(out, known.channel.as_bytes());
            put_uint(out, known.stamp as u64);
            out.push(u8::from(known.value.is_some()));
            if let Some(value) = &known.value {
                put_bytes(out, value.as_bytes());
            }
        }
    }

    /// Reads what [`Profile::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Profile, Corrupt> {
        let mut profile = Profile::default();
        for _ in 0..reader.count()? {
            let (at, source, id) = (reader.time()?, reader.text()?.into(), reader.text()?.into());
            profile.stamps.push(Stamp { at, source, id });
        }
        for _ in 0..reader.count()? {
            let field = Field::from_number(reader.byte()?).ok_or(reader.corrupt())?;
            let channel = reader.text()?.into();
            let stamp = reader.uint()? as usize;
            let value = if reader.byte()? == 0 { None } else { Some(reader.text()?.into()) };
            if stamp >= profile.stamps.len() {
                return Err(reader.corrupt());
            }
            profile.known.push(Known { field, channel, stamp, value });
        }
        Ok(profile)
    }
}

/// What a field of a profile event says, as (channel, value or cleared); the channel is empty except for consent.
fn values(field: Field, value: &Value<'_>) -> Vec<(Box<str>, Option<Box<str>>)> {
    let text = match value {
        Value::Null => None,
        Value::Text(text) | Value::Number(text) => Some((**text).into()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        Value::Time(time) => Some(time.to_string().into()),
        Value::Json(json) => {
            let channels: BTreeMap<String, Option<String>> = serde_json::from_str(json).unwrap_or_default();
            return channels.into_iter().map(|(channel, to)| (channel.into(), to.map(Into::into))).collect();
        }
    };
    if field == Field::LastEngagementAt { Vec::new() } else { vec![("".into(), text)] }
}
