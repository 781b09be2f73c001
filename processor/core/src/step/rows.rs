//! The small rows beside contacts and accounts: the records of one occasion, and where a record with a revision stands.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::codec::{Corrupt, Reader, put_bytes, put_int, put_time, put_uint};
use crate::event::Event;
use crate::keys;

/// What is known of a group: its best record so far, and what else of an occasion matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// (weight, place in the timeline) of the record that is counted.
    pub best: Option<(f64, Vec<u8>)>,
    /// A planned engagement belongs to it.
    pub is_planned: bool,
    /// It was attended, missed or called off, so that what was planned does not count by itself.
    pub is_settled: bool,
}

impl Group {
    /// Whether a record is counted rather than the best so far: the heavier, then the earlier.
    pub fn is_better(&self, weight: f64, entry: &[u8]) -> bool {
        self.best.as_ref().is_none_or(|(best, place)| weight > *best || (weight == *best && entry < &place[..]))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.is_planned) | u8::from(self.is_settled) << 1];
        if let Some((weight, entry)) = &self.best {
            out.extend_from_slice(&weight.to_bits().to_le_bytes());
            out.extend_from_slice(entry);
        }
        out
    }

    pub fn decode(value: &[u8]) -> Result<Group, Corrupt> {
        let mut reader = Reader::new(value, "group");
        let flags = reader.byte()?;
        let best = if reader.is_empty() { None } else { Some((reader.float()?, reader.rest().to_vec())) };
        Ok(Group { best, is_planned: flags & 1 != 0, is_settled: flags & 2 != 0 })
    }
}

/// Where a record with a revision stands.
pub(super) struct Revision {
    pub revision: i64,
    pub version: u64,
    /// The canonical bytes of a void; otherwise the record's contact and time.
    pub standing: Result<(String, Timestamp), Vec<u8>>,
}

impl Revision {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_int(&mut out, self.revision);
        put_uint(&mut out, self.version);
        out.push(u8::from(self.standing.is_ok()));
        match &self.standing {
            Ok((contact, at)) => {
                put_bytes(&mut out, contact.as_bytes());
                put_time(&mut out, *at);
            }
            Err(void) => put_bytes(&mut out, void),
        }
        out
    }

    pub fn decode(value: &[u8]) -> Result<Revision, Corrupt> {
        let mut reader = Reader::new(value, "revision");
        let (revision, version) = (reader.int()?, reader.uint()?);
        let standing = match reader.byte()? {
            0 => Err(reader.bytes()?.to_vec()),
            _ => Ok((reader.text()?.to_owned(), reader.time()?)),
        };
        Ok(Revision { revision, version, standing })
    }
}

/// The key, in [`keys::table::VOIDED`], that goes with the value of a row in [`keys::table::REVISION`]; `None` if that is not
/// of a void. States of schema 4 lack it.
pub fn voided(row: &[u8]) -> Result<Option<Vec<u8>>, Corrupt> {
    let Err(void) = Revision::decode(row)?.standing else { return Ok(None) };
    let event = Event::parse(&void, &TimeZone::UTC).ok();
    Ok(event.map(|event| voided_by(&event)))
}

/// The key that leads from a contact to a record that was voided in its name.
pub(super) fn voided_by(event: &Event<'_>) -> Vec<u8> {
    keys::voided(&keys::contact(&event.account, &event.contact), &event.source, &event.id)
}
