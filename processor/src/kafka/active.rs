//! A partition that is being worked on: its state, where it stands, and what waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rdkafka::message::{Message, OwnedMessage};
use touchline_core::dead_letter::DeadLetter;
use touchline_core::event::Reject;
use touchline_core::record::Record;
use touchline_core::step::{Step, StepError};
use tracing::warn;

use super::clock;
use super::position::{Committed, Position, Stand};
use crate::partition::Partition;
use crate::snapshot::{Stamp, Uploader};
use crate::store::Durability;
use crate::{Progress, StoreError};

/// Messages that may wait while a record takes its slices; then no more are fetched for the partition.
const BACKLOG: usize = 2_000;
/// Their bytes.
const BACKLOG_BYTES: usize = 4 << 20;
/// Messages taken in one go: their contacts are fetched from memory together.
pub(super) const HAND: usize = 32;
/// Of those that wait, what is taken in one turn, which is about as long as a slice: other partitions wait for theirs.
const TURN: usize = 256;

/// A state is written so often, if it has changed: when it is not certain how a transaction ended, what was not written is
/// applied again before anything is published.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// A store is brought to the disk so often, if it has changed: what is not there is applied again after a crash.
const FLUSH_EVERY: Duration = Duration::from_secs(60);
/// The same, in records.
const FLUSH_RECORDS: u64 = 500_000;

/// See the module.
pub(crate) struct Active {
    pub number: i32,
    pub partition: Partition,
    pub stand: Stand,
    /// Where the store stands: what was published since is in memory, and applied again if that is lost.
    stored: Position,
    /// Outputs have been published up to here: until then what is applied is applied again.
    pub until: Option<Position>,
    /// Messages behind an unfinished record.
    backlog: VecDeque<OwnedMessage>,
    backlog_bytes: usize,
    pub is_paused: bool,
    /// When the state is next written.
    write_at: Instant,
    /// When the store is next brought to the disk.
    flush_at: Instant,
    /// Records committed since it last was.
    unflushed: u64,
    /// When the next copy is made.
    pub snapshot_at: Instant,
    /// Where the newest copy stands, of those made here.
    copied: Position,
}

/// A message of the log, borrowed or kept.
struct Entry<'a> {
    offset: i64,
    payload: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    fn of(message: &'a impl Message) -> Entry<'a> {
        Entry { offset: message.offset(), payload: message.payload() }
    }

    fn read(&self) -> Result<Record<'a>, Reject> {
        let payload = self.payload.ok_or_else(|| Reject::not_json("it is empty"))?;
        Record::parse(payload, &TimeZone::UTC)
    }
}

impl Active {
    pub fn new(number: i32, partition: Partition, stand: Stand) -> Active {
        Active {
            number,
            partition,
            stored: stand.position,
            stand,
            until: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            is_paused: false,
            snapshot_at: clock::now() + first(FLUSH_EVERY, number),
            copied: Position::default(),
            write_at: clock::now() + first(WRITE_EVERY, number),
            flush_at: clock::now() + first(FLUSH_EVERY, number),
            unflushed: 0,
        }
    }

    /// Publishes nothing before what the group has committed. What an earlier generation has published does not count: this
    /// one publishes all of it again.
    pub fn publish_from(&mut self, committed: Option<Committed>) {
        let published = committed.filter(|it| it.generation >= self.stand.generation).map(|it| it.position);
        self.until = published.filter(|until| *until > self.stand.position);
        self.partition.outputs.mute(self.until.is_some());
    }

    pub fn is_live(&self) -> bool {
        self.until.is_none()
    }

    fn is_unfinished(&self) -> bool {
        self.stand.position.slices > 0
    }

    /// Whether it has something to do without another message.
    pub fn is_busy(&self) -> bool {
        self.is_unfinished() || !self.backlog.is_empty()
    }

    /// Whether there is no room for more messages.
    pub fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG || self.backlog_bytes >= BACKLOG_BYTES
    }

    /// One slice of the unfinished record, or else some of what waits.
    pub fn go_on(&mut self) -> Result<(), StepError<StoreError>> {
        if self.is_unfinished() {
            let step = self.partition.resume()?;
            let position = self.stand.position;
            self.moved(match step {
                Step::Done => Position::at(position.offset + 1),
                Step::More => Position { slices: position.slices + 1, ..position },
            });
            return Ok(());
        }
        for _ in 0..TURN / HAND {
            let mut hand: Vec<_> = self.backlog.drain(..HAND.min(self.backlog.len())).collect();
            let done = self.apply_all(&hand)?;
            self.backlog_bytes -= hand.iter().take(done).map(size).sum::<usize>();
            for message in hand.drain(done..).rev() {
                self.backlog.push_front(message);
            }
            if self.is_unfinished() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next messages of the log; those behind a record that takes longer are kept.
    pub fn take<M: Message>(
        &mut self,
        messages: &[M],
        detach: impl Fn(&M) -> OwnedMessage,
    ) -> Result<(), StepError<StoreError>> {
        let done = if self.is_busy() { 0 } else { self.apply_all(messages)? };
        for message in messages.iter().skip(done) {
            self.backlog_bytes += size(message);
            self.backlog.push_back(detach(message));
        }
        Ok(())
    }

    /// Applies messages until one takes longer: how many.
    fn apply_all<M: Message>(&mut self, messages: &[M]) -> Result<usize, StepError<StoreError>> {
        let read = |message| {
            let entry = Entry::of(message);
            let record = entry.read();
            (entry, record)
        };
        let records: Vec<_> = messages.iter().map(read).collect();
        self.partition.store.prefetch(records.iter().filter_map(|(_, record)| match record {
            Ok(Record::Event(event)) => Some((&*event.account, &*event.contact)),
            _ => None,
        }));
        for (done, (entry, record)) in records.iter().enumerate() {
            self.apply(entry, record)?;
            if self.is_unfinished() {
                return Ok(done + 1);
            }
        }
        Ok(records.len())
    }

    /// Takes the next record of the log. One from before the position has been taken already.
    fn apply(&mut self, entry: &Entry<'_>, record: &Result<Record<'_>, Reject>) -> Result<(), StepError<StoreError>> {
        if entry.offset < self.stand.position.offset {
            return Ok(());
        }
        // Offsets have gaps: of transactions, and where the topic is compacted.
        self.moved(Position::at(entry.offset));
        let step = match record {
            Ok(record) => {
                self.partition.batch.events += u64::from(matches!(record, Record::Event(_)));
                self.partition.batch.bytes += entry.payload.map_or(0, <[u8]>::len) as u64;
                self.partition.apply(record)?
            }
            Err(reject) => {
                self.reject(entry, reject);
                Step::Done
            }
        };
        self.moved(match step {
            Step::Done => Position::at(entry.offset + 1),
            Step::More => Position { offset: entry.offset, slices: 1 },
        });
        Ok(())
    }

    /// There is nothing more of the log before this offset.
    pub fn pass(&mut self, offset: i64) {
        if !self.is_busy() && offset > self.stand.position.offset {
            self.partition.is_dirty = true;
            self.moved(Position::at(offset));
        }
    }

    /// Forgets the batch and what waits: the log is to be read again from the position, which is the store's.
    pub fn abort(&mut self) -> Result<(), StepError<StoreError>> {
        self.partition.abort()?;
        self.partition.machine.set_generation(self.stand.generation);
        self.stand.position = self.stored;
        self.backlog.clear();
        self.backlog_bytes = 0;
        Ok(())
    }

    /// What has been applied is published.
    pub fn published(&mut self) -> Progress {
        let mut progress = self.partition.committed();
        if !self.is_live() {
            // They were published before, and counted then.
            (progress.alerts, progress.opened) = (0, 0);
        }
        self.unflushed += progress.records;
        progress
    }

    /// Writes state and position if memory or time says so. A record that changes again and again until then is written
    /// once; and the log has all of it, so that writing it earlier would make nothing safer.
    pub fn write_if_due(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        let is_flush_due = self.unflushed >= FLUSH_RECORDS || (self.unflushed > 0 && now >= self.flush_at);
        if is_flush_due || self.partition.store.is_full() || now >= self.write_at {
            self.write()?;
        }
        if is_flush_due {
            self.partition.store.start_flush()?;
            self.unflushed = 0;
            self.flush_at = now + FLUSH_EVERY;
        }
        Ok(())
    }

    /// Writes state and position; all of it must be published.
    pub fn write(&mut self) -> Result<(), StoreError> {
        if self.stored != self.stand.position {
            self.partition.store.commit(&self.stand.encode(), None, Durability::Unlogged)?;
            self.stored = self.stand.position;
        }
        self.write_at = clock::now() + WRITE_EVERY;
        Ok(())
    }

    /// Lets a copy be made of what was published, if that is news.
    pub fn copy(&mut self, uploader: &Uploader) -> Result<(), StoreError> {
        let Ok(partition) = u32::try_from(self.number) else { return Ok(()) };
        if !self.is_live() || self.copied == self.stand.position {
            return Ok(());
        }
        self.write()?;
        let stamp = Stamp {
            partition,
            generation: self.stand.generation,
            offset: self.stored.offset.unsigned_abs(),
            last_tick: self.partition.machine.last_tick(),
        };
        match uploader.checkpoint(&self.partition.store, stamp) {
            Ok(()) => self.copied = self.stored,
            // The state itself is as good as it was.
            Err(error) => warn!(partition, %error, "no snapshot was made"),
        }
        Ok(())
    }

    /// Brings onto the disk what was written; if all is published (`is_clean`), what was not written before as well, and,
    /// if nothing was published beyond it, says so there.
    pub fn close(mut self, is_clean: bool) -> Result<(), StoreError> {
        if is_clean {
            self.write()?;
        }
        let mut store = self.partition.store;
        if is_clean && self.until.is_none() { store.close_cleanly() } else { store.flush() }
    }

    fn moved(&mut self, position: Position) {
        self.stand.position = self.stand.position.max(position);
        if self.until.is_some_and(|until| until <= self.stand.position) {
            // What would have been published up to here has been.
            self.until = None;
            self.partition.outputs.mute(false);
        }
    }

    fn reject(&mut self, entry: &Entry<'_>, reject: &Reject) {
        let (topic, partition, offset) = (&*self.stand.topic, self.number, entry.offset);
        let raw = entry.payload.unwrap_or_default();
        let letter = DeadLetter {
            stage: "process",
            topic,
            partition: Some(partition),
            line: None,
            offset: offset.unsigned_abs(),
            error: &reject.to_string(),
            raw,
            raw_bytes: raw.len() as u64,
        };
        let (key, value) = (format!("{topic}/{partition}/{offset}/0"), letter.to_json().to_string());
        self.partition.dead_letter(key.as_bytes(), value.as_bytes());
    }
}

/// Spread over the time between two of them, so that partitions do not write or flush all at once.
fn first(every: Duration, number: i32) -> Duration {
    every / 16 * (1 + number.unsigned_abs() % 16)
}

fn size(message: &impl Message) -> usize {
    message.payload().map_or(0, <[u8]>::len)
}
