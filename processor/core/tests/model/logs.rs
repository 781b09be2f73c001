//! Hostile but valid random logs.
//!
//! A log is drawn as a list of small plain values ([`super::draw`]) and then written as JSON, so that it shrinks to few
//! lines with plain times. Times are drawn from a few anchors a log (month ends, clock changes), moved by whole months
//! in the log's home zone, and nudged: so due times, ticks and engagements often coincide to the nanosecond, or miss
//! by one.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::Offset;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use super::compare::numbered;
use super::draw::{
    Body, Event, Frame, GARBAGE, HOME, Instant, Name, PEOPLE, Scope, body, event, frame, instant, name, profile, rules,
    who,
};
use super::line::{self, Line};

/// Longest log that is drawn, in items: a failure is to be read by people, and the model takes O(n²).
const ITEMS: usize = 60;

/// A log; its `Debug` form is one line a row.
#[derive(Clone)]
pub struct Log {
    pub lines: Vec<String>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log of {} lines\n{}", self.lines.len(), numbered(&self.lines))
    }
}

/// Any log.
pub fn logs() -> impl Strategy<Value = Log> {
    let (rules, end) = (prop::option::weighted(0.4, rules()), prop::option::weighted(0.3, instant()));
    (frame(), rules, arrival(), prop::collection::vec(item(), 1..ITEMS), end)
        .prop_map(|(frame, rules, arrival, items, end)| Drawn { frame, rules, arrival, items, end }.write())
}

/// A log in which contacts are forgotten, and some come back.
pub fn forgetful() -> impl Strategy<Value = Log> {
    let wishes = prop::collection::vec((any::<(Index, Index, Index)>(), prop::bool::weighted(0.7), -1i64..=1), 1..6);
    (logs(), wishes).prop_map(|(mut log, wishes)| {
        let events = log.lines.iter().filter_map(|line| match line::read(line) {
            Line::Event(record) => Some(*record),
            _ => None,
        });
        let records: Vec<_> = events.collect();
        let contacts: Vec<_> = records.iter().filter(|record| record.contact.is_some()).collect();
        for (number, ((whose, when, place), is_deleted, nudge_s)) in wishes.into_iter().enumerate() {
            if contacts.is_empty() {
                break;
            }
            let (whose, when) = (whose.get(&contacts), when.get(&records).at);
            let wish = json!({"id": format!("wish{number}"), "source": "desk", "kind": "profile",
                "occurred_at": (when + jiff::SignedDuration::from_secs(nudge_s)).to_string(),
                "account": whose.account, "contact": whose.contact, "deleted": is_deleted});
            log.lines.insert(place.index(log.lines.len() + 1), wish.to_string());
        }
        log
    })
}

/// A log, and another with the same events, rules and last tick in another order.
pub fn reordered() -> impl Strategy<Value = (Log, Log)> {
    (logs(), any::<u64>()).prop_map(|(log, seed)| {
        let mut keyed: Vec<(u64, &String)> = Vec::new();
        let mut state = seed;
        for line in &log.lines {
            // splitmix64: a seed that shrinks by itself keeps the log free to shrink.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            keyed.push((mixed ^ (mixed >> 31), line));
        }
        keyed.sort_unstable();
        let shuffled = keyed.into_iter().map(|(_, line)| line.clone()).collect();
        let lines = with_last_words(&log.lines, shuffled);
        (log, Log { lines })
    })
}

/// The same events in another order; the last rules and the last tick stay last. Earlier ticks and rules are shuffled
/// among the events: what is a function of the set does not see them.
pub fn permute(lines: &[String]) -> impl Strategy<Value = Log> + use<> {
    let original = lines.to_vec();
    Just(lines.to_vec()).prop_shuffle().prop_map(move |shuffled| Log { lines: with_last_words(&original, shuffled) })
}

/// Ends a shuffled log with the rules and the tick that were last in force in the original.
fn with_last_words(original: &[String], mut shuffled: Vec<String>) -> Vec<String> {
    let rules = original.iter().rfind(|line| matches!(line::read(line), Line::Rules(_)));
    let tick = original.iter().filter_map(|line| match line::read(line) {
        Line::Tick(through) => Some((through, line)),
        _ => None,
    });
    shuffled.extend(rules.cloned());
    shuffled.extend(tick.max().map(|(_, line)| line.clone()));
    shuffled
}

/// What a log is written from.
#[derive(Clone, Debug)]
struct Drawn {
    frame: Frame,
    /// The first record.
    rules: Option<Value>,
    arrival: Arrival,
    items: Vec<Item>,
    end: Option<Instant>,
}

/// In which order the lines come.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// As drawn: events late, ticks repeated and going back.
    AsDrawn,
    /// Events as drawn, ticks ascending.
    TicksAscend,
    /// Events and ticks by their time, as if live.
    InOrder,
    /// As `replay` does: a tick before each record that is later than all before it.
    Replay,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    select(vec![Arrival::AsDrawn, Arrival::TicksAscend, Arrival::InOrder, Arrival::Replay])
}

#[derive(Clone, Debug)]
enum Item {
    Event(Event),
    Tick(Instant),
    /// The last tick that was drawn again.
    TickAgain,
    Rules(Instant, Value),
    /// An earlier event again.
    Again(Index, Change),
    Garbage(Instant, usize),
}

/// What differs when an event comes again.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    Whitespace,
    Offset(i8),
    Unknown(u8),
    Content(Body),
    /// It is another record of the same person at the same time, of the same kind if that is a profile.
    Beside {
        name: Name,
        body: Body,
        profile: Body,
    },
}

fn item() -> BoxedStrategy<Item> {
    let change = prop_oneof![
        2 => Just(Change::Nothing),
        1 => Just(Change::Whitespace),
        1 => (-12i8..=14).prop_map(Change::Offset),
        1 => (0u8..3).prop_map(Change::Unknown),
        3 => body().prop_map(Change::Content),
        6 => (name(), body(), profile()).prop_map(|(name, body, profile)| Change::Beside { name, body, profile }),
    ];
    prop_oneof![
        24 => event().prop_map(Item::Event),
        12 => instant().prop_map(Item::Tick),
        3 => Just(Item::TickAgain),
        2 => (instant(), rules()).prop_map(|(at, rules)| Item::Rules(at, rules)),
        6 => (any::<Index>(), change).prop_map(|(earlier, change)| Item::Again(earlier, change)),
        1 => (instant(), 0..GARBAGE.len()).prop_map(|(at, which)| Item::Garbage(at, which)),
    ]
    .boxed()
}

impl Drawn {
    fn write(&self) -> Log {
        let mut timed: Vec<(Timestamp, String)> = self.beginning();
        let (mut events, mut last_tick): (Vec<&Event>, _) = (Vec::new(), None);
        for item in &self.items {
            match item {
                Item::Event(event) => {
                    events.push(event);
                    timed.push(self.event(event, &Change::Nothing));
                }
                // What comes again comes after what it repeats, in every arrival.
                Item::Again(_, _) if events.is_empty() => {}
                Item::Again(earlier, change) => timed.push(self.event(events[earlier.index(events.len())], change)),
                Item::Tick(at) => {
                    last_tick = Some(*at);
                    timed.push((self.at(*at), tick(self.at(*at))));
                }
                Item::TickAgain => timed.extend(last_tick.map(|at| (self.at(at), tick(self.at(at))))),
                Item::Rules(at, rules) => timed.push((self.at(*at), rules.to_string())),
                Item::Garbage(at, which) => timed.push((self.at(*at), GARBAGE[*which].to_owned())),
            }
        }
        match self.arrival {
            Arrival::AsDrawn => {}
            Arrival::TicksAscend => ticks_ascend(&mut timed),
            Arrival::InOrder => timed.sort_by_key(|(at, _)| *at),
            Arrival::Replay => timed = as_replay(timed),
        }
        let mut lines: Vec<String> = timed.into_iter().map(|(_, line)| line).collect();
        lines.extend(self.end.map(|end| tick(self.at(end))));
        Log { lines }
    }

    /// The rules, and where the people of the first account live.
    fn beginning(&self) -> Vec<(Timestamp, String)> {
        let long_ago: Timestamp = "2023-01-01T00:00:00Z".parse().unwrap();
        let home = json!({"id": "home", "source": "crm", "kind": "profile", "account": PEOPLE[0].0,
            "occurred_at": long_ago.to_string(), "timezone": self.frame.home_zone()});
        let home = (self.frame.home > 0).then_some(home);
        self.rules.iter().chain(&home).map(|line| (long_ago, line.to_string())).collect()
    }

    fn at(&self, instant: Instant) -> Timestamp {
        self.frame.at(instant)
    }

    fn event(&self, event: &Event, change: &Change) -> (Timestamp, String) {
        let at = self.at(event.at);
        let (name, body) = match change {
            Change::Content(body) => (&event.name, body),
            Change::Beside { name, profile, .. } if event.body.fields["kind"] == "profile" => (name, profile),
            Change::Beside { name, body, .. } => (name, body),
            _ => (&event.name, &event.body),
        };
        let offset_h = if let Change::Offset(hours) = change { *hours } else { event.offset_h };
        let mut line = body.fields.clone();
        for (name, instant) in &body.times {
            line.insert((*name).to_owned(), Value::from(with_offset(self.at(*instant), offset_h)));
        }
        if line.get("timezone").is_some_and(|zone| zone == HOME) {
            line.insert("timezone".into(), Value::from(self.frame.home_zone()));
        }
        line.insert("occurred_at".into(), Value::from(with_offset(at, offset_h)));
        write_who(&mut line, event, body.scope);
        let (source, id) = match name {
            Name::Plain { source, id } => (source, format!("e{id}")),
            Name::Revised { source, id, revision, void } => {
                line.insert("revision".into(), Value::from(*revision));
                if *void {
                    line.insert("void".into(), Value::from(true));
                }
                // No source turns a person's record into one of the account; both in one step would date alerts twice.
                let of = if matches!(body.scope, Scope::Account) { "a" } else { "r" };
                (source, format!("{of}|{id}"))
            }
        };
        line.insert("source".into(), Value::from(*source));
        line.insert("id".into(), Value::from(id));
        let unknown = if let Change::Unknown(seen) = change { Some(*seen) } else { event.unknown };
        if let Some(seen) = unknown {
            line.insert("x_seen".into(), json!([seen, {"by": "someone \"new\""}]));
            line.insert("a_first".into(), Value::from(true));
        }
        let line = Value::Object(line);
        // A pretty form has all the white space that JSON allows, and no raw line break inside of a string.
        let pretty = || serde_json::to_string_pretty(&line).unwrap().replace('\n', " ");
        (at, if matches!(change, Change::Whitespace) { pretty() } else { line.to_string() })
    }
}

fn write_who(line: &mut Map<String, Value>, event: &Event, scope: Scope) {
    let (account, contact) = who(event.person, event.spelling);
    match scope {
        Scope::Account => {
            line.insert("account".into(), Value::from(PEOPLE[event.person].0));
            return;
        }
        Scope::Email if contact.contains('@') => line.insert("email".into(), Value::from(contact)),
        _ => line.insert("contact".into(), Value::from(contact)),
    };
    // Absent, or as good as.
    if !account.is_empty() || event.spelling == 2 {
        line.insert("account".into(), Value::from(account));
    }
}

fn with_offset(at: Timestamp, hours: i8) -> String {
    if hours == 0 { at.to_string() } else { at.display_with_offset(Offset::constant(hours)).to_string() }
}

fn tick(through: Timestamp) -> String {
    json!({"kind": "tick", "through": through.to_string()}).to_string()
}

fn is_tick(line: &str) -> bool {
    matches!(line::read(line), Line::Tick(_))
}

/// Sorts the ticks among the places where ticks are.
fn ticks_ascend(timed: &mut [(Timestamp, String)]) {
    let places: Vec<usize> = (0..timed.len()).filter(|place| is_tick(&timed[*place].1)).collect();
    let mut ticks: Vec<_> = places.iter().map(|place| timed[*place].clone()).collect();
    ticks.sort();
    for (place, tick) in places.into_iter().zip(ticks) {
        timed[place] = tick;
    }
}

/// Drops the ticks that were drawn and puts one before each event that is later than all before it.
fn as_replay(timed: Vec<(Timestamp, String)>) -> Vec<(Timestamp, String)> {
    let mut replayed = Vec::new();
    let mut newest = None;
    for (at, line) in timed.into_iter().filter(|(_, line)| !is_tick(line)) {
        if matches!(line::read(&line), Line::Event(_)) && newest.is_none_or(|newest| at > newest) {
            newest = Some(at);
            replayed.push((at, tick(at)));
        }
        replayed.push((at, line));
    }
    replayed
}
