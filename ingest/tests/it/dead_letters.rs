//! What a dead letter keeps of the bytes.

use serde_json::json;
use touchline_ingest::{DeadLetter, Files, FilesPosition, Item};

use crate::kit::{arrived, file, options};

fn letter(bytes: &[u8]) -> DeadLetter {
    let (_dir, path) = file("bad.jsonl", bytes);
    let mut files = Files::open(&[path], options(None), FilesPosition::default()).unwrap();
    match files.next(arrived()).unwrap() {
        Item::Dead(mut dead) => {
            dead.path = "bad.jsonl".to_owned();
            dead
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_stays_text() {
    let dead = letter("\n{\"ä\":1}\r\n".as_bytes());
    assert_eq!(dead.key(), "bad.jsonl:1");
    assert_eq!(
        dead.to_json(),
        json!({"topic": "bad.jsonl", "line": 2, "offset": 1, "stage": "ingest",
            "error": "field `kind` is missing; every event needs it", "raw": "{\"ä\":1}"})
    );
}

#[test]
fn other_bytes_are_base64() {
    let json = letter(b"{\xff\xfe!").to_json();
    assert_eq!(json.get("raw"), None);
    assert_eq!(json["raw_base64"], "e//+IQ==");
}

#[test]
fn long_bytes_are_cut_between_characters() {
    let dead = letter(("x".to_owned() + &"ä".repeat(2_000_000)).as_bytes());
    assert_eq!((dead.raw.len(), dead.raw_bytes), (1024 * 1024, 4_000_001));
    let json = dead.to_json();
    assert_eq!(json["raw"].as_str().unwrap().len(), 1024 * 1024 - 1);
    assert_eq!(json["raw_bytes"], 4_000_001);
}
