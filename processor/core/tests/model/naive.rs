//! The naive model: all records in a list, everything worked out from scratch by sorting and scanning.
//!
//! It shares no code with the core. Whatever can be a function of (the set of records, the rules, the last tick) is one
//! here: [`World`] is built anew after every line and asked. Only alerts have a memory ([`Ledger`]), for they are a
//! function of the log.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::Value;

use super::forgotten::{self, Forgotten, Heard};
use super::ledger::{Alert, Ledger};
use super::line::{self, Line, Record, Rules, escape};

/// A contact, or with `None` the account as such.
pub type Who = (String, Option<String>);

/// Account, contact (`None`: the account's own), last engagement, lapsed at, recovered at.
pub type Episode = (String, Option<String>, Timestamp, Timestamp, Option<Timestamp>);

/// All that can be compared after a log.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Lapse episodes of contacts and accounts.
    pub episodes: BTreeSet<Episode>,
    /// By key: `account` or `account|contact`.
    pub scores: BTreeMap<String, Score>,
    /// The event records that stand, by fact key, without `version`.
    pub facts: BTreeMap<String, Value>,
    /// In order of emission; over contacts, the order within one line means nothing.
    pub alerts: Vec<Alert>,
    /// Lines that are dead letters.
    pub rejected: Vec<usize>,
    /// Lines at which somebody was forgotten.
    pub erased: Vec<usize>,
}

/// What a score record says that is a function of the set.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub account: String,
    pub contact: Option<String>,
    /// 0–100.
    pub score: f64,
    /// Points at `as_of`, by vehicle; an account's by role.
    pub parts: BTreeMap<String, f64>,
    pub as_of: Option<Timestamp>,
    pub last_engagement_at: Option<Timestamp>,
    pub due: Option<Timestamp>,
    pub engagements: u64,
    pub touches_since: u64,
    /// `never`, `active`, `at_risk` or `lapsed`.
    pub state: String,
}

/// Runs a log of JSON lines.
pub fn run(log: &[String]) -> Outcome {
    let (mut records, mut rules, mut tick) = (Vec::new(), Rules::default(), None);
    let (mut ledger, mut rejected) = (Ledger::default(), Vec::new());
    let (mut forgotten, mut erased) = (Forgotten::default(), Vec::new());
    for (number, text) in log.iter().enumerate() {
        let mut ticked = false;
        match line::read(text) {
            Line::Event(record) => match forgotten.hear(&record) {
                Heard::Kept => records.push(*record),
                Heard::Suppressed => forgotten::take_away(&mut records, &record),
                Heard::Erase => {
                    erased.push(number);
                    for who in forgotten::whom(&records, &record) {
                        ledger.forget(&World::new(&records, &rules, tick), number, &who);
                        forgotten::forget(&mut records, &who);
                    }
                }
            },
            Line::Tick(through) => {
                if tick.is_some_and(|last| through < last) {
                    continue;
                }
                tick = Some(through);
                ticked = true;
            }
            Line::Rules(new) => {
                if new.meaning() != rules.meaning() {
                    ledger.rules_since = tick;
                }
                rules = new;
            }
            Line::Rejected => {
                rejected.push(number);
                continue;
            }
        }
        ledger.compare(&World::new(&records, &rules, tick), number, ticked);
    }
    let world = World::new(&records, &rules, tick);
    Outcome {
        episodes: world.everyone().iter().flat_map(|who| world.episodes(who)).collect(),
        scores: world.scored().iter().map(|who| (score_key(who), world.score(who))).collect(),
        facts: world.records().map(|record| (record.key(), record.fact())).collect(),
        alerts: ledger.alerts,
        rejected,
        erased,
    }
}

/// Only the episodes, and only at the end: for histories on which a new look after every line would take too long.
pub fn episodes_of(events: &[String], rules: Rules, last_tick: Option<Timestamp>) -> BTreeSet<Episode> {
    let records: Vec<Record> = events
        .iter()
        .filter_map(|text| match line::read(text) {
            Line::Event(record) => Some(*record),
            _ => None,
        })
        .collect();
    let world = World::new(&records, &rules, last_tick);
    world.everyone().iter().flat_map(|who| world.episodes(who)).collect()
}

fn score_key((account, contact): &Who) -> String {
    match contact {
        Some(contact) => format!("{}|{}", escape(account), escape(contact)),
        None => escape(account),
    }
}

/// One counted engagement.
#[derive(Clone, Debug)]
struct Counted {
    at: Timestamp,
    /// `two_way`, `one_way` or `advocacy`.
    class: &'static str,
    vehicle: String,
    /// Set where joining it twice is one attendance.
    occasion: Option<String>,
    source: String,
    id: String,
}

/// Everything that is a function of the set of records, the rules and the last tick.
pub struct World<'a> {
    pub rules: &'a Rules,
    pub tick: Option<Timestamp>,
    standing: BTreeMap<Who, Vec<&'a Record>>,
}

impl<'a> World<'a> {
    /// Finds the records that stand: of several under one key the highest revision, then the smaller bytes; no voids.
    pub fn new(records: &'a [Record], rules: &'a Rules, tick: Option<Timestamp>) -> World<'a> {
        let mut sorted: Vec<&Record> = records.iter().collect();
        sorted.sort_by(|a, b| b.revision.cmp(&a.revision).then_with(|| a.bytes.cmp(&b.bytes)));
        let mut by_key = BTreeMap::new();
        for record in sorted {
            by_key.entry(record.key()).or_insert(record);
        }
        let mut standing: BTreeMap<Who, Vec<&Record>> = BTreeMap::new();
        for record in by_key.into_values().filter(|record| !record.void) {
            standing.entry((record.account.clone(), record.contact.clone())).or_default().push(record);
        }
        World { rules, tick, standing }
    }

    fn records(&self) -> impl Iterator<Item = &'a Record> {
        self.standing.values().flatten().copied()
    }

    fn of<'s>(&'s self, who: &Who) -> impl Iterator<Item = &'a Record> + use<'s, 'a> {
        self.standing.get(who).into_iter().flatten().copied()
    }

    /// All contacts and accounts that a standing record names.
    pub fn everyone(&self) -> BTreeSet<Who> {
        self.standing.keys().flat_map(|who| [who.clone(), (who.0.clone(), None)]).collect()
    }

    /// All contacts, and the accounts that have any: there is nothing to score in an account without people.
    fn scored(&self) -> BTreeSet<Who> {
        let has_people = |who: &Who| who.1.is_some() || self.contacts_of(&who.0).next().is_some();
        self.everyone().into_iter().filter(has_people).collect()
    }

    fn contacts_of<'s>(&'s self, account: &str) -> impl Iterator<Item = &'s Who> {
        self.standing.keys().filter(move |who| who.0 == account && who.1.is_some())
    }

    /// Has this moment passed?
    pub fn passed(&self, moment: Timestamp) -> bool {
        self.tick.is_some_and(|tick| moment < tick)
    }

    /// A field of the merged profile, and since when it says so.
    pub fn profile(&self, who: &Who, field: &str) -> Option<(&'a str, Timestamp)> {
        let winner = self
            .of(who)
            .filter(|record| record.kind == "profile" && record.fields.contains_key(field))
            .max_by_key(|record| (record.at, self.rules.priority(&record.source), &record.id, &record.source))?;
        Some((winner.text(field)?, winner.at))
    }

    /// The contact's own field, else the account's.
    fn inherited(&self, who: &Who, field: &str) -> Option<&'a str> {
        let account = (who.0.clone(), None);
        self.profile(who, field).or_else(|| self.profile(&account, field)).map(|(value, _)| value)
    }

    /// When the contact left, if that is the last that is known of its employment.
    pub fn left(&self, who: &Who) -> Option<Timestamp> {
        who.1.as_ref()?;
        self.profile(who, "employment").filter(|(value, _)| *value == "left").map(|(_, since)| since)
    }

    fn role(&self, who: &Who) -> &'a str {
        let known = ["decision_maker", "line_of_business", "functional", "user"];
        self.profile(who, "role").map(|(role, _)| role).filter(|role| known.contains(role)).unwrap_or("unknown")
    }

    /// The engagement's wall-clock time so many calendar months later, the day clamped.
    pub fn due(&self, who: &Who, last: Timestamp) -> Timestamp {
        let zone = self.inherited(who, "timezone").and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        let months = self.rules.months(self.inherited(who, "segment"));
        let wall = zone.to_datetime(last).checked_add(Span::new().months(months)).unwrap();
        zone.to_ambiguous_timestamp(wall).compatible().unwrap()
    }

    /// A contact's counted engagements, in no order.
    fn counted(&self, who: &Who) -> Vec<Counted> {
        let mut counted = Vec::new();
        for record in self.of(who) {
            let engagement = |at, class, vehicle: &str, occasion: Option<&str>| Counted {
                at,
                class,
                vehicle: vehicle.to_owned(),
                occasion: occasion.map(str::to_owned),
                source: record.source.clone(),
                id: record.id.clone(),
            };
            match record.kind.as_str() {
                "advocacy" => counted.push(engagement(record.at, "advocacy", "advocacy", None)),
                "engagement" => {
                    let vehicle = record.text("vehicle").unwrap();
                    let Some(class) = interaction(record) else { continue };
                    match status(record) {
                        "attended" => {
                            counted.push(engagement(record.at, class, vehicle, record.text("occasion")));
                        }
                        "planned" => {
                            if record.text("by").is_none() {
                                counted.push(engagement(record.at, "one_way", vehicle, None));
                            }
                            if let Some(held) = self.held_at(record) {
                                counted.push(engagement(held, "two_way", vehicle, None));
                            }
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let profiles = self.of(who).filter(|record| record.kind == "profile");
        let imported: BTreeSet<Timestamp> = profiles.filter_map(|record| record.time("last_engagement_at")).collect();
        counted.extend(imported.into_iter().map(|at| Counted {
            at,
            class: "one_way",
            vehicle: "imported".to_owned(),
            occasion: None,
            source: String::new(),
            id: String::new(),
        }));
        counted
    }

    /// When a planned meeting was held, if it can be taken to have been.
    fn held_at(&self, record: &Record) -> Option<Timestamp> {
        let scheduled = record.time("scheduled_for")?;
        let decided = record.text("occasion").is_some_and(|occasion| {
            self.of(&(record.account.clone(), record.contact.clone())).any(|other| {
                other.kind == "engagement" && other.text("occasion") == Some(occasion) && status(other) != "planned"
            })
        });
        (record.text("vehicle") == Some("meeting") && self.passed(scheduled) && !decided).then_some(scheduled)
    }

    /// The instants at which a silence ends; an account's are those of its line of business and decision makers.
    pub fn times(&self, who: &Who) -> BTreeSet<Timestamp> {
        if who.1.is_some() {
            let counted = self.counted(who).into_iter();
            return counted.filter(|counted| self.rules.counts(counted.class)).map(|counted| counted.at).collect();
        }
        let no_roles = self.contacts_of(&who.0).all(|contact| self.role(contact) == "unknown");
        self.contacts_of(&who.0)
            .filter(|contact| no_roles || ["line_of_business", "decision_maker"].contains(&self.role(contact)))
            .flat_map(|contact| self.times(contact))
            .collect()
    }

    /// The lapse episodes of a contact or account.
    pub fn episodes(&self, who: &Who) -> Vec<Episode> {
        let times: Vec<Timestamp> = self.times(who).into_iter().collect();
        let mut episodes = Vec::new();
        for (at, last) in times.iter().enumerate() {
            let due = self.due(who, *last);
            let next = times.get(at + 1).copied();
            let lapsed = next.map_or(self.passed(due), |next| due < next);
            let had_left = self.left(who).is_some_and(|since| due > since);
            if lapsed && !had_left {
                episodes.push((who.0.clone(), who.1.clone(), *last, due, next));
            }
        }
        episodes
    }

    /// The score record of a contact or account.
    fn score(&self, who: &Who) -> Score {
        let last = self.times(who).last().copied();
        // Nothing falls due for someone who has left.
        let due = last.map(|last| self.due(who, last)).filter(|due| self.left(who).is_none_or(|since| *due <= since));
        let state = match due {
            _ if last.is_none() => "never",
            Some(due) if self.passed(due) => "lapsed",
            Some(due) if self.passed(due - self.rules.warn()) => "at_risk",
            _ => "active",
        };
        let people: Vec<&Who> = self.contacts_of(&who.0).filter(|one| who.1.is_none() || **one == *who).collect();
        let touches = people.iter().flat_map(|one| self.of(one)).filter(|record| record.kind == "touch");
        let attended: Vec<(&Who, Counted)> =
            people.iter().flat_map(|one| attendances(self.rules, self.counted(one)).map(move |c| (*one, c))).collect();
        let as_of = attended.iter().filter(|(_, c)| self.weight(c) > 0.0).map(|(_, c)| c.at).max();
        let mut parts: BTreeMap<String, f64> = BTreeMap::new();
        for (one, counted) in &attended {
            let part = if who.1.is_some() { &counted.vehicle } else { self.role(one) };
            let age = as_of.map_or(0.0, |as_of| as_of.duration_since(counted.at).as_secs_f64());
            let points = self.weight(counted) * 0.5_f64.powf(age / self.rules.half_life());
            if points > 0.0 {
                *parts.entry(part.to_owned()).or_default() += points;
            }
        }
        if who.1.is_none() {
            // A role that is there and does nothing weighs on the score, so it is shown.
            for one in &people {
                parts.entry(self.role(one).to_owned()).or_default();
            }
        }
        let bounded = |points: f64| 100.0 * (1.0 - (-points / self.rules.k()).exp());
        let score = if who.1.is_some() {
            bounded(parts.values().sum())
        } else {
            let roles: BTreeSet<&str> = people.iter().map(|one| self.role(one)).collect();
            let all: f64 = roles.iter().map(|role| self.rules.role(role)).sum();
            let points = |role: &str| parts.get(role).copied().unwrap_or(0.0);
            roles.iter().map(|role| self.rules.role(role) / all * bounded(points(role))).sum()
        };
        Score {
            account: who.0.clone(),
            contact: who.1.clone(),
            score,
            parts,
            as_of,
            last_engagement_at: last,
            due,
            engagements: attended.len() as u64,
            // An account's is not published.
            touches_since: match who.1 {
                Some(_) => touches.filter(|touch| last.is_none_or(|last| touch.at > last)).count() as u64,
                None => 0,
            },
            state: state.to_owned(),
        }
    }

    fn weight(&self, counted: &Counted) -> f64 {
        self.rules.class(counted.class) * self.rules.vehicle(&counted.vehicle)
    }
}

/// `two_way` or `one_way`, if it counts at all.
fn interaction(record: &Record) -> Option<&'static str> {
    let dialogues = ["meeting", "call", "conference", "roundtable", "seminar", "virtual_meeting", "community", "demo"];
    match record.text("interaction") {
        Some("two_way") => Some("two_way"),
        Some("one_way") => Some("one_way"),
        Some(_) => None,
        None if dialogues.contains(&record.text("vehicle")?) => Some("two_way"),
        None => Some("one_way"),
    }
}

fn status(record: &Record) -> &str {
    record.text("status").unwrap_or("attended")
}

/// Joining one occasion several times is one attendance: the weightiest, then the earliest.
fn attendances(rules: &Rules, mut counted: Vec<Counted>) -> impl Iterator<Item = Counted> {
    counted.sort_by(|a, b| {
        let heavier = rules.class(b.class).total_cmp(&rules.class(a.class));
        heavier.then_with(|| (a.at, &a.source, &a.id).cmp(&(b.at, &b.source, &b.id)))
    });
    let mut joined = BTreeSet::new();
    counted.into_iter().filter(move |one| one.occasion.as_ref().is_none_or(|occasion| joined.insert(occasion.clone())))
}
