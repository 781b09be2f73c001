//! Alerts, scores and facts: the same in every run, and the same in every order where they must be.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::community::{AS_OF, GZIP, Results, results, shuffled, text};
use crate::harness::{Dice, Place, objects};

/// How far scores may lie apart that were added up in another order.
const EPSILON: f64 = 1e-9;

/// How far two zones can be apart.
const ZONES_S: i64 = 26 * 3_600;

/// Objects by a key, without their `version`.
fn keyed(text: &str, key: impl Fn(&Value) -> String) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut object in objects(text) {
        object.as_object_mut().unwrap().remove("version").expect("every one has a version");
        let key = key(&object);
        assert!(all.insert(key.clone(), object).is_none(), "{key} stands there twice");
    }
    all
}

/// What facts are keyed by.
fn fact_key(fact: &Value) -> String {
    let part = |name: &str| fact[name].to_string();
    match fact["fact"].as_str().unwrap() {
        "lapse_episode" | "account_episode" => part("id"),
        _ if fact.get("revision").is_some() => [part("account"), part("source"), part("id")].join("|"),
        _ => ["account", "contact", "occurred_at", "source", "id"].map(part).join("|"),
    }
}

/// Whether two values are the same, numbers to [`EPSILON`].
fn alike(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            (left - right).abs() <= EPSILON * left.abs().max(1.0)
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| alike(value, other)))
        }
        _ => left == right,
    }
}

/// The same facts, and the same scores to [`EPSILON`].
#[track_caller]
pub fn check_same_set(got: &Results, expected: &Results, what: &str) {
    let (facts, expected_facts) = (keyed(&got.facts, fact_key), keyed(&expected.facts, fact_key));
    if let Some((key, fact)) = facts.iter().find(|(key, fact)| expected_facts.get(*key) != Some(fact)) {
        panic!("{what}: {key} is\n{fact}, not\n{:?}", expected_facts.get(key));
    }
    assert_eq!(facts.len(), expected_facts.len(), "{what}: facts are missing");
    let key = |score: &Value| format!("{}|{}", score["account"], score["contact"]);
    let (scores, expected_scores) = (keyed(&got.scores, key), keyed(&expected.scores, key));
    for (key, score) in &scores {
        let expected = expected_scores.get(key).unwrap_or(&Value::Null);
        assert!(alike(score, expected), "{what}: {key} is\n{score}, not\n{expected}");
    }
    assert_eq!(scores.len(), expected_scores.len(), "{what}: scores are missing");
}

/// What every alert must have, and that its changes follow one another. Returns the last change of each.
#[track_caller]
pub fn check_alerts(alerts: &str) -> BTreeMap<String, Value> {
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for alert in objects(alerts) {
        let id = alert["id"].as_str().unwrap_or_else(|| panic!("no id: {alert}")).to_owned();
        let (before, change) = (last.get(&id), alert["change"].as_str().unwrap());
        let sequence = before.map_or(0, |before| before["sequence"].as_u64().unwrap()) + 1;
        assert_eq!(alert["sequence"].as_u64(), Some(sequence), "a hole before {alert}");
        let from = before.map_or("none", |before| before["change"].as_str().unwrap());
        let follows = match change {
            "opened" => matches!(from, "none" | "recovered" | "retracted" | "closed"),
            "escalated" => from == "opened",
            "closed" => alert["rule"] == "at_risk" && from == "opened",
            "recovered" => from != "none",
            "retracted" => !matches!(from, "none" | "retracted"),
            _ => false,
        };
        assert!(follows, "{change} after {from}: {alert}");
        for time in ["last_engagement_at", "due"] {
            assert!(alert[time].as_str().is_some_and(|time| time.parse::<Timestamp>().is_ok()), "{alert}");
        }
        assert_eq!(alert["recovered_at"].is_string(), change == "recovered", "{alert}");
        last.insert(id, alert);
    }
    last
}

/// What was told of lapses is what `facts.jsonl` has in the end: every silence that goes on has an open alert, and what
/// was told of a silence that is over has been taken back or says when that was. A due that has moved with the contact's
/// zone or with the rules, at most so many seconds, is not told again.
#[track_caller]
pub fn check_told(results: &Results, moved_s: i64) {
    let last = check_alerts(&results.alerts);
    let is_episode = |fact: &Value| matches!(fact["fact"].as_str(), Some("lapse_episode" | "account_episode"));
    let episodes: BTreeMap<String, Value> = objects(&results.facts)
        .into_iter()
        .filter(is_episode)
        .map(|fact| (fact["id"].as_str().unwrap().to_owned(), fact))
        .collect();
    let told = last.iter().filter(|(_, alert)| alert["rule"] != "at_risk");
    for (id, alert) in told {
        let episode = episodes.get(id).unwrap_or(&Value::Null);
        let is_so = match alert["change"].as_str().unwrap() {
            // A gap that comes back closed is history, of which nobody is told.
            "retracted" => episode.is_null() || episode["recovered_at"].is_string(),
            "recovered" => episode["recovered_at"] == alert["recovered_at"],
            _ => episode.is_object() && episode["recovered_at"].is_null(),
        };
        assert!(is_so, "the episode is {episode}, and was told as {alert}");
        if let (Some(lapsed_at), Some(due)) = (episode["lapsed_at"].as_str(), alert["due"].as_str()) {
            let apart = lapsed_at.parse::<Timestamp>().unwrap() - due.parse::<Timestamp>().unwrap();
            assert!(apart.abs().get_seconds() <= moved_s, "the episode is {episode}, and was told as {alert}");
        }
    }
    for (id, episode) in &episodes {
        assert!(last.contains_key(id) || episode["recovered_at"].is_string(), "nobody was told of {episode}");
    }
}

fn changes(alerts: &str) -> BTreeSet<String> {
    objects(alerts).iter().map(|alert| format!("{} {}", alert["rule"], alert["change"]).replace('"', "")).collect()
}

#[test]
fn every_run_gives_the_same_bytes() {
    let place = Place::with(&[("history.jsonl.gz", GZIP)]);
    let json = place.run(&format!("replay history.jsonl.gz --as-of {AS_OF} --out out --state s --json")).ok().json();
    let (again, first) = (Results::of(&place, "out"), results());
    assert!(again.alerts == first.alerts, "the alerts are others");
    check_same_set(&again, first, "another run");
    let opened = objects(&again.alerts).iter().filter(|a| a["rule"] == "lapse" && a["change"] == "opened").count();
    assert_eq!(json["alerts"].as_u64(), Some(opened as u64));
    assert_eq!(json["alert_changes"].as_u64(), Some(again.alerts.lines().count() as u64));
}

#[test]
fn alerts_of_a_history_in_its_order() {
    let results = results();
    check_told(results, 0);
    let expected = [
        "account_lapse opened",
        "account_lapse recovered",
        "at_risk closed",
        "at_risk opened",
        "at_risk recovered",
        "at_risk retracted",
        "lapse escalated",
        "lapse opened",
        "lapse recovered",
        "lapse retracted",
    ];
    assert_eq!(changes(&results.alerts), BTreeSet::from(expected.map(str::to_owned)));
}

#[test]
fn a_shuffled_history_gives_the_same_set_and_takes_back_what_it_told_too_early() {
    let place = Place::with(&[("shuffled.jsonl", text(&shuffled(4)))]);
    place.run(&format!("replay shuffled.jsonl --as-of {AS_OF} --out out")).ok();
    let got = Results::of(&place, "out");
    check_same_set(&got, results(), "shuffled");
    check_told(&got, 0);
    assert!(changes(&got.alerts).contains("lapse retracted"), "late events undo lapses");
}

#[test]
fn every_kind_of_event_in_every_order() {
    let place = Place::new();
    place.run("generate --contacts 300 --events 12000 --seed 5 --to events.jsonl").ok();
    let events = place.read("events.jsonl");
    let mut lines: Vec<&str> = events.lines().collect();
    let run = |lines: &[&str], out: &str| {
        place.write("ordered.jsonl", text(lines));
        place.run(&format!("replay ordered.jsonl --as-of 2025-03-01 --out {out}")).ok();
        (Results::of(&place, out), place.read(&format!("{out}/lapses.csv")))
    };
    let (expected, lapses) = run(&lines, "given");
    check_told(&expected, ZONES_S);
    for kind in ["touch", "engagement", "advocacy", "value", "profile"] {
        assert!(expected.facts.contains(&format!("\"fact\":\"{kind}\"")), "there is a {kind}");
    }
    lines.reverse();
    for order in ["reversed", "shuffled", "doubled"] {
        let (got, got_lapses) = run(&lines, order);
        assert!(got_lapses == lapses, "{order}: the lapses are others");
        check_same_set(&got, &expected, order);
        check_told(&got, ZONES_S);
        Dice(6).shuffle(&mut lines);
        lines.extend_from_within(..if order == "shuffled" { lines.len() / 2 } else { 0 });
    }
}

#[test]
fn what_is_not_to_be_published_is_not() {
    let place = Place::with(&[
        ("history.jsonl", text(&shuffled(7)[..2000])),
        ("quiet.toml", "[processor]\npublish = [\"alerts\"]\n[[sink]]\nname = \"sales\"\nkind = \"file\"\ntopics = [\"alerts\"]\ndir = \"sales\"\n".to_owned()),
    ]);
    place.run(&format!("replay history.jsonl --as-of {AS_OF} --out out --config quiet.toml")).ok();
    let (out, sales) = (Results::of(&place, "out"), Results::of(&place, "sales"));
    check_alerts(&out.alerts);
    assert!(!out.alerts.is_empty() && out.scores.is_empty() && out.facts.is_empty());
    assert!(sales.alerts == out.alerts, "another sink gets the same");
}

/// Runs of random parts, up to random moments, under rules that come and go, all on one state.
#[track_caller]
fn check_any_way(seed: u64) {
    const RULES: [(&str, &str); 3] = [
        ("none.toml", ""),
        ("two.toml", "[lapse]\nmonths = 2\ncounts = [\"two_way\", \"advocacy\"]\n"),
        ("six.toml", "[lapse]\nmonths = 6\nescalate = \"0s\"\n[score]\nhalf_life = \"20d\"\n"),
    ];
    let dice = &mut Dice(seed);
    let place = Place::with(&RULES);
    place.run(&format!("generate --contacts 40 --events 1500 --seed {seed} --to events.jsonl")).ok();
    let events = place.read("events.jsonl");
    let mut lines: Vec<&str> = events.lines().collect();
    dice.shuffle(&mut lines);
    let (mut day, mut part) = (jiff::civil::date(2023, 1, 1), 0);
    while !lines.is_empty() {
        let rest = lines.split_off(lines.len().min(100 + dice.below(800) as usize));
        place.write(&format!("{part}.jsonl"), text(&lines));
        day = day.saturating_add(jiff::Span::new().days(dice.below(300) as i64));
        let config = dice.pick(&RULES).0;
        place.run(&format!("replay {part}.jsonl --state state --out out --as-of {day} --config {config}")).ok();
        check_alerts(&place.read("out/alerts.jsonl"));
        (lines, part) = (rest, part + 1);
    }
    let end = day.max(jiff::civil::date(2025, 6, 1));
    let config = dice.pick(&RULES).0;
    place.run(&format!("replay 0.jsonl --state state --out out --as-of {end} --config {config}")).ok();
    place.run("state verify state").ok();
    place.run(&format!("replay events.jsonl --out fresh --as-of {end} --config {config}")).ok();
    assert_eq!(place.read("out/lapses.csv"), place.read("fresh/lapses.csv"), "seed {seed}");
    let got = Results::of(&place, "out");
    check_same_set(&got, &Results::of(&place, "fresh"), &format!("seed {seed}"));
    check_told(&got, i64::MAX);
}

#[test]
fn any_way_through_a_state() {
    // A few every time; as many as you like on demand.
    let seeds = std::env::var("TOUCHLINE_SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    (0..seeds).for_each(|seed| check_any_way(1_000 + seed));
}
