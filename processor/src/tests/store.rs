use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;
use touchline_core::contact::Contact;
use touchline_core::keys::table;
use touchline_core::state::State;

use super::{memory, open, publish, rows};
use crate::store::SCHEMA;
use crate::{Durability, Store, StoreError, keys};

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, u8),
    Delete(Vec<u8>),
    Get(Vec<u8>),
    First(Vec<u8>, Vec<u8>),
    Last(Vec<u8>, Vec<u8>),
    PutContact(u8, u64),
    KeepContact(u8),
    LoseContact(u8),
    ContactKeys(u8, u8, usize),
    Commit(bool),
    Abort,
    Reopen,
}

/// Few keys, of which some are prefixes of others.
fn row_key() -> impl Strategy<Value = Vec<u8>> {
    let table = prop::sample::select(vec![table::PAGE, table::TIMER]);
    (table, prop::collection::vec(prop::sample::select(vec![0, 1, 0xff]), 0..3))
        .prop_map(|(table, rest)| [vec![table], rest].concat())
}

fn op() -> impl Strategy<Value = Op> {
    let range = || (row_key(), row_key());
    prop_oneof![
        6 => (row_key(), any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        4 => row_key().prop_map(Op::Delete),
        2 => row_key().prop_map(Op::Get),
        4 => range().prop_map(|(from, to)| Op::First(from, to)),
        4 => range().prop_map(|(from, to)| Op::Last(from, to)),
        4 => (0..20u8, any::<u64>()).prop_map(|(key, value)| Op::PutContact(key, value)),
        2 => (0..20u8).prop_map(Op::KeepContact),
        1 => (0..20u8).prop_map(Op::LoseContact),
        3 => (0..20u8, 0..20u8, 0..8usize).prop_map(|(from, to, limit)| Op::ContactKeys(from, to, limit)),
        2 => any::<bool>().prop_map(Op::Commit),
        1 => Just(Op::Abort),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    contacts: BTreeMap<u8, u64>,
}

fn contact_key(key: u8) -> Vec<u8> {
    vec![table::CONTACT, key]
}

fn contact(version: u64) -> Box<Contact> {
    let mut contact = Box::<Contact>::default();
    contact.version = version;
    contact
}

fn check(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let (mut committed, mut model) = (Model::default(), Model::default());
    for op in ops {
        match op {
            Op::Put(key, value) => {
                store.put(key.clone(), vec![value]);
                model.rows.insert(key, vec![value]);
            }
            Op::Delete(key) => {
                store.delete(key.clone());
                model.rows.remove(&key);
            }
            Op::Get(key) => prop_assert_eq!(store.get(&key).unwrap(), model.rows.get(&key).cloned()),
            Op::First(from, to) => {
                let range = (Included(&from), Excluded((&to).max(&from)));
                let found = model.rows.range::<Vec<u8>, _>(range).next();
                prop_assert_eq!(
                    store.first(&from, &to).unwrap(),
                    found.map(|(key, value)| (key.clone(), value.clone()))
                );
            }
            Op::Last(from, to) => {
                let range = (Included(&from), Excluded((&to).max(&from)));
                let found = model.rows.range::<Vec<u8>, _>(range).next_back();
                prop_assert_eq!(
                    store.last(&from, &to).unwrap(),
                    found.map(|(key, value)| (key.clone(), value.clone()))
                );
            }
            Op::PutContact(key, value) => {
                let was = store.take_contact(&contact_key(key)).unwrap().map(|contact| contact.version);
                prop_assert_eq!(was, model.contacts.insert(key, value));
                store.put_contact(&contact_key(key), contact(value));
            }
            Op::KeepContact(key) => {
                let is = store.take_contact(&contact_key(key)).unwrap();
                prop_assert_eq!(is.as_ref().map(|contact| contact.version), model.contacts.get(&key).copied());
                if let Some(is) = is {
                    store.keep_contact(&contact_key(key), is);
                }
            }
            Op::LoseContact(key) => {
                let was = store.take_contact(&contact_key(key)).unwrap().map(|contact| contact.version);
                prop_assert_eq!(was, model.contacts.remove(&key));
            }
            Op::ContactKeys(from, to, limit) => {
                let expected: Vec<_> =
                    model.contacts.range(from..to.max(from)).map(|(key, _)| contact_key(*key)).take(limit).collect();
                let found = store.contact_keys(&contact_key(from), &contact_key(to), limit).unwrap();
                prop_assert_eq!(found, expected);
            }
            Op::Commit(flush) => {
                store.commit(b"here", None, Durability::Logged).unwrap();
                if flush {
                    store.flush().unwrap();
                }
                committed.clone_from(&model);
            }
            Op::Abort => {
                store.abort();
                model.clone_from(&committed);
            }
            Op::Reopen => {
                drop(store);
                store = open(dir.path());
                model.clone_from(&committed);
            }
        }
    }
    store.commit(b"there", None, Durability::Logged).unwrap();
    let is_core = |key: &[u8]| key[0] < table::STORE;
    let stored: Vec<_> = rows(&store).into_iter().filter(|(key, _)| is_core(key)).collect();
    let contacts = model.contacts.iter().map(|(key, version)| {
        let mut bytes = Vec::new();
        contact(*version).encode(&mut bytes);
        (contact_key(*key), bytes)
    });
    prop_assert_eq!(stored, contacts.chain(model.rows).collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn is_the_database_with_the_batch_over_it(ops in prop::collection::vec(op(), 1..150)) {
        check(ops)?;
    }
}

#[test]
fn what_was_not_committed_is_gone() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.position().unwrap(), None);
    store.put(vec![table::PAGE], b"kept".to_vec());
    store.commit(b"one", None, Durability::Synced).unwrap();
    store.put(vec![table::PAGE], b"lost".to_vec());
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(store.get(&[table::PAGE]).unwrap().unwrap(), b"kept");
    assert_eq!(store.position().unwrap().unwrap(), b"one");
}

#[test]
fn held_events_come_in_the_order_of_time() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let at = |second| Timestamp::from_second(second).unwrap();
    let next = |store: &mut Store, through| {
        let held = store.first_held(at(through)).unwrap()?;
        store.release(held.key);
        Some((held.at.as_second(), String::from_utf8(held.raw).unwrap()))
    };
    for (second, name) in [(30, "c"), (20, "a"), (-5, "z"), (20, "b")] {
        store.hold(at(second), name.into()).unwrap();
    }
    store.commit(b"", None, Durability::Logged).unwrap();
    assert_eq!(next(&mut store, 25), Some((-5, "z".into())));
    assert_eq!(next(&mut store, 25), Some((20, "a".into())));
    store.abort();
    store.hold(at(10), "y".into()).unwrap();
    assert_eq!(next(&mut store, 25), Some((-5, "z".into())));
    store.commit(b"", None, Durability::Logged).unwrap();
    for expected in [(10, "y"), (20, "a"), (20, "b")] {
        assert_eq!(next(&mut store, 25), Some((expected.0, expected.1.into())));
    }
    assert_eq!(next(&mut store, 25), None);
    store.hold(at(15), "late".into()).unwrap();
    assert_eq!(next(&mut store, 25), Some((15, "late".into())));
    assert_eq!(next(&mut store, 29), None);
    assert_eq!(next(&mut store, 30), Some((30, "c".into())));
    store.commit(b"", None, Durability::Logged).unwrap();
    assert!(!rows(&store).iter().any(|(key, _)| key[0] == keys::HELD));
}

#[test]
fn refuses_in_sentences() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("p0");
    let sentence = |path: &std::path::Path| Store::open(path, &memory()).err().unwrap();
    assert!(matches!(Store::open_read_only(&path, &memory()).err().unwrap(), StoreError::Missing { .. }));

    let store = open(&path);
    assert!(matches!(sentence(&path), StoreError::Locked { .. }), "{}", sentence(&path));
    store.db().put(keys::IDENTITY, [&7u32.to_be_bytes()[..], &[0; 8]].concat()).unwrap();
    drop(store);
    let expected = format!("has schema 7, this version reads schema 4 to {SCHEMA}");
    assert!(sentence(&path).to_string().contains(&expected));

    let db = rocksdb::DB::open_default(dir.path().join("other")).unwrap();
    db.put("some", "thing").unwrap();
    drop(db);
    assert!(matches!(sentence(&dir.path().join("other")), StoreError::Foreign { .. }));

    let mut store = open(&dir.path().join("damaged"));
    store.put(vec![table::PAGE], vec![1; 100_000]);
    store.commit(b"", None, Durability::Logged).unwrap();
    store.flush().unwrap();
    drop(store);
    for file in std::fs::read_dir(dir.path().join("damaged")).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "sst") {
            let bytes = std::fs::read(&file).unwrap();
            std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    assert!(matches!(sentence(&dir.path().join("damaged")), StoreError::Damaged { .. }));
}

#[test]
fn can_be_looked_at_while_it_is_open() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    publish(&mut store, &[(touchline_core::output::Topic::Facts, "a", Some("1"))]);
    let mut seen = Store::open_read_only(dir.path(), &memory()).unwrap();
    let stats = seen.stats().unwrap();
    assert_eq!((stats.outbox_end, stats.position), (1, Some(b"somewhere".to_vec())));
    assert!(seen.commit(b"", None, Durability::Logged).is_err());
}
