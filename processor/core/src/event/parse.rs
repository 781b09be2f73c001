//! Bytes → event, or a sentence that says what is wrong with them.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::members::Members;
use super::reject::{Reject, shown};
use super::values::{
    WHOLE_CHARACTERS, compact, flag, has_half_characters, integer, is_too_deep, kind, known, string, time,
};
use super::{Event, ID_BYTES, KEY_BYTES, Kind, RECORD_BYTES, SOURCE_BYTES, Value};
use crate::field::{Field, TABLE};

/// How far an event may lie ahead of its arrival: clocks differ by minutes, not by hours.
const AHEAD_S: i64 = 600;

/// Refuses an event that occurred more than ten minutes after it arrived.
pub fn check_future(event: &Event<'_>, arrived: Timestamp) -> Result<(), Reject> {
    if event.occurred_at.as_second() - arrived.as_second() > AHEAD_S {
        return Err(Reject::Future { at: event.occurred_at, arrived });
    }
    Ok(())
}

impl<'a> Event<'a> {
    /// Parses a canonical event. `zone` is its source's, for bare dates. `account` is left empty where absent.
    pub fn parse(bytes: &'a [u8], zone: &TimeZone) -> Result<Event<'a>, Reject> {
        if bytes.len() > RECORD_BYTES {
            return Err(Reject::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| Reject::NotUtf8 { at: error.valid_up_to() })?;
        let Members(members) = serde_json::from_str(text).map_err(Reject::not_json)?;
        Draft::read(members, zone)?.finish()
    }
}

/// An event whose members have been sorted into envelope, known and unknown, but whose kind may not have been seen yet.
#[derive(Default)]
struct Draft<'a> {
    kind: Option<Kind>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    occurred_at: Option<Timestamp>,
    account: Option<Cow<'a, str>>,
    contact: Option<Cow<'a, str>>,
    revision: Option<i64>,
    void: Option<bool>,
    fields: Vec<(Field, Value<'a>)>,
    unknown: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Draft<'a> {
    fn read(members: Vec<(Cow<'a, str>, &'a str)>, zone: &TimeZone) -> Result<Draft<'a>, Reject> {
        let mut draft = Draft { fields: Vec::with_capacity(members.len()), ..Draft::default() };
        // What stands before the kind that says how to read it: usually nothing.
        let mut before_kind = Vec::new();
        for (name, raw) in members {
            match &*name {
                "kind" => set(&mut draft.kind, "kind", kind(raw)?)?,
                "id" => set(&mut draft.id, "id", string(raw, "id", ID_BYTES)?)?,
                "source" => set(&mut draft.source, "source", string(raw, "source", SOURCE_BYTES)?)?,
                "occurred_at" => set(&mut draft.occurred_at, "occurred_at", time(raw, "occurred_at", zone)?)?,
                "account" => set(&mut draft.account, "account", string(raw, "account", KEY_BYTES)?)?,
                "contact" => set(&mut draft.contact, "contact", string(raw, "contact", KEY_BYTES)?)?,
                "revision" => set(&mut draft.revision, "revision", integer(raw, "revision")?)?,
                "void" => set(&mut draft.void, "void", flag(raw, "void")?)?,
                _ => match draft.kind {
                    Some(kind) => draft.read_field(name, raw, kind, zone)?,
                    None => before_kind.push((name, raw)),
                },
            }
        }
        let kind = draft.kind.ok_or(Reject::Missing { field: "kind", of: "event" })?;
        for (name, raw) in before_kind {
            draft.read_field(name, raw, kind, zone)?;
        }
        Ok(draft)
    }

    fn read_field(&mut self, name: Cow<'a, str>, raw: &'a str, kind: Kind, zone: &TimeZone) -> Result<(), Reject> {
        match Field::from_name(&name).map(Field::row).filter(|row| row.is_of(kind)) {
            Some(row) => {
                if let Some(value) = known(raw, row.name, row.kind, kind, zone)? {
                    self.fields.push((row.field, value));
                }
            }
            None => self.unknown.push((name, compact(raw))),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Event<'a>, Reject> {
        let missing = |field| Reject::Missing { field, of: "event" };
        let kind = self.kind.ok_or(missing("kind"))?;
        self.fields.sort_by_key(|(field, _)| field.row().rank(kind));
        if let Some(pair) = self.fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Reject::Twice { field: pair[0].0.row().name.to_owned() });
        }
        self.unknown.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = self.unknown.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Reject::Twice { field: shown(&pair[0].0) });
        }
        if let Some((name, _)) = self.unknown.iter().find(|(_, json)| is_too_deep(json)) {
            return Err(Reject::TooDeep { field: shown(name) });
        }
        let halves = |json: &str| memchr::memchr(b'\\', json.as_bytes()).is_some() && has_half_characters(json);
        if let Some((name, json)) = self.unknown.iter().find(|(_, json)| halves(json)) {
            let (field, found) = (Cow::Owned(shown(name)), shown(json));
            return Err(Reject::Malformed { field, found, takes: Cow::Borrowed(WHOLE_CHARACTERS) });
        }
        let event = Event {
            kind,
            id: self.id.ok_or(missing("id"))?,
            source: self.source.ok_or(missing("source"))?,
            occurred_at: self.occurred_at.ok_or(missing("occurred_at"))?,
            account: self.account.map(lower_if_email).unwrap_or_default(),
            contact: self.contact.map(lower_if_email).unwrap_or_default(),
            revision: self.revision,
            void: self.void.unwrap_or(false),
            fields: self.fields,
            unknown: self.unknown,
        };
        event.check()?;
        Ok(event)
    }
}

impl Event<'_> {
    /// What concerns more than one field.
    fn check(&self) -> Result<(), Reject> {
        // Once more: lower case can be longer.
        for (key, field) in [(&self.account, "account"), (&self.contact, "contact")] {
            if key.len() > KEY_BYTES {
                return Err(Reject::TooLong { field, bytes: key.len(), limit: KEY_BYTES });
            }
        }
        if self.void {
            // A void names its record; what the record said is gone.
            return match self.revision {
                Some(_) => Ok(()),
                None => Err(Reject::Missing { field: "revision", of: "void" }),
            };
        }
        let missing = TABLE.iter().find(|row| row.required_in(self.kind) && self.get(row.field).is_none());
        if let Some(row) = missing {
            return Err(Reject::Missing { field: row.name, of: self.kind.name() });
        }
        if matches!(self.kind, Kind::Touch | Kind::Engagement | Kind::Advocacy) && self.contact.is_empty() {
            return Err(Reject::Missing { field: "contact", of: self.kind.name() });
        }
        Ok(())
    }
}

fn set<T>(place: &mut Option<T>, field: &str, value: Option<T>) -> Result<(), Reject> {
    if value.is_some() && place.is_some() {
        return Err(Reject::Twice { field: field.to_owned() });
    }
    if value.is_some() {
        *place = value;
    }
    Ok(())
}

/// Before the name of a contact: the account of one who belongs to no company.
pub const ALIAS: char = '~';

/// Whose own an account is, if it is the [`ALIAS`] of one person.
pub fn owner(account: &str) -> Option<&str> {
    account.strip_prefix(ALIAS)
}

/// An account or a contact as it is a key: e-mail addresses name the same person in any case.
pub fn lower_if_email(text: Cow<'_, str>) -> Cow<'_, str> {
    let may_have_capitals = text.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii());
    if may_have_capitals && is_email(&text) { Cow::Owned(text.to_lowercase()) } else { text }
}

/// One `@` with something on either side, and no white space.
pub fn is_email(text: &str) -> bool {
    mail_domain(text).is_some()
}

/// What follows the `@` of an e-mail address; `None` of anything else.
pub fn mail_domain(text: &str) -> Option<&str> {
    let (local, domain) = text.split_once('@')?;
    let is_address =
        !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !text.contains(char::is_whitespace);
    is_address.then_some(domain)
}
