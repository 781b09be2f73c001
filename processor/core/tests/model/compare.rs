//! Compares outcomes and says where they first differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

use super::ledger::Alert;
use super::naive::{Outcome, Score};

/// A sum of floats depends on its order in the last bits.
const TOLERANCE: f64 = 1e-9;

/// Panics unless all is the same: dead letters, facts, episodes, scores, and each alert's changes, line by line.
#[track_caller]
pub fn assert_same(expected: &Outcome, found: &Outcome, log: &[String]) {
    fail(difference(expected, found), log);
}

/// Panics unless all that is a function of the set of records, the rules and the last tick is the same.
#[track_caller]
pub fn assert_same_truth(expected: &Outcome, found: &Outcome, log: &[String]) {
    fail(truth_difference(expected, found), log);
}

#[track_caller]
fn fail(difference: Option<String>, log: &[String]) {
    if let Some(difference) = difference {
        panic!("{difference}\nlog:\n{}", numbered(log));
    }
}

/// The first difference in anything.
pub fn difference(expected: &Outcome, found: &Outcome) -> Option<String> {
    if expected.rejected != found.rejected {
        return Some(format!("dead letters: expected lines {:?}, found {:?}", expected.rejected, found.rejected));
    }
    truth_difference(expected, found).or_else(|| alerts_difference(&expected.alerts, &found.alerts))
}

/// The first difference in facts, episodes or scores.
pub fn truth_difference(expected: &Outcome, found: &Outcome) -> Option<String> {
    map_difference("fact", &expected.facts, &found.facts, |a, b| a == b)
        .or_else(|| set_difference("episode", &expected.episodes, &found.episodes))
        .or_else(|| map_difference("score", &expected.scores, &found.scores, same_score))
}

/// The first difference in alerts, id by id; the order of different ids is free within a line and fixed between lines.
pub fn alerts_difference(expected: &[Alert], found: &[Alert]) -> Option<String> {
    let out_of_order = found.windows(2).find(|pair| pair[0].line > pair[1].line);
    if let Some(pair) = out_of_order {
        return Some(format!("alerts out of the log's order:\n  {:?}\n  {:?}", pair[0], pair[1]));
    }
    map_difference("alert", &by_id(expected), &by_id(found), |a, b| a == b)
}

fn by_id(alerts: &[Alert]) -> BTreeMap<&str, Vec<Alert>> {
    let mut by_id: BTreeMap<&str, Vec<Alert>> = BTreeMap::new();
    for alert in alerts {
        let mut alert_seen = alert.clone();
        // What is backlog decides how an opening is pushed, and is compared nowhere else.
        alert_seen.backlog &= alert.change == "opened";
        by_id.entry(&alert.id).or_default().push(alert_seen);
    }
    by_id
}

fn set_difference<T: Ord + Debug>(what: &str, expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Option<String> {
    let first = expected.symmetric_difference(found).next()?;
    let side = if expected.contains(first) { "missing" } else { "not expected" };
    Some(format!("{what} {side}: {first:?}\n  expected {expected:#?}\n  found {found:#?}"))
}

fn map_difference<K: Ord + Debug, V: Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Option<String> {
    let keys: BTreeSet<&K> = expected.keys().chain(found.keys()).collect();
    keys.into_iter().find_map(|key| match (expected.get(key), found.get(key)) {
        (Some(a), Some(b)) if same(a, b) => None,
        (Some(a), Some(b)) => Some(format!("{what} {key:?} differs:\n  expected {a:#?}\n  found {b:#?}")),
        (Some(a), None) => Some(format!("{what} {key:?} missing: expected {a:#?}")),
        (None, found) => Some(format!("{what} {key:?} not expected: {found:#?}")),
    })
}

fn same_score(a: &Score, b: &Score) -> bool {
    let (mut rest_a, mut rest_b) = (a.clone(), b.clone());
    for rest in [&mut rest_a, &mut rest_b] {
        rest.parts.clear();
        rest.score = 0.0;
    }
    // A part that is not there has no points.
    let part = |score: &Score, name: &String| score.parts.get(name).copied().unwrap_or(0.0);
    let same_parts = a.parts.keys().chain(b.parts.keys()).all(|name| close(part(a, name), part(b, name)));
    rest_a == rest_b && close(a.score, b.score) && same_parts
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

/// A log as one reads it, a line a row, numbered as in [`Alert::line`].
pub fn numbered(log: &[String]) -> String {
    log.iter().enumerate().fold(String::new(), |mut text, (number, line)| {
        let _ = writeln!(text, "{number:4}  {line}");
        text
    })
}
