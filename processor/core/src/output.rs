//! What the state machine publishes.

pub use crate::publish::key_parts;

/// The topics that touchline writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Topic {
    /// Alert changes, in order; key: alert id.
    Alerts,
    /// The latest score of each contact and account; key: `account|contact` or `account`.
    Scores,
    /// Events as processed, and lapse episodes; key: the fact's.
    Facts,
    /// Records that could not be processed.
    DeadLetters,
}

impl Topic {
    /// All topics, by number.
    pub const ALL: [Topic; 4] = [Topic::Alerts, Topic::Scores, Topic::Facts, Topic::DeadLetters];

    /// Its name in the configuration and behind the topic prefix.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Alerts => "alerts",
            Topic::Scores => "scores",
            Topic::Facts => "facts",
            Topic::DeadLetters => "dead_letters",
        }
    }

    /// The topic of this name.
    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether only the latest value of each key counts.
    pub fn is_compacted(self) -> bool {
        matches!(self, Topic::Scores | Topic::Facts)
    }
}

/// Takes what the state machine publishes.
pub trait Outputs {
    /// Whether anybody wants what is published there; what nobody wants need not be written.
    fn wants(&self, _topic: Topic) -> bool {
        true
    }

    /// Publishes `value` under `key`; `None` is a tombstone: what stood under the key is undone. Of the scores of one key the
    /// newest of a batch is enough.
    fn publish(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>);
}

/// One published record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub topic: Topic,
    /// Its key, UTF-8.
    pub key: Vec<u8>,
    /// JSON, or a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Outputs for Vec<Published> {
    fn publish(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>) {
        self.push(Published { topic, key: key.to_vec(), value: value.map(<[u8]>::to_vec) });
    }
}
