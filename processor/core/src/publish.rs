//! The JSON of alerts, scores and derived facts, and the keys that they are published under.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

use crate::account::{Account, account_score};
use crate::contact::Contact;
use crate::decay::{Decay, score};
use crate::erasure::Erased;
use crate::event::{
    Event, Field, json_member, json_string, json_time, member, plain, plain_member, string_member, time_member,
};
use crate::lapse::{Episode, Rule, Told};
use crate::moment::put_moment;
use crate::profile::{ROLES, Role};
use crate::rules::{DAY_S, ScoreRules};

/// Hexadecimal digits of an id: 128 bits, so that no two meet by chance.
const ID_DIGITS: usize = 32;
/// What an id is a hash of is seldom longer.
const NAME_BYTES: usize = 128;

/// Whom something is about; an empty contact is the account itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub account: &'a str,
    pub contact: &'a str,
}

impl Who<'_> {
    /// The name of a rule about this subject.
    pub fn rule(&self, rule: Rule) -> &'static str {
        match (rule, self.contact.is_empty()) {
            (Rule::Lapse, false) => "lapse",
            (Rule::Lapse, true) => "account_lapse",
            (Rule::AtRisk, _) => "at_risk",
        }
    }

    /// The id of an alert, and of the fact that is its lapse: a hash of rule, account, contact and last engagement.
    pub fn alert_id(&self, rule: Rule, last: Timestamp) -> String {
        let mut name = Vec::with_capacity(NAME_BYTES);
        for part in [self.rule(rule), self.account, self.contact] {
            name.extend_from_slice(part.as_bytes());
            name.push(0);
        }
        put_moment(&mut name, last);
        name.push(0);
        id_of(&Sha256::digest(&name))
    }

    /// Appends the key of a score.
    pub fn put_score_key(&self, key: &mut Vec<u8>) {
        put_part(key, self.account);
        if !self.contact.is_empty() {
            key.push(b'|');
            put_part(key, self.contact);
        }
    }

    fn members(&self, out: &mut Vec<u8>) {
        string_member(out, "account", self.account);
        match self.contact {
            "" => json_member(out, "contact", "null"),
            contact => string_member(out, "contact", contact),
        }
    }
}

/// An id made of a hash.
pub(crate) fn id_of(hash: &[u8]) -> String {
    let mut id = String::with_capacity(ID_DIGITS);
    for byte in hash.iter().take(ID_DIGITS / 2) {
        for digit in [byte >> 4, byte & 15] {
            id.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    id
}

/// The key of an event's fact: its identity. Parts stand with `|` between them.
pub(crate) fn fact_key(event: &Event<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(NAME_BYTES);
    put_part(&mut key, &event.account);
    if event.revision.is_none() {
        key.push(b'|');
        put_part(&mut key, &event.contact);
        key.push(b'|');
        put_moment(&mut key, event.occurred_at);
    }
    for part in [&event.source, &event.id] {
        key.push(b'|');
        put_part(&mut key, part);
    }
    key
}

/// Appends a part of a key; `%` and `|` inside it are written as in a URL.
fn put_part(key: &mut Vec<u8>, part: &str) {
    let mut rest = part.as_bytes();
    while let Some(place) = memchr::memchr2(b'%', b'|', rest) {
        key.extend_from_slice(&rest[..place]);
        key.extend_from_slice(if rest[place] == b'%' { b"%25" } else { b"%7C" });
        rest = &rest[place + 1..];
    }
    key.extend_from_slice(rest);
}

/// The parts that the key of a score or of a fact is made of; none if it is no text.
pub fn key_parts(key: &[u8]) -> Vec<String> {
    let plain = |part: &str| part.replace("%7C", "|").replace("%25", "%");
    str::from_utf8(key).map(|key| key.split('|').map(plain).collect()).unwrap_or_default()
}

/// Appends a JSON object under a name.
pub(crate) fn object(out: &mut Vec<u8>, name: &'static str, members: impl FnOnce(&mut Vec<u8>)) {
    member(out, name);
    out.push(b'{');
    members(out);
    out.push(b'}');
}

/// Appends a JSON array under a name.
pub(crate) fn array<T, E>(
    out: &mut Vec<u8>,
    name: &'static str,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
) -> Result<(), E> {
    member(out, name);
    out.push(b'[');
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends `"name":"text"` if there is a text.
pub(crate) fn optional_text(out: &mut Vec<u8>, name: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        string_member(out, name, text);
    }
}

/// A score as it stands: what a contact's or an account's score record says.
pub(crate) struct ScoreView<'a> {
    score: f64,
    parts: Parts<'a>,
    as_of: Option<Timestamp>,
    last: Option<Timestamp>,
    due: Option<Timestamp>,
    engagements: u64,
    /// Of a contact: the last conversation, and the touches since the last engagement.
    own: Option<(Option<Timestamp>, u64)>,
    standing: &'static str,
    version: u64,
}

/// The points that a score is made of.
enum Parts<'a> {
    /// A contact's, by vehicle, and what a stored point is worth.
    Vehicles(&'a [(SmolStr, f64)], f64),
    /// An account's, by role; `None` where it has no contacts.
    Roles([Option<f64>; ROLES]),
}

impl<'a> ScoreView<'a> {
    /// A contact's: parts are points by vehicle.
    pub fn of_contact(contact: &'a Contact, rules: &ScoreRules) -> ScoreView<'a> {
        let (tally, decay) = (&contact.tally, Decay::new(rules.half_life_s));
        let worth = tally.as_of.map_or(0.0, |as_of| decay.worth(tally.landmark, as_of));
        ScoreView {
            score: score(tally.parts.iter().map(|(_, points)| points * worth).sum(), rules.k),
            parts: Parts::Vehicles(&tally.parts, worth),
            as_of: tally.as_of,
            last: contact.times.last(),
            due: contact.watch.due,
            engagements: tally.engagements,
            own: Some((tally.last_two_way, contact.touches_since)),
            standing: contact.standing.name(),
            version: contact.version,
        }
    }

    /// An account's: parts are points by role.
    pub fn of_account(account: &'a Account, rules: &ScoreRules) -> ScoreView<'a> {
        let parts = account.parts(rules);
        ScoreView {
            score: account_score(&parts, rules),
            parts: Parts::Roles(parts),
            as_of: account.as_of,
            last: account.relevant().last(),
            due: account.watch.due,
            engagements: account.engagements,
            own: None,
            standing: account.standing.name(),
            version: account.version,
        }
    }

    /// The number itself.
    pub fn score(&self) -> f64 {
        self.score
    }

    /// Appends the score record.
    pub fn write(&self, who: Who<'_>, rules: &ScoreRules, generation: u64, out: &mut Vec<u8>) {
        out.push(b'{');
        who.members(out);
        out.extend_from_slice(b",\"score\":");
        plain(out, self.score);
        out.extend_from_slice(b",\"parts\":{");
        self.parts.write(out);
        out.extend_from_slice(b"},\"half_life_days\":");
        plain(out, rules.half_life_s as f64 / DAY_S as f64);
        out.extend_from_slice(b",\"as_of\":");
        json_time(out, self.as_of);
        out.extend_from_slice(b",\"last_engagement_at\":");
        json_time(out, self.last);
        match self.own {
            Some((last_two_way, touches_since)) => {
                out.extend_from_slice(b",\"last_two_way_at\":");
                json_time(out, last_two_way);
                out.extend_from_slice(b",\"touches_since\":");
                plain(out, touches_since);
            }
            None => out.extend_from_slice(b",\"touches_since\":null"),
        }
        out.extend_from_slice(b",\"due\":");
        json_time(out, self.due);
        out.extend_from_slice(b",\"engagements\":");
        plain(out, self.engagements);
        out.extend_from_slice(b",\"state\":\"");
        out.extend_from_slice(self.standing.as_bytes());
        out.extend_from_slice(b"\",\"version\":");
        plain(out, version(generation, self.version));
        out.push(b'}');
    }
}

impl Parts<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut write = |is_first: bool, name: &str, points: f64| {
            if !is_first {
                out.push(b',');
            }
            json_string(out, name);
            out.push(b':');
            plain(out, points);
        };
        match self {
            Parts::Vehicles(parts, worth) => {
                parts.iter().enumerate().for_each(|(place, (name, points))| write(place == 0, name, points * worth));
            }
            Parts::Roles(roles) => {
                let parts = Role::ALL.into_iter().zip(roles).filter_map(|(role, points)| Some((role, (*points)?)));
                parts.enumerate().for_each(|(place, (role, points))| write(place == 0, role.name(), points));
            }
        }
    }
}

/// Versions of a state that was rebuilt from nothing are above all that went before.
pub(crate) fn version(generation: u64, changes: u64) -> u64 {
    const GENERATION_BITS: u32 = 48;
    (generation << GENERATION_BITS) + changes
}

/// Appends the fact of a lapse.
pub(crate) fn write_episode(who: Who<'_>, id: &str, episode: &Episode, version: u64, out: &mut Vec<u8>) {
    out.push(b'{');
    string_member(out, "id", id);
    string_member(out, "fact", if who.contact.is_empty() { "account_episode" } else { "lapse_episode" });
    who.members(out);
    time_member(out, "last_engagement_at", episode.last);
    time_member(out, "lapsed_at", episode.lapsed_at);
    member(out, "recovered_at");
    json_time(out, episode.recovered_at);
    plain_member(out, "version", version);
    out.push(b'}');
}

/// Appends the notice that a contact is to be forgotten, for whoever has alerts: the last that is said of it by name.
pub(crate) fn write_notice(who: Who<'_>, id: &str, erased: &Erased, tick: Option<Timestamp>, out: &mut Vec<u8>) {
    out.push(b'{');
    string_member(out, "id", id);
    string_member(out, "rule", "contact");
    string_member(out, "change", "erased");
    plain_member(out, "sequence", erased.sequence);
    who.members(out);
    time_member(out, "erased_at", erased.at);
    member(out, "tick");
    json_time(out, tick);
    out.push(b'}');
}

/// Appends the fact that somebody was forgotten, which does not say who.
pub(crate) fn write_receipt(id: &str, erased: &Erased, facts: u64, version: u64, out: &mut Vec<u8>) {
    out.push(b'{');
    string_member(out, "id", id);
    string_member(out, "fact", "erasure");
    time_member(out, "erased_at", erased.at);
    plain_member(out, "facts", facts);
    plain_member(out, "version", version);
    out.push(b'}');
}

/// What an alert says beside its context.
pub(crate) struct AlertView<'a> {
    pub who: Who<'a>,
    pub id: &'a str,
    pub told: Told,
    pub due: Timestamp,
    pub owner: Option<&'a str>,
    pub score: f64,
    pub backlog: bool,
}

impl AlertView<'_> {
    /// Appends the alert; `context` are further members, each with a comma before it.
    pub fn write(&self, out: &mut Vec<u8>, context: &[u8]) {
        out.push(b'{');
        string_member(out, "id", self.id);
        string_member(out, "rule", self.who.rule(self.told.rule));
        string_member(out, "change", self.told.change.name());
        plain_member(out, "sequence", self.told.sequence);
        self.who.members(out);
        match self.owner {
            Some(owner) => string_member(out, "owner", owner),
            None => json_member(out, "owner", "null"),
        }
        time_member(out, "last_engagement_at", self.told.last);
        time_member(out, "due", self.due);
        if let Some(at) = self.told.recovered_at {
            time_member(out, "recovered_at", at);
        }
        member(out, "tick");
        json_time(out, self.told.tick);
        if let Some(tick) = self.told.tick {
            plain_member(out, "late_s", tick.as_second() - self.due.as_second());
        }
        if self.backlog {
            plain_member(out, "backlog", true);
        }
        plain_member(out, "score", self.score);
        out.extend_from_slice(context);
        out.push(b'}');
    }
}

/// Appends `{"at":…}` and the named fields of an event, for an alert's context.
pub(crate) fn write_excerpt(event: &Event<'_>, fields: &[Field], out: &mut Vec<u8>) {
    out.push(b'{');
    time_member(out, "at", event.occurred_at);
    for field in fields {
        if let Some(time) = event.time(*field) {
            time_member(out, field.row().name, time);
        } else {
            optional_text(out, field.row().name, event.text(*field));
        }
    }
    out.push(b'}');
}
