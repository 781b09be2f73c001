//! How far a source partition has been read, and since when it may be called complete.
//!
//! A sample says: at `at`, by the broker's clock, or a moment later the partition ended at `end`. The partition is
//! complete through `at` once all before `end` has been read, or is gone, and all outputs of it are acknowledged.
//!
//! "Read" is the consumer's position and not the last record's offset: transaction markers and aborted records take up
//! offsets at the end of a partition that no reader is ever given. (Compaction takes none there: the last segment of a
//! log is not compacted.) A position that was beyond the end when that was sampled is of a log that is there no more: a
//! topic that was made anew, or cut short. Nothing is complete then until it is read again from its beginning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use jiff::Timestamp;

use super::client::lock;
use super::flight::Stint;
use super::progress::SourcePartition;

/// How many samples wait to be passed: two seconds' of them, longer than outputs are under way. Beyond that the partition
/// has a backlog, and the oldest ones tell how it is worked off.
const SAMPLES: usize = 8;

/// Where a partition began and ended shortly after a moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) stint: Stint,
    pub(super) of: SourcePartition,
    /// The moment, by the broker's clock.
    pub(super) at: Timestamp,
    /// The position before `end` was asked for.
    pub(super) position: Option<i64>,
    /// The first offset that is not gone.
    pub(super) low: i64,
    /// The offset that the next record will have, transactions that are still open included.
    pub(super) end: i64,
}

/// What a sample shows to be wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Records from the first offset to before the second were gone before they were read.
    Expired(i64, i64),
    /// It ends before what has been read of it: it has to be read again from its beginning.
    Torn,
}

/// One stint's reading of a source partition.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) stint: Stint,
    /// Index of its source.
    pub(super) source: usize,
    /// What is committed, as far as is known.
    pub(super) committed: Option<i64>,
    /// `None`: from the beginning, wherever that is.
    position: Option<i64>,
    samples: VecDeque<Sample>,
    /// A jump over offsets that may have been gone.
    gap: Option<(i64, i64)>,
    is_torn: bool,
}

impl Reading {
    pub(super) fn new(stint: Stint, source: usize, committed: Option<i64>) -> Reading {
        let samples = VecDeque::with_capacity(SAMPLES);
        Reading { stint, source, committed, position: committed, samples, gap: None, is_torn: false }
    }

    /// A record at `offset` has been read. `false`: of a log that has begun anew, which needs a stint of its own.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        if let Some(position) = self.position {
            if offset < position {
                return false;
            }
            if offset > position {
                self.gap.get_or_insert((position, offset));
            }
        }
        self.position = Some(offset + 1);
        self.is_torn = false;
        true
    }

    /// The consumer's position; `None` before it has one.
    pub(super) fn is_at(&mut self, position: Option<i64>) {
        self.position = position.or(self.position);
    }

    /// The next offset to read.
    pub(super) fn position(&self) -> Option<i64> {
        self.position
    }

    /// Before it all is acknowledged, if `oldest` is the oldest record that is not.
    pub(super) fn done(&self, oldest: Option<i64>) -> Option<i64> {
        oldest.or(self.position)
    }

    /// Whether a sample waits to be passed.
    pub(super) fn is_sampled(&self) -> bool {
        !self.samples.is_empty()
    }

    /// Takes a sample.
    pub(super) fn sample(&mut self, sample: Sample) -> Option<Finding> {
        let is_beyond = sample.position.is_some_and(|position| position > sample.end);
        let found = if is_beyond && !self.is_torn {
            self.is_torn = true;
            self.samples.clear();
            Some(Finding::Torn)
        } else {
            let gap = self.gap.take().filter(|(_, to)| sample.low >= *to);
            gap.map(|(from, to)| Finding::Expired(from, to))
        };
        if self.samples.len() < SAMPLES {
            self.samples.push_back(sample);
        }
        found
    }

    /// The latest moment through which the partition has become complete since the last call, if `oldest` is the oldest
    /// record whose output is under way.
    pub(super) fn judge(&mut self, oldest: Option<i64>) -> Option<Timestamp> {
        let (position, is_torn) = (self.position, self.is_torn);
        let is_passed = |sample: &&Sample| {
            let is_read = !is_torn && position.is_some_and(|position| position >= sample.end);
            let is_acknowledged = oldest.is_none_or(|oldest| oldest >= sample.end);
            (is_read || sample.low >= sample.end) && is_acknowledged
        };
        let mut through = None;
        while let Some(sample) = self.samples.front().filter(is_passed) {
            through = through.max(Some(sample.at));
            self.samples.pop_front();
        }
        through
    }
}

/// The partitions that this process reads, for those that sample their ends.
#[derive(Default)]
pub(super) struct Owned(Mutex<BTreeMap<SourcePartition, (Stint, Option<i64>)>>);

impl Owned {
    /// A partition is this process's, and read up to this position.
    pub(super) fn put(&self, of: SourcePartition, stint: Stint, position: Option<i64>) {
        lock(&self.0).insert(of, (stint, position));
    }

    /// A partition is so no more.
    pub(super) fn remove(&self, of: &SourcePartition) {
        lock(&self.0).remove(of);
    }

    /// A source's partitions, each with its stint and position.
    pub(super) fn of(&self, source: &str) -> Vec<(SourcePartition, Stint, Option<i64>)> {
        let owned = lock(&self.0);
        let all = owned.iter().filter(|(of, _)| of.source == source);
        all.map(|(of, (stint, position))| (of.clone(), *stint, *position)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a reading.
    enum Step {
        Read(i64),
        /// The consumer's position, as it tells it.
        At(i64),
        /// Sampled at this second: position before, low, end.
        Sample(i64, Option<i64>, i64, i64),
    }
    use Step::{At, Read, Sample as Sampled};

    /// Steps of a reading from `committed`, with the oldest record under way at the end; which second is complete then.
    fn check(committed: Option<i64>, steps: &[Step], oldest: Option<i64>, complete: Option<i64>) {
        let (reading, _) = after(committed, steps);
        let mut reading = reading;
        assert_eq!(reading.judge(oldest).map(Timestamp::as_second), complete);
    }

    fn after(committed: Option<i64>, steps: &[Step]) -> (Reading, Vec<Finding>) {
        let mut reading = Reading::new(1, 0, committed);
        let mut found = Vec::new();
        for step in steps {
            match *step {
                Read(offset) => assert!(reading.read(offset)),
                At(position) => reading.is_at(Some(position)),
                Sampled(second, position, low, end) => {
                    let of = SourcePartition { source: "s".to_owned(), topic: "t".to_owned(), partition: 0 };
                    let at = Timestamp::from_second(second).unwrap();
                    found.extend(reading.sample(Sample { stint: 1, of, at, position, low, end }));
                }
            }
        }
        (reading, found)
    }

    #[test]
    fn complete_once_the_end_is_passed_and_acknowledged() {
        check(Some(5), &[Sampled(1, Some(5), 0, 7)], None, None);
        check(Some(5), &[Sampled(1, Some(5), 0, 7), Read(5), Read(6)], Some(5), None);
        check(Some(5), &[Sampled(1, Some(5), 0, 7), Read(5), Read(6)], Some(6), None);
        check(Some(5), &[Sampled(1, Some(5), 0, 7), Read(5), Read(6)], None, Some(1));
        check(Some(5), &[Sampled(1, Some(5), 0, 7), Read(5), Read(6), Read(7)], Some(7), Some(1));
    }

    #[test]
    fn idle_is_complete() {
        check(Some(5), &[Sampled(1, Some(5), 0, 5), Sampled(2, Some(5), 0, 5)], None, Some(2));
        check(None, &[Sampled(1, None, 0, 0)], None, Some(1));
        // All that there was is gone.
        check(None, &[Sampled(1, None, 9, 9)], None, Some(1));
        check(Some(5), &[Sampled(1, Some(5), 9, 9)], None, Some(1));
    }

    #[test]
    fn unread_is_not() {
        check(None, &[Sampled(1, None, 0, 3)], None, None);
        check(None, &[Sampled(1, None, 2, 3)], None, None);
    }

    #[test]
    fn markers_at_the_end_are_passed_by_the_position_alone() {
        let read = [Sampled(1, Some(0), 0, 3), Read(0), Read(1)];
        check(Some(0), &read, None, None);
        check(Some(0), &[Sampled(1, Some(0), 0, 3), Read(0), Read(1), At(3)], None, Some(1));
    }

    #[test]
    fn a_log_that_ends_before_its_reader_is_another_one() {
        let (mut reading, found) = after(Some(100), &[Sampled(1, Some(100), 0, 5), Sampled(2, Some(100), 0, 200)]);
        assert_eq!((found, reading.judge(None)), (vec![Finding::Torn], None));
        assert!(!reading.read(0));
        // Nothing is in it yet.
        check(Some(100), &[Sampled(1, Some(100), 0, 0)], None, Some(1));
    }

    #[test]
    fn what_retention_took_unread_is_told_and_what_compaction_took_is_not() {
        let (_, found) = after(Some(5), &[Read(20), Sampled(1, Some(21), 20, 30)]);
        assert_eq!(found, [Finding::Expired(5, 20)]);
        let (_, found) = after(Some(5), &[Read(20), Sampled(1, Some(21), 0, 30)]);
        assert_eq!(found, []);
    }

    #[test]
    fn a_backlog_keeps_the_samples_that_it_will_pass_first() {
        let samples = (0..50).map(|second| Sampled(second, Some(0), 0, 10 + second));
        let (mut reading, _) = after(Some(0), &samples.collect::<Vec<_>>());
        reading.is_at(Some(12));
        assert_eq!(reading.judge(None).map(Timestamp::as_second), Some(2));
        reading.is_at(Some(1000));
        assert_eq!(reading.judge(None).map(Timestamp::as_second), Some(SAMPLES as i64 - 1));
        assert!(!reading.is_sampled());
    }
}
