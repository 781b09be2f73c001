use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;
use touchline_core::output::Topic::{self, Alerts, DeadLetters, Facts, Scores};

use super::{open, publish};
use crate::{Batch, CursorError, Limits, Outbox, OutboxError, Output, Topics};

/// What a sink makes of what it reads.
#[derive(Clone, Debug, Default)]
struct Sink {
    cursor: Option<Vec<u8>>,
    latest: BTreeMap<(Topic, Vec<u8>), Vec<u8>>,
    all: BTreeMap<u64, (Topic, Vec<u8>)>,
}

impl Sink {
    fn read(&mut self, outbox: &Outbox, topics: Topics, limits: Limits) -> bool {
        let Batch { records, cursor, is_end } = outbox.read(self.cursor.as_deref(), topics, limits).unwrap();
        assert!(records.len() <= limits.records && cursor.len() <= 2048);
        let bytes: usize = records.iter().map(|r| r.key.len() + r.value.as_ref().map_or(0, Vec::len)).sum();
        assert!(bytes <= limits.bytes || records.len() == 1);
        for record in records {
            assert!(topics.contains(record.topic));
            match (record.topic.is_compacted(), record.value) {
                (false, value) => drop(self.all.insert(record.sequence, (record.topic, value.unwrap()))),
                (true, Some(value)) => drop(self.latest.insert((record.topic, record.key), value)),
                (true, None) => drop(self.latest.remove(&(record.topic, record.key))),
            }
        }
        self.cursor = Some(cursor);
        is_end
    }

    fn drain(&mut self, outbox: &Outbox, topics: Topics) {
        while !self.read(outbox, topics, Limits::default()) {}
    }

    fn latest(&self, topic: Topic) -> Vec<(&str, &str)> {
        let of_topic = self.latest.iter().filter(|((of, _), _)| *of == topic);
        of_topic.map(|((_, key), value)| (str::from_utf8(key).unwrap(), str::from_utf8(value).unwrap())).collect()
    }
}

#[test]
fn a_sink_gets_the_latest_of_each_key_and_every_alert() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let long = "k".repeat(5_000);
    publish(&mut store, &[(Scores, "a", Some("1")), (Alerts, "x", Some("opened")), (Scores, "a", Some("2"))]);
    publish(&mut store, &[(Facts, "f", Some("1")), (Alerts, "x", Some("recovered")), (Facts, &long, Some("long"))]);
    let outbox = store.outbox().clone();
    let mut early = Sink::default();
    assert!(early.read(&outbox, Topics::ALL, Limits::default()));
    publish(&mut store, &[(Facts, "f", None), (Scores, "b", Some("1")), (Scores, "a", Some("3"))]);
    let mut late = Sink::default();
    for sink in [&mut early, &mut late] {
        sink.drain(&outbox, Topics::ALL);
        assert_eq!(sink.latest(Scores), [("a", "3"), ("b", "1")]);
        assert_eq!(sink.latest(Facts), [(&long[..], "long")]);
        let alerts: Vec<_> = sink.all.values().map(|(_, value)| str::from_utf8(value).unwrap()).collect();
        assert_eq!(alerts, ["opened", "recovered"]);
    }
}

#[test]
fn superseded_pointers_are_skipped() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let outbox = store.outbox().clone();
    let start = outbox.read(None, Topics::ALL, Limits::default()).unwrap().cursor;
    for value in ["1", "2", "3"] {
        publish(&mut store, &[(Scores, "a", Some(value)), (Scores, value, Some(value))]);
    }
    let batch = outbox.read(Some(&start), Topics::ALL, Limits::default()).unwrap();
    let read: Vec<_> = batch.records.iter().map(|record| (record.sequence, &record.key[..])).collect();
    assert_eq!(read, [(1, &b"1"[..]), (3, b"2"), (4, b"a"), (5, b"3")]);
}

#[test]
fn who_is_far_behind_copies_what_has_changed() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let outbox = store.outbox().clone();
    publish(&mut store, &[(Scores, "old", Some("1")), (Scores, "a", Some("1")), (Alerts, "x", Some("0"))]);
    let mut cursor = outbox.read(None, Topics::ALL, Limits::default()).unwrap().cursor;
    for value in ["1", "2", "3", "4", "5", "6", "7"] {
        publish(&mut store, &[(Scores, "b", Some(value)), (Scores, "a", Some(value)), (Alerts, "x", Some(value))]);
    }
    let mut read = Vec::new();
    while read.len() < 9 {
        let batch = outbox.read(Some(&cursor), Topics::ALL, Limits { records: 2, bytes: 100 }).unwrap();
        cursor = batch.cursor;
        read.extend(batch.records.into_iter().map(|record| (record.sequence, record.key)));
        // What comes in the meantime comes at the end.
        if read.len() == 4 {
            publish(&mut store, &[(Scores, "a", Some("8"))]);
        }
    }
    let alerts = (1..8).map(|batch| (3 * batch + 2, b"x".to_vec()));
    let scores = [(21, b"b".to_vec()), (24, b"a".to_vec())];
    assert_eq!(read, alerts.chain(scores).collect::<Vec<_>>());
}

#[test]
fn topics_that_are_added_are_copied() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let outbox = store.outbox().clone();
    publish(&mut store, &[(Scores, "a", Some("1")), (Alerts, "x", Some("opened"))]);
    let mut sink = Sink::default();
    sink.drain(&outbox, [Alerts].into_iter().collect());
    assert_eq!((sink.latest.len(), sink.all.len()), (0, 1));
    sink.all.clear();
    sink.drain(&outbox, [Alerts, Scores].into_iter().collect());
    assert_eq!((sink.latest(Scores), sink.all.len()), (vec![("a", "1")], 0));
}

#[test]
fn a_topic_added_during_a_copy_of_changes_repeats_nothing_that_was_followed() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let outbox = store.outbox().clone();
    let topics: Topics = [Alerts, Scores].into_iter().collect();
    for n in 0..10 {
        let v = n.to_string();
        publish(&mut store, &[(Alerts, "x", Some(&v[..])), (Facts, "f", Some("1"))]);
    }
    let mut sink = Sink::default();
    sink.drain(&outbox, topics);
    assert_eq!(sink.all.len(), 10);
    for n in 10..40 {
        let v = n.to_string();
        publish(&mut store, &[(Alerts, "x", Some(&v[..]))]);
    }
    let few = Limits { records: 2, bytes: 100 };
    let first = outbox.read(sink.cursor.as_deref(), topics, few).unwrap();
    assert_eq!(first.records.len(), 2);
    let mut cursor = first.cursor;
    let mut repeated = Vec::new();
    loop {
        let batch = outbox.read(Some(&cursor), Topics::ALL, Limits::default()).unwrap();
        repeated.extend(
            batch
                .records
                .iter()
                .filter(|r| r.topic == Alerts && sink.all.contains_key(&r.sequence))
                .map(|r| r.sequence),
        );
        cursor = batch.cursor;
        if batch.is_end {
            break;
        }
    }
    assert_eq!(repeated, Vec::<u64>::new());
}

#[test]
fn a_foreign_cursor_is_refused() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut store, stranger) = (open(dir.path()), open(other.path()));
    publish(&mut store, &[(Scores, "a", Some("1"))]);
    let cursor = store.outbox().read(None, Topics::ALL, Limits::default()).unwrap().cursor;
    let refused = |outbox: &Outbox, cursor: &[u8]| match outbox.read(Some(cursor), Topics::ALL, Limits::default()) {
        Err(OutboxError::Cursor(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(stranger.outbox(), &cursor), CursorError::Foreign);
    for end in 0..cursor.len() {
        assert_eq!(refused(store.outbox(), &cursor[..end]), CursorError::Malformed);
    }
    assert_eq!(refused(store.outbox(), &[&cursor[..], &[0]].concat()), CursorError::Malformed);
    let mut ahead = cursor.clone();
    *ahead.last_mut().unwrap() += 1;
    assert_eq!(refused(store.outbox(), &ahead), CursorError::Ahead);
}

#[test]
fn a_dead_letter_is_added_once() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    publish(&mut store, &[(Scores, "a", Some("1"))]);
    let news = Arc::new(AtomicU64::new(0));
    let seen = news.clone();
    store.outbox().on_news(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let letter = Output { topic: DeadLetters, key: b"sales|7", value: Some(b"{}") };
    for _ in 0..2 {
        store.outbox().add_once(b"sales|7", letter).unwrap();
    }
    publish(&mut store, &[(Scores, "b", Some("1"))]);
    assert_eq!((store.outbox().end(), news.load(Ordering::Relaxed)), (3, 2));
    drop(store);
    let store = open(dir.path());
    store.outbox().add_once(b"sales|7", letter).unwrap();
    let mut sink = Sink::default();
    sink.drain(store.outbox(), Topics::ALL);
    assert_eq!((sink.all.len(), sink.latest.len()), (1, 2));
}

#[test]
fn reads_while_another_thread_writes() {
    const BATCHES: usize = 300;
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let outbox = store.outbox().clone();
    let reader = std::thread::spawn(move || {
        let mut sink = Sink::default();
        let all = |sink: &Sink| sink.all.len() == BATCHES;
        while !sink.read(&outbox, Topics::ALL, Limits { records: 7, bytes: 1 << 20 }) || !all(&sink) {
            outbox.trim(outbox.acknowledged(sink.cursor.as_deref()).unwrap()).unwrap();
        }
        sink
    });
    for batch in 0..BATCHES {
        let value = batch.to_string();
        let key = (batch % 10).to_string();
        publish(
            &mut store,
            &[(Scores, &key, Some(&value)), (Alerts, "x", Some(&value)), (Facts, &value, Some(&value))],
        );
    }
    let sink = reader.join().unwrap();
    assert_eq!(sink.latest(Scores).len(), 10);
    assert!(sink.latest(Scores).iter().all(|(_, value)| value.parse::<usize>().unwrap() >= BATCHES - 10));
    assert_eq!(sink.latest(Facts).len(), BATCHES);
}

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<(usize, u8, Option<u8>)>),
    Read(usize, usize),
    Add(usize, usize),
    Forget(usize),
    Crash(usize),
    Trim,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (0..4usize, 0..6u8, prop::option::weighted(0.8, any::<u8>()));
    prop_oneof![
        4 => prop::collection::vec(record, 0..12).prop_map(Op::Publish),
        8 => (0..3usize, 1..6usize).prop_map(|(sink, records)| Op::Read(sink, records)),
        1 => (0..3usize, 0..4usize).prop_map(|(sink, topic)| Op::Add(sink, topic)),
        1 => (0..3usize).prop_map(Op::Forget),
        1 => (0..3usize).prop_map(Op::Crash),
        2 => Just(Op::Trim),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sinks that take other topics, start, crash and start again, over a log that is trimmed by some of them.
    #[test]
    fn every_sink_ends_with_what_was_published(ops in prop::collection::vec(op(), 1..100)) {
        let dir = TempDir::new().unwrap();
        let mut store = open(dir.path());
        let mut sinks = [Topics::ALL, [Alerts].into_iter().collect(), [Scores, Facts].into_iter().collect()]
            .map(|topics| (topics, Sink::default(), Sink::default()));
        let mut published = Sink::default();
        for op in ops {
            match op {
                Op::Publish(records) => {
                    let end = store.outbox().end();
                    let mut texts: Vec<(Topic, String, Option<String>)> = Vec::new();
                    for (topic, key, value) in records {
                        let (topic, key) = (Topic::ALL[topic], key.to_string());
                        let value = value.map(|value| value.to_string()).or((!topic.is_compacted()).then(String::new));
                        let is_same = |it: &&mut (Topic, String, _)| topic == Scores && (it.0, &it.1) == (topic, &key);
                        match texts.iter_mut().find(is_same) {
                            Some(older) => older.2 = value,
                            None => texts.push((topic, key, value)),
                        }
                    }
                    publish(&mut store, &texts.iter().map(|(t, k, v)| (*t, &k[..], v.as_deref())).collect::<Vec<_>>());
                    for (sequence, (topic, key, value)) in (end..).zip(texts) {
                        match (topic.is_compacted(), value.map(String::into_bytes)) {
                            (false, value) => drop(published.all.insert(sequence, (topic, value.unwrap()))),
                            (true, Some(value)) => drop(published.latest.insert((topic, key.into_bytes()), value)),
                            (true, None) => drop(published.latest.remove(&(topic, key.into_bytes()))),
                        }
                    }
                }
                Op::Read(sink, records) => {
                    let (topics, sink, before) = &mut sinks[sink];
                    before.clone_from(sink);
                    sink.read(store.outbox(), *topics, Limits { records, bytes: 12 });
                }
                Op::Add(sink, topic) => sinks[sink].0 = sinks[sink].0.or([Topic::ALL[topic]].into_iter().collect()),
                Op::Forget(sink) => (sinks[sink].1, sinks[sink].2) = Default::default(),
                // What it read last was not stored.
                Op::Crash(sink) => sinks[sink].1 = sinks[sink].2.clone(),
                // The third sink is not asked: it may be left behind.
                Op::Trim => {
                    let acknowledged = sinks[..2].iter().map(|(_, sink, _)| {
                        store.outbox().acknowledged(sink.cursor.as_deref()).unwrap()
                    });
                    store.outbox().trim(acknowledged.min().unwrap()).unwrap();
                }
                Op::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
            }
        }
        for (topics, mut sink, _) in sinks {
            sink.drain(store.outbox(), topics);
            let latest: BTreeMap<_, _> =
                published.latest.iter().filter(|((topic, _), _)| topics.contains(*topic)).map(|(k, v)| (k.clone(), v.clone())).collect();
            let all: BTreeMap<_, _> =
                published.all.iter().filter(|(_, (topic, _))| topics.contains(*topic)).map(|(k, v)| (*k, v.clone())).collect();
            prop_assert_eq!(&sink.latest, &latest);
            prop_assert_eq!(&sink.all, &all);
        }
        let problems = store.verify().unwrap().problems;
        prop_assert!(problems.is_empty(), "{problems:?}");
    }
}

#[test]
fn what_a_sink_does_not_keep_itself_is_remembered() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let outbox = store.outbox();
    outbox.remember("one", b"first").unwrap();
    outbox.remember("one", b"second").unwrap();
    outbox.remember("on", b"other").unwrap();
    drop(store);
    let mut store = open(dir.path());
    let remembered = |name| store.outbox().remembered(name).unwrap();
    assert_eq!(remembered("one").as_deref(), Some(&b"second"[..]));
    assert_eq!(remembered("on").as_deref(), Some(&b"other"[..]));
    assert_eq!(remembered("o"), None);
    assert!(store.verify().unwrap().problems.is_empty());
}
