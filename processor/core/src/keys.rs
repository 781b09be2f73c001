//! Every key of the store, in one file. Keys compare as bytes in the order that the state machine scans; the first byte
//! is the table. Once assigned, a table's byte and form must never be changed or given to another.
//!
//! Texts inside keys end with a zero byte, and a zero byte in them is written as `00 ff`, so that order and boundaries
//! hold for any text. Moments are written with their sign flipped, seconds before nanoseconds.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::codec::Corrupt;

/// The tables.
pub mod table {
    /// [`super::account`] → account record.
    pub const ACCOUNT: u8 = b'a';
    /// [`super::contact`] → contact record.
    pub const CONTACT: u8 = b'c';
    /// [`super::page`] → older timeline entries.
    pub const PAGE: u8 = b'p';
    /// [`super::revision`] → where a record with a revision stands.
    pub const REVISION: u8 = b'r';
    /// [`super::occasion`] → the attendance of one contact at one occasion.
    pub const OCCASION: u8 = b'o';
    /// [`super::planned`] → a planned engagement that is still to come.
    pub const PLANNED: u8 = b'n';
    /// [`super::timer`] of contacts → nothing.
    pub const TIMER: u8 = b't';
    /// [`super::timer`] of accounts → nothing; after all contacts' in every tick.
    pub const ACCOUNT_TIMER: u8 = b'u';
    /// The state machine's own record.
    pub const MACHINE: u8 = b'm';
    /// [`super::erased`] → when a contact was forgotten.
    pub const ERASED: u8 = b'e';
    /// [`super::voided`] → nothing: a void names this contact, or has.
    pub const VOIDED: u8 = b'v';
    /// First of the bytes that belong to the store around the state machine (position, outbox, held events).
    pub const STORE: u8 = 0x80;
}

fn push_text(key: &mut Vec<u8>, text: &str) {
    let mut parts = text.as_bytes().split(|byte| *byte == 0);
    key.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        key.extend_from_slice(&[0, 0xff]);
        key.extend_from_slice(part);
    }
    key.push(0);
}

fn push_time(key: &mut Vec<u8>, time: Timestamp) {
    key.extend_from_slice(&time_bytes(time));
}

/// A moment as it stands in keys.
pub(crate) fn time_bytes(time: Timestamp) -> [u8; TIME_BYTES] {
    let mut bytes = [0; TIME_BYTES];
    let (second, nano) = bytes.split_at_mut(size_of::<u64>());
    second.copy_from_slice(&(time.as_second() as u64 ^ (1 << 63)).to_be_bytes());
    nano.copy_from_slice(&((time.subsec_nanosecond() as u32) ^ (1 << 31)).to_be_bytes());
    bytes
}

/// Bytes of a moment in keys.
pub const TIME_BYTES: usize = 12;

fn read_time(bytes: &[u8]) -> Result<Timestamp, Corrupt> {
    let corrupt = Corrupt { what: "key" };
    let (second, nano) = bytes.split_at_checked(8).ok_or(corrupt)?;
    let second = u64::from_be_bytes(second.try_into().map_err(|_| corrupt)?) ^ (1 << 63);
    let nano = u32::from_be_bytes(nano.try_into().map_err(|_| corrupt)?) ^ (1 << 31);
    Timestamp::new(second as i64, nano as i32).map_err(|_| corrupt)
}

fn read_text(bytes: &[u8]) -> Result<(Cow<'_, str>, &[u8]), Corrupt> {
    let corrupt = Corrupt { what: "key" };
    let (mut text, mut rest) = (Cow::Borrowed(&bytes[..0]), bytes);
    loop {
        let end = memchr::memchr(0, rest).ok_or(corrupt)?;
        let (part, behind) = rest.split_at(end);
        match &mut text {
            Cow::Borrowed(_) => text = Cow::Borrowed(&bytes[..end]),
            Cow::Owned(text) => text.extend_from_slice(part),
        }
        match &behind[1..] {
            [0xff, escaped @ ..] => {
                text.to_mut().push(0);
                rest = escaped;
            }
            behind => {
                rest = behind;
                break;
            }
        }
    }
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(std::str::from_utf8(text).map_err(|_| corrupt)?),
        Cow::Owned(text) => Cow::Owned(String::from_utf8(text).map_err(|_| corrupt)?),
    };
    Ok((text, rest))
}

/// The account's own record.
pub fn account(account: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(account.len() + 2);
    key.push(table::ACCOUNT);
    push_text(&mut key, account);
    key
}

/// A contact's record; the empty contact holds what happened to the account itself.
pub fn contact(account: &str, contact: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(account.len() + contact.len() + 3);
    key.push(table::CONTACT);
    push_text(&mut key, account);
    push_text(&mut key, contact);
    key
}

/// (account, contact) of a [`contact`] key, or (account, "") of an [`account`] key.
pub fn names(key: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), Corrupt> {
    let (account, rest) = read_text(key.get(1..).unwrap_or_default())?;
    let contact = if rest.is_empty() { Cow::Borrowed("") } else { read_text(rest)?.0 };
    Ok((account, contact))
}

/// From and to: all contacts of an account.
pub fn contacts_of(account: &str) -> (Vec<u8>, Vec<u8>) {
    let mut from = vec![table::CONTACT];
    push_text(&mut from, account);
    let to = end_of(&from);
    (from, to)
}

/// The first key behind all keys with this prefix.
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The first key behind `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// A contact's rows in another table: the contact's key with the table's byte.
pub fn of_contact(table: u8, contact_key: &[u8]) -> Vec<u8> {
    let mut key = contact_key.to_vec();
    if let Some(first) = key.first_mut() {
        *first = table;
    }
    key
}

/// The place of a record in its contact's timeline.
pub fn entry(at: Timestamp, source: &str, id: &str, is_revised: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(TIME_BYTES + source.len() + id.len() + 3);
    push_time(&mut key, at);
    push_text(&mut key, source);
    push_text(&mut key, id);
    key.push(u8::from(is_revised));
    key
}

/// Where in a timeline the records of a moment begin.
pub fn moment(at: Timestamp) -> Vec<u8> {
    let mut key = Vec::with_capacity(TIME_BYTES);
    push_time(&mut key, at);
    key
}

/// The page of older entries from `start` (an [`entry`], or empty for the oldest page) on.
pub fn page(contact_key: &[u8], start: &[u8]) -> Vec<u8> {
    let mut key = of_contact(table::PAGE, contact_key);
    key.extend_from_slice(start);
    key
}

/// A record with a revision.
pub fn revision(account: &str, source: &str, id: &str) -> Vec<u8> {
    let mut key = vec![table::REVISION];
    push_text(&mut key, account);
    push_text(&mut key, source);
    push_text(&mut key, id);
    key
}

/// A record with a revision that was voided by an event of this contact.
pub fn voided(contact_key: &[u8], source: &str, id: &str) -> Vec<u8> {
    let mut key = of_contact(table::VOIDED, contact_key);
    push_text(&mut key, source);
    push_text(&mut key, id);
    key
}

/// (source, id) of a [`voided`] record of this contact.
pub fn read_voided<'a>(key: &'a [u8], contact_key: &[u8]) -> Result<(Cow<'a, str>, Cow<'a, str>), Corrupt> {
    let (source, rest) = read_text(key.get(contact_key.len()..).unwrap_or_default())?;
    Ok((source, read_text(rest)?.0))
}

/// A contact that was forgotten, by the name that [`crate::erasure::ErasureKey`] gives it.
pub fn erased(name: &str) -> Vec<u8> {
    [&[table::ERASED], name.as_bytes()].concat()
}

/// One contact at one occasion.
pub fn occasion(contact_key: &[u8], occasion: &str) -> Vec<u8> {
    let mut key = of_contact(table::OCCASION, contact_key);
    push_text(&mut key, occasion);
    key
}

/// A planned engagement, by when it is to be.
pub fn planned(contact_key: &[u8], scheduled_for: Timestamp, entry: &[u8]) -> Vec<u8> {
    let mut key = of_contact(table::PLANNED, contact_key);
    push_time(&mut key, scheduled_for);
    key.extend_from_slice(entry);
    key
}

/// When a [`planned`] engagement of this contact is to be, and the entry that says so.
pub fn read_planned<'a>(key: &'a [u8], contact_key: &[u8]) -> Result<(Timestamp, &'a [u8]), Corrupt> {
    let corrupt = Corrupt { what: "planned engagement" };
    let rest = key.get(contact_key.len()..).ok_or(corrupt)?;
    let (time, entry) = rest.split_at_checked(TIME_BYTES).ok_or(corrupt)?;
    Ok((read_time(time)?, entry))
}

/// A timer of the contact or account whose record has this key.
pub fn timer(filed: Timestamp, record_key: &[u8]) -> Vec<u8> {
    let (first, names) = record_key.split_at(1);
    let mut key = Vec::with_capacity(TIME_BYTES + record_key.len());
    key.push(if first == [table::ACCOUNT] { table::ACCOUNT_TIMER } else { table::TIMER });
    push_time(&mut key, filed);
    key.extend_from_slice(names);
    key
}

/// Where the timers of a table begin that were filed at or after a moment.
pub fn timers_from(table: u8, from: Option<Timestamp>) -> Vec<u8> {
    let mut start = vec![table];
    if let Some(from) = from {
        push_time(&mut start, from);
    }
    start
}

/// When a [`timer`] was filed, and the key of the record that it is for.
pub fn read_timer(key: &[u8]) -> Result<(Timestamp, Vec<u8>), Corrupt> {
    let corrupt = Corrupt { what: "timer" };
    let (table, rest) = key.split_first().ok_or(corrupt)?;
    let (time, names) = rest.split_at_checked(TIME_BYTES).ok_or(corrupt)?;
    let record = if *table == table::ACCOUNT_TIMER { table::ACCOUNT } else { table::CONTACT };
    Ok((read_time(time)?, [&[record], names].concat()))
}

/// The key of the record that a row is the timer of; `None`: it is no timer.
pub fn timer_of(key: &[u8]) -> Option<Vec<u8>> {
    let is_timer = matches!(key.first(), Some(&(table::TIMER | table::ACCOUNT_TIMER)));
    if is_timer { read_timer(key).ok().map(|(_, record)| record) } else { None }
}

/// The state machine's own record.
pub fn machine() -> Vec<u8> {
    vec![table::MACHINE]
}
