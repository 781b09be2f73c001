//! `--follow` of pipes with writers that come and go, and of paths whose files are rotated: the outcome is that of all lines
//! in one file.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use crate::community::text;
use crate::follow::{ago, count};
use crate::harness::{Dice, Place, Running};
use crate::log::engagement;
use crate::outputs::check_alerts;

/// Commits as often as possible: each is a place to be killed at.
const CONFIG: (&str, &str) = ("busy.toml", "[processor]\ncommit_interval = \"1ms\"\n");
const COMMAND: &str = "replay h.jsonl --follow --config busy.toml --state state --out out --json";
/// What is lost does not come; the machine may be slow.
const DEADLINE: Duration = Duration::from_secs(60);
const PIPE: &str = "replay pipe --follow --config busy.toml --state state --out out --json";

/// Engagements of a few people within the last years.
fn events(dice: &mut Dice, count: usize) -> Vec<String> {
    let people = |dice: &mut Dice| format!("c{}", dice.below(20));
    (0..count).map(|id| engagement(&id.to_string(), &ago(1 + dice.below(30) as i64), &people(dice))).collect()
}

fn ticks(place: &Place) -> usize {
    count(place, "state/journal.jsonl", r#""kind":"tick""#)
}

/// Waits until everything has been read and looked at, and stops the run.
#[track_caller]
fn finish(place: &Place, mut run: Running, lines: &[String]) {
    let start = Instant::now();
    run.until("the last line", || is_read(place, lines) || start.elapsed() > DEADLINE);
    assert!(is_read(place, lines), "lines are missing: {}", run.said());
    let before = ticks(place);
    run.until("a tick behind it", || ticks(place) > before);
    run.signal("TERM");
    run.ended().ok();
}

fn id_of(line: &str) -> String {
    line.split(',').next().unwrap().replace('{', "") + ","
}

/// What the run has told is what its log tells, and what all lines tell that are in one file.
#[track_caller]
fn check_outcome(place: &Place, lines: &[String]) {
    place.run("state verify state").ok();
    let alerts = place.read("out/alerts.jsonl");
    check_alerts(&alerts);
    place.run("replay state/journal.jsonl --out again").ok();
    assert!(place.read("again/alerts.jsonl") == alerts, "the log tells something else");
    place.write("all.jsonl", text(lines));
    let through = |record: &serde_json::Value| record["through"].as_str().map(str::to_owned);
    let as_of = place.objects("state/journal.jsonl").iter().rev().find_map(through).unwrap();
    place.run(&format!("replay all.jsonl --out all --as-of {as_of}")).ok();
    assert_eq!(place.read("all/lapses.csv"), place.read("out/lapses.csv"), "each event was applied once");
    let facts = |out: &str| {
        let mut facts: Vec<String> = place
            .objects(&format!("{out}/facts.jsonl"))
            .into_iter()
            .map(|mut fact| {
                fact.as_object_mut().unwrap().remove("version");
                fact.to_string()
            })
            .collect();
        facts.sort();
        facts
    };
    assert_eq!(facts("out"), facts("all"));
}

#[test]
fn a_pipe_goes_on_with_the_next_writer() {
    let place = Place::with(&[CONFIG]);
    place.pipe("pipe");
    let lines = events(&mut Dice(81), 300);
    let mut run = place.start(PIPE);
    run.until("time to go by while nobody writes", || ticks(&place) > 1);
    place.feed("pipe", text(&lines[..100]));
    // The last line has no end but its writer's, which shows as long as there is no other.
    place.feed("pipe", text(&lines[100..200]).trim_end());
    run.until("the second writer's lines", || is_read(&place, &lines[..200]));
    place.feed("pipe", text(&lines[200..]));
    finish(&place, run, &lines);
    assert_eq!(place.read("out/dead_letters.jsonl"), "");
    check_outcome(&place, &lines);
}

#[test]
fn half_a_line_that_a_writer_leaves_spoils_no_other() {
    let place = Place::with(&[CONFIG]);
    place.pipe("pipe");
    let lines = events(&mut Dice(82), 3);
    let run = place.start(PIPE);
    place.feed("pipe", format!("{}\n{}", lines[0], &lines[1][..40]));
    let letters =
        || count(&place, "out/dead_letters.jsonl", "not_json") + count(&place, "out/dead_letters.jsonl", "line");
    crate::harness::until("the dead letter", || letters() > 0);
    place.feed("pipe", text(&lines[1..]));
    finish(&place, run, &lines);
    check_outcome(&place, &lines);
    assert_eq!(place.read("out/dead_letters.jsonl").lines().count(), 1);
}

#[test]
fn what_was_written_into_a_pipe_before_the_stop_is_kept() {
    for command in [PIPE, "replay pipe --state state --out out --json"] {
        let place = Place::with(&[CONFIG]);
        place.pipe("pipe");
        // As much as a pipe holds, so that whoever writes it does not wait for its reader.
        let lines = events(&mut Dice(83), 350);
        let (mut found, mut rest) = (0, &lines[..]);
        while !rest.is_empty() {
            let mut run = place.start(command);
            let part = rest.split_off(..rest.len().min(175)).unwrap();
            let pipe = place.path("pipe");
            // Held open, so that the pipe does not end.
            let mut writer = None;
            run.until("a reader", || {
                writer = writer.take().or_else(|| open_now(&pipe));
                writer.is_some()
            });
            std::io::Write::write_all(writer.as_mut().unwrap(), text(part).as_bytes()).unwrap();
            if command == PIPE {
                run.signal("INT");
                let json = run.ended().ok().json();
                assert_eq!(json["stopped"], true);
                found += json["events"].as_u64().unwrap();
            } else {
                drop(writer);
                found += run.ended().ok().json()["events"].as_u64().unwrap();
            }
        }
        assert_eq!(found, 350, "{command}");
    }
}

/// Opens a pipe for writing, if somebody reads it.
fn open_now(pipe: &std::path::Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    File::options().write(true).custom_flags(flags).open(pipe).ok()
}

/// What rotation does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// `create`: moved, and made anew.
    Moved,
    /// `nocreate`: moved; its writer makes it anew.
    Away,
    /// `copytruncate`.
    Cut,
}

/// Rotates `h.jsonl`, as logrotate does: `.1` is the one before.
fn rotate(place: &Place, how: Rotation) {
    let older = (1..).take_while(|number| place.exists(&format!("h.jsonl.{number}"))).count();
    for number in (1..=older).rev() {
        let name = |number: usize| place.path(&format!("h.jsonl.{number}"));
        fs::rename(name(number), name(number + 1)).unwrap();
    }
    let (path, before) = (place.path("h.jsonl"), place.path("h.jsonl.1"));
    match how {
        Rotation::Cut => {
            fs::copy(&path, before).unwrap();
            File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        }
        Rotation::Moved => {
            fs::rename(path, before).unwrap();
            place.write("h.jsonl", "");
        }
        Rotation::Away => fs::rename(path, before).unwrap(),
    }
}

fn append(place: &Place, lines: &[String]) {
    if !place.exists("h.jsonl") {
        place.write("h.jsonl", "");
    }
    place.append("h.jsonl", text(lines));
}

/// Whether all of these have been read.
fn is_read(place: &Place, lines: &[String]) -> bool {
    place.exists("state/journal.jsonl") && {
        let journal = place.read("state/journal.jsonl");
        lines.iter().all(|line| journal.contains(&id_of(line)))
    }
}

#[test]
fn rotated_while_it_is_followed() {
    for (seed, how) in [(84, Rotation::Moved), (85, Rotation::Away), (86, Rotation::Cut)] {
        let place = Place::with(&[("h.jsonl", ""), CONFIG]);
        let lines = events(&mut Dice(seed), 400);
        let mut run = place.start(COMMAND);
        for (turn, part) in lines.chunks(50).enumerate() {
            // A file that is cut before anybody has looked into it looks as if it had always been empty.
            let (first, rest) = part.split_at(if how == Rotation::Cut { 10 } else { 0 });
            append(&place, first);
            run.until("its first lines", || first.is_empty() || is_read(&place, first));
            append(&place, rest);
            if turn % 2 == 0 {
                run.until("the lines", || is_read(&place, part));
            }
            if turn < 7 {
                rotate(&place, how);
            }
            if turn % 2 == 1 {
                run.until("the lines", || is_read(&place, part));
            }
        }
        finish(&place, run, &lines);
        check_outcome(&place, &lines);
    }
}

#[test]
fn a_writer_that_has_not_heard_of_it_is_still_read() {
    let place = Place::with(&[("h.jsonl", ""), CONFIG]);
    let lines = events(&mut Dice(87), 30);
    append(&place, &lines[..10]);
    let mut run = place.start(COMMAND);
    run.until("the first", || is_read(&place, &lines[..10]));
    rotate(&place, Rotation::Moved);
    append(&place, &lines[10..20]);
    run.until("the new file", || is_read(&place, &lines[10..20]));
    place.append("h.jsonl.1", text(&lines[20..25]));
    run.until("the old file", || is_read(&place, &lines[20..25]));
    // So is it by the next run.
    run.signal("TERM");
    run.ended().ok();
    place.append("h.jsonl.1", text(&lines[25..28]));
    append(&place, &lines[28..]);
    finish(&place, place.start(COMMAND), &lines);
    check_outcome(&place, &lines);
}

#[test]
fn killed_and_stopped_while_files_are_rotated() {
    for seed in 90..94 {
        let dice = &mut Dice(seed);
        let place = Place::with(&[("h.jsonl", ""), CONFIG]);
        let lines = events(dice, 400);
        for (turn, part) in lines.chunks(40).enumerate() {
            let rotation = *dice.pick(&[Rotation::Moved, Rotation::Away, Rotation::Cut]);
            // What was there before anybody followed it is not asked for.
            let is_running = turn == 0 || dice.below(2) > 0;
            let mut run = is_running.then(|| place.start(COMMAND));
            let (first, second) = part.split_at(dice.below(40) as usize);
            append(&place, first);
            std::thread::sleep(Duration::from_millis(dice.below(300)));
            if let Some(run) = run.as_mut().filter(|_| turn == 0 || rotation == Rotation::Cut) {
                // A file that is cut before anybody has looked into it looks as if it had always been empty.
                run.until("its first lines and a commit", || is_read(&place, first) && ticks(&place) > 0);
                let before = ticks(&place);
                run.until("a commit behind them", || ticks(&place) > before);
            }
            rotate(&place, rotation);
            append(&place, second);
            std::thread::sleep(Duration::from_millis(dice.below(300)));
            if let Some(run) = run {
                if dice.below(3) == 0 {
                    run.signal("TERM");
                    run.ended().ok();
                } else {
                    assert!(run.kill());
                }
            }
        }
        finish(&place, place.start(COMMAND), &lines);
        assert_eq!(place.read("out/dead_letters.jsonl"), "", "seed {seed}");
        check_outcome(&place, &lines);
    }
}

#[test]
fn a_file_that_was_lost_between_two_runs_is_told_of() {
    let place = Place::with(&[("h.jsonl", ""), CONFIG]);
    let lines = events(&mut Dice(95), 20);
    append(&place, &lines[..10]);
    let mut run = place.start(COMMAND);
    run.until("the first, and a tick", || is_read(&place, &lines[..10]) && ticks(&place) > 0);
    run.signal("TERM");
    run.ended().ok();
    fs::remove_file(place.path("h.jsonl")).unwrap();
    append(&place, &lines[10..]);
    let mut run = place.start(COMMAND);
    run.until("the others", || is_read(&place, &lines[10..]));
    let before = ticks(&place);
    run.until("a tick behind them", || ticks(&place) > before);
    run.signal("TERM");
    let ran = run.ended().ok();
    let told = ran.json()["warnings"][0].as_str().unwrap().to_owned();
    assert!(told.contains("h.jsonl is another file than the one of which an earlier run had read"), "{told}");
    assert!(ran.err.contains("replay it once by its new name"), "{ran}");
    check_outcome(&place, &lines);
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let place = Place::with(&[CONFIG]);
    let lines = events(&mut Dice(96), 10);
    let mut run = place.start(COMMAND);
    run.until("a tick", || ticks(&place) > 0);
    append(&place, &lines);
    finish(&place, run, &lines);
    check_outcome(&place, &lines);
}
