//! A sink's letters as a feed: what it has refused, once more, and nothing else.
//!
//! The lanes are those in which the changes were refused, and no cursor is moved. A sink may hold a version back by nothing
//! but order (a tombstone carries none), so a change is delivered only if it is still the latest of its key. To know that,
//! the rest of its partition is read once before, and, since the deployment's own sink goes on meanwhile, what has been
//! added again each time a lane is claimed: whatever that sink delivers after the claim costs this one the lane where the
//! place can tell, and then the lane is claimed anew.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use rdkafka::message::Message;
use touchline_core::output::Topic;
use touchline_sink::{BATCH_BYTES, Batch, BoxFuture, Change, Cursor, Event, Feed, FeedError, Lane, Rejection, Start};

use crate::cluster::Reader;

/// A refused change.
pub(super) struct Refused {
    pub key: Vec<u8>,
    pub value: Value,
}

/// What the letter has of it.
pub(super) enum Value {
    Whole(Option<Vec<u8>>),
    /// The rest may stand where it was read.
    Cut {
        kept: usize,
        all: u64,
    },
}

/// A partition in which a sink has refused something.
pub(super) struct Place {
    pub topic: Topic,
    pub name: String,
    pub partition: i32,
    /// By offset.
    pub refused: BTreeMap<u64, Refused>,
}

/// What has become of the letters so far.
#[derive(Default)]
pub(super) struct Tally {
    /// Those that are to be delivered.
    pub chosen: usize,
    /// A later change of the key has taken their place.
    pub superseded: usize,
    /// Where they came from, and how much of them was kept.
    pub cut: BTreeMap<String, String>,
    /// Where they came from, and why the sink has refused them again.
    pub refused: BTreeMap<String, String>,
}

/// A sink's view of its letters.
pub(super) struct LetterFeed {
    reader: Reader,
    lanes: BTreeMap<Lane, Held>,
    events: VecDeque<Event>,
    tally: Arc<Mutex<Tally>>,
    is_over: bool,
}

struct Held {
    place: Place,
    /// The partition has been read up to here.
    read_to: i64,
    /// What is to be delivered before this one asks for more.
    ready: VecDeque<Change>,
    /// The feed remembers for the sink, which therefore has to be given cursors.
    is_remembered: bool,
}

impl LetterFeed {
    /// Reads what follows the refused changes.
    pub fn new(reader: Reader, places: Vec<Place>) -> Result<(LetterFeed, Arc<Mutex<Tally>>)> {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut feed = LetterFeed {
            reader,
            lanes: BTreeMap::new(),
            events: VecDeque::new(),
            tally: tally.clone(),
            is_over: false,
        };
        for place in places {
            let lane = Lane::new(format!("{}/{}", place.name, place.partition));
            let first = place.refused.keys().next().copied().unwrap_or_default();
            let read_to = i64::try_from(first)?;
            let mut held = Held { place, read_to, ready: VecDeque::new(), is_remembered: false };
            locked(&tally).chosen += held.place.refused.len();
            held.prune(&tally);
            held.catch_up(&feed.reader, &tally)?;
            held.leave_out_cut(&tally);
            if !held.place.refused.is_empty() {
                feed.events.push_back(Event::Assigned(lane.clone()));
                feed.lanes.insert(lane, held);
            }
        }
        Ok((feed, tally))
    }

    async fn next_event(&mut self, room: usize) -> Result<Event, FeedError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        if room > 0 {
            let ready = self.lanes.iter_mut().find(|(_, held)| !held.ready.is_empty());
            if let Some((lane, held)) = ready {
                return Ok(Event::Batch(lane.clone(), held.cut(room)));
            }
            if !std::mem::replace(&mut self.is_over, true) {
                return Ok(Event::End);
            }
        }
        std::future::pending().await
    }

    fn begin(&mut self, lane: &Lane, from: &Start) -> Result<Option<Cursor>, FeedError> {
        let Some(held) = self.lanes.get_mut(lane) else { return Ok(None) };
        held.catch_up(&self.reader, &self.tally).map_err(|error| FeedError::Retry(error.into()))?;
        held.is_remembered = *from == Start::Remembered;
        held.ready = held.place.changes();
        Ok(match from {
            Start::At(cursor) => cursor.clone(),
            Start::Remembered => None,
        })
    }
}

impl Held {
    /// Of what is compacted, only the latest of a key counts, also among the refused.
    fn prune(&mut self, tally: &Mutex<Tally>) {
        if !self.place.is_compacted() {
            return;
        }
        let latest = self.place.latest();
        let before = self.place.refused.len();
        self.place.refused.retain(|offset, refused| latest.get(&refused.key) == Some(offset));
        locked(tally).superseded += before - self.place.refused.len();
    }

    /// Reads what has been added to the partition: leaves out what is superseded, completes what was cut.
    fn catch_up(&mut self, reader: &Reader, tally: &Mutex<Tally>) -> Result<()> {
        let is_cut = |refused: &Refused| matches!(refused.value, Value::Cut { .. });
        let (name, partition, is_compacted) = (&self.place.name, self.place.partition, self.place.is_compacted());
        if !is_compacted && !self.place.refused.values().any(is_cut) {
            return Ok(());
        }
        let latest = self.place.latest();
        let (mut superseded, mut completed) = (Vec::new(), Vec::new());
        let ends = reader.read(name, &BTreeMap::from([(partition, self.read_to)]), |message| {
            let offset = message.offset().unsigned_abs();
            if self.place.refused.get(&offset).is_some_and(is_cut) {
                completed.push((offset, message.payload().map(<[u8]>::to_vec)));
            }
            let newer = message.key().and_then(|key| latest.get(key)).filter(|held| is_compacted && **held < offset);
            superseded.extend(newer);
            Ok(())
        })?;
        for (offset, value) in completed {
            self.place.refused.entry(offset).and_modify(|refused| refused.value = Value::Whole(value));
        }
        let before = self.place.refused.len();
        superseded.iter().for_each(|offset| drop(self.place.refused.remove(offset)));
        locked(tally).superseded += before - self.place.refused.len();
        self.read_to = ends.get(&partition).copied().unwrap_or(self.read_to);
        Ok(())
    }

    /// Gives up what is whole nowhere any more.
    fn leave_out_cut(&mut self, tally: &Mutex<Tally>) {
        let mut tally = locked(tally);
        let Place { name, partition, refused, .. } = &mut self.place;
        refused.retain(|offset, refused| {
            let Value::Cut { kept, all } = refused.value else { return true };
            let why = format!("only {kept} of its {all} bytes were kept, and it is not where it was any more");
            tally.cut.insert(format!("{name}/{partition}/{offset}"), why);
            false
        });
    }

    fn cut(&mut self, room: usize) -> Batch {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while let Some(change) = self.ready.front() {
            bytes += change.bytes();
            if changes.len() >= room || bytes > BATCH_BYTES && !changes.is_empty() {
                break;
            }
            changes.extend(self.ready.pop_front());
        }
        let last = changes.last().map(|change: &Change| change.sequence.to_be_bytes());
        let next = last.filter(|_| self.is_remembered).map(Cursor::new);
        Batch { changes, next, published_at: None }
    }
}

impl Place {
    fn is_compacted(&self) -> bool {
        matches!(self.topic, Topic::Scores | Topic::Facts)
    }

    /// The greatest offset of each key among the refused.
    fn latest(&self) -> HashMap<Vec<u8>, u64> {
        self.refused.iter().map(|(offset, refused)| (refused.key.clone(), *offset)).collect()
    }

    fn changes(&self) -> VecDeque<Change> {
        let change = |(&sequence, refused): (&u64, &Refused)| match &refused.value {
            Value::Whole(value) => {
                Some(Change { sequence, topic: self.topic, key: refused.key.clone(), value: value.clone() })
            }
            Value::Cut { .. } => None,
        };
        self.refused.iter().filter_map(change).collect()
    }
}

impl Feed for LetterFeed {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Result<Event, FeedError>> {
        Box::pin(self.next_event(room))
    }

    fn start<'a>(&'a mut self, lane: &'a Lane, from: &'a Start) -> BoxFuture<'a, Result<Option<Cursor>, FeedError>> {
        Box::pin(async move { self.begin(lane, from) })
    }

    fn remember(&mut self, _: &Lane, _: &Cursor) -> Result<(), FeedError> {
        Ok(())
    }

    fn reject<'a>(&'a mut self, rejections: &'a [Rejection<'a>]) -> BoxFuture<'a, Result<(), FeedError>> {
        // The letter that it came from still stands.
        let mut tally = locked(&self.tally);
        for rejection in rejections {
            let origin = format!("{}/{}", rejection.lane, rejection.change.sequence);
            tally.refused.insert(origin, format!("refused again: {}", rejection.reason));
        }
        drop(tally);
        Box::pin(async { Ok(()) })
    }

    fn lag(&self, _: &Lane, _: Option<&Cursor>) -> Option<u64> {
        None
    }

    fn finish(&mut self) {}
}

/// Locks what no holder leaves half done.
pub(super) fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
