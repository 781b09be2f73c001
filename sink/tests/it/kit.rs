//! A feed in memory, and sinks that do what a test tells them to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::sync::{Notify, watch};
use touchline_core::output::Topic;
use touchline_sink::{
    Batch, BoxFuture, Change, Cursor, Delivered, Dispatcher, Event, Feed, FeedError, Lane, Metrics, Rejection, Route,
    Settled, Sink, SinkError, Start,
};

pub fn start(routes: Vec<Route>) -> Dispatcher {
    Dispatcher::start(routes, &Metrics::new(&Registry::new()).unwrap()).unwrap()
}

pub fn lane(number: usize) -> Lane {
    Lane::new(format!("script/{number}"))
}

/// Changes whose sequence is their index; they take turns in the lanes. A cursor is the index of the next.
pub struct Script {
    lanes: usize,
    changes: Mutex<Vec<Change>>,
    news: watch::Sender<u64>,
    /// (sink, sequence, reason)
    pub rejected: Mutex<Vec<(String, u64, String)>>,
    pub remembered: Mutex<BTreeMap<Lane, Cursor>>,
    /// Fail so often before reading.
    pub failures: Mutex<u32>,
    /// What is assigned to whichever feed asks first, or taken from it.
    moves: Mutex<VecDeque<Event>>,
}

impl Script {
    pub fn of(changes: Vec<Change>) -> Arc<Script> {
        Script::in_lanes(1, changes)
    }

    pub fn in_lanes(lanes: usize, changes: Vec<Change>) -> Arc<Script> {
        Arc::new(Script {
            lanes,
            changes: changes.into(),
            news: watch::channel(0).0,
            rejected: Mutex::default(),
            remembered: Mutex::default(),
            failures: Mutex::default(),
            moves: Mutex::default(),
        })
    }

    /// This many scores.
    pub fn counting(count: u64) -> Arc<Script> {
        Script::of(scores(count))
    }

    pub fn publish(&self, change: Change) {
        self.changes.lock().unwrap().push(change);
        self.news.send_modify(|count| *count += 1);
    }

    pub fn order(&self, event: Event) {
        self.moves.lock().unwrap().push_back(event);
        self.news.send_modify(|count| *count += 1);
    }

    /// A feed that all lanes are assigned to.
    pub fn feed(self: &Arc<Script>, topics: &[Topic]) -> Box<dyn Feed> {
        let mut feed = self.feed_without_lanes(topics);
        feed.moves = (0..self.lanes).map(|number| Event::Assigned(lane(number))).collect();
        feed
    }

    pub fn feed_without_lanes(self: &Arc<Script>, topics: &[Topic]) -> Box<ScriptFeed> {
        Box::new(ScriptFeed {
            moves: VecDeque::new(),
            script: self.clone(),
            topics: topics.to_vec(),
            places: BTreeMap::new(),
            news: self.news.subscribe(),
            is_idle: false,
            is_finishing: false,
            is_over: false,
        })
    }

    fn read(&self, lane: &Lane, start: usize, topics: &[Topic], room: usize) -> Option<(Batch, usize)> {
        let number: usize = lane.as_str().rsplit_once('/').unwrap().1.parse().unwrap();
        let changes = self.changes.lock().unwrap();
        if start >= changes.len() {
            return None;
        }
        let mut next = start;
        let mut given = Vec::new();
        while next < changes.len() && given.len() < room {
            let is_wanted = next % self.lanes == number && topics.contains(&changes[next].topic);
            given.extend(is_wanted.then(|| changes[next].clone()));
            next += 1;
        }
        Some((Batch { changes: given, next: Some(cursor_at(next)), published_at: None }, next))
    }
}

pub fn scores(count: u64) -> Vec<Change> {
    (0..count).map(|number| change(number, Topic::Scores, &format!("{number:04}"), Some("{}"))).collect()
}

pub struct ScriptFeed {
    moves: VecDeque<Event>,
    script: Arc<Script>,
    topics: Vec<Topic>,
    /// Where it reads next, in the lanes that have been started.
    places: BTreeMap<Lane, usize>,
    news: watch::Receiver<u64>,
    is_idle: bool,
    is_finishing: bool,
    is_over: bool,
}

impl ScriptFeed {
    async fn next_event(&mut self, room: usize) -> Result<Event, FeedError> {
        loop {
            self.news.borrow_and_update();
            let ordered = || self.script.moves.lock().unwrap().pop_front();
            if let Some(event) = self.moves.pop_front().or_else(ordered) {
                if let Event::Revoked(lane) = &event {
                    self.places.remove(lane);
                }
                return Ok(event);
            }
            if room > 0 && !self.places.is_empty() {
                let mut failures = self.script.failures.lock().unwrap();
                if *failures > 0 {
                    *failures -= 1;
                    return Err(FeedError::Retry("the feed is not there".into()));
                }
                for (lane, place) in &mut self.places {
                    if let Some((batch, next)) = self.script.read(lane, *place, &self.topics, room) {
                        (*place, self.is_idle) = (next, false);
                        return Ok(Event::Batch(lane.clone(), batch));
                    }
                }
                let news = if self.is_finishing { &mut self.is_over } else { &mut self.is_idle };
                if !std::mem::replace(news, true) {
                    return Ok(if self.is_finishing { Event::End } else { Event::Idle });
                }
            }
            self.news.changed().await.unwrap();
        }
    }
}

impl Feed for ScriptFeed {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Result<Event, FeedError>> {
        Box::pin(self.next_event(room))
    }

    fn start<'a>(&'a mut self, lane: &'a Lane, from: &'a Start) -> BoxFuture<'a, Result<Option<Cursor>, FeedError>> {
        let cursor = match from {
            Start::At(cursor) => cursor.clone(),
            Start::Remembered => self.script.remembered.lock().unwrap().get(lane).cloned(),
        };
        self.places.insert(lane.clone(), cursor.as_ref().map_or(0, index_of));
        Box::pin(async { Ok(cursor) })
    }

    fn remember(&mut self, lane: &Lane, cursor: &Cursor) -> Result<(), FeedError> {
        self.script.remembered.lock().unwrap().insert(lane.clone(), cursor.clone());
        Ok(())
    }

    fn reject<'a>(&'a mut self, rejections: &'a [Rejection<'a>]) -> BoxFuture<'a, Result<(), FeedError>> {
        let rejections = rejections.iter();
        let rejected = rejections.map(|it| (it.sink.to_owned(), it.change.sequence, it.reason.to_owned()));
        self.script.rejected.lock().unwrap().extend(rejected);
        Box::pin(async { Ok(()) })
    }

    fn lag(&self, _lane: &Lane, cursor: Option<&Cursor>) -> Option<u64> {
        Some((self.script.changes.lock().unwrap().len() - cursor.map_or(0, index_of)) as u64)
    }

    fn finish(&mut self) {
        self.is_finishing = true;
    }
}

pub fn cursor_at(index: usize) -> Cursor {
    Cursor::new((index as u64).to_be_bytes())
}

pub fn index_of(cursor: &Cursor) -> usize {
    u64::from_be_bytes(cursor.as_bytes().try_into().unwrap()) as usize
}

pub fn change(sequence: u64, topic: Topic, key: &str, value: Option<&str>) -> Change {
    Change { sequence, topic, key: key.as_bytes().to_vec(), value: value.map(|value| value.as_bytes().to_vec()) }
}

/// What a sink of these has stored; survives it, as a database would.
#[derive(Clone, Default)]
pub struct Stored {
    pub sequences: Arc<Mutex<Vec<u64>>>,
    pub cursors: Arc<Mutex<BTreeMap<Lane, Cursor>>>,
    /// Who claimed a lane last: others are refused.
    pub epochs: Arc<Mutex<BTreeMap<Lane, u64>>>,
    pub closed: Arc<Mutex<bool>>,
}

impl Stored {
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursors.lock().unwrap().get(&lane(0)).cloned()
    }

    pub fn sorted(&self) -> Vec<u64> {
        let mut sequences = self.sequences.lock().unwrap().clone();
        sequences.sort_unstable();
        sequences
    }
}

/// Decides about each batch before it is stored.
pub type Behaviour = Box<dyn FnMut(&Batch) -> Result<(), SinkError> + Send>;

/// Stores changes and cursors as one, fenced by epochs.
pub struct Scripted {
    pub name: &'static str,
    pub stored: Stored,
    pub behaviour: Behaviour,
    epochs: BTreeMap<Lane, u64>,
}

impl Scripted {
    pub fn new(name: &'static str, stored: &Stored, behaviour: Behaviour) -> Box<Scripted> {
        Box::new(Scripted { name, stored: stored.clone(), behaviour, epochs: BTreeMap::new() })
    }
}

impl Sink for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn claim<'a>(&'a mut self, lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>> {
        let mut epochs = self.stored.epochs.lock().unwrap();
        let epoch = epochs.entry(lane.clone()).or_default();
        *epoch += 1;
        self.epochs.insert(lane.clone(), *epoch);
        let cursor = self.stored.cursors.lock().unwrap().get(lane).cloned();
        Box::pin(async { Ok(Start::At(cursor)) })
    }

    fn deliver<'a>(&'a mut self, lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async {
            (self.behaviour)(batch)?;
            if self.stored.epochs.lock().unwrap().get(lane) != self.epochs.get(lane) {
                return Err(SinkError::Lost(lane.clone()));
            }
            self.stored.sequences.lock().unwrap().extend(batch.changes.iter().map(|change| change.sequence));
            if let Some(next) = &batch.next {
                self.stored.cursors.lock().unwrap().insert(lane.clone(), next.clone());
            }
            Ok(Delivered::Stored)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        *self.stored.closed.lock().unwrap() = true;
        Box::pin(async { Ok(()) })
    }
}

/// Lets batches settle one at a time, in order, as the test allows.
#[derive(Default)]
pub struct Gate {
    allowed: Mutex<u64>,
    news: Notify,
}

impl Gate {
    pub fn allow(&self, batches: u64) {
        *self.allowed.lock().unwrap() += batches;
        self.news.notify_one();
    }
}

/// Has at most so many changes on their way; keeps no cursor; odd sequences are refused.
pub struct Patient {
    pub stored: Stored,
    pub gate: Arc<Gate>,
    pub window: usize,
    pub pending: VecDeque<(Lane, Batch)>,
}

impl Patient {
    pub fn new(stored: &Stored, gate: &Arc<Gate>, window: usize) -> Box<Patient> {
        Box::new(Patient { stored: stored.clone(), gate: gate.clone(), window, pending: VecDeque::new() })
    }
}

impl Sink for Patient {
    fn name(&self) -> &str {
        "patient"
    }

    fn claim<'a>(&'a mut self, _lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>> {
        Box::pin(async { Ok(Start::Remembered) })
    }

    fn room(&self) -> usize {
        self.window - self.pending.iter().map(|(_, batch)| batch.changes.len()).sum::<usize>()
    }

    fn deliver<'a>(&'a mut self, lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        self.pending.push_back((lane.clone(), batch.clone()));
        Box::pin(async { Ok(Delivered::Pending) })
    }

    fn settled(&mut self) -> BoxFuture<'_, Result<Settled, SinkError>> {
        Box::pin(async {
            while self.pending.is_empty() || *self.gate.allowed.lock().unwrap() == 0 {
                self.gate.news.notified().await;
            }
            *self.gate.allowed.lock().unwrap() -= 1;
            let (lane, batch) = self.pending.pop_front().unwrap();
            let (odd, even): (Vec<_>, Vec<_>) = batch.changes.into_iter().partition(|it| it.sequence % 2 == 1);
            self.stored.sequences.lock().unwrap().extend(even.iter().map(|change| change.sequence));
            let rejected = odd.into_iter().map(|change| (change, "odd".to_owned())).collect();
            Ok(Settled { lane, rejected, through: batch.next })
        })
    }

    fn release(&mut self, lane: &Lane) {
        self.pending.retain(|(of, _)| of != lane);
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        *self.stored.closed.lock().unwrap() = true;
        Box::pin(async { Ok(()) })
    }
}

/// Waits until it holds; fails the test if that takes implausibly long.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "still waiting for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
