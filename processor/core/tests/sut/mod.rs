//! The core, run on a log of lines, with what it published gathered into the naive model's form.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test kit")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use touchline_core::account::Account;
use touchline_core::contact::Contact;
use touchline_core::output::{Published, Topic};
use touchline_core::record::Record;
use touchline_core::state::{Memory, State};
use touchline_core::step::{Machine, Step};

use touchline_ingest::identity::{Identity, Tracked};

use crate::model::ledger::Alert;
use crate::model::naive::{Outcome, Score};

/// Where commits fall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// After each slice of each record.
    Each,
    /// Only at the end.
    AtTheEnd,
    /// After each slice, with the machine and all records stored and read again.
    Stored,
}

pub fn run(log: &[String], commits: Commits) -> Outcome {
    let (mut state, mut machine) = (Memory::default(), Machine::default());
    let mut gathered = Gathered::default();
    let identity = Identity::new([]);
    for (line, text) in log.iter().enumerate() {
        let record = match Record::parse(text.as_bytes(), &TimeZone::UTC) {
            Ok(Record::Event(event)) => match identity.resolve(event) {
                Ok(Tracked::Event(event)) => Some(Record::Event(event)),
                Ok(Tracked::Internal) | Err(_) => None,
            },
            parsed => parsed.ok(),
        };
        let Some(record) = record else {
            gathered.outcome.rejected.push(line);
            continue;
        };
        let mut out = Vec::new();
        let mut step = machine.apply(&record, &mut state, &mut out).unwrap();
        loop {
            if commits != Commits::AtTheEnd {
                machine.save(&mut state);
            }
            if commits == Commits::Stored {
                store_and_load(&mut state);
                machine = Machine::load(&mut state).unwrap();
            }
            if step == Step::Done {
                break;
            }
            step = machine.resume(&mut state, &mut out).unwrap();
        }
        gathered.take(line, out);
    }
    gathered.finish()
}

/// Every contact and account through its stored form.
fn store_and_load(state: &mut Memory) {
    let all = (vec![0], vec![0xff]);
    for key in state.contact_keys(&all.0, &all.1, usize::MAX).unwrap() {
        let contact = state.take_contact(&key).unwrap().unwrap();
        let mut bytes = Vec::new();
        contact.encode(&mut bytes);
        let again = Contact::decode(&bytes).unwrap();
        assert_eq!(again, *contact);
        state.put_contact(&key, Box::new(again));
    }
    for key in state.account_keys(&all.0, &all.1, usize::MAX).unwrap() {
        let account = state.take_account(&key).unwrap().unwrap();
        let mut bytes = Vec::new();
        account.encode(&mut bytes);
        let again = Account::decode(&bytes).unwrap();
        assert_eq!(again, *account);
        state.put_account(&key, Box::new(again));
    }
}

#[derive(Default)]
struct Gathered {
    outcome: Outcome,
    facts: BTreeMap<String, Value>,
    versions: BTreeMap<(Topic, String), u64>,
    /// Lapse alerts that stand: (account, contact, id) → the tick at which they were told.
    open: BTreeMap<(String, String, String), Option<Timestamp>>,
}

impl Gathered {
    fn take(&mut self, line: usize, out: Vec<Published>) {
        let erased = self.outcome.erased.len();
        let mut gone = Vec::new();
        for published in out {
            let key = String::from_utf8(published.key).unwrap();
            let value: Option<Value> = published.value.map(|value| serde_json::from_slice(&value).unwrap());
            self.check_version(published.topic, &key, value.as_ref());
            match (published.topic, value) {
                (Topic::Alerts, Some(value)) if value["change"] == "erased" => self.outcome.erased.push(line),
                (Topic::Alerts, Some(value)) => {
                    self.check_listed(&value);
                    self.outcome.alerts.push(alert(line, &value));
                }
                (Topic::Scores, Some(value)) => drop(self.outcome.scores.insert(key, score(&value))),
                (Topic::Scores, None) => drop(self.outcome.scores.remove(&key)),
                (Topic::Facts, Some(value)) => drop(self.facts.insert(key, value)),
                (Topic::Facts, None) => {
                    self.facts.remove(&key);
                    gone.push(key);
                }
                (topic, value) => panic!("{topic:?} {value:?}"),
            }
        }
        if self.outcome.erased.len() > erased {
            // Nothing is known of them any more, not even how often they had changed.
            gone.into_iter().for_each(|key| _ = self.versions.remove(&(Topic::Facts, key)));
        }
    }

    /// An account's alert lists the contacts whose lapse was told at the same tick and stands.
    fn check_listed(&mut self, value: &Value) {
        let (account, change, tick) = (text(value, "account"), text(value, "change"), time(value, "tick"));
        match value["rule"].as_str() {
            Some("lapse") => {
                let key = (account, text(value, "contact"), text(value, "id"));
                match change.as_str() {
                    "opened" | "escalated" => drop(self.open.insert(key, tick)),
                    _ => drop(self.open.remove(&key)),
                }
            }
            Some("account_lapse") if change == "opened" => {
                let listed = self.open.iter().filter(|((of, ..), told)| *of == account && **told == tick);
                let listed: BTreeSet<_> = listed.map(|((_, contact, _), _)| contact.as_str()).collect();
                let first: Vec<_> = listed.into_iter().take(100).collect();
                assert_eq!(value["contacts"], serde_json::json!(first), "{value}");
            }
            _ => {}
        }
    }

    fn check_version(&mut self, topic: Topic, key: &str, value: Option<&Value>) {
        let Some(version) = value.and_then(|value| value["version"].as_u64()) else { return };
        let before = self.versions.insert((topic, key.to_owned()), version);
        assert!(before < Some(version), "{topic:?} {key}: version {version} after {before:?}");
    }

    fn finish(mut self) -> Outcome {
        let mut episodes = BTreeSet::new();
        for (key, mut value) in self.facts {
            match value["fact"].as_str() {
                Some("lapse_episode" | "account_episode") => {
                    let contact = value["contact"].as_str().map(str::to_owned);
                    let account = text(&value, "account");
                    let (last, lapsed) = (time(&value, "last_engagement_at"), time(&value, "lapsed_at"));
                    episodes.insert((account, contact, last.unwrap(), lapsed.unwrap(), time(&value, "recovered_at")));
                }
                Some("erasure") => {}
                _ => {
                    value.as_object_mut().unwrap().remove("version").unwrap();
                    self.outcome.facts.insert(key, value);
                }
            }
        }
        self.outcome.episodes = episodes;
        self.outcome
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

fn time(value: &Value, name: &str) -> Option<Timestamp> {
    value[name].as_str().map(|text| text.parse().unwrap())
}

fn alert(line: usize, value: &Value) -> Alert {
    Alert {
        line,
        id: text(value, "id"),
        rule: text(value, "rule"),
        change: text(value, "change"),
        sequence: value["sequence"].as_u64().unwrap(),
        account: text(value, "account"),
        contact: value["contact"].as_str().map(str::to_owned),
        last_engagement_at: time(value, "last_engagement_at").unwrap(),
        due: time(value, "due").unwrap(),
        tick: time(value, "tick").unwrap(),
        recovered_at: time(value, "recovered_at"),
        backlog: value["backlog"].as_bool().unwrap_or(false),
    }
}

fn score(value: &Value) -> Score {
    let parts = value["parts"].as_object().unwrap();
    Score {
        account: text(value, "account"),
        contact: value["contact"].as_str().map(str::to_owned),
        score: value["score"].as_f64().unwrap(),
        parts: parts.iter().map(|(name, part)| (name.clone(), part.as_f64().unwrap())).collect(),
        as_of: time(value, "as_of"),
        last_engagement_at: time(value, "last_engagement_at"),
        due: time(value, "due"),
        engagements: value["engagements"].as_u64().unwrap(),
        touches_since: value["touches_since"].as_u64().unwrap_or(0),
        state: text(value, "state"),
    }
}
