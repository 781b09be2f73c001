//! The outbox as a sink sees it: one lane, which is never taken away.

use tokio::sync::watch;
use touchline_core::dead_letter::DeadLetter;
use touchline_core::output::Topic;
use touchline_processor::{Limits, Outbox, Output, Record, Topics};
use touchline_sink::{
    BATCH_BYTES, Batch, BoxError, BoxFuture, Change, Cursor, Event, Feed, FeedError, Lane, Rejection, Start,
};

/// Where the feed stands in its lane.
enum Place {
    /// The sink does not know of it yet.
    New,
    /// It has not said where to start.
    Assigned,
    /// Behind the cursor; `keeps` it for a sink that does not do so itself.
    Reading { cursor: Option<Cursor>, keeps: bool },
}

/// What one sink reads of the outbox.
pub struct OutboxFeed {
    outbox: Outbox,
    sink: String,
    topics: Topics,
    lane: Lane,
    news: watch::Receiver<u64>,
    place: Place,
    /// Nothing new was there at the last look, and that was said.
    is_idle: bool,
    is_finishing: bool,
    is_over: bool,
}

impl OutboxFeed {
    /// The changes of `topics`, for the sink of this name.
    pub fn new(outbox: Outbox, sink: String, topics: Topics) -> OutboxFeed {
        let (sender, news) = watch::channel(0);
        outbox.on_news(move || sender.send_modify(|count| *count += 1));
        let lane = Lane::new(format!("outbox/{:016x}", outbox.state()));
        let (place, is_idle, is_finishing, is_over) = (Place::New, false, false, false);
        OutboxFeed { outbox, sink, topics, lane, news, place, is_idle, is_finishing, is_over }
    }

    /// The next batch; `None` if there is none now.
    fn read(&mut self, room: usize) -> Result<Option<Batch>, FeedError> {
        let Place::Reading { cursor, .. } = &mut self.place else { return Ok(None) };
        let limits = Limits { records: room, bytes: BATCH_BYTES };
        let batch = self.outbox.read(cursor.as_ref().map(Cursor::as_bytes), self.topics, limits).map_err(fatal)?;
        let is_unmoved = cursor.as_ref().is_some_and(|cursor| cursor.as_bytes() == batch.cursor);
        if batch.records.is_empty() && batch.is_end && is_unmoved {
            return Ok(None);
        }
        let next = Some(Cursor::new(batch.cursor));
        cursor.clone_from(&next);
        Ok(Some(Batch { changes: batch.records.into_iter().map(change).collect(), next, published_at: None }))
    }

    async fn next_event(&mut self, room: usize) -> Result<Event, FeedError> {
        if let Place::New = self.place {
            self.place = Place::Assigned;
            return Ok(Event::Assigned(self.lane.clone()));
        }
        while room > 0 && !self.is_over && matches!(self.place, Place::Reading { .. }) {
            // Before reading: what is published after that is news.
            self.news.borrow_and_update();
            if let Some(batch) = self.read(room)? {
                self.is_idle = false;
                return Ok(Event::Batch(self.lane.clone(), batch));
            }
            if self.is_finishing {
                self.is_over = true;
                return Ok(Event::End);
            }
            if !self.is_idle {
                self.is_idle = true;
                return Ok(Event::Idle);
            }
            if self.news.changed().await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }
}

impl Feed for OutboxFeed {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Result<Event, FeedError>> {
        Box::pin(self.next_event(room))
    }

    fn start<'a>(&'a mut self, _lane: &'a Lane, from: &'a Start) -> BoxFuture<'a, Result<Option<Cursor>, FeedError>> {
        Box::pin(async move {
            let cursor = match from {
                Start::At(cursor) => cursor.clone(),
                Start::Remembered => self.outbox.remembered(&self.sink).map_err(fatal)?.map(Cursor::new),
            };
            self.place = Place::Reading { cursor: cursor.clone(), keeps: *from == Start::Remembered };
            Ok(cursor)
        })
    }

    fn remember(&mut self, _lane: &Lane, cursor: &Cursor) -> Result<(), FeedError> {
        match self.place {
            Place::Reading { keeps: true, .. } => self.outbox.remember(&self.sink, cursor.as_bytes()).map_err(fatal),
            _ => Ok(()),
        }
    }

    fn reject<'a>(&'a mut self, rejections: &'a [Rejection<'a>]) -> BoxFuture<'a, Result<(), FeedError>> {
        Box::pin(async { rejections.iter().try_for_each(|rejection| dead_letter(&self.outbox, rejection)) })
    }

    fn lag(&self, _lane: &Lane, cursor: Option<&Cursor>) -> Option<u64> {
        // Of a copy of rows it is not known how many there are.
        let position = self.outbox.acknowledged(cursor.map(Cursor::as_bytes)).ok()?;
        Some(self.outbox.end().saturating_sub(position))
    }

    fn finish(&mut self) {
        self.is_finishing = true;
    }
}

fn change(record: Record) -> Change {
    Change { sequence: record.sequence, topic: record.topic, key: record.key, value: record.value }
}

fn dead_letter(outbox: &Outbox, rejection: &Rejection<'_>) -> Result<(), FeedError> {
    let change = rejection.change;
    let value = change.value.as_deref().unwrap_or_default();
    let letter = DeadLetter {
        stage: &format!("sink {}", rejection.sink),
        topic: change.topic.name(),
        partition: None,
        line: None,
        offset: change.sequence,
        error: rejection.reason,
        raw: value,
        raw_bytes: value.len() as u64,
    };
    let mut letter = letter.to_json();
    letter["key"] = String::from_utf8_lossy(&change.key).into();
    let name = format!("{}:{}", rejection.sink, change.sequence);
    let value = letter.to_string();
    let output = Output { topic: Topic::DeadLetters, key: name.as_bytes(), value: Some(value.as_bytes()) };
    outbox.add_once(name.as_bytes(), output).map_err(fatal)
}

fn fatal(error: impl Into<BoxError>) -> FeedError {
    FeedError::Fatal(error.into())
}
