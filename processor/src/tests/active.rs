//! A partition on Kafka without Kafka: whatever happens to its transactions and to the process, and whenever its state is
//! written, what was published is what a run without any of that publishes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rdkafka::message::{OwnedMessage, Timestamp};
use tempfile::TempDir;
use touchline_core::keys::table;
use touchline_core::output::Topic;

use super::worker::{SETTINGS, log};
use super::{open, rows};
use crate::kafka::active::Active;
use crate::kafka::position::{Committed, Position, Stand};
use crate::partition::Partition;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// So many records, and slices of one that takes many.
    Apply(usize),
    Publish,
    Write,
    /// A transaction of which nobody knows whether it came to be.
    Doubt {
        is_published: bool,
    },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..60usize).prop_map(Op::Apply),
        4 => Just(Op::Publish),
        1 => Just(Op::Write),
        1 => any::<bool>().prop_map(|is_published| Op::Doubt { is_published }),
        1 => Just(Op::Crash),
    ]
}

/// The partition, and what the brokers have of it.
struct Sut {
    active: Active,
    /// The offset that is read next.
    next: i64,
    committed: Option<Position>,
    alerts: Vec<String>,
    latest: BTreeMap<(Topic, String), String>,
}

fn start(dir: &Path, committed: Option<Position>) -> Active {
    let store = open(dir);
    let new = Stand { topic: "events".to_owned(), partitions: 1, generation: 0, position: Position::default() };
    let stand = store.position().unwrap().map_or(new, |bytes| Stand::decode(&bytes).unwrap());
    let mut active = Active::new(0, Partition::load(store, &SETTINGS).unwrap(), stand);
    active.publish_from(committed.map(|position| Committed { position, generation: 0 }));
    active
}

fn message(offset: i64, line: &str) -> OwnedMessage {
    let payload = Some(line.as_bytes().to_vec());
    OwnedMessage::new(payload, None, "events".to_owned(), Timestamp::NotAvailable, 0, offset, None)
}

impl Sut {
    fn apply(&mut self, lines: &[String], records: usize) {
        for turn in 0..records {
            // Some come while there is more than enough to do.
            if self.active.is_busy() && turn % 3 > 0 {
                self.active.go_on().unwrap();
                continue;
            }
            let rest = (self.next..).zip(lines.iter().skip(self.next as usize));
            let hand: Vec<_> = rest.take(1 + turn % 4).map(|(offset, line)| message(offset, line)).collect();
            self.next += hand.len() as i64;
            self.active.take(&hand, OwnedMessage::clone).unwrap();
        }
    }

    /// The brokers take a transaction.
    fn take(&mut self) {
        self.active.partition.save();
        for output in self.active.partition.outputs.iter() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            match (output.topic, output.value.map(text)) {
                (Topic::Alerts, value) => self.alerts.push(value.unwrap()),
                (topic, Some(value)) => drop(self.latest.insert((topic, text(output.key)), value)),
                (topic, None) => drop(self.latest.remove(&(topic, text(output.key)))),
            }
        }
        if self.active.is_live() {
            self.committed = Some(self.active.stand.position);
        }
    }

    fn publish(&mut self) {
        self.take();
        self.active.published();
        self.active.write_if_due().unwrap();
    }
}

fn run(dir: &Path, lines: &Arc<Vec<String>>, ops: Vec<Op>) -> Sut {
    let mut sut =
        Sut { active: start(dir, None), next: 0, committed: None, alerts: Vec::new(), latest: BTreeMap::new() };
    for op in ops {
        match op {
            Op::Apply(records) => sut.apply(lines, records),
            Op::Publish => sut.publish(),
            Op::Write => {
                sut.publish();
                sut.active.write().unwrap();
            }
            Op::Doubt { is_published } => {
                if is_published {
                    sut.take();
                }
                sut.active.abort().unwrap();
                sut.active.publish_from(sut.committed.map(|position| Committed { position, generation: 0 }));
                sut.next = sut.active.stand.position.offset;
            }
            Op::Crash => {
                drop(sut.active);
                sut.active = start(dir, sut.committed);
                sut.next = sut.active.stand.position.offset;
            }
        }
    }
    while sut.active.is_busy() || sut.next < lines.len() as i64 {
        sut.apply(lines, 100);
        sut.publish();
    }
    // What the last operation has applied, if that was the last record.
    sut.publish();
    sut.active.write().unwrap();
    sut
}

/// What the store holds, but for when it was begun.
fn state(active: &Active) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = rows(&active.partition.store);
    rows.retain(|(key, _)| key[0] < table::STORE);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_each_output_is_published_once(lines in log(any::<bool>()), ops in prop::collection::vec(op(), 0..60)) {
        let (calm, rough) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (calm, rough) = (run(calm.path(), &lines, Vec::new()), run(rough.path(), &lines, ops));
        prop_assert_eq!(rough.active.stand.position, calm.active.stand.position);
        prop_assert_eq!(rough.alerts, calm.alerts);
        prop_assert_eq!(rough.latest, calm.latest);
        prop_assert_eq!(state(&rough.active), state(&calm.active));
    }
}
