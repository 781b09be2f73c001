//! `generate --kafka`: the lines of a file as records of a topic, and the story as news of today.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use touchline_harness::{Kafka, Record};

use crate::harness::Place;

fn value(record: &Record) -> &str {
    str::from_utf8(record.value.as_deref().unwrap()).unwrap()
}

fn event(record: &Record) -> Value {
    serde_json::from_str(value(record)).unwrap()
}

/// Generates into a new topic.
fn generate(place: &Place, options: &str) -> Vec<Record> {
    let kafka = Kafka::shared();
    let topic = kafka.unique("generated");
    kafka.create_topic(&topic, 3, &[]);
    place.run(&format!("generate {options} --kafka {topic} --bootstrap {}", kafka.bootstrap())).ok();
    kafka.read_committed(&topic)
}

#[test]
fn a_topic_gets_the_lines_of_a_file_by_account() {
    let place = Place::new();
    let options = "--contacts 40 --events 3000 --seed 3";
    place.run(&format!("generate {options} --to load.jsonl")).ok();
    let records = generate(&place, options);

    // In each partition in the order of the file, and an account's all in one.
    let mut partitions: BTreeMap<String, i32> = BTreeMap::new();
    let mut written: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for record in &records {
        let account = event(record)["account"].as_str().unwrap().to_owned();
        assert_eq!(record.key.as_deref(), Some(account.as_bytes()));
        assert_eq!(*partitions.entry(account).or_insert(record.partition), record.partition);
        written.entry(record.partition).or_default().push(value(record).to_owned());
    }
    let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for line in place.read("load.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        expected.entry(partitions[event["account"].as_str().unwrap()]).or_default().push(line.to_owned());
    }
    assert_eq!(records.len(), 3_000);
    assert!(written == expected, "the topic differs from the file");
}

#[test]
fn the_story_happens_now() {
    let start = Timestamp::now();
    let records = generate(&Place::new(), "--contacts 40 --events 3000 --seed 3 --live --rate 10000");
    let end = Timestamp::now();
    let at = |record: &Record| event(record)["occurred_at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(records.iter().all(|record| at(record) <= end), "something is yet to happen");
    let count = |since: Timestamp| records.iter().filter(|record| at(record) >= since).count();
    // Years are alike but for growth, and nearly all of the second one's events arrive at once.
    let (past, now) = (count(start - (366 * 24).hours()), count(start - 1.second()));
    assert!((2_900..=3_000).contains(&past) && (1_200..=1_800).contains(&now), "{past}, {now}");
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::new();
    for options in ["--rate 5", "--kafka t --live", "--kafka t --rate 0", "--kafka t --to f", "--bootstrap b:1"] {
        let ran = place.run(&format!("generate --contacts 1 --events 1 {options}"));
        assert_eq!(ran.code, Some(64), "{ran}");
    }
    let kafka = Kafka::shared();
    let ran =
        place.run(&format!("generate --contacts 1 --events 1 --kafka no-topic --bootstrap {}", kafka.bootstrap()));
    assert_eq!(ran.code, Some(70), "{ran}");
    assert!(ran.err.contains("topic no-topic cannot be written"), "{ran}");
}
