//! The canonical format: one JSON object, an event or a record of a log (a tick, the rules).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use touchline_core::event::{Event, Reject, check_future};
use touchline_core::record::Record;

use crate::identity::{Identity, Tracked};

/// The zones of bare dates: a source's own, else UTC.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    by_source: BTreeMap<String, TimeZone>,
}

impl Zones {
    /// From the sources that have a zone of their own.
    pub fn new(by_source: impl IntoIterator<Item = (String, TimeZone)>) -> Zones {
        Zones { by_source: by_source.into_iter().filter(|(_, zone)| *zone != TimeZone::UTC).collect() }
    }

    fn of(&self, event: &Event<'_>) -> Option<&TimeZone> {
        if self.by_source.is_empty() { None } else { self.by_source.get(&*event.source) }
    }
}

/// What turns bytes into records: all that they depend on besides themselves and their arrival.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// For bare dates.
    pub zones: Zones,
    /// For events that do not say whose they are.
    pub identity: Identity,
}

/// A valid record.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded<'a> {
    /// An event with its account, a tick, or the rules.
    Record(Record<'a>),
    /// An event of our own people: to be counted, and not to be tracked.
    Internal,
}

impl Decoder {
    /// Decodes one record. No event may lie more than ten minutes after `arrived`; ticks and rules may.
    ///
    /// # Errors
    /// The sentence for the dead letter.
    pub fn decode<'a>(&self, bytes: &'a [u8], arrived: Timestamp) -> Result<Decoded<'a>, Reject> {
        let event = match self.parse(bytes)? {
            Record::Event(event) => event,
            control => return Ok(Decoded::Record(control)),
        };
        check_future(&event, arrived)?;
        Ok(match self.identity.resolve(event)? {
            Tracked::Event(event) => Decoded::Record(Record::Event(event)),
            Tracked::Internal => Decoded::Internal,
        })
    }

    fn parse<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, Reject> {
        let record = Record::parse(bytes, &TimeZone::UTC)?;
        match &record {
            // Only the record itself says which source's zone its dates are in.
            Record::Event(event) => match self.zones.of(event) {
                Some(zone) => Record::parse(bytes, zone),
                None => Ok(record),
            },
            _ => Ok(record),
        }
    }
}
