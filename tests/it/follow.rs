//! `--follow`: files that grow, and time by the clock.

use jiff::{Timestamp, ToSpan};

use crate::community::text;
use crate::harness::{Dice, Place};
use crate::log::engagement;
use crate::outputs::check_alerts;

const COMMAND: &str = "replay h.jsonl --follow --state state --out out --json";

/// So many months ago, whatever day it is.
pub fn ago(months: i64) -> String {
    let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    now.checked_sub(months.months()).unwrap().timestamp().to_string()
}

/// Lines of a file that may not be there yet.
pub fn count(place: &Place, file: &str, word: &str) -> usize {
    if place.exists(file) { place.read(file).lines().filter(|line| line.contains(word)).count() } else { 0 }
}

fn opened(place: &Place) -> usize {
    place.read("out/alerts.jsonl").lines().filter(|a| a.contains(r#""rule":"lapse","change":"opened""#)).count()
}

#[test]
fn what_is_appended_is_processed_and_time_passes() {
    let (ann, bob) = (engagement("1", &ago(4), "ann"), engagement("2", &ago(5), "bob"));
    let place = Place::with(&[("h.jsonl", text(&[ann]))]);
    let mut run = place.start(COMMAND);
    let alerts = || count(&place, "out/alerts.jsonl", r#""rule":"lapse","change":"opened""#);
    run.until("the first alert", || alerts() == 1);
    place.append("h.jsonl", text(&[bob]));
    run.until("the second alert", || alerts() == 2);
    run.signal("TERM");
    let json = run.ended().ok().json();
    assert_eq!((&json["events"], &json["alerts"], &json["stopped"]), (&2.into(), &2.into(), &true.into()));
    let lapses = place.read("out/lapses.csv");
    assert_eq!(lapses.lines().count(), 3, "{lapses}");

    // Nobody is told twice, and what came meanwhile is read.
    place.append("h.jsonl", text(&[engagement("3", &ago(0), "ann")]));
    let mut run = place.start(COMMAND);
    run.until("the recovery", || count(&place, "out/alerts.jsonl", r#""rule":"lapse","change":"recovered""#) == 1);
    run.signal("INT");
    assert_eq!(run.ended().ok().json()["events"], 1);
    assert_eq!(opened(&place), 2);
    check_alerts(&place.read("out/alerts.jsonl"));
    place.run("state verify state").ok();

    // Live is what a replay of its log gives.
    place.run("replay state/journal.jsonl --out again").ok();
    for file in ["alerts.jsonl", "lapses.csv"] {
        let (live, again) = (place.read(&format!("out/{file}")), place.read(&format!("again/{file}")));
        assert_eq!(live, again, "{file}");
    }
}

#[test]
fn half_a_line_waits_and_time_with_it() {
    let (ann, bob) = (engagement("1", &ago(1), "ann"), engagement("2", &ago(4), "bob"));
    let (start, rest) = bob.split_at(60);
    let place = Place::with(&[("h.jsonl", text(&[ann]))]);
    let ticks = || count(&place, "state/journal.jsonl", r#""kind":"tick""#);
    let mut run = place.start(COMMAND);
    run.until("a tick", || ticks() > 0);
    place.append("h.jsonl", start);
    // A tick may be on its way; a second would have passed over the half.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert!(ticks() <= before + 1, "time has passed over half a line");
    run.signal("TERM");
    assert_eq!(run.ended().ok().json()["dead_letters"], 0);
    assert_eq!((opened(&place), place.read("out/facts.jsonl").lines().count()), (0, 1));

    let mut run = place.start(COMMAND);
    place.append("h.jsonl", format!("{rest}\n"));
    run.until("the alert", || opened(&place) == 1);
    run.signal("TERM");
    let json = run.ended().ok().json();
    assert_eq!((&json["events"], &json["dead_letters"]), (&1.into(), &0.into()));
}

#[test]
fn killed_again_and_again_while_the_file_grows() {
    const EVENTS: usize = 400;
    let dice = &mut Dice(61);
    let lines: Vec<String> = (0..EVENTS)
        .map(|number| engagement(&number.to_string(), &ago(1 + dice.below(30) as i64), &format!("c{}", dice.below(20))))
        .collect();
    let place = Place::with(&[("h.jsonl", ""), ("busy.toml", "[processor]\ncommit_interval = \"1ms\"\n")]);
    let command = format!("{COMMAND} --config busy.toml");
    for part in lines.chunks(EVENTS / 8) {
        let mut run = place.start(&command);
        place.append("h.jsonl", text(part));
        if dice.below(2) > 0 {
            run.until("a tick", || count(&place, "state/journal.jsonl", r#""kind":"tick""#) > 0);
        }
        std::thread::sleep(std::time::Duration::from_millis(20 + dice.below(300)));
        assert!(run.kill());
    }
    let mut run = place.start(&command);
    let facts = |file: &str| count(&place, file, r#""kind":"engagement""#);
    run.until("the last event", || facts("state/journal.jsonl") >= EVENTS);
    let ticks = || count(&place, "state/journal.jsonl", r#""kind":"tick""#);
    let before = ticks();
    run.until("another tick", || ticks() > before);
    run.signal("TERM");
    run.ended().ok();
    place.run("state verify state").ok();

    let alerts = place.read("out/alerts.jsonl");
    check_alerts(&alerts);
    place.run("replay state/journal.jsonl --out again").ok();
    assert!(place.read("again/alerts.jsonl") == alerts, "the log tells something else");
    assert_eq!(place.read("again/lapses.csv"), place.read("out/lapses.csv"));
    place.write("all.jsonl", text(&lines));
    let as_of =
        place.objects("state/journal.jsonl").iter().rev().find_map(|r| r["through"].as_str().map(str::to_owned));
    place.run(&format!("replay all.jsonl --out all --as-of {}", as_of.unwrap())).ok();
    assert_eq!(place.read("all/lapses.csv"), place.read("out/lapses.csv"), "each event was applied once");
}

#[test]
fn what_ends_is_complete_now() {
    let event = text(&[engagement("1", &ago(4), "ann")]);
    let place = Place::with(&[("h.jsonl.gz", crate::community::gzip(&event)), ("h.jsonl", event.into_bytes())]);
    for (out, command) in [
        ("pipe", "replay - --follow --out pipe --json < h.jsonl"),
        ("file", "replay h.jsonl.gz --follow --out file --json"),
    ] {
        let json = place.run(command).ok().json();
        assert_eq!((&json["alerts"], &json["stopped"]), (&1.into(), &false.into()), "{command}");
        assert_eq!(place.read(&format!("{out}/lapses.csv")).lines().count(), 2, "{command}");
    }
}

#[test]
fn a_source_that_is_late_holds_the_clock_back() {
    let source = "[[source]]\nname = \"crm\"\ntopics = [\"crm\"]\nformat = \"canonical\"\nmax_delay = \"60d\"\n";
    let place = Place::with(&[("h.jsonl", text(&[engagement("1", &ago(4), "ann")])), ("late.toml", source.to_owned())]);
    let json = place.run("replay - --follow --config late.toml --out out --json < h.jsonl").ok().json();
    let through: Timestamp = json["as_of"].as_str().unwrap().parse().unwrap();
    let late = Timestamp::now().as_second() - through.as_second();
    assert!((60 * 86_400..61 * 86_400).contains(&late), "{json}");
    assert_eq!(json["alerts"], 0, "whoever has engaged since may not have been heard of yet");
}

#[test]
fn an_output_that_is_full_ends_it() {
    let place = Place::with(&[("h.jsonl", text(&[engagement("1", &ago(4), "ann")]))]);
    std::fs::create_dir(place.path("out")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.path("out/alerts.jsonl")).unwrap();
    let words = ["sink out has stopped", "the disk is full: make room and start again"];
    place.run(COMMAND).failed(70, &words);
    std::fs::remove_file(place.path("out/alerts.jsonl")).unwrap();
    let mut run = place.start(COMMAND);
    run.until("the alert", || place.exists("out/alerts.jsonl") && opened(&place) == 1);
    run.signal("TERM");
    run.ended().ok();
}
