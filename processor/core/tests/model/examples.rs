//! The model itself, by examples worked by hand.
//!
//! A log is written as short text (see [`log`]); alerts and episodes are read back as short text (see [`check`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::compare::numbered;
use super::naive::{Outcome, Score, run};

/// Writes a log: one line a row, `KIND TIME {fields}`.
///
/// `KIND` is `tick`, `rules` (without a time), or an event's kind; a time without `T` is midnight UTC. An event is of
/// account `acme` and contact `ann`, its source is `crm` and its id its row, and a meeting of `two_way`, unless `{fields}` say otherwise.
fn log(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|row| !row.is_empty())
        .enumerate()
        .map(|(number, row)| line(number, row))
        .collect()
}

fn line(number: usize, row: &str) -> String {
    let (head, fields) = row.split_at(row.find('{').unwrap_or(row.len()));
    let mut words = head.split_whitespace();
    let kind = words.next().unwrap();
    let mut line: Map<String, Value> = Map::new();
    line.insert("kind".into(), kind.into());
    if let Some(at) = words.next() {
        line.insert(if kind == "tick" { "through" } else { "occurred_at" }.into(), full_time(at).into());
    }
    if !["tick", "rules"].contains(&kind) {
        let defaults = [
            ("id", format!("{number}")),
            ("source", "crm".into()),
            ("account", "acme".into()),
            ("contact", "ann".into()),
        ];
        line.extend(defaults.map(|(name, value)| (name.to_owned(), Value::from(value))));
        let needed = match kind {
            "engagement" => vec![("vehicle", "meeting")],
            "touch" => vec![("channel", "email")],
            "advocacy" => vec![("measure", "referral")],
            _ => vec![],
        };
        line.extend(needed.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
    }
    if !fields.is_empty() {
        let fields: Map<String, Value> = serde_json::from_str(fields).unwrap();
        line.extend(fields);
    }
    Value::Object(line).to_string()
}

fn full_time(short: &str) -> String {
    if short.contains('T') { short.to_owned() } else { format!("{short}T00:00:00Z") }
}

fn short_time(at: Timestamp) -> String {
    at.to_string().trim_end_matches("T00:00:00Z").to_owned()
}

/// Runs a log; compares the alerts of one rule, a row each: `LINE CHANGE LAST due DUE [at RECOVERED] [backlog]`.
#[track_caller]
fn check(rule: &str, text: &str, expected: &str) -> Outcome {
    let log = log(text);
    let outcome = run(&log);
    let alerts: Vec<String> = outcome
        .alerts
        .iter()
        .filter(|alert| alert.rule == rule)
        .map(|alert| {
            let recovered = alert.recovered_at.map(|at| format!(" at {}", short_time(at))).unwrap_or_default();
            let backlog = if alert.backlog { " backlog" } else { "" };
            let (last, due) = (short_time(alert.last_engagement_at), short_time(alert.due));
            format!("{} {} {last} due {due}{recovered}{backlog}", alert.line, alert.change)
        })
        .collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
    assert_eq!(alerts, expected, "log:\n{}", numbered(&log));
    outcome
}

/// The episodes of contacts: `CONTACT LAST DUE RECOVERED`.
fn episodes(outcome: &Outcome) -> Vec<String> {
    let of_contacts = outcome.episodes.iter().filter_map(|(_, contact, last, lapsed, recovered)| {
        let recovered = recovered.map_or("-".to_owned(), short_time);
        Some(format!("{} {} {} {recovered}", contact.as_ref()?, short_time(*last), short_time(*lapsed)))
    });
    of_contacts.collect()
}

fn score<'a>(outcome: &'a Outcome, key: &str) -> &'a Score {
    &outcome.scores[key]
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn months_are_calendar_months_with_the_day_clamped() {
    for (last, due) in [
        ("2023-11-30", "2024-02-29"),
        ("2022-11-30", "2023-02-28"),
        ("2023-11-29", "2024-02-29"),
        ("2024-01-31", "2024-04-30"),
        ("2024-02-29", "2024-05-29"),
    ] {
        let text = format!("engagement {last}\n tick {due}\n tick {due}T00:00:00.000000001Z");
        check("lapse", &text, &format!("2 opened {last} due {due}"));
    }
}

#[test]
fn the_zone_keeps_the_time_on_the_wall() {
    for (zone, last, due) in [
        // 1:00 in Berlin is 23:00 UTC in summer and midnight in winter.
        ("Europe/Berlin", "2023-08-15T23:00:00Z", "2023-11-16"),
        // 02:30 does not exist on 31 March 2024: the clock has gone on to 03:30.
        ("Europe/Berlin", "2023-12-31T01:30:00Z", "2024-03-31T01:30:00Z"),
        // 02:30 comes twice on 27 October 2024: the first.
        ("Europe/Berlin", "2024-07-27T00:30:00Z", "2024-10-27T00:30:00Z"),
        // In Kolkata it is 30 November already, and the day is clamped to 29 February, 01:30 there.
        ("Asia/Kolkata", "2023-11-29T20:00:00Z", "2024-02-28T20:00:00Z"),
        ("UTC", "2023-11-29T20:00:00Z", "2024-02-29T20:00:00Z"),
    ] {
        let text = format!("engagement {last}\n profile 2023-01-01 {{\"timezone\": \"{zone}\"}}\n tick 2030-01-01");
        let expected = format!("2 opened {last} due {due}\n 2 escalated {last} due {due}");
        check("lapse", &text, &expected);
        let of_account = text.replace("{\"timezone", "{\"contact\": null, \"timezone");
        check("lapse", &of_account, &expected);
    }
}

#[test]
fn a_tick_proves_only_what_is_before_it() {
    let text = "engagement 2024-01-01\n tick 2024-04-01\n tick 2024-03-01\n tick 2024-04-01T00:00:00.000000001Z
        tick 2024-05-01\n tick 2024-05-01\n tick 2024-05-01T00:00:01Z\n tick 2024-05-01T00:00:01Z";
    let outcome = check("lapse", text, "3 opened 2024-01-01 due 2024-04-01\n 6 escalated 2024-01-01 due 2024-04-01");
    assert_eq!(episodes(&outcome), ["ann 2024-01-01 2024-04-01 -"]);
    let lapse = outcome.alerts.iter().find(|alert| alert.rule == "lapse").unwrap();
    // printf 'lapse\0acme\0ann\02024-01-01T00:00:00Z\0' | sha256sum
    assert_eq!((lapse.id.as_str(), lapse.sequence), ("b9eacf73f790956068e99028a4d7a7af", 1));
}

#[test]
fn a_late_engagement_splits_an_open_episode() {
    let text = "engagement 2024-01-01\n tick 2024-07-01\n engagement 2024-04-15\n tick 2024-07-01
        tick 2024-07-16\n engagement 2024-05-01\n tick 2024-08-02\n engagement 2024-04-10";
    let outcome = check(
        "lapse",
        text,
        "
        1 opened 2024-01-01 due 2024-04-01
        1 escalated 2024-01-01 due 2024-04-01
        2 recovered 2024-01-01 due 2024-04-01 at 2024-04-15
        4 opened 2024-04-15 due 2024-07-15
        5 retracted 2024-04-15 due 2024-07-15
        6 opened 2024-05-01 due 2024-08-01
        7 recovered 2024-01-01 due 2024-04-01 at 2024-04-10",
    );
    assert_eq!(episodes(&outcome), ["ann 2024-01-01 2024-04-01 2024-04-10", "ann 2024-05-01 2024-08-01 -"]);
}

#[test]
fn at_its_due_an_engagement_retracts_and_after_it_recovers() {
    let opened = "1 opened 2024-01-01 due 2024-04-01";
    let ends = |end: &str| format!("{opened}\n {end}");
    let text = "engagement 2024-01-01\n tick 2024-04-02\n engagement ";
    check("lapse", &format!("{text} 2024-04-01"), &ends("2 retracted 2024-01-01 due 2024-04-01"));
    let late = "2024-04-01T00:00:00.000000001Z";
    check("lapse", &format!("{text} {late}"), &ends(&format!("2 recovered 2024-01-01 due 2024-04-01 at {late}")));
    // No touch, no one-way mail that a machine read, no appointment missed.
    for nothing in [
        r#"{"interaction": "passive"}"#,
        r#"{"interaction": "machine"}"#,
        r#"{"status": "no_show"}"#,
        r#"{"status": "cancelled"}"#,
    ] {
        check("lapse", &format!("{text} 2024-04-01 {nothing}"), opened);
    }
    check("lapse", &format!("{} 2024-04-01", text.replace("\n engagement", "\n touch")), opened);
    check(
        "lapse",
        &format!("{} 2024-04-01", text.replace("\n engagement", "\n advocacy")),
        &ends("2 retracted 2024-01-01 due 2024-04-01"),
    );
}

#[test]
fn history_that_is_over_is_a_fact_and_no_alert() {
    let outcome = check("lapse", "engagement 2023-01-01\n engagement 2024-01-01\n tick 2024-02-01", "");
    assert_eq!(episodes(&outcome), ["ann 2023-01-01 2023-04-01 2024-01-01"]);
    // Even without any tick.
    assert_eq!(episodes(&run(&log("engagement 2023-01-01\n engagement 2024-01-01"))), episodes(&outcome));
}

#[test]
fn at_risk_ends_by_recovery_retraction_or_the_lapse() {
    let opened = "1 opened 2024-01-01 due 2024-04-01";
    let text = "engagement 2024-01-01\n tick 2024-03-19";
    check("at_risk", "engagement 2024-01-01\n tick 2024-03-18\n tick 2024-04-01T00:00:01Z", "");
    check(
        "at_risk",
        &format!("{text}\n engagement 2024-03-19"),
        &format!("{opened}\n 2 recovered 2024-01-01 due 2024-04-01 at 2024-03-19"),
    );
    check(
        "at_risk",
        &format!("{text}\n engagement 2024-03-18"),
        &format!("{opened}\n 2 retracted 2024-01-01 due 2024-04-01"),
    );
    let outcome = check(
        "at_risk",
        &format!("{text}\n tick 2024-04-01\n tick 2024-04-02"),
        &format!("{opened}\n 3 closed 2024-01-01 due 2024-04-01"),
    );
    assert_eq!(score(&outcome, "acme|ann").state, "lapsed");
    let outcome = check("at_risk", text, opened);
    assert_eq!(score(&outcome, "acme|ann").state, "at_risk");
    assert_eq!(score(&run(&log("engagement 2024-01-01\n tick 2024-03-18")), "acme|ann").state, "active");
    assert_eq!(score(&run(&log("touch 2024-01-01\n tick 2024-03-18")), "acme|ann").state, "never");
}

#[test]
fn an_alert_waits_for_a_pause_to_end() {
    let text = "engagement 2024-01-01\n profile 2024-01-02 {\"paused_until\": \"2024-06-01T00:00:00Z\"}
        tick 2024-04-02\n tick 2024-06-01\n tick 2024-06-01T00:00:01Z";
    let due = "2024-01-01 due 2024-04-01";
    let outcome = check("lapse", text, &format!("4 opened {due}\n 4 escalated {due}"));
    assert_eq!(episodes(&outcome), ["ann 2024-01-01 2024-04-01 -"]);
    check("lapse", &text.replace("tick 2024-06-01\n", "engagement 2024-05-01\n"), "");
    let cleared = text.replace("tick 2024-06-01\n", "profile 2024-01-03 {\"paused_until\": null}\n tick 2024-04-02\n");
    check("lapse", &cleared, &format!("4 opened {due}\n 5 escalated {due}"));
}

#[test]
fn nothing_falls_due_after_a_contact_has_left() {
    let text =
        "engagement 2024-01-01\n tick 2024-04-02\n profile 2024-04-01 {\"employment\": \"left\"}\n tick 2024-06-01";
    let (opened, closed) = ("1 opened 2024-01-01 due 2024-04-01", "2 closed 2024-01-01 due 2024-04-01");
    // It was due before: the episode stays, and nobody is told any more.
    let outcome = check("lapse", text, &format!("{opened}\n {closed}"));
    assert_eq!(episodes(&outcome), ["ann 2024-01-01 2024-04-01 -"]);
    let outcome =
        check("lapse", &text.replace("profile 2024-04-01", "profile 2024-03-31"), &format!("{opened}\n {closed}"));
    assert!(episodes(&outcome).is_empty());
    let ann = score(&outcome, "acme|ann");
    assert_eq!((ann.state.as_str(), ann.due), ("active", None));
    // Back again.
    check(
        "lapse",
        &format!("{text}\n profile 2024-05-01 {{\"employment\": \"active\"}}\n tick 2024-06-01"),
        &format!(
            "{opened}
        {closed}
        5 opened 2024-01-01 due 2024-04-01
        5 escalated 2024-01-01 due 2024-04-01"
        ),
    );
}

#[test]
fn a_planned_meeting_counts_when_a_tick_has_passed_it() {
    let plan =
        r#"engagement 2024-01-10 {"status": "planned", "scheduled_for": "2024-03-31T00:00:00Z", "occasion": "o"}"#;
    let text = format!("engagement 2024-01-01\n {plan}\n tick 2024-03-31\n tick 2024-07-01");
    let opened = |last: &str, due: &str| format!("3 opened {last} due {due}");
    let escalated = |last: &str, due: &str| format!("3 opened {last} due {due}\n 3 escalated {last} due {due}");
    // Booked by the contact: counts at once, one way; held: on 31 March, due on 30 June.
    let outcome = check("lapse", &text, &opened("2024-03-31", "2024-06-30"));
    assert_eq!(score(&outcome, "acme|ann").engagements, 3);
    // Booked by us, and then cancelled under the same occasion.
    let by_us = text.replace("{\"status\": \"planned\"", "{\"by\": \"rep\", \"status\": \"planned\"");
    check("lapse", &by_us, &opened("2024-03-31", "2024-06-30"));
    for settled in ["cancelled", "no_show"] {
        let settled = format!(r#"engagement 2024-01-20 {{"status": "{settled}", "occasion": "o"}}"#);
        check(
            "lapse",
            &by_us.replace("tick 2024-03-31\n", &format!("{settled}\n")),
            &escalated("2024-01-01", "2024-04-01"),
        );
        check(
            "lapse",
            &text.replace("tick 2024-03-31\n", &format!("{settled}\n")),
            &escalated("2024-01-10", "2024-04-10"),
        );
    }
    let attended = r#"engagement 2024-03-30 {"vehicle": "meeting", "occasion": "o"}"#;
    check("lapse", &by_us.replace("tick 2024-03-31\n", &format!("{attended}\n")), &opened("2024-03-30", "2024-06-30"));
}

#[test]
fn corrections_count_by_revision_whatever_comes_first() {
    let (first, moved, void) = (
        r#"engagement 2024-01-01 {"id": "m", "source": "sfdc", "revision": 1}"#,
        r#"engagement 2024-03-01 {"id": "m", "source": "sfdc", "revision": 2, "contact": "bob"}"#,
        r#"engagement 2024-03-01 {"id": "m", "source": "sfdc", "revision": 3, "void": true}"#,
    );
    let tick = "tick 2024-12-01";
    let outcome = check(
        "lapse",
        &format!("{first}\n {tick}\n {moved}\n {tick}"),
        "
        1 opened 2024-01-01 due 2024-04-01
        1 escalated 2024-01-01 due 2024-04-01
        2 retracted 2024-01-01 due 2024-04-01
        3 opened 2024-03-01 due 2024-06-01
        3 escalated 2024-03-01 due 2024-06-01",
    );
    assert_eq!(episodes(&outcome), ["bob 2024-03-01 2024-06-01 -"]);
    // A contact that no standing record names is none.
    assert_eq!(outcome.scores.keys().collect::<Vec<_>>(), ["acme", "acme|bob"]);
    assert_eq!(outcome.facts.keys().collect::<Vec<_>>(), ["acme|sfdc|m"]);
    for lines in [[void, first, moved], [moved, void, first], [first, moved, void]] {
        let outcome = run(&log(&format!("{}\n {tick}", lines.join("\n "))));
        assert!(outcome.episodes.is_empty() && outcome.facts.is_empty() && outcome.scores.is_empty());
    }
}

#[test]
fn of_two_contents_the_smaller_bytes_stand() {
    let (a, b) = (r#"engagement 2024-01-01 {"id": "m", "title": "A"}"#, r#"touch 2024-01-01 {"id": "m"}"#);
    for lines in [[a, b], [b, a]] {
        let outcome = run(&log(&lines.join("\n")));
        let fact = &outcome.facts["acme|ann|2024-01-01T00:00:00Z|crm|m"];
        // `"kind":"engagement"` is before `"kind":"touch"`.
        assert_eq!(
            (fact["fact"].as_str(), fact["title"].as_str(), outcome.facts.len()),
            (Some("engagement"), Some("A"), 1)
        );
    }
    let (plain, titled) =
        (r#"touch 2024-01-01 {"id": "m"}"#, r#"touch 2024-01-01T01:00:00+01:00 {"id": "m", "title": "A"}"#);
    // After the contact, one goes on with `"channel"`, the other with `"title"`; the two times are the same instant.
    assert_eq!(run(&log(&format!("{titled}\n {plain}"))).facts.into_values().next().unwrap().get("title"), None);
}

#[test]
fn who_a_record_is_about() {
    let of = |fields: &str| {
        let text = log(&format!("profile 2024-01-01 {fields}"));
        let outcome = run(&text);
        let keys: Vec<String> = outcome.scores.into_keys().collect();
        if outcome.rejected.is_empty() { keys.join(" ") } else { "rejected".to_owned() }
    };
    for (fields, expected) in [
        (r#"{"account": "A|c%", "contact": "X@Y Z"}"#, "A%7Cc%25 A%7Cc%25|X@Y Z"),
        (r#"{"account": "", "contact": "Ann@Acme.Example"}"#, "acme.example acme.example|ann@acme.example"),
        (r#"{"account": "", "contact": "Ann@Gmail.com"}"#, "~ann@gmail.com ~ann@gmail.com|ann@gmail.com"),
        (r#"{"account": null, "contact": "Gil"}"#, "~Gil ~Gil|Gil"),
        (r#"{"account": "a", "contact": null, "email": "Ann@Acme.Example"}"#, "a a|ann@acme.example"),
        // An account without people has no score.
        (r#"{"account": "a", "contact": ""}"#, ""),
        (r#"{"account": "", "contact": ""}"#, "rejected"),
    ] {
        assert_eq!(of(fields), expected, "{fields}");
    }
}

#[test]
fn an_import_counts_once() {
    let text = r#"profile 2024-03-01 {"last_engagement_at": "2024-01-01T00:00:00Z"}
        profile 2024-03-02 {"last_engagement_at": "2024-01-01T01:00:00+01:00"}
        tick 2024-04-02"#;
    let outcome = check("lapse", text, "2 opened 2024-01-01 due 2024-04-01");
    let ann = score(&outcome, "acme|ann");
    assert_eq!((ann.engagements, ann.parts.clone()), (1, BTreeMap::from([("imported".to_owned(), 1.0)])));
}

#[test]
fn scores_decay_from_the_newest_engagement() {
    // 60 days before the newest: half.
    let text = r#"engagement 2024-01-01
        engagement 2024-03-01 {"vehicle": "webcast"}
        advocacy 2024-03-01
        touch 2024-03-01
        touch 2024-03-02
        tick 2024-03-05"#;
    let ann = score(&run(&log(text)), "acme|ann").clone();
    assert_eq!((ann.engagements, ann.touches_since), (3, 1));
    assert!(close(ann.parts["meeting"], 1.5) && close(ann.parts["webcast"], 1.0) && close(ann.parts["advocacy"], 3.0));
    assert!(close(ann.score, 100.0 * (1.0 - (-0.55_f64).exp())));
    assert_eq!(short_time(ann.as_of.unwrap()), "2024-03-01");
}

#[test]
fn one_occasion_is_one_attendance() {
    let text = r#"engagement 2024-01-01 {"vehicle": "webcast", "occasion": "o"}
        engagement 2024-01-02 {"vehicle": "conference", "occasion": "o"}
        engagement 2024-01-03 {"vehicle": "meeting", "occasion": "o"}
        tick 2024-04-03"#;
    let ann = score(&run(&log(text)), "acme|ann").clone();
    assert_eq!((ann.engagements, ann.parts), (1, BTreeMap::from([("conference".to_owned(), 3.0)])));
    assert_eq!(
        (ann.last_engagement_at.map(short_time), ann.as_of.map(short_time)),
        (Some("2024-01-03".into()), Some("2024-01-02".into()))
    );
}

#[test]
fn roles_roll_up_as_in_adobes_example() {
    // 52, 28 and 17 with weights 100, 80 and 60: 21.67 + 9.33 + 4.25.
    let points = |score: f64| -10.0 * (1.0 - score / 100.0).ln();
    let people = [("a", "decision_maker", 52.0), ("b", "line_of_business", 28.0), ("c", "functional", 17.0)];
    let mut text = String::new();
    let mut vehicles = Map::new();
    for (name, role, score) in people {
        vehicles.insert(name.to_owned(), Value::from(points(score)));
        text += &format!("engagement 2024-01-01 {{\"contact\": \"{name}\", \"vehicle\": \"{name}\"}}\n");
        text += &format!("profile 2024-01-01 {{\"contact\": \"{name}\", \"role\": \"{role}\"}}\n");
    }
    text += &format!("rules {{\"score\": {{\"vehicles\": {}}}}}", Value::Object(vehicles));
    let outcome = run(&log(&text));
    assert!(close(score(&outcome, "acme").score, 35.25));
    for (name, _, expected) in people {
        assert!(close(score(&outcome, &format!("acme|{name}")).score, expected));
    }
    // One more whose role is not known, and who has done nothing: (52·100 + 28·80 + 17·60) / 260.
    let outcome = run(&log(&format!("{text}\n touch 2024-01-01 {{\"contact\": \"d\"}}")));
    assert!(close(score(&outcome, "acme").score, 8460.0 / 260.0));
}

#[test]
fn an_account_lapses_with_its_deciders() {
    let text = r#"engagement 2024-01-01
        engagement 2024-02-01 {"contact": "bob"}
        tick 2024-04-10
        profile 2024-01-01 {"role": "line_of_business"}
        tick 2024-04-10
        engagement 2024-04-09
        profile 2024-02-01 {"role": "user"}"#;
    let (opened, recovered) =
        ("4 opened 2024-01-01 due 2024-04-01", "5 recovered 2024-01-01 due 2024-04-01 at 2024-04-09");
    let retracted = "6 retracted 2024-01-01 due 2024-04-01";
    let outcome = check("account_lapse", text, &format!("{opened}\n {recovered}\n {retracted}"));
    assert_eq!(score(&outcome, "acme").state, "never");
    assert!(outcome.episodes.iter().all(|episode| episode.1.is_some()));
}

#[test]
fn profiles_merge_field_by_field() {
    let rules = r#"rules {"lapse": {"segments": {"vip": 1, "slow": 6}}, "priorities": {"hub": 1}}"#;
    let due_of = |profiles: &str| {
        let outcome = run(&log(&format!("{rules}\n engagement 2024-01-01\n {profiles}\n tick 2024-01-02")));
        short_time(score(&outcome, "acme|ann").due.unwrap())
    };
    let (vip, slow) = (r#"{"segment": "vip"}"#, r#"{"segment": "slow", "source": "hub"}"#);
    assert_eq!(due_of(&format!("profile 2024-01-02 {vip}\n profile 2024-01-01 {slow}")), "2024-02-01");
    assert_eq!(due_of(&format!("profile 2024-01-02 {slow}\n profile 2024-01-02 {vip}")), "2024-07-01");
    assert_eq!(due_of(&format!("profile 2024-01-02 {vip}\n profile 2024-01-03 {{\"role\": \"user\"}}")), "2024-02-01");
    assert_eq!(due_of(&format!("profile 2024-01-02 {vip}\n profile 2024-01-03 {{\"segment\": null}}")), "2024-04-01");
    let of_account = r#"profile 2024-01-01 {"contact": null, "segment": "slow"}"#;
    assert_eq!(due_of(of_account), "2024-07-01");
    assert_eq!(due_of(&format!("{of_account}\n profile 2024-01-01 {vip}")), "2024-02-01");
}

#[test]
fn new_rules_take_effect_where_they_stand() {
    let text = r#"engagement 2024-01-01
        tick 2024-03-10
        rules {"lapse": {"months": 2}}
        tick 2024-03-10
        rules {"lapse": {"months": 1}}
        rules {"lapse": {"months": 4}}
        rules {"lapse": {"months": 3}, "since": "2024-04-02T00:00:00Z"}
        tick 2024-04-02"#;
    check(
        "lapse",
        text,
        "
        3 opened 2024-01-01 due 2024-03-01 backlog
        5 retracted 2024-01-01 due 2024-05-01
        7 opened 2024-01-01 due 2024-04-01 backlog",
    );
    let narrow = r#"engagement 2024-01-01
        engagement 2024-03-01 {"interaction": "one_way"}
        rules {"lapse": {"counts": ["two_way"]}}
        tick 2024-04-02"#;
    let outcome = check("lapse", narrow, "3 opened 2024-01-01 due 2024-04-01");
    assert_eq!(score(&outcome, "acme|ann").engagements, 2);
}
