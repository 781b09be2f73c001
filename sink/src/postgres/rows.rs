//! What a batch is in rows. Pure.
//!
//! The changes of a batch are collapsed to the newest of each key, and sorted by it: a transaction writes a row once,
//! and two transactions come to rows that both write in the same order. Collapsing loses nothing: applying the changes
//! one by one would end with the same rows, whatever is stored already.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::memmem;
use serde_json::value::RawValue;
use touchline_core::event::{Field, Kind as EventKind};
use touchline_core::notice::{Left, Notice, Notices};
use touchline_core::output::Topic;

use super::members::{Members, text};
use super::table::{ALERTS, Column, FACTS, Kind, SCORES, Table};
use crate::sink::{Change, Rejected};

/// Longest number: processors give none with more digits, and `numeric` takes any of that length.
const NUMBER_BYTES: usize = 128;
/// What PostgreSQL can store in no text, as JSON writes it.
const NUL: &[u8] = b"\\u0000";

/// The values of a row, in the order of its table's columns; `None` is null.
pub type Values<'a> = Vec<Option<Cow<'a, str>>>;

/// What a batch does to a table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TableRows<'a> {
    /// Keys of changes under which everything goes, before any row comes; sorted.
    pub deleted: Vec<&'a str>,
    /// Rows to be written, sorted by key.
    pub written: Vec<Values<'a>>,
}

/// What a batch does, by key.
#[derive(Debug, Default)]
pub struct Rows<'a> {
    alerts: BTreeMap<&'a str, Standing<'a>>,
    /// By id and sequence.
    alert_changes: BTreeMap<(&'a str, i64), Values<'a>>,
    scores: BTreeMap<&'a str, Standing<'a>>,
    facts: BTreeMap<&'a str, Standing<'a>>,
    /// Contacts to be forgotten once all of that is written.
    erased: Vec<Notice<'a>>,
    /// The same, to be asked.
    notices: Notices,
}

/// What the changes of one key come to.
#[derive(Debug, Default)]
struct Standing<'a> {
    /// A tombstone was among them: whatever is stored, however new, goes before the row comes.
    is_deleted: bool,
    /// The newest behind the last tombstone, with its version.
    row: Option<(i64, Values<'a>)>,
}

impl<'a> Standing<'a> {
    fn delete(&mut self) {
        *self = Standing { is_deleted: true, row: None };
    }

    fn write(&mut self, version: i64, values: Values<'a>) {
        if self.row.as_ref().is_none_or(|(newest, _)| *newest <= version) {
            self.row = Some((version, values));
        }
    }
}

impl<'a> Rows<'a> {
    /// The rows of these changes, to be written one after the other: what is said of a contact behind its erasure is not
    /// erased. Or those that can never be rows.
    pub fn of(changes: &'a [Change]) -> Result<Vec<Rows<'a>>, Vec<Rejected>> {
        let (mut parts, mut rejected) = (vec![Rows::default()], Vec::new());
        for (position, change) in changes.iter().enumerate() {
            let alert = change.value.as_deref().filter(|_| change.topic == Topic::Alerts);
            let is_of_erased = |part: &Rows<'_>| {
                alert.is_some_and(|alert| !part.erased.is_empty() && part.notices.left(alert, 0) != Left::All)
            };
            if parts.last().is_none_or(is_of_erased) {
                parts.push(Rows::default());
            }
            let Some(part) = parts.last_mut() else { continue };
            match alert.and_then(Notice::of) {
                Some(notice) => {
                    part.notices.add(&notice, 1);
                    part.erased.push(notice);
                }
                None => {
                    if let Err(reason) = part.add(change) {
                        rejected.push(Rejected { position, reason });
                    }
                }
            }
        }
        if rejected.is_empty() { Ok(parts) } else { Err(rejected) }
    }

    /// Whom to forget, once the tables are written.
    pub fn erased(&self) -> &[Notice<'a>] {
        &self.erased
    }

    fn add(&mut self, change: &'a Change) -> Result<(), String> {
        let key = str::from_utf8(&change.key).map_err(|_| "its key is not UTF-8".to_owned())?;
        if key.contains('\0') {
            return Err("its key has a NUL character in it, which PostgreSQL cannot store".to_owned());
        }
        let (table, rows) = match change.topic {
            Topic::Alerts => return self.add_alert(key, change),
            Topic::Scores => (&SCORES, &mut self.scores),
            Topic::Facts => (&FACTS, &mut self.facts),
            Topic::DeadLetters => return Err("there is no table for dead letters".to_owned()),
        };
        let row = change.value.as_deref().map(|value| row(table, key, value)).transpose()?;
        let standing = rows.entry(key).or_default();
        match row {
            Some((version, values)) => standing.write(version, values),
            None => standing.delete(),
        }
        Ok(())
    }

    fn add_alert(&mut self, id: &'a str, change: &'a Change) -> Result<(), String> {
        let Some(value) = change.value.as_deref() else {
            self.alerts.entry(id).or_default().delete();
            let of_it: Vec<_> =
                self.alert_changes.range((id, i64::MIN)..=(id, i64::MAX)).map(|(key, _)| *key).collect();
            of_it.iter().for_each(|key| drop(self.alert_changes.remove(key)));
            return Ok(());
        };
        let (sequence, values) = row(&ALERTS, id, value)?;
        self.alerts.entry(id).or_default().write(sequence, values.clone());
        self.alert_changes.insert((id, sequence), values);
        Ok(())
    }

    /// What is done to each table, in the order of [`super::table::TABLES`].
    pub fn take_tables(&mut self) -> [TableRows<'a>; 4] {
        let alerts_deleted =
            self.alerts.iter().filter(|(_, standing)| standing.is_deleted).map(|(id, _)| *id).collect();
        let written = std::mem::take(&mut self.alert_changes).into_values().collect();
        let changes = TableRows { deleted: alerts_deleted, written };
        let [alerts, facts, scores] = [&mut self.alerts, &mut self.facts, &mut self.scores].map(|rows| {
            let rows = std::mem::take(rows);
            let mut table = TableRows::default();
            for (key, standing) in rows {
                table.deleted.extend(standing.is_deleted.then_some(key));
                table.written.extend(standing.row.map(|(_, values)| values));
            }
            table
        });
        [changes, alerts, facts, scores]
    }
}

/// The row that a change's value is, and its version.
fn row<'a>(table: &Table, key: &'a str, value: &'a [u8]) -> Result<(i64, Values<'a>), String> {
    let members: Members<'a> =
        serde_json::from_slice(value).map_err(|error| format!("its value is not a JSON object: {error}"))?;
    if has_nul(value) {
        return Err("there is a NUL character (\\u0000) in it, which PostgreSQL cannot store".to_owned());
    }
    let kind = members.get("fact").and_then(text).and_then(|fact| event_kind(&fact));
    let mut version = None;
    let mut values = Vec::with_capacity(table.columns.len());
    for column in table.columns {
        let member = members.get(column.name).filter(|_| is_of(column, kind));
        let value = match column.kind {
            Kind::Key => Some(Cow::Borrowed(key)),
            // The value is text: it has been read as JSON.
            Kind::Record => str::from_utf8(value).ok().map(Cow::Borrowed),
            _ => stored(column, member)?,
        };
        if value.is_none() && column.is_required {
            return Err(format!("it has no `{}`", column.name));
        }
        if column.name == table.guard {
            version = value.as_deref().and_then(|version| version.parse().ok());
        }
        values.push(value);
    }
    Ok((version.ok_or_else(|| format!("it has no `{}`", table.guard))?, values))
}

fn event_kind(fact: &str) -> Option<EventKind> {
    EventKind::ALL.into_iter().find(|kind| kind.name() == fact)
}

/// Whether the member means what the column does: an event may have fields of its source's own, of any name and shape,
/// which stay in the record.
fn is_of(column: &Column, kind: Option<EventKind>) -> bool {
    match (kind, Field::from_name(column.name)) {
        (Some(kind), Some(field)) => field.row().is_of(kind),
        (Some(_), None) => !matches!(column.name, "lapsed_at" | "recovered_at"),
        (None, _) => true,
    }
}

/// What the column takes of the member; `None` is null, also for a value of another type, which stays in the record.
/// What is of the type and cannot be stored is an error.
fn stored<'a>(column: &Column, member: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, String> {
    let number = || {
        member.map(RawValue::get).filter(|raw| raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
    };
    let value = match column.kind {
        Kind::Key | Kind::Record => None,
        Kind::Text | Kind::Time => member.and_then(text),
        Kind::Decimal => number().map(Cow::Borrowed).or_else(|| member.and_then(text)),
        Kind::Float | Kind::Whole => number().map(Cow::Borrowed),
        Kind::Flag => Some(Cow::Borrowed(if member.is_some_and(|raw| raw.get() == "true") { "true" } else { "false" })),
        Kind::Json => member.map(RawValue::get).filter(|raw| *raw != "null").map(Cow::Borrowed),
    };
    match value {
        Some(value) if !is_storable(column.kind, &value) => {
            Err(format!("its `{}` cannot be stored: {}", column.name, must_be(column.kind)))
        }
        value => Ok(value),
    }
}

fn is_storable(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Time => is_time(value),
        Kind::Decimal => value.len() <= NUMBER_BYTES && value.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::Float => value.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::Whole => value.parse::<i64>().is_ok(),
        Kind::Key | Kind::Record | Kind::Text | Kind::Flag | Kind::Json => true,
    }
}

fn must_be(kind: Kind) -> &'static str {
    match kind {
        Kind::Time => "it must be a time in UTC, of a year from 1 to 9999",
        Kind::Decimal => "it must be a number of at most 128 characters",
        Kind::Float => "it must be a number below 1.8e308",
        Kind::Whole => "it must be a whole number of at most 63 bits",
        Kind::Key | Kind::Record | Kind::Text | Kind::Flag | Kind::Json => "it must be text",
    }
}

/// `2024-03-05T00:00:00Z`, with or without a fraction: what every time zone and date style of a server reads alike.
fn is_time(text: &str) -> bool {
    let Some((year, rest)) = text.split_once('-') else { return false };
    let is_year = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()) && year != "0000";
    is_year && rest.ends_with('Z') && rest.contains('T')
}

/// Whether a string in this JSON has a NUL character: `\u0000` behind an even number of backslashes.
fn has_nul(json: &[u8]) -> bool {
    memmem::find_iter(json, NUL).any(|at| json[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0)
}
