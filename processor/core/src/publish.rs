//! The JSON of alerts, scores and derived facts, and the keys that they are published under.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::account::{Account, account_score};
use crate::contact::Contact;
use crate::decay::{Decay, score};
use crate::event::{
    Event, Field, foreign_member, json_member, member, plain, plain_member, string_member, time_member,
};
use crate::lapse::{Episode, Rule, Told};
use crate::rules::{DAY_S, ScoreRules};

/// Hexadecimal digits of an id: 128 bits, so that no two meet by chance.
const ID_DIGITS: usize = 32;

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
        let mut hash = Sha256::new();
        for part in [self.rule(rule), self.account, self.contact, &last.to_string()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let mut id = String::with_capacity(ID_DIGITS);
        for byte in hash.finalize().iter().take(ID_DIGITS / 2) {
            id.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
            id.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
        }
        id
    }

    /// The key of a score.
    pub fn score_key(&self) -> Vec<u8> {
        if self.contact.is_empty() { join(&[self.account]) } else { join(&[self.account, self.contact]) }
    }

    fn members(&self, out: &mut Vec<u8>) {
        string_member(out, "account", self.account);
        match self.contact {
            "" => json_member(out, "contact", "null"),
            contact => string_member(out, "contact", contact),
        }
    }
}

/// The key of an event's fact: its identity.
pub(crate) fn fact_key(event: &Event<'_>) -> Vec<u8> {
    match event.revision {
        Some(_) => join(&[&event.account, &event.source, &event.id]),
        None => join(&[&event.account, &event.contact, &event.occurred_at.to_string(), &event.source, &event.id]),
    }
}

/// Parts with `|` between them; `%` and `|` inside them are written as in a URL.
fn join(parts: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            key.push(b'|');
        }
        for &byte in part.as_bytes() {
            match byte {
                b'%' => key.extend_from_slice(b"%25"),
                b'|' => key.extend_from_slice(b"%7C"),
                _ => key.push(byte),
            }
        }
    }
    key
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

fn optional_time(out: &mut Vec<u8>, name: &'static str, time: Option<Timestamp>) {
    match time {
        Some(time) => time_member(out, name, time),
        None => json_member(out, name, "null"),
    }
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
    parts: Vec<(&'a str, f64)>,
    as_of: Option<Timestamp>,
    last_two_way: Option<Timestamp>,
    last: Option<Timestamp>,
    due: Option<Timestamp>,
    engagements: u64,
    touches_since: Option<u64>,
    standing: &'static str,
    version: u64,
}

impl<'a> ScoreView<'a> {
    /// A contact's: parts are points by vehicle.
    pub fn of_contact(contact: &'a Contact, rules: &ScoreRules) -> ScoreView<'a> {
        let (tally, decay) = (&contact.tally, Decay::new(rules.half_life_s));
        let worth = tally.as_of.map_or(0.0, |as_of| decay.worth(tally.landmark, as_of));
        let parts: Vec<_> = tally.parts.iter().map(|(name, points)| (&**name, points * worth)).collect();
        ScoreView {
            score: score(parts.iter().map(|(_, points)| points).sum(), rules.k),
            parts,
            as_of: tally.as_of,
            last_two_way: tally.last_two_way,
            last: contact.times.last(),
            due: contact.watch.due,
            engagements: tally.engagements,
            touches_since: Some(contact.touches_since),
            standing: contact.standing.name(),
            version: contact.version,
        }
    }

    /// An account's: parts are points by role.
    pub fn of_account(account: &'a Account, rules: &ScoreRules) -> ScoreView<'a> {
        let parts = account.parts(rules);
        ScoreView {
            score: account_score(&parts, rules),
            parts: parts.into_iter().map(|(role, points)| (role.name(), points)).collect(),
            as_of: account.as_of,
            last_two_way: None,
            last: account.relevant().last(),
            due: account.watch.due,
            engagements: account.engagements,
            touches_since: None,
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
        plain_member(out, "score", self.score);
        object(out, "parts", |out| {
            for (name, points) in &self.parts {
                foreign_member(out, name);
                plain(out, points);
            }
        });
        plain_member(out, "half_life_days", rules.half_life_s as f64 / DAY_S as f64);
        optional_time(out, "as_of", self.as_of);
        optional_time(out, "last_engagement_at", self.last);
        if who.contact.is_empty() {
            json_member(out, "touches_since", "null");
        } else {
            optional_time(out, "last_two_way_at", self.last_two_way);
            plain_member(out, "touches_since", self.touches_since.unwrap_or_default());
        }
        optional_time(out, "due", self.due);
        plain_member(out, "engagements", self.engagements);
        string_member(out, "state", self.standing);
        plain_member(out, "version", version(generation, self.version));
        out.push(b'}');
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
    optional_time(out, "recovered_at", episode.recovered_at);
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
    /// Appends the alert; `context` appends further members.
    pub fn write(&self, out: &mut Vec<u8>, context: impl FnOnce(&mut Vec<u8>)) {
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
        optional_time(out, "tick", self.told.tick);
        if let Some(tick) = self.told.tick {
            plain_member(out, "late_s", tick.as_second() - self.due.as_second());
        }
        if self.backlog {
            plain_member(out, "backlog", true);
        }
        plain_member(out, "score", self.score);
        context(out);
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
