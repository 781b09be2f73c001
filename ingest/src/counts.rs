//! What a run has read so far.

use std::collections::BTreeMap;

/// Sums over all files of a run. `read` = `events` + `ticks` + `rules` + `internal` + `dead`, where a damaged file adds
/// one to `dead` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines or rows that are not blank, without headers.
    pub read: u64,
    /// Events to be processed.
    pub events: u64,
    /// Ticks of a log.
    pub ticks: u64,
    /// Rules records of a log.
    pub rules: u64,
    /// Events of our own people.
    pub internal: u64,
    /// Dead letters.
    pub dead: u64,
    /// Dead letters by [`crate::formats::Fault::reason`].
    pub reasons: BTreeMap<&'static str, u64>,
    /// Lines with nothing on them.
    pub blank: u64,
}
