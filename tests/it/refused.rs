//! Commands that are wrong: an exit code, and a sentence that says what to do. Nothing is made of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::community::{gzip, lines, text};
use crate::harness::Place;

const USAGE: i32 = 64;
const INTERNAL: i32 = 70;
const CONFIG: i32 = 78;

/// A command that is refused in a directory with a few files, and leaves it as it is.
#[track_caller]
fn check(command: &str, code: i32, words: &[&str]) {
    let place = Place::with(&[
        ("a.jsonl", text(&lines()[..10]).into_bytes()),
        ("notes", b"text".to_vec()),
        ("wrong.csv", b"name;mail\nAnn;ann@acme.example\n".to_vec()),
        ("wrong.csv.gz", gzip("id,source,when\n")),
        ("twice.csv", b"id,source,kind,occurred_at,id\n".to_vec()),
        ("json.csv", b"{\"id\":\"1\"}\n".to_vec()),
        ("book.xlsx", b"PK\x03\x04\x14\x00".to_vec()),
        ("utf16.csv", b"\xff\xfei\x00d\x00".to_vec()),
        (
            "bad.toml",
            b"[lapse]\nmonth = 2\nwarn = \"soon\"\n[[sink]]\nname = \"crm\"\nkind = \"file\"\n[processer]\n".to_vec(),
        ),
        ("broken.toml", b"[lapse\n".to_vec()),
    ]);
    let names = |place: &Place| -> Vec<_> {
        fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let before = names(&place);
    place.run(command).refused(code, words);
    assert_eq!(names(&place), before, "`{command}` has made something");
}

#[test]
fn command_lines() {
    check("", USAGE, &["Usage: touchline [OPTIONS] <COMMAND>"]);
    check("repla a.jsonl", USAGE, &["unrecognized subcommand", "replay"]);
    check("replay", USAGE, &["<FILE>..."]);
    check("replay a.jsonl --asof 2024-01-01", USAGE, &["unexpected argument '--asof'", "--as-of"]);
    check("replay a.jsonl --as-of 2024-02-30", USAGE, &["'2024-02-30'", "a moment is needed"]);
    check("replay a.jsonl --format xml", USAGE, &["'xml'", "canonical, jsonl, csv"]);
    check("replay a.jsonl --follow --as-of 2024-01-01", USAGE, &["cannot be used with"]);
    check("generate --events 5", USAGE, &["--contacts <N>"]);
    check("generate --contacts 0 --events 5", USAGE, &["--contacts takes 1 to"]);
    check("completions tcsh", USAGE, &["'tcsh'", "bash"]);
    check("state inspect nowhere", USAGE, &["there is no state in nowhere"]);
    check("state verify .", USAGE, &["there is no state in ."]);
    check("state verify notes", USAGE, &["there is no state in notes"]);
}

#[test]
fn files() {
    check("replay nope.jsonl", USAGE, &["nope.jsonl cannot be opened", "No such file"]);
    check("replay . --state state", USAGE, &[". is a directory; name the files in it"]);
    check("replay notes", USAGE, &["the name of notes does not tell its format", "say --format jsonl or --format csv"]);
    check("replay book.xlsx --format csv", USAGE, &["book.xlsx is a zip archive", "save it as CSV"]);
    check("replay utf16.csv", USAGE, &["UTF-16 text; write it as UTF-8"]);
    // All at once.
    let words = ["a.jsonl is given twice", "nope.jsonl cannot be opened", ". is a directory", "the name of notes"];
    check("replay a.jsonl a.jsonl nope.jsonl . notes", USAGE, &words);
}

#[test]
fn headers() {
    let lacks = "it lacks id, source, kind, occurred_at; needed are id, source, kind, occurred_at, found are";
    check("replay wrong.csv", USAGE, &["wrong.csv: the first line is no header", lacks, "not by semicolons or tabs"]);
    check("replay wrong.csv.gz", USAGE, &["it lacks kind, occurred_at", "found are id, source, when"]);
    check("replay json.csv", USAGE, &["it begins like JSON: say --format jsonl"]);
    check("replay twice.csv", USAGE, &["has the column `id` twice; rename one"]);
    // A sentence says it once.
    let place = Place::with(&[("wrong.csv", "a,b\n")]);
    for command in ["replay wrong.csv", "replay - --format csv < wrong.csv"] {
        let ran = place.run(command).refused(USAGE, &["the first line is no header of events"]);
        assert_eq!(ran.err.matches("no header").count(), 1, "{ran}");
    }
}

#[test]
fn configurations() {
    let all = [
        "bad.toml:2:1: lapse.month: unknown key; did you mean `months`?",
        "bad.toml:3:8: lapse.warn: `soon` is not a duration",
        "bad.toml:4:1: sink[0].dir: is required and missing",
        "bad.toml:4:1: sink[0].topics: is required and missing",
        "bad.toml:7:2: processer: unknown key; did you mean `processor`?",
    ];
    check("check --config bad.toml", CONFIG, &all);
    check("replay a.jsonl --config bad.toml", CONFIG, &all);
    check("replay a.jsonl --config nope.toml", CONFIG, &["nope.toml: cannot be read", "--config"]);
    check("check --config broken.toml", CONFIG, &["broken.toml:1:7: not TOML"]);
    check("check", CONFIG, &["touchline.toml: cannot be read"]);
}

#[test]
fn directories_that_are_none() {
    check("replay a.jsonl --out notes", USAGE, &["--out notes is not a directory"]);
    check("replay a.jsonl --out notes --state state", USAGE, &["--out notes is not a directory"]);
    check("replay a.jsonl --state notes", USAGE, &["--state notes is not a directory"]);
    check("replay a.jsonl --out notes/out", INTERNAL, &["notes/out", "Not a directory"]);
}

#[test]
fn directories_that_cannot_be_written() {
    let place = Place::with(&[("a.jsonl", text(&lines()[..10]))]);
    for dir in ["read-only", "sealed"] {
        fs::create_dir(place.path(dir)).unwrap();
    }
    fs::set_permissions(place.path("read-only"), fs::Permissions::from_mode(0o555)).unwrap();
    // Root writes anywhere but where the kernel says no.
    let is_root = fs::write(place.path("read-only/probe"), "").is_ok();
    let read_only = if is_root { "/proc/touchline" } else { "read-only" };
    for command in ["--state state --out", "--out", "--out out --state"] {
        let ran = place.run(&format!("replay a.jsonl {command} {read_only}"));
        ran.failed(INTERNAL, &[read_only]);
    }
    // What stands in the way of a file.
    fs::create_dir(place.path("sealed/alerts.jsonl")).unwrap();
    place.run("replay a.jsonl --out sealed").refused(INTERNAL, &["cannot open sealed/alerts.jsonl", "Is a directory"]);
}

#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::with(&[
        ("a.jsonl", text(&lines()[..2000])),
        (
            "two.toml",
            "[[sink]]\nname = \"sales\"\nkind = \"file\"\ntopics = [\"alerts\"]\ndir = \"sales\"\n".to_owned(),
        ),
    ]);
    fs::create_dir(place.path("sales")).unwrap();
    symlink("/dev/full", place.path("sales/alerts.jsonl")).unwrap();
    let command = "replay a.jsonl --out out --state state --config two.toml";
    place.run(command).failed(INTERNAL, &["sink sales has stopped", "the disk is full: make room and start again"]);
    let alerts = place.read("out/alerts.jsonl");
    assert!(!alerts.is_empty() && place.exists("out/lapses.csv"), "the other sink has gone on");
    fs::remove_file(place.path("sales/alerts.jsonl")).unwrap();
    place.run(command).ok();
    assert_eq!(place.read("sales/alerts.jsonl"), alerts);
    assert_eq!(place.read("out/alerts.jsonl"), alerts);
}

#[test]
fn what_another_process_is_using() {
    let place = Place::with(&[("a.jsonl", text(&lines()[..3000]))]);
    let mut first = place.start("replay - --out out --state state < |");
    first.until("its start", || place.exists("out/.index/CURRENT"));
    let words = ["the state in state/p0 is in use by another process", "stop that one, or use another state directory"];
    place.run("replay a.jsonl --out other --state state").refused(INTERNAL, &words);
    let words = ["out is in use by another touchline: stop that one, or choose another directory"];
    place.run("replay a.jsonl --out out --state another").refused(INTERNAL, &words);
    place.run("replay a.jsonl --out out").refused(INTERNAL, &words);
    // To look at it is no use.
    place.run("state inspect state").ok();
    place.run("state verify state").ok();
    first.ended().ok();

    // Two that keep no state: the second does not take the first one's away.
    let mut first = place.start("replay - --out out < |");
    first.until("its start", || place.exists("out/.run/p0/CURRENT"));
    place.run("replay a.jsonl --out out").refused(INTERNAL, &words);
    let mut pipe = first.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, place.read("a.jsonl").as_bytes()).unwrap();
    drop(pipe);
    let ran = first.ended().ok();
    assert!(ran.out.contains("3,000 events read"), "{ran}");
    // Neither holds anything when it has ended, or has been killed.
    assert!(place.start("replay - --out out < |").kill());
    place.run("replay a.jsonl --out out").ok();
}
