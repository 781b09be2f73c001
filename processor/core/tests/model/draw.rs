//! What random logs are made of: moments, people, events, rules.
//!
//! All are small plain values that shrink well; [`super::logs`] writes them as JSON. Large strategies are boxed: nested
//! on the stack, they outgrow a test thread's.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

// ---------------------------------------------------------------------------------------------------------- times

/// Anchors that one log uses: few, so that its times meet.
const ANCHORS_A_LOG: usize = 3;
/// Wall-clock times from which month arithmetic is hard.
const ANCHORS: [&str; 14] = [
    "2023-11-15T12:00:00",
    "2023-08-31T10:00:00",
    "2023-11-28T09:00:00",
    "2023-11-29T23:30:00",
    "2023-11-30T00:30:00",
    "2023-11-30T09:00:00",
    // Three months on, New York skips this hour.
    "2023-12-10T02:30:00",
    // Three months on, Berlin skips this hour.
    "2023-12-31T02:30:00",
    "2024-01-31T23:59:59.5",
    "2024-02-29T12:00:00",
    "2024-03-31T00:00:00",
    // Three months on, Berlin has this hour twice.
    "2024-07-27T02:30:00",
    // Three months on, New York has this hour twice.
    "2024-08-03T01:30:00",
    "2024-05-31T23:30:00",
];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"];
const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// The frame of a log's times.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Index of the zone whose wall clock months are added by.
    pub home: usize,
    anchors: [usize; ANCHORS_A_LOG],
}

pub fn frame() -> impl Strategy<Value = Frame> {
    let home = prop_oneof![4 => Just(0usize), 2 => Just(1), 2 => Just(2), 1 => Just(3)];
    (home, prop::array::uniform3(0..ANCHORS.len())).prop_map(|(home, anchors)| Frame { home, anchors })
}

impl Frame {
    pub fn home_zone(&self) -> &'static str {
        ZONES[self.home]
    }

    pub fn at(&self, instant: Instant) -> Timestamp {
        let wall: DateTime = ANCHORS[self.anchors[instant.anchor]].parse().unwrap();
        let wall = wall.checked_add(Span::new().months(instant.months)).unwrap();
        let zone = TimeZone::get(self.home_zone()).unwrap();
        zone.to_ambiguous_timestamp(wall).compatible().unwrap() + SignedDuration::from_nanos(instant.nudge_ns)
    }
}

/// An anchor of the log, some months later by the home zone's wall clock, and a nudge.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    anchor: usize,
    months: i64,
    nudge_ns: i64,
}

pub fn instant() -> impl Strategy<Value = Instant> {
    let months = prop_oneof![6 => Just(0i64), 5 => Just(3), 3 => 1i64..=4, 1 => 5i64..=9];
    let nudge = prop_oneof![
        16 => Just(0),
        // A step past a boundary: of the due time, of a warning, of an escalation (see `rules`).
        3 => select(vec![1, -1, SECOND, -SECOND, HOUR]),
        4 => select(vec![-14 * DAY, -14 * DAY, 30 * DAY, -DAY, DAY, -7 * DAY]),
        2 => select(vec![-14 * DAY + 1, 30 * DAY + 1]),
        3 => (-90i64 * 24..90 * 24).prop_map(|hours| hours * HOUR),
    ];
    (0..ANCHORS_A_LOG, months, nudge).prop_map(|(anchor, months, nudge_ns)| Instant { anchor, months, nudge_ns })
}

// --------------------------------------------------------------------------------------------------------- people

/// Pairs of account and contact.
type Spellings = &'static [(&'static str, &'static str)];

/// Explicit account, explicit contact, and how else the two may be spelled without meaning others.
pub const PEOPLE: [(&str, &str, Spellings); 8] = [
    ("acme.example", "bob", &[]),
    ("acme.example", "ann@acme.example", &[("", "Ann@ACME.Example"), ("acme.example", "ANN@acme.example")]),
    ("acme.example", "cy|d%e", &[]),
    ("globex|5%", "dee", &[]),
    ("globex|5%", "Eve", &[]),
    // The same contact id at another account is another contact.
    ("globex|5%", "bob", &[]),
    ("~fay@gmail.com", "fay@gmail.com", &[("", "Fay@Gmail.com")]),
    ("~gil", "gil", &[("", "gil")]),
];

pub fn who(person: usize, spelling: usize) -> (&'static str, &'static str) {
    let (account, contact, others) = PEOPLE[person];
    if spelling == 0 || others.is_empty() { (account, contact) } else { others[spelling % others.len()] }
}

// --------------------------------------------------------------------------------------------------------- events

#[derive(Clone, Debug)]
pub struct Event {
    pub person: usize,
    pub spelling: usize,
    pub at: Instant,
    pub offset_h: i8,
    pub name: Name,
    pub body: Body,
    pub unknown: Option<u8>,
}

/// `id` and `source`; a source's records all carry a revision or none does.
#[derive(Clone, Debug)]
pub enum Name {
    Plain { source: &'static str, id: u8 },
    Revised { source: &'static str, id: u8, revision: i64, void: bool },
}

/// The fields of a kind; times are written last, when the log's anchors are known.
#[derive(Clone, Debug)]
pub struct Body {
    pub scope: Scope,
    pub fields: Map<String, Value>,
    pub times: Vec<(&'static str, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scope {
    Contact,
    Account,
    /// A profile that names its contact only by `email`.
    Email,
}

pub fn event() -> BoxedStrategy<Event> {
    let person = prop_oneof![6 => Just(0usize), 4 => 1usize..3, 4 => 3usize..PEOPLE.len()];
    let spelling = prop_oneof![3 => Just(0usize), 1 => 1usize..3];
    let offset_h = prop_oneof![3 => Just(0i8), 1 => -12i8..=14];
    let unknown = prop::option::weighted(0.1, 0u8..3);
    (person, spelling, instant(), offset_h, name(), body(), unknown)
        .prop_map(|(person, spelling, at, offset_h, name, body, unknown)| Event {
            person,
            spelling,
            at,
            offset_h,
            name,
            body,
            unknown,
        })
        .boxed()
}

pub fn name() -> BoxedStrategy<Name> {
    let plain = (select(vec!["crm", "web", "import"]), 0u8..12).prop_map(|(source, id)| Name::Plain { source, id });
    let revised = (select(vec!["sfdc", "hub"]), 0u8..4, 0i64..4, prop::bool::weighted(0.25))
        .prop_map(|(source, id, revision, void)| Name::Revised { source, id, revision, void });
    prop_oneof![2 => plain, 1 => revised].boxed()
}

pub fn body() -> BoxedStrategy<Body> {
    prop_oneof![
        12 => engagement(),
        3 => touch(),
        2 => advocacy(),
        6 => profile(),
        1 => leaver(),
        1 => value(),
        1 => action(),
    ]
    .boxed()
}

/// A JSON object of one kind without the fields that are null.
fn fields(kind: &str, mut fields: Value) -> Map<String, Value> {
    fields["kind"] = Value::from(kind);
    let Value::Object(mut fields) = fields else { unreachable!("fields are written as objects") };
    fields.retain(|_, value| !value.is_null());
    fields
}

fn maybe(probability: f64, values: &[&'static str]) -> impl Strategy<Value = Option<&'static str>> + use<> {
    prop::option::weighted(probability, select(values.to_vec()))
}

fn engagement() -> BoxedStrategy<Body> {
    let vehicle = prop_oneof![
        4 => Just("meeting"),
        4 => select(vec!["call", "webcast", "newsletter", "conference", "demo", "virtual_meeting", "skywriting"]),
    ];
    let interaction = maybe(0.6, &["two_way", "one_way", "one_way", "two_way", "passive", "machine"]);
    let status = maybe(0.5, &["attended", "planned", "planned", "planned", "no_show", "cancelled"]);
    let scheduled = prop::option::weighted(0.6, instant());
    (
        vehicle,
        interaction,
        status,
        scheduled,
        maybe(0.4, &["o1", "o2"]),
        maybe(0.3, &["rep", ""]),
        maybe(0.2, &["x", "y"]),
    )
        .prop_map(|(vehicle, interaction, status, scheduled, occasion, by, title)| Body {
            scope: Scope::Contact,
            fields: fields(
                "engagement",
                json!({"vehicle": vehicle, "interaction": interaction, "status": status, "occasion": occasion,
                    "by": by, "title": title, "minutes": title.map(|_| 30)}),
            ),
            times: scheduled.into_iter().map(|at| ("scheduled_for", at)).collect(),
        })
        .boxed()
}

fn touch() -> impl Strategy<Value = Body> {
    let channel = select(vec!["email", "phone", "post"]);
    (channel, maybe(0.3, &["12.50", "3"])).prop_map(|(channel, cost)| Body {
        scope: Scope::Contact,
        fields: fields("touch", json!({"channel": channel, "cost": cost, "campaign": "spring"})),
        times: Vec::new(),
    })
}

fn advocacy() -> impl Strategy<Value = Body> {
    (select(vec!["nps", "referral", "review"]), prop::option::of(-5i64..=10)).prop_map(|(measure, score)| Body {
        scope: Scope::Contact,
        fields: fields("advocacy", json!({"measure": measure, "score": score})),
        times: Vec::new(),
    })
}

fn value() -> impl Strategy<Value = Body> {
    (any::<bool>(), select(vec!["open", "won", "lost"])).prop_map(|(of_contact, outcome)| Body {
        scope: if of_contact { Scope::Contact } else { Scope::Account },
        fields: fields("value", json!({"measure": "order", "ref": "q1", "outcome": outcome, "amount": "100.00"})),
        times: Vec::new(),
    })
}

fn action() -> impl Strategy<Value = Body> {
    (any::<bool>(), select(vec!["accepted", "useful", "offered"])).prop_map(|(of_contact, done)| Body {
        scope: if of_contact { Scope::Contact } else { Scope::Account },
        fields: fields("action", json!({"on": "an-alert-that-is-not", "do": done, "by": "rep"})),
        times: Vec::new(),
    })
}

/// The time zone that a profile calls so is the log's.
pub const HOME: &str = "home";

/// A profile field: mostly absent, sometimes `null` (which clears), else one of these.
fn told(values: &[&str]) -> impl Strategy<Value = Option<Value>> + use<> {
    let values: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
    prop_oneof![5 => Just(None), 1 => Just(Some(Value::Null)), 3 => select(values).prop_map(Some)]
}

pub fn profile() -> BoxedStrategy<Body> {
    let scope = prop_oneof![6 => Just(Scope::Contact), 2 => Just(Scope::Account), 1 => Just(Scope::Email)];
    let told = (
        told(&["line_of_business", "decision_maker", "functional", "user", "champion"]),
        told(&[HOME, HOME, HOME, "UTC", "Europe/Berlin", "America/New_York"]),
        told(&["vip", "slow", "plain"]),
        told(&["left", "active", "left"]),
        told(&["Anna", "Otto"]),
    );
    let paused = prop_oneof![3 => Just(None), 1 => instant().prop_map(Some)];
    let imported = prop_oneof![3 => Just(None), 1 => instant().prop_map(Some)];
    let cleared = prop::bool::weighted(0.1);
    (scope, told, paused, imported, cleared)
        .prop_map(|(scope, told, paused, imported, cleared)| {
            let (role, timezone, segment, employment, owner) = told;
            let mut body = Body { scope, fields: fields("profile", json!({})), times: Vec::new() };
            let named = [("role", role), ("timezone", timezone), ("segment", segment), ("owner", owner)];
            for (name, value) in named {
                body.fields.extend(value.map(|value| (name.to_owned(), value)));
            }
            if scope == Scope::Account {
                return body;
            }
            body.fields.extend(employment.map(|value| ("employment".to_owned(), value)));
            body.times.extend(paused.map(|at| ("paused_until", at)));
            body.times.extend(imported.map(|at| ("last_engagement_at", at)));
            if cleared {
                body.fields.insert("paused_until".into(), Value::Null);
            }
            body
        })
        .boxed()
}

/// Nothing but that they left: when is all that matters.
fn leaver() -> impl Strategy<Value = Body> {
    let fields = fields("profile", json!({"employment": "left"}));
    Just(Body { scope: Scope::Contact, fields, times: Vec::new() })
}

// ---------------------------------------------------------------------------------------------- rules and garbage

pub fn rules() -> BoxedStrategy<Value> {
    let day = 86_400;
    let warn = select(vec![14 * day, 14 * day, 0, day, 40 * day]);
    let escalate = select(vec![30 * day, 0, day]);
    let counts = subsequence(vec!["two_way", "one_way", "advocacy"], 1..=2);
    let lapse = (
        prop_oneof![3 => Just(3i64), 2 => 1i64..=6],
        prop::option::of(1i64..=6),
        prop::option::of(1i64..=6),
        warn,
        escalate,
        prop_oneof![5 => Just(None), 2 => counts.prop_map(Some)],
    );
    let score =
        (select(vec![60, 10, 90]), select(vec![10.0, 5.0]), select(vec![1.0, 2.5, 0.5]), select(vec![1.0, 4.0]));
    let priorities = (-1i64..=2, -1i64..=2);
    let since = prop::option::weighted(0.3, select(vec!["2024-02-29T12:00:00Z", "2024-05-01T00:00:00Z"]));
    (lapse, prop::option::of(score), prop::option::weighted(0.7, priorities), since)
        .prop_map(move |((months, vip, slow, warn_s, escalate_s, counts), score, priorities, since)| {
            let mut segments = Map::new();
            segments.extend(vip.map(|months| ("vip".to_owned(), Value::from(months))));
            segments.extend(slow.map(|months| ("slow".to_owned(), Value::from(months))));
            // A warning comes at least a week after the last engagement.
            let shortest = [Some(months), vip, slow].into_iter().flatten().min().unwrap_or(months);
            let warn_s = warn_s.min((shortest * 28 - 7) * day);
            let mut lapse = json!({"months": months, "segments": segments, "warn_s": warn_s, "escalate_s": escalate_s});
            if let Some(counts) = counts {
                lapse["counts"] = json!(counts);
            }
            let mut rules = json!({"kind": "rules", "lapse": lapse});
            if let Some((half_life, k, meeting, one_way)) = score {
                rules["score"] = json!({"half_life_s": half_life * day, "k": k, "one_way": one_way,
                    "vehicles": {"meeting": meeting}});
            }
            if let Some((crm, hub)) = priorities {
                rules["priorities"] = json!({"crm": crm, "hub": hub});
            }
            if let Some(since) = since {
                rules["since"] = Value::from(since);
            }
            rules
        })
        .boxed()
}

/// Lines that are dead letters whatever the log.
pub const GARBAGE: [&str; 14] = [
    "not JSON",
    "[]",
    r#"{"id":"1","source":"crm","kind":"gossip","occurred_at":"2024-01-01T00:00:00Z","contact":"bob"}"#,
    r#"{"source":"crm","kind":"touch","occurred_at":"2024-01-01T00:00:00Z","contact":"bob","channel":"email"}"#,
    r#"{"id":"","source":"crm","kind":"touch","occurred_at":"2024-01-01T00:00:00Z","contact":"bob","channel":"email"}"#,
    r#"{"id":"1","kind":"touch","occurred_at":"2024-01-01T00:00:00Z","contact":"bob","channel":"email"}"#,
    r#"{"id":"1","source":"crm","kind":"touch","occurred_at":"yesterday","contact":"bob","channel":"email"}"#,
    r#"{"id":"1","source":"crm","kind":"touch","occurred_at":"2024-01-01T00:00:00Z","account":"a","channel":"email"}"#,
    r#"{"id":"1","source":"crm","kind":"touch","occurred_at":"2024-01-01T00:00:00Z","contact":"bob"}"#,
    r#"{"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-01-01T00:00:00Z","contact":"bob"}"#,
    r#"{"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-01-01T00:00:00Z","contact":"bob","vehicle":"call","interaction":"loud"}"#,
    r#"{"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-01-01T00:00:00Z","contact":"bob","vehicle":"call","status":"late"}"#,
    r#"{"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-01-01T00:00:00Z","contact":"bob","vehicle":"call","void":true}"#,
    r#"{"id":"1","source":"crm","kind":"value","occurred_at":"2024-01-01T00:00:00Z","measure":"order"}"#,
];
