//! A later run goes on where an earlier one stopped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use proptest::prelude::*;
use touchline_ingest::{Files, FilesPosition, Item};

use crate::kit::{arrived, event, events, file, gzip, ids, options, read, told, zstd};

/// Reads some items, and tells the position after them as it would be stored.
fn read_some(paths: &[PathBuf], position: FilesPosition, items: usize) -> (Vec<String>, FilesPosition) {
    let mut files = Files::open(paths, options(None), position).unwrap();
    let mut found = Vec::new();
    while found.len() < items {
        match files.next(arrived()).unwrap() {
            Item::End | Item::Idle => break,
            item => found.push(told(&item)),
        }
    }
    let mut bytes = Vec::new();
    files.position().encode(&mut bytes);
    (found, FilesPosition::decode(&bytes).unwrap())
}

fn read_all(paths: &[PathBuf], position: FilesPosition) -> (Vec<String>, FilesPosition) {
    read_some(paths, position, usize::MAX)
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn rows(from: usize, to: usize) -> String {
    (from..to).map(|id| format!("e{id},crm,engagement,2024-03-05,acme,ann,\"a\ncall\"\n")).collect()
}

#[test]
fn wherever_it_stopped_and_however_the_file_is_packed() {
    let header = "id,source,kind,occurred_at,account,contact,vehicle\n";
    let csv = format!("{header}{}", rows(0, 9));
    let cases = [
        ("events.jsonl", events(0, 9).into_bytes()),
        ("marked.jsonl", format!("\u{feff}\n{}", events(0, 9)).into_bytes()),
        ("cut.jsonl", events(0, 9).trim_end().as_bytes().to_vec()),
        ("events.jsonl.gz", gzip(events(0, 9).as_bytes())),
        ("events.jsonl.zst", zstd(events(0, 9).as_bytes())),
        ("events.csv", csv.clone().into_bytes()),
        ("events.csv.gz", gzip(csv.as_bytes())),
    ];
    for (name, bytes) in cases {
        let (_dir, path) = file(name, &bytes);
        for stop in 0..=10 {
            let (first, position) = read_some(from_ref(&path), FilesPosition::default(), stop);
            let (second, position) = read_all(from_ref(&path), position);
            assert_eq!([first, second].concat(), ids(0, 9), "{name}, stopped after {stop}");
            let (third, _) = read_all(from_ref(&path), position);
            assert!(third.is_empty(), "{name}: {third:?}");
        }
    }
}

#[test]
fn lines_are_numbered_as_before() {
    let (_dir, path) = file("events.jsonl", format!("{}\n\nbad\n", events(0, 3)).as_bytes());
    let expect = read_all(from_ref(&path), FilesPosition::default()).0;
    assert!(expect[3].starts_with("dead letter, line 6 at "), "{expect:?}");
    for stop in 0..4 {
        let (first, position) = read_some(from_ref(&path), FilesPosition::default(), stop);
        assert_eq!([first, read_all(from_ref(&path), position).0].concat(), expect);
    }
}

#[test]
fn a_file_that_has_grown() {
    let (_dir, path) = file("events.jsonl", events(0, 3).as_bytes());
    let (_, position) = read_all(from_ref(&path), FilesPosition::default());
    append(&path, events(3, 6).as_bytes());
    let (found, position) = read_all(from_ref(&path), position);
    assert_eq!(found, ids(3, 6));
    // Beyond the first bytes that it is known by.
    append(&path, events(6, 100).as_bytes());
    assert_eq!(read_all(from_ref(&path), position).0, ids(6, 100));
}

#[test]
fn a_compressed_file_that_has_grown() {
    let (_dir, path) = file("events.jsonl.gz", &gzip(events(0, 500).as_bytes()));
    let (_, position) = read_all(from_ref(&path), FilesPosition::default());
    append(&path, &gzip(events(500, 600).as_bytes()));
    assert_eq!(read_all(from_ref(&path), position).0, ids(500, 600));
}

#[test]
fn a_last_line_that_was_cut_is_read_again_when_it_is_whole() {
    let line = event("e1");
    let (start, rest) = line.split_at(50);
    let (_dir, path) = file("events.jsonl", format!("{}{start}", events(0, 1)).as_bytes());
    let (found, position) = read_all(from_ref(&path), FilesPosition::default());
    assert!(found[1].starts_with("dead letter, line 2 "), "{found:?}");
    append(&path, format!("{rest}\n{}", event("e2")).as_bytes());
    let (found, position) = read_all(from_ref(&path), position);
    assert_eq!(found, ["e1", "e2"]);
    // Nothing new, seen or not.
    let (found, position) = read_some(from_ref(&path), position, 0);
    assert!(found.is_empty());
    let (found, position) = read_all(from_ref(&path), position);
    assert!(found.is_empty());
    // It was whole already: only its line end was missing.
    append(&path, format!("\n{}", event("e3")).as_bytes());
    assert_eq!(read_all(from_ref(&path), position).0, ["e3"]);
}

#[test]
fn a_row_that_was_cut_is_read_again_when_it_is_whole() {
    let header = "id,source,kind,occurred_at,account,contact,vehicle\n";
    let row = rows(1, 2);
    let (start, rest) = row.split_at(row.len() - 7);
    let (_dir, path) = file("events.csv", format!("{header}{}{start}", rows(0, 1)).as_bytes());
    let mut files = Files::open(from_ref(&path), options(None), FilesPosition::default()).unwrap();
    let found = read(&mut files, Path::new("/"));
    assert!(found.len() == 2 && found[1].contains("opens a quote"), "{found:?}");
    let position = files.position().clone();
    append(&path, rest.as_bytes());
    assert_eq!(read_all(from_ref(&path), position).0, ["e1"]);
}

#[test]
fn a_new_file_under_an_old_name() {
    let (_dir, path) = file("events.jsonl", events(0, 3).as_bytes());
    let (_, position) = read_all(from_ref(&path), FilesPosition::default());
    fs::write(&path, events(7, 20)).unwrap();
    assert_eq!(read_all(from_ref(&path), position).0, ids(7, 20));
}

#[test]
fn an_old_file_that_has_been_shortened() {
    let (dir, path) = file("events.jsonl", events(0, 100).as_bytes());
    let (_, position) = read_all(from_ref(&path), FilesPosition::default());
    fs::write(&path, events(0, 90)).unwrap();
    let mut files = Files::open(from_ref(&path), options(None), position).unwrap();
    let mut expect = ids(0, 90);
    let bytes = events(0, 100).len();
    expect.push(format!(
        "warning: events.jsonl is shorter than what an earlier run had read of it ({bytes} bytes): it was read from its beginning, as a new file"
    ));
    assert_eq!(read(&mut files, dir.path()), expect);
}

#[test]
fn a_damaged_file_that_has_been_mended() {
    let whole = gzip(events(0, 2000).as_bytes());
    let (_dir, path) = file("events.jsonl.gz", &whole[..whole.len() - 20]);
    let mut files = Files::open(from_ref(&path), options(None), FilesPosition::default()).unwrap();
    let mut found = read(&mut files, Path::new("/"));
    let position = files.position().clone();
    assert!(found.pop().unwrap().contains("the file is damaged"));
    fs::write(&path, whole).unwrap();
    found.extend(read_all(&[path], position).0);
    assert_eq!(found, ids(0, 2000));
}

#[test]
fn several_files_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..4).map(|n| dir.path().join(format!("{n}.jsonl"))).collect();
    for (n, path) in paths.iter().enumerate() {
        fs::write(path, events(n * 3, n * 3 + 3)).unwrap();
    }
    for stop in 0..=12 {
        let (first, position) = read_some(&paths, FilesPosition::default(), stop);
        assert_eq!([first, read_all(&paths, position).0].concat(), ids(0, 12));
    }
    let (_, position) = read_all(&paths[..2], FilesPosition::default());
    let (found, position) = read_all(&paths[1..], position);
    assert_eq!(found, ids(6, 12));
    let names: Vec<_> =
        position.files().iter().map(|file| file.fingerprint.path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl"]);
}

#[test]
fn a_damaged_file_does_not_stop_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("a.jsonl.gz"), dir.path().join("b.jsonl")];
    fs::write(&paths[0], &gzip(events(0, 3).as_bytes())[..12]).unwrap();
    fs::write(&paths[1], events(3, 6)).unwrap();
    let mut files = Files::open(&paths, options(None), FilesPosition::default()).unwrap();
    let found = read(&mut files, dir.path());
    assert!(found[0].starts_with("dead letter, line 1 at 0: the file is damaged after 0 "), "{found:?}");
    assert_eq!(found[1..], ids(3, 6));
    let (read, total) = files.progress();
    assert_eq!(Some(read), total);
}

#[test]
fn positions_that_are_none() {
    let (_dir, path) = file("events.jsonl", events(0, 3).as_bytes());
    let mut bytes = Vec::new();
    read_all(&[path], FilesPosition::default()).1.encode(&mut bytes);
    let refused = |bytes: &[u8], what: &str| {
        let error = FilesPosition::decode(bytes).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the stored position of the files cannot be read ({what}); run with another --state, which reads them from their beginnings"
            )
        );
    };
    refused(&[], "it is empty");
    refused(&[9], "another version of touchline wrote it");
    for end in 2..bytes.len() {
        refused(&bytes[..end], "it ends too early");
    }
}

#[test]
fn what_is_written_after_the_end_was_seen_is_read_by_the_next_run() {
    for bytes in [events(0, 3).into_bytes(), gzip(events(0, 3).as_bytes())] {
        let (_dir, path) = file("events.jsonl", &bytes);
        let mut files = Files::open(from_ref(&path), options(None), FilesPosition::default()).unwrap();
        assert_eq!(read(&mut files, Path::new("/")), ids(0, 3));
        let more = events(3, 6).into_bytes();
        append(&path, &if bytes.starts_with(b"{") { more } else { gzip(&more) });
        let position = files.position().clone();
        assert_eq!(read_all(&[path], position).0, ids(3, 6));
    }
}

#[test]
fn a_file_that_was_empty() {
    let header = "id,source,kind,occurred_at,account,contact,vehicle\n";
    for (name, text, expect) in
        [("e.jsonl", events(0, 2), ids(0, 2)), ("e.csv", format!("{header}{}", rows(0, 2)), ids(0, 2))]
    {
        let (dir, path) = file(name, b"");
        let (_, position) = read_all(from_ref(&path), FilesPosition::default());
        append(&path, text.as_bytes());
        let mut files = Files::open(&[path], options(None), position).unwrap();
        assert_eq!(read(&mut files, dir.path()), expect);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn stops_at_random_lose_and_repeat_nothing(
        stops in prop::collection::vec(0usize..30, 0..8), packed in 0usize..3, csv in any::<bool>(), ended in any::<bool>(),
    ) {
        let mut text = if csv {
            format!("id,source,kind,occurred_at,account,contact,vehicle\n{}", rows(0, 60))
        } else {
            events(0, 30) + "\n\nbad\n" + &events(30, 60)
        };
        if !ended {
            text.truncate(text.trim_end().len());
        }
        let bytes = match packed {
            0 => text.into_bytes(),
            1 => gzip(text.as_bytes()),
            _ => zstd(text.as_bytes()),
        };
        let (_dir, path) = file(if csv { "events.csv" } else { "events.jsonl" }, &bytes);
        let expect = read_all(from_ref(&path), FilesPosition::default()).0;
        let (mut found, mut position) = (Vec::new(), FilesPosition::default());
        for stop in stops {
            let (some, next) = read_some(from_ref(&path), position, stop);
            found.extend(some);
            position = next;
        }
        found.extend(read_all(from_ref(&path), position).0);
        prop_assert_eq!(found, expect);
    }
}
