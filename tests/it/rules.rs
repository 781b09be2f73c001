//! The rules of a configuration, against a scan that knows nothing of how touchline works.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::community::{AS_OF, Results, lines, shuffled, text};
use crate::harness::{Dice, Place, objects};
use crate::log::engagement;
use crate::outputs::{check_same_set, check_told};

/// How far dues are apart under three months and under one.
const MONTHS_S: i64 = 62 * 86_400;

/// Sort, scan, list the gaps: what `lapses.csv` must be. `clock` gives the months and the zone of a contact.
fn scan(
    engagements: impl IntoIterator<Item = (String, String, Timestamp)>,
    as_of: Timestamp,
    clock: impl Fn(&str, &str) -> (i32, TimeZone),
) -> String {
    let mut times: BTreeMap<(String, String), BTreeSet<Timestamp>> = BTreeMap::new();
    for (account, contact, at) in engagements {
        times.entry((account, contact)).or_default().insert(at);
    }
    let mut csv = "account,contact,last_engagement_at,lapsed_at,recovered_at\n".to_owned();
    for ((account, contact), times) in &times {
        let (months, zone) = clock(account, contact);
        let next = times.iter().skip(1).map(Some).chain([None]);
        for (last, next) in times.iter().zip(next) {
            let due = last.to_zoned(zone.clone()).checked_add(months.months()).unwrap().timestamp();
            if next.is_none_or(|next| due < *next) && due < as_of {
                let recovered = next.map_or(String::new(), Timestamp::to_string);
                writeln!(csv, "{account},{contact},{last},{due},{recovered}").unwrap();
            }
        }
    }
    csv
}

fn field(record: &Value, name: &str) -> String {
    record[name].as_str().unwrap_or_default().to_owned()
}

fn community(months: i32) -> String {
    let records = objects(&text(lines()));
    let engagements = records.iter().filter(|record| record["kind"] == "engagement").map(|record| {
        (field(record, "account"), field(record, "contact"), field(record, "occurred_at").parse().unwrap())
    });
    scan(engagements, AS_OF.parse().unwrap(), |_, _| (months, TimeZone::UTC))
}

fn months(months: i32) -> String {
    format!("[lapse]\nmonths = {months}\n")
}

#[test]
fn the_scan_finds_the_truth() {
    assert!(community(3) == crate::community::TRUTH);
}

#[test]
fn other_thresholds() {
    for (lines, threshold) in [(lines(), 1), (&*shuffled(31), 2), (lines(), 7)] {
        let place = Place::with(&[("h.jsonl", text(lines)), ("rules.toml", months(threshold))]);
        place.run(&format!("replay h.jsonl --config rules.toml --as-of {AS_OF} --out out")).ok();
        assert!(place.read("out/lapses.csv") == community(threshold), "after {threshold} months");
    }
}

#[test]
fn a_state_can_be_looked_at_with_other_rules() {
    let two = "[lapse]\nmonths = 2\n[score]\nhalf_life = \"30d\"\nk = 5\n[score.vehicles]\ncommunity = 2.5\n";
    let none = "[lapse]\nmonths = 1\ncounts = [\"one_way\"]\n";
    let history = text(&lines()[..12_000]);
    let place = Place::with(&[("h.jsonl", &*history), ("two.toml", two), ("none.toml", none)]);
    let run = |out: &str, rest: &str| place.run(&format!("replay h.jsonl --as-of {AS_OF} --out {out} {rest}")).ok();
    for config in ["", "--config two.toml", "--config none.toml", ""] {
        run("out", &format!("--state state {config}"));
        run("fresh", config);
        assert!(place.read("out/lapses.csv") == place.read("fresh/lapses.csv"), "{config}: the lapses are others");
        let got = Results::of(&place, "out");
        check_same_set(&got, &Results::of(&place, "fresh"), config);
        check_told(&got, MONTHS_S);
        place.run("state verify state").ok();
        // What is counted decides: here all is two_way.
        let lapses = place.read("out/lapses.csv").lines().count() - 1;
        assert_eq!(lapses == 0, config.contains("none.toml"), "{config}: {lapses} lapses");
    }
}

/// People in several zones and segments, and engagements of all interactions that cluster around ends of months.
fn random_log(dice: &mut Dice) -> Vec<String> {
    let zones = ["America/New_York", "Europe/Berlin", "Pacific/Auckland", "Asia/Kolkata", "UTC"];
    let mut log = Vec::new();
    for contact in 0..12 {
        let mut profile = |id: &str, rest: &str| {
            log.push(format!(r#"{{"id":"{id}{contact}","source":"crm","kind":"profile","occurred_at":"2022-01-01","account":"acme","contact":"c{contact}",{rest}}}"#));
        };
        if dice.below(3) > 0 {
            profile("zone", &format!(r#""timezone":"{}""#, dice.pick(&zones)));
        }
        if dice.below(2) > 0 {
            profile("segment", &format!(r#""segment":"{}""#, dice.pick(&["key", "other"])));
        }
    }
    for number in 0..250 {
        let month = date(2022, 1, 31).checked_add((dice.below(30) as i64).months()).unwrap();
        let day = month.last_of_month().checked_add((dice.below(4) as i64 - 2).days()).unwrap();
        let time = dice.pick(&["00:00:00", "01:30:00", "02:30:00", "23:59:59.999", "12:00:00"]);
        let offset = dice.pick(&["Z", "+02:00", "-05:00", "+12:45"]);
        let interaction = dice.pick(&["two_way", "one_way", "passive", "machine"]);
        let contact = dice.below(12);
        log.push(format!(r#"{{"id":"{number}","source":"crm","kind":"engagement","occurred_at":"{day}T{time}{offset}","account":"acme","contact":"c{contact}","vehicle":"web","interaction":"{interaction}"}}"#));
    }
    dice.shuffle(&mut log);
    log
}

/// The scan of a random log under the rules of [`check_random`].
fn scan_random(log: &[String], as_of: &str, (threshold, of_key, counts): (i32, i32, &[&str])) -> String {
    let records = objects(&text(log));
    let of_contact = |name: &'static str| -> BTreeMap<String, String> {
        let known = records.iter().filter(|record| record[name].is_string());
        known.map(|record| (field(record, "contact"), field(record, name))).collect()
    };
    let (zones, segments) = (of_contact("timezone"), of_contact("segment"));
    let counted = records.iter().filter(|record| counts.iter().any(|class| record["interaction"] == *class));
    let engagements = counted.map(|record| {
        (field(record, "account"), field(record, "contact"), field(record, "occurred_at").parse().unwrap())
    });
    scan(engagements, as_of.parse().unwrap(), |_, contact| {
        let is_key = segments.get(contact).is_some_and(|segment| segment == "key");
        let zone = zones.get(contact).map_or(TimeZone::UTC, |zone| TimeZone::get(zone).unwrap());
        (if is_key { of_key } else { threshold }, zone)
    })
}

#[test]
fn random_logs_in_many_zones() {
    const AS_OF: &str = "2024-08-31T12:00:00Z";
    for seed in 40..52 {
        let dice = &mut Dice(seed);
        let (threshold, of_key) = (2 + dice.below(4) as i32, 1 + dice.below(2) as i32);
        let classes: [&[&str]; 3] = [&["two_way", "one_way"], &["two_way"], &["one_way"]];
        let counts = *dice.pick(&classes);
        let log = random_log(dice);
        let config = format!(
            "[lapse]\nmonths = {threshold}\nwarn = \"7d\"\ncounts = {counts:?}\n[lapse.segments]\nkey = {of_key}\n"
        );
        let place = Place::with(&[("log.jsonl", text(&log)), ("rules.toml", config)]);
        place.run(&format!("replay log.jsonl --config rules.toml --as-of {AS_OF} --out out")).ok();
        assert_eq!(place.read("out/lapses.csv"), scan_random(&log, AS_OF, (threshold, of_key, counts)), "seed {seed}");
    }
}

#[test]
fn our_own_people_are_counted_and_not_tracked() {
    let config = "[internal]\ndomains = [\"ours.example\"]\n".to_owned();
    let log =
        ["ann@acme.example", "eve@ours.example", "eve@mail.OURS.example"].map(|who| engagement(who, "2024-01-01", who));
    let place = Place::with(&[("log.jsonl", text(&log)), ("rules.toml", config)]);
    let json = place.run("replay log.jsonl --config rules.toml --out out --as-of 2024-06-01 --json").ok().json();
    assert_eq!((&json["internal"], &json["events"]), (&2.into(), &1.into()));
    for file in ["facts.jsonl", "scores.jsonl", "alerts.jsonl", "lapses.csv", "dead_letters.jsonl"] {
        assert!(!place.read(&format!("out/{file}")).contains("ours.example"), "{file}");
    }
}

#[test]
fn old_news_is_marked() {
    let config = "[alerts]\nsince = \"2024-06-01T00:00:00Z\"\n".to_owned();
    let log = [engagement("1", "2024-02-01", "ann"), engagement("2", "2024-04-01", "bob")];
    let place = Place::with(&[("log.jsonl", text(&log)), ("rules.toml", config)]);
    place.run("replay log.jsonl --config rules.toml --out out --as-of 2024-09-01").ok();
    let opened =
        place.objects("out/alerts.jsonl").into_iter().filter(|a| a["change"] == "opened" && a["rule"] == "lapse");
    let told: Vec<_> = opened.map(|a| (field(&a, "contact"), a["backlog"] == true)).collect();
    assert_eq!(told, [("ann".to_owned(), true), ("bob".to_owned(), false)]);
}
