//! Who has been forgotten: `deleted: true` in a profile of a contact, until a later one says `false`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::line::Record;
use super::naive::{Who, World};

/// What comes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is a record like any other.
    Kept,
    /// It is about somebody who has been forgotten.
    Suppressed,
    /// Its contact is to be forgotten now.
    Erase,
}

/// Until when everything about somebody is forgotten.
#[derive(Default)]
pub struct Forgotten {
    /// When it was asked for last, and since when they are somebody again.
    by_contact: BTreeMap<Who, (Timestamp, Option<Timestamp>)>,
}

impl Forgotten {
    pub fn hear(&mut self, record: &Record) -> Heard {
        let who = (record.account.clone(), record.contact.clone());
        let deleted = record.fields.get("deleted").and_then(Value::as_bool);
        let deleted = deleted.filter(|_| record.kind == "profile" && record.contact.is_some() && !record.void);
        let known = self.by_contact.get(&who).copied();
        match (deleted, known) {
            (Some(true), Some((at, returned))) if record.at <= at || returned.is_some_and(|from| record.at < from) => {
                return Heard::Suppressed;
            }
            (Some(true), _) => {
                self.by_contact.insert(who, (record.at, None));
                return Heard::Erase;
            }
            (Some(false), Some((at, returned))) if record.at > at && returned.is_none_or(|from| record.at < from) => {
                self.by_contact.insert(who.clone(), (at, Some(record.at)));
            }
            _ => {}
        }
        match self.by_contact.get(&person(&who)) {
            Some((_, returned)) if returned.is_none_or(|from| record.at < from) => Heard::Suppressed,
            _ => Heard::Kept,
        }
    }
}

/// A later revision of a record says that it is somebody's who is forgotten: then it is nobody's.
pub fn take_away(records: &mut Vec<Record>, record: &Record) {
    let of_key = |other: &&Record| other.key() == record.key();
    let rank = |record: &Record| (record.revision, std::cmp::Reverse(record.bytes.clone()));
    let newest = records.iter().filter(of_key).map(rank).max();
    if record.revision.is_some() && newest.is_some_and(|newest| newest < rank(record)) {
        records.push(Record { contact: None, void: true, bytes: String::new(), ..record.clone() });
    }
}

/// The account of one person is that person.
fn person(who: &Who) -> Who {
    match (who.0.strip_prefix('~'), &who.1) {
        (Some(person), None) => (who.0.clone(), Some(person.to_owned())),
        _ => who.clone(),
    }
}

/// Who is forgotten with the contact of this record: the account, too, if it was nobody else.
pub fn whom(records: &[Record], record: &Record) -> Vec<Who> {
    let contact = (record.account.clone(), record.contact.clone());
    let account = (record.account.clone(), None);
    let rules = super::line::Rules::default();
    let others = World::new(records, &rules, None).everyone();
    let is_alone = !others.iter().any(|who| who.0 == contact.0 && who.1.is_some() && *who != contact);
    if person(&account) == contact && is_alone { vec![contact, account] } else { vec![contact] }
}

/// Takes out all that there is of somebody: every version of a record that is theirs now, and their own of one that is not.
pub fn forget(records: &mut Vec<Record>, who: &Who) {
    let is_theirs = |record: &Record| (&record.account, &record.contact) == (&who.0, &who.1);
    let mut newest: BTreeMap<String, &Record> = BTreeMap::new();
    for record in records.iter() {
        let best = newest.entry(record.key()).or_insert(record);
        if (record.revision, &best.bytes) > (best.revision, &record.bytes) {
            *best = record;
        }
    }
    let theirs: Vec<String> = newest.into_iter().filter(|(_, record)| is_theirs(record)).map(|(key, _)| key).collect();
    records.retain(|record| !is_theirs(record) && !theirs.contains(&record.key()));
}
