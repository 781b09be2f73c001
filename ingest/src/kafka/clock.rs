//! What time it may be in the log, given all that stands in `touchline.progress`. Pure.
//!
//! T is the earliest completeness of all partitions of all required sources, and never later than the time stamp of the
//! ticker's own record before it listed those partitions: a partition that was made after that is not in the list, and
//! what it holds happened, or at least was written, later. Without a required source that time stamp is T: silence then
//! needs no proof, which is what such a configuration says.
//!
//! T never goes back. A required source that the configuration does not know, whose topic does not exist, or that has a
//! partition without a claim holds it where it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use touchline_core::rules::Rules;

use super::progress::{Entry, SourcePartition};

/// All that is known of completeness, rules and the last tick.
#[derive(Debug, Default)]
pub(super) struct Clock {
    claims: BTreeMap<SourcePartition, Timestamp>,
    rules: Option<InForce>,
    through: Option<Timestamp>,
}

/// Rules and the revision that they are known by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InForce {
    pub(super) revision: u64,
    pub(super) rules: Rules,
}

/// The partitions of a source's topics, as brokers list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Partitions(Vec<SourcePartition>),
    /// Not all of its topics exist, or could be listed, or the configuration has none.
    Unknown,
}

impl Clock {
    /// Takes an entry of `progress`. `true`: it puts other rules in force.
    pub(super) fn heed(&mut self, offset: i64, entry: Entry) -> bool {
        match entry {
            Entry::Claim { of, through } => {
                let claim = self.claims.entry(of).or_insert(through);
                *claim = through.max(*claim);
            }
            Entry::Clock { through } => self.through = self.through.max(Some(through)),
            Entry::Rules { rules, base } => {
                // Two processes that start at once may both write the same.
                if self.rules.as_ref().is_none_or(|known| known.rules != *rules) {
                    self.rules = Some(InForce { revision: base.saturating_add(offset.unsigned_abs()), rules: *rules });
                    return true;
                }
            }
            Entry::Mark { .. } => {}
        }
        false
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> Option<&InForce> {
        self.rules.as_ref()
    }

    /// The sources that hold the clock.
    pub(super) fn required(&self) -> &[String] {
        self.rules.as_ref().map_or(&[], |known| &known.rules.required)
    }

    /// The latest T so far.
    pub(super) fn through(&self) -> Option<Timestamp> {
        self.through
    }

    /// Through when a source is complete; `None`: not known of all of it.
    pub(super) fn complete(&self, listed: &Listed) -> Option<Timestamp> {
        match listed {
            // A topic without partitions does not exist yet.
            Listed::Partitions(partitions) => partitions.iter().map(|of| self.claims.get(of).copied()).min().flatten(),
            Listed::Unknown => None,
        }
    }

    /// What T may be, now that the ticker's own record has this time stamp and all required sources are complete through
    /// `complete`. `None`: no tick yet.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        complete: impl Iterator<Item = Option<Timestamp>>,
    ) -> Option<Timestamp> {
        if self.rules.is_some() {
            let earliest = complete.min().unwrap_or(Some(now));
            self.through = self.through.max(earliest.map(|earliest| earliest.min(now)));
        }
        self.through
    }
}
