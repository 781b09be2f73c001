//! Replay equals live: a log, that is a file with ticks or rules of its own, gives the alerts that it gave when it was
//! written, byte for byte.

use serde_json::Value;

use crate::community::{AS_OF, lines, results, text};
use crate::harness::{Place, objects};
use crate::outputs::check_alerts;

/// An engagement of one of a few people.
pub fn engagement(id: &str, at: &str, contact: &str) -> String {
    format!(
        r#"{{"id":"{id}","source":"crm","kind":"engagement","occurred_at":"{at}","account":"acme","contact":"{contact}","vehicle":"call"}}"#
    )
}

pub fn tick(through: &str) -> String {
    format!(r#"{{"kind":"tick","through":"{through}"}}"#)
}

/// `rule change sequence contact tick` of every alert.
fn told(alerts: &str) -> Vec<String> {
    let word = |alert: &Value, name: &str| alert[name].as_str().unwrap_or("-").to_owned();
    let line = |alert: &Value| {
        let [rule, change, contact, tick] = ["rule", "change", "contact", "tick"].map(|name| word(alert, name));
        format!("{rule} {change} {} {contact} {tick}", alert["sequence"])
    };
    objects(alerts).iter().map(line).collect()
}

/// A log, and what it tells.
#[track_caller]
fn check(log: &[String], expected: &[&str]) {
    let place = Place::with(&[("log.jsonl", text(log))]);
    place.run("replay log.jsonl --out out --state state").ok();
    let alerts = place.read("out/alerts.jsonl");
    check_alerts(&alerts);
    assert_eq!(told(&alerts), expected);
    place.run("replay - --out piped --state piped-state < log.jsonl").ok();
    assert_eq!(place.read("piped/alerts.jsonl"), alerts, "the same log through a pipe");
    place.run("replay piped-state/journal.jsonl --out again").ok();
    assert_eq!(place.read("again/alerts.jsonl"), alerts, "the journal of that");
}

#[test]
fn a_moment_has_passed_when_a_tick_is_behind_it() {
    check(
        &[
            tick("2024-01-01T00:00:00Z"),
            engagement("1", "2024-01-15T12:00:00Z", "ann"),
            tick("2024-04-01T12:00:00Z"),
            tick("2024-04-01T12:00:01Z"),
            tick("2024-04-15T12:00:00Z"),
            tick("2024-04-15T12:00:00.000000001Z"),
            tick("2024-05-15T12:00:00Z"),
            tick("2024-05-15T12:00:00.5Z"),
            // Older ones change nothing.
            tick("2024-04-30T00:00:00Z"),
            engagement("2", "2024-05-16T00:00:00Z", "ann"),
        ],
        &[
            "at_risk opened 1 ann 2024-04-01T12:00:01Z",
            "at_risk closed 2 ann 2024-04-15T12:00:00.000000001Z",
            "lapse opened 1 ann 2024-04-15T12:00:00.000000001Z",
            "account_lapse opened 1 - 2024-04-15T12:00:00.000000001Z",
            "lapse escalated 2 ann 2024-05-15T12:00:00.5Z",
            "lapse recovered 3 ann 2024-05-15T12:00:00.5Z",
            "account_lapse recovered 2 - 2024-05-15T12:00:00.5Z",
        ],
    );
}

#[test]
fn no_tick_no_silence() {
    check(
        &[
            tick("2023-12-31T00:00:00Z"),
            engagement("1", "2023-12-15T00:00:00Z", "ann"),
            engagement("2", "2024-12-15T00:00:00Z", "bob"),
        ],
        &[],
    );
}

#[test]
fn late_news_takes_back_what_was_told() {
    check(
        &[
            tick("2024-01-01T00:00:00Z"),
            engagement("1", "2024-01-01T00:00:00Z", "ann"),
            tick("2024-04-10T00:00:00Z"),
            engagement("2", "2024-03-01T00:00:00Z", "ann"),
            tick("2024-06-10T00:00:00Z"),
        ],
        &[
            "lapse opened 1 ann 2024-04-10T00:00:00Z",
            "account_lapse opened 1 - 2024-04-10T00:00:00Z",
            "lapse retracted 2 ann 2024-04-10T00:00:00Z",
            "account_lapse retracted 2 - 2024-04-10T00:00:00Z",
            "lapse opened 1 ann 2024-06-10T00:00:00Z",
            "account_lapse opened 1 - 2024-06-10T00:00:00Z",
        ],
    );
}

#[test]
fn rules_count_from_where_they_stand() {
    let rules = |months: u32| format!(r#"{{"kind":"rules","lapse":{{"months":{months},"warn_s":0}}}}"#);
    check(
        &[
            rules(2),
            engagement("1", "2024-01-01T00:00:00Z", "ann"),
            tick("2024-03-02T00:00:00Z"),
            rules(3),
            tick("2024-03-03T00:00:00Z"),
            tick("2024-04-02T00:00:00Z"),
        ],
        &[
            "lapse opened 1 ann 2024-03-02T00:00:00Z",
            "account_lapse opened 1 - 2024-03-02T00:00:00Z",
            "lapse retracted 2 ann 2024-03-02T00:00:00Z",
            "account_lapse retracted 2 - 2024-03-02T00:00:00Z",
            "lapse opened 3 ann 2024-04-02T00:00:00Z",
            "account_lapse opened 3 - 2024-04-02T00:00:00Z",
        ],
    );
}

#[test]
fn the_configuration_holds_until_a_log_has_rules_of_its_own() {
    let first = [engagement("1", "2024-01-01T00:00:00Z", "ann"), tick("2024-03-02T00:00:00Z")];
    let rules = r#"{"kind":"rules","lapse":{"months":3,"warn_s":0}}"#.to_owned();
    let second = [rules, tick("2024-03-03T00:00:00Z")];
    let two = "[lapse]\nmonths = 2\nwarn = \"0d\"\n".to_owned();
    let place = Place::with(&[("first.jsonl", text(&first)), ("second.jsonl", text(&second)), ("two.toml", two)]);
    let run = |file: &str| place.run(&format!("replay {file} --state state --out out --config two.toml")).ok();
    run("first.jsonl");
    let opened = ["lapse opened 1 ann 2024-03-02T00:00:00Z", "account_lapse opened 1 - 2024-03-02T00:00:00Z"];
    assert_eq!(told(&place.read("out/alerts.jsonl")), opened);
    run("second.jsonl");
    // Read again by a state that goes on: the rules of the log stay in force.
    run("second.jsonl");
    let retracted = ["lapse retracted 2 ann 2024-03-02T00:00:00Z", "account_lapse retracted 2 - 2024-03-02T00:00:00Z"];
    assert_eq!(told(&place.read("out/alerts.jsonl")), [opened, retracted].concat());
}

#[test]
fn a_history_is_the_log_with_a_tick_before_every_new_greatest_time() {
    let mut log = Vec::new();
    let mut greatest = None;
    for line in lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let at: jiff::Timestamp = record["occurred_at"].as_str().unwrap().parse().unwrap();
        if greatest < Some(at) {
            greatest = Some(at);
            log.push(tick(&at.to_string()));
        }
        log.push(line.clone());
    }
    log.push(tick(AS_OF));
    let place = Place::with(&[("log.jsonl", text(&log))]);
    place.run("replay log.jsonl --out out").ok();
    assert!(place.read("out/alerts.jsonl") == results().alerts, "the alerts of the log are others");
}

#[test]
fn the_journal_of_a_pipe_is_such_a_log() {
    let [first, second] = [&lines()[..8_000], &lines()[8_000..16_000]].map(text);
    let place = Place::with(&[("first", first), ("second", second), ("two.toml", "[lapse]\nmonths = 2\n".to_owned())]);
    place.run("replay - --out out --state state < first").ok();
    place.run("replay - --out out --state state --config two.toml < second").ok();
    place.run("replay state/journal.jsonl --out again").ok();
    for file in ["alerts.jsonl", "lapses.csv"] {
        let (live, again) = (place.read(&format!("out/{file}")), place.read(&format!("again/{file}")));
        assert!(live == again, "{file} of the journal is another");
    }
    let rules = |text: &str| text.lines().filter(|line| line.contains("\"rules\"")).count();
    assert_eq!(rules(&place.read("state/journal.jsonl")), 1, "the rules stand where they came into force");
}

#[test]
fn a_log_says_itself_up_to_when_to_look() {
    let log = text(&[tick("2024-01-01T00:00:00Z"), engagement("1", "2024-01-15T12:00:00Z", "ann")]);
    let place = Place::with(&[("log.jsonl", log)]);
    place
        .run("replay log.jsonl --as-of 2024-05-01")
        .refused(64, &["log.jsonl has ticks of its own", "leave out --as-of"]);
    let words = ["standard input has ticks of its own", "leave out --as-of"];
    place.run("replay - --as-of 2024-05-01 < log.jsonl").refused(64, &words);
    assert!(!place.exists("touchline-out/.run"), "a state that nobody will go on with");
    let words = ["standard input has ticks of its own", "leave out --follow"];
    place.run("replay - --follow < log.jsonl").refused(64, &words);
}

#[test]
fn a_log_that_grows_is_obeyed_as_well() {
    let place = Place::with(&[("log.jsonl", text(&[engagement("1", "2024-01-15T12:00:00Z", "ann")]))]);
    place.append("log.jsonl", text(&[tick("2024-05-01T00:00:00Z")]));
    let mut run = place.start("replay log.jsonl --out out --follow --json");
    run.until("the alerts", || place.exists("out/alerts.jsonl") && place.read("out/alerts.jsonl").lines().count() == 2);
    place.append("log.jsonl", text(&[engagement("2", "2024-05-02T00:00:00Z", "ann")]));
    run.until("the recovery", || place.read("out/alerts.jsonl").lines().count() == 4);
    run.signal("TERM");
    assert_eq!(run.ended().ok().json()["as_of"], "2024-05-01T00:00:00Z", "no tick but those of the log");
}

#[test]
fn a_tick_that_comes_as_a_surprise_is_an_error() {
    let late = text(&[engagement("1", "2024-01-15T12:00:00Z", "ann"), tick("2024-01-01T00:00:00Z")]);
    let place = Place::with(&[("late.jsonl", late)]);
    place.run("replay - < late.jsonl").failed(70, &["standard input has a tick or rules on line 2", "first line"]);
}
