//! A partition that the group has given us: a lane of the feed.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::time::Instant;
use touchline_core::output::Topic;

use super::stats::Ends;
use crate::sink::{BATCH_BYTES, Batch, Change, Cursor};

/// Of what is committed besides the offset; brokers refuse more than 4,096 bytes by default.
const METADATA_BYTES: usize = 4_000;
/// In front of the rejected offsets there.
const REJECTED: &str = "rejected ";
/// Once a partition is being fetched, the client looks where it is at least once a second, and tells it once a second.
const STALE: u8 = 2;
/// What lies behind the last record of a lane, and is nothing to read (the ends of transactions), moves the cursor only
/// when the lane has been quiet for so long: it is for the sake of retention, and costs a write.
const QUIET: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Partition {
    pub topic: Topic,
    pub name: String,
    pub number: i32,
    /// What the group has committed, once that is known.
    pub committed: Option<Committed>,
    /// The sink needs nothing before it.
    pub remembered: Option<i64>,
    /// `remembered` has not been committed.
    pub is_dirty: bool,
    /// It is being read.
    pub is_started: bool,
    /// So many of the [`Ends`] to come may still be of before it was started again, or paused.
    stale: u8,
    /// Where it was started.
    pub start: i64,
    /// Behind the last record taken from the consumer.
    pub read: i64,
    /// Behind the last record that is known to be there.
    pub end: i64,
    buffer: VecDeque<(Change, Option<SystemTime>)>,
    /// Of the changes in it.
    buffered_bytes: usize,
    /// Nothing to read lies before it.
    skip_to: Option<i64>,
    quiet_since: Instant,
}

/// What the group has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub offset: Option<i64>,
    /// Offsets from there on that are dead letters already.
    pub rejected: BTreeSet<i64>,
}

impl Partition {
    pub fn new(topic: Topic, name: String, number: i32) -> Partition {
        Partition {
            topic,
            name,
            number,
            committed: None,
            remembered: None,
            is_dirty: false,
            is_started: false,
            stale: 0,
            start: 0,
            read: 0,
            end: 0,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            skip_to: None,
            quiet_since: Instant::now(),
        }
    }

    /// Whether the record is of this partition.
    pub fn has(&self, message: &BorrowedMessage<'_>) -> bool {
        self.number == message.partition() && self.name == message.topic()
    }

    /// From here on it is read from `offset`.
    pub fn started(&mut self, offset: i64, end: i64) {
        self.is_started = true;
        self.disturbed();
        (self.start, self.read, self.end) = (offset, offset, end.max(offset));
        self.buffer.clear();
        self.buffered_bytes = 0;
        self.skip_to = None;
        self.quiet_since = Instant::now();
    }

    /// Takes a record; returns how many bytes it has, unless it has been seen.
    pub fn take(&mut self, message: &BorrowedMessage<'_>) -> Option<usize> {
        let offset = message.offset();
        let sequence = u64::try_from(offset).ok().filter(|_| self.is_started && offset >= self.read)?;
        let (key, value) = (message.key().unwrap_or_default().to_vec(), message.payload().map(<[u8]>::to_vec));
        let change = Change { sequence, topic: self.topic, key, value };
        let bytes = change.bytes();
        self.buffer.push_back((change, published_at(message.timestamp())));
        self.buffered_bytes += bytes;
        self.read = offset + 1;
        self.end = self.end.max(self.read);
        (self.stale, self.skip_to, self.quiet_since) = (0, None, Instant::now());
        Some(bytes)
    }

    /// The client begins to fetch it anew, and says for a while where it was before.
    pub fn disturbed(&mut self) {
        (self.stale, self.quiet_since) = (STALE, Instant::now());
    }

    /// Whether there is a batch to be cut.
    pub fn is_ready(&self) -> bool {
        !self.buffer.is_empty() || self.skip_to.is_some()
    }

    /// Whether all that is known to be there has been taken and handed out.
    pub fn is_at_end(&self) -> bool {
        self.buffer.is_empty() && self.end <= self.read
    }

    /// The next batch, of at most `room` changes.
    pub fn cut(&mut self, room: usize) -> Batch {
        let (mut changes, mut bytes) = (Vec::with_capacity(room.min(self.buffer.len())), 0);
        let published_at = self.buffer.front().and_then(|(_, at)| *at);
        let mut next = self.skip_to.filter(|_| self.buffer.is_empty());
        while let Some((change, _)) = self.buffer.front() {
            bytes += change.bytes();
            if changes.len() >= room || bytes > BATCH_BYTES && !changes.is_empty() {
                break;
            }
            next = i64::try_from(change.sequence).ok().map(|offset| offset + 1);
            self.buffered_bytes -= change.bytes();
            changes.extend(self.buffer.pop_front().map(|(change, _)| change));
        }
        if self.buffer.is_empty() {
            self.read = self.read.max(self.skip_to.take().unwrap_or_default());
        }
        Batch { changes, next: next.map(cursor_of), published_at }
    }

    /// Changes and bytes that wait to be cut.
    pub fn buffered(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffered_bytes)
    }

    /// What the client says of where it is. `is_drained`: all that it had fetched by then has been taken.
    pub fn look(&mut self, ends: Ends, is_drained: bool) {
        // What lies before the start is of another start.
        if !self.is_started || !ends.is_fetched() || ends.next_offset < self.start {
            return;
        }
        if ends.next_offset < ends.ls_offset || !is_drained {
            self.end = self.end.max(ends.ls_offset);
            return;
        }
        if ends.next_offset <= self.read {
            self.stale = 0;
        } else if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        self.end = self.read;
        if ends.next_offset > self.read && self.buffer.is_empty() && self.quiet_since.elapsed() >= QUIET {
            self.skip_to = Some(ends.next_offset);
        }
    }

    /// The sink needs nothing before `offset`.
    pub fn remember(&mut self, offset: i64) {
        self.is_dirty |= self.remembered != Some(offset);
        self.remembered = Some(offset);
        if let Some(committed) = &mut self.committed {
            committed.rejected = committed.rejected.split_off(&offset);
        }
    }

    /// What is committed for it: the sink needs all from there on.
    pub fn needed(&self) -> i64 {
        let committed = self.committed.as_ref().and_then(|committed| committed.offset);
        self.remembered.or(committed).unwrap_or(self.start)
    }

    pub fn is_rejected(&self, sequence: u64) -> bool {
        let offset = i64::try_from(sequence).unwrap_or(i64::MAX);
        self.committed.as_ref().is_some_and(|committed| committed.rejected.contains(&offset))
    }
}

impl Committed {
    pub fn new(offset: Option<i64>, metadata: &str) -> Committed {
        let rejected = metadata.strip_prefix(REJECTED).unwrap_or_default().split(',').filter_map(range).flatten();
        Committed { offset, rejected: rejected.take(METADATA_BYTES).collect() }
    }

    /// Tells the rejected offsets. Of more than fit, the last are left out: they may become dead letters twice, if the
    /// process dies before it has come so far.
    pub fn metadata(rejected: &BTreeSet<i64>) -> String {
        let mut ranges: Vec<RangeInclusive<i64>> = Vec::new();
        for &offset in rejected {
            match ranges.last_mut() {
                Some(range) if *range.end() + 1 == offset => *range = *range.start()..=offset,
                _ => ranges.push(offset..=offset),
            }
        }
        let mut metadata = String::new();
        for range in ranges {
            let before = metadata.len();
            metadata.push_str(if metadata.is_empty() { REJECTED } else { "," });
            // Writing to a string does not fail.
            let _ = write!(metadata, "{}-{}", range.start(), range.end());
            if metadata.len() > METADATA_BYTES {
                metadata.truncate(before);
                break;
            }
        }
        metadata
    }
}

fn range(text: &str) -> Option<RangeInclusive<i64>> {
    let (first, last) = text.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Cursors are offsets: of what is read next.
pub fn cursor_of(offset: i64) -> Cursor {
    Cursor::new(offset.to_be_bytes())
}

/// The offset that a cursor is.
pub fn offset_of(cursor: &Cursor) -> Option<i64> {
    Some(i64::from_be_bytes(cursor.as_bytes().try_into().ok()?))
}

fn published_at(timestamp: Timestamp) -> Option<SystemTime> {
    let millis = u64::try_from(timestamp.to_millis()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_offsets_come_back_from_the_metadata() {
        let check = |rejected: &[i64], metadata: &str| {
            let rejected: BTreeSet<i64> = rejected.iter().copied().collect();
            assert_eq!(Committed::metadata(&rejected), metadata);
            assert_eq!(Committed::new(Some(1), metadata), Committed { offset: Some(1), rejected });
        };
        check(&[], "");
        check(&[7], "rejected 7-7");
        check(&[1, 2, 3, 5, 9_000_000_000, 9_000_000_001], "rejected 1-3,5-5,9000000000-9000000001");
        let everything: BTreeSet<i64> = (0..4_096).collect();
        assert_eq!(Committed::metadata(&everything), "rejected 0-4095");
        let many: BTreeSet<i64> = (0..4_096).map(|number| 1_000_000 + number * 2).collect();
        let metadata = Committed::metadata(&many);
        assert!(metadata.len() <= METADATA_BYTES);
        let some = Committed::new(None, &metadata).rejected;
        assert!(some.len() > 200 && many.iter().zip(&some).all(|(one, other)| one == other));
    }

    #[test]
    fn metadata_of_others_is_no_rejection_and_takes_no_memory() {
        for metadata in ["x", "rejected", "rejected ", "rejected -", "rejected a-b", "rejected 5", "rejected 3-1"] {
            assert_eq!(Committed::new(None, metadata), Committed::default(), "{metadata}");
        }
        assert_eq!(Committed::new(None, "rejected 0-9223372036854775807").rejected.len(), METADATA_BYTES);
    }
}
