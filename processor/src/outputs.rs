//! What a batch publishes, in one allocation.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use touchline_core::output::{Outputs, Topic};

/// A set of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topics(u8);

impl Topics {
    /// All of them.
    pub const ALL: Topics = Topics((1 << Topic::ALL.len()) - 1);

    /// None of them.
    pub const NONE: Topics = Topics(0);

    /// Those of this set that are not in the other.
    #[must_use]
    pub fn without(self, other: Topics) -> Topics {
        Topics(self.0 & !other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Topics) -> Topics {
        Topics(self.0 & other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub fn or(self, other: Topics) -> Topics {
        Topics(self.0 | other.0)
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> Topics {
        Topics(bits & Topics::ALL.0)
    }

    /// Whether the topic is one of them.
    pub fn contains(self, topic: Topic) -> bool {
        self.0 & (1 << topic as u8) != 0
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Topics {
        Topics(topics.into_iter().fold(0, |set, topic| set | 1 << topic as u8))
    }
}

/// One published record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// Where.
    pub topic: Topic,
    /// Its key, UTF-8.
    pub key: &'a [u8],
    /// JSON, or a tombstone.
    pub value: Option<&'a [u8]>,
}

/// The records that a batch publishes, in order. Those of topics that are not wanted are left out. A score takes the place
/// of an older one of its key.
pub struct OutputBatch {
    wanted: Topics,
    /// Nothing is taken: it has been published before.
    is_muted: bool,
    /// Places of scores, by the hashes of their keys.
    latest: HashTable<(u64, usize)>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Where a record's key and value lie, one behind the other.
struct Span {
    topic: Topic,
    start: usize,
    key_end: usize,
    /// `None`: a tombstone.
    value_end: Option<usize>,
}

impl OutputBatch {
    /// An empty batch that takes records of these topics, and dead letters always: nothing is dropped silently.
    pub fn new(wanted: Topics) -> OutputBatch {
        let wanted = Topics(wanted.0 | 1 << Topic::DeadLetters as u8);
        OutputBatch {
            wanted,
            is_muted: false,
            latest: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            bytes: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// From here on takes nothing, or what is wanted again.
    pub fn mute(&mut self, is_muted: bool) {
        self.is_muted = is_muted;
    }

    /// The records, in the order they were published.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        self.spans.iter().map(|span| Output {
            topic: span.topic,
            key: self.bytes.get(span.start..span.key_end).unwrap_or_default(),
            value: span.value_end.map(|end| self.bytes.get(span.key_end..end).unwrap_or_default()),
        })
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What it takes: the bytes of all keys and values, also of those that newer ones have taken the place of.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.latest.clear();
        self.bytes.clear();
        self.spans.clear();
    }

    fn append(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let value_end = value.map(|_| self.bytes.len());
        Span { topic, start, key_end, value_end }
    }

    /// How many of the records are scores.
    pub(crate) fn scores(&self) -> u64 {
        self.latest.len() as u64
    }
}

impl Outputs for OutputBatch {
    fn wants(&self, topic: Topic) -> bool {
        !self.is_muted && self.wanted.contains(topic)
    }

    fn publish(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>) {
        if !self.wants(topic) {
            return;
        }
        let span = self.append(topic, key, value);
        if topic != Topic::Scores {
            self.spans.push(span);
            return;
        }
        let OutputBatch { latest, hasher, bytes, spans, .. } = self;
        let hash = hasher.hash_one(key);
        let is_of_key = |place: usize| {
            let span = spans.get(place);
            span.and_then(|span| bytes.get(span.start..span.key_end)) == Some(key)
        };
        match latest.entry(hash, |found| found.0 == hash && is_of_key(found.1), |other| other.0) {
            Entry::Occupied(found) => spans[found.get().1] = span,
            Entry::Vacant(place) => {
                place.insert((hash, spans.len()));
                spans.push(span);
            }
        }
    }
}
