//! What a batch is in files and rows. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::memmem;
use serde::Deserialize;
use touchline_core::notice::{Notice, Notices};
use touchline_core::output::Topic;

use super::APPENDED;
use super::index::Table;
use super::scrub::{receipt, scrub};
use crate::sink::Change;

/// The value of `fact` that makes a row of `lapses.csv`.
const LAPSE_EPISODE: &str = "lapse_episode";
/// The bytes that a fact with it cannot be without: most facts need not be parsed to see that they have none.
const LAPSE_EPISODE_QUOTED: &[u8] = b"\"lapse_episode\"";

/// What only the fact of an erasure has, or one that looks like it.
const ERASURE_QUOTED: &[u8] = b"\"fact\":\"erasure\"";

/// The latest value of every key that a batch changes; `None` removes it.
pub type Latest<'a> = BTreeMap<(Table, &'a [u8]), Option<&'a [u8]>>;

/// A batch, sorted into where it goes.
pub struct Rows<'a> {
    /// Lines for the files that are appended to, in the order of [`APPENDED`].
    pub lines: [Vec<u8>; APPENDED.len()],
    /// The first sequence that these files then do not have.
    pub next: [u64; APPENDED.len()],
    /// Rows of the files that hold the latest.
    pub latest: Latest<'a>,
    /// Contacts that what stands in the files already is to lose.
    pub notices: Notices,
    /// Something of an erased contact may be among the rows that are deleted.
    pub is_erasing: bool,
}

impl<'a> Rows<'a> {
    /// The rows of these changes, for files whose first missing sequences are `next`.
    pub fn of(changes: &'a [Change], next: [u64; APPENDED.len()]) -> Rows<'a> {
        let [mut next_alert, mut next_dead_letter] = next;
        let (mut alerts, mut dead_letters, mut latest) = (Vec::new(), Vec::new(), Latest::new());
        let (mut notices, mut is_erasing) = (Notices::default(), false);
        for (place, change) in (1..).zip(changes) {
            let (key, value) = (change.key.as_slice(), change.value.as_deref());
            is_erasing |= is_of_erasure(change);
            match change.topic {
                Topic::Alerts => {
                    let notice = value.and_then(Notice::of).filter(|_| change.sequence >= next_alert);
                    if let Some(notice) = &notice {
                        notices.add(notice, place);
                        is_erasing = true;
                    }
                    let line = notice.as_ref().map(receipt).map(Cow::Owned).or(value.map(Cow::Borrowed));
                    alerts.extend(append(&mut next_alert, change, line).map(|line| (place, line)));
                }
                Topic::DeadLetters => {
                    let line = append(&mut next_dead_letter, change, value.map(Cow::Borrowed));
                    line.into_iter().for_each(|line| push_line(&mut dead_letters, &line));
                }
                Topic::Scores => drop(latest.insert((Table::Scores, key), value)),
                Topic::Facts => drop(latest.insert((Table::Facts, key), value)),
            }
        }
        let mut lines = Vec::new();
        for (place, mut line) in alerts {
            if !notices.is_empty() {
                scrub(&notices, line.to_mut(), place);
            }
            push_line(&mut lines, &line);
        }
        Rows { lines: [lines, dead_letters], next: [next_alert, next_dead_letter], latest, notices, is_erasing }
    }
}

/// The change's line, unless the feed repeats what is there already.
fn append<'a>(next: &mut u64, change: &Change, line: Option<Cow<'a, [u8]>>) -> Option<Cow<'a, [u8]>> {
    if change.sequence < *next {
        return None;
    }
    *next = change.sequence.saturating_add(1);
    line
}

fn push_line(lines: &mut Vec<u8>, line: &[u8]) {
    lines.extend_from_slice(line);
    lines.push(b'\n');
}

/// Whether the rows of an erased contact may go with this change: it can be the only sign of it that this sink sees.
fn is_of_erasure(change: &Change) -> bool {
    match (change.topic, &change.value) {
        (Topic::Scores, None) => true,
        (Topic::Facts, Some(fact)) => memmem::find(fact, ERASURE_QUOTED).is_some(),
        _ => false,
    }
}

/// A row of `lapses.csv`. The fact's key fixes the first three columns, being their hash.
#[derive(Debug, Deserialize)]
pub struct Episode<'a> {
    #[serde(borrow)]
    fact: Cow<'a, str>,
    #[serde(borrow)]
    account: Cow<'a, str>,
    #[serde(borrow)]
    contact: Cow<'a, str>,
    #[serde(borrow)]
    last_engagement_at: Cow<'a, str>,
    #[serde(borrow)]
    lapsed_at: Cow<'a, str>,
    recovered_at: Option<Cow<'a, str>>,
}

impl<'a> Episode<'a> {
    /// The episode that a fact is; `None` for other facts.
    pub fn of(fact: &'a [u8]) -> Option<Episode<'a>> {
        memmem::find(fact, LAPSE_EPISODE_QUOTED)?;
        serde_json::from_slice(fact).ok().filter(|episode: &Episode<'_>| episode.fact == LAPSE_EPISODE)
    }

    /// Sorts as the tuple of the first three columns, compared as bytes.
    pub fn order(&self) -> Vec<u8> {
        let mut key = Vec::new();
        for column in [&self.account, &self.contact, &self.last_engagement_at] {
            push_text(&mut key, column);
        }
        key
    }

    /// The line, without its end. RFC 4180: quoted where it must be.
    pub fn line(&self) -> Vec<u8> {
        let recovered_at = self.recovered_at.as_deref().unwrap_or_default();
        let mut line = Vec::new();
        for column in [&self.account, &self.contact, &self.last_engagement_at, &self.lapsed_at] {
            push_column(&mut line, column);
            line.push(b',');
        }
        push_column(&mut line, recovered_at);
        line
    }
}

/// Ends a text with a zero byte, and writes one in it as `00 ff`, so that order and boundaries hold for any text.
fn push_text(key: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.push(0);
}

fn push_column(line: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        return line.extend_from_slice(text.as_bytes());
    }
    line.push(b'"');
    line.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_told_from_other_facts_and_written_as_csv() {
        let check = |fact: &str, line: Option<&str>| {
            let episode =
                Episode::of(fact.as_bytes()).map(|episode| String::from_utf8_lossy(&episode.line()).into_owned());
            assert_eq!(episode.as_deref(), line, "{fact}");
        };
        let times = r#""last_engagement_at":"2024-01-01T00:00:00Z","lapsed_at":"2024-04-01T00:00:00Z""#;
        let printed = "2024-01-01T00:00:00Z,2024-04-01T00:00:00Z";
        let fact = |names: &str, end: &str| format!(r#"{{"id":"1","fact":"lapse_episode",{names},{times}{end}}}"#);
        let plain = r#""account":"a.com","contact":"b""#;
        check(&fact(plain, ""), Some(&format!("a.com,b,{printed},")));
        check(&fact(plain, r#","recovered_at":null,"version":1"#), Some(&format!("a.com,b,{printed},")));
        check(
            &fact(plain, r#","recovered_at":"2024-05-01T00:00:00Z""#),
            Some(&format!("a.com,b,{printed},2024-05-01T00:00:00Z")),
        );
        check(
            &fact(r#""account":"a, b","contact":"say \"b\"""#, ""),
            Some(&format!(r#""a, b","say ""b""",{printed},"#)),
        );
        check(&fact(r#""account":"a\nb","contact":"ü 'c'""#, ""), Some(&format!("\"a\nb\",ü 'c',{printed},")));
        check(&fact(r#""account":"","contact":"c""#, ""), Some(&format!(",c,{printed},")));
        check(&fact(plain, "").replace("lapse_episode", "account_episode"), None);
        check(r#"{"fact":"engagement","vehicle":"lapse_episode"}"#, None);
        check(r#"{"fact":"lapse_episode"}"#, None);
    }

    #[test]
    fn episodes_sort_as_tuples_of_bytes() {
        let texts = ["", "\0", "a", "a\0", "a\0b", "a\u{1}", "a b", "a!", "a,b", "a-b", "a.com", "b", "~", "ü"];
        let mut episodes = Vec::new();
        for account in texts {
            for contact in texts {
                let times = ["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"];
                episodes.extend(times.map(|time| (account.as_bytes(), contact.as_bytes(), time)));
            }
        }
        let order = |&(account, contact, time): &(&[u8], &[u8], &'static str)| {
            let text = |bytes| Cow::Owned(String::from_utf8_lossy(bytes).into_owned());
            let (fact, lapsed_at) = (Cow::Borrowed(LAPSE_EPISODE), Cow::Borrowed(""));
            let (account, contact, last_engagement_at) = (text(account), text(contact), Cow::Borrowed(time));
            Episode { fact, account, contact, last_engagement_at, lapsed_at, recovered_at: None }.order()
        };
        let mut by_order = episodes.clone();
        by_order.sort_by_key(order);
        episodes.sort();
        assert_eq!(by_order, episodes);
    }
}
