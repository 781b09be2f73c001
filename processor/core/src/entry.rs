//! Records of a timeline, packed one behind the other: all that their events said, but for the account and contact that
//! they stand under.
//!
//! Entries are ordered by (`occurred_at`, source, id); of two with the same three, the one without a revision comes
//! first. The packed form is part of the state's schema.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;

use crate::codec::{Corrupt, Reader, put_bytes, put_framed, put_int, put_time, put_uint};
use crate::event::{Event, Kind, Value};
use crate::field::Field;
use crate::keys;
use crate::words;

const REVISED: u8 = 1 << 3;
const KIND: u8 = REVISED - 1;
const WHAT: &str = "timeline entry";

/// Packed events, ascending. In one piece of memory, because a timeline is loaded, stored and appended to far more often
/// than it is searched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    bytes: Vec<u8>,
    count: usize,
    /// Where the newest begins.
    newest: usize,
}

impl Entries {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// All of them.
    pub fn iter(&self) -> Iter<'_> {
        Iter { reader: Reader::new(&self.bytes, WHAT), left: self.count }
    }

    /// The first.
    pub fn first(&self) -> Result<Option<Entry<'_>>, Corrupt> {
        self.iter().next().transpose()
    }

    /// The newest.
    pub fn newest(&self) -> Result<Option<Entry<'_>>, Corrupt> {
        if self.count == 0 {
            return Ok(None);
        }
        let bytes = self.bytes.get(self.newest..).ok_or(Corrupt { what: WHAT })?;
        Entry::read(&mut Reader::new(bytes, WHAT)).map(Some)
    }

    /// The entry of the record that this event names.
    pub fn find(&self, event: &Event<'_>) -> Result<Option<Entry<'_>>, Corrupt> {
        Ok(self.search(event)?.entry)
    }

    /// Adds an event; there must be no entry of its names.
    pub fn insert(&mut self, event: &Event<'_>) -> Result<(), Corrupt> {
        let (at, end) = (self.search(event)?.at, self.bytes.len());
        // Doubling would leave half of a cache empty.
        if self.bytes.capacity() - end < ENTRY_BYTES {
            self.bytes.reserve_exact(ENTRY_BYTES + end / 4);
        }
        put_time(&mut self.bytes, event.occurred_at);
        put_framed(&mut self.bytes, |out| pack(event, out));
        self.count += 1;
        if at == end {
            self.newest = at;
        } else {
            let entry = self.bytes.len() - end;
            self.newest += entry;
            self.bytes[at..].rotate_right(entry);
        }
        Ok(())
    }

    /// Takes out the entry of the record that this event names, if there is one.
    pub fn remove(&mut self, event: &Event<'_>) -> Result<bool, Corrupt> {
        let Place { at, end, entry } = self.search(event)?;
        if entry.is_none() {
            return Ok(false);
        }
        self.bytes.drain(at..end);
        self.recount()?;
        Ok(true)
    }

    /// Takes out all but the first `count`.
    pub fn split_off(&mut self, count: usize) -> Result<Entries, Corrupt> {
        let mut iter = self.iter();
        iter.by_ref().take(count).try_for_each(|entry| entry.map(drop))?;
        let at = self.bytes.len() - iter.reader.rest().len();
        let newer = Entries::from_bytes(&self.bytes[at..])?;
        self.bytes.truncate(at);
        self.recount()?;
        Ok(newer)
    }

    /// As they are stored by themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads [`Entries::as_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Entries, Corrupt> {
        let mut entries = Entries { bytes: bytes.to_vec(), count: 0, newest: 0 };
        entries.recount()?;
        Ok(entries)
    }

    fn recount(&mut self) -> Result<(), Corrupt> {
        let mut reader = Reader::new(&self.bytes, WHAT);
        let (mut count, mut newest) = (0, 0);
        while !reader.is_empty() {
            newest = self.bytes.len() - reader.rest().len();
            Entry::read(&mut reader)?;
            count += 1;
        }
        (self.count, self.newest) = (count, newest);
        Ok(())
    }

    /// Appends them to a stored value, as its last part.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_uint(out, self.count as u64);
        put_uint(out, self.newest as u64);
        out.extend_from_slice(&self.bytes);
    }

    /// Reads what [`Entries::encode`] wrote: the rest of a value. Only the newest is looked at; [`Entries::check`] looks at
    /// all.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Entries, Corrupt> {
        let (count, newest) = (reader.count()?, reader.count()?);
        // Most are loaded because there is one more.
        let mut bytes = Vec::with_capacity(reader.rest().len() + ENTRY_BYTES);
        bytes.extend_from_slice(reader.rest());
        let entries = Entries { bytes, count, newest };
        let mut end = Reader::new(entries.bytes.get(newest..).ok_or(reader.corrupt())?, WHAT);
        if count > 0 {
            Entry::read(&mut end)?;
        }
        if end.is_empty() { Ok(entries) } else { Err(reader.corrupt()) }
    }

    /// Whether each can be read, and they are as many as they say.
    pub fn check(&self) -> Result<(), Corrupt> {
        self.iter().try_for_each(|entry| entry?.event().map(drop))?;
        let mut counted = self.clone();
        counted.recount()?;
        if counted == *self { Ok(()) } else { Err(Corrupt { what: WHAT }) }
    }

    fn search(&self, event: &Event<'_>) -> Result<Place<'_>, Corrupt> {
        let end = self.bytes.len();
        let compare =
            |entry: Entry<'_>| entry.compare(event.occurred_at, &event.source, &event.id, event.revision.is_some());
        // Most events are newer than all.
        if self.newest()?.is_none_or(|newest| compare(newest) == Ordering::Less) {
            return Ok(Place { at: end, end, entry: None });
        }
        let (mut iter, mut at) = (self.iter(), 0);
        while let Some(entry) = iter.next().transpose()? {
            let behind = end - iter.reader.rest().len();
            match compare(entry) {
                Ordering::Less => at = behind,
                Ordering::Equal => return Ok(Place { at, end: behind, entry: Some(entry) }),
                Ordering::Greater => return Ok(Place { at, end: at, entry: None }),
            }
        }
        Ok(Place { at: end, end, entry: None })
    }
}

/// Where an entry is, or would be.
struct Place<'a> {
    at: usize,
    end: usize,
    entry: Option<Entry<'a>>,
}

/// See [`Entries::iter`].
pub(crate) struct Iter<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<Entry<'a>, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(Entry::read(&mut self.reader))
    }
}

/// A packed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    at: Timestamp,
    bytes: &'a [u8],
}

/// Most are smaller.
const ENTRY_BYTES: usize = 128;

/// A void is never packed: it removes.
fn pack(event: &Event<'_>, out: &mut Vec<u8>) {
    out.push(event.kind as u8 | if event.revision.is_some() { REVISED } else { 0 });
    put_bytes(out, event.source.as_bytes());
    put_bytes(out, event.id.as_bytes());
    if let Some(revision) = event.revision {
        put_int(out, revision);
    }
    put_uint(out, event.fields.len() as u64);
    for (field, value) in &event.fields {
        put_field(out, *field, value);
    }
    for (name, json) in &event.unknown {
        put_bytes(out, name.as_bytes());
        put_bytes(out, json.as_bytes());
    }
}

impl<'a> Entry<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Entry<'a>, Corrupt> {
        Ok(Entry { at: reader.time()?, bytes: reader.bytes()? })
    }

    /// Event time.
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// What kind of event it packs.
    pub fn kind(self) -> Option<Kind> {
        Kind::ALL.get(usize::from(self.bytes.first()? & KIND)).copied()
    }

    /// Unpacks the event; account and contact are left empty.
    pub fn event(self) -> Result<Event<'a>, Corrupt> {
        let mut reader = Reader::new(self.bytes, WHAT);
        let first = reader.byte()?;
        let kind = *Kind::ALL.get(usize::from(first & KIND)).ok_or(reader.corrupt())?;
        let source = Cow::Borrowed(reader.text()?);
        let id = Cow::Borrowed(reader.text()?);
        let revision = if first & REVISED != 0 { Some(reader.int()?) } else { None };
        let count = reader.count()?;
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
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
    pub fn key(self) -> Result<Vec<u8>, Corrupt> {
        let mut reader = Reader::new(self.bytes, WHAT);
        let is_revised = reader.byte()? & REVISED != 0;
        Ok(keys::entry(self.at, reader.text()?, reader.text()?, is_revised))
    }

    /// Whether it stands at or behind a place (an [`keys::entry`], a [`keys::moment`], or empty).
    pub fn is_from(self, place: &[u8]) -> Result<bool, Corrupt> {
        // Most moments differ.
        match keys::time_bytes(self.at).as_slice().cmp(&place[..place.len().min(keys::TIME_BYTES)]) {
            Ordering::Equal => Ok(self.key()?.as_slice() >= place),
            order => Ok(order == Ordering::Greater),
        }
    }

    /// Where a record of these names stands, seen from this entry.
    fn compare(self, at: Timestamp, source: &str, id: &str, revised: bool) -> Ordering {
        self.at.cmp(&at).then_with(|| {
            let Some((first, rest)) = self.bytes.split_first() else { return Ordering::Less };
            let mut reader = Reader::new(rest, WHAT);
            let (Ok(own_source), Ok(own_id)) = (reader.bytes(), reader.bytes()) else { return Ordering::Less };
            let own_revised = first & REVISED != 0;
            (own_source, own_id, own_revised).cmp(&(source.as_bytes(), id.as_bytes(), revised))
        })
    }
}

// How a value is packed, in the byte behind its field's number.
const NULL: u8 = 0;
const TEXT: u8 = 1;
const NUMBER: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const TIME: u8 = 5;
const JSON: u8 = 6;
const WORD: u8 = 7;

fn put_field(out: &mut Vec<u8>, field: Field, value: &Value<'_>) {
    out.push(field as u8);
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(flag) => out.push(if *flag { TRUE } else { FALSE }),
        Value::Text(text) => match words::number(text) {
            Some(number) => out.extend_from_slice(&[WORD, number]),
            None => put_text(out, TEXT, text),
        },
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
        WORD => Value::Text(Cow::Borrowed(words::word(reader.byte()?).ok_or(reader.corrupt())?)),
        NUMBER => Value::Number(Cow::Borrowed(reader.text()?)),
        JSON => Value::Json(Cow::Borrowed(reader.text()?)),
        TIME => Value::Time(reader.time()?),
        _ => return Err(reader.corrupt()),
    };
    Ok((field, value))
}
