//! What was erased leaves the files of a state and its outbox.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use touchline_core::keys as core_keys;
use touchline_core::output::Topic;
use touchline_core::state::State;

use super::{open, publish, rows};
use crate::{Durability, Limits, Store, Topics, keys};

/// Random, so that no compression hides it.
const NAME: &str = "xk4q9wjz7vbn";
const WITHIN: Duration = Duration::from_secs(60);

/// Whether it stands in any file; but for what RocksDB notes of its files.
fn is_in(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let is_note = entry.file_name().to_string_lossy().starts_with("MANIFEST");
        !is_note
            && fs::read(entry.path()).is_ok_and(|bytes| bytes.windows(NAME.len()).any(|part| part == NAME.as_bytes()))
    })
}

fn commit(store: &mut Store) {
    store.commit(b"somewhere", None, Durability::Unlogged).unwrap();
}

/// A state on the disk that knows of somebody, with others on either side.
fn known(dir: &Path) -> Store {
    let mut store = open(dir);
    for name in ["aa", NAME, "zz"] {
        store.put(core_keys::page(&core_keys::contact("a", name), &[]), name.as_bytes().to_vec());
    }
    commit(&mut store);
    store.flush().unwrap();
    assert!(is_in(dir));
    store
}

fn erase(store: &mut Store) {
    store.delete(core_keys::page(&core_keys::contact("a", NAME), &[]));
    store.put(core_keys::erased("0f"), Vec::new());
    commit(store);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WITHIN, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_marked(store: &Store) -> bool {
    rows(store).iter().any(|(key, _)| **key == keys::SCRUB)
}

#[test]
fn a_state_is_rewritten_once_somebody_is_erased() {
    let dir = TempDir::new().unwrap();
    let mut store = known(dir.path());
    assert!(!is_marked(&store));
    erase(&mut store);
    assert!(is_marked(&store));
    eventually("nothing of it is in the files", || !is_in(dir.path()));
    eventually("the state says so", || {
        commit(&mut store);
        !is_marked(&store)
    });
}

#[test]
fn what_a_state_had_no_time_for_is_done_when_it_is_opened_again() {
    let dir = TempDir::new().unwrap();
    let mut store = known(dir.path());
    erase(&mut store);
    store.flush().unwrap();
    drop(store);
    let mut store = open(dir.path());
    assert!(is_marked(&store));
    commit(&mut store);
    eventually("nothing of it is in the files", || !is_in(dir.path()));
    // The next one waits for its hour, or until somebody waits for it.
    for name in [NAME, "other"] {
        store.put(core_keys::page(&core_keys::contact("b", name), &[]), name.as_bytes().to_vec());
    }
    commit(&mut store);
    store.flush().unwrap();
    store.delete(core_keys::page(&core_keys::contact("b", NAME), &[]));
    store.put(core_keys::erased("1f"), Vec::new());
    commit(&mut store);
    assert!(is_in(dir.path()));
    store.finish_scrub().unwrap();
    assert!(!is_in(dir.path()) && !is_marked(&store));
}

#[test]
fn an_outbox_is_purged_once_everybody_has_it() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let of = |contact: &str| format!(r#"{{"account":"a","contact":"{contact}"}}"#);
    let listing = |contacts: &str| format!(r#"{{"account":"a","contact":null,"contacts":[{contacts}]}}"#);
    let notice = format!(
        r#"{{"id":"0f","rule":"contact","change":"erased","sequence":1,"account":"a","contact":"{NAME}","erased_at":"2024-01-01T00:00:00Z"}}"#
    );
    let (score, fact) = (format!("a|{NAME}"), format!("a|{NAME}|1"));
    publish(
        &mut store,
        &[
            (Topic::Alerts, "1", Some(&of(NAME))),
            (Topic::Alerts, "2", Some(&of("al"))),
            (Topic::Alerts, "3", Some(&listing(&format!(r#""al","{NAME}""#)))),
            (Topic::Scores, &score, Some("{}")),
            (Topic::Scores, "a|al", Some("{}")),
            (Topic::Facts, &fact, Some("{}")),
        ],
    );
    store.put(core_keys::erased("0f"), Vec::new());
    publish(
        &mut store,
        &[
            (Topic::Scores, &score, None),
            (Topic::Facts, &fact, None),
            (Topic::Alerts, "0f", Some(&notice)),
            (Topic::Alerts, "4", Some(&of("bo"))),
        ],
    );
    let outbox = store.outbox().clone();
    let all = || outbox.read(None, Topics::ALL, Limits::default()).unwrap();
    let end = outbox.end();
    outbox.purge(end - 1).unwrap();
    assert!(all().records.iter().any(|record| record.key == score.as_bytes()));
    outbox.purge(end).unwrap();
    let left: Vec<_> = all().records.into_iter().map(|record| (record.sequence, record.value.unwrap())).collect();
    let expected = [(1, of("al")), (2, listing(r#""al""#)), (4, "{}".to_owned()), (9, of("bo"))];
    let expected: Vec<_> = expected.into_iter().map(|(sequence, value)| (sequence, value.into_bytes())).collect();
    let sorted = |mut left: Vec<(u64, Vec<u8>)>| {
        left.sort();
        left
    };
    assert_eq!(sorted(left), expected);
    // It goes on as if nothing had been.
    store.delete(core_keys::erased("0f"));
    publish(&mut store, &[(Topic::Alerts, "5", Some("{}"))]);
    let behind = outbox.read(Some(&all().cursor), Topics::ALL, Limits::default()).unwrap();
    assert!(behind.records.is_empty() && behind.is_end);
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
    store.finish_scrub().unwrap();
    assert!(!is_in(dir.path()));
}
