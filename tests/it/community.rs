//! The real history of `tests/data`, in all the ways in which it can be given, and what a naive scan finds in it.

use std::io::Read;
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{Dice, Place};

/// The moment that the truth was found from.
pub const AS_OF: &str = "2024-10-26T00:00:00Z";
/// As it is in the repository.
pub const GZIP: &[u8] = include_bytes!("../data/kafka-community.jsonl.gz");
/// What the scan has found.
pub const TRUTH: &str = include_str!("../data/kafka-community.lapses.csv");

/// The history, a record an element, in its order.
pub fn lines() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(GZIP).read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    })
}

/// Records as JSON Lines.
pub fn text<T: AsRef<str>>(lines: &[T]) -> String {
    lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect()
}

/// The history in another order.
pub fn shuffled(seed: u64) -> Vec<String> {
    let mut lines = lines().to_vec();
    Dice(seed).shuffle(&mut lines);
    lines
}

/// Records in three parts of uneven size.
pub fn thirds(lines: &[String]) -> [String; 3] {
    let (first, rest) = lines.split_at(lines.len() / 4);
    let (second, third) = rest.split_at(rest.len() / 3);
    [text(first), text(second), text(third)]
}

/// Records as CSV, with the columns that this history has.
pub fn csv(lines: &[String]) -> String {
    const COLUMNS: [&str; 10] =
        ["id", "source", "kind", "occurred_at", "account", "contact", "vehicle", "interaction", "channel", "campaign"];
    let mut csv = COLUMNS.join(",") + "\r\n";
    for line in lines {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!(record.as_object().unwrap().keys().all(|key| COLUMNS.contains(&key.as_str())), "{line}");
        let cell = |name: &str| record[name].as_str().unwrap_or_default().replace('"', "\"\"");
        let cells: Vec<String> = COLUMNS.iter().map(|name| format!("\"{}\"", cell(name))).collect();
        csv += &(cells.join(",") + "\r\n");
    }
    csv
}

pub fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::stream::encode_all(bytes.as_ref(), 1).unwrap()
}

/// What a run of the history in its order has written, which several tests compare others with.
pub struct Results {
    pub alerts: String,
    pub scores: String,
    pub facts: String,
}

pub fn results() -> &'static Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| {
        let place = Place::with(&[("history.jsonl.gz", GZIP)]);
        place.run(&format!("replay history.jsonl.gz --as-of {AS_OF} --out out")).ok();
        Results::of(&place, "out")
    })
}

impl Results {
    /// What stands in an output directory.
    pub fn of(place: &Place, out: &str) -> Results {
        let read = |name: &str| place.read(&format!("{out}/{name}.jsonl"));
        Results { alerts: read("alerts"), scores: read("scores"), facts: read("facts") }
    }
}
