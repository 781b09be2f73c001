//! Where a partition stands in its log.
//!
//! The same position is in the store, written with the state in one batch, and in the group's committed offset, written
//! in the transaction with the outputs. The store's may be behind: then the records between are applied again without
//! outputs. A record that takes many slices (a tick that fires a million timers) may be committed in between: slices are
//! a function of the state and the record, so counting them says exactly where.

use touchline_core::codec::{Corrupt, Reader, put_bytes, put_uint};

use crate::store::{SCHEMA, SCHEMAS};

/// The form of a stored position, by which it is told from those of other journals.
const STORED: u8 = b'k';
/// The form of what stands beside a committed offset.
const VERSION: u8 = 1;

/// A place in a log: all records before `offset`, and `slices` slices of the one at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Of the next record.
    pub offset: i64,
    /// What has been done of it.
    pub slices: u64,
}

impl Position {
    /// In front of the record at `offset`.
    pub fn at(offset: i64) -> Position {
        Position { offset, slices: 0 }
    }
}

/// Which log a state is of, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The topic.
    pub topic: String,
    /// How many partitions it has: another number would be another distribution of accounts.
    pub partitions: u32,
    /// Rises when a state is made again from nothing, so that guarded sinks accept what it publishes.
    pub generation: u64,
    /// Where in the log.
    pub position: Position,
}

impl Stand {
    /// As it is stored beside the state.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![STORED];
        for number in [u64::from(self.partitions), self.generation, self.position.offset as u64, self.position.slices] {
            put_uint(&mut out, number);
        }
        put_bytes(&mut out, self.topic.as_bytes());
        out
    }

    /// What [`Stand::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Stand, Corrupt> {
        let mut reader = Reader::new(bytes, "position in a topic");
        if reader.byte()? != STORED {
            return Err(reader.corrupt());
        }
        let partitions = u32::try_from(reader.uint()?).map_err(|_| reader.corrupt())?;
        let generation = reader.uint()?;
        let offset = i64::try_from(reader.uint()?).map_err(|_| reader.corrupt())?;
        let position = Position { offset, slices: reader.uint()? };
        Ok(Stand { topic: reader.text()?.to_owned(), partitions, generation, position })
    }

    /// What goes beside the committed offset, which Kafka limits to 4,096 characters.
    pub fn metadata(&self) -> String {
        format!("{VERSION}:{SCHEMA}:{}:{}", self.generation, self.position.slices)
    }
}

/// What stands beside a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How far outputs have been published.
    pub position: Position,
    /// Of the state that published them.
    pub generation: u64,
}

impl Committed {
    /// Reads an offset and its metadata. Without metadata, another tool has set the offset: it is taken at its word.
    pub fn read(offset: i64, metadata: &str) -> Result<Committed, ForeignOffset> {
        if metadata.is_empty() {
            return Ok(Committed { position: Position::at(offset), generation: 0 });
        }
        let is_read = |schema: u64| u32::try_from(schema).is_ok_and(|schema| SCHEMAS.contains(&schema));
        let foreign = || ForeignOffset { offset, metadata: metadata.chars().take(100).collect() };
        let numbers: Option<Vec<u64>> = metadata.split(':').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            // Slices of another schema are other slices; a finished record is finished in all of them.
            Some(&[version, schema, generation, slices])
                if version == u64::from(VERSION) && (is_read(schema) || slices == 0) =>
            {
                Ok(Committed { position: Position { offset, slices }, generation })
            }
            _ => Err(foreign()),
        }
    }
}

/// A committed offset that this version did not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "offset {offset} was committed in the middle of a record by another version of touchline ({metadata:?}): start that \
     version once more and let it drain, then this one"
)]
pub struct ForeignOffset {
    /// The offset.
    pub offset: i64,
    /// What stands beside it.
    pub metadata: String,
}
