//! The values of fields: JSON as it stands → a value that its field takes.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::members::{Key, Members};
use super::reject::{Reject, malformed, shown};
use super::{Interaction, Kind, NESTING, Status, Value};
use crate::field::{TEXT_BYTES, Type, WORD_BYTES};

/// What a string with half of a surrogate pair in it should have been.
pub(super) const WHOLE_CHARACTERS: &str = "text whose \\u escapes are whole characters";

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

/// A value of a known field; `None`: it reads as absent.
pub(super) fn known<'a>(
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

pub(super) fn kind(raw: &str) -> Result<Option<Kind>, Reject> {
    let Some(name) = string(raw, "kind", usize::MAX)? else { return Ok(None) };
    match Kind::from_name(&name) {
        Some(kind) => Ok(Some(kind)),
        None => Err(malformed("kind", raw, "one of touch, engagement, advocacy, value, profile, action")),
    }
}

/// A string of at most `limit` bytes; `null` and the empty string are absent.
pub(super) fn string<'a>(raw: &'a str, field: &'static str, limit: usize) -> Result<Option<Cow<'a, str>>, Reject> {
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

pub(super) fn integer(raw: &str, field: &'static str) -> Result<Option<i64>, Reject> {
    if raw == "null" {
        return Ok(None);
    }
    raw.parse().map(Some).map_err(|_| malformed(field, raw, "an integer"))
}

pub(super) fn flag(raw: &str, field: &'static str) -> Result<Option<bool>, Reject> {
    match raw {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        "null" => Ok(None),
        _ => Err(malformed(field, raw, "true or false")),
    }
}

pub(super) fn time(raw: &str, field: &'static str, zone: &TimeZone) -> Result<Option<Timestamp>, Reject> {
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

/// JSON without insignificant white space.
pub(super) fn compact(raw: &str) -> Cow<'_, str> {
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

pub(super) fn is_too_deep(json: &str) -> bool {
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
pub(super) fn has_half_characters(json: &str) -> bool {
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
