//! Bytes from anywhere, into everything that reads bytes: nothing panics, and what is taken means the same when it is written
//! and read again. `scripts/fuzz.sh` builds it, feeds it, and names the target in `TOUCHLINE_FUZZ`. With a directory in
//! `TOUCHLINE_FUZZ_SEEDS` it writes what to begin with.

#![no_main]

mod seeds;

use std::path::Path;
use std::sync::LazyLock;
use std::{env, io, process};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use touchline_core::account::Account;
use touchline_core::codec::Corrupt;
use touchline_core::contact::Contact;
use touchline_core::event::Event;
use touchline_core::keys;
use touchline_core::notice::{Left, Notice, Notices};
use touchline_core::record::Record;
use touchline_ingest::formats::canonical::Decoded;
use touchline_ingest::formats::csv::{Cells, Header};
use touchline_ingest::lines::{Framed, Framing, Lines};
use touchline_ingest::{Decoder, FilesPosition};

/// The targets, by the names that `scripts/fuzz.sh` gives them.
const TARGETS: [(&str, fn(&[u8])); 6] =
    [("event", event), ("record", record), ("rows", rows), ("state", state), ("position", position), ("alert", alert)];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("TOUCHLINE_FUZZ").expect("TOUCHLINE_FUZZ names the target");
    if let Ok(dir) = env::var("TOUCHLINE_FUZZ_SEEDS") {
        seeds::write(&name, Path::new(&dir)).expect("seeds can be written");
        process::exit(0);
    }
    TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name").1
});

fuzz_target!(init: { LazyLock::force(&TARGET); }, |bytes: &[u8]| TARGET(bytes));

/// An event is what other readers of JSON find there too, and is the same event when it is written and read again.
fn event(bytes: &[u8]) {
    let read: Result<Value, _> = serde_json::from_slice(bytes);
    let event = match Event::parse(bytes, &TimeZone::UTC) {
        Ok(event) => event,
        Err(reject) => return assert!(!reject.to_string().is_empty()),
    };
    let read = read.expect("what is an event is JSON");
    // Of two members of one name, serde_json has the last; we have none.
    assert_eq!(read["id"].as_str(), Some(&*event.id));
    assert_eq!(read["source"].as_str(), Some(&*event.source));
    assert_eq!(read["kind"].as_str(), Some(event.kind.name()));
    let mut canonical = Vec::new();
    event.write_canonical(&mut canonical);
    let again = Event::parse(&canonical, &TimeZone::UTC).expect("a canonical event is an event");
    assert_eq!(again, event);
    let mut fact = Vec::new();
    event.write_fact(1, &mut fact);
    let fact: Value = serde_json::from_slice(&fact).expect("a fact is JSON");
    assert_eq!(fact["fact"].as_str(), Some(event.kind.name()));
}

/// What `ingest` takes, the processor takes as the same.
fn record(bytes: &[u8]) {
    let direct = Record::parse(bytes, &TimeZone::UTC);
    let Ok(Decoded::Record(decoded)) = Decoder::default().decode(bytes, Timestamp::MAX) else { return };
    let direct = direct.expect("what ingest reads is a record");
    match (decoded, direct) {
        (Record::Event(decoded), Record::Event(direct)) => {
            assert!(!decoded.account.is_empty(), "whose event is known");
            assert_eq!(
                (decoded.id, decoded.source, decoded.occurred_at),
                (direct.id, direct.source, direct.occurred_at)
            );
        }
        (decoded, direct) => assert_eq!(decoded, direct),
    }
}

/// A table of rows: what is cut out of it is all of it, and each row is JSON or has a reason.
fn rows(bytes: &[u8]) {
    let mut lines = Lines::new(io::Cursor::new(bytes), Framing::Rows, 0, 1);
    let (mut header, mut cells, mut out, mut blanks, mut upto) = (None, Cells::default(), Vec::new(), 0, 0);
    loop {
        let framed = lines.next(&mut blanks).expect("memory can be read");
        if let Some(place) = framed.place() {
            assert!(place.start >= upto && place.end > place.start && place.end <= bytes.len() as u64);
            upto = place.end;
        }
        match (framed, &header) {
            (Framed::End | Framed::Pending, _) => return,
            (Framed::Record(_), None) => match Header::parse(lines.bytes()) {
                Ok(found) => header = Some(found),
                Err(error) => return assert!(!error.to_string().is_empty()),
            },
            (Framed::Record(_), Some(header)) => {
                out.clear();
                if header.write_json(lines.bytes(), &mut cells, &mut out).is_ok() {
                    let row: Value = serde_json::from_slice(&out).expect("a row is JSON");
                    assert!(row.is_object());
                    record(&out);
                }
            }
            _ => {}
        }
    }
}

/// What is in a state is refused, or is what is written when it is written again.
fn state(bytes: &[u8]) {
    fn check<T>(
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, Corrupt>,
        check: impl Fn(&T) -> Result<(), Corrupt>,
        encode: impl Fn(&T, &mut Vec<u8>),
    ) {
        let Ok(first) = decode(bytes) else { return };
        let (is_whole, mut one, mut other) = (check(&first).is_ok(), Vec::new(), Vec::new());
        encode(&first, &mut one);
        let second = decode(&one).expect("what was written can be read");
        assert_eq!(check(&second).is_ok(), is_whole);
        encode(&second, &mut other);
        assert!(one == other, "it is written in another way the second time");
    }
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 3 {
        0 => check(bytes, Contact::decode, Contact::check, Contact::encode),
        1 => check(bytes, Account::decode, Account::check, Account::encode),
        _ => {
            let _ = keys::names(bytes);
            if let Ok((filed, record)) = keys::read_timer(bytes) {
                assert_eq!(keys::read_timer(&keys::timer(filed, &record)).ok(), Some((filed, record)));
            }
        }
    }
}

/// What is left of an alert once contacts are forgotten: less of it, and still an alert.
fn alert(bytes: &[u8]) {
    let mut notices = Notices::default();
    if let Some(notice) = Notice::of(bytes) {
        notices.add(&notice, 2);
        assert_eq!(notices.left(bytes, 1), Left::Nothing, "a notice names whom it is about");
    }
    let notice = Notice::of(seeds::NOTICE.as_bytes()).expect("a notice");
    notices.add(&notice, 2);
    if let Left::Part(part) = notices.left(bytes, 0) {
        assert!(part.len() <= bytes.len());
        // What need not be read is not looked at either.
        let Ok(_) = serde_json::from_slice::<Value>(bytes) else { return };
        let left: Value = serde_json::from_slice(&part).expect("what is left of JSON is JSON");
        let listed = left["contacts"].as_array().expect("it lists contacts");
        assert!(!listed.iter().any(|one| *one == *notice.contact));
    }
}

/// How far files have been read.
fn position(bytes: &[u8]) {
    let Ok(first) = FilesPosition::decode(bytes) else { return };
    let mut again = Vec::new();
    first.encode(&mut again);
    assert_eq!(FilesPosition::decode(&again).expect("what was written can be read"), first);
}
