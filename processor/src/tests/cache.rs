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
    fn decode(packed: &[u8]) -> Result<Toy, Corrupt> {
        let value = packed.first_chunk().ok_or(Corrupt { what: "toy" })?;
        Ok(Toy { value: u16::from_be_bytes(*value), bytes: packed.len() })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value.to_be_bytes());
        out.resize(self.bytes.max(2), 0);
    }
}

const BOUND: usize = 4_000;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u16, usize),
    /// Whether all are listed meanwhile.
    Keep(u8, bool),
    Lose(u8),
    Keys(u8, u8),
    Commit,
    Abort,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..40u8, any::<u16>(), 0..600usize).prop_map(|(key, value, bytes)| Op::Put(key, value, bytes)),
        4 => (0..40u8, any::<bool>()).prop_map(|(key, is_listed)| Op::Keep(key, is_listed)),
        1 => (0..40u8).prop_map(Op::Lose),
        1 => (0..40u8, 0..40u8).prop_map(|(from, to)| Op::Keys(from, to.max(from))),
        1 => Just(Op::Commit),
        1 => Just(Op::Abort),
    ]
}

/// What a store does with a cache, over a database that is a map.
struct Sut {
    cache: Cache<Toy>,
    database: BTreeMap<u8, Vec<u8>>,
    /// What has been told and not committed.
    batch: BTreeMap<u8, Option<Vec<u8>>>,
}

impl Sut {
    fn take(&mut self, key: u8) -> Option<Box<Toy>> {
        match self.cache.take(&[key]).unwrap() {
            Known::Here(toy) => Some(toy),
            Known::Gone => None,
            Known::Unknown => self.database.get(&key).map(|packed| self.cache.load(&[key], packed).unwrap()),
        }
    }

    fn stored(&self) -> BTreeMap<u8, u16> {
        self.database.iter().map(|(key, packed)| (*key, Toy::decode(packed).unwrap().value)).collect()
    }

    fn tell(&mut self) {
        let mut before = Vec::new();
        self.cache.each_dirty(|key, packed| {
            assert!(before.as_slice() < key, "in the order of keys");
            before = key.to_vec();
            drop(self.batch.insert(key[0], packed.map(<[u8]>::to_vec)));
        });
    }

    fn commit(&mut self) {
        self.tell();
        for (key, packed) in std::mem::take(&mut self.batch) {
            match packed {
                Some(packed) => drop(self.database.insert(key, packed)),
                None => drop(self.database.remove(&key)),
            }
        }
        self.cache.settle();
    }
}

proptest! {
    #[test]
    fn loses_nothing_and_keeps_its_bound(ops in prop::collection::vec(op(), 1..200)) {
        let mut sut = Sut { cache: Cache::new(BOUND, true), database: BTreeMap::new(), batch: BTreeMap::new() };
        let (mut committed, mut model) = (BTreeMap::new(), BTreeMap::new());
        for op in ops {
            match op {
                Op::Put(key, value, bytes) => {
                    let was = sut.take(key).map(|toy| toy.value);
                    prop_assert_eq!(was, model.insert(key, value));
                    sut.cache.put(&[key], &Toy { value, bytes });
                }
                Op::Keep(key, is_listed) => {
                    let toy = sut.take(key);
                    prop_assert_eq!(toy.as_ref().map(|toy| toy.value), model.get(&key).copied());
                    if let Some(toy) = toy {
                        if is_listed {
                            drop(sut.cache.dirty_range(&[0], &[40]));
                        }
                        sut.cache.keep(&[key], &toy);
                    }
                }
                Op::Lose(key) => prop_assert_eq!(sut.take(key).map(|toy| toy.value), model.remove(&key)),
                Op::Keys(from, to) => {
                    let mut last = None;
                    let mut told = BTreeMap::new();
                    for (key, is_here) in sut.cache.dirty_range(&[from], &[to]) {
                        prop_assert!((from..to).contains(&key[0]));
                        prop_assert!(last < Some(key[0]), "in order, each once");
                        last = Some(key[0]);
                        prop_assert_eq!(is_here, model.contains_key(&key[0]));
                        told.insert(key[0], is_here);
                    }
                    // What is other than in the database has been told.
                    for key in from..to {
                        prop_assert!(model.get(&key) == committed.get(&key) || told.contains_key(&key));
                    }
                }
                Op::Commit => {
                    sut.commit();
                    committed.clone_from(&model);
                    prop_assert_eq!(&sut.stored(), &committed);
                    prop_assert_eq!(sut.cache.pinned_bytes(), 0);
                }
                Op::Abort => {
                    sut.cache.discard_dirty();
                    sut.batch.clear();
                    model.clone_from(&committed);
                }
            }
            prop_assert!(sut.cache.bytes() <= BOUND.max(sut.cache.pinned_bytes()));
        }
        sut.commit();
        prop_assert_eq!(sut.stored(), model);
    }
}

#[test]
fn keeps_what_is_wanted_again() {
    let mut cache = Cache::new(120 * 1_000, true);
    for round in 0..50 {
        for key in 0..40u8 {
            let record = match cache.take(&[0, key]).unwrap() {
                Known::Here(record) => record,
                _ if round == 0 => Box::new(Toy { value: 0, bytes: 1_000 }),
                other => panic!("{key} in round {round}: {other:?}"),
            };
            cache.put(&[0, key], &record);
        }
        // A visit to many records, once each.
        for key in 0..40u8 {
            cache.put(&[1, round, key], &Toy { value: 1, bytes: 1_000 });
        }
        cache.each_dirty(|_, _| ());
        cache.settle();
    }
}

#[test]
fn gives_back_the_slots_of_what_it_has_no_room_for_any_more() {
    let mut cache = Cache::new(100_000, true);
    for (round, bytes) in [(0u8, 3), (1, 10_000)] {
        for number in 0..1_000u16 {
            let [high, low] = number.to_be_bytes();
            cache.put(&[round, high, low], &Toy { value: number, bytes });
            cache.each_dirty(|_, _| ());
            cache.settle();
            let Known::Here(newest) = cache.take(&[round, high, low]).unwrap() else { panic!("{number} is lost") };
            cache.keep(&[round, high, low], &newest);
        }
    }
    assert!(cache.slots() < 40, "{} slots for the eight records that fit", cache.slots());
}
