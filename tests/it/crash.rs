//! Killed with -9 at any moment, again and again: whoever types the same command again ends with what an undisturbed run
//! gives.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::community::{AS_OF, GZIP, Results, TRUTH, csv, lines, shuffled, text};
use crate::harness::{Dice, Place};
use crate::log::engagement;
use crate::outputs::{check_alerts, check_same_set};

/// How often a run is killed.
const KILLS: u32 = 12;
/// Commits as often as possible: each is a place to be killed at.
const CONFIG: (&str, &str) = ("busy.toml", "[processor]\ncommit_interval = \"1ms\"\n");

/// Kills runs of a command, at moments that spread over the time it takes undisturbed; then lets one end.
#[track_caller]
fn check(seed: u64, input: (&str, Vec<u8>)) -> Place {
    let place = Place::with(&[(CONFIG.0, CONFIG.1.as_bytes().to_vec()), (input.0, input.1)]);
    let command =
        |dir: &str| format!("replay {} --config busy.toml --state {dir}-state --out {dir} --as-of {AS_OF}", input.0);
    let start = Instant::now();
    place.run(&command("undisturbed")).ok();
    let took = start.elapsed();

    let mut dice = Dice(seed);
    let mut killed = 0;
    for _ in 0..KILLS {
        let run = place.start(&command("out"));
        // The longest together would just about do for the whole.
        sleep(took.mul_f64(2.0 * dice.below(1000) as f64 / 1000.0 / f64::from(KILLS)));
        killed += u32::from(run.kill());
    }
    assert!(killed > KILLS / 2, "only {killed} runs were killed before their end: give them more to do");
    assert!(place.exists("out-state"), "all were killed before they did anything");
    place.run(&command("out")).ok();
    place.run("state verify out-state").ok();

    assert!(place.read("out/lapses.csv") == place.read("undisturbed/lapses.csv"), "seed {seed}: the lapses are others");
    let (got, expected) = (Results::of(&place, "out"), Results::of(&place, "undisturbed"));
    check_alerts(&got.alerts);
    assert!(got.alerts == expected.alerts, "seed {seed}: the alerts are others");
    assert_eq!(place.read("out/dead_letters.jsonl"), "");
    check_same_set(&got, &expected, "killed");
    place
}

#[test]
fn a_file_of_text() {
    let place = check(11, ("h.jsonl", text(lines()).into_bytes()));
    assert!(place.read("out/lapses.csv") == TRUTH);
}

#[test]
fn a_compressed_file() {
    let place = check(12, ("h.jsonl.gz", GZIP.to_vec()));
    assert!(place.read("out/lapses.csv") == TRUTH);
}

#[test]
fn rows_without_order() {
    check(13, ("h.csv", csv(&shuffled(13)[..10_000]).into_bytes()));
}

#[test]
fn a_pipe() {
    let place = Place::with(&[CONFIG]);
    let command = format!("replay - --config busy.toml --state state --out out --as-of {AS_OF}");
    let mut dice = Dice(14);
    let text = text(lines());
    for _ in 0..4 {
        let mut run = place.start(&(command.clone() + " < |"));
        let mut pipe = run.child.stdin.take().unwrap();
        // Whoever has been killed does not read on.
        let writer = std::thread::scope(|scope| {
            let feed = scope.spawn(|| {
                text.as_bytes().chunks(40_000).try_for_each(|chunk| {
                    sleep(Duration::from_millis(2));
                    pipe.write_all(chunk)
                })
            });
            sleep(Duration::from_millis(100 + dice.below(250)));
            assert!(run.kill(), "it has ended before it was killed: feed it more slowly");
            feed.join().unwrap()
        });
        assert!(writer.is_err());
    }
    let committed = place.read("state/journal.jsonl").lines().count();
    assert!(committed > 0, "all were killed before they did anything");
    place.write("h.jsonl", text);
    place.run(&(command + " < h.jsonl")).ok();
    assert!(place.read("out/lapses.csv") == TRUTH);
    // What was read before the kills is in the log, and so the log tells the same.
    let alerts = place.read("out/alerts.jsonl");
    check_alerts(&alerts);
    place.run("replay state/journal.jsonl --out again").ok();
    assert!(place.read("again/alerts.jsonl") == alerts, "the journal tells something else");
    place.run("state verify state").ok();
}

#[test]
fn what_the_journal_has_and_the_state_has_not() {
    let event = |id: &str, at: &str, contact: &str| {
        format!(
            r#"{{"id":"{id}","source":"crm","kind":"engagement","occurred_at":"{at}","contact":"{contact}","vehicle":"call"}}"#
        )
    };
    let config =
        "[[source]]\nname = \"crm\"\ntopics = [\"crm\"]\nformat = \"canonical\"\ntimezone = \"America/New_York\"\n";
    let before = event("1", "2024-01-05", "ann@acme.example") + "\n";
    let place = Place::with(&[("zone.toml", config), ("before", &before), ("nothing", "")]);
    let command = "replay - --config zone.toml --state state --out out";
    place.run(&format!("{command} < before")).ok();
    // A run that is killed between the journal and the state leaves whole lines, and perhaps a part of one.
    let left = format!(
        "{}\n{}",
        event("2", "2024-01-06", "bob@beta.example"),
        &event("3", "2024-01-07", "cat@c.example")[..70]
    );
    place.append("state/journal.jsonl", left);
    place.run(&format!("{command} < nothing")).ok();
    let mut facts: Vec<String> = place
        .objects("out/facts.jsonl")
        .iter()
        .map(|fact| format!("{} {} {}", fact["account"], fact["contact"], fact["occurred_at"]).replace('"', ""))
        .collect();
    facts.sort();
    let expected =
        ["acme.example ann@acme.example 2024-01-05T05:00:00Z", "beta.example bob@beta.example 2024-01-06T05:00:00Z"];
    assert_eq!(facts, expected, "accounts and zones as if nothing had happened");
    assert!(place.read("state/journal.jsonl").ends_with("}\n"), "the part of a line is cut off");
}

#[test]
fn in_the_middle_of_a_tick() {
    const CONTACTS: usize = 8_000;
    let people = |number| engagement(&format!("{number}"), "2024-01-01T00:00:00Z", &format!("c{number}"));
    let history: Vec<String> = (0..CONTACTS).map(people).collect();
    // The tick before it fires the timer of everybody, for many commits.
    let last = text(&[engagement("last", "2024-12-01T00:00:00Z", "somebody")]);
    let place = Place::with(&[(CONFIG.0, CONFIG.1), ("h.jsonl", &text(&history)), ("last", &last), ("nothing", "")]);
    let command = "replay h.jsonl - --config busy.toml --state state --out out";
    let mut run = place.start(&format!("{command} < last"));
    run.until("the first alerts", || place.path("out/alerts.jsonl").metadata().is_ok_and(|file| file.len() > 0));
    assert!(run.kill());
    let told = place.read("out/alerts.jsonl").lines().count();
    assert!(told < CONTACTS, "the tick was over before the kill: give it more to do");
    // Nobody has the pipe's content any more, but the journal.
    place.run(&format!("{command} < nothing")).ok();
    place.run("state verify state").ok();
    place.run("replay h.jsonl last --format jsonl --out whole").ok();
    let (got, expected) = (Results::of(&place, "out"), Results::of(&place, "whole"));
    assert!(got.alerts == expected.alerts, "the alerts are others");
    check_same_set(&got, &expected, "killed in a tick");
    assert_eq!(place.read("out/dead_letters.jsonl"), "");
}
