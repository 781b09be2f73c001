//! Files in, sentences out.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use touchline_core::event::Event;
use touchline_core::record::Record;
use touchline_ingest::{Decoder, Files, FilesPosition, Format, Identity, InputError, Item, Options};

/// When all records of the tests arrive.
pub fn arrived() -> Timestamp {
    "2024-06-01T00:00:00Z".parse().unwrap()
}

/// Tracks everyone but the people of `ours.example`.
pub fn options(format: Option<Format>) -> Options {
    let decoder = Decoder { identity: Identity::new(["ours.example".to_owned()]), ..Decoder::default() };
    Options { format, decoder, ..Options::default() }
}

/// An engagement of its own.
pub fn event(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","source":"crm","kind":"engagement","occurred_at":"2024-03-05T10:11:12Z","account":"acme","contact":"ann","vehicle":"call"}}"#
    )
}

/// Whether an event's members are as JSON says.
pub fn canonical(event: &Event<'_>) -> String {
    let mut bytes = Vec::new();
    event.write_canonical(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// What one item reads like: an event by its id.
pub fn told(item: &Item<'_>) -> String {
    match item {
        Item::Record(taken) => match &taken.record {
            Record::Event(event) => event.id.to_string(),
            Record::Tick { through, .. } => format!("tick {through}"),
            Record::Rules { .. } => "rules".to_owned(),
        },
        Item::Internal => "internal".to_owned(),
        Item::Dead(dead) => {
            format!("dead letter, line {} at {}: {}", dead.line, dead.offset, dead.error)
        }
        Item::Idle => "idle".to_owned(),
        Item::End => "end".to_owned(),
    }
}

/// Everything that files give, and their warnings, with directories left out.
pub fn read(files: &mut Files, dir: &Path) -> Vec<String> {
    let mut read = Vec::new();
    loop {
        let item = files.next(arrived()).unwrap();
        if matches!(item, Item::End | Item::Idle) {
            break;
        }
        read.push(told(&item));
    }
    let dir = format!("{}/", dir.display());
    read.extend(files.warnings().iter().map(|warning| format!("warning: {}", warning.replace(&dir, ""))));
    read
}

/// A directory with one file in it.
pub fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// What becomes of a file of this name: its events by id, its dead letters in full, its warnings.
pub fn check(name: &str, bytes: impl AsRef<[u8]>, expect: &[&str]) {
    let (dir, path) = file(name, bytes.as_ref());
    let mut files = open(&[path]).map_err(sentences).unwrap();
    assert_eq!(read(&mut files, dir.path()), expect, "{name}");
    let counts = files.counts();
    assert_eq!(counts.dead, counts.reasons.values().sum::<u64>());
    let damaged = counts.reasons.get("damaged").copied().unwrap_or(0);
    assert_eq!(counts.read + damaged, counts.events + counts.ticks + counts.rules + counts.internal + counts.dead);
}

/// That a file of this name is an error of the command, and which.
pub fn check_refused(name: &str, bytes: impl AsRef<[u8]>, expect: &str) {
    let (dir, path) = file(name, bytes.as_ref());
    let Err(errors) = open(&[path]) else { panic!("{name} is taken") };
    assert_eq!(sentences(errors), [expect.replace("DIR", &dir.path().display().to_string())]);
}

pub fn open(paths: &[PathBuf]) -> Result<Files, Vec<InputError>> {
    Files::open(paths, options(None), FilesPosition::default())
}

pub fn sentences(errors: Vec<InputError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Lines of events with the ids from `from` to `to`.
pub fn events(from: usize, to: usize) -> String {
    (from..to).map(|id| event(&format!("e{id}")) + "\n").collect()
}

/// The ids of [`events`].
pub fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|id| format!("e{id}")).collect()
}
