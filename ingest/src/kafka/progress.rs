//! What stands in `touchline.progress`: JSON, one kind of entry a key, so that compaction keeps the newest of each.
//!
//! | key | entry |
//! |---|---|
//! | `claim/SOURCE/TOPIC/PARTITION` | [`Entry::Claim`] |
//! | `clock` | [`Entry::Clock`] |
//! | `rules` | [`Entry::Rules`]; its offset tells the revision |
//! | `mark/INSTANCE/ROLE` | [`Entry::Mark`] |
//!
//! A claim is true for ever: it speaks of what stood in a source partition at a moment that has passed, and of outputs
//! that are durable. So it does not matter who made it, or whether the partition is another process's by now. Of two
//! claims about one partition the later moment counts.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use touchline_core::record::Record;
use touchline_core::rules::Rules;

/// The partition of `touchline.progress`: there is one, so that one broker's clock dates everything.
pub(super) const PARTITION: i32 = 0;

/// One partition of a source's topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct SourcePartition {
    pub(super) source: String,
    pub(super) topic: String,
    pub(super) partition: i32,
}

/// A record of `touchline.progress`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// All that the partition held when the source was complete through this moment is in `touchline.events`.
    Claim { of: SourcePartition, through: Timestamp },
    /// No tick so far is later.
    Clock { through: Timestamp },
    /// The rules; in force once the ticker has put them into the log. Their revision is the record's offset and `base`,
    /// which is later in a topic that was deleted and made again: the log knows the revisions of the one before.
    Rules { rules: Box<Rules>, base: u64 },
    /// Nothing but its offset and the broker's time stamp.
    Mark { instance: String, role: String },
}

/// A record of `touchline.progress` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a record in the progress topic cannot be read: {what}; a newer version may have written it: update this one")]
pub(super) struct Unreadable {
    what: String,
}

/// What the entries but the rules look like.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Json {
    Claim {
        #[serde(flatten)]
        of: SourcePartition,
        through: Timestamp,
    },
    Clock {
        through: Timestamp,
    },
    Mark,
    Rules,
    /// Of a newer version, which can do without being understood unless it says so under a kind of now.
    #[serde(other)]
    Other,
}

impl Entry {
    /// What it replaces.
    pub(super) fn key(&self) -> String {
        match self {
            Entry::Claim { of, .. } => format!("claim/{}/{}/{}", of.source, of.topic, of.partition),
            Entry::Clock { .. } => "clock".to_owned(),
            Entry::Rules { .. } => "rules".to_owned(),
            Entry::Mark { instance, role } => format!("mark/{instance}/{role}"),
        }
    }

    /// The record's value.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let json = match self {
            Entry::Claim { of, through } => Json::Claim { of: of.clone(), through: *through },
            Entry::Clock { through } => Json::Clock { through: *through },
            Entry::Rules { rules, base } => return rules.to_record(Some(*base)),
            Entry::Mark { .. } => Json::Mark,
        };
        // Texts, numbers and moments are always JSON.
        serde_json::to_vec(&json).unwrap_or_default()
    }

    /// Reads a record's value. `None`: a mark, or a kind that this version does not know; neither says anything.
    ///
    /// # Errors
    /// It is no entry, or a newer version's form of one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Entry>, Unreadable> {
        let unreadable = |what: String| Unreadable { what };
        match serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))? {
            Json::Claim { of, through } => Ok(Some(Entry::Claim { of, through })),
            Json::Clock { through } => Ok(Some(Entry::Clock { through })),
            Json::Mark | Json::Other => Ok(None),
            Json::Rules => match Record::parse(bytes, &TimeZone::UTC) {
                Ok(Record::Rules { rules, revision }) => Ok(Some(Entry::Rules { rules, base: revision.unwrap_or(0) })),
                Ok(_) => Err(unreadable("it says that it has rules, and has none".to_owned())),
                Err(reject) => Err(unreadable(reject.to_string())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entry: Entry, key: &str, value: &str) {
        assert_eq!(entry.key(), key);
        assert_eq!(String::from_utf8(entry.to_bytes()).unwrap(), value);
        let read = Entry::parse(value.as_bytes()).unwrap();
        assert_eq!(read, Some(entry).filter(|entry| !matches!(entry, Entry::Mark { .. })));
    }

    #[test]
    fn entries_are_json_under_keys_of_their_own() {
        let through: Timestamp = "2026-03-05T10:11:12.345Z".parse().unwrap();
        let of = SourcePartition { source: "crm".to_owned(), topic: "crm.activities".to_owned(), partition: 3 };
        check(
            Entry::Claim { of, through },
            "claim/crm/crm.activities/3",
            r#"{"kind":"claim","source":"crm","topic":"crm.activities","partition":3,"through":"2026-03-05T10:11:12.345Z"}"#,
        );
        check(Entry::Clock { through }, "clock", r#"{"kind":"clock","through":"2026-03-05T10:11:12.345Z"}"#);
        check(
            Entry::Mark { instance: "a".to_owned(), role: "ticker".to_owned() },
            "mark/a/ticker",
            r#"{"kind":"mark"}"#,
        );
        let rules = Rules { required: vec!["crm".to_owned()], ..Rules::default() };
        let entry = Entry::Rules { rules: Box::new(rules.clone()), base: 7 };
        assert_eq!(Entry::parse(&entry.to_bytes()).unwrap(), Some(entry));
        let before = Entry::Rules { rules: Box::new(rules.clone()), base: 0 };
        assert_eq!(Entry::parse(&rules.to_record(None)).unwrap(), Some(before));
    }

    #[test]
    fn what_a_newer_version_wrote_is_not_guessed() {
        assert_eq!(Entry::parse(br#"{"kind":"lease","of":"a"}"#).unwrap(), None);
        for value in [r#"{"kind":"claim"}"#, r#"{"kind":"rules","lapse":{"months":3,"weeks":1}}"#, "", "[]"] {
            let error = Entry::parse(value.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("update this one"), "{value}: {error}");
        }
    }
}
