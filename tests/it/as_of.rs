//! `--as-of`: what lies after it is held, and affects nothing until a later run has passed it.

use serde_json::Value;

use crate::community::{AS_OF, Results, TRUTH, lines, shuffled, text};
use crate::harness::Place;
use crate::log::engagement;
use crate::outputs::check_same_set;

/// In the middle of the history.
const EARLY: &str = "2019-03-01T00:00:00Z";

fn time(line: &str) -> jiff::Timestamp {
    let record: Value = serde_json::from_str(line).unwrap();
    record["occurred_at"].as_str().unwrap().parse().unwrap()
}

#[test]
fn what_lies_after_it_is_held_and_applied_later() {
    let early: jiff::Timestamp = EARLY.parse().unwrap();
    let all = shuffled(21);
    let before: Vec<&String> = all.iter().filter(|line| time(line) <= early).collect();
    let place =
        Place::with(&[("all.jsonl", text(&all)), ("before.jsonl", text(&before)), ("none.jsonl", String::new())]);
    let command = format!("replay all.jsonl --state state --out out --as-of {EARLY} --json");
    let json = place.run(&command).ok().json();
    assert_eq!(json["held"].as_u64().unwrap() as usize, all.len() - before.len());
    assert_eq!(json["as_of"], EARLY);
    place.run(&format!("replay before.jsonl --out before --as-of {EARLY}")).ok();
    for file in ["alerts.jsonl", "facts.jsonl", "lapses.csv"] {
        let (got, expected) = (place.read(&format!("out/{file}")), place.read(&format!("before/{file}")));
        assert!(got == expected, "{file} knows of what came after {EARLY}");
    }
    check_same_set(&Results::of(&place, "out"), &Results::of(&place, "before"), "with held events");
    place.run("state verify state").ok();

    // The files need not be there again.
    place.run(&format!("replay none.jsonl --state state --out out --as-of {AS_OF}")).ok();
    assert!(place.read("out/lapses.csv") == TRUTH);
    check_same_set(&Results::of(&place, "out"), crate::community::results(), "after what was held was applied");
    place.run("state verify state").ok();
}

#[test]
fn what_was_held_is_applied_in_the_order_of_time() {
    let mut ordered = lines().to_vec();
    ordered.sort_by_key(|line| time(line));
    let place = Place::with(&[("shuffled.jsonl", text(&shuffled(22))), ("ordered.jsonl", text(&ordered))]);
    let held = place.run("replay shuffled.jsonl --state state --out out --as-of 2000-01-01 --json").ok().json()["held"]
        .clone();
    assert_eq!(held.as_u64(), Some(ordered.len() as u64));
    assert_eq!(place.read("out/facts.jsonl"), "");
    // Without --as-of: up to the last of them.
    let as_of = place.run("replay shuffled.jsonl --state state --out out --json").ok().json()["as_of"].clone();
    assert_eq!(as_of, time(ordered.last().unwrap()).to_string());
    place.run("replay ordered.jsonl --out ordered").ok();
    assert!(place.read("out/lapses.csv") == place.read("ordered/lapses.csv"));
    let told = |out: &str| place.read(&format!("{out}/alerts.jsonl")).lines().count();
    assert_eq!(told("out"), told("ordered"));
    assert!(!place.read("out/alerts.jsonl").contains("retracted"), "nothing was late");
}

#[test]
fn a_moment_that_the_state_has_passed_is_refused() {
    let place = Place::with(&[("h.jsonl", text(&lines()[..500]))]);
    let command = "replay h.jsonl --state state --out out --as-of";
    place.run(&format!("{command} 2020-01-01")).ok();
    let lapses = place.read("out/lapses.csv");
    let words =
        ["--as-of 2019-12-31T23:59:59Z lies before 2020-01-01T00:00:00Z", "give a later moment, or another --state"];
    place.run(&format!("{command} 2019-12-31T23:59:59Z")).refused(64, &words);
    assert_eq!(place.read("out/lapses.csv"), lapses);
    place.run(&format!("{command} 2020-01-01T00:00:00Z")).ok();
    assert_eq!(place.read("out/lapses.csv"), lapses);
    // A run that names no moment does not go back either.
    let json = place.run("replay h.jsonl --state state --out out --json").ok().json();
    assert_eq!(json["as_of"], "2020-01-01T00:00:00Z");
    place.run(&format!("{command} yesterday")).refused(64, &["'yesterday'", "2024-10-26T00:00:00Z"]);
}

/// An engagement in January, looked at from a moment.
#[track_caller]
fn check(as_of: &str, lapses: &str) {
    let place = Place::with(&[("one.jsonl", text(&[engagement("1", "2024-01-31T10:00:00+02:00", "ann")]))]);
    place.run(&format!("replay one.jsonl --out out {as_of}")).ok();
    let lines = place.read("out/lapses.csv");
    assert_eq!(lines.lines().skip(1).collect::<Vec<_>>().join(";"), lapses);
}

#[test]
fn the_moment_itself_has_not_passed() {
    let lapsed = "acme,ann,2024-01-31T08:00:00Z,2024-04-30T08:00:00Z,";
    check("--as-of 2024-04-30T08:00:00Z", "");
    check("--as-of 2024-04-30T10:00:00.001+02:00", lapsed);
    check("--as-of 2024-04-30", "");
    check("--as-of 2024-05-01", lapsed);
    // The last event's time.
    check("", "");
}

#[test]
fn the_largest_event_can_be_held() {
    const RECORD_BYTES: usize = 1 << 20;
    // The canonical form names the account and the hour, and is longer.
    let event = |pad: &str| {
        format!(
            r#"{{"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-01-15","contact":"ann@acme.example","vehicle":"call","pad":"{pad}"}}"#
        )
    };
    let pad = "x".repeat(RECORD_BYTES - event("").len());
    let place = Place::with(&[("large.jsonl", event(&pad) + "\n")]);
    let held = place.run("replay large.jsonl --state state --out out --as-of 2023-01-01 --json").ok().json();
    assert_eq!((&held["held"], &held["dead_letters"]), (&1.into(), &0.into()));
    place.run("replay large.jsonl --state state --out out --as-of 2024-05-01").ok();
    assert!(place.read("out/lapses.csv").contains("\nacme.example,ann@acme.example,2024-01-15T00:00:00Z,"));
}
