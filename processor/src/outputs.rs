//! What a batch publishes, in one allocation.

use touchline_core::output::{Outputs, Receipt, Topic};

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

/// The records that a batch publishes, in order. Those of topics that are not wanted are left out.
pub struct OutputBatch {
    wanted: Topics,
    /// Nothing is taken: it has been published before.
    is_muted: bool,
    /// Tells the receipts of this batch from older ones.
    number: u32,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    scores: u64,
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
        OutputBatch { wanted, is_muted: false, number: 1, bytes: Vec::new(), spans: Vec::new(), scores: 0 }
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
        self.number = self.number.wrapping_add(1).max(1);
        self.bytes.clear();
        self.spans.clear();
        self.scores = 0;
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
        self.scores
    }
}

impl Outputs for OutputBatch {
    fn wants(&self, topic: Topic) -> bool {
        !self.is_muted && self.wanted.contains(topic)
    }

    fn publish(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>) {
        if self.wants(topic) {
            self.scores += u64::from(topic == Topic::Scores);
            let span = self.append(topic, key, value);
            self.spans.push(span);
        }
    }

    fn publish_latest(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>, before: Receipt) -> Receipt {
        if !self.wants(topic) {
            return Receipt::default();
        }
        if before.batch == self.number
            && let Some(place) = usize::try_from(before.place).ok().filter(|place| *place < self.spans.len())
        {
            self.spans[place] = self.append(topic, key, value);
            return before;
        }
        let place = u32::try_from(self.spans.len());
        self.publish(topic, key, value);
        // Where there are more than can be counted, newer ones come behind.
        place.map_or_else(|_| Receipt::default(), |place| Receipt { batch: self.number, place })
    }
}
