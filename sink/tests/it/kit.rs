//! A feed in memory, and a sink that does what a test tells it to.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use touchline_core::output::Topic;
use touchline_sink::{
    Batch, BoxFuture, Change, Cursor, Delivered, Feed, FeedError, Lane, Rejection, Sink, SinkError, Start,
};

/// Changes whose sequence is their index. A cursor is the index of the next.
pub struct Script {
    changes: Mutex<Vec<Change>>,
    news: watch::Sender<u64>,
    /// (sink, sequence, reason)
    pub rejected: Mutex<Vec<(String, u64, String)>>,
    /// Fail so often before reading.
    pub failures: Mutex<u32>,
}

impl Script {
    pub fn of(changes: Vec<Change>) -> Arc<Script> {
        let (news, _) = watch::channel(0);
        Arc::new(Script { changes: changes.into(), news, rejected: Mutex::default(), failures: Mutex::default() })
    }

    /// This many scores.
    pub fn counting(count: u64) -> Arc<Script> {
        Script::of(
            (0..count).map(|number| change(number, Topic::Scores, &format!("{number:04}"), Some("{}"))).collect(),
        )
    }

    pub fn publish(&self, change: Change) {
        self.changes.lock().unwrap().push(change);
        self.news.send_modify(|count| *count += 1);
    }
}

impl Feed for Script {
    fn read(&self, cursor: Option<&Cursor>, topics: &[Topic], limit: usize) -> Result<Option<Batch>, FeedError> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(FeedError::Retry("the feed is not there".into()));
        }
        let changes = self.changes.lock().unwrap();
        let start = cursor.map_or(0, |cursor| u64::from_be_bytes(cursor.as_bytes().try_into().unwrap()) as usize);
        if start == changes.len() {
            return Ok(None);
        }
        let mut next = start;
        let mut given = Vec::new();
        while next < changes.len() && given.len() < limit {
            given.extend(topics.contains(&changes[next].topic).then(|| changes[next].clone()));
            next += 1;
        }
        Ok(Some(Batch { changes: given, next: Some(cursor_at(next)), published_at: None }))
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn reject(&self, rejections: &[Rejection<'_>]) -> Result<(), FeedError> {
        let rejections = rejections.iter();
        let rejected = rejections.map(|it| (it.sink.to_owned(), it.change.sequence, it.reason.to_owned()));
        self.rejected.lock().unwrap().extend(rejected);
        Ok(())
    }
}

pub fn cursor_at(index: usize) -> Cursor {
    Cursor::new((index as u64).to_be_bytes())
}

pub fn change(sequence: u64, topic: Topic, key: &str, value: Option<&str>) -> Change {
    Change { sequence, topic, key: key.as_bytes().to_vec(), value: value.map(|value| value.as_bytes().to_vec()) }
}

/// What a [`Scripted`] sink has stored; survives it.
#[derive(Clone, Default)]
pub struct Stored {
    pub sequences: Arc<Mutex<Vec<u64>>>,
    pub cursor: Arc<Mutex<Option<Cursor>>>,
    pub closed: Arc<Mutex<bool>>,
}

/// Decides about each batch before it is stored.
pub type Behaviour = Box<dyn FnMut(&Batch) -> Result<(), SinkError> + Send>;

pub struct Scripted {
    pub name: &'static str,
    pub stored: Stored,
    pub behaviour: Behaviour,
}

impl Sink for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn claim<'a>(&'a mut self, _lane: &'a Lane) -> BoxFuture<'a, Result<Start, SinkError>> {
        let cursor = self.stored.cursor.lock().unwrap().clone();
        Box::pin(async { Ok(Start::At(cursor)) })
    }

    fn deliver<'a>(&'a mut self, _lane: &'a Lane, batch: &'a Batch) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async {
            (self.behaviour)(batch)?;
            self.stored.sequences.lock().unwrap().extend(batch.changes.iter().map(|change| change.sequence));
            *self.stored.cursor.lock().unwrap() = batch.next.clone();
            Ok(Delivered::Stored)
        })
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
