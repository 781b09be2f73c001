//! What one line of a log says: a record in canonical form, a tick, rules, or nothing that can be kept.
//!
//! Records are kept as JSON maps. Reading one resolves who it is about, lets `""` (and, outside of profiles, `null`)
//! read as absent, and writes known times in UTC; defaults (`interaction`, `status`) are *not* filled in.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// A line, read.
pub enum Line {
    /// One of the six kinds of event.
    Event(Box<Record>),
    /// Everything before this is known.
    Tick(Timestamp),
    /// From here on these rules hold.
    Rules(Rules),
    /// A dead letter.
    Rejected,
}

/// A canonical event.
#[derive(Clone, Debug)]
pub struct Record {
    pub account: String,
    pub contact: Option<String>,
    pub at: Timestamp,
    pub source: String,
    pub id: String,
    pub kind: String,
    pub revision: Option<i64>,
    pub void: bool,
    /// All fields, canonical.
    pub fields: Map<String, Value>,
    /// The canonical bytes: what decides between two contents of one record.
    pub bytes: String,
}

const COMMON: [&str; 8] = ["id", "source", "kind", "occurred_at", "account", "contact", "revision", "void"];
const TIMES: [&str; 5] = ["occurred_at", "scheduled_for", "paused_until", "last_engagement_at", "until"];
const INTERACTIONS: [&str; 4] = ["two_way", "one_way", "passive", "machine"];
const STATUSES: [&str; 4] = ["attended", "planned", "no_show", "cancelled"];
const FREE_MAIL: [&str; 7] =
    ["gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "yahoo.com", "icloud.com", "gmx.de"];
/// Longest account or contact in bytes.
const WHO_LIMIT: usize = 256;

/// The fields of a kind in the order of the table, after the common ones.
fn own_fields(kind: &str) -> Option<Vec<&'static str>> {
    let row = match kind {
        "touch" => "title url by campaign content cost currency channel offer",
        "engagement" => {
            "title url by campaign content cost currency \
             vehicle interaction status scheduled_for occasion target minutes in_response_to"
        }
        "advocacy" => "measure score ref",
        "value" => "measure ref stage outcome amount currency product quantity",
        "profile" => {
            "name job_title role seniority audience segment owner email timezone account_name domain parent \
             lifecycle employment consent paused_until last_engagement_at merged_into deleted"
        }
        "action" => "on do by to until reason",
        _ => return None,
    };
    Some(row.split_whitespace().collect())
}

/// Reads a line.
pub fn read(line: &str) -> Line {
    let Ok(Value::Object(map)) = serde_json::from_str(line) else { return Line::Rejected };
    let read = match map.get("kind").and_then(Value::as_str) {
        Some("tick") => map.get("through").and_then(time).map(Line::Tick),
        Some("rules") => Some(Line::Rules(Rules(Value::Object(map)))),
        _ => record(map).map(|record| Line::Event(Box::new(record))),
    };
    read.unwrap_or(Line::Rejected)
}

/// The event in a JSON object; `None` is a dead letter.
fn record(mut map: Map<String, Value>) -> Option<Record> {
    let kind = map.get("kind")?.as_str()?.to_owned();
    let own = own_fields(&kind)?;
    map.retain(|name, value| {
        let (common, own) = (COMMON.contains(&name.as_str()), own.contains(&name.as_str()));
        let nothing = value.as_str() == Some("") || (value.is_null() && !(own && kind == "profile"));
        !(nothing && (common || own))
    });
    for name in TIMES {
        if let Some(value) = map.get_mut(name)
            && !value.is_null()
            && (name == "occurred_at" || own.contains(&name))
        {
            *value = Value::from(time(value)?.to_string());
        }
    }
    for (name, closed) in [("interaction", INTERACTIONS), ("status", STATUSES)] {
        if own.contains(&name) && text(&map, name)?.is_some_and(|value| !closed.contains(&value.as_str())) {
            return None;
        }
    }
    let needed = match kind.as_str() {
        "touch" => "channel",
        "engagement" => "vehicle",
        "advocacy" | "value" => "measure",
        _ => "id",
    };
    text(&map, needed)??;
    let revision = map.get("revision").map(|value| value.as_i64().ok_or(())).transpose().ok()?;
    let void = map.get("void").map(|value| value.as_bool().ok_or(())).transpose().ok()?.unwrap_or(false);
    if void && revision.is_none() {
        return None;
    }
    if !void {
        map.remove("void");
    }
    let (account, contact) = who(&map, &kind)?;
    map.insert("account".into(), Value::from(account.as_str()));
    if let Some(contact) = &contact {
        map.insert("contact".into(), Value::from(contact.as_str()));
    }
    Some(Record {
        account,
        contact,
        at: time(map.get("occurred_at")?)?,
        source: text(&map, "source")??,
        id: text(&map, "id")??,
        bytes: bytes(&map, &own),
        kind,
        revision,
        void,
        fields: map,
    })
}

/// Whom a record is about.
fn who(map: &Map<String, Value>, kind: &str) -> Option<(String, Option<String>)> {
    let email = if kind == "profile" { text(map, "email")?.map(|email| email.to_lowercase()) } else { None };
    let contact = text(map, "contact")?.map(lower_if_email).or_else(|| email.clone());
    if contact.is_none() && ["touch", "engagement", "advocacy"].contains(&kind) {
        return None;
    }
    let domain = || {
        [&contact, &email].into_iter().flatten().filter(|text| is_email(text)).find_map(|address| {
            let domain = address.split('@').next_back()?.to_owned();
            (!FREE_MAIL.contains(&domain.as_str())).then_some(domain)
        })
    };
    let account = text(map, "account")?
        .map(lower_if_email)
        .or_else(domain)
        .or_else(|| contact.as_ref().map(|contact| format!("~{contact}")))?;
    let short = account.len() <= WHO_LIMIT && contact.as_ref().is_none_or(|contact| contact.len() <= WHO_LIMIT);
    short.then_some((account, contact))
}

fn is_email(text: &str) -> bool {
    let sides: Vec<&str> = text.split('@').collect();
    sides.len() == 2 && sides.iter().all(|side| !side.is_empty()) && !text.contains(char::is_whitespace)
}

fn lower_if_email(text: String) -> String {
    if is_email(&text) { text.to_lowercase() } else { text }
}

/// A field of text: `None` malformed, `Some(None)` absent.
fn text(map: &Map<String, Value>, name: &str) -> Option<Option<String>> {
    match map.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        Some(_) => None,
    }
}

/// An RFC 3339 time with an offset.
pub fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Known fields in table order, then the others by name.
fn bytes(map: &Map<String, Value>, own: &[&str]) -> String {
    let known: Vec<&str> = COMMON.into_iter().chain(own.iter().copied()).collect();
    let mut others: Vec<&str> = map.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
    others.sort_unstable();
    let fields: Vec<String> = known
        .into_iter()
        .chain(others)
        .filter_map(|name| Some(format!("{}:{}", Value::from(name), map.get(name)?)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

impl Record {
    /// A field's text, where it has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// A field's time, where it has one.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        time(self.fields.get(name)?)
    }

    /// What makes two records the same one; the key of its fact.
    pub fn key(&self) -> String {
        let contact = self.contact.clone().unwrap_or_default();
        let at = self.at.to_string();
        let parts = match self.revision {
            Some(_) => vec![&self.account, &self.source, &self.id],
            None => vec![&self.account, &contact, &at, &self.source, &self.id],
        };
        parts.into_iter().map(|part| escape(part)).collect::<Vec<_>>().join("|")
    }

    /// Its fact without `version`.
    pub fn fact(&self) -> Value {
        let mut fact = self.fields.clone();
        fact.remove("kind");
        fact.insert("fact".into(), Value::from(self.kind.as_str()));
        Value::Object(fact)
    }
}

/// A part of a key.
pub fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('|', "%7C")
}

/// A rules record; what it leaves out has its built-in default.
#[derive(Clone, Default)]
pub struct Rules(pub Value);

impl Rules {
    /// Months of silence that are a lapse, for people of this segment.
    pub fn months(&self, segment: Option<&str>) -> i64 {
        let lapse = &self.0["lapse"];
        let of_segment = segment.and_then(|segment| lapse["segments"][segment].as_i64());
        of_segment.or(lapse["months"].as_i64()).unwrap_or(3)
    }

    /// How long before the due time a contact is at risk.
    pub fn warn(&self) -> SignedDuration {
        SignedDuration::from_secs(self.0["lapse"]["warn_s"].as_i64().unwrap_or(14 * 86_400))
    }

    /// How long after the due time a lapse escalates.
    pub fn escalate(&self) -> SignedDuration {
        SignedDuration::from_secs(self.0["lapse"]["escalate_s"].as_i64().unwrap_or(30 * 86_400))
    }

    /// Does this class (`two_way`, `one_way`, `advocacy`) end a silence?
    pub fn counts(&self, class: &str) -> bool {
        self.0["lapse"]["counts"].as_array().is_none_or(|classes| classes.contains(&Value::from(class)))
    }

    /// Seconds in which a point loses half of its worth.
    pub fn half_life(&self) -> f64 {
        self.0["score"]["half_life_s"].as_f64().unwrap_or(60.0 * 86_400.0)
    }

    /// Points at which the score is 63.
    pub fn k(&self) -> f64 {
        self.0["score"]["k"].as_f64().unwrap_or(10.0)
    }

    /// The weight of a class.
    pub fn class(&self, class: &str) -> f64 {
        self.0["score"][class].as_f64().unwrap_or(if class == "one_way" { 1.0 } else { 3.0 })
    }

    /// The weight of a vehicle.
    pub fn vehicle(&self, vehicle: &str) -> f64 {
        self.0["score"]["vehicles"][vehicle].as_f64().unwrap_or(1.0)
    }

    /// The weight of a role in an account's score.
    pub fn role(&self, role: &str) -> f64 {
        self.0["score"]["roles"][role].as_f64().unwrap_or(match role {
            "decision_maker" => 100.0,
            "line_of_business" => 80.0,
            "functional" => 60.0,
            "user" => 40.0,
            _ => 20.0,
        })
    }

    /// The priority of a source in profile merges.
    pub fn priority(&self, source: &str) -> i64 {
        self.0["priorities"][source].as_i64().unwrap_or(0)
    }

    /// What the record says, with every default written out and without `since`: equal ones change nothing.
    pub fn meaning(&self) -> Value {
        let (lapse, score) = (&self.0["lapse"], &self.0["score"]);
        let counts = ["two_way", "one_way", "advocacy"].map(|class| self.counts(class));
        let weights = ["two_way", "one_way", "advocacy"].map(|class| self.class(class));
        let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
        json!([
            [self.months(None), self.warn().as_secs(), self.escalate().as_secs(), counts, map(&lapse["segments"])],
            [self.half_life(), self.k(), weights, map(&score["vehicles"]), map(&score["roles"])],
            map(&self.0["priorities"]),
        ])
    }

    /// Alerts due before this are old news.
    pub fn since(&self) -> Option<Timestamp> {
        time(&self.0["since"])
    }
}
