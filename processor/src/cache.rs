//! Records in memory, by key, packed as in the database.
//!
//! A record is *taken* out, which decodes it, and *put* back changed, or *kept* as it was; between the two, and if neither
//! happens, it is gone. What was put or is gone since the last write is *dirty*: it stays until [`Cache::settle`] (it is
//! written) or [`Cache::discard_dirty`] (it never will be). Clean records are evicted, the least recently used first, as far
//! as a clock's hand can tell, so that all stay within the bound. Only what is dirty can exceed it; [`Cache::pinned_bytes`]
//! tells how much that is.
//!
//! A record is packed as soon as it is put back. Decoded it takes three times as much, in a dozen pieces of memory, and by
//! the time that it is wanted again, or written, each of them is a cache miss; now all of them are at hand, and the
//! allocator gives them to the next record.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::ops::Bound::{Excluded, Included};

use hashbrown::{DefaultHashBuilder, HashTable};
use touchline_core::codec::Corrupt;

use crate::key::Key;

/// A record that is packed in the database and decoded to be changed.
pub(crate) trait Packed: Sized {
    fn decode(bytes: &[u8]) -> Result<Self, Corrupt>;
    fn encode(&self, out: &mut Vec<u8>);
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

/// What an entry costs beside its record, at least: its slot and its place in the index, neither of which is ever quite full.
const ENTRY_BYTES: usize = 128;
/// What a processor fetches at once.
const CACHE_LINE: usize = 64;
/// Records that are fetched before the first of them is used: enough to wait for together, and all still there.
const AT_ONCE: usize = 32;
/// What a record is given is a multiple of this, and of an eighth of the next power of two: it mostly grows by less, and
/// stays where it is. An allocator has pieces of just these sizes, so that what is counted is what is taken.
const GROWN_BY: usize = 64;

/// See the module.
pub(crate) struct Cache<T> {
    records: PhantomData<T>,
    /// The slots, by the hash of their keys: with a secret, so that no input alone makes them collide. Nothing depends on the
    /// order that follows from it.
    index: HashTable<usize>,
    hasher: DefaultHashBuilder,
    slots: Vec<Option<Slot>>,
    /// Slots that hold nothing.
    free: Vec<usize>,
    /// The slots whose records have been taken: one or two.
    taken: Vec<usize>,
    /// The slots of dirty records, each once; by key, which is the order they are written in, once they have been sorted.
    dirty: Vec<(Key, usize)>,
    is_sorted: bool,
    /// Those that have become dirty since: whoever asks for a range now and then does not wait for all to be sorted again.
    late: BTreeMap<Key, usize>,
    /// Nothing has been left to the database alone: of what is not here it need not be asked.
    is_whole: bool,
    bytes: usize,
    pinned_bytes: usize,
    bound: usize,
    /// The clock's hand.
    hand: usize,
    /// Records are encoded here.
    scratch: Vec<u8>,
}

struct Slot {
    key: Key,
    /// `None`: gone, or new and not put yet.
    packed: Option<Vec<u8>>,
    dirty: bool,
    /// Dirty or taken: not to be evicted.
    pinned: bool,
    /// Wanted again since the hand passed.
    used: bool,
}

impl Slot {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.key.bytes().len() + self.packed.as_ref().map_or(0, Vec::capacity)
    }
}

impl<T: Packed> Cache<T> {
    /// A cache of at most `bound` bytes of clean records. `is_whole`: the database has none.
    pub(crate) fn new(bound: usize, is_whole: bool) -> Cache<T> {
        Cache {
            records: PhantomData,
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: Vec::new(),
            taken: Vec::new(),
            dirty: Vec::new(),
            is_sorted: false,
            late: BTreeMap::new(),
            is_whole,
            bytes: 0,
            pinned_bytes: 0,
            bound,
            hand: 0,
            scratch: Vec::new(),
        }
    }

    /// Another bound, which evictions work towards.
    pub(crate) fn limit(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Takes a record out.
    pub(crate) fn take(&mut self, key: &[u8]) -> Result<Known<T>, Corrupt> {
        let Some(at) = self.find(key) else { return Ok(if self.is_whole { Known::Gone } else { Known::Unknown }) };
        if self.taken.contains(&at) {
            return Ok(Known::Gone);
        }
        let Some(Some(slot)) = self.slots.get_mut(at) else { return Ok(Known::Unknown) };
        let Some(packed) = &slot.packed else { return Ok(Known::Gone) };
        let record = Box::new(T::decode(packed)?);
        slot.used = true;
        if !std::mem::replace(&mut slot.pinned, true) {
            self.pinned_bytes += slot.bytes();
        }
        self.taken.push(at);
        Ok(Known::Here(record))
    }

    /// Fetches records from memory that will be taken soon: many at once take little longer than one.
    pub(crate) fn prefetch(&self, keys: impl Iterator<Item: AsRef<[u8]>>) {
        // To compare the key would be to wait for the slot; another's is found seldom, and does no harm.
        let places: Vec<usize> =
            keys.filter_map(|key| self.index.find(self.hasher.hash_one(key.as_ref()), |_| true).copied()).collect();
        let records: Vec<&[u8]> =
            places.iter().filter_map(|at| self.slots.get(*at)?.as_ref()?.packed.as_deref()).collect();
        fetch(records.into_iter());
    }

    /// Takes the record of this [`Known::Unknown`] key as it is in the database.
    pub(crate) fn load(&mut self, key: &[u8], packed: &[u8]) -> Result<Box<T>, Corrupt> {
        let record = Box::new(T::decode(packed)?);
        let at = self.insert(key);
        self.fill(at, packed);
        self.taken.push(at);
        self.evict();
        Ok(record)
    }

    /// Puts a record in, changed or new.
    pub(crate) fn put(&mut self, key: &[u8], record: &T) {
        let at = self.returned(key).or_else(|| self.find(key)).unwrap_or_else(|| self.insert(key));
        self.mark(at);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        record.encode(&mut scratch);
        self.fill(at, &scratch);
        self.scratch = scratch;
        self.evict();
    }

    /// Puts a record back as it was taken.
    pub(crate) fn keep(&mut self, key: &[u8], record: &T) {
        // What has been listed meanwhile counts as gone.
        let Some(at) = self.returned(key) else { return self.put(key, record) };
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        if !slot.dirty {
            slot.pinned = false;
            self.pinned_bytes -= slot.bytes();
        }
        self.evict();
    }

    /// Tells the dirty records, by key; `None` is one that is gone.
    pub(crate) fn each_dirty(&mut self, mut tell: impl FnMut(&[u8], Option<&[u8]>)) {
        self.mark_taken();
        self.gather();
        self.sort();
        for some in self.dirty.chunks(AT_ONCE) {
            let found: Vec<_> = some.iter().map(|(_, at)| self.slots.get(*at)?.as_ref()?.packed.as_deref()).collect();
            fetch(found.iter().flatten().copied());
            some.iter().zip(found).for_each(|((key, _), packed)| tell(key.bytes(), packed));
        }
    }

    fn sort(&mut self) {
        if !std::mem::replace(&mut self.is_sorted, true) {
            // Stable, because it is quick where much is in order already.
            self.dirty.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
    }

    /// All that is dirty, in one place.
    fn gather(&mut self) {
        if !self.late.is_empty() {
            self.dirty.extend(std::mem::take(&mut self.late));
            self.is_sorted = false;
        }
    }

    /// The dirty records from `from` (inclusive) to `to` (exclusive) by key, and whether each is there; `from` must not be
    /// greater than `to`.
    pub(crate) fn dirty_range<'a>(&'a mut self, from: &[u8], to: &'a [u8]) -> impl Iterator<Item = (&'a [u8], bool)> {
        self.mark_taken();
        self.sort();
        let start = self.dirty.partition_point(|(key, _)| key.bytes() < from);
        let sorted = self.dirty.iter().skip(start).take_while(move |(key, _)| key.bytes() < to);
        let late = self.late.range::<[u8], _>((Included(from), Excluded(to)));
        let (mut sorted, mut late) = (sorted.map(|(key, at)| (key, at)).peekable(), late.peekable());
        let range = std::iter::from_fn(move || {
            let is_late = late.peek().is_some_and(|(key, _)| sorted.peek().is_none_or(|(other, _)| key < other));
            if is_late { late.next() } else { sorted.next() }
        });
        let is_here = |at: usize| {
            let slot = self.slots.get(at).and_then(Option::as_ref);
            slot.is_some_and(|slot| slot.packed.is_some())
        };
        range.map(move |(key, at)| (key.bytes(), is_here(*at)))
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

    /// The dirty records have been written.
    pub(crate) fn settle(&mut self) {
        self.gather();
        let mut dirty = std::mem::take(&mut self.dirty);
        for (_, at) in dirty.drain(..) {
            match self.slots.get_mut(at) {
                Some(Some(slot)) if slot.packed.is_some() => (slot.dirty, slot.pinned) = (false, false),
                _ => self.remove(at),
            }
        }
        // Its memory is for the next batch.
        (self.dirty, self.is_sorted) = (dirty, false);
        self.taken.clear();
        self.pinned_bytes = 0;
        self.evict();
        self.shrink();
    }

    /// Gives back slots that hold nothing, once they are most: when records have grown, fewer fit. Nothing is dirty or taken.
    fn shrink(&mut self) {
        if self.free.len() <= self.slots.len() / 2 {
            return;
        }
        (self.free, self.hand) = (Vec::new(), 0);
        self.slots.retain(Option::is_some);
        self.slots.shrink_to_fit();
        self.index = HashTable::with_capacity(self.slots.len());
        for at in 0..self.slots.len() {
            self.enter(at);
        }
    }

    /// The dirty records have not been written and never will be: the database knows better.
    pub(crate) fn discard_dirty(&mut self) {
        self.mark_taken();
        self.gather();
        for (_, at) in std::mem::take(&mut self.dirty) {
            self.remove(at);
        }
        (self.is_sorted, self.is_whole) = (false, false);
        self.taken.clear();
        self.pinned_bytes = 0;
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let slots = &self.slots;
        self.index.find(self.hasher.hash_one(key), |at| is_of(slots, *at, key)).copied()
    }

    /// The slot that the record of this key was taken from, which now gets it back.
    fn returned(&mut self, key: &[u8]) -> Option<usize> {
        let slots = &self.slots;
        self.taken.iter().rposition(|at| is_of(slots, *at, key)).map(|place| self.taken.swap_remove(place))
    }

    /// What is taken counts as gone.
    fn mark_taken(&mut self) {
        for at in std::mem::take(&mut self.taken) {
            if let Some(Some(slot)) = self.slots.get_mut(at) {
                self.bytes -= slot.bytes();
                self.pinned_bytes -= slot.bytes();
                slot.packed = None;
                self.bytes += slot.bytes();
                self.pinned_bytes += slot.bytes();
            }
            self.mark(at);
        }
    }

    /// The slot is dirty from now on.
    fn mark(&mut self, at: usize) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        if !std::mem::replace(&mut slot.pinned, true) {
            self.pinned_bytes += slot.bytes();
        }
        if !std::mem::replace(&mut slot.dirty, true) {
            let key = slot.key.clone();
            if self.is_sorted {
                self.late.insert(key, at);
            } else {
                self.dirty.push((key, at));
            }
        }
    }

    /// Gives the slot, which is pinned, its record.
    fn fill(&mut self, at: usize, packed: &[u8]) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        let before = slot.bytes();
        let room = slot.packed.get_or_insert_default();
        room.clear();
        if room.capacity() < packed.len() {
            let step = (packed.len().next_power_of_two() / 8).max(GROWN_BY);
            *room = Vec::with_capacity(packed.len().next_multiple_of(step));
        }
        room.extend_from_slice(packed);
        let after = slot.bytes();
        self.bytes = self.bytes - before + after;
        self.pinned_bytes = self.pinned_bytes - before + after;
    }

    /// Makes a slot without a record, pinned and not dirty.
    fn insert(&mut self, key: &[u8]) -> usize {
        let slot = Slot { key: Key::from(key), packed: None, dirty: false, pinned: true, used: false };
        self.bytes += slot.bytes();
        self.pinned_bytes += slot.bytes();
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(empty) => *empty = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        self.enter(at);
        at
    }

    /// Places for records, also those that hold none.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.slots.capacity()
    }

    /// Enters a slot into the index.
    fn enter(&mut self, at: usize) {
        let Cache { index, hasher, slots, .. } = self;
        let hash_of = |at: &usize| {
            let slot = slots.get(*at).and_then(Option::as_ref);
            slot.map_or(0, |slot| hasher.hash_one(slot.key.bytes()))
        };
        index.insert_unique(hash_of(&at), at, hash_of);
    }

    fn remove(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::take) {
            if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(slot.key.bytes()), |other| *other == at) {
                entry.remove();
            }
            self.bytes -= slot.bytes();
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
                _ => {
                    self.remove(at);
                    self.is_whole = false;
                }
            }
        }
    }
}

/// Fetches records from memory: those of one go are waited for together.
fn fetch<'a>(records: impl Iterator<Item = &'a [u8]>) {
    let lines = records.flat_map(|record| record.iter().step_by(CACHE_LINE));
    std::hint::black_box(lines.fold(0, |sum, byte| sum ^ byte));
}

fn is_of(slots: &[Option<Slot>], at: usize, key: &[u8]) -> bool {
    slots.get(at).and_then(Option::as_ref).is_some_and(|slot| slot.key.bytes() == key)
}
