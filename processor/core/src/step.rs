//! The state machine: a record in, a new state and outputs out.
//!
//! [`Machine::apply`] takes the records of a log in order. A tick or a rules record may touch every contact: such work is
//! done in slices ([`Step::More`], then [`Machine::resume`]), so that a commit can come between, and its cursor is part
//! of the machine's own record. [`Machine::save`] comes before every commit. The same log gives the same outputs,
//! wherever the commits fell (but of scores, of which the newest of a batch is enough).

mod admit;
mod counted;
mod erase;
mod news;
mod rebuild;
mod rows;
mod subject;
mod visit;

use jiff::Timestamp;

use crate::codec::{Corrupt, Reader, put_bytes, put_time_option, put_uint};
use crate::erasure::{ErasureKey, Erasures, OtherErasureKey};
use crate::keys;
use crate::output::Outputs;
use crate::record::Record;
use crate::rules::Rules;
use crate::state::State;
pub use rows::voided;

pub use crate::timeline::{Result, StepError};
use visit::Work;

/// The form of the machine's stored record.
const VERSION: u8 = 3;
/// The form before: without erasures.
const NOBODY_FORGOTTEN: u8 = 2;

/// Whether a record is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is: the next record may come.
    Done,
    /// It is not: commit if you like, then [`Machine::resume`].
    More,
}

/// What the machine has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were news.
    pub events: u64,
    /// Events that were known already, or of an older revision.
    pub duplicates: u64,
    /// Events of contacts who have been forgotten.
    pub suppressed: u64,
    /// Contacts forgotten.
    pub erased: u64,
    /// Alert changes published.
    pub alerts: u64,
    /// Of them, lapses opened for contacts.
    pub opened: u64,
}

/// The state machine of one partition.
#[derive(Debug, Default)]
pub struct Machine {
    rules: Rules,
    /// Of the newest rules that have come, in force or on their way; 0 before any that had one.
    revision: u64,
    generation: u64,
    /// The last tick.
    tick: Option<Timestamp>,
    /// What was due before this was made due by a rules record.
    backlog_before: Option<Timestamp>,
    work: Option<Work>,
    /// What forgotten contacts are known by.
    erasures: Erasures,
    /// No timer is filed before this; `None` while it is not known.
    next_timer: Option<Timestamp>,
    counts: Counts,
    /// Key and value of a score are written here.
    scratch: (Vec<u8>, Vec<u8>),
}

/// The machine at work on one record.
struct Apply<'a, S, O> {
    machine: &'a mut Machine,
    state: &'a mut S,
    out: &'a mut O,
}

impl Machine {
    /// The machine as it was when the state was committed; a new one on an empty state.
    pub fn load<S: State>(state: &mut S) -> Result<Machine, S> {
        match state.get(&keys::machine()).map_err(StepError::State)? {
            Some(value) => Ok(Machine::decode(&value)?),
            None => Ok(Machine::default()),
        }
    }

    /// Knows forgotten contacts by this key from here on; it must be the one that they were forgotten with.
    pub fn set_erasure_key(&mut self, key: ErasureKey) -> std::result::Result<(), OtherErasureKey> {
        self.erasures.set_key(key)
    }

    /// The last tick.
    pub fn last_tick(&self) -> Option<Timestamp> {
        self.tick
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What versions of scores are above all others by. Rises when a state is made again from less than the whole log.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Publishes with versions of this generation from here on.
    pub fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// What has been done since the machine was loaded.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a record is not finished.
    pub fn is_unfinished(&self) -> bool {
        self.work.is_some()
    }

    /// Takes the next record of the log. The one before must be finished.
    pub fn apply<S: State, O: Outputs>(&mut self, record: &Record<'_>, state: &mut S, out: &mut O) -> Result<Step, S> {
        match record {
            Record::Event(event) => {
                Apply { machine: self, state, out }.event(event)?;
            }
            // Of somebody who did not know the newest rules yet: another's, who did, come too.
            Record::Tick { rules, .. } if rules.is_some_and(|known| known < self.revision) => {}
            Record::Tick { through, .. } => self.begin_tick(*through),
            Record::Rules { revision, .. } if revision.is_some_and(|revision| revision <= self.revision) => {}
            Record::Rules { rules, revision } => {
                self.revision = revision.unwrap_or(self.revision);
                self.begin_rules(rules);
            }
        }
        match self.work {
            Some(_) => self.resume(state, out),
            None => Ok(Step::Done),
        }
    }

    /// Goes on with an unfinished record, for one slice.
    pub fn resume<S: State, O: Outputs>(&mut self, state: &mut S, out: &mut O) -> Result<Step, S> {
        Apply { machine: self, state, out }.slice()
    }

    /// Stores the machine: to be called before every commit.
    pub fn save<S: State>(&self, state: &mut S) {
        state.put(keys::machine(), self.encode());
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_uint(&mut out, self.generation);
        put_time_option(&mut out, self.tick);
        put_time_option(&mut out, self.backlog_before);
        put_bytes(&mut out, &rules_json(&self.rules));
        put_uint(&mut out, self.revision);
        out.push(u8::from(self.work.is_some()));
        if let Some(work) = &self.work {
            work.encode(&mut out);
        }
        self.erasures.encode(&mut out);
        out
    }

    fn decode(value: &[u8]) -> std::result::Result<Machine, Corrupt> {
        let mut reader = Reader::new(value, "machine record");
        let version = reader.byte()?;
        if !matches!(version, NOBODY_FORGOTTEN | VERSION) {
            return Err(reader.corrupt());
        }
        Ok(Machine {
            generation: reader.uint()?,
            tick: reader.time_option()?,
            backlog_before: reader.time_option()?,
            rules: read_rules(&mut reader)?,
            revision: reader.uint()?,
            work: if reader.byte()? == 0 { None } else { Some(Work::decode(&mut reader)?) },
            erasures: if version == VERSION { Erasures::decode(&mut reader)? } else { Erasures::default() },
            ..Machine::default()
        })
    }
}

fn rules_json(rules: &Rules) -> Vec<u8> {
    // Rules hold nothing that JSON cannot.
    serde_json::to_vec(rules).unwrap_or_default()
}

fn read_rules(reader: &mut Reader<'_>) -> std::result::Result<Rules, Corrupt> {
    let json = reader.bytes()?;
    serde_json::from_slice(json).map_err(|_| reader.corrupt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use jiff::tz::TimeZone;

    use super::*;
    use crate::output::Published;
    use crate::record::tick_record;
    use crate::state::Memory;

    fn months(months: u32) -> Rules {
        let mut rules = Rules::default();
        rules.lapse.months = months;
        rules
    }

    /// The last tick and the threshold in force after these records.
    fn check(log: &[Vec<u8>], tick: &str, months: u32) {
        let (mut state, mut out) = (Memory::default(), Vec::<Published>::new());
        let mut machine = Machine::default();
        for line in log {
            let record = Record::parse(line, &TimeZone::UTC).unwrap();
            let mut step = machine.apply(&record, &mut state, &mut out).unwrap();
            while step == Step::More {
                step = machine.resume(&mut state, &mut out).unwrap();
            }
            machine.save(&mut state);
            machine = Machine::load(&mut state).unwrap();
        }
        assert_eq!(machine.last_tick(), Some(tick.parse().unwrap()));
        assert_eq!(machine.rules().lapse.months, months);
    }

    #[test]
    fn of_rules_and_ticks_the_older_are_ignored() {
        let tick = |through: &str, rules| tick_record(through.parse().unwrap(), rules);
        let (may, june) = ("2024-05-01T00:00:00Z", "2024-06-01T00:00:00Z");
        check(&[months(4).to_record(Some(7)), tick(may, Some(7))], may, 4);
        check(&[tick(june, None), tick(may, None)], june, 3);
        let newer_then_older = [months(4).to_record(Some(7)), months(5).to_record(Some(6)), tick(may, None)];
        check(&newer_then_older, may, 4);
        check(&[months(4).to_record(Some(7)), tick(may, Some(7)), tick(june, Some(6))], may, 4);
        check(&[months(4).to_record(Some(7)), months(5).to_record(Some(8)), tick(june, Some(8))], june, 5);
        check(&[months(4).to_record(Some(7)), months(5).to_record(None), tick(may, Some(7))], may, 5);
    }
}
