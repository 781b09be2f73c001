use std::collections::BTreeMap;

use proptest::prelude::*;
use touchline_core::codec::Corrupt;

use crate::cache::{Cache, Known, Packed};

#[derive(Debug, PartialEq, Eq)]
struct Toy {
    value: u16,
    bytes: usize,
}

impl Packed for Toy {
    fn decode(_: &[u8]) -> Result<Toy, Corrupt> {
        Err(Corrupt { what: "toy" })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value.to_be_bytes());
    }

    fn heap_bytes(&self) -> usize {
        self.bytes
    }
}

const BOUND: usize = 4_000;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u16, usize),
    Keep(u8),
    Lose(u8),
    Keys(u8, u8),
    Commit,
    Abort,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..40u8, any::<u16>(), 0..600usize).prop_map(|(key, value, bytes)| Op::Put(key, value, bytes)),
        4 => (0..40u8).prop_map(Op::Keep),
        1 => (0..40u8).prop_map(Op::Lose),
        1 => (0..40u8, 0..40u8).prop_map(|(from, to)| Op::Keys(from, to.max(from))),
        1 => Just(Op::Commit),
        1 => Just(Op::Abort),
    ]
}

/// What a store does with a cache, over a database that is a map.
struct Sut {
    cache: Cache<Toy>,
    database: BTreeMap<u8, (u16, usize)>,
}

impl Sut {
    fn take(&mut self, key: u8) -> Option<Box<Toy>> {
        match self.cache.take(&[key]) {
            Known::Here(toy) => Some(toy),
            Known::Gone => None,
            Known::Unknown => self.database.get(&key).map(|&(value, bytes)| {
                self.cache.taken_elsewhere(&[key]);
                Box::new(Toy { value, bytes })
            }),
        }
    }

    fn commit(&mut self) {
        let mut before = Vec::new();
        for (key, toy) in self.cache.dirty() {
            assert!(before.as_slice() < key, "in the order of keys");
            before = key.to_vec();
            match toy {
                Some(toy) => drop(self.database.insert(key[0], (toy.value, toy.bytes))),
                None => drop(self.database.remove(&key[0])),
            }
        }
        self.cache.settle();
    }
}

proptest! {
    #[test]
    fn loses_nothing_and_keeps_its_bound(ops in prop::collection::vec(op(), 1..200)) {
        let mut sut = Sut { cache: Cache::new(BOUND), database: BTreeMap::new() };
        let (mut committed, mut model) = (BTreeMap::new(), BTreeMap::new());
        for op in ops {
            match op {
                Op::Put(key, value, bytes) => {
                    let was = sut.take(key).map(|toy| toy.value);
                    prop_assert_eq!(was, model.insert(key, value));
                    sut.cache.put(&[key], Box::new(Toy { value, bytes }));
                }
                Op::Keep(key) => {
                    let toy = sut.take(key);
                    prop_assert_eq!(toy.as_ref().map(|toy| toy.value), model.get(&key).copied());
                    if let Some(toy) = toy {
                        sut.cache.keep(&[key], toy);
                    }
                }
                Op::Lose(key) => prop_assert_eq!(sut.take(key).map(|toy| toy.value), model.remove(&key)),
                Op::Keys(from, to) => {
                    for (key, toy) in sut.cache.dirty_range(&[from], &[to]) {
                        prop_assert!((from..to).contains(&key[0]));
                        prop_assert_eq!(toy.map(|toy| toy.value), model.get(&key[0]).copied());
                    }
                }
                Op::Commit => {
                    sut.commit();
                    committed.clone_from(&model);
                    let stored = sut.database.iter().map(|(key, (value, _))| (*key, *value)).collect::<BTreeMap<_, _>>();
                    prop_assert_eq!(&stored, &committed);
                    prop_assert_eq!(sut.cache.pinned_bytes(), 0);
                }
                Op::Abort => {
                    sut.cache.discard_dirty();
                    model.clone_from(&committed);
                }
            }
            prop_assert!(sut.cache.bytes() <= BOUND.max(sut.cache.pinned_bytes()));
        }
        sut.commit();
        prop_assert_eq!(sut.database.into_iter().map(|(key, (value, _))| (key, value)).collect::<BTreeMap<_, _>>(), model);
    }
}

#[test]
fn keeps_what_is_wanted_again() {
    let mut cache = Cache::new(120 * 1_000);
    for round in 0..50 {
        for key in 0..40u8 {
            let record = match cache.take(&[0, key]) {
                Known::Here(record) => record,
                _ if round == 0 => Box::new(Toy { value: 0, bytes: 1_000 }),
                other => panic!("{key} in round {round}: {other:?}"),
            };
            cache.put(&[0, key], record);
        }
        // A visit to many records, once each.
        for key in 0..40u8 {
            cache.put(&[1, round, key], Box::new(Toy { value: 1, bytes: 1_000 }));
        }
        cache.settle();
    }
}
