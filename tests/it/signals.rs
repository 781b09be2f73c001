//! A first SIGINT or SIGTERM drains; the same command goes on.

use std::io::Write;

use crate::community::{AS_OF, Results, TRUTH, lines, text};
use crate::harness::{Place, Running};

/// Enough commits that a signal comes between two of them.
const CONFIG: &str = "[processor]\ncommit_interval = \"1ms\"\n";

#[test]
fn a_run_that_was_interrupted_goes_on() {
    let place = Place::with(&[("h.jsonl", text(lines())), ("busy.toml", CONFIG.to_owned())]);
    let command =
        |dir: &str| format!("replay h.jsonl --config busy.toml --state {dir}-state --out {dir} --as-of {AS_OF} --json");
    place.run(&command("undisturbed")).ok();
    let mut events = 0;
    for signal in ["INT", "TERM"] {
        let alerts = || place.path("out/alerts.jsonl").metadata().map_or(0, |file| file.len());
        let before = alerts();
        let mut run = place.start(&command("out"));
        run.until("something done", || alerts() > before);
        run.signal(signal);
        let json = run.ended().ok().json();
        assert_eq!(json["stopped"], true, "{signal} came too late: give it more to do");
        // The results are whole ones, of what has been read.
        let told = Results::of(&place, "out").alerts;
        assert!(told.ends_with('\n') && place.exists("out/lapses.csv") && place.exists("out/scores.jsonl"));
        events += json["events"].as_u64().unwrap();
    }
    let json = place.run(&command("out")).ok().json();
    assert_eq!(json["stopped"], false);
    assert_eq!(events + json["events"].as_u64().unwrap(), lines().len() as u64, "each was read once");
    assert!(place.read("out/lapses.csv") == TRUTH);
    assert!(place.read("out/alerts.jsonl") == place.read("undisturbed/alerts.jsonl"), "the alerts are others");
}

#[test]
fn a_run_without_a_state_says_what_it_has_and_leaves_none() {
    let place = Place::with(&[("first", text(&lines()[..3000]))]);
    let mut run = place.start("replay - --out out < |");
    let mut pipe = run.child.stdin.take().unwrap();
    pipe.write_all(place.read("first").as_bytes()).unwrap();
    // Its commits are a second apart.
    run.until("alerts", || place.exists("out/alerts.jsonl") && !place.read("out/alerts.jsonl").is_empty());
    run.signal("INT");
    let ran = run.ended().ok();
    assert!(ran.out.contains("Stopped before the end.") && !ran.out.contains("goes on"), "{ran}");
    assert!(!place.exists("out/.run"));
    drop(pipe);
}

/// A pipe into which nobody writes, and which nobody closes, or which nobody has opened yet.
#[track_caller]
fn check_silent(command: &str) {
    let place = Place::new();
    place.pipe("pipe");
    let mut run = place.start(&format!("{command} < |"));
    let pipe = run.child.stdin.take().unwrap();
    run.until("its start", || place.exists("out/.index"));
    run.signal("INT");
    let json = run.ended().ok().json();
    assert_eq!(json["stopped"], true);
    drop(pipe);
}

#[test]
fn a_silent_pipe_holds_nobody() {
    check_silent("replay - --out out --json");
    check_silent("replay - --out out --json --state state");
    check_silent("replay - --out out --json --follow");
    check_silent("replay pipe --out out --json");
    check_silent("replay pipe --out out --json --state state");
    check_silent("replay pipe --out out --json --follow");
}

#[test]
fn what_comes_slowly_is_kept_as_it_comes() {
    let place = Place::new();
    let mut run = place.start("replay - --out out --state state < |");
    let mut pipe = run.child.stdin.take().unwrap();
    pipe.write_all(text(&lines()[..10]).as_bytes()).unwrap();
    let kept = |state: &str| place.read(state).lines().filter(|line| line.contains("engagement")).count();
    run.until("the journal", || place.exists("state/journal.jsonl") && kept("state/journal.jsonl") == 10);
    assert!(run.kill());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::with(&[("h.jsonl", text(lines())), ("busy.toml", CONFIG.to_owned())]);
    let run: Running = place.start("replay h.jsonl --config busy.toml --state state --out out");
    crate::harness::until("its start", || place.exists("out/.index"));
    run.signal("INT");
    run.signal("INT");
    let code = run.ended().code;
    // It may have drained between the two.
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    place.run(&format!("replay h.jsonl --state state --out out --as-of {AS_OF}")).ok();
    assert!(place.read("out/lapses.csv") == TRUTH);
}
