//! `touchline state`, and states that are not what they should be.

use std::fs;

use crate::community::{AS_OF, GZIP, TRUTH, lines, text};
use crate::harness::Place;

const COMMAND: &str = "replay h.jsonl --state state --out out";
const INTERNAL: i32 = 70;

/// A directory with a state whose rows are in table files: a second run has written what the first one's log held.
fn stored() -> Place {
    let place = Place::with(&[("h.jsonl", text(&lines()[..5000]))]);
    place.run(COMMAND).ok();
    place.run(COMMAND).ok();
    place
}

#[test]
fn a_look_at_a_good_state() {
    let place = Place::with(&[("h.jsonl.gz", GZIP)]);
    place.run(&format!("replay h.jsonl.gz --state state --out out --as-of {AS_OF}")).ok();
    let ran = place.run("state inspect state").ok();
    let row = |name: &str, rows: usize| {
        let found = ran.out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {ran}"));
        assert_eq!(found[name.len()..].split_whitespace().next(), Some(&*rows.to_string()), "{found}");
    };
    row("accounts", 335);
    row("held events", 0);
    row("revisions", 0);
    let told = [
        format!("last tick: {AS_OF}"),
        format!("read: {} to byte {}, its end", place.canonical("h.jsonl.gz"), text(lines()).len()),
    ];
    told.iter().for_each(|line| assert!(ran.out.lines().any(|found| found == line), "{line:?} is not in {ran}"));
    let ran = place.run("state verify state").ok();
    assert!(ran.out.ends_with("rows, all as they should be\n"), "{ran}");
    // Looking changes nothing.
    place.run(&format!("replay h.jsonl.gz --state state --out out --as-of {AS_OF}")).ok();
    assert!(place.read("out/lapses.csv") == TRUTH);
}

/// Harms a state, and then looks at it and goes on with it: `verify` says so, and whoever goes on is told what to do.
#[track_caller]
fn check(harm: impl FnOnce(&Place), words: &[&str]) {
    let place = stored();
    place.run("state verify state").ok();
    harm(&place);
    place.run("state verify state").refused(INTERNAL, words);
    place.run(COMMAND).failed(INTERNAL, words);
}

/// Flips a bit in the middle of a file.
fn flip(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_flipped_bit_in_a_table() {
    let place = stored();
    flip(&place.find("state/p0", ".sst"));
    let words = ["the state in state/p0 is damaged", "replay the input into an empty state directory"];
    place.run("state verify state").refused(INTERNAL, &words);
}

#[test]
fn one_flipped_bit_in_the_log() {
    let place = Place::with(&[("h.jsonl", text(&lines()[..5000]))]);
    place.run(COMMAND).ok();
    let log = place.find("state/p0", ".log");
    flip(&log);
    let words = ["the state in state/p0 is damaged", "replay the input into an empty state directory"];
    place.run("state verify state").refused(INTERNAL, &words);
    place.run(COMMAND).refused(INTERNAL, &words);
}

#[test]
fn files_that_are_missing_or_wrong() {
    let damaged = "the state in state/p0 is damaged";
    check(|place| fs::remove_file(place.find("state/p0", ".sst")).unwrap(), &[damaged]);
    check(|place| place.write("state/p0/CURRENT", "nonsense"), &[damaged]);
    // One that never was.
    check(|place| place.write("state/p0/CURRENT", "MANIFEST-999999\n"), &[damaged]);
    check(|place| flip(&place.path(&format!("state/p0/{}", place.read("state/p0/CURRENT").trim()))), &[damaged]);
}

#[test]
fn a_journal_that_has_lost_lines() {
    let (first, second) = (text(&lines()[..1000]), text(&lines()[1000..2000]));
    let place = Place::with(&[("first", first), ("second", second)]);
    let command = "replay - --state state --out out";
    place.run(&format!("{command} < first")).ok();
    let journal = place.read("state/journal.jsonl");
    place.write("state/journal.jsonl", &journal[..500]);
    let words = ["the journal state/journal.jsonl cannot be used", "put it back as it was, or move it away"];
    place.run(&format!("{command} < second")).refused(INTERNAL, &words);
    fs::remove_file(place.path("state/journal.jsonl")).unwrap();
    place.run(&format!("{command} < second")).ok();
    // The new one holds what came since.
    assert_eq!(place.read("state/journal.jsonl").matches("\"id\"").count(), 1000);
    place.run("replay first second --format jsonl --out whole").ok();
    assert_eq!(place.read("out/lapses.csv"), place.read("whole/lapses.csv"));
}

#[test]
fn something_else_is_not_touched() {
    let place = stored();
    // The index of an output is a database, too, but no state.
    fs::create_dir_all(place.path("foreign")).unwrap();
    fs::rename(place.path("out/.index"), place.path("foreign/p0")).unwrap();
    let words = ["foreign/p0 is not a state of touchline", "name a directory that is one, or that is empty"];
    place.run("replay h.jsonl --state foreign --out other").refused(INTERNAL, &words);
    place.run("state inspect foreign").refused(INTERNAL, &words);
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn a_state_of_another_schema_is_refused() {
    let place = Place::with(&[("h.jsonl", text(&lines()[..10]))]);
    place.run(COMMAND).ok();
    // The first record of the log is the state's identity: a header (checksum, length, kind) of 7 bytes, a batch of one
    // put, and at its end the value: schema and name, 4 and 8 bytes.
    let path = place.find("state/p0", ".log");
    let mut log = fs::read(&path).unwrap();
    let end = 7 + usize::from(u16::from_le_bytes([log[4], log[5]]));
    let schema = end - 12..end - 8;
    assert_eq!(log[schema.clone()], touchline_processor::SCHEMA.to_be_bytes(), "the first record is another");
    log[schema].copy_from_slice(&7_u32.to_be_bytes());
    let masked = crc32c(&log[6..end]).rotate_right(15).wrapping_add(0xa282_ead8);
    log[..4].copy_from_slice(&masked.to_le_bytes());
    fs::write(&path, log).unwrap();
    let words = [
        &format!("the state in state/p0 has schema 7, this version reads schema 4 to {}", touchline_processor::SCHEMA),
        "use the version that wrote it, or name an empty state directory and replay the input into it",
    ];
    place.run(COMMAND).refused(INTERNAL, &words);
    place.run("state inspect state").refused(INTERNAL, &words);
    place.run("state verify state").refused(INTERNAL, &words);
}

#[test]
fn an_output_whose_index_is_damaged() {
    let place = stored();
    let lapses = place.read("out/lapses.csv");
    let index = place.find("out/.index", "CURRENT");
    fs::write(index, "nonsense").unwrap();
    place
        .run(COMMAND)
        .refused(INTERNAL, &["out/.index cannot be understood", "remove it, and all files are written again"]);
    fs::remove_dir_all(place.path("out/.index")).unwrap();
    place.run(COMMAND).ok();
    assert_eq!(place.read("out/lapses.csv"), lapses);
}
