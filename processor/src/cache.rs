//! Decoded records in memory, by key.
//!
//! A record is *taken* out and *put* back changed, or *kept* as it was; between the two, and if neither happens, it is gone.
//! What was put or is gone since the last commit is *dirty*: it stays until [`Cache::settle`] (it is committed) or
//! [`Cache::discard_dirty`] (it never will be). Clean records are evicted, the least recently used first, as far as a clock's
//! hand can tell, so that all stay within the bound. Only what is dirty can exceed it; [`Cache::pinned_bytes`] tells how
//! much that is.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Bound::{Excluded, Included};

use touchline_core::codec::Corrupt;

use crate::key::Key;

/// A record that is kept packed in the database and decoded in memory.
pub(crate) trait Packed: Sized {
    fn decode(bytes: &[u8]) -> Result<Self, Corrupt>;
    fn encode(&self, out: &mut Vec<u8>);
    /// What it takes in memory, about.
    fn heap_bytes(&self) -> usize;
}

/// What the cache knows of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known<T> {
    /// The record.
    Here(Box<T>),
    /// There is none, whatever the database says.
    Gone,
    /// The database knows.
    Unknown,
}

/// What an entry costs beside its record, at least: its slot and its place in the index, which is never quite full.
const ENTRY_BYTES: usize = 192;
/// The allocator's own share of a record, which consists of many small pieces: one byte for this many.
const ALLOCATED_FOR: usize = 8;

/// See the module.
pub(crate) struct Cache<T> {
    /// Where each key's slot is.
    index: HashMap<Key, usize, Seed>,
    slots: Vec<Option<Slot<T>>>,
    /// Slots that hold nothing.
    free: Vec<usize>,
    /// The slots whose records have been taken: one or two.
    taken: Vec<usize>,
    /// The slots of dirty records, in the order of their keys, which is the order they are written in.
    dirty: BTreeMap<Key, usize>,
    bytes: usize,
    pinned_bytes: usize,
    bound: usize,
    /// The clock's hand.
    hand: usize,
}

struct Slot<T> {
    key: Key,
    /// `None`: taken, or gone.
    record: Option<Box<T>>,
    bytes: usize,
    dirty: bool,
    /// Dirty or taken: not to be evicted.
    pinned: bool,
    /// Wanted again since the hand passed.
    used: bool,
}

impl<T: Packed> Cache<T> {
    /// A cache of at most `bound` bytes of clean records.
    pub(crate) fn new(bound: usize) -> Cache<T> {
        Cache {
            index: HashMap::with_hasher(Seed::random()),
            slots: Vec::new(),
            free: Vec::new(),
            taken: Vec::new(),
            dirty: BTreeMap::new(),
            bytes: 0,
            pinned_bytes: 0,
            bound,
            hand: 0,
        }
    }

    /// Takes a record out.
    pub(crate) fn take(&mut self, key: &[u8]) -> Known<T> {
        let Some(&at) = self.index.get(key) else { return Known::Unknown };
        let Some(Some(slot)) = self.slots.get_mut(at) else { return Known::Unknown };
        let Some(record) = slot.record.take() else { return Known::Gone };
        slot.used = true;
        if !std::mem::replace(&mut slot.pinned, true) {
            self.pinned_bytes += slot.bytes;
        }
        self.taken.push(at);
        Known::Here(record)
    }

    /// Notes that the record of this [`Known::Unknown`] key has been taken from the database.
    pub(crate) fn taken_elsewhere(&mut self, key: &[u8]) {
        let at = self.insert(key);
        self.taken.push(at);
        self.evict();
    }

    /// Puts a record in, changed or new.
    pub(crate) fn put(&mut self, key: &[u8], record: Box<T>) {
        let at = self.returned(key).or_else(|| self.index.get(key).copied()).unwrap_or_else(|| self.insert(key));
        self.mark(at);
        self.fill(key, at, record);
    }

    /// Puts a record back as it was taken.
    pub(crate) fn keep(&mut self, key: &[u8], record: Box<T>) {
        let Some(at) = self.returned(key) else { return self.put(key, record) };
        if let Some(Some(slot)) = self.slots.get_mut(at)
            && !slot.dirty
        {
            slot.pinned = false;
            self.pinned_bytes -= slot.bytes;
        }
        self.fill(key, at, record);
    }

    /// The dirty records by key; `None` is one that is gone.
    pub(crate) fn dirty(&mut self) -> impl Iterator<Item = (&[u8], Option<&T>)> {
        self.mark_taken();
        self.dirty.iter().map(|(key, at)| (key.bytes(), self.record(*at)))
    }

    /// The same from `from` (inclusive) to `to` (exclusive); `from` must not be greater than `to`.
    pub(crate) fn dirty_range(&mut self, from: &[u8], to: &[u8]) -> impl Iterator<Item = (&[u8], Option<&T>)> {
        self.mark_taken();
        let range = self.dirty.range::<[u8], _>((Included(from), Excluded(to)));
        range.map(|(key, at)| (key.bytes(), self.record(*at)))
    }

    /// What the records take that cannot be evicted.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// What all records take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all records may take, unless more is pinned.
    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    /// The dirty records have been committed.
    pub(crate) fn settle(&mut self) {
        for (_, at) in std::mem::take(&mut self.dirty) {
            match self.slots.get_mut(at) {
                Some(Some(slot)) if slot.record.is_some() => (slot.dirty, slot.pinned) = (false, false),
                _ => self.remove(at),
            }
        }
        self.taken.clear();
        self.pinned_bytes = 0;
        self.evict();
    }

    /// The dirty records have not been committed and never will be: the database knows better.
    pub(crate) fn discard_dirty(&mut self) {
        self.mark_taken();
        for (_, at) in std::mem::take(&mut self.dirty) {
            self.remove(at);
        }
        self.taken.clear();
        self.pinned_bytes = 0;
    }

    /// The slot that the record of this key was taken from, which now gets it back.
    fn returned(&mut self, key: &[u8]) -> Option<usize> {
        let slots = &self.slots;
        let is_its =
            |at: &usize| slots.get(*at).is_some_and(|slot| slot.as_ref().is_some_and(|slot| slot.key.bytes() == key));
        self.taken.iter().rposition(is_its).map(|place| self.taken.swap_remove(place))
    }

    /// What is taken counts as gone.
    fn mark_taken(&mut self) {
        for place in 0..self.taken.len() {
            if let Some(at) = self.taken.get(place) {
                self.mark(*at);
            }
        }
    }

    fn record(&self, at: usize) -> Option<&T> {
        self.slots.get(at)?.as_ref()?.record.as_deref()
    }

    /// The slot is dirty from now on.
    fn mark(&mut self, at: usize) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        if !std::mem::replace(&mut slot.pinned, true) {
            self.pinned_bytes += slot.bytes;
        }
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.insert(slot.key.clone(), at);
        }
    }

    fn fill(&mut self, key: &[u8], at: usize, record: Box<T>) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        let record_bytes = record.heap_bytes();
        let bytes = ENTRY_BYTES + key.len() + record_bytes + record_bytes / ALLOCATED_FOR;
        slot.record = Some(record);
        self.bytes = self.bytes - slot.bytes + bytes;
        if slot.pinned {
            self.pinned_bytes = self.pinned_bytes - slot.bytes + bytes;
        }
        slot.bytes = bytes;
        self.evict();
    }

    /// Makes a slot without a record, pinned and not dirty.
    fn insert(&mut self, key: &[u8]) -> usize {
        let bytes = ENTRY_BYTES + key.len();
        let key = Key::from(key);
        let slot = Some(Slot { key: key.clone(), record: None, bytes, dirty: false, pinned: true, used: false });
        self.bytes += bytes;
        self.pinned_bytes += bytes;
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(empty) => *empty = slot,
            None => self.slots.push(slot),
        }
        self.index.insert(key, at);
        at
    }

    fn remove(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::take) {
            self.index.remove(&slot.key);
            self.bytes -= slot.bytes;
            self.free.push(at);
        }
    }

    fn evict(&mut self) {
        // More than what is pinned: there is a clean record, and the hand meets it within two rounds.
        while self.bytes > self.bound.max(self.pinned_bytes) {
            let at = self.hand;
            self.hand = if at + 1 < self.slots.len() { at + 1 } else { 0 };
            match self.slots.get_mut(at) {
                Some(Some(slot)) if slot.pinned => {}
                Some(Some(slot)) if slot.used => slot.used = false,
                _ => self.remove(at),
            }
        }
    }
}

/// Hashes keys eight bytes at a time, with a secret, so that no input can be made to collide. Nothing depends on the order
/// that follows from it.
#[derive(Clone, Copy)]
struct Seed(u64);

impl Seed {
    fn random() -> Seed {
        Seed(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

struct Fold(u64);

impl Fold {
    #[inline]
    fn add(&mut self, word: u64) {
        // An odd constant without a pattern; the high half of the product depends on all bits of both.
        const MULTIPLIER: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word) * MULTIPLIER;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.add(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, length: usize) {
        self.add(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
