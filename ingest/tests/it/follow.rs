//! Files that grow while they are read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use touchline_ingest::{Files, FilesPosition, Item, Options};

use crate::kit::{arrived, event, events, file, gzip, ids, options, read, told};

fn follow(paths: &[PathBuf], position: FilesPosition) -> Files {
    Files::open(paths, Options { follow: true, ..options(None) }, position).unwrap()
}

/// What is there until nothing more is.
fn until_idle(files: &mut Files) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        match files.next(arrived()).unwrap() {
            Item::Idle => return found,
            item => found.push(told(&item)),
        }
    }
}

fn append(path: &Path, bytes: &str) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes.as_bytes()).unwrap();
}

#[test]
fn a_line_counts_when_it_ends() {
    let line = event("e1");
    let (start, rest) = line.split_at(40);
    let (_dir, path) = file("events.jsonl", format!("{}{start}", events(0, 1)).as_bytes());
    let mut files = follow(from_ref(&path), FilesPosition::default());
    assert_eq!(until_idle(&mut files), ["e0"]);
    let ends = files.sample_ends().unwrap().unwrap();
    assert!(!files.has_passed(&ends));
    append(&path, rest);
    assert!(until_idle(&mut files).is_empty());
    append(&path, "\n\n  \n");
    assert_eq!(until_idle(&mut files), ["e1"]);
    assert!(files.has_passed(&ends));
    append(&path, "bad\n");
    assert_eq!(until_idle(&mut files).len(), 1);
}

#[test]
fn the_end_is_passed_when_all_that_was_there_is_read() {
    let (_dir, path) = file("events.jsonl", b"");
    let mut files = follow(from_ref(&path), FilesPosition::default());
    assert_eq!(files.sample_ends().unwrap(), None);
    assert!(until_idle(&mut files).is_empty());
    let empty = files.sample_ends().unwrap().unwrap();
    assert!(files.has_passed(&empty));
    append(&path, &events(0, 2));
    assert!(files.has_passed(&empty));
    let two = files.sample_ends().unwrap().unwrap();
    assert!(!files.has_passed(&two));
    let one = files.next(arrived()).unwrap();
    assert_eq!(told(&one), "e0");
    assert!(!files.has_passed(&two));
    assert_eq!(told(&files.next(arrived()).unwrap()), "e1");
    assert!(files.has_passed(&two));
}

#[test]
fn files_are_looked_at_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a.jsonl", "b.jsonl.gz", "c.jsonl"].map(|name| dir.path().join(name));
    fs::write(&paths[0], events(0, 2)).unwrap();
    fs::write(&paths[1], gzip(events(2, 4).as_bytes())).unwrap();
    fs::write(&paths[2], events(4, 6)).unwrap();
    let mut files = follow(&paths, FilesPosition::default());
    assert_eq!(until_idle(&mut files), ids(0, 6));
    append(&paths[2], &events(6, 8));
    append(&paths[0], &events(8, 10));
    let mut found = until_idle(&mut files);
    found.sort();
    assert_eq!(found, ids(6, 10));
    let ends = files.sample_ends().unwrap().unwrap();
    assert!(files.has_passed(&ends));
    let position = files.position().clone();
    append(&paths[0], &events(10, 12));
    let mut files = follow(&paths, position);
    assert_eq!(until_idle(&mut files), ["e10", "e11"]);
}

#[test]
fn a_line_that_was_cut_waits_for_its_end() {
    let (_dir, path) = file("events.jsonl", event("e0").as_bytes());
    let mut files = Files::open(from_ref(&path), options(None), FilesPosition::default()).unwrap();
    assert_eq!(told(&files.next(arrived()).unwrap()), "e0");
    assert!(matches!(files.next(arrived()).unwrap(), Item::End));
    let position = files.position().clone();
    let mut files = follow(from_ref(&path), position);
    assert!(until_idle(&mut files).is_empty());
    append(&path, &format!("\n{}", events(1, 2)));
    assert_eq!(until_idle(&mut files), ["e0", "e1"]);
}

fn pipe(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

#[test]
fn a_pipe_that_is_not_followed_ends() {
    for bytes in [events(0, 3000).into_bytes(), gzip(events(0, 3000).as_bytes()), b"".to_vec()] {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(&dir);
        let expect = if bytes.is_empty() { vec!["warning: pipe holds no records".to_owned()] } else { ids(0, 3000) };
        let writer = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, bytes).unwrap()
        });
        let mut files = Files::open(&[path], options(None), FilesPosition::default()).unwrap();
        assert_eq!(read(&mut files, dir.path()), expect);
        assert_eq!(files.progress().1, None);
        writer.join().unwrap();
    }
}

#[test]
fn a_compressed_pipe_cannot_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = pipe(&dir);
    let mut files = follow(from_ref(&path), FilesPosition::default());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, gzip(b"x")).unwrap()
    });
    let error = loop {
        match files.next(arrived()) {
            Ok(_) => std::thread::sleep(touchline_ingest::files::POLL),
            Err(error) => break error,
        }
    };
    let path = path.display();
    let told =
        format!("{path} cannot be read on after 0 bytes; what was read is kept, and the same command goes on there");
    assert_eq!(error.to_string(), told);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "a compressed stream cannot be followed; decompress it before it comes here");
    writer.join().unwrap();
}

#[test]
fn a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = pipe(&dir);
    let (written, line) = std::sync::mpsc::channel::<String>();
    let (done, wrote) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            for line in line {
                pipe.write_all(line.as_bytes()).unwrap();
                done.send(()).unwrap();
            }
        }
    });
    let mut files = follow(from_ref(&path), FilesPosition::default());
    assert!(until_idle(&mut files).is_empty());
    let write = |line: String| {
        written.send(line).unwrap();
        wrote.recv().unwrap();
    };
    write(events(0, 2));
    let ends = files.sample_ends().unwrap().unwrap();
    assert!(!files.has_passed(&ends));
    assert_eq!(until_idle(&mut files), ids(0, 2));
    assert!(files.has_passed(&ends));
    // Its writer is gone: the line will not become longer. The next writer goes on.
    write(event("e2"));
    assert!(until_idle(&mut files).is_empty());
    drop(written);
    writer.join().unwrap();
    assert_eq!(until_idle(&mut files), ["e2"]);
    for next in 3..6 {
        fs::write(&path, event(&format!("e{next}"))).unwrap();
        assert_eq!(until_idle(&mut files), ids(next, next + 1));
    }
    let ends = files.sample_ends().unwrap().unwrap();
    assert!(files.has_passed(&ends));
    assert!(files.position().files().is_empty());
    // What has been written when it is to stop is read.
    fs::write(&path, events(6, 9) + &event("e9")).unwrap();
    assert!(files.drain());
    let mut left = Vec::new();
    loop {
        match files.next(arrived()).unwrap() {
            Item::End => break,
            item => left.push(told(&item)),
        }
    }
    assert_eq!(left, ids(6, 10));
}
