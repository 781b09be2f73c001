//! A contact's record: what the state machine needs to know without reading the whole timeline, and the newest entries.
//!
//! Everything but the ledger and the version is a function of the timeline, the rules, the account's profile and the last
//! tick, whatever the order of arrival.

use jiff::Timestamp;
use smol_str::SmolStr;

use crate::codec::{Corrupt, Reader, put_bytes, put_float, put_int, put_time_option, put_uint};
use crate::coverage::Coverage;
use crate::decay::Decay;
use crate::entry::Entries;
use crate::lapse::{Standing, Watch};
use crate::profile::Profile;
use crate::words;

/// The form of a stored contact.
const VERSION: u8 = 3;
/// The form before: without `since`.
const NEVER_FORGOTTEN: u8 = 2;

/// One contact, or (with an empty name) what happened to an account itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contact {
    /// Grows by one with each record that changes the contact.
    pub version: u64,
    /// Records in the timeline.
    pub entries: u64,
    /// Counted engagements' times.
    pub times: Coverage,
    /// What has been told of its silences.
    pub watch: Watch,
    /// What its engagements are worth.
    pub tally: Tally,
    /// Touches after the last counted engagement.
    pub touches_since: u64,
    /// Planned engagements that the last tick has not passed.
    pub planned: u64,
    /// What is known of the person.
    pub profile: Profile,
    /// How the relationship stood when it was last looked at.
    pub standing: Standing,
    /// When its timer is filed.
    pub filed: Option<Timestamp>,
    /// It was forgotten and has come back: nothing that occurred before this is taken.
    pub since: Option<Timestamp>,
    /// The newest entries, ascending.
    pub(crate) recent: Entries,
    /// Where the newest entries begin, as an [`crate::keys::entry`]; `None` while there are no pages.
    pub(crate) floor: Option<Box<[u8]>>,
}

/// Sums over counted engagements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many; joining one occasion twice is one.
    pub engagements: u64,
    /// The newest.
    pub as_of: Option<Timestamp>,
    /// The newest conversation.
    pub last_two_way: Option<Timestamp>,
    /// The landmark of `parts`.
    pub landmark: i64,
    /// Points by vehicle, as [`Decay::grown`]; in order of name.
    pub parts: Vec<(SmolStr, f64)>,
}

impl Tally {
    /// Adds a counted engagement that weighs `weight`.
    pub fn add(&mut self, vehicle: &str, weight: f64, at: Timestamp, decay: Decay) {
        self.engagements += 1;
        if weight <= 0.0 {
            return;
        }
        self.see(at, decay);
        let points = weight * decay.grown(at, self.landmark);
        match self.parts.binary_search_by(|(name, _)| name.as_str().cmp(vehicle)) {
            Ok(place) => self.parts[place].1 += points,
            Err(place) => self.parts.insert(place, (vehicle.into(), points)),
        }
    }

    fn see(&mut self, at: Timestamp, decay: Decay) {
        if self.as_of.is_some_and(|as_of| at <= as_of) {
            return;
        }
        let landmark = decay.landmark(at);
        if self.as_of.is_none() {
            self.landmark = landmark;
        } else if landmark > self.landmark {
            let shift = decay.shift(self.landmark, landmark);
            self.parts.iter_mut().for_each(|(_, points)| *points *= shift);
            self.landmark = landmark;
        }
        self.as_of = Some(at);
    }

    /// The sum of all parts, on the landmark.
    pub fn points(&self) -> f64 {
        self.parts.iter().map(|(_, points)| points).sum()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_uint(out, self.engagements);
        put_time_option(out, self.as_of);
        put_time_option(out, self.last_two_way);
        put_int(out, self.landmark);
        put_uint(out, self.parts.len() as u64);
        for (name, points) in &self.parts {
            words::put(out, name);
            put_float(out, *points);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Tally, Corrupt> {
        let mut tally = Tally {
            engagements: reader.uint()?,
            as_of: reader.time_option()?,
            last_two_way: reader.time_option()?,
            landmark: reader.int()?,
            parts: Vec::new(),
        };
        let count = reader.count()?;
        tally.parts.reserve_exact(count);
        for _ in 0..count {
            tally.parts.push((words::read(reader)?, reader.float()?));
        }
        Ok(tally)
    }
}

impl Contact {
    /// When its timer is filed.
    pub fn filed(&self) -> Option<Timestamp> {
        self.filed
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_uint(out, self.version);
        put_uint(out, self.entries);
        self.times.encode(out);
        self.watch.encode(out);
        self.tally.encode(out);
        put_uint(out, self.touches_since);
        put_uint(out, self.planned);
        self.profile.encode(out);
        out.push(self.standing as u8);
        put_time_option(out, self.filed);
        put_time_option(out, self.since);
        put_bytes(out, self.floor.as_deref().unwrap_or_default());
        self.recent.encode(out);
    }

    /// Reads what [`Contact::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Contact, Corrupt> {
        let mut reader = Reader::new(bytes, "contact record");
        let version = reader.byte()?;
        if !matches!(version, NEVER_FORGOTTEN | VERSION) {
            return Err(reader.corrupt());
        }
        let mut contact = Contact {
            version: reader.uint()?,
            entries: reader.uint()?,
            times: Coverage::decode(&mut reader)?,
            watch: Watch::decode(&mut reader)?,
            tally: Tally::decode(&mut reader)?,
            touches_since: reader.uint()?,
            planned: reader.uint()?,
            profile: Profile::decode(&mut reader)?,
            standing: read_standing(&mut reader)?,
            filed: reader.time_option()?,
            since: if version == VERSION { reader.time_option()? } else { None },
            ..Contact::default()
        };
        let floor = reader.bytes()?;
        contact.floor = (!floor.is_empty()).then(|| floor.into());
        contact.recent = Entries::decode(&mut reader)?;
        Ok(contact)
    }

    /// Whether all of it can be read, which [`Contact::decode`] leaves in part for when it is needed.
    pub fn check(&self) -> Result<(), Corrupt> {
        self.times.check()?;
        self.recent.check()
    }
}

/// Reads a standing by number.
pub(crate) fn read_standing(reader: &mut Reader<'_>) -> Result<Standing, Corrupt> {
    const ALL: [Standing; 4] = [Standing::Never, Standing::Active, Standing::AtRisk, Standing::Lapsed];
    ALL.get(usize::from(reader.byte()?)).copied().ok_or(reader.corrupt())
}
