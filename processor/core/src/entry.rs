//! One record of a timeline, packed: all that its event said, but for the account and contact that it stands under.
//!
//! Entries are ordered by (`occurred_at`, source, id); of two with the same three, the one without a revision comes
//! first. The packed form is part of the state's schema.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;

use crate::codec::{Corrupt, Reader, put_bytes, put_int, put_time, put_uint};
use crate::event::{Event, Kind, Value};
use crate::field::Field;
use crate::keys;

const REVISED: u8 = 1 << 3;
const KIND: u8 = REVISED - 1;

/// A packed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    at: Timestamp,
    bytes: Box<[u8]>,
}

impl Entry {
    /// Packs an event. A void is never packed: it removes.
    pub fn of(event: &Event<'_>) -> Entry {
        let mut out = Vec::with_capacity(128);
        out.push(event.kind as u8 | if event.revision.is_some() { REVISED } else { 0 });
        put_bytes(&mut out, event.source.as_bytes());
        put_bytes(&mut out, event.id.as_bytes());
        if let Some(revision) = event.revision {
            put_int(&mut out, revision);
        }
        put_uint(&mut out, event.fields.len() as u64);
        for (field, value) in &event.fields {
            put_field(&mut out, *field, value);
        }
        for (name, json) in &event.unknown {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, json.as_bytes());
        }
        Entry { at: event.occurred_at, bytes: out.into_boxed_slice() }
    }

    /// Event time.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// What kind of event it packs.
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.get(usize::from(self.bytes.first()? & KIND)).copied()
    }

    /// Unpacks the event; account and contact are left empty.
    pub fn event(&self) -> Result<Event<'_>, Corrupt> {
        let mut reader = Reader::new(&self.bytes, "timeline entry");
        let first = reader.byte()?;
        let kind = *Kind::ALL.get(usize::from(first & KIND)).ok_or(reader.corrupt())?;
        let source = Cow::Borrowed(reader.text()?);
        let id = Cow::Borrowed(reader.text()?);
        let revision = if first & REVISED != 0 { Some(reader.int()?) } else { None };
        let mut fields = Vec::with_capacity(reader.count()?);
        for _ in 0..fields.capacity() {
            fields.push(read_field(&mut reader)?);
        }
        let mut unknown = Vec::new();
        while !reader.is_empty() {
            unknown.push((Cow::Borrowed(reader.text()?), Cow::Borrowed(reader.text()?)));
        }
        let (account, contact) = (Cow::Borrowed(""), Cow::Borrowed(""));
        Ok(Event { kind, id, source, occurred_at: self.at, account, contact, revision, void: false, fields, unknown })
    }

    /// Its place in the timeline, as it stands in keys.
    pub fn key(&self) -> Result<Vec<u8>, Corrupt> {
        let mut reader = Reader::new(&self.bytes, "timeline entry");
        let is_revised = reader.byte()? & REVISED != 0;
        Ok(keys::entry(self.at, reader.text()?, reader.text()?, is_revised))
    }

    /// Where a record of these names stands, seen from this entry.
    pub fn compare(&self, at: Timestamp, source: &str, id: &str, revised: bool) -> Ordering {
        self.at.cmp(&at).then_with(|| {
            let Some((first, rest)) = self.bytes.split_first() else { return Ordering::Less };
            let mut reader = Reader::new(rest, "timeline entry");
            let (Ok(own_source), Ok(own_id)) = (reader.bytes(), reader.bytes()) else { return Ordering::Less };
            let own_revised = first & REVISED != 0;
            (own_source, own_id, own_revised).cmp(&(source.as_bytes(), id.as_bytes(), revised))
        })
    }

    /// Appends the entry to a list of entries.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_time(out, self.at);
        put_bytes(out, &self.bytes);
    }

    /// Reads the next of a list of entries.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Entry, Corrupt> {
        Ok(Entry { at: reader.time()?, bytes: reader.bytes()?.into() })
    }

    /// Memory behind it.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }
}

// How a value is packed, in the byte behind its field.s number.
const NULL: u8 = 0;
const TEXT: u8 = 1;
const NUMBER: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const TIME: u8 = 5;
const JSON: u8 = 6;

fn put_field(out: &mut Vec<u8>, field: Field, value: &Value<'_>) {
    out.push(field as u8);
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(flag) => out.push(if *flag { TRUE } else { FALSE }),
        Value::Text(text) => put_text(out, TEXT, text),
        Value::Number(text) => put_text(out, NUMBER, text),
        Value::Json(text) => put_text(out, JSON, text),
        Value::Time(time) => {
            out.push(TIME);
            put_time(out, *time);
        }
    }
}

fn put_text(out: &mut Vec<u8>, tag: u8, text: &str) {
    out.push(tag);
    put_bytes(out, text.as_bytes());
}

fn read_field<'a>(reader: &mut Reader<'a>) -> Result<(Field, Value<'a>), Corrupt> {
    let field = Field::from_number(reader.byte()?).ok_or(reader.corrupt())?;
    let value = match reader.byte()? {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        TEXT => Value::Text(Cow::Borrowed(reader.text()?)),
        NUMBER => Value::Number(Cow::Borrowed(reader.text()?)),
        JSON => Value::Json(Cow::Borrowed(reader.text()?)),
        TIME => Value::Time(reader.time()?),
        _ => return Err(reader.corrupt()),
    };
    Ok((field, value))
}
