//! Alerts: what has been said about silences, compared with the truth after every line.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::naive::{Who, World};

/// One change of one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The line of the log that it was emitted at, from 0.
    pub line: usize,
    pub id: String,
    /// `lapse`, `at_risk` or `account_lapse`.
    pub rule: String,
    /// `opened`, `escalated`, `recovered`, `retracted` or `closed`.
    pub change: String,
    /// 1 for an alert's first change.
    pub sequence: u64,
    pub account: String,
    pub contact: Option<String>,
    pub last_engagement_at: Timestamp,
    /// When the silence is a lapse, by the rules and the zone in force.
    pub due: Timestamp,
    /// The last tick.
    pub tick: Timestamp,
    /// Only with `recovered`.
    pub recovered_at: Option<Timestamp>,
    /// Old news; means something with `opened` alone.
    pub backlog: bool,
}

/// Rule, whose silence, last engagement.
type Key = (&'static str, Who, Timestamp);

/// What was said last, and everything that was said.
#[derive(Default)]
pub struct Ledger {
    /// The last tick when the rules in force came: what was due before it is old news.
    pub rules_since: Option<Timestamp>,
    pub alerts: Vec<Alert>,
    said: BTreeMap<Key, Said>,
}

#[derive(Clone)]
struct Said {
    sequence: u64,
    change: &'static str,
    recovered_at: Option<Timestamp>,
}

impl Said {
    fn live(&self) -> bool {
        ["opened", "escalated"].contains(&self.change)
    }
}

/// What is true of a silence that began with a given engagement.
#[derive(Clone, Copy, PartialEq)]
enum Truth {
    /// There is none that the rule is about.
    Gone,
    /// It goes on.
    Open,
    /// It ended with this engagement.
    Over(Timestamp),
    /// It is no longer this rule's: the contact has left, or what was a risk is a lapse.
    Closed,
}

impl Ledger {
    /// Says whatever differs from what was said; silences are announced and escalated on ticks alone.
    pub fn compare(&mut self, world: &World, line: usize, ticked: bool) {
        let keys: BTreeSet<Key> = self.said.keys().cloned().chain(last_engagements(world)).collect();
        for key in keys {
            self.correct(world, line, &key);
            if ticked {
                self.announce(world, line, &key);
            }
        }
    }

    /// Ends what is said of somebody, and knows nothing of it any more.
    pub fn forget(&mut self, world: &World, line: usize, who: &Who) {
        let keys: Vec<Key> = self.said.keys().filter(|key| key.1 == *who).cloned().collect();
        for key in keys {
            if self.said[&key].live() {
                self.say(world, line, &key, "closed", None);
            }
            self.said.remove(&key);
        }
    }

    /// Takes back or ends what no longer holds.
    fn correct(&mut self, world: &World, line: usize, key: &Key) {
        let Some(said) = self.said.get(key).cloned() else { return };
        match truth(world, key) {
            Truth::Gone if said.live() || said.change == "recovered" => self.say(world, line, key, "retracted", None),
            Truth::Over(at) if said.live() || (said.change == "recovered" && said.recovered_at != Some(at)) => {
                self.say(world, line, key, "recovered", Some(at));
            }
            Truth::Closed if said.live() => self.say(world, line, key, "closed", None),
            _ => {}
        }
    }

    /// Tells of a silence that a tick has proven.
    fn announce(&mut self, world: &World, line: usize, key: &Key) {
        if truth(world, key) != Truth::Open {
            return;
        }
        let (rule, who, last) = key;
        let paused = world.profile(who, "paused_until").and_then(|(until, _)| until.parse().ok());
        if paused.is_some_and(|until| !world.passed(until)) {
            return;
        }
        if !self.said.get(key).is_some_and(Said::live) {
            self.say(world, line, key, "opened", None);
        }
        let opened = self.said.get(key).is_some_and(|said| said.change == "opened");
        if *rule == "lapse" && opened && world.passed(world.due(who, *last) + world.rules.escalate()) {
            self.say(world, line, key, "escalated", None);
        }
    }

    fn say(&mut self, world: &World, line: usize, key: &Key, change: &'static str, recovered_at: Option<Timestamp>) {
        let sequence = self.said.get(key).map_or(1, |said| said.sequence + 1);
        self.said.insert(key.clone(), Said { sequence, change, recovered_at });
        let (rule, who, last) = key;
        let due = world.due(who, *last);
        let before = |moment: Option<Timestamp>| moment.is_some_and(|moment| due < moment);
        self.alerts.push(Alert {
            line,
            id: alert_id(rule, who, *last),
            rule: (*rule).to_owned(),
            change: change.to_owned(),
            sequence,
            account: who.0.clone(),
            contact: who.1.clone(),
            last_engagement_at: *last,
            due,
            tick: world.tick.unwrap(),
            recovered_at,
            backlog: before(world.rules.since()) || before(self.rules_since),
        });
    }
}

/// Only the silence after the last engagement can be open.
fn last_engagements(world: &World) -> Vec<Key> {
    let mut keys = Vec::new();
    for who in world.everyone() {
        let rules = if who.1.is_some() { vec!["at_risk", "lapse"] } else { vec!["account_lapse"] };
        let last = world.times(&who).last().copied();
        keys.extend(
            last.into_iter().flat_map(|last| rules.iter().map(|rule| (*rule, who.clone(), last)).collect::<Vec<_>>()),
        );
    }
    keys
}

fn truth(world: &World, (rule, who, last): &Key) -> Truth {
    let times = world.times(who);
    if !times.contains(last) {
        return Truth::Gone;
    }
    let due = world.due(who, *last);
    let begins = if *rule == "at_risk" { due - world.rules.warn() } else { due };
    let truth = match times.range(*last..).nth(1) {
        Some(next) if begins < *next => Truth::Over(*next),
        None if *rule == "at_risk" && world.passed(due) => Truth::Closed,
        None if world.passed(begins) => Truth::Open,
        _ => Truth::Gone,
    };
    match (truth, world.left(who)) {
        (Truth::Open, Some(_)) => Truth::Closed,
        (Truth::Over(_), Some(since)) if due > since => Truth::Closed,
        _ => truth,
    }
}

/// The first 32 hexadecimal digits of the SHA-256 over rule, account, contact and last engagement, each ended by a NUL.
pub fn alert_id(rule: &str, who: &Who, last: Timestamp) -> String {
    let contact = who.1.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{rule}\0{}\0{contact}\0{last}\0", who.0));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
