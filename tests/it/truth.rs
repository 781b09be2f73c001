//! Whatever way the real history comes, `lapses.csv` is what the naive scan has found, byte for byte.

use crate::community::{AS_OF, GZIP, TRUTH, csv, gzip, lines, shuffled, text, thirds, zstd};
use crate::harness::Place;

/// Files, and commands that end with the truth in `out`. `AS_OF` in them is the moment of the truth.
#[track_caller]
fn check<T: AsRef<[u8]>>(files: &[(&str, T)], commands: &[&str]) -> Place {
    let place = Place::with(files);
    for command in commands {
        place.run(&command.replace("AS_OF", AS_OF)).ok();
    }
    assert!(place.read("out/lapses.csv") == TRUTH, "after {commands:?} the lapses are others");
    assert_eq!(place.read("out/dead_letters.jsonl"), "");
    place
}

#[test]
fn as_given() {
    let place = check(&[("history.jsonl.gz", GZIP)], &["replay history.jsonl.gz --as-of AS_OF --out out"]);
    assert!(!place.exists("out/.run"), "the state of a run that keeps none is gone");
}

#[test]
fn without_out_there_is_a_default() {
    let place = Place::with(&[("history.jsonl", text(&lines()[..100]))]);
    place.run("replay history.jsonl").ok();
    assert!(place.exists("touchline-out/lapses.csv"));
}

#[test]
fn shuffled_and_again_on_the_same_output() {
    for seed in [1, 2] {
        let again = format!("replay {seed}.jsonl --as-of AS_OF --out out");
        check(&[(&*format!("{seed}.jsonl"), text(&shuffled(seed)))], &[&again, &again]);
    }
}

#[test]
fn doubled() {
    let once = text(lines());
    let each_line_twice: String = lines().iter().flat_map(|line| [line, "\n", line, "\n"]).collect();
    check(&[("twice.jsonl", once.repeat(2))], &["replay twice.jsonl --as-of AS_OF --out out"]);
    check(&[("pairs.jsonl", each_line_twice)], &["replay pairs.jsonl --as-of AS_OF --out out"]);
    check(&[("a.jsonl", &once), ("b.jsonl", &once)], &["replay a.jsonl b.jsonl --as-of AS_OF --out out --state state"]);
}

#[test]
fn split_and_replayed_one_after_another() {
    let [a, b, c] = thirds(lines());
    check(
        &[("a.jsonl", a), ("b.jsonl", b), ("c.jsonl", c)],
        &[
            "replay a.jsonl --state state --out out",
            "replay b.jsonl --state state --out out",
            "replay c.jsonl --state state --out out --as-of AS_OF",
            "state verify state",
        ],
    );
}

#[test]
fn split_without_order_and_into_another_output_each_time() {
    let [a, b, c] = thirds(&shuffled(3));
    let place = check(
        &[("a.jsonl", a), ("b.jsonl", b), ("c.jsonl", c)],
        &[
            "replay c.jsonl --state state --out first --as-of AS_OF",
            "replay a.jsonl --state state --out second --as-of AS_OF",
            "replay b.jsonl --state state --out out --as-of AS_OF",
            "state verify state",
        ],
    );
    // What the other runs have published is there as well: nothing is left in an output that has been given up.
    let (first, last) = (place.read("first/alerts.jsonl"), place.read("out/alerts.jsonl"));
    assert!(!first.is_empty() && last.starts_with(&first), "alerts of the first run are missing in the last output");
}

#[test]
fn split_and_given_at_once() {
    let [a, b, c] = thirds(lines());
    let files = [("a.jsonl", a), ("b.jsonl", b), ("c.jsonl", c)];
    check(&files, &["replay a.jsonl b.jsonl c.jsonl --as-of AS_OF --out out"]);
    check(&files, &["replay c.jsonl a.jsonl b.jsonl --as-of AS_OF --out out --state state"]);
}

#[test]
fn in_every_format() {
    let (json, csv) = (text(lines()), csv(lines()));
    for (name, bytes) in [
        ("h.jsonl", json.clone().into_bytes()),
        ("h.ndjson.zst", zstd(&json)),
        ("h.csv", csv.clone().into_bytes()),
        ("h.csv.gz", gzip(&csv)),
    ] {
        check(&[(name, bytes)], &[&format!("replay {name} --as-of AS_OF --out out")]);
    }
}

#[test]
fn a_format_that_the_name_does_not_tell() {
    let (json, csv) = (text(&lines()[..500]), csv(&lines()[..500]));
    let place = Place::with(&[("json", json.into_bytes()), ("csv", zstd(csv))]);
    for name in ["json", "csv"] {
        let format = name.replace("json", "canonical");
        let json = place.run(&format!("replay {name} --format {format} --out {name}-out --json")).ok().json();
        assert_eq!((&json["events"], &json["dead_letters"]), (&500.into(), &0.into()));
    }
    assert_eq!(place.read("json-out/lapses.csv"), place.read("csv-out/lapses.csv"));
    assert_eq!(place.read("json-out/facts.jsonl"), place.read("csv-out/facts.jsonl"));
}

#[test]
fn from_standard_input() {
    let text = text(lines());
    check(&[("h.jsonl", text.as_bytes())], &["replay - --as-of AS_OF --out out < h.jsonl"]);
    check(
        &[("h.csv.gz", gzip(csv(lines())))],
        &["replay - --format csv --as-of AS_OF --out out --state state < h.csv.gz", "state verify state"],
    );
}

#[test]
fn a_file_that_has_grown_goes_on_where_it_was() {
    let [a, b, c] = thirds(lines());
    let place = Place::with(&[("h.jsonl", &a)]);
    let command = format!("replay h.jsonl --state state --out out --as-of {AS_OF} --json");
    let mut events = 0;
    for (grown, part) in [("", a.as_str()), (b.as_str(), b.as_str()), (c.as_str(), c.as_str()), ("", "")] {
        place.append("h.jsonl", grown);
        let read = place.run(&command).ok().json()["events"].as_u64().unwrap();
        assert_eq!(read, part.lines().count() as u64, "only what is new is read");
        events += read;
    }
    assert_eq!(events, lines().len() as u64);
    assert!(place.read("out/lapses.csv") == TRUTH);
}

#[test]
fn outputs_that_are_lost_are_written_again() {
    let command = "replay history.jsonl.gz --as-of AS_OF --out out --state state";
    let place = check(&[("history.jsonl.gz", GZIP)], &[command]);
    let alerts = place.read("out/alerts.jsonl");
    for lose in ["out", "out/.index", "out/alerts.jsonl", "out/lapses.csv"] {
        let path = place.path(lose);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
        place.run(&command.replace("AS_OF", AS_OF)).ok();
        assert!(place.read("out/lapses.csv") == TRUTH, "lapses after {lose} was lost");
        assert!(place.read("out/alerts.jsonl") == alerts, "alerts after {lose} was lost");
    }
}
