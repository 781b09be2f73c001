//! Bytes → event, or a sentence that says what is wrong with them.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Event, ID_BYTES, Interaction, KEY_BYTES, Kind, RECORD_BYTES, SOURCE_BYTES, Status, Value};
use crate::field::{Field, TABLE, TEXT_BYTES, Type, WORD_BYTES};

/// Readers downstream recurse; most stop at 128 levels.
pub const NESTING: usize = 64;
/// How far an event may lie ahead of its arrival: clocks differ by minutes, not by hours.
const AHEAD_S: i64 = 600;
/// How much of a bad value an error repeats.
const SHOWN_CHARS: usize = 60;
/// The JSON parser's messages are shorter, unless they repeat a value.
const MESSAGE_CHARS: usize = 160;
/// What a string with half of a surrogate pair in it should have been.
const WHOLE_CHARACTERS: &str = "text whose \\u escapes are whole characters";

/// Why a record is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Larger than [`RECORD_BYTES`].
    #[error("the record has {bytes} bytes; at most {RECORD_BYTES} are taken: send the content by reference")]
    TooLarge {
        /// How many it has, or had when reading stopped.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the record is not UTF-8: byte {at} is no part of a character; write it as UTF-8")]
    NotUtf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// Not a JSON object.
    #[error("the record is not a JSON object: {0}")]
    NotJson(String),
    /// Nested deeper than [`NESTING`].
    #[error("field `{field}` is nested more than {NESTING} levels deep; flatten it")]
    TooDeep {
        /// Where.
        field: String,
    },
    /// A field is given twice.
    #[error("field `{field}` is given twice; keep one")]
    Twice {
        /// Which.
        field: String,
    },
    /// A required field is absent.
    #[error("field `{field}` is missing; every {of} needs it")]
    Missing {
        /// Which.
        field: &'static str,
        /// In which kind of record.
        of: &'static str,
    },
    /// A value that its field does not take.
    #[error("field `{field}` is {found}; it takes {takes}")]
    Malformed {
        /// Which.
        field: Cow<'static, str>,
        /// What stands there, shortened.
        found: String,
        /// What should.
        takes: Cow<'static, str>,
    },
    /// Longer than its field allows.
    #[error("field `{field}` has {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// Which.
        field: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Further ahead of its arrival than clocks differ.
    #[error(
        "field `occurred_at` is {at}, more than ten minutes after the record arrived at {arrived}; if it is planned, say `status` planned and give the moment as `scheduled_for`"
    )]
    Future {
        /// Event time.
        at: Timestamp,
        /// Arrival.
        arrived: Timestamp,
    },
}

/// Refuses an event that occurred more than ten minutes after it arrived.
pub fn check_future(event: &Event<'_>, arrived: Timestamp) -> Result<(), Reject> {
    if event.occurred_at.as_second() - arrived.as_second() > AHEAD_S {
        return Err(Reject::Future { at: event.occurred_at, arrived });
    }
    Ok(())
}

/// RFC 3339 with offset; a bare date is 00:00 in `zone`.
pub fn parse_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    const DATE_BYTES: usize = "2024-03-05".len();
    if text.len() != DATE_BYTES {
        return None;
    }
    let date: civil::Date = text.parse().ok()?;
    Some(date.to_zoned(zone.clone()).ok()?.timestamp())
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

/// The members of an object, values unread.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a str)>);

/// Room for an event of usual size without growing.
const USUAL_MEMBERS: usize = 16;

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(USUAL_MEMBERS);
                while let Some(Key(key)) = map.next_key()? {
                    let value: &'de RawValue = map.next_value()?;
                    members.push((key, value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A string, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<Key<'de>, E> {
                Err(E::custom("a string is needed"))
            }
        }
        deserializer.deserialize_str(Text)
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

/// E-mail addresses name the same person in any case.
fn lower_if_email(text: Cow<'_, str>) -> Cow<'_, str> {
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

fn known<'a>(
    raw: &'a str,
    name: &'static str,
    kind: Type,
    of: Kind,
    zone: &TimeZone,
) -> Result<Option<Value<'a>>, Reject> {
    if raw == "null" {
        return Ok((of == Kind::Profile).then_some(Value::Null));
    }
    let text = |limit| Ok(string(raw, name, limit)?.map(Value::Text));
    match kind {
        Type::Word => text(WORD_BYTES),
        Type::Text => text(TEXT_BYTES),
        Type::Decimal => listed(raw, name, "a decimal number as a string, such as \"12.50\"", is_decimal),
        Type::Zone => listed(raw, name, "a time zone of the IANA database, such as \"Europe/Berlin\"", |zone| {
            TimeZone::get(zone).is_ok()
        }),
        Type::Interaction => listed_names(raw, name, Interaction::NAMES),
        Type::Status => listed_names(raw, name, Status::NAMES),
        Type::Number => number(raw, name).map(Some),
        Type::Bool => Ok(flag(raw, name)?.map(Value::Bool)),
        Type::Time => Ok(time(raw, name, zone)?.map(Value::Time)),
        Type::Words => words(raw, name).map(Some),
    }
}

fn kind(raw: &str) -> Result<Option<Kind>, Reject> {
    let Some(name) = string(raw, "kind", usize::MAX)? else { return Ok(None) };
    match Kind::from_name(&name) {
        Some(kind) => Ok(Some(kind)),
        None => Err(malformed("kind", raw, "one of touch, engagement, advocacy, value, profile, action")),
    }
}

/// A string of at most `limit` bytes; `null` and the empty string are absent.
fn string<'a>(raw: &'a str, field: &'static str, limit: usize) -> Result<Option<Cow<'a, str>>, Reject> {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let text = match inner {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) => {
            // The text is JSON already: what is left to go wrong is half of a surrogate pair.
            let Key(text) = serde_json::from_str(raw).map_err(|_| malformed(field, raw, WHOLE_CHARACTERS))?;
            text
        }
        None if raw == "null" => return Ok(None),
        None => return Err(malformed(field, raw, "a string")),
    };
    if text.len() > limit {
        return Err(Reject::TooLong { field, bytes: text.len(), limit });
    }
    Ok((!text.is_empty()).then_some(text))
}

fn listed<'a>(
    raw: &'a str,
    field: &'static str,
    takes: &'static str,
    is: impl Fn(&str) -> bool,
) -> Result<Option<Value<'a>>, Reject> {
    match string(raw, field, WORD_BYTES)? {
        Some(text) if is(&text) => Ok(Some(Value::Text(text))),
        Some(_) => Err(malformed(field, raw, takes)),
        None => Ok(None),
    }
}

fn listed_names<'a>(raw: &'a str, field: &'static str, names: &[&str]) -> Result<Option<Value<'a>>, Reject> {
    match string(raw, field, WORD_BYTES)? {
        Some(text) if names.contains(&&*text) => Ok(Some(Value::Text(text))),
        Some(_) => Err(malformed(field, raw, format!("one of {}", names.join(", ")))),
        None => Ok(None),
    }
}

/// An optional sign, digits, and optionally a point and digits: what a database's decimal column takes.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn number<'a>(raw: &'a str, field: &'static str) -> Result<Value<'a>, Reject> {
    let finite = raw.parse::<f64>().is_ok_and(f64::is_finite);
    if finite && raw.len() <= WORD_BYTES {
        Ok(Value::Number(Cow::Borrowed(raw)))
    } else {
        Err(malformed(field, raw, "a number"))
    }
}

fn integer(raw: &str, field: &'static str) -> Result<Option<i64>, Reject> {
    if raw == "null" {
        return Ok(None);
    }
    raw.parse().map(Some).map_err(|_| malformed(field, raw, "an integer"))
}

fn flag(raw: &str, field: &'static str) -> Result<Option<bool>, Reject> {
    match raw {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        "null" => Ok(None),
        _ => Err(malformed(field, raw, "true or false")),
    }
}

fn time(raw: &str, field: &'static str, zone: &TimeZone) -> Result<Option<Timestamp>, Reject> {
    let Some(text) = string(raw, field, WORD_BYTES)? else { return Ok(None) };
    let takes = "a date and time that exist, with their offset, such as 2024-03-05T10:11:12Z";
    parse_time(&text, zone).map(Some).ok_or_else(|| malformed(field, raw, takes))
}

/// An object of words, such as `{"email": "out"}`, or null to clear one.
fn words<'a>(raw: &'a str, field: &'static str) -> Result<Value<'a>, Reject> {
    let bad = || malformed(field, raw, "an object of strings, such as {\"email\": \"out\"}");
    if raw.len() > TEXT_BYTES {
        return Err(Reject::TooLong { field, bytes: raw.len(), limit: TEXT_BYTES });
    }
    let Members(mut members) = serde_json::from_str(raw).map_err(|_| bad())?;
    members.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Reject::Twice { field: format!("{field}.{}", shown(&pair[0].0)) });
    }
    for (name, value) in &members {
        if name.len() > WORD_BYTES || string(value, field, WORD_BYTES).is_err() {
            return Err(bad());
        }
    }
    Ok(Value::Json(compact(raw)))
}

fn malformed(field: &'static str, raw: &str, takes: impl Into<Cow<'static, str>>) -> Reject {
    Reject::Malformed { field: Cow::Borrowed(field), found: shown(raw), takes: takes.into() }
}

/// A value's beginning, for an error.
fn shown(raw: &str) -> String {
    let mut text: String = raw.chars().take(SHOWN_CHARS).collect();
    if text.len() < raw.len() {
        text.push('…');
    }
    text
}

/// JSON without insignificant white space.
fn compact(raw: &str) -> Cow<'_, str> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    // Only objects and arrays have any.
    if !raw.starts_with(['{', '[']) || !raw.bytes().any(is_space) {
        return Cow::Borrowed(raw);
    }
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(raw.len()), false, false);
    for character in raw.chars() {
        if in_string {
            in_string = character != '"' || escaped;
            escaped = character == '\\' && !escaped;
        } else if character.is_ascii() && is_space(character as u8) {
            continue;
        } else {
            in_string = character == '"';
        }
        out.push(character);
    }
    Cow::Owned(out)
}

fn is_too_deep(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING {
            return true;
        }
    }
    false
}

/// Whether a `\u` escape stands for half of a surrogate pair: no character, which the parser of raw values lets pass and
/// most readers refuse.
fn has_half_characters(json: &str) -> bool {
    let bytes = json.as_bytes();
    let (mut at, mut wants_low) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes[at..].strip_prefix(b"\\u").and_then(|rest| rest.first_chunk::<4>());
        let unit = digits.and_then(|digits| u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let is_low = unit.is_some_and(|unit| (0xdc00..0xe000).contains(&unit));
        if wants_low != is_low {
            return true;
        }
        wants_low = unit.is_some_and(|unit| (0xd800..0xdc00).contains(&unit));
        at += match (byte, unit) {
            (b'\\', Some(_)) => 6,
            (b'\\', None) => 2,
            _ => 1,
        };
    }
    false
}

impl Reject {
    /// A record that is no JSON object, by the parser's own message, which may repeat what it found at any length.
    pub fn not_json(message: impl std::fmt::Display) -> Reject {
        // Nearly every record is one line, and is a line of a file that has a number of its own.
        let message = message.to_string().replace(" at line 1 column ", " at column ");
        match message.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => Reject::NotJson(format!("{}…", &message[..end])),
            None => Reject::NotJson(message),
        }
    }
}
