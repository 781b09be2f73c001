use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tempfile::TempDir;
use touchline_core::erasure::ErasureKey;
use touchline_core::keys::{self as core_keys, table};
use touchline_core::output::Topic;
use touchline_core::record::{Record, tick_record};
use touchline_core::rules::Rules;

use super::{open, rows};
use crate::failpoint::{Point, arm};
use crate::{
    Commit, Durability, HeldEvents, Input, Journal, Limits, Place, Progress, Settings, Store, StoreError, Topics,
    Worker, WorkerError, keys,
};

/// A log in memory. Events after `until` are held, and let go of before anything else by a later journal.
struct Lines {
    lines: Arc<Vec<String>>,
    at: usize,
    until: Timestamp,
    held: Vec<u8>,
}

impl Lines {
    /// Where the store says.
    fn new(lines: &Arc<Vec<String>>, store: &Store, until: Timestamp) -> Lines {
        let position = store.position().unwrap().unwrap_or(vec![0; 8]);
        let at = u64::from_be_bytes(position.try_into().unwrap()) as usize;
        Lines { lines: lines.clone(), at, until, held: Vec::new() }
    }
}

impl Journal for Lines {
    type Error = StoreError;

    fn next<'a>(&'a mut self, held: &mut HeldEvents<'_>) -> Result<Input<'a>, StoreError> {
        if let Some(found) = held.first(self.until)? {
            self.held = found.raw;
            let record = Record::parse(&self.held, &TimeZone::UTC).unwrap();
            return Ok(Input::Record { record, tick: None, bytes: self.held.len(), held: Some(found.key) });
        }
        let Some(line) = self.lines.get(self.at) else { return Ok(Input::End) };
        self.at += 1;
        let parse = |line: &'a String| Record::parse(line.as_bytes(), &TimeZone::UTC);
        match parse(line) {
            // As a file's journal does: the tick and the event behind it in one.
            Ok(Record::Tick { through, .. }) => match self.lines.get(self.at).map(|line| (line.len(), parse(line))) {
                Some((bytes, Ok(record @ Record::Event(_)))) => {
                    self.at += 1;
                    Ok(Input::Record { record, tick: Some(through), bytes, held: None })
                }
                _ => Ok(Input::Record { record: Record::tick(through), tick: None, bytes: line.len(), held: None }),
            },
            Ok(Record::Event(event)) if event.occurred_at > self.until => {
                Ok(Input::Hold { at: event.occurred_at, raw: line.clone().into() })
            }
            Ok(record) => Ok(Input::Record { record, tick: None, bytes: line.len(), held: None }),
            Err(_) if line.is_empty() => Ok(Input::Idle),
            Err(_) => Ok(Input::DeadLetter { key: self.at.to_string().into(), value: line.clone().into() }),
        }
    }

    fn position(&mut self, place: Place) -> Vec<u8> {
        let back = usize::from(place == Place::Before);
        ((self.at - back) as u64).to_be_bytes().to_vec()
    }

    fn commit(&mut self, commit: Commit<'_>) -> Result<(), StoreError> {
        commit.store_all(Durability::Logged)
    }
}

/// Nothing is older, or newer.
const START: i64 = 1_577_836_800;
const DAY: i64 = 86_400;

pub(super) fn at(day: i64) -> Timestamp {
    Timestamp::from_second(START + day * DAY).unwrap()
}

pub(super) fn engagement(number: usize, account: u8, contact: u16, day: i64) -> String {
    format!(
        r#"{{"kind":"engagement","id":"{number}","source":"crm","occurred_at":"{}","account":"a{account}","contact":"c{contact}","vehicle":"call"}}"#,
        at(day)
    )
}

/// The contact is to be forgotten, or is somebody again.
fn deletion(account: u8, contact: u16, day: i64, is_deleted: bool) -> String {
    format!(
        r#"{{"kind":"profile","id":"deletion","source":"crm","occurred_at":"{}","account":"a{account}","contact":"c{contact}","deleted":{is_deleted}}}"#,
        at(day)
    )
}

pub(super) fn tick(day: i64) -> String {
    String::from_utf8(tick_record(at(day), None)).unwrap()
}

fn rules(months: u32) -> String {
    let mut rules = Rules::default();
    rules.lapse.months = months;
    String::from_utf8(rules.to_record(None)).unwrap()
}

/// More than the state machine takes in one slice of a tick or a rules record.
const CROWD: u16 = 600;

/// Three years of a few contacts, and perhaps of a crowd of others who are heard of once, with ticks, junk, other rules, and
/// silences long enough to be alerts.
pub(crate) fn log(is_crowded: impl Strategy<Value = bool>) -> impl Strategy<Value = Arc<Vec<String>>> {
    let line = (0..40u8, 0..3u8, 0..4u16, 0..40i64);
    (prop::collection::vec(line, 100..400), is_crowded).prop_map(|(lines, is_crowded)| {
        let line = |(number, (what, account, contact, late)): (usize, (u8, u8, u16, i64))| {
            let day = number as i64 * 3;
            match what {
                0 => "junk".to_owned(),
                1 => String::new(),
                2 => rules(u32::from(contact) + 1),
                3..12 => tick(day),
                12 => deletion(account, contact, day - late, true),
                13 => deletion(account, contact, day, false),
                _ => engagement(number, account, contact, day - late),
            }
        };
        let crowd = (0..if is_crowded { CROWD } else { 0 }).map(|contact| engagement(0, 3, contact, 0));
        let lines = lines.into_iter().enumerate().map(line);
        Arc::new(crowd.chain(lines).chain([tick(1_300)]).collect())
    })
}

/// A batch at every look at the clock.
pub const SETTINGS: Settings =
    Settings { commit_interval: Duration::ZERO, publish: Topics::ALL, erasures: ErasureKey::NONE };

pub(super) fn run(dir: &Path, lines: &Arc<Vec<String>>, until: Timestamp) -> Result<Progress, WorkerError<StoreError>> {
    let store = open(dir);
    let journal = Lines::new(lines, &store, until);
    let mut total = Progress::default();
    Worker::new(journal, store, SETTINGS).unwrap().run(&AtomicBool::new(false), |batch| {
        total.records += batch.records;
        total.events += batch.events;
        total.held += batch.held;
        total.dead_letters += batch.dead_letters;
        total.alerts += batch.alerts;
        total.opened += batch.opened;
        total.published += batch.published;
    })?;
    Ok(total)
}

/// The core's tables and the position; what a new sink ends with, in the order of each topic.
pub(super) type Outcome = (Vec<(Vec<u8>, Vec<u8>)>, BTreeMap<(Topic, String), String>, Vec<String>);

pub(super) fn outcome(dir: &Path) -> Outcome {
    let mut store = open(dir);
    let found = store.verify().unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let mut state = rows(&store);
    state.retain(|(key, _)| key[0] < table::STORE || key[..] == keys::POSITION);
    let (mut latest, mut alerts, mut cursor) = (BTreeMap::new(), Vec::new(), None);
    loop {
        let batch = store.outbox().read(cursor.as_deref(), Topics::ALL, Limits::default()).unwrap();
        for record in batch.records {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            match (record.topic, text(record.key), record.value.map(text)) {
                (Topic::Alerts, _, value) => alerts.push(value.unwrap()),
                (topic, key, Some(value)) => drop(latest.insert((topic, key), value)),
                (topic, key, None) => drop(latest.remove(&(topic, key))),
            }
        }
        cursor = Some(batch.cursor);
        if batch.is_end {
            return (state, latest, alerts);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn death_anywhere_changes_nothing(lines in log(any::<bool>()), deaths in prop::collection::vec((0..Point::ALL.len(), 0..12u32), 0..8)) {
        let (clean, killed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        run(clean.path(), &lines, Timestamp::MAX).unwrap();
        for (point, nth) in deaths {
            let point = Point::ALL[point];
            arm(point, nth);
            match run(killed.path(), &lines, Timestamp::MAX) {
                Ok(_) => break,
                Err(WorkerError::Store(StoreError::Died(at)) | WorkerError::Journal(StoreError::Died(at))) => {
                    prop_assert_eq!(at, point);
                }
                Err(other) => panic!("{other}"),
            }
        }
        arm(Point::Applied, u32::MAX);
        run(killed.path(), &lines, Timestamp::MAX).unwrap();
        prop_assert_eq!(outcome(killed.path()), outcome(clean.path()));
    }

    #[test]
    fn a_worker_goes_on_after_an_error(lines in log(any::<bool>()), point in 0..2usize, nth in 0..6u32) {
        let (clean, failed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        run(clean.path(), &lines, Timestamp::MAX).unwrap();
        let store = open(failed.path());
        let mut worker = Worker::new(Lines::new(&lines, &store, Timestamp::MAX), store, SETTINGS).unwrap();
        // Up to the write, an error leaves the database as it was.
        arm(Point::ALL[point], nth);
        while worker.run(&AtomicBool::new(false), |_| {}).is_err() {
            let (journal, store) = worker.into_parts();
            worker = Worker::new(Lines::new(&journal.lines, &store, Timestamp::MAX), store, SETTINGS).unwrap();
        }
        arm(Point::Applied, u32::MAX);
        drop(worker);
        prop_assert_eq!(outcome(failed.path()), outcome(clean.path()));
    }

    #[test]
    fn held_events_are_applied_once_their_time_has_come(lines in log(any::<bool>()), until in 0..1_200i64) {
        let (clean, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        // What is erased depends on when it came.
        let is_event = |line: &str| {
            matches!(Record::parse(line.as_bytes(), &TimeZone::UTC), Ok(Record::Event(_))) && !line.contains("deleted")
        };
        let events: Arc<Vec<_>> = Arc::new(lines.iter().filter(|line| is_event(line)).cloned().collect());
        let first = run(dir.path(), &events, at(until)).unwrap();
        let second = run(dir.path(), &events, Timestamp::MAX).unwrap();
        prop_assert_eq!(first.events + second.events, events.len() as u64);
        prop_assert_eq!((first.held, second.held), (second.events, 0));
        run(clean.path(), &events, Timestamp::MAX).unwrap();
        // In another order, versions are others.
        let ids = |outcome: Outcome| outcome.1.into_keys().collect::<Vec<_>>();
        prop_assert_eq!(ids(outcome(dir.path())), ids(outcome(clean.path())));
    }
}

#[test]
fn reports_what_it_did() {
    let dir = TempDir::new().unwrap();
    let mut lines: Vec<_> = (0..200).map(|number| engagement(number, 0, (number % 10) as u16, 0)).collect();
    lines.extend(["junk".to_owned(), tick(200), engagement(0, 0, 0, 0), engagement(999, 0, 0, 900)]);
    let done = run(dir.path(), &Arc::new(lines), at(800)).unwrap();
    assert_eq!((done.records, done.events, done.held, done.dead_letters), (202, 201, 1, 1));
    assert_eq!(done.opened, 10);
    let stats = open(dir.path()).stats().unwrap();
    let rows = |name| stats.tables.iter().find(|table| table.name == name).unwrap().rows;
    assert_eq!((rows("contacts"), rows("accounts"), rows("held events")), (10, 1, 1));
    assert_eq!((stats.last_tick, stats.is_unfinished), (Some(at(200)), false));
}

#[test]
fn stops_behind_the_record_at_hand() {
    let dir = TempDir::new().unwrap();
    let lines = Arc::new((0..100).map(|number| engagement(number, 0, 0, 0)).collect::<Vec<_>>());
    let store = open(dir.path());
    let mut worker = Worker::new(Lines::new(&lines, &store, Timestamp::MAX), store, SETTINGS).unwrap();
    let stop = AtomicBool::new(false);
    worker.run(&stop, |_| stop.store(true, Ordering::Relaxed)).unwrap();
    let (journal, store) = worker.into_parts();
    assert!((1..100).contains(&journal.at));
    assert_eq!(store.position().unwrap().unwrap(), (journal.at as u64).to_be_bytes());
}

#[test]
fn publishes_what_is_wanted_and_dead_letters() {
    let dir = TempDir::new().unwrap();
    let lines = Arc::new(vec![engagement(0, 0, 0, 0), "junk".to_owned(), tick(200)]);
    let store = open(dir.path());
    let settings = Settings { publish: [Topic::Alerts].into_iter().collect(), ..SETTINGS };
    let journal = Lines::new(&lines, &store, Timestamp::MAX);
    Worker::new(journal, store, settings).unwrap().run(&AtomicBool::new(false), |_| {}).unwrap();
    let read = open(dir.path()).outbox().read(None, Topics::ALL, Limits::default()).unwrap().records;
    assert!(read.iter().any(|record| record.topic == Topic::Alerts));
    assert!(read.iter().any(|record| record.topic == Topic::DeadLetters));
    assert!(read.iter().all(|record| matches!(record.topic, Topic::Alerts | Topic::DeadLetters)));
}

#[test]
fn verify_finds_what_does_not_hold_together() {
    let dir = TempDir::new().unwrap();
    let lines: Vec<_> = (0..5).map(|number| engagement(number, 0, number as u16, 0)).collect();
    run(dir.path(), &Arc::new(lines), Timestamp::MAX).unwrap();
    let mut store = open(dir.path());
    let clean = store.verify().unwrap();
    assert_eq!((clean.problems_total, clean.problems), (0, vec![]));
    let timer = rows(&store).into_iter().find(|(key, _)| key[0] == table::TIMER).unwrap().0;
    let (filed, record) = core_keys::read_timer(&timer).unwrap();
    let contact = store.db().get(&record).unwrap().unwrap();

    let mut check = |break_it: &dyn Fn(&rocksdb::DB), mend_it: &dyn Fn(&rocksdb::DB), expected: &[&str]| {
        break_it(store.db());
        let problems = store.verify().unwrap().problems;
        mend_it(store.db());
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.ends_with(expected), "{problem}");
        }
        assert!(store.verify().unwrap().problems.is_empty());
    };
    let moved = core_keys::timer(filed.checked_add(Duration::from_secs(1)).unwrap(), &record);
    check(
        &|db| (db.delete(&timer).unwrap(), db.put(&moved, []).unwrap()).0,
        &|db| (db.delete(&moved).unwrap(), db.put(&timer, []).unwrap()).0,
        &["has filed a timer that is not there", "is a timer that its record has not filed"],
    );
    check(
        &|db| db.put(&record, &contact[..contact.len() - 1]).unwrap(),
        &|db| db.put(&record, &contact).unwrap(),
        &["does not read as timeline entry", "does not read as timeline entry"],
    );
    // The kind of its entry, which stands before the length of the source's name.
    let source = contact.windows(3).position(|bytes| bytes == b"crm").unwrap();
    let mut odd = contact.clone();
    odd[source - 2] = 7;
    check(
        &|db| db.put(&record, &odd).unwrap(),
        &|db| db.put(&record, &contact).unwrap(),
        &["does not read as timeline entry"],
    );
    check(
        &|db| db.delete(&record).unwrap(),
        &|db| db.put(&record, &contact).unwrap(),
        &["is a timer of a record that is not there"],
    );
    check(
        &|db| db.put([table::CONTACT, b'x'], &contact).unwrap(),
        &|db| db.delete([table::CONTACT, b'x']).unwrap(),
        &["does not read as key"],
    );
    check(&|db| db.put("z", "").unwrap(), &|db| db.delete("z").unwrap(), &["is of no table"]);
}
