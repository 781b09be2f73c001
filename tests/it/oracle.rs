//! The conservation oracle: everything that came out, held against everything that went in.
//!
//! Each event that was sent is a fact once, each other record a dead letter once; each change of an alert was told once,
//! and none is missing; versions rise; and all of it is what `replay` makes of the same log, undisturbed. All topics are
//! read as a program of somebody else's does: committed records only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::Value;
use touchline_harness::{Kafka, Record};

use crate::community::{self, AS_OF};
use crate::harness::Place;
use crate::kafka::Deployment;

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Events. Some may have been sent several times.
    pub events: BTreeSet<Event>,
    /// Those among them that were taken back, by an event of the same name.
    pub voided: BTreeSet<Event>,
    /// The dead letters that other records must become: `TOPIC/PARTITION/OFFSET/0`.
    pub letters: BTreeSet<String>,
}

/// Source, id and moment; the moment of one that is corrected by another may change, and tells nothing.
pub type Event = (String, String, Option<String>);

/// What tells an event, or its fact, from others.
pub fn name(event: &Value) -> Event {
    let part = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("no {name}: {event}")).to_owned();
    let moment = event["revision"].is_null().then(|| part("occurred_at"));
    (part("source"), part("id"), moment)
}

/// The id and sequence of an alert's change.
pub fn change(alert: &Value) -> (String, u64) {
    (alert["id"].as_str().unwrap().to_owned(), alert["sequence"].as_u64().unwrap())
}

/// What is sent has come out, once; returns what came out.
#[track_caller]
pub fn check(deployment: &Deployment<'_>, sent: &Sent) -> Answer {
    let log = deployment.kafka.read_committed(&deployment.topic("events"));
    check_log(&log, sent);
    let letters = deployment.kafka.read_committed(&deployment.topic("dead_letters"));
    check_letters(&letters, sent, &deployment.topic("events"));
    let answer = Answer::read(deployment.kafka, &deployment.prefix);
    answer.conserves(sent);
    answer.has_no_holes();
    answer.is_not_early();
    answer.is_like(&undisturbed(&log), true);
    answer
}

/// Ingest may say an event twice, and never loses one or makes one up.
fn check_log(log: &[Record], sent: &Sent) {
    let mut found = BTreeSet::new();
    for record in log.iter().filter(|record| record.key.is_some()) {
        let event: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let name = name(&event);
        assert!(sent.events.contains(&name), "nobody has sent {event}");
        found.insert(name);
    }
    let lost: Vec<_> = sent.events.difference(&found).take(5).collect();
    assert!(lost.is_empty(), "lost on the way into the log: {lost:?}");
}

/// By key: ingest may write a letter twice, the same each time. What the processor refuses is written in a transaction.
fn check_letters(letters: &[Record], sent: &Sent, log: &str) {
    let mut found: BTreeMap<String, &Option<Vec<u8>>> = BTreeMap::new();
    for letter in letters {
        let key = String::from_utf8(letter.key.clone().unwrap()).unwrap();
        let is_of_the_log = key.starts_with(&format!("{log}/"));
        if let Some(before) = found.insert(key.clone(), &letter.value) {
            assert!(!is_of_the_log, "the processor has written {key} twice");
            assert_eq!(before, &letter.value, "{key} was written twice, and differs");
        }
    }
    let found: BTreeSet<String> = found.into_keys().collect();
    let lost: Vec<_> = sent.letters.difference(&found).take(5).collect();
    let beyond: Vec<_> = found.difference(&sent.letters).take(5).collect();
    assert!(lost.is_empty() && beyond.is_empty(), "dead letters: lost {lost:?}, beyond {beyond:?}");
}

/// What `replay` makes of each partition of a log.
fn undisturbed(log: &[Record]) -> Answer {
    // Whatever stands first in a partition, it is a log and no history.
    const FIRST: &[u8] = br#"{"kind":"tick","through":"1970-01-01T00:00:00Z"}"#;
    let place = Place::new();
    let (mut facts, mut scores, mut alerts) = (Vec::new(), Vec::new(), Vec::new());
    for partition in log.chunk_by(|one, next| one.partition == next.partition) {
        let lines = partition.iter().filter_map(|record| record.value.as_deref());
        let text: Vec<u8> =
            std::iter::once(FIRST).chain(lines).flat_map(|line| [line, b"\n"]).flatten().copied().collect();
        let name = format!("p{}", partition[0].partition);
        place.write(&format!("{name}.jsonl"), text);
        place.run(&format!("replay {name}.jsonl --out {name} --json")).ok();
        facts.extend(place.objects(&format!("{name}/facts.jsonl")));
        scores.extend(place.objects(&format!("{name}/scores.jsonl")));
        alerts.extend(place.objects(&format!("{name}/alerts.jsonl")));
    }
    assert!(!alerts.is_empty(), "there was nothing to tell");
    Answer::of(facts, scores, alerts)
}

/// What is known at the end: `version` apart, of each key; and every alert change there was.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub facts: BTreeSet<String>,
    pub scores: BTreeMap<String, Value>,
    pub alerts: BTreeMap<(String, u64), Value>,
}

impl Answer {
    pub fn of(facts: Vec<Value>, scores: Vec<Value>, alerts: Vec<Value>) -> Answer {
        let count = alerts.len();
        let alerts: BTreeMap<_, _> = alerts.into_iter().map(|alert| (change(&alert), alert)).collect();
        assert_eq!(alerts.len(), count, "an alert change came twice");
        let who = |score: &Value| format!("{}|{}", score["account"], score["contact"]);
        Answer {
            facts: facts.into_iter().map(|fact| unversioned(fact).to_string()).collect(),
            scores: scores.into_iter().map(|score| (who(&score), unversioned(score))).collect(),
            alerts,
        }
    }

    /// What the topics of this prefix say.
    pub fn read(kafka: &Kafka, prefix: &str) -> Answer {
        let values = |topic: &str| {
            let mut versions = BTreeMap::new();
            let mut latest = BTreeMap::new();
            let mut all = Vec::new();
            for record in kafka.read_committed(&format!("{prefix}.{topic}")) {
                let key = record.key.unwrap();
                let Some(value) = record.value else {
                    latest.remove(&key);
                    continue;
                };
                let value: Value = serde_json::from_slice(&value).unwrap();
                if let Some(version) = value["version"].as_u64() {
                    let last = versions.insert(key.clone(), version);
                    assert!(
                        last.is_none_or(|last| last < version),
                        "{topic}: version {version} after {last:?}: {value}"
                    );
                }
                latest.insert(key, value.clone());
                all.push(value);
            }
            (latest.into_values().collect(), all)
        };
        Answer::of(values("facts").0, values("scores").0, values("alerts").1)
    }

    /// Each event is a fact, once; those that were taken back are none.
    #[track_caller]
    fn conserves(&self, sent: &Sent) {
        let mut found = BTreeSet::new();
        for fact in &self.facts {
            let fact: Value = serde_json::from_str(fact).unwrap();
            // Silences are found, and not sent.
            if fact["source"].is_string() {
                let name = name(&fact);
                assert!(found.insert(name.clone()), "{name:?} is a fact twice");
            }
        }
        let expected: BTreeSet<_> = sent.events.difference(&sent.voided).cloned().collect();
        let lost: Vec<_> = expected.difference(&found).take(5).collect();
        let beyond: Vec<_> = found.difference(&expected).take(5).collect();
        assert!(lost.is_empty() && beyond.is_empty(), "facts: lost {lost:?}, beyond {beyond:?}");
    }

    /// The changes of each alert are numbered from 1 on.
    #[track_caller]
    fn has_no_holes(&self) {
        let mut last: (&str, u64) = ("", 0);
        for (id, sequence) in self.alerts.keys() {
            let before = if last.0 == id { last.1 } else { 0 };
            assert_eq!(*sequence, before + 1, "changes of alert {id}");
            last = (id, *sequence);
        }
    }

    /// Nobody was called silent before it was true.
    #[track_caller]
    fn is_not_early(&self) {
        let now = Timestamp::now();
        for alert in self.alerts.values().filter(|alert| alert["rule"] != "at_risk" && alert["change"] == "opened") {
            let due: Timestamp = alert["due"].as_str().unwrap().parse().unwrap();
            assert!(due <= now, "it is {now}: {alert}");
        }
    }

    /// What a replay of the history says.
    pub fn truth() -> &'static Answer {
        static TRUTH: OnceLock<Answer> = OnceLock::new();
        TRUTH.get_or_init(|| {
            let place = Place::with(&[("history.jsonl.gz", community::GZIP)]);
            place.run(&format!("replay history.jsonl.gz --as-of {AS_OF} --out out --json")).ok();
            let objects = |name: &str| place.objects(&format!("out/{name}.jsonl"));
            Answer::of(objects("facts"), objects("scores"), objects("alerts"))
        })
    }

    pub fn is_like(&self, other: &Answer, with_alerts: bool) {
        let missing: Vec<_> = other.facts.difference(&self.facts).take(3).collect();
        let beyond: Vec<_> = self.facts.difference(&other.facts).take(3).collect();
        assert!(missing.is_empty() && beyond.is_empty(), "facts: missing {missing:#?}, beyond {beyond:#?}");
        assert_eq!(self.scores.len(), other.scores.len());
        for (who, score) in &self.scores {
            let expected = &other.scores[who];
            assert!(near(score, expected), "score of {who}:\n{score}\n{expected}");
        }
        if with_alerts {
            for (name, alert) in &other.alerts {
                assert_eq!(self.alerts.get(name), Some(alert), "{name:?}");
            }
            assert_eq!(self.alerts.len(), other.alerts.len());
        }
    }
}

fn unversioned(mut value: Value) -> Value {
    value.as_object_mut().unwrap().remove("version");
    value
}

/// Equal, and numbers to 1e-9: a sum depends on its order in the last bits.
fn near(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-9,
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, value)| other.get(key).is_some_and(|it| near(value, it)))
        }
        _ => one == other,
    }
}
